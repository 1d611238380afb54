"""What a window comes to, in words: the sentence on top, and each alert's amounts."""

from dataclasses import dataclass
from typing import Any

from slipway.components.config.kinds import LOWER_IS_BETTER, METRICS, asked_bound, metric_name
from slipway.components.config.monitoring import AlertName
from slipway.components.contracts.monitoring.monitoring_record import Alert, MonitoringRecord
from slipway.components.support.pages import digits

UNITS: dict[AlertName, str] = {
    "NO_DATA": "predictions",
    "LOW_ACCURACY": "",
    "ACCURACY_DROP": "",
    "COVERAGE": "%",
    "ERROR_RISE": "%",
    "NEW_CLASS": "labels",
    "HIGH_ERROR_RATE": "% of the requests",
    "HIGH_LATENCY": "ms",
    "DATA_DRIFT": "% of the features",
    "SCHEMA_BREAK": "columns",
    "PREDICTION_DRIFT": "yes or no",
    "FEATURE_DRIFT": "features",
    "SKEW": "% of the rows",
    "LOG_ROWS_LOST": "rows",
    "FAIRNESS": "rules",
}
"""What an alert's value and limit are counted in."""


def show_amount(alert: Alert, value: float | None) -> str:
    """An alert's value or limit with its unit."""
    unit = UNITS.get(alert.name, "")  # type: ignore[call-overload]
    if value is None:
        return digits.NONE
    if unit == "yes or no":
        return "changed" if value else "unchanged"
    if unit.startswith("%"):
        return f"{digits.share(value)}{unit[1:]}"
    return f"{digits.number(value)} {unit.removesuffix('s') if value == 1 else unit}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """A metric of the window beside what it was at release.

    Attributes:
        worse, better: whether its interval lies wholly on that side of the value at release.
        beyond: whether the value does not hold the bound that the gate had on it.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    release: float | None
    bound: float | None
    expected: float | None
    off: float | None
    worse: bool
    better: bool
    beyond: bool

    @property
    def places(self) -> int:
        """Decimals that its interval bears."""
        low, high = self.interval or (None, None)
        return digits.decimals_of(low, high, self.value, self.release)

    @property
    def said(self) -> str:
        """The metric's name for people."""
        return metric_name(self.name)

    @property
    def state(self) -> str:
        """Of the palette, what the metric calls for; empty: nothing."""
        return "bad" if self.worse else "warn" if self.beyond else ""


_NEITHER = ("interval_width", "set_size")
"""A width or a size is neither good nor bad: what it holds is."""


def compare_metrics(details: dict[str, Any]) -> list[MetricRow]:
    """The metrics of a record's details that were measured, in the order that they are shown."""
    performance = details["performance"] or {}
    kind = (details["label"] or {}).get("kind", "binary")
    rows = []
    # Sets of classes and costs are measured where the project asks for them.
    for name in dict.fromkeys((*METRICS[kind], "coverage", "set_size", "expected_cost")):
        value = performance.get(name)
        if value is None:
            continue
        interval = (performance.get("intervals") or {}).get(name)
        release = (details["release"] or {}).get(name)
        bound = asked_bound(name, details.get("thresholds", {}).get(name))
        low, high = interval or (value, value)
        lower = name in LOWER_IS_BETTER
        judged = interval is not None and release is not None and name not in _NEITHER
        rows.append(
            MetricRow(
                name=name,
                value=value,
                interval=interval,
                release=release,
                bound=bound,
                expected=(performance.get("estimate") or {}).get(name),
                off=(performance.get("estimate_error") or {}).get(name),
                worse=judged and (low > release if lower else high < release),
                better=judged and (high < release if lower else low > release),
                beyond=bound is not None and (value > bound if lower else value < bound),
            )
        )
    return rows


_TILES = 3


def pick_tiles(rows: list[MetricRow]) -> list[MetricRow]:
    """The metrics that are seen first: the kind's own, and each that is worse or beyond its bound.

    What the sentence on top blames is never hidden in the table below.
    """
    return [row for place, row in enumerate(rows) if place < _TILES or row.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the page begins with: `state` of the palette, a word, and the sentence."""

    state: str
    word: str
    sentence: str


def conclude(record: MonitoringRecord) -> Conclusion:
    """One sentence of what was measured, what fires, and what follows: all that the page shows agrees."""
    rows, drift = compare_metrics(record.details), record.drift_counts
    critical = [alert.name for alert in record.alerts if alert.severity == "critical"]
    worse = [row.said for row in rows if row.worse]
    beyond = [row.said for row in rows if row.beyond and not row.worse]
    others = [alert.name for alert in record.alerts if alert.severity == "warning"]
    if critical or record.retrain:
        state, word = "bad", "Act"
    elif worse or beyond or others or (drift and drift.changed):
        state, word = "warn", "Look"
    elif drift is None or drift.cannot_tell:
        state, word = "unknown", "Cannot tell"
    else:
        state, word = "good", "All well"
    parts = []
    # Why to act: the limit of an alert may lie above what was released, which no comparison says.
    told = [
        alert.message.partition(". ")[0].rstrip(".")
        for alert in record.alerts
        if alert.name in critical
    ]
    if worse:
        parts.append(f"{_listed(worse)} {_is(worse)} worse than at release")
    if beyond:
        parts.append(f"{_listed(beyond)} {_is(beyond)} beyond the gate's bound")
    if rows and not worse and not beyond:
        parts.append("no metric is worse than at release")
    if not rows:
        parts.append("no label is known yet")
    parts.append(
        "too few predictions to say anything of drift" if drift is None else drift.in_words
    )
    fired = [alert.name for alert in record.alerts]
    parts.append(f"alerts: {', '.join(fired)}" if fired else "no alert")
    parts.append("retraining is asked for" if record.retrain else "the model is kept")
    sentence = "; ".join(parts)
    return Conclusion(
        state=state,
        word=word,
        sentence=" ".join(f"{said[:1].upper()}{said[1:]}." for said in (*told, sentence)),
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
