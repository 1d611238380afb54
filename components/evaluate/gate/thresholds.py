"""One value against one threshold: fail closed, and say it in words.

A rule passes only where its value is finite and on the right side of its threshold. The mutation tests
(`make mutation`) show that each comparison matters.
"""

import math
from dataclasses import dataclass
from typing import Literal

from slipway.components.config.gate import Bound, Judge
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.measures.measured import Estimate
from slipway.components.support.pages.digits import decimals


def is_finite(*values: float | None) -> bool:
    """Whether all of them were measured and are numbers."""
    return all(value is not None and math.isfinite(value) for value in values)


def check(
    name: str,
    metric: str,
    what: str,
    estimate: Estimate | None,
    bound: Bound,
    mode: Judge = "point",
) -> list[RuleResult]:
    """Holds an estimate against a bound: one result for `min`, one for `max`.

    Args:
        name: of the rule.
        metric: what it is about.
        what: the subject of the reason, for example "AUC".
        estimate: None, or any number in it that is not finite, fails.
        bound: the thresholds.
        mode: "point" judges the value, "interval" the worse end of the interval.
    """
    results = []
    for side, threshold in (("min", bound.min), ("max", bound.max)):
        if threshold is not None:
            suffix = f" {side}" if bound.min is not None and bound.max is not None else ""
            limit = Threshold(threshold=threshold, at_least=side == "min", mode=mode)
            results.append(check_limit(name + suffix, metric, what, estimate, limit))
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What an estimate is held against; `strict`: it must be above, not only as good."""

    threshold: float
    at_least: bool = True
    mode: Judge | Literal["tie"] = "point"
    strict: bool = False


def check_limit(
    name: str, metric: str, what: str, estimate: Estimate | None, limit: Threshold
) -> RuleResult:
    """Holds a value against a limit; a value that is not finite fails."""
    threshold, at_least, mode = limit.threshold, limit.at_least, limit.mode
    estimate = estimate or Estimate(value=None)
    judged = number_or_nan(estimate.value)
    where = what
    if mode == "interval":
        judged = number_or_nan(estimate.low if at_least else estimate.high)
        where = f"the {'lower' if at_least else 'upper'} bound of {what}"
    numbers = (estimate.value, estimate.low, estimate.high)
    given = [number for number in numbers if number is not None]
    if not is_finite(judged, estimate.value, *given):
        reason = f"{capitalised(where)} could not be measured on {estimate.rows:,} rows."
        if is_finite(estimate.value) and mode == "interval":
            reason += " There are too few blocks to resample: see gate.block."
        value, low, high = (number if is_finite(number) else None for number in numbers)
        return RuleResult(
            name=name,
            metric=metric,
            outcome="fail",
            reason=reason,
            threshold=threshold,
            value=value,
            low=low,
            high=high,
            rows=estimate.rows,
        )
    holds = judged >= threshold if at_least else judged <= threshold
    if holds:
        relation = "is at least" if at_least else "is at most"
    else:
        relation = "is below" if at_least else "is above"
    if limit.strict:
        holds = judged > threshold if at_least else judged < threshold
        relation = f"is {'' if holds else 'not '}{'above' if at_least else 'below'}"
    return RuleResult(
        name=name,
        metric=metric,
        outcome="pass" if holds else "fail",
        reason=f"{capitalised(where)} {relation} {threshold:g}: {show_beside(judged, threshold)}.",
        threshold=threshold,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        rows=estimate.rows,
        overridable=True,
    )


def show_beside(value: float, threshold: float) -> str:
    """A value with three significant digits, or as many as show on which side of its threshold it is."""
    places = decimals(value)
    while True:
        text = f"{value:,.{places}f}"
        shown = float(text.replace(",", ""))
        if value and not shown:
            return f"{value:.2g}"  # 1.4e-07, not 0
        # It ends: with all of its digits the text is the value.
        if (shown < threshold, shown > threshold) == (value < threshold, value > threshold):
            return text.rstrip("0").rstrip(".") if "." in text else text
        places += 1


def number_or_nan(value: float | None) -> float:
    """NaN where nothing was measured."""
    return math.nan if value is None else value


def capitalised(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]


def check_count(name: str, what: str, value: int, least: int) -> RuleResult:
    """Holds a number of rows against the least that is asked for."""
    holds = value >= least
    return RuleResult(
        name=name,
        metric="rows",
        outcome="pass" if holds else "fail",
        reason=f"{what}: {value:,} of at least {least:,}.",
        threshold=float(least),
        value=float(value),
        rows=value,
        overridable=True,
    )
