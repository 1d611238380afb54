"""What a person should know of the settings around a verdict; it decides nothing."""

import math
from collections.abc import Mapping

from slipway.components.config.gate import LOWER_IS_BETTER, Bound, GateConfig
from slipway.components.config.monitoring import MonitoringConfig, RuleSettings


def advise(
    gate: GateConfig,
    monitoring: MonitoringConfig | None,
    metrics: Mapping[str, float | None],
    *,
    rows: int,
    positives: int,
) -> list[str]:
    """Settings that do not fit what was measured, each in a sentence with the value to set.

    Args:
        gate: the project's `gate` section.
        monitoring: its `monitoring` section; None: the model is not going to be monitored.
        metrics: of the model, on the test part.
        rows: test rows.
        positives: those with label 1.
    """
    advice = _reached_by_constants(gate, rows, positives)
    return advice + (_fires_at_once(monitoring, metrics) if monitoring else [])


def _reached_by_constants(gate: GateConfig, rows: int, positives: int) -> list[str]:
    """Bounds that an answer holds which never looks at a row."""
    if not 0 < positives < rows:
        return []
    asked = {
        "gate.accuracy": ("accuracy", Bound(min=gate.accuracy)),
        "gate.f1": ("f1", Bound(min=gate.f1)),
        "gate.auc": ("auc", Bound(min=gate.auc)),
        **{f"gate.metrics.{name}": (name, bound) for name, bound in gate.metrics.items()},
    }
    reached = constants(positives / rows)
    advice = []
    for setting, (metric, bound) in asked.items():
        value, answer = reached.get(metric, (math.nan, ""))
        lower = metric in LOWER_IS_BETTER
        limit = bound.max if lower else bound.min  # a least value of 0 asks for nothing, on purpose
        if not limit or not (value <= limit if lower else value >= limit):
            continue
        advice.append(
            f"{setting} is {limit:g}, which {answer} reaches too, with {value:.4f} on the test part:"
            f" the rule keeps no model back. Set it {'below' if lower else 'above'} {value:.4f}, or"
            " rely on the other rules."
        )
    return advice


def constants(rate: float) -> dict[str, tuple[float, str]]:
    """By metric, what the best constant answer has where `rate` of the rows are positive.

    Recall is left out (always 1 has all of it, so no bound on it alone means anything), and so is the
    calibration error (a constant may be calibrated perfectly).
    """
    common = "1" if rate > 0.5 else "0"
    always = "always answering 1"
    share = "always answering the label's rate"
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    return {
        "accuracy": (max(rate, 1 - rate), f"always answering {common}"),
        "f1": (2 * rate / (1 + rate), always),
        "precision": (rate, always),
        "auc": (0.5, share),
        "average_precision": (rate, share),
        "log_loss": (entropy, share),
        "brier": (rate * (1 - rate), share),
    }


def _fires_at_once(monitoring: MonitoringConfig, metrics: Mapping[str, float | None]) -> list[str]:
    """The alert that a model raises which does no worse than it did here."""
    limits, accuracy = monitoring.alerts, metrics.get("accuracy")
    rule = monitoring.rules.get("LOW_ACCURACY", RuleSettings())
    if not rule.enabled or accuracy is None or not accuracy < limits.accuracy:
        return []
    value = max(math.floor(100 * (accuracy - limits.accuracy_drop)) / 100, 0)
    return [
        f"monitoring.alerts.accuracy is {limits.accuracy:g}, but this model has {accuracy:.4f} on the"
        " test part: LOW_ACCURACY would fire from its first window on. Set monitoring.alerts.accuracy"
        f" to {value:.2f}, {limits.accuracy_drop:g} below what was measured."
    ]
