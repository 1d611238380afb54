"""The record of a window: its measures, the alerts that they raise, and whether to retrain."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from slipway.components.config.base import format_instant
from slipway.components.config.data import Window, parse_window
from slipway.components.config.kinds import LabelKind
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.monitoring_record import (
    DriftStatus,
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import to_facts
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.kinds.number import NumberLabel
from slipway.components.monitor import history
from slipway.components.monitor.alerting.alerts import (
    EarlierWindow,
    Findings,
    Judgement,
    judge,
    longest_hold,
)
from slipway.components.monitor.measures.drift import DriftResult
from slipway.components.monitor.measures.performance import Performance
from slipway.components.monitor.measures.scan import FeatureScan
from slipway.components.monitor.measures.skew import Skew
from slipway.components.monitor.measures.system import scrape
from slipway.components.monitor.measures.window_measures import Baseline, WindowMeasures
from slipway.components.monitor.reference import Reference
from slipway.components.monitor.retraining.retrain import decide
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError

_HELD: dict[LabelKind, str] = {
    "binary": "",
    "multiclass": "in their sets",
    "number": "inside their intervals",
}
"""Where labels are to lie, for the alert COVERAGE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    """A window's measures as the record's parts read them. None: could not be measured."""

    measures: WindowMeasures
    counters: dict[str, Any] | None
    settings: MonitoringConfig

    @property
    def reference(self) -> Reference | None:
        return self.measures.version.reference if self.measures.version else None

    @property
    def performance(self) -> Performance | None:
        return self.measures.version.performance if self.measures.version else None

    @property
    def skew(self) -> Skew | None:
        return self.measures.version.skew if self.measures.version else None

    @property
    def scan(self) -> FeatureScan | None:
        return self.measures.version.scan if self.measures.version else None

    @property
    def drift(self) -> DriftResult | None:
        version = self.measures.version
        return version.drift.result if version and version.drift else None

    @property
    def baseline(self) -> Baseline | None:
        version = self.measures.version
        return version.drift.baseline if version and version.drift else None

    @property
    def has_enough_labels(self) -> bool:
        labelled = self.performance.labelled if self.performance else 0
        return labelled >= self.settings.min_rows

    @property
    def accuracy(self) -> float | None:
        return self.performance.accuracy if self.performance and self.has_enough_labels else None

    @property
    def measured(self) -> Performance | None:
        """The performance, where there are enough labels to say something of it."""
        return self.performance if self.has_enough_labels else None

    @property
    def latency_ms(self) -> float | None:
        latency = self.measures.system.latency_ms
        return latency["mean"] if latency else None

    @property
    def schema_breaks(self) -> list[str]:
        if not self.scan:
            return []
        wrong = sorted(self.scan.wrong_types.items())
        return [f"{name} is missing" for name in self.scan.missing_columns] + [
            f"{name} has type {kind}" for name, kind in wrong
        ]

    @property
    def drift_status(self) -> DriftStatus:
        if not self.drift:
            return "no_data"
        limit = self.settings.alerts.drift
        if self.drift.share > limit:
            return "drift"
        return "cannot_tell" if self.drift.share + self.unsure_share > limit else "stable"

    @property
    def drift_share(self) -> float | None:
        """The share of features that changed; None where of none it can be told."""
        if not self.drift or all(f.state == "cannot tell" for f in self.drift.features):
            return None
        return self.drift.share

    @property
    def unsure_share(self) -> float:
        """The share of features of which it cannot be told."""
        if not self.drift or not self.drift.features:
            return 0.0
        return len(self.drift.of("cannot tell")) / len(self.drift.features)


