"""A table of events with every kind of column."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

START = datetime(2024, 1, 1, tzinfo=UTC)


def make_events(rows: int, first: int = 0) -> pa.Table:
    """One row an hour from 2024-01-01, with every kind of column."""
    index = range(first, first + rows)
    return pa.table(
        {
            "id": pa.array([f"event-{i}" for i in index]),
            "time": pa.array(
                [START + timedelta(hours=i) for i in index], pa.timestamp("us", "UTC")
            ),
            "amount": pa.array([None if i % 7 == 0 else i / 4 for i in index], pa.float64()),
            "count": pa.array([None if i % 11 == 0 else i for i in index], pa.int64()),
            "kind": pa.array([None if i % 13 == 0 else "abc"[i % 3] for i in index]),
            "open": pa.array([i % 2 == 0 for i in index]),
        }
    )
