"""From trained members to a bundle: calibration, threshold, export, its check, and the report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from slipway.components.contracts.bundle import Bundle, write_bundle
from slipway.components.contracts.splits import Splits
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.support.libraries.packages import installed_packages
from slipway.components.support.stage import progress
from slipway.components.train.data.preparation import Prepared
from slipway.components.train.data.tables import raw_arrays, read_features
from slipway.components.train.heads.base import Head
from slipway.components.train.importance import permutation_importance
from slipway.components.train.linear.fit import FittedLinear
from slipway.components.train.loop import TrainedMember
from slipway.components.train.model.blend import MODELS, Choice, Kind, Model, choose
from slipway.components.train.model.export import check_export, export_model
from slipway.components.train.model.trained import TrainedModel, forward_in_chunks
from slipway.components.train.provenance import read_environment
from slipway.components.train.report import (
    FeatureImportance,
    LinearLog,
    MemberLog,
    TrainingLog,
    TreesLog,
)
from slipway.components.train.search import SearchTrial
from slipway.components.train.trees.fit import GrownTrees
from slipway.components.train.trees.forest import Forest


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedModel:
    """The members as one calibrated model, and what it reaches on the validation part.

    Attributes:
        threshold: the label is 1 from this probability on.
        label: what the answers mean.
        metrics: by name.
        curves: calibration curves by name, as the report draws them.
        importance: what each feature is worth.
        warnings: what a person should know of the model.
        members: what each member's epochs measured, and which of them was best.
        cut: the models that `training.minutes` ended early.
        choice: between the network, the trees and both, where both were trained.
        trees: what the trees' rounds measured, where they were trained.
        linear: what each penalty measured, where the linear model was fitted.
    """

    model: TrainedModel
    head: Head
    threshold: float
    label: LabelType
    metrics: dict[str, float]
    curves: dict[str, list[dict[str, float]]]
    importance: list[FeatureImportance]
    members: list[MemberLog]
    warnings: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    choice: Choice | None = None
    trees: TreesLog | None = None
    linear: LinearLog | None = None

    @property
    def parts(self) -> list[Model]:
        """The models that the model is made of."""
        model = self.model
        there = (len(model.members) > 0, model.linear is not None, model.forest is not None)
        return [name for name, taken in zip(MODELS, there, strict=True) if taken]

    @property
    def chosen(self) -> Kind:
        """What the model is."""
        return self.parts[0] if len(self.parts) == 1 else "blend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What was trained, of what was asked for.

    Attributes:
        members: networks.
        linear: the linear model.
        trees: boosted ones.
    """

    members: list[TrainedMember] = field(default_factory=list)
    linear: FittedLinear | None = None
    trees: GrownTrees | None = None

    @property
    def cut(self) -> list[str]:
        """The models that `training.minutes` ended early, in words."""
        found = ["the trees"] if self.trees is not None and self.trees.cut else []
        found += [f"network {n}" for n, member in enumerate(self.members, 1) if member.cut]
        return found


def calibrate_members(prepared: Prepared, trained: Trained) -> FinishedModel:
    """Calibrates what was trained as one model, chooses its threshold and measures it.

    Args:
        prepared: what training started from.
        trained: one model at least.
    """
    settings, validation = prepared.config, prepared.parts.validation_raw
    encoded = prepared.parts.validation.labels.cpu().numpy().astype("float64")
    labels = prepared.parts.head.in_units(encoded)
    raw, raw_answers, choice = _choose_model(prepared, trained, labels)
    head = prepared.parts.head.fit(labels, raw_answers, settings)
    model = raw.calibrated_by(head).eval()
    answers = forward_in_chunks(model, validation)
    label, threshold = head.finish(labels, answers, settings)
    curves: dict[str, list[dict[str, float]]] = {}
    if curve := head.curve(labels, answers):
        if head.is_calibrated:
            curves["before calibration"] = head.curve(labels, raw_answers)
        curves["calibrated"] = curve
    doubt = "" if label.promise is None else label.promise.doubt(len(labels))
    if doubt:
        progress(f"WARNING: {doubt}")
    progress("measuring the features' importance", 0.0)
    return FinishedModel(
        model=model,
        head=head,
        threshold=threshold,
        label=label,
        metrics=label.measure(labels, answers),
        warnings=[doubt] if doubt else [],
        curves=curves,
        importance=permutation_importance(
            model, prepared.parts.signature, validation, labels, settings.seed
        ),
        members=[{"history": m.history, "best_epoch": m.best_epoch} for m in trained.members],
        cut=trained.cut,
        choice=choice,
        trees=None if trained.trees is None else _describe_trees(trained.trees),
        linear=None if trained.linear is None else _describe_linear(trained.linear),
    )


