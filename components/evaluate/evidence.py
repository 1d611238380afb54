"""The evidence for the gate: everything that its rules look at, measured on the test table."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.scoring import open_model, predict
from slipway.components.contracts.splits import Splits
from slipway.components.evaluate.baselines import LOGISTIC, MAJORITY, feature_aucs, fit_logistic
from slipway.components.evaluate.champion import Champion, fetch_champion
from slipway.components.evaluate.measure import (
    MeasuredModel,
    Scorer,
    TestPass,
    differences,
    estimates,
    run_pass,
    shuffled_estimate,
    slice_evidence,
)
from slipway.components.evaluate.rehearse import rehearse
from slipway.components.evaluate.rules import Estimate, Evidence, RehearsalEvidence
from slipway.components.evaluate.slices import plan_slices
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.metrics.tally import Tally
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress
from slipway.components.support.tracking import TrackingError

MODEL = "model"
CHAMPION = "champion"
_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedModel:
    """The model that the gate judges, and the tables that it is judged on.

    Attributes:
        folder: the bundle's. splits_folder: of the tables.
        project: the registered model's name, for the champion.
    """

    folder: Path
    bundle: Bundle
    splits_folder: Path
    splits: Splits
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured: the evidence for the rules, and what is only shown.

    Attributes:
        notes: facts for the verdict, by name.
        test_pass: None where the model could not be measured.
    """

    evidence: Evidence
    shown: dict[str, Estimate]
    notes: dict[str, Any]
    test_pass: TestPass | None

    @property
    def _gated(self) -> MeasuredModel | None:
        return self.test_pass.models[MODEL] if self.test_pass else None

    def tallies(self) -> dict[str, Tally]:
        """By model that was measured soundly, the gated one first."""
        models = self.test_pass.models if self.test_pass else {}
        return {
            name: model.tally
            for name, model in models.items()
            if isinstance(model.tally, Tally) and (name == MODEL or not model.problems)
        }

    def champion(self) -> dict[str, float]:
        """The champion's own metrics, where it was compared."""
        theirs = self.test_pass.models.get(CHAMPION) if self.test_pass else None
        return theirs.tally.measure() if theirs is not None and not theirs.problems else {}

    def confusion(self) -> list[list[int]]:
        """Counts: rows the true class, columns the called one."""
        if self._gated is None:
            return [[0, 0], [0, 0]]
        return self._gated.tally.confusion()

    def roc(self) -> tuple[list[float], list[float], list[float]]:
        """At most 200 points of the curve; all values are finite."""
        if self._gated is None or not isinstance(self._gated.tally, Tally):
            return [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]
        false, true, thresholds = self._gated.tally.roc(_CURVE_POINTS)
        return false.tolist(), true.tolist(), thresholds.tolist()


def gather_evidence(subject: GatedModel, gate: GateConfig, scratch: Path) -> Measurements:
    """Measures the model, the champion and the baselines. What goes wrong becomes part of the evidence.

    Args:
        subject: the model to judge.
        gate: the `gate` section.
        scratch: an empty folder for the champion's files.

    Raises:
        TrackingError: the registry could not be asked for the champion.
    """
    notes: dict[str, Any] = {
        "threshold": subject.bundle.threshold,
        "block": gate.block,
        "seed": gate.seed,
    }
    champion, problem = _find_champion(subject.project, scratch, notes)
    try:
        columns = plan_slices(subject.splits_folder, subject.splits, gate.slices)
        scorers = _make_scorers(subject, champion, gate)
        test_pass = run_pass(subject.splits_folder, subject.splits, scorers, columns, gate)
        features = feature_aucs(subject.splits_folder, subject.splits)
    except Exception as error:
        # A model or a test table that cannot be measured is refused, with the reason in the verdict.
        return _without_measures(
            subject, f"The model could not be measured: {error}", problem, notes
        )
    ours = test_pass.models[MODEL]
    shown = estimates(ours, test_pass, gate)
    compared, problem = _compare_champion(ours, test_pass, gate, problem, notes)
    evidence = replace(
        _no_evidence(subject),
        rows=test_pass.rows,
        positives=ours.tally.class_rows()[-1],
        problems=tuple(ours.problems),
        metrics=shown,
        champion=compared,
        champion_problem=problem,
        baselines=_compare_baselines(ours, test_pass, gate, shown),
        shuffled=shuffled_estimate(test_pass),
        features=features,
        slices=slice_evidence(test_pass, MODEL, CHAMPION if compared else None, columns, gate),
        rehearsal=_rehearse(subject, gate, notes),
    )
    notes["blocks"] = len(test_pass.blocks)
    notes["intervals"] = {name: [estimate.low, estimate.high] for name, estimate in shown.items()}
    return Measurements(evidence=evidence, shown=shown, notes=notes, test_pass=test_pass)


