"""Measures a model on the test table and decides whether it may be registered."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.gate import GateConfig, blank_threshold
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.bundle import bundle_hash, read_bundle
from slipway.components.contracts.splits import Splits, read_splits
from slipway.components.contracts.verdict import Outcome, Verdict, write_verdict
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress, stage

# What measures, judges and draws is imported once the settings are read.
if TYPE_CHECKING:
    from slipway.components.evaluate.evidence import Measurements
    from slipway.components.metrics.kinds.base import LabelType


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What evaluate found.

    Attributes:
        verdict: the decision, rule by rule.
        metrics: the finite ones, by name.
        labels: names of the classes; empty where there are none, or too many for a picture.
        confusion: counts, rows the true class, columns the called one; of those classes.
        roc: false positive rate, true positive rate and threshold of at most 200 points; of two classes.
    """

    verdict: Verdict
    metrics: dict[str, float]
    labels: list[str]
    confusion: list[list[int]]
    roc: tuple[list[float], list[float], list[float]]

    @property
    def outcome(self) -> Outcome:
        """Pass or fail."""
        return self.verdict.outcome

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return self.verdict.headline

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "outcome": self.verdict.outcome,
            "reasons": self.verdict.reasons,
            "overridden_by": self.verdict.override.approver if self.verdict.override else "",
            "model_hash": self.verdict.model_hash,
            "test_rows": self.verdict.test_rows,
            **{f"threshold_{name}": value for name, value in self.verdict.thresholds.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationTask:
    """What an evaluation takes, and where it writes.

    Attributes:
        bundle_path: the trained model's folder.
        splits_path: the folder of the train, validation and test tables.
        project: the registered model's name, for the champion.
        config: the `gate` section.
        verdict_path: the file to write the decision to.
        card_path: the file to write the model card to.
        override_approver: who lets the model pass where the rules refuse it; empty: nobody.
        override_reason: why; it stands in the verdict, the card and the registry.
        monitoring: the `monitoring` section, for advice on alerts that would fire at once.
        parameters: what of the section is a pipeline parameter of its own, by parameter.
    """

    bundle_path: Path
    splits_path: Path
    project: str
    config: dict[str, object]
    verdict_path: Path
    card_path: Path
    override_approver: str = ""
    override_reason: str = ""
    monitoring: dict[str, object] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@stage("evaluate")
def evaluate_model(task: EvaluationTask) -> Evaluation:
    """Measures a bundle on the test part, compares it with the champion, and writes the verdict.

    What is wrong with the model or with the test table is a verdict of `fail` with its reason. An
    error is raised only where no verdict could be reached: the gate's own settings, an input folder
    that is not what it should be, or a registry that cannot be asked for the champion.

    Raises:
        SlipwayError: the settings are wrong, bundle.json or splits.json cannot be read, or MLflow
            does not answer or refuses. Nothing is written then.
    """
    settings = GateConfig.parse(task.config, "gate", task.parameters)
    bundle = read_bundle(task.bundle_path)
    if bundle.label_kind != "number":  # of which these are no metrics
        _refuse_blanks(settings, task.parameters)

    from slipway.components.evaluate.card.card import CardContent, write_card
    from slipway.components.evaluate.card.class_plots import MAX_DRAWN_CLASSES
    from slipway.components.evaluate.evidence import GatedModel, gather_evidence

    gate = settings.with_defaults_of(bundle.label_kind)
    subject = GatedModel(
        folder=task.bundle_path,
        bundle=bundle,
        splits_folder=task.splits_path,
        splits=read_splits(task.splits_path),
        project=task.project,
    )
    model_hash = bundle_hash(task.bundle_path)
    with tempfile.TemporaryDirectory(prefix="slipway-evaluate-") as scratch:
        measured = gather_evidence(subject, gate, Path(scratch))
    verdict = _decide(task, gate, measured, model_hash, subject.splits)
    write_card(
        task.card_path,
        CardContent(
            project=task.project,
            verdict=verdict,
            bundle=subject.bundle,
            splits=subject.splits,
            gate=gate,
            evidence=measured.evidence,
            tallies=measured.tallies(),
            sample=measured.sample,
            champion=measured.champion(),
        ),
    )
    write_verdict(task.verdict_path, verdict)
    classes = subject.label.class_names
    classes = classes if len(classes) <= MAX_DRAWN_CLASSES else ()
    return Evaluation(
        verdict=verdict,
        metrics={
            name: value
            for name, value in verdict.metrics.items()
            if value is not None and math.isfinite(value)
        },
        labels=list(classes),
        confusion=measured.confusion() if classes else [],
        roc=measured.roc(),
    )


def _refuse_blanks(gate: GateConfig, parameters: Mapping[str, float]) -> None:
    """Refuses a threshold of 0 that came as a parameter and that the project did not set to 0.

    Raises:
        SlipwayError: naming the parameter.
    """
    for name in gate.blanked():
        if f"gate_{name}" in parameters:
            raise SlipwayError(f"{blank_threshold(name)}.")


def _decide(
    task: EvaluationTask,
    gate: GateConfig,
    measured: "Measurements",
    model_hash: str,
    splits: Splits,
) -> Verdict:
    """The rules' verdict, and a person's override of it."""
    from slipway.components.evaluate.card.slice_tables import find_weakest
    from slipway.components.evaluate.gate.advice import advise
    from slipway.components.evaluate.gate.remedies import find_remedies
    from slipway.components.evaluate.gate.rules import bounds_of, decide, judge, override_for

    rules = judge(measured.evidence, gate)
    override, remark = override_for(rules, task.override_approver, task.override_reason)
    if remark:
        measured.notes["override"] = remark
        progress(remark)
    outcome: Outcome = "pass" if override else decide(rules)
    evidence = measured.evidence
    if weakest := find_weakest(evidence):
        measured.notes["weakest"] = weakest
    metrics = {name: estimate.value for name, estimate in measured.shown.items()}
    plain = measured.notes.get("unweighted", {}).get("metrics", metrics)
    if outcome == "fail":
        measured.notes["remedies"] = find_remedies(rules, measured.evidence, gate)
    measured.notes["advice"] = advise(
        gate,
        MonitoringConfig.parse(task.monitoring, "monitoring") if outcome == "pass" else None,
        plain,
        constants=evidence.label.constants(
            measured.describe_labels(), splits.labels.get("train", {})
        ),
        bounds=bounds_of(evidence.label, gate),
    )
    return Verdict(
        outcome=outcome,
        override=override,
        rules=rules,
        metrics=metrics,
        thresholds=_thresholds(evidence.label, gate),
        model_hash=model_hash,
        data_hash=splits.data_hash,
        test_rows=measured.evidence.rows,
        notes=measured.notes,
    )


def _thresholds(label: "LabelType", gate: GateConfig) -> dict[str, float]:
    """By metric of the first line, the bound that the gate holds it against."""
    from slipway.components.evaluate.gate.rules import bounds_of

    asked = [(metric, bound) for metric, bound in (*gate.metrics.items(), *bounds_of(label, gate))]
    limits = {
        metric: limit
        for metric, bound in asked
        if (limit := bound.min if bound.min is not None else bound.max) is not None
    }
    return {name: limits[name] for name in label.headline if name in limits}
