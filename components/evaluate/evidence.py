"""The evidence for the gate: everything that its rules look at, measured on the test table."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import LABEL, Splits
from slipway.components.evaluate.champion import Champion, fetch_champion
from slipway.components.evaluate.measures.baselines import (
    LEAK_ROWS,
    explain_features,
    fit_baseline,
    measure_features,
    sample_part,
)
from slipway.components.evaluate.measures.fairness import (
    ComparedGroups,
    group_evidence,
    note_groups,
    plan_groups,
)
from slipway.components.evaluate.measures.measure import (
    MeasuredModel,
    Scorer,
    TestPass,
    class_estimates,
    differences,
    estimates,
    run_pass,
    shuffled_estimate,
    slice_evidence,
)
from slipway.components.evaluate.measures.measured import Estimate, Evidence, RehearsalEvidence
from slipway.components.evaluate.measures.ranking import (
    RankedQueries,
    note_ranking,
    plan_ranking,
    ranking_evidence,
)
from slipway.components.evaluate.measures.slices import SliceColumn, plan_slices
from slipway.components.evaluate.measures.weights import RowWeights, plan_weights
from slipway.components.evaluate.rehearse import rehearse
from slipway.components.metrics.kinds.base import LabelTally, LabelType
from slipway.components.metrics.kinds.choose import label_type, label_type_of
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.tally import Tally
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import part, progress
from slipway.components.support.tracking import TrackingError

if TYPE_CHECKING:
    import numpy as np

MODEL = "model"
CHAMPION = "champion"
_CURVE_POINTS = 200
_NAMED_CLASSES = 5


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

    @property
    def label(self) -> LabelType:
        """The kind of label."""
        return label_type_of(self.bundle)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSample:
    """Labels [N] of at most 20,000 test rows, evenly spaced, and answers [N] or [N, W]."""

    labels: "np.ndarray"
    answers: "np.ndarray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured: the evidence for the rules, and what is only shown.

    Attributes:
        notes: facts for the verdict, by name.
        test_pass: None where the model could not be measured.
        sample: test rows with a label, and the model's answers to them; None as above, and where the
            tallies tell enough.
    """

    evidence: Evidence
    shown: dict[str, Estimate]
    notes: dict[str, Any]
    test_pass: TestPass | None
    sample: ScoredSample | None = None

    @property
    def _gated(self) -> MeasuredModel | None:
        return self.test_pass.models[MODEL] if self.test_pass else None

    def tallies(self) -> dict[str, LabelTally]:
        """By model that was measured soundly, the gated one first."""
        models = self.test_pass.models if self.test_pass else {}
        return {
            name: model.tally
            for name, model in models.items()
            if name == MODEL or not model.problems
        }

    def champion(self) -> dict[str, float]:
        """The champion's own metrics, where it was compared."""
        theirs = self.test_pass.models.get(CHAMPION) if self.test_pass else None
        return theirs.tally.measure() if theirs is not None and not theirs.problems else {}

    def describe_labels(self) -> dict[str, float]:
        """Facts about the test part's labels, weighed as the metrics are; empty: not measured."""
        gated = self._gated
        return gated.tally.describe(self.evidence.label.class_names) if gated is not None else {}

    def confusion(self) -> list[list[int]]:
        """Counts: rows the true class, columns the called one; empty where there are no classes."""
        if self._gated is None:
            classes = len(self.evidence.label.class_names)
            return [[0] * classes for _ in range(classes)]
        return self._gated.tally.confusion()

    def roc(self) -> tuple[list[float], list[float], list[float]]:
        """At most 200 finite points of the curve; empty where an answer is not one probability."""
        if self.evidence.label.answer_names:
            return [], [], []
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
    notes: dict[str, object] = {
        **subject.label.settings,
        "block": gate.block,
        "seed": gate.seed,
    }
    champion, problem = _find_champion(subject, scratch, notes)
    try:
        measured = _measure(subject, champion, gate)
    except Exception as error:
        # A model or a test table that cannot be measured is refused, with the reason in the verdict.
        return _without_measures(
            subject, f"The model could not be measured: {error}", problem, notes
        )
    ours, test_pass = measured.ours, measured.test_pass
    progress("resampling the test rows", 0.5)
    shown = estimates(ours.tally, test_pass, gate)
    compared, problem = _compare_champion(ours, test_pass, gate, problem, notes)
    evidence = replace(
        _no_evidence(subject),
        rows=test_pass.rows,
        class_rows=ours.tally.class_rows(),
        effective_rows=measured.weigh.effective_rows if measured.weigh else None,
        problems=tuple(ours.problems),
        metrics=shown,
        champion=compared,
        champion_problem=problem,
        baselines=_compare_baselines(ours, test_pass, gate, shown),
        shuffled=shuffled_estimate(test_pass),
        features=measured.features,
        explained=measured.explained,
        told=_told(subject.label, measured.sample),
        slices=slice_evidence(
            test_pass, MODEL, CHAMPION if compared else None, measured.slices, gate
        ),
        fairness=group_evidence(measured.groups, test_pass, gate),
        ranking=ranking_evidence(measured.ranked, test_pass, gate),
        classes=class_estimates(ours, test_pass, gate),
        constant_cost=_constant_cost(ours),
        rehearsal=_rehearse(subject, gate, notes),
    )
    notes |= _note_measures(measured, evidence, gate)
    return Measurements(
        evidence=evidence,
        shown=shown,
        notes=notes,
        test_pass=test_pass,
        sample=measured.sample,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What one pass over the test table gave, and the plans that say how its blocks are read.

    Attributes:
        slices: that the test rows are cut into. groups: of the fairness rules.
        ranked: queries of the ranking rules.
        weigh: how much each row counts; None: each once.
        features: how well each feature alone tells the label. explained: what it explains of it.
    """

    test_pass: TestPass
    slices: list[SliceColumn]
    groups: list[ComparedGroups]
    ranked: list[RankedQueries]
    weigh: RowWeights | None
    features: dict[str, float]
    explained: dict[str, float]
    sample: ScoredSample | None

    @property
    def ours(self) -> MeasuredModel:
        """The gated model, measured."""
        return self.test_pass.models[MODEL]


def _measure(subject: GatedModel, champion: Champion | None, gate: GateConfig) -> _Measured:
    """Plans what the gate asks for, and measures all models in one pass over the test table."""
    _check_label(subject)
    slices = plan_slices(subject.splits_folder, subject.splits, gate.slices)
    groups = plan_groups(subject.splits_folder, subject.label, gate)
    ranked = plan_ranking(subject.splits_folder, gate)
    weigh = plan_weights(subject.splits_folder, gate.weights)
    scorers = _make_scorers(subject, champion, gate)
    with part(0.1, 0.5):
        test_pass = run_pass(
            subject.splits_folder,
            subject.splits,
            scorers,
            slices,
            gate,
            [*groups, *ranked],
            weigh,
        )
    return _Measured(
        test_pass=test_pass,
        slices=slices,
        groups=groups,
        ranked=ranked,
        weigh=weigh,
        features=measure_features(subject.splits_folder, subject.splits, subject.label),
        explained=_explain(subject),
        sample=_score_sample(subject, scorers[0]),
    )


def _note_measures(measured: _Measured, evidence: Evidence, gate: GateConfig) -> dict[str, object]:
    """Facts of the pass for the verdict."""
    notes: dict[str, object] = {"blocks": len(measured.test_pass.blocks)}
    if gate.fairness:
        notes["fairness"] = note_groups(measured.groups)
    if gate.ranking and evidence.ranking:
        notes["ranking"] = note_ranking(evidence.ranking, gate.ranking)
    notes["intervals"] = _ends(evidence.metrics)
    if measured.weigh and measured.ours.plain is not None:
        plain = estimates(measured.ours.plain, measured.test_pass, gate)
        notes |= _note_weights(measured.weigh, plain)
    return notes


def _note_weights(weigh: RowWeights, plain: dict[str, Estimate]) -> dict[str, object]:
    """How much rows counted, and what the metrics are where each counts once."""
    return {
        "weights": {"column": weigh.column, "effective_rows": weigh.effective_rows},
        "unweighted": {
            "metrics": {name: estimate.value for name, estimate in plain.items()},
            "intervals": _ends(plain),
        },
    }


def _ends(estimates: dict[str, Estimate]) -> dict[str, list[float | None]]:
    return {name: [estimate.low, estimate.high] for name, estimate in estimates.items()}


def _constant_cost(ours: MeasuredModel) -> tuple[float, str] | None:
    """What the best constant answer to the test rows costs, and which it is; None: nothing is said."""
    label = ours.scorer.label
    return label.constants(ours.tally.describe(label.class_names), {}).get("expected_cost")


def _check_label(subject: GatedModel) -> None:
    """Refuses a model that answers another question than the test table has labels for."""
    bundle, splits = subject.bundle, subject.splits
    if (bundle.label_kind, bundle.classes) != (splits.label_kind, splits.classes):
        theirs = label_type(splits.label_kind, classes=splits.classes)
        raise SlipwayError(
            f"it predicts {subject.label.noun}, and the splits' labels are {theirs.noun}"
            f"{_differing(bundle.classes, splits.classes)}. Train it on these splits."
        )


def _differing(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """What classes only one side has, in words."""
    parts = [
        f"{who}: {', '.join(sorted(names)[:_NAMED_CLASSES])}"
        for who, names in (
            ("only the model has", set(ours) - set(theirs)),
            ("it lacks", set(theirs) - set(ours)),
        )
        if names and ours and theirs
    ]
    if not parts and sorted(ours) == sorted(theirs) and ours != theirs:
        parts = ["their order differs"]
    return f" ({'; '.join(parts)})" if parts else ""


def _score_sample(subject: GatedModel, scorer: Scorer) -> ScoredSample | None:
    """The answers to a sample of the test rows, where the tallies alone do not tell enough of them."""
    if subject.label.alarm in subject.label.metrics:
        return None
    columns = list(dict.fromkeys([*scorer.columns, LABEL]))
    table = sample_part(subject.splits_folder, subject.splits, "test", LEAK_ROWS, columns)
    labels = table[LABEL].to_numpy()
    known = subject.label.is_usable(labels)
    return ScoredSample(labels=labels[known], answers=scorer.score(table.filter(known)))


def _explain(subject: GatedModel) -> dict[str, float]:
    """What each feature alone explains of several classes or a number; two classes have the AUC."""
    if subject.label.kind == "binary":
        return {}
    return explain_features(subject.splits_folder, subject.splits, subject.label)


def _told(label: LabelType, sample: ScoredSample | None) -> float | None:
    """How well the model tells the label, where no metric of its kind says it."""
    if sample is None or not len(sample.labels):
        return None
    return float(label.tells(sample.labels, label.decide(sample.answers)).mean())


def _no_evidence(subject: GatedModel) -> Evidence:
    return Evidence(
        label=subject.label,
        rows=0,
        expected_rows=subject.splits.rows.get("test", 0),
        class_rows=(0,) * len(subject.label.class_names),
        validation_rows=subject.splits.rows.get("validation"),
    )


def _without_measures(
    subject: GatedModel, problem: str, champion_problem: str, notes: dict[str, object]
) -> Measurements:
    return Measurements(
        evidence=replace(
            _no_evidence(subject), problems=(problem,), champion_problem=champion_problem
        ),
        shown={name: Estimate(value=None) for name in subject.label.headline},
        notes=notes,
        test_pass=None,
    )


def _find_champion(
    subject: GatedModel, scratch: Path, notes: dict[str, object]
) -> tuple[Champion | None, str]:
    """The champion, if it can be compared, and else why it cannot; noted for the verdict."""
    try:
        champion = fetch_champion(subject.project, scratch)
        if champion is not None:
            _check_comparable(subject, champion)
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


def _check_comparable(subject: GatedModel, champion: Champion) -> None:
    """Refuses to compare answers to different questions: no difference of metrics would mean anything."""
    ours, theirs = subject.bundle, champion.bundle
    if ours.label_kind == theirs.label_kind and sorted(ours.classes) == sorted(theirs.classes):
        return
    raise SlipwayError(
        f"version {champion.model_version} predicts {label_type_of(theirs).noun}, and this model"
        f" predicts {subject.label.noun}{_differing(ours.classes, theirs.classes)}. If the label was"
        f" changed on purpose, take the alias {CHAMPION} from that version, or let this model pass by an"
        " override."
    )


def _make_scorers(subject: GatedModel, champion: Champion | None, gate: GateConfig) -> list[Scorer]:
    """What takes part in the test pass, the gated model first."""
    scorers = [_make_scorer(MODEL, subject.folder, subject.bundle)]
    if gate.baseline.linear:
        progress(f"fitting the {subject.label.baselines[1]} to beat")
        scorers.append(
            fit_baseline(subject.splits_folder, subject.splits, subject.label, gate.weights)
        )
    if champion is not None:
        scorer = _make_scorer(CHAMPION, champion.folder, champion.bundle)
        scorer = replace(scorer, label=scorer.label.measured_as(subject.label))
        scorers.append(_in_order_of(subject.bundle.classes, champion.bundle.classes, scorer))
    return scorers


def _in_order_of(ours: tuple[str, ...], theirs: tuple[str, ...], scorer: Scorer) -> Scorer:
    """A scorer whose probabilities stand in the order of the gated model's classes."""
    if ours == theirs:
        return scorer
    places = [theirs.index(name) for name in ours]
    return replace(
        scorer,
        score=lambda table: scorer.score(table)[:, places],
        label=replace(scorer.label, classes=ours)
        if isinstance(scorer.label, MulticlassLabel)
        else scorer.label,
    )


def _compare_champion(
    ours: MeasuredModel,
    test_pass: TestPass,
    gate: GateConfig,
    problem: str,
    notes: dict[str, object],
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
    subject: GatedModel, gate: GateConfig, notes: dict[str, object]
) -> RehearsalEvidence | None:
    if not gate.rehearsal.enabled:
        notes["rehearsal"] = "left out by the project (gate.rehearsal.enabled)"
        return None
    progress("rehearsing: the predictor answers test rows", 0.7)
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
    """How much better the leading metric is than each baseline's.

    A constant answer has exactly the AUC 0.5, and none has an R² above 0.
    """
    label = ours.scorer.label
    own, nothing = shown[label.lead], label.no_skill
    lead = Estimate(
        value=None if own.value is None else own.value - nothing,
        low=None if own.low is None else own.low - nothing,
        high=None if own.high is None else own.high - nothing,
        rows=test_pass.rows,
    )
    constant, fitted = label.baselines
    result = {constant: lead}
    other = test_pass.models.get(fitted)
    if other is not None and not other.problems:
        result[fitted] = differences(ours, other, test_pass, gate)[label.lead]
    return result