def make_record(
    series: str, window: Window, measures: WindowMeasures, endpoint: str, settings: MonitoringConfig
) -> MonitoringRecord:
    """Judges a window's measures and decides about retraining.

    Args:
        series: the name of the history.
        window: of time.
        measures: what was measured in it.
        endpoint: the predictor's base URL, for its own counters; may be empty.
        settings: the `monitoring` section.

    Raises:
        SlipwayError: the history of earlier windows, or of requests to retrain, cannot be read.
    """
    figures = _Figures(measures=measures, counters=_read_endpoint(endpoint), settings=settings)
    judgement = _judge(series, window, figures)
    version = figures.reference.model_version if figures.reference else ""
    decision = decide(
        environment.monitoring_uri(), series, version, window.texts, judgement.alerts, settings
    )
    return MonitoringRecord(
        model=series,
        window=window.texts,
        metrics=MLSystemMetrics(
            timestamp=format_instant(window.end),
            model_version=version,
            model_accuracy=figures.accuracy,
            prediction_latency_ms=figures.latency_ms,
            throughput_rps=measures.system.throughput_rps,
            error_rate=measures.system.error_rate,
            data_drift_score=figures.drift_share,
            feature_drift_score=figures.drift.largest if figures.drift else None,
        ),
        drift_status=figures.drift_status,
        summary=_summarise(figures),
        alerts=judgement.alerts,
        retrain=decision.retrain,
        details={
            **_describe(figures),
            "holding": list(judgement.holding),
            "unknown": list(judgement.unknown),
            "decision": decision.why,
            "request": decision.request.key if decision.request else None,
        },
    )


def _judge(series: str, window: Window, figures: _Figures) -> Judgement:
    """What the alert rules say, given the windows before."""
    settings = figures.settings
    earlier = history.records(
        environment.monitoring_uri(),
        series,
        before=window.end,
        after=window.end - longest_hold(settings),
    )
    return judge(
        _find(figures),
        settings,
        window,
        [
            EarlierWindow(
                window=parse_window(*record.window), holding=record.details.get("holding", ())
            )
            for record in reversed(earlier)
        ],
    )


def _find(figures: _Figures) -> Findings:
    """What the alert rules look at."""
    drift, skew, limits = figures.drift, figures.skew, figures.settings.alerts
    skewed = sorted(skew.features if skew else (), key=lambda feature: -feature.differ)
    measured, reference = figures.measured, figures.reference
    label = reference.label if reference else None
    return Findings(
        intervals=(measured.intervals or {}) if measured else {},
        coverage=measured.coverage if measured else None,
        level=_level(label),
        held=_HELD[label.kind] if label else "",
        rmse=measured.rmse if measured else None,
        release_rmse=reference.release.get("rmse") if reference else None,
        new_class_rows=_new_class_rows(figures),
        predictions=figures.measures.system.predictions,
        labelled=figures.performance.labelled if figures.performance else 0,
        accuracy=figures.accuracy,
        release_accuracy=figures.reference.release.get("accuracy") if figures.reference else None,
        latency_ms=figures.latency_ms,
        error_rate=figures.measures.system.error_rate,
        drift_share=figures.drift_share,
        unsure_share=figures.unsure_share,
        drifted=tuple(feature.name for feature in drift.drifted) if drift else (),
        prediction_drift=None
        if drift is None or drift.prediction is None or drift.prediction.doubt
        else drift.prediction.reason,
        schema_breaks=tuple(figures.schema_breaks) if drift else None,
        log_dropped_rows=(figures.counters or {}).get("metrics", {}).get("log_dropped_rows"),
        unfair=_unfair(figures),
        skew=skew.worst if skew else None,
        skewed=tuple(feature.name for feature in skewed if feature.differ > limits.skew),
    )


def _level(label: LabelType | None) -> float | None:
    """The share of labels that intervals or sets are to hold; None where there are none."""
    if isinstance(label, NumberLabel | MulticlassLabel):
        return label.level or None
    return None


def _unfair(figures: _Figures) -> tuple[str, ...] | None:
    """The rules of fairness that are surely broken, in words; None where nothing can be said."""
    version = figures.measures.version
    fairness = version.fairness if version else ()
    if broken := tuple(one.text for one in fairness if one.status == "broken"):
        return broken
    told = {one.status for one in fairness}
    return () if "holds" in told and "cannot be told" not in told else None


