"""Registers a model that passed the gate, with its evidence, as challenger."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.bundle import ONNX, Bundle, bundle_hash, model_inputs, read_bundle
from slipway.components.contracts.release import Release
from slipway.components.contracts.scoring import open_model, predict, read_part_batches
from slipway.components.contracts.splits import Splits, read_splits
from slipway.components.contracts.verdict import Verdict, check_verdict, read_verdict
from slipway.components.register.evidence import RegistrationInputs, write_evidence
from slipway.components.register.reference import write_reference
from slipway.components.support import environment
from slipway.components.support.files import hash_directory
from slipway.components.support.retry import retry
from slipway.components.support.stage import progress, stage
from slipway.components.support.tracking import asking, connect, open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER = "challenger"
REQUESTED = "slipway.requested_at"
MODEL_HASH = "slipway.model_hash"
_EXAMPLE_ROWS = 5


@stage("register")
def register_model(inputs: RegistrationInputs, *, project: str, release_path: Path) -> Release:
    """Registers the bundle as a version of the model `project`; the same bundle gives the same version.

    Its evidence is then that of the first time; an override of a later time is added to its tags.
    Everything is uploaded before the version is made, so a version that can be seen is whole, and a
    task that was cut off can be run again.

    Args:
        inputs: what is registered.
        project: the registered model's name.
        release_path: the file to write the release to.

    Raises:
        SlipwayError: the verdict is not a pass for this bundle and these splits, or MLflow refuses.
    """
    verdict = read_verdict(inputs.verdict_path)
    bundle, splits = read_bundle(inputs.bundle_path), read_splits(inputs.splits_path)
    check_verdict(verdict, bundle_hash(inputs.bundle_path), splits.data_hash)
    with asking(f"register a version of {project}"):
        client = connect()
        found = _find_version(client, project, verdict.model_hash)
        if found is None:
            run_id = _find_run(client, project, bundle)
            uploads = _upload(client, run_id, inputs, verdict, bundle, splits)
            found = _create_version(client, project, run_id, verdict, bundle, uploads)
        else:
            progress(f"this bundle is registered already, as version {found.model_version}")
            for name, value in _override_tags(verdict).items():
                client.set_model_version_tag(project, found.model_version, name, value)
        release = _take_alias(client, found)
    release.write(release_path)
    return release


def _find_version(client: "MlflowClient", project: str, model_hash: str) -> Release | None:
    """The version of exactly this bundle; the first one, should there be several."""
    versions = client.search_model_versions(f"name = '{project}'")
    same = [version for version in versions if version.tags.get(MODEL_HASH) == model_hash]
    return _read_release(min(same, key=lambda version: int(version.version))) if same else None


def _read_release(version: "ModelVersion") -> Release:
    return Release(
        name=version.name,
        model_version=str(version.version),
        alias=CHALLENGER,
        run_id=version.run_id or "",
        bundle_uri=version.tags["slipway.bundle_uri"],
        model_hash=version.tags[MODEL_HASH],
        reference_uri=version.tags["slipway.reference_uri"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uploads:
    """What lies in the MLflow run for a version: URIs by part, the logged model, the evidence's hash."""

    uris: dict[str, str]
    model_id: str
    evidence_hash: str


def _upload(
    client: "MlflowClient",
    run_id: str,
    inputs: RegistrationInputs,
    verdict: Verdict,
    bundle: Bundle,
    splits: Splits,
) -> _Uploads:
    """Uploads the bundle, its reference, the MLflow model and the evidence to the run."""
    import mlflow

    # Every folder is named by its content: a task that is run again, or at the same time, writes the
    # same files to the same place, and never over those of another version.
    place = f"release-{verdict.model_hash[:12]}"
    uris = {"bundle": f"runs:/{run_id}/{place}/bundle"}
    progress("uploading the bundle and its reference")
    client.log_artifacts(run_id, str(inputs.bundle_path), f"{place}/bundle")
    with tempfile.TemporaryDirectory(prefix="slipway-register-") as scratch:
        reference, evidence = Path(scratch) / "reference", Path(scratch) / "evidence"
        reference.mkdir()
        evidence.mkdir()
        write_reference(
            reference,
            splits_path=inputs.splits_path,
            splits=splits,
            bundle_path=inputs.bundle_path,
            bundle=bundle,
            verdict=verdict,
        )
        name = f"{place}/reference-{hash_directory(reference)[:12]}"
        uris["reference"] = f"runs:/{run_id}/{name}"
        client.log_artifacts(run_id, str(reference), name)
        progress("logging the MLflow model")
        model_id, uris["model"] = _log_model(run_id, bundle, inputs)
        logged = mlflow.artifacts.download_artifacts(
            artifact_uri=uris["model"], dst_path=str(Path(scratch) / "model")
        )
        digest = write_evidence(
            evidence, inputs, reference_path=reference, model_path=Path(logged), run_id=run_id
        )
        name = f"{place}/evidence-{digest[:12]}"
        uris["evidence"] = f"runs:/{run_id}/{name}"
        client.log_artifacts(run_id, str(evidence), name)
    return _Uploads(uris=uris, model_id=model_id, evidence_hash=digest)


