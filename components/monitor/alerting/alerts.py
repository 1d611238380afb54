"""Rules: which findings of a window are alerts, how severe, and what to do about each."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from slipway.components.config.data import Window
from slipway.components.config.monitoring import (
    AlertName,
    AlertThresholds,
    MonitoringConfig,
    RuleSettings,
    Severity,
)
from slipway.components.contracts.monitoring.monitoring_record import Alert
from slipway.components.support.pages.digits import counted

NAMED = 3
"""Features that a message names: more are a wall of text in a terminal or a chat; the report has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the rules look at. None: it could not be measured, so its rule stays silent."""

    predictions: int
    labelled: int
    accuracy: float | None = None
    release_accuracy: float | None = None
    coverage: float | None = None
    level: float | None = None
    held: str = "inside their intervals"
    rmse: float | None = None
    release_rmse: float | None = None
    new_class_rows: int | None = None
    unfair: tuple[str, ...] | None = None
    latency_ms: float | None = None
    error_rate: float | None = None
    drift_share: float | None = None
    unsure_share: float = 0.0
    """Of the features of which it cannot be told."""
    drifted: tuple[str, ...] = ()
    prediction_drift: str | None = None
    schema_breaks: tuple[str, ...] | None = None
    log_dropped_rows: float | None = None
    skew: float | None = None
    skewed: tuple[str, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals of what the labels say, by metric."""

    def best(self, metric: str, value: float, *, highest: bool) -> float:
        """The end of a metric's interval that speaks most for the model; its value, where it has none."""
        low, high = self.intervals.get(metric, (value, value))
        return high if highest else low

    @property
    def labels(self) -> str:
        """How many labels there are, for a message."""
        return counted(self.labelled, "label")

    @property
    def moved(self) -> str:
        """The drifted features for a message: how many, the first few by name, the others by number."""
        more = len(self.drifted) - NAMED
        named = ", ".join(self.drifted[:NAMED]) + (f" and {more} more" if more > 0 else "")
        if len(self.drifted) == 1:
            return f"1 feature drifted: {named}"
        return f"{len(self.drifted)} features drifted, the most first: {named}"

    @property
    def unequal(self) -> str:
        """The skewed features for a message, the worst first."""
        more = len(self.skewed) - NAMED
        return ", ".join(self.skewed[:NAMED]) + (f" and {more} more" if more > 0 else "")

    @property
    def apart(self) -> str:
        """The broken rules of fairness for a message."""
        return "; ".join(self.unfair or ())

    @property
    def broken(self) -> str:
        """The schema breaks for a message."""
        return ", ".join(self.schema_breaks or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One alert: fires where `value` is beyond `threshold`, and surely so.

    `value` gives None where there is nothing to judge. `best` gives what it would be at the end of its
    interval that speaks most for the model: where that is not beyond the threshold, few labels cannot
    tell. `text` is a message with {value}, {threshold} and {findings}, and {count}, the value as so many
    of `noun`; `action` says what to do.
    """

    name: AlertName
    severity: Severity
    value: Callable[[Findings], float | None]
    threshold: float
    below: bool = False
    text: str
    action: str
    noun: str = ""
    best: Callable[[Findings], float | None] | None = None

    def _is_beyond(self, value: float) -> bool:
        return value < self.threshold if self.below else value > self.threshold

    def is_unsure(self, findings: Findings) -> bool:
        """Whether nothing can be said: there is no value, or its interval holds the threshold."""
        value = self.value(findings)
        if value is None:
            return True
        best = self.best(findings) if self.best else None
        return best is not None and self._is_beyond(value) and not self._is_beyond(best)

    def judge(self, findings: Findings) -> Alert | None:
        """The alert, where the rule fires."""
        value = self.value(findings)
        if value is None or not self._is_beyond(value) or self.is_unsure(findings):
            return None
        count = counted(int(value), self.noun) if self.noun else ""
        message = self.text.format(
            value=value, threshold=self.threshold, findings=findings, count=count
        )
        return Alert(
            name=self.name,
            severity=self.severity,
            value=value,
            threshold=self.threshold,
            message=f"{message} {self.action}",
        )


def rules(config: MonitoringConfig) -> tuple[AlertRule, ...]:
    """The rules of a project, the most severe first."""
    limits = config.alerts
    return (
        _no_data_rule(config.min_rows),
        *_accuracy_rules(limits),
        *_number_rules(limits),
        _new_class_rule(),
        _fairness_rule(),
        *_service_rules(limits),
        *_drift_rules(limits),
        *_log_rules(limits),
    )


def _no_data_rule(min_rows: int) -> AlertRule:
    return AlertRule(
        name="NO_DATA",
        severity="critical",
        value=lambda found: float(found.predictions),
        threshold=float(min_rows),
        below=True,
        noun="prediction",
        text="Only {count} in the window, fewer than {threshold:.0f}: drift and"
        " accuracy are unknown.",
        action="Check that the endpoint gets requests and that its inference log is written.",
    )


def _accuracy_rules(limits: AlertThresholds) -> tuple[AlertRule, ...]:
    """What late labels say."""

    def best(found: Findings) -> float | None:
        if found.accuracy is None:
            return None
        return found.best("accuracy", found.accuracy, highest=True)

    def drop(accuracy: float | None, release: float | None) -> float | None:
        return None if accuracy is None or release is None else release - accuracy

    return (
        AlertRule(
            name="LOW_ACCURACY",
            severity="critical",
            value=lambda found: found.accuracy,
            best=best,
            threshold=limits.accuracy,
            below=True,
            text="Accuracy is {value:.4f} on {findings.labels}, below {threshold:g}.",
            action="Look at the drifted features in the report, then retrain or roll back.",
        ),
        AlertRule(
            name="ACCURACY_DROP",
            severity="critical",
            value=lambda found: drop(found.accuracy, found.release_accuracy),
            best=lambda found: drop(best(found), found.release_accuracy),
            threshold=limits.accuracy_drop,
            text="Accuracy fell by {value:.4f} since the release ({findings.release_accuracy:.4f} to"
            " {findings.accuracy:.4f}), more than {threshold:g}.",
            action="The model has aged: retrain on newer data.",
        ),
    )


def _number_rules(limits: AlertThresholds) -> tuple[AlertRule, ...]:
    """What late labels say of a number's answers, and of sets of classes."""

    def shortfall(found: Findings, *, best: bool = False) -> float | None:
        if found.coverage is None or found.level is None:
            return None
        held = found.best("coverage", found.coverage, highest=True) if best else found.coverage
        return found.level - held

    def rise(found: Findings, *, best: bool = False) -> float | None:
        if found.rmse is None or not found.release_rmse:
            return None
        error = found.best("rmse", found.rmse, highest=False) if best else found.rmse
        return error / found.release_rmse - 1

    return (
        AlertRule(
            name="COVERAGE",
            severity="critical",
            value=shortfall,
            best=partial(shortfall, best=True),
            threshold=limits.coverage,
            text="{findings.coverage:.1%} of {findings.labels} lie {findings.held},"
            " which are to hold {findings.level:.0%}: {value:.1%} short, more than {threshold:.1%}.",
            action="The model is surer than it may be: retrain on newer data.",
        ),
        AlertRule(
            name="ERROR_RISE",
            severity="critical",
            value=rise,
            best=partial(rise, best=True),
            threshold=limits.error_rise,
            text="The RMSE grew by {value:.1%} since the release ({findings.release_rmse:.5g} to"
            " {findings.rmse:.5g}), more than {threshold:.1%}.",
            action="The model has aged: retrain on newer data.",
        ),
    )


def _new_class_rule() -> AlertRule:
    return AlertRule(
        name="NEW_CLASS",
        severity="warning",
        value=lambda found: None if found.new_class_rows is None else float(found.new_class_rows),
        threshold=0.0,
        noun="label",
        text="The model does not know the class of {count}, which no metric counts.",
        action="Train it on data that has the class, or set features.label.merge_rare.",
    )


def _fairness_rule() -> AlertRule:
    return AlertRule(
        name="FAIRNESS",
        severity="critical",
        value=lambda found: None if found.unfair is None else float(len(found.unfair)),
        threshold=0.0,
        text="Groups lie farther apart than the gate let this version's: {findings.apart}.",
        action="See the groups in the report; train on newer data of the group that fell behind, or roll"
        " back.",
    )


def _service_rules(limits: AlertThresholds) -> tuple[AlertRule, ...]:
    """How requests were answered."""
    return (
        AlertRule(
            name="HIGH_ERROR_RATE",
            severity="critical",
            value=lambda found: found.error_rate,
            threshold=limits.error_rate,
            text="{value:.2%} of the requests failed with 5xx, more than {threshold:.2%}.",
            action="Read the predictor's log; roll back if it began with a release.",
        ),
        AlertRule(
            name="HIGH_LATENCY",
            severity="warning",
            value=lambda found: found.latency_ms,
            threshold=limits.latency_ms,
            text="Requests took {value:.1f} ms on average, more than {threshold:g} ms.",
            action="Look at the p99 and the load of the replicas; add replicas or CPU.",
        ),
    )


def _drift_rules(limits: AlertThresholds) -> tuple[AlertRule, ...]:
    """What the data and the predictions say, before labels are known."""

    def share(found: Findings) -> float | None:
        """None where the features in doubt could make the drifted ones more than the limit."""
        known = found.drift_share
        unsure = known is None or known <= limits.drift < known + found.unsure_share
        return None if unsure else known

    def number(found: Findings) -> float | None:
        """None where none is seen to have drifted, and one in doubt may have."""
        unsure = found.drift_share is None or (found.unsure_share and not found.drifted)
        return None if unsure else float(len(found.drifted))

    return (
        AlertRule(
            name="DATA_DRIFT",
            severity="critical",
            value=share,
            threshold=limits.drift,
            text="{value:.1%} of the features drifted, more than {threshold:.1%}.",
            action="The data is no longer what the model was trained on: retrain, and check the sources.",
        ),
        AlertRule(
            name="SCHEMA_BREAK",
            severity="critical",
            value=lambda found: (
                None if found.schema_breaks is None else float(len(found.schema_breaks))
            ),
            threshold=0.0,
            text="The log's schema broke: {findings.broken}.",
            action="The caller or the predictor changed: deploy a matching pair.",
        ),
        AlertRule(
            name="PREDICTION_DRIFT",
            severity="warning",
            value=lambda found: (
                None if found.prediction_drift is None else float(bool(found.prediction_drift))
            ),
            threshold=0.0,
            text="The answers drifted: {findings.prediction_drift}.",
            action="If labels are late, this is the earliest sign of decay: watch the accuracy.",
        ),
        AlertRule(
            name="FEATURE_DRIFT",
            severity="info",
            value=number,
            threshold=0.0,
            text="{findings.moved}.",
            action="Check their sources if the change was not expected.",
        ),
    )


def _log_rules(limits: AlertThresholds) -> tuple[AlertRule, ...]:
    """What the log says of the data path."""
    return (
        AlertRule(
            name="SKEW",
            severity="warning",
            value=lambda found: found.skew,
            threshold=limits.skew,
            text="In up to {value:.1%} of the sampled rows serving saw another value than the offline"
            " store has for that moment: {findings.unequal}.",
            action="The online store is stale, or the caller computes a feature its own way.",
        ),
        AlertRule(
            name="LOG_ROWS_LOST",
            severity="warning",
            value=lambda found: found.log_dropped_rows,
            threshold=0.0,
            noun="row",
            text="The predictor lost {count} of its inference log since it started.",
            action="The log's store is slow or full: see its metrics and free space.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the rules say of a window.

    Attributes:
        alerts: what fires.
        holding: the rules beyond their thresholds, also those that do not fire yet because they must
            hold for longer.
        unknown: the rules without a value, and those whose value's interval holds the threshold: whether
            their alerts are over cannot be said.
    """

    alerts: tuple[Alert, ...]
    holding: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierWindow:
    """An earlier window, and the names of the rules that were beyond their thresholds in it."""

    window: Window
    holding: Collection[str]


def longest_hold(config: MonitoringConfig) -> timedelta:
    """How far back `judge` needs to know what held."""
    return max((rule.lasting for rule in config.rules.values()), default=timedelta(0))


def judge(
    findings: Findings,
    config: MonitoringConfig,
    window: Window,
    earlier: Sequence[EarlierWindow] = (),
) -> Judgement:
    """Judges a window.

    Args:
        findings: what the window showed.
        config: thresholds, and how each rule behaves.
        window: of time.
        earlier: the windows that ended before it, the latest first.
    """
    alerts, holding, unknown = [], [], []
    for rule in rules(config):
        settings = config.rules.get(rule.name, RuleSettings())
        if not settings.enabled:
            continue
        if rule.is_unsure(findings):
            unknown.append(rule.name)
        alert = rule.judge(findings)
        if alert is None:
            continue
        holding.append(alert.name)
        if window.end - _since(alert.name, window.start, earlier) >= settings.lasting:
            alerts.append(replace(alert, severity=settings.severity or alert.severity))
    return Judgement(alerts=tuple(alerts), holding=tuple(holding), unknown=tuple(unknown))


def _since(name: str, start: datetime, earlier: Sequence[EarlierWindow]) -> datetime:
    """Since when a rule has held: a window in which it did not, or a gap between windows, ends it."""
    for before in earlier:
        if name not in before.holding or before.window.end < start:
            break
        start = min(start, before.window.start)
    return start
