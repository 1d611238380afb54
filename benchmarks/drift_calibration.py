"""How often drift is called where there is none, and how often planted drift is found.

Windows are drawn at random from the training part of the flights' real features; the reference is
the bounded sample that register would keep. A shift is planted into one feature at a time of windows of
5,000 rows and counts as found when that feature is called drifted.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.flights import flights_splits
from benchmarks.harness import Row, report
from slipway.components.config.monitoring import DriftConfig
from slipway.components.contracts.splits import Kind, read_part, read_splits
from slipway.components.monitor.measures.drift import conclude, measure
from slipway.components.monitor.measures.sketch import (
    Sketch,
    add_column,
    bin_edges,
    new_sketch,
    numbers,
)

WINDOWS = {200: 500, 1000: 500, 5000: 500}
POWER_ROWS, POWER_WINDOWS = 5000, 40
REFERENCE = 50_000

Values = np.ndarray[Any, Any]


def mean(x: Values, r: np.random.Generator, std: float, centre: float) -> Values:
    return x + 0.25 * std


def variance(x: Values, r: np.random.Generator, std: float, centre: float) -> Values:
    return centre + (x - centre) * np.sqrt(1.5)


def stuck(x: Values, r: np.random.Generator, std: float, centre: float) -> Values:
    """From the middle of the window on, the sensor repeats its last value."""
    half = len(x) // 2
    known = x[:half][~np.isnan(x[:half])]
    return np.concatenate([x[:half], np.full(len(x) - half, known[-1])])


def unit(x: Values, r: np.random.Generator, std: float, centre: float) -> Values:
    """Kilometres for miles."""
    return x * 1.609344


def nulls(x: Values, r: np.random.Generator, std: float, centre: float) -> Values:
    """A twentieth of all rows, drawn from those that have a value, loses it."""
    lost = x.copy()
    lost[losing(np.flatnonzero(~np.isnan(x)), len(x), r)] = np.nan
    return lost


def losing(known: Any, rows: int, r: np.random.Generator) -> Any:
    return r.choice(known, min(rows // 20, len(known)), replace=False)


def category_mass(x: list[str | None], r: np.random.Generator) -> list[str | None]:
    """A tenth of all rows moves to a category that another row has."""
    known = [value for value in x if value is not None]
    target = known[int(r.integers(len(known)))]
    others = np.array([i for i, value in enumerate(x) if value is not None and value != target])
    moved = r.choice(others, min(len(x) // 10, len(others)), replace=False)
    shifted = list(x)
    for i in moved:
        shifted[i] = target
    return shifted


def new_category(x: list[str | None], r: np.random.Generator) -> list[str | None]:
    """One row in fifty has a value that was never seen."""
    return [("never seen" if r.random() < 0.02 else value) for value in x]


def null_categories(x: list[str | None], r: np.random.Generator) -> list[str | None]:
    known = np.array([i for i, value in enumerate(x) if value is not None])
    lost = set(losing(known, len(x), r).tolist())
    return [(None if i in lost else value) for i, value in enumerate(x)]


NUMERIC: dict[str, Callable[..., Values]] = {
    "mean + 0.25 sd": mean,
    "variance × 1.5": variance,
    "stuck sensor": stuck,
    "swapped unit": unit,
    "5 % nulls": nulls,
}
CATEGORIES: dict[str, Callable[..., list[str | None]]] = {
    "10 % of category mass": category_mass,
    "new category, 2 %": new_category,
    "5 % nulls": null_categories,
}


def main() -> None:
    folder = flights_splits()
    splits = read_splits(folder)
    table = read_part(folder, "train")
    kinds: dict[str, Kind] = {f.name: f.kind for f in splits.features}
    even = np.unique(np.linspace(0, table.num_rows - 1, REFERENCE).astype(np.int64))
    kept = table.take(even)
    edges = {
        name: bin_edges(numbers(kept[name], kind))
        for name, kind in kinds.items()
        if kind in ("numeric", "time")
    }
    reference = {name: sketch(kept[name], kinds[name], edges.get(name)) for name in kinds}
    settings = DriftConfig()
    draw = np.random.default_rng(20131123)
    rows = []

    for size, times in WINDOWS.items():
        alarms = 0
        for _ in range(times):
            window = table.take(np.sort(draw.choice(table.num_rows, size, replace=False)))
            alarms += any(f.drifted for f in judged(window, kinds, edges, reference, settings))
        rows.append(
            Row(
                f"false alarms, any of {len(kinds)} features, windows of {size:,}",
                f"{times:,} windows",
                "share of windows",
                [alarms / times],
                reach="≤ 0.01",
            )
        )
        print(rows[-1].what, alarms / times, file=sys.stderr, flush=True)

    found: dict[str, dict[str, list[bool]]] = {}
    for _ in range(POWER_WINDOWS):
        window = table.take(np.sort(draw.choice(table.num_rows, POWER_ROWS, replace=False)))
        base = {
            name: measure(
                reference[name], sketch(window[name], kinds[name], edges.get(name)), settings
            )
            for name in kinds
        }
        for name, kind in kinds.items():
            for shift, column in planted(window, kept, name, kind, draw):
                changed = measure(reference[name], sketch(column, kind, edges.get(name)), settings)
                result = conclude({**base, name: changed}, kinds, settings)
                hit = next(f.drifted for f in result.features if f.name == name)
                found.setdefault(shift, {}).setdefault(name, []).append(hit)
    for shift, features in found.items():
        shares = {name: float(np.mean(hits)) for name, hits in features.items()}
        weak = {name: share for name, share in shares.items() if share < 0.95}
        rows.append(
            Row(
                f"{shift}: found, windows of {POWER_ROWS:,}",
                f"{len(shares)} features × {POWER_WINDOWS} windows",
                "share of windows",
                [float(np.mean(list(shares.values())))],
                reach="≥ 0.95",
                extra={"least": min(shares.values()), "below_95": weak},
            )
        )
        print(rows[-1].what, rows[-1].ours, json.dumps(weak), file=sys.stderr, flush=True)
    report("drift_calibration", rows)


def sketch(column: Any, kind: Kind, edges: Any) -> Sketch:
    made = new_sketch(kind, edges)
    add_column(made, column, kind)
    return made


def judged(window: Any, kinds: Any, edges: Any, reference: Any, settings: DriftConfig) -> Any:
    measured = {
        name: measure(reference[name], sketch(window[name], kinds[name], edges.get(name)), settings)
        for name in kinds
    }
    return conclude(measured, kinds, settings).features


def planted(window: Any, kept: Any, name: str, kind: Kind, draw: np.random.Generator) -> Any:
    """The shifts that apply to a feature, each with the changed column."""
    if kind == "numeric":
        whole = numbers(kept[name], kind)
        std, centre = float(np.nanstd(whole)), float(np.nanmean(whole))
        for shift, plant in NUMERIC.items():
            values = plant(numbers(window[name], kind), draw, std, centre)
            yield shift, pa.chunked_array([pa.array(values, from_pandas=True)])
    elif kind == "categorical":
        for shift, change in CATEGORIES.items():
            yield shift, pa.chunked_array([pa.array(change(window[name].to_pylist(), draw))])


if __name__ == "__main__":
    main()
