"""Registers a model that passed the gate, with its evidence, as challenger."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.components.config.kinds import asked_of, metric_name
from slipway.components.contracts.bundle import (
    ONNX,
    SIGNATURE,
    Bundle,
    bundle_hash,
    model_inputs,
    read_bundle,
    read_training,
)
from slipway.components.contracts.release import Release, Tag, require_tags
from slipway.components.contracts.rows.scoring import open_model, predict, read_part_batches
from slipway.components.contracts.signing.signature import describe_signer, read_signer, sign_bundle
from slipway.components.contracts.splits import Part, Splits, read_splits
from slipway.components.contracts.verdict import Verdict, check_verdict, read_verdict
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.register.evidence import RegistrationInputs, write_evidence
from slipway.components.register.named_inputs import name_inputs, split_inputs
from slipway.components.register.reference import write_reference
from slipway.components.register.sign import put_signature
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_directory
from slipway.components.support.pages import digits
from slipway.components.support.stage import progress, stage
from slipway.components.support.tracking import (
    LoggedDataset,
    LoggedModel,
    RegisteredVersion,
    TrackingServer,
    connect,
)
from slipway.components.support.tracking.onnx_model import log_onnx_model

CHALLENGER = "challenger"
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
    server = connect()
    found = _find_version(server, project, verdict.model_hash)
    if found is None:
        run_id = _find_run(server, project, inputs.bundle_path)
        uploads = _upload(server, run_id, inputs, verdict, bundle, splits)
        found = _create_version(server, project, run_id, verdict, bundle, uploads)
        registered = f"Registered as {project} version {found.version}."
        server.describe_run(run_id, f"{uploads.description} {registered}")
        if splits.predicts:
            server.describe_model(project, f"Predicts {splits.predicts}.")
    else:
        progress(f"this bundle is registered already, as version {found.version}")
        server.tag_version(project, found.version, _override_tags(verdict))
    _sign(server, found, inputs.bundle_path)
    release = _take_alias(server, Release.of(found, CHALLENGER))
    release.write(release_path)
    return release


def _find_version(
    server: TrackingServer, project: str, model_hash: str
) -> RegisteredVersion | None:
    """The version of exactly this bundle; the first one, should there be several."""
    versions = server.list_versions(project)
    return next((found for found in versions if found.tags.get(Tag.MODEL_HASH) == model_hash), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uploads:
    """What lies in the MLflow run for a version: URIs by tag, the logged model, the evidence's hash."""

    uris: dict[str, str]
    model: LoggedModel
    evidence_hash: str
    description: str


def _upload(
    server: TrackingServer,
    run_id: str,
    inputs: RegistrationInputs,
    verdict: Verdict,
    bundle: Bundle,
    splits: Splits,
) -> _Uploads:
    """Uploads the bundle, its reference, the MLflow model and the evidence to the run."""
    # Every folder is named by its content: a task that is run again, or at the same time, writes the
    # same files to the same place, and never over those of another version.
    place = f"release-{verdict.model_hash[:12]}"
    progress("uploading the bundle and its reference")
    uris: dict[str, str] = {
        Tag.BUNDLE_URI: server.log_files(run_id, [inputs.bundle_path], f"{place}/bundle")
    }
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
        uris[Tag.REFERENCE_URI] = server.log_files(run_id, [reference], name)
        progress("logging the MLflow model")
        model = _log_model(server, run_id, bundle, inputs)
        uris[Tag.MODEL_URI] = model.uri
        logged = server.fetch(model.uri, Path(scratch) / "model", what="The logged model")
        digest = write_evidence(
            evidence, inputs, reference_path=reference, model_path=logged, run_id=run_id
        )
        name = f"{place}/evidence-{digest[:12]}"
        uris[Tag.EVIDENCE_URI] = server.log_files(run_id, [evidence], name)
    server.log_datasets(run_id, _datasets(splits))
    return _Uploads(
        uris=uris,
        model=model,
        evidence_hash=digest,
        description=describe_version(splits, verdict),
    )


def _datasets(splits: Splits) -> list[LoggedDataset]:
    """The parts that the model was made from, and what each was for."""
    contexts: dict[Part, str] = {
        "train": "training",
        "validation": "validation",
        "test": "evaluation",
    }
    return [
        LoggedDataset(
            name=f"{splits.project}-{part}",
            context=context,
            data_hash=splits.data_hash,
            rows=splits.rows.get(part, 0),
        )
        for part, context in contexts.items()
    ]


def describe_version(splits: Splits, verdict: Verdict) -> str:
    """What the card begins with, in a sentence or two: what is predicted, and how well."""
    metrics = [
        f"{metric_name(name)} {digits.number(value, 3)} ({asked_of(name, verdict.thresholds[name])})"
        for name, value in verdict.metrics.items()
        if name in verdict.thresholds and value is not None
    ]
    passed = (
        f"Let through by {verdict.override.approver}: {verdict.override.reason}"
        if verdict.override
        else "Passed the gate"
    )
    measured = f": {', '.join(metrics)}" if metrics else ""
    predicts = f"Predicts {splits.predicts}. " if splits.predicts else ""
    return f"{predicts}{passed} on {verdict.test_rows:,} test rows{measured}."


