"""The join alone, against a plain search of every view row: keys and times of any size and kind."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from slipway.components.features import point_in_time
from slipway.components.features.point_in_time import ViewRows, join_point_in_time

INSTANT = pl.Datetime("us", "UTC")
MICRO = timedelta(microseconds=1)
TTL = timedelta(days=3)

SMALL = [3, -2, 0]
WIDE = [-(2**62), 2**62, 7]
KEYS: dict[str, tuple[Any, list[Any]]] = {
    "small whole numbers": (pl.Int64(), SMALL),
    "whole numbers far apart": (pl.Int64(), WIDE),
    "bytes at both ends": (pl.Int8(), [-128, 127, 0]),
    "unsigned beyond int64": (pl.UInt64(), [2**64 - 1, 2**63, 2]),
    "text": (pl.String(), ["", "b", "ü"]),
    "fractions": (pl.Float64(), [0.5, 1.5, -1e300]),
}
TIMES = {
    "whole seconds of a day": [datetime(2024, 1, 1, h, tzinfo=UTC) for h in range(0, 24, 4)],
    "microseconds apart": [datetime(2024, 1, 1, tzinfo=UTC) + i * MICRO for i in range(6)],
    "thousands of years": [datetime(y, 1, 1, tzinfo=UTC) for y in range(1000, 7000, 1000)],
}


def newest(rows: list[dict[str, Any]], key: Any, at: datetime | None) -> float | None:
    """The value of the last row in order of time, then of place, that the moment sees."""
    seen = [
        (row["time"], place, row["value"])
        for place, row in enumerate(rows)
        if None not in (key, at) and row["key"] == key and at - TTL <= row["time"] <= at
    ]
    return max(seen)[2] if seen else None


@pytest.mark.parametrize("chunk", [1_000_000, 7], ids=["at once", "in chunks"])
@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize(("kind", "keys"), KEYS.values(), ids=KEYS)
def test_equal_to_a_plain_search(
    kind: Any,
    keys: list[Any],
    times: list[datetime],
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(point_in_time, "MIN_CHUNK", chunk)
    monkeypatch.setattr(point_in_time, "CHUNK_VALUES", 1)
    # Every third row repeats the moment of the one before; the last key is in the entity rows alone.
    rows = [
        {"key": keys[i % 2], "time": times[(i * 5 // 3) % len(times)], "value": float(i)}
        for i in range(20)
    ]
    moments = [None, *times, *(moment + MICRO for moment in times), times[-1] + TTL]
    entities = [{"key": key, "at": at} for at in reversed(moments) for key in [*keys, None]]
    left = pl.DataFrame(entities, schema={"key": kind, "at": INSTANT})
    view = ViewRows(
        rows=pl.DataFrame(rows, schema={"key": kind, "time": INSTANT, "value": pl.Float64}).lazy(),
        keys={"key": "key"},
        timestamp="time",
        features={"value": "found"},
        ttl=TTL,
    )

    joined = join_point_in_time(left, "at", [view])

    assert joined.select("key", "at").equals(left)
    expected = [newest(rows, row["key"], row["at"]) for row in entities]
    assert joined["found"].to_list() == expected
    assert any(value is not None for value in expected)


def test_several_keys_are_compared_together() -> None:
    schema = {"a": pl.Int64, "b": pl.String, "at": INSTANT}
    zero = datetime(2024, 1, 1, tzinfo=UTC)
    left = pl.DataFrame(
        [(1, "x", zero), (1, "y", zero), (2, "x", zero), (2, "y", zero), (1, None, zero)],
        schema=schema,
        orient="row",
    )
    rows = pl.DataFrame(
        [(1, "x", zero, 1.0), (2, "y", zero, 2.0), (3, "x", zero, 3.0)],
        schema={**schema, "value": pl.Float64},
        orient="row",
    )
    view = ViewRows(
        rows=rows.lazy(), keys={"a": "a", "b": "b"}, timestamp="at", features={"value": "value"}
    )

    joined = join_point_in_time(left, "at", [view])

    assert joined["value"].to_list() == [1.0, None, None, 2.0, None]
