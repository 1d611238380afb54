"""What the tests of ingest share: a small table, and one call to ingest it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.event_tables import make_events

from slipway.components.contracts.dataset import Manifest
from slipway.components.ingest.ingest import ingest_tables


@pytest.fixture
def events() -> Callable[..., pa.Table]:
    return make_events


@pytest.fixture
def write_lake(tmp_path: Path) -> Callable[[dict[str, pa.Table]], Path]:
    """Writes parquet files by relative path below one folder."""

    def write(files: dict[str, pa.Table], **options: Any) -> Path:
        for name, table in files.items():
            path = tmp_path / "lake" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, **options)
        return tmp_path / "lake"

    return write


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., Manifest]:
    """Ingests one table `events` into `tmp_path/out`."""

    def run(
        root: Path | str = tmp_path / "lake",
        start: str = "2024-01-01",
        end: str = "2025-01-01",
        output: Path = tmp_path / "out",
        **table: Any,
    ) -> Manifest:
        settings = {"path": "events", "time": "time", **table}
        return ingest_tables(
            config={"tables": {"events": settings}},
            data_root=str(root),
            window_start=start,
            window_end=end,
            output=output,
        )

    return run
