"""Measures a model on the test table and decides whether it may be registered."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway.components.config.gate import GateConfig
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.bundle import Bundle, bundle_hash, read_bundle
from slipway.components.contracts.scoring import open_model, predict
from slipway.components.contracts.splits import Splits, read_splits
from slipway.components.contracts.verdict import Outcome, Verdict, write_verdict
from slipway.components.evaluate.advice import advise
from slipway.components.evaluate.baselines import LOGISTIC, MAJORITY, feature_aucs, fit_logistic
from slipway.components.evaluate.card import CardContent, write_card
from slipway.components.evaluate.champion import Champion, fetch_champion
from slipway.components.evaluate.measure import (
    Measured,
    Scorer,
    TestPass,
    differences,
    estimates,
    run_pass,
    shuffled_estimate,
    slice_evidence,
)
from slipway.components.evaluate.rehearse import rehearse
from slipway.components.evaluate.rules import (
    Estimate,
    Evidence,
    RehearsalEvidence,
    decide,
    judge,
    override_for,
)
from slipway.components.evaluate.slices import plan_slices
from slipway.components.metrics.tally import Tally
from slipway.components.support.stage import progress, stage

MODEL = "model"
CHAMPION = "champion"
_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What evaluate found.

    Attributes:
        verdict: the decision, rule by rule.
        metrics: the finite ones, by name.
        labels: names of the two classes.
        confusion: counts, rows the true class, columns the called one.
        roc: false positive rate, true positive rate and threshold of at most 200 points.
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

    def metadata(self) -> dict[str, Any]:
        """What the KFP artifact shows."""
        return {
            "outcome": self.verdict.outcome,
            "reasons": self.verdict.reasons,
            "overridden_by": self.verdict.override.approver if self.verdict.override else "",
            "model_hash": self.verdict.model_hash,
            "test_rows": self.verdict.test_rows,
            **{f"threshold_{name}": value for name, value in self.verdict.thresholds.items()},
        }


@stage("evaluate")
def evaluate_model(
    bundle: Path,
    splits: Path,
    project: str,
    config: dict[str, Any],
    verdict: Path,
    card: Path,
    override_approver: str = "",
    override_reason: str = "",
    monitoring: dict[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measures a bundle on the test part, compares it with the champion, and writes the verdict.

    What is wrong with the model or with the test table is a verdict of `fail` with its reason. An
    error is raised only where no verdict could be written: the gate's own settings, or an input
    folder that is not what it should be.

    Args:
        bundle: the trained model's folder.
        splits: the folder of the train, validation and test tables.
        project: the registered model's name, for the champion.
        config: the `gate` section.
        verdict: the file to write the decision to.
        card: the file to write the model card to.
        override_approver: who lets the model pass where the rules refuse it; empty: nobody.
        override_reason: why; it stands in the verdict, the card and the registry.
        monitoring: the `monitoring` section, for advice on alerts that would fire at once.
        parameters: what of the section is a pipeline parameter of its own, by parameter.

    Raises:
        SlipwayError: the settings are wrong, or bundle.json or splits.json cannot be read.
    """
    gate = GateConfig.parse(config, "gate", parameters)
    model, table = read_bundle(bundle), read_splits(splits)
    model_hash = bundle_hash(bundle)
    with tempfile.TemporaryDirectory(prefix="slipway-evaluate-") as scratch:
        found = _measure(bundle, model, splits, table, project, gate, Path(scratch))
    rules = judge(found.evidence, gate)
    override, word = override_for(rules, override_approver, override_reason)
    if word:
        found.notes["override"] = word
        progress(word)
    outcome: Outcome = "pass" if override else decide(rules)
    found.notes["advice"] = advise(
        gate,
        MonitoringConfig.parse(monitoring or {}, "monitoring") if outcome == "pass" else None,
        {name: estimate.value for name, estimate in found.shown.items()},
        rows=found.evidence.rows,
        positives=found.evidence.positives,
    )
    decision = Verdict(
        outcome=outcome,
        override=override,
        rules=rules,
        metrics={name: estimate.value for name, estimate in found.shown.items()},
        thresholds={"accuracy": gate.accuracy, "f1": gate.f1, "auc": gate.auc},
        model_hash=model_hash,
        data_hash=table.data_hash,
        test_rows=found.evidence.rows,
        notes=found.notes,
    )
    result = Evaluation(
        verdict=decision,
        metrics={
            name: value
            for name, value in decision.metrics.items()
            if value is not None and math.isfinite(value)
        },
        labels=["0", "1"],
        confusion=found.confusion(),
        roc=found.roc(),
    )
    write_card(
        card,
        CardContent(
            project=project,
            verdict=decision,
            bundle=model,
            splits=table,
            gate=gate,
            evidence=found.evidence,
            tallies=found.tallies(),
            champion=found.champion(),
        ),
    )
    write_verdict(verdict, decision)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the measuring gave: the evidence for the rules, and what is only shown."""

    evidence: Evidence
    shown: dict[str, Estimate]
    notes: dict[str, Any]
    done: TestPass | None

    @property
    def _model(self) -> Measured | None:
        return self.done.models[MODEL] if self.done else None

    def tallies(self) -> dict[str, Tally]:
        """By model that was measured soundly, the gated one first."""
        models = self.done.models if self.done else {}
        return {
            name: model.tally
            for name, model in models.items()
            if name == MODEL or not model.problems
        }

    def champion(self) -> dict[str, float]:
        """The champion's own metrics, where it was compared."""
        theirs = self.done.models.get(CHAMPION) if self.done else None
        return theirs.tally.measure() if theirs is not None and not theirs.problems else {}

    def confusion(self) -> list[list[int]]:
        """Counts: rows the true class, columns the called one."""
        if self._model is None:
            return [[0, 0], [0, 0]]
        return self._model.tally.confusion()

    def roc(self) -> tuple[list[float], list[float], list[float]]:
        """At most 200 points of the curve; all values are finite."""
        if self._model is None:
            return [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]
        false, true, thresholds = self._model.tally.roc(_CURVE_POINTS)
        return false.tolist(), true.tolist(), thresholds.tolist()