def _choose_model(
    prepared: Prepared, trained: Trained, labels: np.ndarray
) -> tuple[TrainedModel, np.ndarray, Choice | None]:
    """The model before calibration, its answers on the validation part, and why it is this one."""
    parts = prepared.parts
    networks: list[nn.Module] = []
    for member in trained.members:
        network = prepared.make_network()
        network.load_state_dict(member.weights)
        networks.append(network.eval().requires_grad_(False))
    linear = None if trained.linear is None else trained.linear.module
    forest = None if trained.trees is None else Forest(trained.trees.nodes())
    there = (bool(networks), linear is not None, forest is not None)

    def assemble(factors: Mapping[Model, float]) -> tuple[TrainedModel, np.ndarray]:
        model = TrainedModel(
            parts.preprocessor,
            networks if "network" in factors else [],
            parts.head,
            calibrated=False,
            linear=linear if "linear" in factors else None,
            forest=forest if "trees" in factors else None,
            factors=tuple(factors.values()),
        )
        return model, forward_in_chunks(model, parts.validation_raw)

    single = {
        name: assemble({name: 1}) for name, trained in zip(MODELS, there, strict=True) if trained
    }
    if len(single) == 1:
        return (*next(iter(single.values())), None)
    answers = {name: answer for name, (_, answer) in single.items()}
    weights = parts.validation.weights.cpu().numpy()
    choice = choose(parts.head, answers, labels, weights, prepared.config)
    progress(f"model: {choice.chosen} ({choice.why})")
    if choice.chosen == "blend":
        return (*assemble(choice.factors), choice)
    return (*single[choice.chosen], choice)


def _describe_trees(grown: GrownTrees) -> TreesLog:
    return {
        "rounds": grown.rounds,
        "leaf_weights": grown.leaf_weights,
        "leaves": grown.nodes().leaves,
        "rows": grown.rows,
        "seconds": round(grown.seconds, 3),
        "history": grown.history,
    }


def _describe_linear(linear: FittedLinear) -> LinearLog:
    return {
        "penalty": linear.penalty,
        "losses": [[penalty, loss] for penalty, loss in linear.losses.items()],
        "rows": linear.rows,
        "seconds": round(linear.seconds, 3),
    }


def write_model(folder: Path, splits: Path, prepared: Prepared, finished: FinishedModel) -> float:
    """Exports the model into a new bundle folder and compares the files with it.

    Returns:
        The largest difference between the trained model and an exported file.

    Raises:
        SlipwayError: they disagree.
    """
    pt2 = prepared.config.pt2
    progress("exporting to ONNX and pt2" if pt2 else "exporting to ONNX", 0.0)
    signature = _sign(prepared, finished)
    export_model(folder, finished.model, signature, prepared.parts.validation_raw, pt2=pt2)
    test = read_features(splits, "test", signature)
    difference = check_export(folder, finished.model, signature, test, raw_arrays(signature, test))
    write_bundle(folder, signature)
    return difference


def _sign(prepared: Prepared, finished: FinishedModel) -> Bundle:
    """The bundle's signature, with what was found while training."""
    settings = prepared.config
    return replace(
        prepared.parts.signature,
        threshold=finished.threshold,
        centre=finished.head.centre,
        scale=finished.head.scale,
        set_threshold=finished.label.set_threshold
        if isinstance(finished.label, MulticlassLabel)
        else None,
        notes={
            "threshold_rule": settings.threshold,
            "calibration": finished.head.signature(),
            "architecture": settings.network.architecture,
            "members": len(finished.model.members),
            "model": finished.chosen,
            **_note_blend(finished),
        },
    )


def _note_blend(finished: FinishedModel) -> dict[str, object]:
    """What each model of a blend is multiplied by."""
    if finished.chosen != "blend":
        return {}
    return {"factors": dict(zip(finished.parts, finished.model.factors, strict=True))}


def describe_training(
    meta: Splits,
    prepared: Prepared,
    finished: FinishedModel,
    trials: list[SearchTrial],
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
        "label_kind": meta.label_kind,
        "labels": meta.labels,
        "loss_name": prepared.parts.head.loss_name,
        "quality_name": prepared.parts.head.quality_name,
        "settings": settings.to_struct(),
        "architecture": settings.network.architecture,
        "members": finished.members,
        "model": finished.chosen,
        "cut": finished.cut,
        "choice": None if finished.choice is None else asdict(finished.choice),
        "trees": finished.trees,
        "linear": finished.linear,
        "search": [asdict(trial) for trial in trials],
        "metrics": finished.metrics,
        "threshold": finished.threshold,
        "calibration": finished.curves,
        "importance": finished.importance,
        "warnings": finished.warnings,
        "export_difference": export_difference,
        "seconds": round(seconds, 3),
        "environment": read_environment(),
        "packages": installed_packages(),
        "mlflow_run_id": run_id,
    }