def _new_class_rows(figures: _Figures) -> int | None:
    """Rows of classes that the model does not know; None where there are no classes to know."""
    if not figures.performance or not figures.reference:
        return None
    several = figures.reference.label.kind == "multiclass"
    return figures.performance.new_class_rows if several else None


def _summarise(figures: _Figures) -> dict[str, object]:
    """The figures that people and the history show first."""
    performance, drift = figures.performance, figures.drift
    measured = figures.measured
    latency = figures.measures.system.latency_ms
    estimate = (performance.estimate or {}) if performance else {}
    of_number = {}
    if figures.reference and figures.reference.label.kind == "number":
        of_number = {
            "rmse": measured.rmse if measured else None,
            "r2": measured.r2 if measured else None,
            "coverage": measured.coverage if measured else None,
            "expected_rmse": estimate.get("rmse"),
        }
    elif measured and measured.set_size is not None:
        of_number = {"coverage": measured.coverage, "set_size": measured.set_size}
    return {
        **of_number,
        "current_accuracy": figures.accuracy,
        "avg_latency": figures.latency_ms,
        "total_predictions": figures.measures.system.predictions,
        "drift_status": figures.drift_status,
        "labelled": performance.labelled if performance else 0,
        "unlabelled_share": performance.unlabelled_share if performance else None,
        "f1": measured.f1 if measured else None,
        "auc": measured.auc if measured else None,
        "expected_accuracy": estimate.get("accuracy"),
        "p95_latency": latency["p95"] if latency else None,
        "p99_latency": latency["p99"] if latency else None,
        "drifted_features": len(drift.drifted) if drift else None,
        "unsure_features": len(drift.of("cannot tell")) if drift else None,
        "skew": figures.skew.worst if figures.skew else None,
    }


def _describe(figures: _Figures) -> dict[str, object]:
    """Everything else that was measured, as JSON values without numbers that are not finite."""
    measures, performance, drift = figures.measures, figures.performance, figures.drift
    scan, baseline = figures.scan, figures.baseline
    matured = measures.version.matured if measures.version else ()
    fairness = [one.to_dict() for one in measures.version.fairness] if measures.version else []
    details: dict[str, object] = _finite(
        {
            **({"fairness": fairness} if fairness else {}),
            "log": measures.log.uri,
            "log_files": len(measures.log.files),
            "versions": measures.versions,
            "system": measures.system.to_dict(),
            "performance": performance.to_dict() if performance else None,
            "min_rows": figures.settings.min_rows,
            "label": to_facts(figures.reference.label) if figures.reference else None,
            "labels_known_by": format_instant(measures.known_by),
            "release": figures.reference.release if figures.reference else None,
            "thresholds": figures.reference.thresholds if figures.reference else {},
            "reference": {"name": baseline.name, "rows": baseline.rows} if baseline else None,
            "features": {f.name: asdict(f) for f in drift.features} if drift else None,
            "prediction": asdict(drift.prediction) if drift and drift.prediction else None,
            "schema_breaks": figures.schema_breaks,
            "sampled_rows": scan.sample.num_rows if scan and scan.sample is not None else 0,
            "endpoint": figures.counters,
            "skew": figures.skew.to_dict() if figures.skew else None,
            "late": [window.to_dict() for window in matured],
        }
    )
    return details


def _read_endpoint(endpoint: str) -> dict[str, object] | None:
    """The predictor's own counters. A predictor that is down must not hide what its log says."""
    if not endpoint:
        return None
    try:
        return {"url": endpoint, "metrics": _finite(scrape(endpoint))}
    except SlipwayError as error:
        return {"url": endpoint, "error": str(error)}


def _finite(value: object) -> Any:
    """JSON values in which a number that is not finite is None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
