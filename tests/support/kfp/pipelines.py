"""Pipelines, their versions, and experiments."""

import uuid
from email.parser import BytesParser
from typing import Any

import kfp_server_api as kfp
import yaml

from support.kfp.bodies import as_stored, checked, find, paged, read_json
from support.kfp.state import LOADER, NAME, Double, Refused


def create_pipeline(double: Double, *, body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1Pipeline, read_json(body))
    name, namespace = content.get("name", ""), content.get("namespace", "")
    if not NAME.fullmatch(name):
        raise Refused(400, f"Pipeline's name {name} is not valid")
    if any(
        p["name"] == name and p.get("namespace", "") == namespace for p in double.pipelines.values()
    ):
        raise Refused(409, f"Already exist error: pipeline {name}")
    identity = str(uuid.uuid4())
    double.pipelines[identity] = {
        **content,
        "pipeline_id": identity,
        "created_at": double.now(),
    }
    return double.pipelines[identity]


def pipeline_by_name(double: Double, name: str, *, query: dict[str, str], **_: Any) -> Any:
    for pipeline in double.pipelines.values():
        if pipeline["name"] == name and pipeline.get("namespace", "") == query.get("namespace", ""):
            return pipeline
    raise Refused(404, f"Pipeline {name} not found")


def list_pipelines(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    namespace = query.get("namespace", "")
    found = [p for p in double.pipelines.values() if p.get("namespace", "") == namespace]
    return paged(double, "pipelines", found, query)


def upload_version(
    double: Double, *, query: dict[str, str], body: bytes, headers: Any, **_: Any
) -> Any:
    pipeline = find(double.pipelines, query.get("pipelineid", ""), "pipeline")
    message = BytesParser().parsebytes(
        b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
    )
    files = [
        part.get_payload(decode=True)
        for part in message.get_payload()
        if part.get_param("name", header="content-disposition") == "uploadfile"
    ]
    if len(files) != 1:
        raise Refused(400, "Failed to read pipeline from file")
    if len(files[0]) > 32 << 20:
        raise Refused(400, "File size too large")
    if any(ord(c) > 0xFFFF for c in files[0].decode()):
        raise Refused(500, "Failed to create a pipeline version")
    documents = [d for d in yaml.load_all(files[0], Loader=LOADER) if d]
    specs = [d for d in documents if "pipelineInfo" in d]
    if len(specs) != 1:
        raise Refused(400, "no pipeline spec is provided")
    if specs[0].get("schemaVersion") != "2.1.0":
        raise Refused(400, "KFP only supports schema version 2.1.0")
    name = query.get("name", "")
    if len(name) > 127:
        raise Refused(400, "PipelineVersion.Name length cannot exceed 127")
    taken = [v for v in double.versions.values() if v["pipeline_id"] == pipeline["pipeline_id"]]
    if any(v["name"] == name for v in taken):
        raise Refused(409, "Failed to create a pipeline version")
    platforms = [d for d in documents if "platforms" in d]
    spec = {"pipeline_spec": specs[0], "platform_spec": platforms[0]} if platforms else specs[0]
    identity = str(uuid.uuid4())
    double.versions[identity] = {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": identity,
        "name": name,
        "display_name": query.get("display_name", name),
        "description": query.get("description", ""),
        "created_at": double.now(),
        "pipeline_spec": spec,
    }
    return double.versions[identity]


def list_versions(double: Double, pipeline: str, *, query: dict[str, str], **_: Any) -> Any:
    found = [v for v in double.versions.values() if v["pipeline_id"] == pipeline]
    return paged(double, "pipeline_versions", found, query)


def get_version(double: Double, pipeline: str, version: str, **_: Any) -> Any:
    return as_stored(find(double.versions, version, "version"))


def create_experiment(double: Double, *, body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1Experiment, read_json(body))
    name = content.get("display_name", "")
    if not name:
        raise Refused(400, "Experiment must have a name")
    if any(
        e["display_name"] == name and e.get("namespace") == content.get("namespace")
        for e in double.experiments.values()
    ):
        raise Refused(409, f"Experiment {name} already exists")
    identity = str(uuid.uuid4())
    double.experiments[identity] = {
        **content,
        "experiment_id": identity,
        "created_at": double.now(),
        "storage_state": "AVAILABLE",
    }
    return double.experiments[identity]


def list_experiments(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    found = [
        e
        for e in double.experiments.values()
        if (e.get("namespace") or "") == query.get("namespace", "")
    ]
    return paged(double, "experiments", found, query)