def _create_version(
    client: "MlflowClient",
    project: str,
    run_id: str,
    verdict: Verdict,
    bundle: Bundle,
    uploads: _Uploads,
) -> Release:
    """Makes the version of what was uploaded, with its metrics and tags."""
    metrics = {name: value for name, value in verdict.metrics.items() if value is not None}
    for name, value in metrics.items():
        client.log_metric(run_id, f"test_{name}", value)
    tags = {
        MODEL_HASH: verdict.model_hash,
        "slipway.data_hash": verdict.data_hash,
        "slipway.threshold": repr(bundle.threshold),
        "slipway.evidence_hash": uploads.evidence_hash,
        **{f"slipway.{part}_uri": uri for part, uri in uploads.uris.items()},
        **{f"slipway.{name}": repr(value) for name, value in metrics.items()},
        **_override_tags(verdict),
    }
    _ensure_model(client, project)
    version = client.create_model_version(
        project,
        source=uploads.uris["model"],
        run_id=run_id,
        tags=tags,
        model_id=uploads.model_id,
    )
    # Two tasks may have registered one bundle at the same time: the first version stays.
    first = _find_version(client, project, verdict.model_hash)
    if first is not None and first.model_version != str(version.version):
        client.delete_model_version(project, str(version.version))
        return first
    return _read_release(version)


def _override_tags(verdict: Verdict) -> dict[str, str]:
    if verdict.override is None:
        return {}
    return {
        "slipway.override_approver": verdict.override.approver,
        "slipway.override_reason": verdict.override.reason,
    }


def _find_run(client: "MlflowClient", project: str, bundle: Bundle) -> str:
    """The training run, where the server knows it; else this task's own, which may be open already."""
    from mlflow.exceptions import MlflowException

    known = bundle.notes.get("mlflow_run_id")
    if known:
        try:
            run = client.get_run(known)
            # A run that somebody deleted is still told of, and takes nothing more.
            if run.info.lifecycle_stage == "active":
                return str(run.info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    if opened := environment.plugin_run():
        return str(client.get_run(opened).info.run_id)
    run = client.create_run(open_experiment(client, project), run_name="register")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _ensure_model(client: "MlflowClient", project: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(project)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_model(run_id: str, bundle: Bundle, inputs: RegistrationInputs) -> tuple[str, str]:
    """Logs the ONNX model with signature and input example; returns its own id and URI."""
    from importlib.metadata import version

    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    rows = next(iter(read_part_batches(inputs.splits_path, "test", rows=_EXAMPLE_ROWS)))
    example = model_inputs(bundle, rows)
    predict(
        open_model(inputs.bundle_path), bundle, rows
    )  # fails here and not when the model is read
    signature = ModelSignature(
        inputs=Schema(
            [TensorSpec(array.dtype, (-1, array.shape[1]), name) for name, array in example.items()]
        ),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1,), "probability")]),
    )
    with mlflow.start_run(run_id=run_id):
        info = mlflow.onnx.log_model(
            onnx.load(inputs.bundle_path / ONNX),
            name="model",
            signature=signature,
            input_example=example,
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=[
                f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime")
            ],
            save_as_external_data=False,
        )
    return info.model_id, info.model_uri


def _take_alias(client: "MlflowClient", release: Release) -> Release:
    """Gives the alias to the version that was asked for last.

    The registry has no compare-and-set. Every task writes down when it asked, then points the alias to
    the version with the latest such time. Tasks that finish at once thus agree on one version, in
    whatever order their calls arrive.
    """
    asked = f"{time.time_ns():020d}"
    client.set_model_version_tag(release.name, release.model_version, REQUESTED, asked)
    latest = _latest(client, release.name)
    while True:
        _point_alias(client, release.name, latest)
        # Reading again after setting the alias makes it right: the task that sets it last has seen
        # every task that wrote down its time before.
        seen, latest = latest, _latest(client, release.name)
        if latest == seen:
            break
    if latest != release.model_version:
        progress(f"version {latest} was registered later and has the alias {CHALLENGER}")
        return replace(release, alias="")
    return release


def _point_alias(client: "MlflowClient", name: str, version: str) -> None:
    """Points the alias to a version, also where another task makes it at the same moment."""
    from mlflow.exceptions import MlflowException

    # MLflow looks whether the alias exists and then inserts it: of two tasks that both found none,
    # one is refused by the table's key. Then it exists, and the same call moves it.
    retry(
        lambda: client.set_registered_model_alias(name, CHALLENGER, version),
        attempts=2,
        first_wait=0,
        when=lambda error: isinstance(error, MlflowException),
    )


def _latest(client: "MlflowClient", name: str) -> str:
    """The version that was asked for last."""
    versions = client.search_model_versions(f"name = '{name}'")
    last = max(
        versions, key=lambda version: (version.tags.get(REQUESTED, ""), int(version.version))
    )
    return str(last.version)
