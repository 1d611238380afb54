"""The work of monitor: one window of the inference log against what the model was released with."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.features import FeaturesConfig
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.monitoring_record import (
    DriftStatus,
    MLSystemMetrics,
    MonitoringRecord,
    write_monitoring_record,
)
from slipway.components.contracts.splits import Part
from slipway.components.monitor import history
from slipway.components.monitor.alerting.alerts import Findings, Held, judge, longest
from slipway.components.monitor.alerting.routes import notify
from slipway.components.monitor.late import Matured, log_matured, measure_again
from slipway.components.monitor.measures.drift import DriftResult, compare
from slipway.components.monitor.measures.performance import Performance, label_table, measure
from slipway.components.monitor.measures.sketch import (
    NumericSketch,
    Sketch,
    hours_since_1970,
    numbers,
)
from slipway.components.monitor.measures.skew import Skew, measure_skew
from slipway.components.monitor.measures.system import SystemMetrics, measure_system, scrape
from slipway.components.monitor.reference import Reference, fetch_reference
from slipway.components.monitor.report import evidently_page, finite, write_report
from slipway.components.monitor.retraining.retrain import decide
from slipway.components.monitor.tracking import log_series
from slipway.components.monitor.window import (
    FeatureScan,
    LogWindow,
    main_version,
    open_window,
    read_answers,
    scan_features,
)
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress, stage

Decision = Literal["retrain", "keep"]
PREDICTION = ""  # its sketch stands beside those of the features, under a name that none can have


@dataclass(frozen=True, slots=True)
class Result:
    """What the face hands on: the record and the decision."""

    record: MonitoringRecord

    @property
    def decision(self) -> Decision:
        """Whether the training pipeline should run."""
        return "retrain" if self.record.retrain else "keep"

    @property
    def numbers(self) -> dict[str, float]:
        """The window's finite numbers, as MLflow and the Kubeflow UI show them."""
        return window_numbers(self.record)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return self.record.headline

    def metadata(self) -> dict[str, Any]:
        """What the KFP artifact shows."""
        return {
            "model": self.record.model,
            "model_version": self.record.metrics.model_version,
            "window_start": self.record.window[0],
            "window_end": self.record.window[1],
            "drift_status": self.record.drift_status,
            "alerts": [alert.name for alert in self.record.alerts],
            "retrain": self.record.retrain,
            **{k: v for k, v in self.record.summary.items() if v is not None},
        }


@stage("monitor")
def monitor_window(
    *,
    labels: Path,
    project: str,
    config: dict[str, Any],
    features: dict[str, Any],
    window_start: str,
    window_end: str,
    endpoint: str,
    record: Path,
    report: Path,
    log_uri: str = "",
    series: str = "",
) -> Result:
    """Measures one window and writes its record, its report and its row of the history.

    A window that is run again gives the same record and replaces its row.

    Args:
        labels: dataset with the examples' table, in which late labels are looked up.
        project: the registered model's name.
        config: the project's `monitoring` section.
        features: its `features` section.
        window_start: first instant of the window.
        window_end: first instant after it.
        endpoint: the predictor's base URL, or "": then only the log is read.
        record: where the MonitoringRecord goes.
        report: where the HTML page goes.
        log_uri: root of the log; empty: INFERENCE_LOG_URI.
        series: the name that the window's record, history and alerts have; empty: the project's.
            Predictions of a table are another series than those of an endpoint.

    Raises:
        SlipwayError: the window is empty of time, the log, labels or reference cannot be read. Too
            few predictions are no error: the record says so.
    """
    settings = MonitoringConfig.model_validate(config)
    shapes = FeaturesConfig.model_validate(features)
    start, end = _window(window_start, window_end)
    series = series or project
    log_uri = log_uri or environment.inference_log_uri()
    log = open_window(log_uri, project, start, end)
    answers = read_answers(log)
    logged_version, versions = main_version(answers)
    system = measure_system(answers)
    progress(f"{len(log.files)} log files, {system.predictions:,} predictions", 0.2)

    reference, scan, drift, performance, against, skew = None, None, None, None, None, None
    matured: list[Matured] = []
    known_by = end + settings.label_wait
    if logged_version is not None:
        reference = fetch_reference(project, logged_version, _part(settings))
        predicted = _predicted(answers, logged_version)
        known = label_table(labels, shapes, known_by)
        performance = measure(predicted, known)
        progress(f"{performance.labelled:,} labels joined", 0.4)
        root = environment.monitoring_uri()
        matured = measure_again(root, series, project, log_uri, (start, end), known, settings)
        skew = _skew(log, logged_version, reference, labels, shapes, project, settings)
        scan = scan_features(log, logged_version, reference, settings.report_rows)
        if scan.rows >= settings.min_rows:
            probability = NumericSketch.empty(reference.probability.edges)
            probability.add(
                numbers(predicted["probability"], "numeric"), hours_since_1970(predicted["time"])
            )
            scan.sketches[PREDICTION] = probability
            against = _against(series, reference, (start, end), settings)
            drift = _drift(scan, against, reference, settings)
            progress(f"{len(drift.drifted)} of {len(drift.features)} features drifted", 0.6)

    details = _details(
        log=log,
        versions=versions,
        system=system,
        performance=performance,
        drift=drift,
        reference=reference,
        against=against,
        scan=scan,
        known_by=known_by,
        endpoint=endpoint,
    )
    details["skew"] = finite(skew.to_dict()) if skew else None
    details["late"] = finite([window.to_dict() for window in matured])
    found = _record(series, (start, end), system, performance, drift, reference, details, settings)
    if drift and scan and reference:
        history.append_sketches(
            environment.monitoring_uri(),
            series,
            found.window,
            reference.model_version,
            scan.sketches,
        )
    page = None
    if drift and scan and scan.sample is not None and reference:
        progress("Evidently renders a sample", 0.7)
        page = evidently_page(reference, scan.sample, settings, settings.report_rows)
    write_report(
        report,
        found,
        drift,
        against.sketches if against else {},
        scan.sketches if scan else {},
        page,
    )
    log_series(series, found.metrics.timestamp, window_numbers(found))
    log_matured(series, matured)
    history.append(environment.monitoring_uri(), found)
    for alert in found.alerts:
        progress(f"{alert.severity.upper()} {alert.name}: {alert.message}")
    write_monitoring_record(record, found)
    for failure in notify(environment.monitoring_uri(), found, settings, report):
        progress(failure)
    return Result(found)


