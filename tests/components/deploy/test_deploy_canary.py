"""The window: when two models that both answer real requests differ."""

from dataclasses import dataclass
from typing import Any

import pytest

from slipway.components.config.deployment import CanaryConfig
from slipway.components.deploy.kserve import canary


@dataclass
class Window:
    name: str
    new: canary.Observed
    stable: canary.Observed
    reason: str | None


def seen(
    requests: float, errors: float = 0, ms: float = 2, low: float = 50, high: float = 50
) -> Any:
    return canary.Observed(
        requests=requests,
        errors=errors,
        seconds=requests * ms / 1000,
        predictions={"0.5": low, "inf": high},
    )


WINDOWS = [
    Window("alike", seen(100), seen(900), None),
    Window("too few", seen(5), seen(900), None),
    Window("too few, with an error", seen(5, 1), seen(900), "1 of 5 requests"),
    Window("errors", seen(100, 5), seen(900), "5.00% of requests"),
    Window("errors of both", seen(100, 5), seen(900, 45), None),
    Window("slow", seen(100, ms=9), seen(900), "9.0 ms a request"),
    Window("slower within the ratio", seen(100, ms=3), seen(900), None),
    Window("other predictions", seen(100, low=95, high=5), seen(900), "stability index"),
    Window("stable without traffic", seen(100, ms=99), seen(1), None),
]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.name)
def test_comparison(window: Window) -> None:
    reason, _ = canary.compare(window.new, window.stable, CanaryConfig())
    assert (reason is None) == (window.reason is None)
    assert window.reason is None or window.reason in (reason or "")


def test_stability_index_is_the_textbooks() -> None:
    import math

    old, new = {"a": 5000.0, "b": 5000.0}, {"a": 6000.0, "b": 4000.0}
    truth = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert canary.population_stability(new, old) == pytest.approx(truth, rel=1e-3)
    assert canary.population_stability(old, old) == 0


@pytest.mark.parametrize(("rows", "stable_rows"), [(50, 450), (60, 5000), (2000, 20_000)])
def test_one_distribution_is_no_shift_and_another_is(rows: int, stable_rows: int) -> None:
    """As the predictor's ten bins see it: few false alarms, and a moved model is found."""
    import random

    draw = random.Random(1)

    def histogram(count: int, centre: float) -> dict[str, float]:
        bins = dict.fromkeys((str(i) for i in range(10)), 0.0)
        for _ in range(count):
            bins[str(min(9, max(0, int(draw.gauss(centre, 1.5)))))] += 1
        return bins

    def refused(centre: float) -> int:
        reasons = 0
        for _ in range(200):
            new, stable = seen(rows), seen(stable_rows)
            new.predictions, stable.predictions = histogram(rows, centre), histogram(stable_rows, 4)
            reasons += canary.compare(new, stable, CanaryConfig())[0] is not None
        return reasons

    assert refused(4.0) == 0
    assert refused(6.0) > 190
