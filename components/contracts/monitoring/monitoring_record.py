"""The record of one monitored window: one typed row, kept in a history. Written by monitor."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from slipway.components.contracts.record import Record

DriftStatus = Literal["drift", "stable", "cannot_tell", "no_data"]
"""cannot_tell: the features that surely changed are not too many, with those in doubt they could be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MLSystemMetrics:
    """How a served model did in one window. None means: could not be measured.

    Attributes:
        timestamp: end of the window, ISO 8601 in UTC.
        model_accuracy: on the rows whose label is known.
        prediction_latency_ms: mean over answered requests.
        throughput_rps: requests a second over the served stretch of the window.
        error_rate: share of requests that were answered with 5xx.
        data_drift_score: share of features that surely changed, 0 to 1; None also where of no feature
            it can be told.
        feature_drift_score: the largest drift of one feature.
    """

    timestamp: str
    model_version: str
    model_accuracy: float | None
    prediction_latency_ms: float | None
    throughput_rps: float | None
    error_rate: float | None
    data_drift_score: float | None
    feature_drift_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert: its rule, how bad, the value against the threshold, and what to do."""

    name: str
    severity: Literal["info", "warning", "critical"]
    value: float | None
    threshold: float | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCounts:
    """The features of a window, by what can be said of them: that no change is seen is not "none"."""

    changed: int
    not_changed: int
    cannot_tell: int

    @property
    def features(self) -> int:
        """All of them."""
        return self.changed + self.not_changed + self.cannot_tell

    @property
    def in_words(self) -> str:
        """Within a sentence: `2 of 16 features changed, of 3 it cannot be told`."""
        nouns = "feature" if self.features == 1 else "features"
        if self.cannot_tell == self.features:
            return f"whether any of {self.features} {nouns} changed cannot be told"
        rest = f", of {self.cannot_tell} it cannot be told" if self.cannot_tell else ""
        return f"{self.changed or 'none'} of {self.features} {nouns} changed{rest}"

    @property
    def in_short(self) -> str:
        """In the cell of a table: `2 of 16`, `2 of 16, 3 ?`, or `cannot tell`."""
        if self.cannot_tell == self.features:
            return "cannot tell"
        rest = f", {self.cannot_tell} ?" if self.cannot_tell else ""
        return f"{self.changed} of {self.features}{rest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringRecord(Record):
    """All that a monitoring run found out about one window.

    `summary` has at least current_accuracy, avg_latency (ms), total_predictions and drift_status.
    """

    ABSENT: ClassVar[str] = "holds no monitoring record"

    model: str
    window: tuple[str, str]
    metrics: MLSystemMetrics
    drift_status: DriftStatus
    summary: dict[str, Any]
    alerts: tuple[Alert, ...]
    retrain: bool
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def drift_counts(self) -> DriftCounts | None:
        """How many features changed, did not, and cannot be told; None: none was compared."""
        features = self.details.get("features")
        if not features:
            return None
        changed = sum(bool(found["drifted"]) for found in features.values())
        unsure = sum(
            bool(found.get("doubt")) and not found["drifted"] for found in features.values()
        )
        return DriftCounts(
            changed=changed, not_changed=len(features) - changed - unsure, cannot_tell=unsure
        )

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        names = ", ".join(alert.name for alert in self.alerts) or "no alerts"
        return f"{self.summary.get('total_predictions', 0):,} predictions, {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainRequest(Record):
    """A request to retrain a model. Monitor writes it; what starts the training updates it.

    Attributes:
        key: the same for the same model version and window: what starts a run for it names the
            run so, and a repeated request starts nothing.
        model_version: the version that is to be replaced.
        window: the window that gave the reasons: names of alerts, or a person's words.
        data_end: train on data before this instant (the window's end).
        status: "requested", "started" (a run has it), "finished" or "failed".
        run: the run that was started for it.
    """

    ABSENT: ClassVar[str] = "holds no request to retrain"
    REMEDY: ClassVar[str] = "Take the file away, or monitor the window again."

    key: str
    model: str
    model_version: str
    window: tuple[str, str]
    reasons: tuple[str, ...]
    data_end: str
    status: Literal["requested", "started", "finished", "failed"] = "requested"
    run: str = ""
