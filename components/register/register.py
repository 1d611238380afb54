"""Registers a model that passed the gate, with its evidence, as challenger."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts.bundle import ONNX, Bundle, bundle_hash, model_inputs, read_bundle
from components.contracts.release import Release, write_record
from components.contracts.scoring import open_model, predict, read_part_batches
from components.contracts.splits import Splits, read_splits
from components.contracts.stage import progress, stage
from components.contracts.tracking import connect, open_experiment
from components.contracts.verdict import Verdict, check_verdict, read_verdict
from components.register.evidence import write_evidence
from components.register.reference import write_reference

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
REQUESTED = "slipway.requested_at"
MODEL_HASH = "slipway.model_hash"
_EXAMPLE_ROWS = 5


@stage("register")
def register_model(
    bundle: Path,
    verdict: Path,
    splits: Path,
    card: Path,
    project: str,
    release: Path,
    pipeline_run: str = "",
) -> Release:
    """Registers the bundle as a version of the model `project`; the same bundle gives the same version.

    Everything is uploaded before the version is made, so a version that can be seen is whole, and a
    task that was cut off can be run again.

    Args:
        bundle: the model's folder.
        verdict: the gate's decision about exactly this bundle.
        splits: the tables that it was trained and tested on.
        card: the model card.
        project: the registered model's name.
        release: the file to write the release to.
        pipeline_run: id of the KFP run, for the evidence.

    Raises:
        SlipwayError: the verdict is not a pass for this bundle and these splits, or MLflow refuses.
    """
    decision, model, table = read_verdict(verdict), read_bundle(bundle), read_splits(splits)
    check_verdict(decision, bundle_hash(bundle), table.data_hash)
    client = connect()
    found = _find_version(client, project, decision.model_hash)
    if found is None:
        given = _Given(
            bundle=bundle, splits=splits, verdict=verdict, card=card, pipeline_run=pipeline_run
        )
        found = _make_version(client, project, decision, model, table, given)
    else:
        progress(f"this bundle is registered already, as version {found.model_version}")
    result = _take_alias(client, found)
    write_record(release, result)
    return result


def _find_version(client: "MlflowClient", project: str, model_hash: str) -> Release | None:
    """The version of exactly this bundle; the first one, should there be several."""
    versions = client.search_model_versions(f"name = '{project}'")
    same = [version for version in versions if version.tags.get(MODEL_HASH) == model_hash]
    return _release(min(same, key=lambda version: int(version.version))) if same else None


def _release(version: Any) -> Release:
    return Release(
        name=version.name,
        model_version=str(version.version),
        alias=CHALLENGER,
        run_id=version.run_id,
        bundle_uri=version.tags["slipway.bundle_uri"],
        model_hash=version.tags[MODEL_HASH],
        reference_uri=version.tags["slipway.reference_uri"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """Where the inputs lie."""

    bundle: Path
    splits: Path
    verdict: Path
    card: Path
    pipeline_run: str


def _make_version(
    client: "MlflowClient",
    project: str,
    verdict: Verdict,
    model: Bundle,
    table: Splits,
    given: _Given,
) -> Release:
    """Uploads everything to the training run, then makes the version."""
    run_id = _run(client, project, model)
    place = f"release-{verdict.model_hash[:12]}"
    progress("uploading the bundle and its reference")
    client.log_artifacts(run_id, str(given.bundle), f"{place}/bundle")
    with tempfile.TemporaryDirectory(prefix="slipway-register-") as scratch:
        reference, evidence = Path(scratch) / "reference", Path(scratch) / "evidence"
        reference.mkdir()
        evidence.mkdir()
        write_reference(
            reference,
            splits_folder=given.splits,
            splits=table,
            bundle_folder=given.bundle,
            bundle=model,
            verdict=verdict,
        )
        client.log_artifacts(run_id, str(reference), f"{place}/reference")
        digest = write_evidence(
            evidence,
            bundle=given.bundle,
            reference=reference,
            splits=given.splits,
            verdict=given.verdict,
            card=given.card,
            run_id=run_id,
            pipeline_run=given.pipeline_run,
        )
        client.log_artifacts(run_id, str(evidence), f"{place}/evidence")
    progress("logging the MLflow model")
    model_id, model_uri = _log_model(run_id, model, given.bundle, given.splits)
    metrics = {name: value for name, value in verdict.metrics.items() if value is not None}
    for name, value in metrics.items():
        client.log_metric(run_id, f"test_{name}", value)
    tags = {
        MODEL_HASH: verdict.model_hash,
        "slipway.data_hash": verdict.data_hash,
        "slipway.threshold": repr(model.threshold),
        "slipway.bundle_uri": f"runs:/{run_id}/{place}/bundle",
        "slipway.reference_uri": f"runs:/{run_id}/{place}/reference",
        "slipway.evidence_uri": f"runs:/{run_id}/{place}/evidence",
        "slipway.evidence_hash": digest,
        **{f"slipway.{name}": repr(value) for name, value in metrics.items()},
    }
    if verdict.override:
        tags["slipway.override_approver"] = verdict.override.approver
        tags["slipway.override_reason"] = verdict.override.reason
    _ensure_model(client, project)
    version = client.create_model_version(
        project, source=model_uri, run_id=run_id, tags=tags, model_id=model_id
    )
    # Two tasks may have registered one bundle at the same time: the first version stays.
    first = _find_version(client, project, verdict.model_hash)
    if first is not None and first.model_version != str(version.version):
        client.delete_model_version(project, str(version.version))
        return first
    return _release(version)


def _run(client: "MlflowClient", project: str, model: Bundle) -> str:
    """The training run, where the server knows it; else a new one."""
    from mlflow.exceptions import MlflowException

    known = model.notes.get("mlflow_run_id")
    if known:
        try:
            return str(client.get_run(known).info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
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


def _log_model(run_id: str, model: Bundle, bundle: Path, splits: Path) -> tuple[str, str]:
    """Logs the ONNX model with signature and input example; its own id and URI."""
    from importlib.metadata import version

    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    rows = next(iter(read_part_batches(splits, "test", rows=_EXAMPLE_ROWS)))
    inputs = model_inputs(model, rows)
    predict(open_model(bundle), model, rows)
    signature = ModelSignature(
        inputs=Schema(
            [TensorSpec(array.dtype, (-1, array.shape[1]), name) for name, array in inputs.items()]
        ),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1,), "probability")]),
    )
    with mlflow.start_run(run_id=run_id):
        info = mlflow.onnx.log_model(
            onnx.load(bundle / ONNX),
            name="model",
            signature=signature,
            input_example=inputs,
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
    for _ in range(3):
        versions = client.search_model_versions(f"name = '{release.name}'")
        latest = max(
            versions, key=lambda version: (version.tags.get(REQUESTED, ""), int(version.version))
        )
        client.set_registered_model_alias(release.name, CHALLENGER, str(latest.version))
        again = client.get_model_version(release.name, str(latest.version))
        if CHALLENGER in again.aliases:
            break
    if str(latest.version) != release.model_version:
        progress(f"version {latest.version} was registered later and has the alias {CHALLENGER}")
        return replace(release, alias="")
    return release