def window_numbers(record: MonitoringRecord) -> dict[str, float]:
    """The finite numbers of a record, flat, by name."""
    values: dict[str, Any] = {**asdict(record.metrics), **record.summary}
    values["alerts"] = len(record.alerts)
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _window(window_start: str, window_end: str) -> tuple[datetime, datetime]:
    try:
        start, end = parse_instant(window_start), parse_instant(window_end)
    except ValueError as error:
        raise SlipwayError(
            f"The window '{window_start}' to '{window_end}' is not two ISO 8601 times: {error}."
        ) from error
    if start >= end:
        raise SlipwayError(f"The window is empty: {window_start} is not before {window_end}.")
    return start, end


def _skew(
    log: LogWindow,
    version: str,
    reference: Reference,
    labels: Path,
    features: FeaturesConfig,
    project: str,
    settings: MonitoringConfig,
) -> Skew | None:
    """What serving saw against the offline store; a store that cannot be read hides nothing else."""
    if not settings.skew_rows:
        return None
    try:
        place = locate(project)
        return measure_skew(log, version, reference, labels, features, place, settings.skew_rows)
    except SlipwayError as error:
        return Skew(rows=0, features=(), worst=None, note=str(error))


def _predicted(answers: Any, version: str) -> Any:
    import pyarrow.compute as pc

    return answers.filter(
        pc.and_(pc.equal(answers["model_version"], version), pc.is_valid(answers["probability"]))
    )


@dataclass(frozen=True, slots=True)
class Against:
    """What the window is compared with: sketches by feature, and what they are, for the report."""

    sketches: dict[str, Sketch]
    name: str

    @property
    def rows(self) -> int:
        """Rows of the largest sketch with its nulls: of the data behind them all."""
        return max((s.rows + s.nulls for s in self.sketches.values()), default=0)


def _part(settings: MonitoringConfig) -> Part:
    return "test" if settings.drift.reference == "test" else "train"


def _against(
    project: str,
    reference: Reference,
    window: tuple[datetime, datetime],
    settings: MonitoringConfig,
) -> Against:
    """The reference of the release, or earlier windows, where the project chose them and has them."""
    kept = Against(
        {**reference.sketches, PREDICTION: reference.probability},
        f"{_part(settings)} part of version {reference.model_version}",
    )
    chosen = settings.drift.reference
    if chosen not in ("rolling", "season"):
        return kept
    merged, windows = history.merged_sketches(
        environment.monitoring_uri(),
        project,
        reference.model_version,
        window,
        settings.drift.span,
        settings.drift.season if chosen == "season" else None,
    )
    if set(kept.sketches) <= set(merged):
        return Against(merged, f"{windows} earlier windows ({chosen})")
    return Against(kept.sketches, f"{kept.name}: there are no earlier windows to compare with yet")


def _drift(
    scan: FeatureScan, against: Against, reference: Reference, settings: MonitoringConfig
) -> DriftResult:
    broken = {*scan.missing_columns, *scan.wrong_types}
    kinds = {name: kind for name, kind in reference.kinds.items() if name not in broken}
    return compare(
        against.sketches,
        scan.sketches,
        kinds,
        settings.drift,
        prediction=(against.sketches[PREDICTION], scan.sketches[PREDICTION]),
    )


