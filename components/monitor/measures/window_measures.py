"""All that is measured in one window of the log, each measure by its own module."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.gate import FairnessRule
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.splits import Part
from slipway.components.monitor import history
from slipway.components.monitor.late import Matured, measure_again
from slipway.components.monitor.measures.drift import DriftResult, compare
from slipway.components.monitor.measures.fairness import (
    WindowFairness,
    logged_columns,
    measure_fairness,
    not_measured,
    read_groups,
)
from slipway.components.monitor.measures.performance import (
    KnownLabels,
    Performance,
    measure,
    read_known_labels,
)
from slipway.components.monitor.measures.scan import FeatureScan, WindowReader
from slipway.components.monitor.measures.sketch import (
    NumericSketch,
    Sketch,
    add_column,
    hours_since_1970,
    new_sketch,
)
from slipway.components.monitor.measures.skew import Skew, measure_skew
from slipway.components.monitor.measures.system import SystemMetrics, measure_system
from slipway.components.monitor.reference import Reference, fetch_reference
from slipway.components.monitor.window import LogWindow, is_answered, main_version
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.pages.digits import counted
from slipway.components.support.stage import part, progress

if TYPE_CHECKING:
    import pyarrow as pa

PREDICTION = ""  # its sketch stands beside those of the features, under a name that none can have


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the window is compared with: sketches by feature, and what they are, for the report."""

    sketches: dict[str, Sketch]
    name: str

    @property
    def rows(self) -> int:
        """Rows of the largest sketch with its nulls: of the data behind them all."""
        return max((s.rows + s.nulls for s in self.sketches.values()), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFindings:
    """The features of a window beside those of its baseline."""

    baseline: Baseline
    result: DriftResult


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionMeasures:
    """What was measured of the model version that answered most rows.

    Attributes:
        matured: earlier windows, measured again with the labels known by now.
        fairness: of each rule that the version was released with.
        skew: None where the project does not ask for it.
        drift: None where the window has too few rows.
    """

    reference: Reference
    performance: Performance
    matured: tuple[Matured, ...]
    fairness: tuple[WindowFairness, ...]
    skew: Skew | None
    scan: FeatureScan
    drift: DriftFindings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowMeasures:
    """What was measured in a window.

    Attributes:
        versions: rows answered by each model version.
        known_by: labels that became known later do not count.
        version: None where no row was predicted.
    """

    log: LogWindow
    versions: dict[str, int]
    system: SystemMetrics
    known_by: datetime
    version: VersionMeasures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSeries:
    """Which predictions are measured, and where their labels stand.

    Attributes:
        model: the registered model's name.
        series: the name of the window's history.
        log_uri: root of the inference log.
        labels: dataset with the examples' table.
        features: the project's `features` section.
    """

    model: str
    series: str
    log_uri: str
    labels: Path
    features: FeaturesConfig


def measure_window(
    of: MeasuredSeries, reader: WindowReader, settings: MonitoringConfig
) -> WindowMeasures:
    """Measures the window of a log.

    Raises:
        SlipwayError: the log, the labels or the reference cannot be read.
    """
    log, window = reader.log, reader.log.window
    answers = reader.answers(of.features.label.kind)
    logged_version, versions = main_version(answers)
    system = measure_system(answers)
    progress(f"{counted(len(log.files), 'log file')}, {system.predictions:,} predictions", 0.1)
    known_by = window.end + settings.label_wait
    measured = None
    if logged_version is not None:
        measured = _measure_version(of, reader, answers, logged_version, known_by, settings)
    return WindowMeasures(
        log=log, versions=versions, system=system, known_by=known_by, version=measured
    )


def _measure_version(
    of: MeasuredSeries,
    reader: WindowReader,
    answers: "pa.Table",
    logged_version: str,
    known_by: datetime,
    settings: MonitoringConfig,
) -> VersionMeasures:
    progress(f"fetching what version {logged_version} is compared with", 0.15)
    log = reader.log
    reference = fetch_reference(of.model, logged_version, reference_part(settings))
    kind, asked = reference.label.kind, of.features.label.kind
    if kind != asked:
        progress(
            f"WARNING: version {logged_version} was trained on a label of kind {kind}, and"
            f" features.label.kind is {asked}: its answers are held against no label"
        )
        answers = reader.answers(kind)
    predicted = _predicted_rows(answers, logged_version)
    progress(f"joining labels to version {logged_version}", 0.2)
    known = read_known_labels(of.labels, of.features, known_by)
    performance = measure(predicted, known, reference.label, reference.errors)
    progress(f"{performance.labelled:,} labels joined", 0.3)
    matured = measure_again(
        environment.monitoring_uri(), of.series, of.model, of.log_uri, log.window, known, settings
    )
    fairness = _measure_fairness(of, reader, predicted, logged_version, reference, known)
    if settings.skew_rows:
        progress("comparing what serving saw with the feature store", 0.35)
    skew = _measure_skew(of, log, logged_version, reference, settings)
    with part(0.4, 0.55):
        scan = reader.scan(
            logged_version, reference, settings.report_rows, total=predicted.num_rows
        )
    drift = None
    if scan.rows >= settings.min_rows:
        scan.sketches[PREDICTION] = _sketch_predictions(predicted, reference)
        scan.seen.add(PREDICTION)
        baseline = _choose_baseline(of.series, reference, log.window, settings)
        result = _measure_drift(scan, baseline, reference, settings)
        drift = DriftFindings(baseline=baseline, result=result)
        progress(f"{len(result.drifted)} of {len(result.features)} features changed", 0.55)
    return VersionMeasures(
        reference=reference,
        performance=performance,
        matured=tuple(matured),
        fairness=fairness,
        skew=skew,
        scan=scan,
        drift=drift,
    )


def _measure_fairness(
    of: MeasuredSeries,
    reader: WindowReader,
    predicted: "pa.Table",
    version: str,
    reference: Reference,
    known: KnownLabels,
) -> tuple[WindowFairness, ...]:
    """The rules of the version's release, asked of the window.

    A column that is gone hides nothing else: the record says so, and no rule counts as held.
    """
    if not reference.fairness:
        return ()
    rules, features = fairness_rules(reference), list(reference.kinds)
    try:
        groups = read_groups(
            of.labels, of.features, rules, features, predicted, lambda: locate(of.model)
        )
    except SlipwayError as error:
        return not_measured(rules, reference.fairness, str(error))
    if logged := logged_columns(rules, features):
        answers = reader.answers(reference.label.kind, logged)
        predicted = _predicted_rows(answers, version)
    return measure_fairness(predicted, known, groups, reference.label, rules, reference.fairness)


def fairness_rules(reference: Reference) -> list[FairnessRule]:
    """The rules that the version was released with."""
    return [FairnessRule.parse(each["rule"], "gate.fairness") for each in reference.fairness]


def _measure_skew(
    of: MeasuredSeries,
    log: LogWindow,
    version: str,
    reference: Reference,
    settings: MonitoringConfig,
) -> Skew | None:
    """What serving saw against the offline store; a store that cannot be read hides nothing else."""
    if not settings.skew_rows:
        return None
    try:
        place = locate(of.model)
        return measure_skew(
            log, version, reference, of.labels, of.features, place, settings.skew_rows
        )
    except SlipwayError as error:
        return Skew(rows=0, features=(), worst=None, note=str(error))


def _predicted_rows(answers: "pa.Table", version: str) -> "pa.Table":
    import pyarrow.compute as pc

    return answers.filter(
        pc.and_(pc.equal(answers["model_version"], version), is_answered(answers))
    )


def _sketch_predictions(predicted: "pa.Table", reference: Reference) -> Sketch:
    name, kind = reference.label.watched
    released = reference.prediction
    sketch = new_sketch(kind, released.edges if isinstance(released, NumericSketch) else None)
    add_column(sketch, predicted[name], kind, hours_since_1970(predicted["time"]))
    return sketch


def reference_part(settings: MonitoringConfig) -> Part:
    """The part of the reference that windows are compared with."""
    return "test" if settings.drift.reference == "test" else "train"


def _choose_baseline(
    series: str, reference: Reference, window: Window, settings: MonitoringConfig
) -> Baseline:
    """The reference of the release, or earlier windows, where the project chose them and has them."""
    released = Baseline(
        sketches={**reference.sketches, PREDICTION: reference.prediction},
        name=f"{reference_part(settings)} part of version {reference.model_version}",
    )
    chosen = settings.drift.reference
    if chosen not in ("rolling", "season"):
        return released
    merged, windows = history.merged_sketches(
        environment.monitoring_uri(),
        series,
        reference.model_version,
        window,
        settings.drift.span,
        settings.drift.season if chosen == "season" else None,
    )
    if set(released.sketches) <= set(merged):
        return Baseline(sketches=merged, name=f"{windows} earlier windows ({chosen})")
    return Baseline(
        sketches=released.sketches,
        name=f"{released.name}: there are no earlier windows to compare with yet",
    )


def _measure_drift(
    scan: FeatureScan, baseline: Baseline, reference: Reference, settings: MonitoringConfig
) -> DriftResult:
    broken = {*scan.missing_columns, *scan.wrong_types}
    kinds = {name: kind for name, kind in reference.kinds.items() if name not in broken}
    return compare(
        baseline.sketches,
        scan.sketches,
        kinds,
        settings.drift,
        prediction=(baseline.sketches[PREDICTION], scan.sketches[PREDICTION]),
    )