def _measure(
    folder: Path,
    model: Bundle,
    splits: Path,
    table: Splits,
    project: str,
    gate: GateConfig,
    scratch: Path,
) -> _Found:
    """Everything that the rules look at. What goes wrong on the way becomes part of the evidence."""
    notes: dict[str, Any] = {"threshold": model.threshold, "block": gate.block, "seed": gate.seed}
    nothing = Evidence(rows=0, expected_rows=table.rows.get("test", 0), positives=0)
    champion: Champion | None = None
    champion_problem = ""
    try:
        champion = fetch_champion(project, scratch)
        if champion is None:
            notes["champion"] = "There is no champion yet: nothing was compared."
        else:
            notes["champion"] = f"version {champion.model_version}"
    except Exception as error:
        champion_problem = str(error)
        notes["champion"] = f"could not be compared: {error}"
    try:
        columns = plan_slices(splits, table, gate.slices)
        scorers = [_scorer(MODEL, folder, model)]
        if gate.baseline.logistic:
            progress("fitting the logistic regression to beat")
            scorers.append(fit_logistic(splits, table))
        if champion is not None:
            scorers.append(_scorer(CHAMPION, champion.folder, champion.bundle))
        done = run_pass(splits, table, scorers, columns, gate)
        features = feature_aucs(splits, table)
    except Exception as error:
        # A model or a test table that cannot be measured is refused, with the reason in the verdict.
        problem = f"The model could not be measured: {error}"
        evidence = replace(nothing, problems=(problem,), champion_problem=champion_problem)
        unknown = {name: Estimate(value=None) for name in ("accuracy", "f1", "auc")}
        return _Found(evidence=evidence, shown=unknown, notes=notes, done=None)
    ours = done.models[MODEL]
    shown = estimates(ours, done, gate)
    compared: dict[str, Estimate] | None = None
    theirs = done.models.get(CHAMPION)
    if theirs is not None and theirs.problems:
        champion_problem = " ".join(theirs.problems)
        notes["champion"] = f"could not be compared: {champion_problem}"
    elif theirs is not None:
        compared = differences(ours, theirs, done, gate)
    evidence = replace(
        nothing,
        rows=done.rows,
        positives=done.positives,
        problems=tuple(ours.problems),
        metrics=shown,
        champion=compared,
        champion_problem=champion_problem,
        baselines=_baselines(ours, done, gate, shown),
        shuffled=shuffled_estimate(done),
        features=features,
        slices=slice_evidence(done, MODEL, CHAMPION if compared else None, columns, gate),
        rehearsal=_rehearsal(folder, model, splits, table, gate, notes),
    )
    notes["blocks"] = len(done.blocks)
    notes["intervals"] = {name: [estimate.low, estimate.high] for name, estimate in shown.items()}
    return _Found(evidence=evidence, shown=shown, notes=notes, done=done)


def _rehearsal(
    folder: Path,
    model: Bundle,
    splits: Path,
    table: Splits,
    gate: GateConfig,
    notes: dict[str, Any],
) -> RehearsalEvidence | None:
    if not gate.rehearsal.enabled:
        notes["rehearsal"] = "left out by the project (gate.rehearsal.enabled)"
        return None
    progress("rehearsing: the predictor answers test rows")
    try:
        seen = rehearse(folder, model, splits, table, gate.rehearsal)
    except Exception as error:
        # A rehearsal that could not be held is one that failed.
        notes["rehearsal"] = "could not be held"
        return RehearsalEvidence(
            rows=0, difference=None, p99_ms=None, memory_mb=None, problems=(str(error),)
        )
    notes["rehearsal"] = (
        "failed"
        if seen.problems or seen.p99_ms is None or seen.memory_mb is None
        else f"{seen.rows} rows, largest difference {seen.difference:.1e}, p99 {seen.p99_ms:.1f} ms,"
        f" {seen.memory_mb:.0f} MB"
    )
    return seen


def _scorer(name: str, folder: Path, model: Bundle) -> Scorer:
    session = open_model(folder)
    return Scorer(
        name=name,
        score=lambda table: predict(session, model, table),
        threshold=model.threshold,
        columns=tuple(feature.name for feature in model.features),
    )


def _baselines(
    ours: Measured, done: TestPass, gate: GateConfig, shown: dict[str, Estimate]
) -> dict[str, Estimate]:
    """How much better the AUC is than each baseline's. A constant answer has exactly 0.5."""
    auc = shown["auc"]
    lead = Estimate(
        value=None if auc.value is None else auc.value - 0.5,
        low=None if auc.low is None else auc.low - 0.5,
        high=None if auc.high is None else auc.high - 0.5,
        rows=done.rows,
    )
    result = {MAJORITY: lead}
    logistic = done.models.get(LOGISTIC)
    if logistic is not None and not logistic.problems:
        result[LOGISTIC] = differences(ours, logistic, done, gate)["auc"]
    return result