def _details(
    *,
    log: LogWindow,
    versions: dict[str, int],
    system: SystemMetrics,
    performance: Performance | None,
    drift: DriftResult | None,
    reference: Reference | None,
    against: Against | None,
    scan: FeatureScan | None,
    known_by: datetime,
    endpoint: str,
) -> dict[str, Any]:
    breaks = []
    if scan:
        breaks += [f"{name} is missing" for name in scan.missing_columns]
        breaks += [f"{name} has type {kind}" for name, kind in sorted(scan.wrong_types.items())]
    details: dict[str, Any] = {
        "log": log.uri,
        "log_files": len(log.files),
        "versions": versions,
        "system": system.to_dict(),
        "performance": performance.to_dict() if performance else None,
        "labels_known_by": format_instant(known_by),
        "release": reference.release if reference else None,
        "reference": {"name": against.name, "rows": against.rows} if against else None,
        "features": {f.name: asdict(f) for f in drift.features} if drift else None,
        "prediction": asdict(drift.prediction) if drift and drift.prediction else None,
        "schema_breaks": breaks,
        "sampled_rows": scan.sample.num_rows if scan and scan.sample is not None else 0,
        "endpoint": _endpoint(endpoint),
    }
    cleaned: dict[str, Any] = finite(details)
    return cleaned


def _endpoint(endpoint: str) -> dict[str, Any] | None:
    """The predictor's own counters. A predictor that is down must not hide what its log says."""
    if not endpoint:
        return None
    try:
        return {"url": endpoint, "metrics": scrape(endpoint)}
    except SlipwayError as error:
        return {"url": endpoint, "error": str(error)}


def _record(
    project: str,
    window: tuple[datetime, datetime],
    system: SystemMetrics,
    performance: Performance | None,
    drift: DriftResult | None,
    reference: Reference | None,
    details: dict[str, Any],
    settings: MonitoringConfig,
) -> MonitoringRecord:
    enough = performance is not None and performance.labelled >= settings.min_rows
    accuracy = performance.accuracy if performance and enough else None
    latency = system.latency_ms["mean"] if system.latency_ms else None
    status: DriftStatus = "no_data"
    if drift:
        status = "drift" if drift.share > settings.alerts.drift else "stable"
    counters = (details["endpoint"] or {}).get("metrics", {})
    earlier = history.records(
        environment.monitoring_uri(), project, before=window[1], after=window[1] - longest(settings)
    )
    judgement = judge(
        Findings(
            predictions=system.predictions,
            labelled=performance.labelled if performance else 0,
            accuracy=accuracy,
            release_accuracy=reference.release.get("accuracy") if reference else None,
            latency_ms=latency,
            error_rate=system.error_rate,
            drift_share=drift.share if drift else None,
            drifted=tuple(f.name for f in drift.drifted) if drift else (),
            prediction_drift=drift.prediction.reason if drift and drift.prediction else None,
            schema_breaks=tuple(details["schema_breaks"]) if drift else None,
            log_dropped_rows=counters.get("log_dropped_rows"),
            skew=(details["skew"] or {}).get("worst"),
            skewed=tuple(
                f["name"]
                for f in sorted(
                    (details["skew"] or {}).get("features", ()), key=lambda f: -f["differ"]
                )
                if f["differ"] > settings.alerts.skew
            ),
        ),
        settings,
        window,
        [
            Held(
                start=parse_instant(r.window[0]),
                end=parse_instant(r.window[1]),
                names=r.details.get("holding", ()),
            )
            for r in reversed(earlier)
        ],
    )
    alerts = judgement.alerts
    details["holding"], details["unknown"] = list(judgement.holding), list(judgement.unknown)
    ends = (format_instant(window[0]), format_instant(window[1]))
    version = reference.model_version if reference else ""
    decision = decide(environment.monitoring_uri(), project, version, ends, alerts, settings)
    details["decision"] = decision.why
    details["request"] = decision.request.key if decision.request else None
    estimate = (performance.estimate or {}) if performance else {}
    return MonitoringRecord(
        model=project,
        window=ends,
        metrics=MLSystemMetrics(
            timestamp=format_instant(window[1]),
            model_version=version,
            model_accuracy=accuracy,
            prediction_latency_ms=latency,
            throughput_rps=system.throughput_rps,
            error_rate=system.error_rate,
            data_drift_score=drift.share if drift else None,
            feature_drift_score=drift.largest if drift else None,
        ),
        drift_status=status,
        summary={
            "current_accuracy": accuracy,
            "avg_latency": latency,
            "total_predictions": system.predictions,
            "drift_status": status,
            "labelled": performance.labelled if performance else 0,
            "unlabelled_share": performance.unlabelled_share if performance else None,
            "f1": performance.f1 if performance and enough else None,
            "auc": performance.auc if performance and enough else None,
            "expected_accuracy": estimate.get("accuracy"),
            "p95_latency": system.latency_ms["p95"] if system.latency_ms else None,
            "p99_latency": system.latency_ms["p99"] if system.latency_ms else None,
            "drifted_features": len(drift.drifted) if drift else None,
            "skew": (details["skew"] or {}).get("worst"),
        },
        alerts=alerts,
        retrain=decision.retrain,
        details=details,
    )
