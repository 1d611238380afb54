"""From trained members to a bundle: calibration, threshold, export, its check, and the report."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from slipway.components.contracts.bundle import Bundle, write_bundle
from slipway.components.contracts.splits import Splits
from slipway.components.metrics.binary import calibration_curve, measure
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.threshold import choose_threshold
from slipway.components.support.packages import installed_packages
from slipway.components.support.stage import progress
from slipway.components.train.data.preparation import Prepared
from slipway.components.train.data.tables import raw_arrays, read_features
from slipway.components.train.importance import permutation_importance
from slipway.components.train.loop import TrainedMember
from slipway.components.train.model.calibration import Platt, fit_platt
from slipway.components.train.model.export import (
    CalibratedModel,
    check_export,
    export_model,
    forward_in_chunks,
)
from slipway.components.train.provenance import read_environment
from slipway.components.train.report import FeatureImportance, MemberLog, TrainingLog
from slipway.components.train.search import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedModel:
    """The members as one calibrated model, and what it reaches on the validation part.

    Attributes:
        threshold: the label is 1 from this probability on.
        metrics: by name.
        curves: calibration curves by name, as the report draws them.
        importance: what each feature is worth.
        members: what each member's epochs measured, and which of them was best.
    """

    model: CalibratedModel
    platt: Platt
    threshold: float
    metrics: dict[str, float]
    curves: dict[str, list[dict[str, float]]]
    importance: list[FeatureImportance]
    members: list[MemberLog]


def calibrate_members(prepared: Prepared, members: list[TrainedMember]) -> FinishedModel:
    """Calibrates the members as one model, chooses its threshold and measures it."""
    settings, validation = prepared.config, prepared.parts.validation_raw
    networks: list[nn.Module] = []
    for member in members:
        network = prepared.make_network()
        network.load_state_dict(member.weights)
        networks.append(network.eval().requires_grad_(False))
    labels = prepared.parts.validation.labels.cpu().numpy().astype("float64")
    uncalibrated = CalibratedModel(prepared.parts.preprocessor, networks, Platt())
    raw_probability = forward_in_chunks(uncalibrated, validation)
    platt = fit_platt(labels, raw_probability) if settings.calibration == "platt" else Platt()
    model = CalibratedModel(prepared.parts.preprocessor, networks, platt).eval()
    probability = forward_in_chunks(model, validation)
    threshold = choose_threshold(labels, probability, settings.threshold)
    curves = {"calibrated": calibration_curve(labels, probability)}
    if platt != Platt():
        curves = {"before calibration": calibration_curve(labels, raw_probability)} | curves
    progress("measuring the features' importance")
    return FinishedModel(
        model=model,
        platt=platt,
        threshold=threshold,
        metrics=measure(labels, probability, reaches_threshold(probability, threshold)),
        curves=curves,
        importance=permutation_importance(
            model, prepared.parts.signature, validation, labels, settings.seed
        ),
        members=[{"history": m.history, "best_epoch": m.best_epoch} for m in members],
    )


def write_model(folder: Path, splits: Path, prepared: Prepared, finished: FinishedModel) -> float:
    """Exports the model into a new bundle folder and compares the files with it.

    Returns:
        The largest difference between the trained model and an exported file.

    Raises:
        SlipwayError: they disagree.
    """
    progress("exporting to ONNX and pt2")
    signature = _sign(prepared, finished)
    export_model(folder, finished.model, signature, prepared.parts.validation_raw)
    test = read_features(splits, "test", signature)
    difference = check_export(folder, finished.model, signature, test, raw_arrays(signature, test))
    write_bundle(folder, signature)
    return difference


def _sign(prepared: Prepared, finished: FinishedModel) -> Bundle:
    """The bundle's signature, with what was found while training."""
    settings, platt = prepared.config, finished.platt
    return replace(
        prepared.parts.signature,
        threshold=finished.threshold,
        notes={
            "threshold_rule": settings.threshold,
            "calibration": {"slope": platt.slope, "offset": platt.offset},
            "architecture": settings.network.architecture,
            "members": len(finished.members),
        },
    )


def describe_training(
    meta: Splits,
    prepared: Prepared,
    finished: FinishedModel,
    trials: list[Trial],
    *,
    export_difference: float,
    seconds: float,
    run_id: str | None,
) -> TrainingLog:
    """What training.json holds and the report shows."""
    settings = prepared.config
    return {
        "project": meta.project,
        "data_hash": meta.data_hash,
        "rows": meta.rows,
        "positives": meta.positives,
        "settings": settings.to_struct(),
        "architecture": settings.network.architecture,
        "members": finished.members,
        "search": [asdict(trial) for trial in trials],
        "metrics": finished.metrics,
        "threshold": finished.threshold,
        "calibration": finished.curves,
        "importance": finished.importance,
        "export_difference": export_difference,
        "seconds": round(seconds, 3),
        "environment": read_environment(),
        "packages": installed_packages(),
        "mlflow_run_id": run_id,
    }
