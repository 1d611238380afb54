"""The interval of a calibration error holds the true error as often as it says, and its own value."""

import numpy as np
import pytest

from slipway.components.metrics.intervals import of_calibration, of_gaps, percentile
from slipway.components.metrics.tally import Tally

RUNS, ROWS, BLOCKS = 200, 1200, 40


def draw(rng: np.random.Generator, rows: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels of a truth that is `slope` as far from a half as they say."""
    said = rng.beta(2, 3, rows)
    return said, (rng.random(rows) < 0.5 + slope * (said - 0.5)).astype(np.int8)


def true_error(slope: float) -> float:
    """Of the binned error, from many rows whose chance is known and needs no label."""
    said = np.random.default_rng(1).beta(2, 3, 1_000_000)
    off = said - (0.5 + slope * (said - 0.5))
    bins = np.minimum((said * 15).astype(int), 14)
    return float(np.abs(np.bincount(bins, off)).sum() / len(said))


@pytest.mark.parametrize("slope", [1.0, 0.9, 0.6], ids=["perfect", "slightly off", "far off"])
def test_it_holds_the_true_error_and_its_own_value(slope: float) -> None:
    rng, truth = np.random.default_rng(int(100 * slope)), true_error(slope)
    held, lows, drawn_held = 0, [], 0
    for _ in range(RUNS):
        said, labels = draw(rng, ROWS, slope)
        tally = Tally(0.5, blocks=BLOCKS, bins=64)
        tally.add(said, labels, np.arange(ROWS) % BLOCKS)
        weights = rng.multinomial(BLOCKS, [1 / BLOCKS] * BLOCKS, 400).astype(float)
        measured = tally.measure()["calibration_error"]
        gaps = tally.gaps(weights, np.arange(BLOCKS))
        assert gaps is not None and np.abs(gaps[0]).sum() == pytest.approx(measured)
        low, high = of_gaps(*gaps)
        assert 0 <= low <= measured <= high
        held += low <= truth + 1e-12 and truth <= high
        lows.append(low)
        drawn = np.abs(gaps[0] + gaps[1]).sum(axis=1)
        below, above = percentile(drawn, 0.95)
        drawn_held += below is not None and above is not None and below <= truth <= above
    assert held / RUNS >= 0.93
    # Not by saying nothing: where the error is large, it is told from none.
    assert (np.mean(lows) > max(truth / 2, 0.01)) == (slope == 0.6)
    # What it replaces: replicates lie above the truth.
    assert drawn_held / RUNS < (0.1 if slope == 1.0 else 0.95)


def test_independent_rows_have_the_same_kind_of_interval() -> None:
    said, labels = draw(np.random.default_rng(3), 3000, 1.0)
    bins = np.minimum((said * 15).astype(int), 14)
    off = said - labels
    gaps, squares = np.bincount(bins, off), np.bincount(bins, off**2)
    low, high = of_calibration(gaps, squares, len(said))
    measured = np.abs(gaps).sum() / len(said)
    assert low == 0.0 and measured <= high < 4 * measured
