"""What the tests of validate share: a dataset made of tables in memory, and one call to validate it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slipway.components.contracts import dataset as contract
from slipway.components.contracts.dataset import Manifest, TableWriter, write_manifest
from slipway.components.contracts.rows.content_hash import combined
from slipway.components.validate.validate import Validation, validate_dataset

WINDOW = ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z")


def write_dataset(folder: Path, tables: dict[str, pa.Table], time: str | None = "time") -> Manifest:
    """Writes tables as ingest does."""
    infos = {}
    for name, table in tables.items():
        column = time if time in table.schema.names else None
        writer = TableWriter(folder, name, table.schema, time=column)
        for batch in table.combine_chunks().to_batches():
            writer.write(batch)
        infos[name] = writer.close()
    manifest = Manifest(
        tables=infos,
        window=WINDOW,
        content_hash=combined({name: info.content_hash for name, info in infos.items()}),
    )
    write_manifest(folder, manifest)
    return manifest


@dataclass(frozen=True)
class Places:
    """Where a validation's inputs and outputs are."""

    folder: Path

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def good(self) -> Path:
        return self.folder / "good"

    @property
    def quarantine(self) -> Path:
        return self.folder / "quarantine"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def results(self) -> Path:
        return self.folder / "results.json"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.fixture
def validate(places: Places, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Validation]:
    """Validates tables, in row groups of 8,192, against a schema; a single table is called `t`."""
    monkeypatch.setattr(contract, "ROW_GROUP", 8192)

    def run(table: pa.Table | dict[str, pa.Table], schema: dict[str, Any]) -> Validation:
        tables = table if isinstance(table, dict) else {"t": table}
        if "tables" not in schema:
            schema = {"tables": {"t": schema}}
        write_dataset(places.dataset, tables)
        return validate_dataset(
            dataset=places.dataset,
            schema=schema,
            good=places.good,
            quarantine=places.quarantine,
            report=places.report,
            results=places.results,
        )

    return run