def _sign(server: TrackingServer, version: RegisteredVersion, bundle_path: Path) -> None:
    """Signs a version's bundle, where this place has a key; with another key than before, anew.

    It comes after the version: a signature vouches for what the registry has, and what is not signed
    yet is refused wherever signatures are asked for.
    """
    private_key = environment.optional("MODEL_PRIVATE_KEY")
    if not private_key:
        return
    [bundle_uri] = require_tags(version, Tag.BUNDLE_URI)
    with tempfile.TemporaryDirectory(prefix="slipway-register-") as scratch:
        what = f"The bundle of {version.name} version {version.version}"
        kept = server.fetch(bundle_uri, Path(scratch) / "bundle", what=what)
        if bundle_hash(kept) != bundle_hash(bundle_path):
            raise SlipwayError(
                f"{what} in the registry is not the one that passed the gate: it was changed, and is not"
                " signed."
            )
        signed = Path(scratch) / SIGNATURE
        password = environment.optional("MODEL_PRIVATE_KEY_PASSWORD")
        signer = sign_bundle(kept, private_key, password, signed)
        if read_signer(kept) != signer:
            put_signature(server, version, signed, signer)
        else:  # of a task that was killed before it
            server.tag_version(version.name, version.version, {Tag.SIGNED_BY: signer})
    progress(f"signed by {describe_signer(signer)}")


def _create_version(
    server: TrackingServer,
    project: str,
    run_id: str,
    verdict: Verdict,
    bundle: Bundle,
    uploads: _Uploads,
) -> RegisteredVersion:
    """Makes the version of what was uploaded, with its metrics and tags."""
    metrics = {name: value for name, value in verdict.metrics.items() if value is not None}
    measured = {f"test_{name}": value for name, value in metrics.items()}
    server.log_metrics(run_id, measured, stamp_ms=time.time_ns() // 1_000_000)
    tags: dict[str, str] = {
        Tag.MODEL_HASH: verdict.model_hash,
        Tag.DATA_HASH: verdict.data_hash,
        **_label_tags(bundle),
        Tag.EVIDENCE_HASH: uploads.evidence_hash,
        **uploads.uris,
        **_override_tags(verdict),
    }
    version = server.create_version(
        project,
        source=uploads.model,
        run_id=run_id,
        tags=tags,
        description=uploads.description,
    )
    # Two tasks may have registered one bundle at the same time: the first version stays.
    first = _find_version(server, project, verdict.model_hash)
    if first is not None and first.version != version.version:
        server.delete_version(version)
        return first
    return version


def _label_tags(bundle: Bundle) -> dict[str, str]:
    """What the model says of its label, short: the names of the classes stand in bundle.json."""
    return {f"slipway.{name}": str(value) for name, value in label_type_of(bundle).settings.items()}


def _override_tags(verdict: Verdict) -> dict[str, str]:
    if verdict.override is None:
        return {}
    return {
        Tag.OVERRIDE_APPROVER: verdict.override.approver,
        Tag.OVERRIDE_REASON: verdict.override.reason,
    }


def _find_run(server: TrackingServer, project: str, bundle_path: Path) -> str:
    """The training run, where the server knows it; else this task's own, which may be open already."""
    known = str(read_training(bundle_path).get("mlflow_run_id") or "")
    if known and server.has_run(known):
        return known
    if opened := environment.plugin_run():
        return opened
    model = bundle_hash(bundle_path)
    # A task that was killed right here left its run open, and nobody else ends it.
    server.end_open_runs(project, Tag.MODEL_HASH, model)
    run_id = server.open_run(project, name="register", tags={Tag.MODEL_HASH: model})
    server.end_run(run_id)
    return run_id


def _log_model(
    server: TrackingServer, run_id: str, bundle: Bundle, inputs: RegistrationInputs
) -> LoggedModel:
    """Logs the ONNX model with its signature, an input a feature, and an example of its input."""
    import numpy as np
    import onnx

    rows = next(iter(read_part_batches(inputs.splits_path, "test", rows=_EXAMPLE_ROWS)))
    # A model that does not answer fails here, and not when somebody reads it.
    answer = predict(open_model(inputs.bundle_path), bundle, rows).astype(np.float32)
    return log_onnx_model(
        server,
        run_id,
        name_inputs(onnx.load(inputs.bundle_path / ONNX), bundle),
        example=split_inputs(bundle, model_inputs(bundle, rows)),
        answer={bundle.output[0]: answer},
    )


def _take_alias(server: TrackingServer, release: Release) -> Release:
    """Gives the alias to the version that was asked for last.

    The registry has no compare-and-set. Every task writes down when it asked, then points the alias to
    the version with the latest such time. Tasks that finish at once thus agree on one version, in
    whatever order their calls arrive.
    """
    asked = f"{time.time_ns():020d}"
    server.tag_version(release.name, release.model_version, {Tag.REQUESTED: asked})
    latest = _latest(server, release.name)
    while True:
        server.point_alias(release.name, CHALLENGER, latest)
        # Reading again after setting the alias makes it right: the task that sets it last has seen
        # every task that wrote down its time before.
        seen, latest = latest, _latest(server, release.name)
        if latest == seen:
            break
    if latest != release.model_version:
        progress(f"version {latest} was registered later and has the alias {CHALLENGER}")
        return replace(release, alias="")
    return release


def _latest(server: TrackingServer, name: str) -> str:
    """The version that was asked for last."""
    return max(
        server.list_versions(name),
        key=lambda version: (version.tags.get(Tag.REQUESTED, ""), int(version.version)),
    ).version
