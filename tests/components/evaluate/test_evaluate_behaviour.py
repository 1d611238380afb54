"""How often the champion's rule lets challengers through, over simulated ones whose truth is known."""

import numpy as np
import pytest

from slipway.components.config.gate import GateConfig
from slipway.components.evaluate.gate.rules import decide, judge
from slipway.components.evaluate.measures.blocks import draw_weights
from slipway.components.evaluate.measures.measured import Estimate, Evidence
from slipway.components.metrics.intervals import percentile
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.tally import Tally

SIMULATED = 200
DAYS, ROWS = 60, 6000
MARGIN = 0.015


def draw(rng: np.random.Generator, worse_by: float) -> tuple[Tally, Tally]:
    """Champion and challenger on the same rows. Both see the odds through their own noise.

    The rows of a day share an effect that neither model sees.
    """
    odds = rng.normal(0, 1.5, ROWS)
    day = np.arange(ROWS) * DAYS // ROWS
    label = rng.random(ROWS) < 1 / (1 + np.exp(-(odds + rng.normal(0, 0.5, DAYS)[day] - 1)))
    tallies = []
    for noise in (0.5, NOISE[worse_by]):
        seen = odds + rng.normal(0, noise, ROWS)
        tally = Tally(0.3, blocks=DAYS, bins=256)
        tally.add((1 / (1 + np.exp(1 - seen))).astype(np.float32), label.astype(np.int8), day)
        tallies.append(tally)
    return tallies[0], tallies[1]


# The noise that costs so much of AUC against a noise of 0.5, found by bisection on 6·10⁵ rows.
NOISE = {0.0: 0.5, MARGIN: 0.7256, 2 * MARGIN: 0.9131}


def let_through(worse_by: float) -> dict[str, float]:
    """The share of simulated challengers that the rule lets through, by `champion.judge`."""
    rng = np.random.default_rng(7)
    weights = draw_weights(DAYS, 300, 0)
    passed = {"point": 0, "interval": 0}
    for _ in range(SIMULATED):
        champion, challenger = draw(rng, worse_by)
        used = champion.used_blocks
        drawn = [tally.resample(weights, used)["auc"] for tally in (challenger, champion)]
        low, high = percentile(drawn[0] - drawn[1], 0.95)
        value = challenger.measure()["auc"] - champion.measure()["auc"]
        evidence = Evidence(
            label=BinaryLabel(threshold=0.3),
            rows=ROWS,
            expected_rows=ROWS,
            class_rows=(ROWS - 2000, 2000),
            champion={"auc": Estimate(value=value, low=low, high=high, rows=ROWS)},
        )
        for mode in passed:
            config = GateConfig.model_validate(
                {"champion": {"margins": {"auc": MARGIN}, "judge": mode}}
            )
            rules = [rule for rule in judge(evidence, config) if rule.name == "champion auc"]
            passed[mode] += decide(rules) == "pass"
    return {mode: count / SIMULATED for mode, count in passed.items()}


@pytest.mark.parametrize("worse_by", [MARGIN, 2 * MARGIN])
def test_the_noise_costs_what_it_says(worse_by: float) -> None:
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(60):
        champion, challenger = draw(rng, worse_by)
        gaps.append(champion.measure()["auc"] - challenger.measure()["auc"])
    assert np.mean(gaps) == pytest.approx(worse_by, abs=0.002)


@pytest.mark.parametrize(
    ("worse_by", "interval_between", "point_between"),
    [
        # Equal ones get through: the standard error is about a third of the margin.
        (0.0, (0.8, 1.0), (0.98, 1.0)),
        # At the margin itself the 95 % interval lets 2.5 % through, the point every second one.
        (MARGIN, (0.0, 0.06), (0.35, 0.65)),
        (2 * MARGIN, (0.0, 0.0), (0.0, 0.02)),
    ],
)
def test_share_let_through(
    worse_by: float, interval_between: tuple[float, float], point_between: tuple[float, float]
) -> None:
    share = let_through(worse_by)
    print(f"worse by {worse_by}: {share}")
    assert interval_between[0] <= share["interval"] <= interval_between[1]
    assert point_between[0] <= share["point"] <= point_between[1]
