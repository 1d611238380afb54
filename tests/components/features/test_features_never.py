"""Times at the ends of 64 bits, as databases write "never" and "always": none of them wraps."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.dataset import read_manifest
from slipway.components.features.views.views import write_view
from slipway.components.support.errors import SlipwayError

START = datetime(2024, 1, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
ENDS = [2**63 - 1, 253402300800000000, 253370764800000000]  # the end, the year 10000, 9999-01-01


def config(view: dict[str, Any]) -> FeaturesConfig:
    return FeaturesConfig.model_validate(
        {
            "entities": {"shop": "shop"},
            "examples": {"table": "orders", "key": "order", "time": "at", "lead": "1h"},
            "label": {"column": "returned", "known": "known"},
            "split": {"validation": "1d", "test": "1d"},
            "views": [{"name": "v", "entity": "shop", "table": "orders", "time": "at", **view}],
        }
    )


AGGREGATE = {"known": "known", "aggregates": {"n": {"function": "count", "window": "7d"}}}
FIELD = {"known": "known", "fields": {"x": "x"}}


def made(make_dataset, known: list[int], view: dict[str, Any], **columns: Any) -> pl.DataFrame:
    rows = len(known)
    table = pl.DataFrame(
        {
            "order": [f"o{i}" for i in range(rows)],
            "shop": ["s"] * rows,
            "at": pl.Series([START + timedelta(days=i) for i in range(rows)], dtype=INSTANT),
            "known": pl.Series(known, dtype=pl.Int64).cast(INSTANT),
            "x": [float(i) for i in range(rows)],
            "returned": [True] * rows,
            **columns,
        }
    )
    folder = make_dataset({"orders": table}, ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"))
    settings = config(view)
    target = folder / "view.parquet"
    write_view(folder, read_manifest(folder), settings, settings.views[0], str(target))
    return pl.read_parquet(target)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("view", [AGGREGATE, FIELD], ids=["aggregate", "field"])
@pytest.mark.parametrize("available", ["0s", "2d"])
def test_what_is_never_known_is_never_used(
    end: int, view: dict, available: str, make_dataset
) -> None:
    day = int((START + timedelta(days=3)).timestamp() * 1e6)
    view = view if "aggregates" in view else view | {"available": available}
    rows = made(make_dataset, [end, day, end], view)
    assert rows.height
    assert rows["event_timestamp"].min() >= START
    assert rows["event_timestamp"].max() <= START + timedelta(days=11)
    if "n" in rows.columns:
        assert rows["n"].max() == 1


def test_what_was_always_known_is_known_as_soon_as_it_may_be(make_dataset) -> None:
    """The examples' own rows count only after their own prediction, whenever they were known."""
    rows = made(make_dataset, [-(2**63) + 1, -(2**62)], FIELD)
    predicted = [START - timedelta(hours=1), START + timedelta(hours=23)]
    tick = timedelta(microseconds=1)
    assert rows["event_timestamp"].to_list() == [moment + tick for moment in predicted]
    assert rows["x"].to_list() == [0.0, 1.0]


FAR = {
    "instants": pl.Series([0, 2**63 - 1], dtype=pl.Int64).cast(INSTANT),
    "wall clocks": pl.Series([0, -(2**63) + 1], dtype=pl.Int64).cast(pl.Datetime("us")),
    "days": pl.Series([0, 2**31 - 1], dtype=pl.Int32).cast(pl.Date),
    "the year 9999": pl.Series([date(2024, 1, 1), date(9999, 12, 31)]),
}


@pytest.mark.parametrize("kind", FAR)
def test_a_feature_that_says_never_is_refused_by_name(kind: str, make_dataset) -> None:
    day = int(START.timestamp() * 1e6)
    with pytest.raises(SlipwayError, match="View v, field x: column x has 1 times before the year"):
        made(make_dataset, [day, day], {"fields": {"x": "x"}}, x=FAR[kind])
    rows = made(
        make_dataset,
        [day, day],
        {"fields": {"x": "x"}},
        x=FAR[kind].head(1).extend(FAR[kind].head(1)),
    )
    assert rows["x"].null_count() == 0
