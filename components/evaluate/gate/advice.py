"""What a person should know of the settings around a verdict; it decides nothing."""

import math
from collections.abc import Mapping, Sequence

from slipway.components.config.gate import Bound, GateConfig
from slipway.components.config.kinds import LOWER_IS_BETTER, Metric
from slipway.components.config.monitoring import MonitoringConfig, RuleSettings


def advise(
    gate: GateConfig,
    monitoring: MonitoringConfig | None,
    metrics: Mapping[str, float | None],
    *,
    constants: Mapping[Metric, tuple[float, str]],
    bounds: Sequence[tuple[Metric, Bound]],
) -> list[str]:
    """Settings that do not fit what was measured, each in a sentence with the value to set.

    Args:
        gate: the project's `gate` section.
        monitoring: its `monitoring` section; None: the model is not going to be monitored.
        metrics: of the model, on the test part, each row counted once, as monitoring counts.
        constants: by metric what a constant answer has, and which (see `LabelType.constants`).
        bounds: the gate's own for the kind of label (see `rules.bounds_of`).
    """
    advice = _reached_by_constants(gate, constants, bounds)
    how = ", each row counted once" if gate.weights else ""
    return advice + (_fires_at_once(monitoring, metrics, how) if monitoring else [])


def _reached_by_constants(
    gate: GateConfig,
    constants: Mapping[Metric, tuple[float, str]],
    bounds: Sequence[tuple[Metric, Bound]],
) -> list[str]:
    """Bounds that an answer holds which never looks at a row."""
    asked = [(f"gate.{metric}", metric, bound) for metric, bound in bounds]
    asked += [(f"gate.metrics.{metric}", metric, bound) for metric, bound in gate.metrics.items()]
    advice = []
    for setting, metric, bound in asked:
        value, answer = constants.get(metric, (math.nan, ""))
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


def _fires_at_once(
    monitoring: MonitoringConfig, metrics: Mapping[str, float | None], how: str
) -> list[str]:
    """The alert that a model raises which does no worse than it did here; `how` it was measured."""
    limits, accuracy = monitoring.alerts, metrics.get("accuracy")
    rule = monitoring.rules.get("LOW_ACCURACY", RuleSettings())
    if not rule.enabled or accuracy is None or not accuracy < limits.accuracy:
        return []
    value = max(math.floor(100 * (accuracy - limits.accuracy_drop)) / 100, 0)
    return [
        f"monitoring.alerts.accuracy is {limits.accuracy:g}, but this model has {accuracy:.4f} on the"
        f" test part{how}: LOW_ACCURACY would fire from its first window on. Set"
        f" monitoring.alerts.accuracy to {value:.2f}, {limits.accuracy_drop:g} below what was measured."
    ]
