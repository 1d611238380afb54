"""Our statistics against Evidently's own on the same rows."""

import math
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from slipway.components.config.monitoring import DriftConfig
from slipway.components.contracts.splits import Kind
from slipway.components.monitor.measures.drift import measure
from slipway.components.monitor.measures.sketch import add_column, bin_edges, new_sketch, numbers

NUMERIC = ("miles", "planned_minutes", "temp", "precip", "visib", "pressure", "wind_speed")
CATEGORIES = ("operator", "leaves_from", "flies_to")


@pytest.fixture(scope="module")
def samples(flights: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """5,000 flights of January to September, and 2,000 of a week of December."""
    when = pl.col("departure")
    first, last = datetime(2013, 12, 9, tzinfo=UTC), datetime(2013, 12, 16, tzinfo=UTC)
    columns = [*NUMERIC, *CATEGORIES]
    old = flights.filter(when < datetime(2013, 10, 1, tzinfo=UTC)).sample(5000, seed=1)
    new = flights.filter(when >= first, when < last).sample(2000, seed=2)
    return old.select(columns), new.select(columns)


def evidently(old: Any, new: Any, method: str, columns: tuple[str, ...]) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(
        numerical_columns=list(NUMERIC), categorical_columns=list(CATEGORIES)
    )
    report = Report([ValueDrift(column=name, method=method) for name in columns])
    snapshot = report.run(
        Dataset.from_pandas(new.to_pandas(), data_definition=definition),
        Dataset.from_pandas(old.to_pandas(), data_definition=definition),
    )
    values = [float(metric["value"]) for metric in snapshot.dict()["metrics"]]
    return dict(zip(columns, values, strict=True))


def ours(old: Any, new: Any, name: str, kind: Kind) -> dict[str, float]:
    before, after = (pl.DataFrame(t).to_arrow()[name] for t in (old, new))
    edges = bin_edges(numbers(before, kind)) if kind == "numeric" else None
    sketches = []
    for column in (before, after):
        sketches.append(new_sketch(kind, edges))
        add_column(sketches[-1], column, kind)
    return measure(sketches[0], sketches[1], DriftConfig())[1]


def test_wasserstein_is_evidentlys(samples: Any) -> None:
    old, new = samples
    theirs = evidently(old, new, "wasserstein", NUMERIC)
    for name in NUMERIC:
        found = ours(old, new, name, "numeric")
        assert found["wasserstein"] / found["std"] == pytest.approx(theirs[name], abs=0.01), name
    assert max(theirs.values()) > 0.5 > 0.1 > min(theirs.values())


def test_jensen_shannon_of_categories_is_evidentlys(samples: Any) -> None:
    old, new = samples
    theirs = evidently(old, new, "jensenshannon", CATEGORIES)
    for name in CATEGORIES:
        # Evidently takes natural logarithms, so that its largest distance is not 1.
        natural = ours(old, new, name, "categorical")["js"] * math.log(2) ** 0.5
        assert natural == pytest.approx(theirs[name], abs=1e-6), name


def test_the_report_draws_evidentlys_verdicts_with_our_limits(samples: Any) -> None:
    """The columns beyond `drift.distance` are the same on the sample, by either."""
    old, new = samples
    limit = DriftConfig().distance
    theirs = {n for n, v in evidently(old, new, "wasserstein", NUMERIC).items() if v >= limit}
    mine = set()
    for name in NUMERIC:
        found = ours(old, new, name, "numeric")
        if found["wasserstein"] / found["std"] >= limit:
            mine.add(name)
    assert mine == theirs