def _no_evidence(subject: GatedModel) -> Evidence:
    return Evidence(rows=0, expected_rows=subject.splits.rows.get("test", 0), positives=0)


def _without_measures(
    subject: GatedModel, problem: str, champion_problem: str, notes: dict[str, Any]
) -> Measurements:
    return Measurements(
        evidence=replace(
            _no_evidence(subject), problems=(problem,), champion_problem=champion_problem
        ),
        shown={name: Estimate(value=None) for name in ("accuracy", "f1", "auc")},
        notes=notes,
        test_pass=None,
    )


def _find_champion(
    project: str, scratch: Path, notes: dict[str, Any]
) -> tuple[Champion | None, str]:
    """The champion, if there is one, and why it could not be fetched; noted for the verdict."""
    try:
        champion = fetch_champion(project, scratch)
    except TrackingError as error:
        # Nothing is known of the champion: the gate has not refused, it could not be asked.
        raise type(error)(f"The gate cannot judge without knowing the champion: {error}") from error
    except SlipwayError as error:
        notes["champion"] = f"could not be compared: {error}"
        return None, str(error)
    if champion is None:
        notes["champion"] = "There is no champion yet: nothing was compared."
    else:
        notes["champion"] = f"version {champion.model_version}"
    return champion, ""


def _make_scorers(subject: GatedModel, champion: Champion | None, gate: GateConfig) -> list[Scorer]:
    """What takes part in the test pass, the gated model first."""
    scorers = [_make_scorer(MODEL, subject.folder, subject.bundle)]
    if gate.baseline.logistic:
        progress("fitting the logistic regression to beat")
        scorers.append(fit_logistic(subject.splits_folder, subject.splits))
    if champion is not None:
        scorers.append(_make_scorer(CHAMPION, champion.folder, champion.bundle))
    return scorers


def _compare_champion(
    ours: MeasuredModel,
    test_pass: TestPass,
    gate: GateConfig,
    problem: str,
    notes: dict[str, Any],
) -> tuple[dict[str, Estimate] | None, str]:
    """The differences to the champion, where it was measured soundly, and else its problem."""
    theirs = test_pass.models.get(CHAMPION)
    if theirs is None:
        return None, problem
    if theirs.problems:
        problem = " ".join(theirs.problems)
        notes["champion"] = f"could not be compared: {problem}"
        return None, problem
    return differences(ours, theirs, test_pass, gate), problem


def _rehearse(
    subject: GatedModel, gate: GateConfig, notes: dict[str, Any]
) -> RehearsalEvidence | None:
    if not gate.rehearsal.enabled:
        notes["rehearsal"] = "left out by the project (gate.rehearsal.enabled)"
        return None
    progress("rehearsing: the predictor answers test rows")
    try:
        seen = rehearse(
            subject.folder, subject.bundle, subject.splits_folder, subject.splits, gate.rehearsal
        )
    except Exception as error:
        # A rehearsal that could not take place has failed.
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


def _make_scorer(name: str, folder: Path, model: Bundle) -> Scorer:
    session = open_model(folder)
    return Scorer(
        name=name,
        score=lambda table: predict(session, model, table),
        label=label_type_of(model),
        columns=tuple(feature.name for feature in model.features),
    )


def _compare_baselines(
    ours: MeasuredModel, test_pass: TestPass, gate: GateConfig, shown: dict[str, Estimate]
) -> dict[str, Estimate]:
    """How much better the AUC is than each baseline's. A constant answer has exactly 0.5."""
    auc = shown["auc"]
    lead = Estimate(
        value=None if auc.value is None else auc.value - 0.5,
        low=None if auc.low is None else auc.low - 0.5,
        high=None if auc.high is None else auc.high - 0.5,
        rows=test_pass.rows,
    )
    result = {MAJORITY: lead}
    logistic = test_pass.models.get(LOGISTIC)
    if logistic is not None and not logistic.problems:
        result[LOGISTIC] = differences(ours, logistic, test_pass, gate)["auc"]
    return result
