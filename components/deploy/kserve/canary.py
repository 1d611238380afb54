"""The observation window: how the new model answers real requests, beside the stable one."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.components.config.deployment import CanaryConfig
from slipway.components.support.retry import wait_until

_REQUESTS = "slipway_requests_total"
_SECONDS = "slipway_request_seconds_sum"
_PREDICTIONS = "slipway_probability_bucket"
_INTERVAL = 5.0


@dataclass(slots=True, kw_only=True)
class Observed:
    """Sums over the pods of one revision.

    Attributes:
        requests: answered. errors: of them with 5xx. seconds: spent on them.
        predictions: rows by their probability's upper bound.
    """

    requests: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0
    predictions: dict[str, float] = field(default_factory=dict)

    def since(self, before: "Observed") -> "Observed":
        """What came after `before`; a pod that started again counts from zero."""
        return Observed(
            requests=max(0.0, self.requests - before.requests),
            errors=max(0.0, self.errors - before.errors),
            seconds=max(0.0, self.seconds - before.seconds),
            predictions={
                bound: max(0.0, count - before.predictions.get(bound, 0.0))
                for bound, count in self.predictions.items()
            },
        )


def parse_metrics(text: str, into: Observed) -> None:
    """Adds one predictor's /metrics to the sums."""
    from prometheus_client.parser import text_string_to_metric_families

    cumulative: list[tuple[float, float]] = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _REQUESTS:
                into.requests += sample.value
                if sample.labels.get("code", "").startswith("5"):
                    into.errors += sample.value
            elif sample.name == _SECONDS:
                into.seconds += sample.value
            elif sample.name == _PREDICTIONS:
                cumulative.append((float(sample.labels["le"]), sample.value))
    before = 0.0
    for bound, value in sorted(cumulative):
        into.predictions[str(bound)] = into.predictions.get(str(bound), 0.0) + value - before
        before = value


def observe(addresses: list[str]) -> Observed:
    """Reads /metrics of every address; one that does not answer is left out."""
    import httpx

    total = Observed()
    for address in addresses:
        try:
            response = httpx.get(f"{address}/metrics", timeout=5)
        except httpx.HTTPError:
            continue
        if response.status_code == 200:
            parse_metrics(response.text, total)
    return total


def wait_window(seconds: float, tick: Callable[[], object]) -> None:
    """Waits through the window and calls `tick` meanwhile, the last time at its end."""

    def is_over() -> bool:
        tick()
        return False

    wait_until(is_over, timeout=seconds, every=_INTERVAL, clock=time)


def compare(new: Observed, stable: Observed, config: CanaryConfig) -> tuple[str | None, str]:
    """Why the new model must go back, if so, and in a few words what was seen."""
    rate = new.errors / new.requests if new.requests else 0.0
    stable_rate = stable.errors / stable.requests if stable.requests else 0.0
    seen = (
        f"{new.requests:.0f} requests by the new model ({rate:.2%} errors), {stable.requests:.0f} by"
        f" the stable one ({stable_rate:.2%})"
    )
    if new.requests < config.min_requests:
        if new.errors:
            return f"it answered {new.errors:.0f} of {new.requests:.0f} requests with 5xx", seen
        return None, f"{seen}: too few to compare, promoted on the golden rows"
    if rate > stable_rate + config.max_error_rate:
        return (
            f"it answers {rate:.2%} of requests with 5xx, the stable model {stable_rate:.2%}"
            f" (canary.max_error_rate {config.max_error_rate:g})",
            seen,
        )
    if stable.requests < config.min_requests:
        return None, f"{seen}: the stable one has too few to compare latency and predictions"
    mean, stable_mean = new.seconds / new.requests, stable.seconds / stable.requests
    if mean > stable_mean * config.max_latency_ratio and mean > 0.001:
        return (
            f"it takes {mean * 1000:.1f} ms a request, the stable model {stable_mean * 1000:.1f} ms"
            f" (canary.max_latency_ratio {config.max_latency_ratio:g})",
            seen,
        )
    shift = population_stability(new.predictions, stable.predictions)
    noise = stability_noise(new.predictions, stable.predictions)
    if shift > config.max_prediction_shift + noise:
        return (
            f"its probabilities are distributed otherwise: stability index {shift:.2f}, of which"
            f" {noise:.2f} may be chance (canary.max_prediction_shift"
            f" {config.max_prediction_shift:g})",
            seen,
        )
    return (
        None,
        f"{seen}, {mean * 1000:.1f} ms against {stable_mean * 1000:.1f} ms, shift {shift:.2f}",
    )


def population_stability(new: dict[str, float], old: dict[str, float]) -> float:
    """The population stability index of two histograms: sum of (p - q) ln(p / q).

    One row, spread as both together are, is added to each, so that a bin that one of them lacks does
    not make it infinite, and bins that both lack add nothing.
    """
    rows, old_rows = sum(new.values()), sum(old.values())
    if not rows or not old_rows:
        return 0.0
    total = 0.0
    for bound in {*new, *old}:
        count, old_count = new.get(bound, 0.0), old.get(bound, 0.0)
        both = (count / rows + old_count / old_rows) / 2
        if both:
            p, q = (count + both) / (rows + 1), (old_count + both) / (old_rows + 1)
            total += (p - q) * math.log(p / q)
    return total


def stability_noise(new: dict[str, float], old: dict[str, float]) -> float:
    """How large the index of two samples of one distribution may well be: mean and three deviations.

    Over B occupied bins and samples of n and m rows it is (1/n + 1/m) times a chi-square with B - 1
    degrees of freedom (B. Yurdakul, Statistical Properties of Population Stability Index, 2018).
    """
    rows, old_rows = sum(new.values()), sum(old.values())
    if not rows or not old_rows:
        return math.inf
    freedom = sum(1 for bound in {*new, *old} if new.get(bound) or old.get(bound)) - 1
    return (1 / rows + 1 / old_rows) * (freedom + 3 * math.sqrt(2 * freedom))
