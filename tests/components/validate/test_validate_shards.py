"""Validate in shards: the rows, the report and the verdict of one task."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.event_tables import make_events

from slipway.components.contracts import dataset as layout
from slipway.components.contracts.dataset import (
    Manifest,
    TableWriter,
    read_manifest,
    read_table,
    write_manifest,
)
from slipway.components.contracts.rows.content_hash import ContentHash, combined
from slipway.components.contracts.shards import Shard
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_directory
from slipway.components.validate import unique
from slipway.components.validate.shards import FILE, ValidatedShard, merge_validated, validate_shard
from slipway.components.validate.validate import Validation, validate_dataset

NOW = "2024-06-01T00:00:00Z"
START = datetime(2024, 1, 1, tzinfo=UTC)
GROUP = 8
"""Rows of a row group of the dataset here, and four groups are a file."""


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP", GROUP)
    monkeypatch.setattr(layout, "PART_ROWS", 4 * GROUP)


class Sharded:
    """A dataset that is validated by one task and in shards, each in a folder of its own."""

    def __init__(self, root: Path, tables: dict[str, pa.Table], schema: dict[str, Any]):
        self.root, self.schema = root, schema
        infos = {}
        for name, table in tables.items():
            time = "time" if "time" in table.schema.names else None
            writer = TableWriter(root / "dataset", name, table.schema, time=time)
            for batch in table.combine_chunks().to_batches():
                writer.write(batch)
            infos[name] = writer.close()
        hashes = {name: info.content_hash for name, info in infos.items()}
        window = ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z")
        self.manifest = Manifest(tables=infos, window=window, content_hash=combined(hashes))
        write_manifest(root / "dataset", self.manifest)

    def _outputs(self, name: str) -> dict[str, Any]:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return {
            "good": folder / "good",
            "quarantine": folder / "quarantine",
            "report": folder / "report.html",
            "results": folder / "results.json",
        }

    def whole(self) -> Validation:
        return validate_dataset(
            dataset=self.root / "dataset", schema=self.schema, **self._outputs("whole")
        )

    def shard(self, index: int, of: int) -> Path:
        part = self.root / f"part-{index}"
        text = Shard(moment=NOW, index=index, of=of).text
        validate_shard(dataset=self.root / "dataset", schema=self.schema, shard=text, part=part)
        return part

    def shards(self, count: int) -> list[Path]:
        return [self.shard(index, count) for index in range(count)]

    def merge(self, parts: list[Path]) -> Validation:
        return merge_validated(parts=parts, **self._outputs("merged"))

    def check(self, count: int) -> tuple[Validation | str, Validation | str]:
        """What one task and the shards gave, or said; their files are the same."""
        parts = self.shards(count)
        gave = (_gave(self.whole), _gave(lambda: self.merge(parts[::-1])))
        assert hash_directory(self.root / "merged") == hash_directory(self.root / "whole")
        return gave


def _gave(work: Callable[[], Validation]) -> Validation | str:
    try:
        return work()
    except SlipwayError as error:
        return str(error).replace("/merged/", "/whole/")


def _table(rows: int, draw: np.random.Generator, keys: int, late: float) -> pa.Table:
    """Rows with repeated keys, nulls, values out of bounds and times that go back."""
    hours = np.arange(rows) + np.where(draw.random(rows) < late, -5, 0)
    known = draw.random(rows) > 0.1
    ids = np.arange(rows) if keys == 0 else draw.integers(0, keys, rows)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64(), mask=~known),
            "kind": pa.array(draw.choice(["a", "b", "z"], rows, p=[0.5, 0.45, 0.05])),
            "value": pa.array(draw.choice([0.0, -0.0, 1.5, -3.0, np.nan], rows), mask=~known),
            "text": pa.array([f"{i % 7}" for i in range(rows)]),
            "time": pa.array(
                [START + timedelta(hours=int(h)) for h in hours], pa.timestamp("us", "UTC")
            ),
            "tags": pa.array([[str(i)] * (i % 3) for i in range(rows)], pa.list_(pa.string())),
        }
    )


def _schema(order: str, key: list[str], tolerance: float, level: str) -> dict[str, Any]:
    return {
        "tables": {
            "t": {
                "required": ["id"],
                "properties": {
                    "id": {"type": "integer", "x-maxNullFraction": 0.2},
                    "kind": {"enum": ["a", "b"], "x-level": level},
                    "value": {"type": "number", "minimum": -1},
                    "time": {"type": "string", "format": "date-time"},
                },
                "x-unique": [key],
                "x-timeOrder": order,
                "x-minRows": 20,
                "x-maxFailedFraction": tolerance,
            }
        }
    }


@given(
    rows=st.integers(0, 130),
    seed=st.integers(0, 99),
    keys=st.sampled_from([0, 3, 40, 500]),
    late=st.sampled_from([0.0, 0.05]),
    order=st.sampled_from(["time", "value", "text"]),
    key=st.sampled_from([["id"], ["id", "kind"], ["value", "text"], ["time"]]),
    tolerance=st.sampled_from([0, 0.2, 1]),
    level=st.sampled_from(["warn", "fail"]),
    count=st.sampled_from([1, 2, 4, 16]),
)
@settings(max_examples=40, deadline=None)
def test_shards_together_are_what_one_task_finds_byte_for_byte(
    rows: int,
    seed: int,
    keys: int,
    late: float,
    order: str,
    key: list[str],
    tolerance: float,
    level: str,
    count: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    table = _table(rows, np.random.default_rng(seed), keys, late)
    root = tmp_path_factory.mktemp("table")
    whole, merged = Sharded(root, {"t": table}, _schema(order, key, tolerance, level)).check(count)
    assert merged == whole
    if isinstance(whole, Validation):
        _require_sound_hashes(root / "merged")


def _require_sound_hashes(folder: Path) -> None:
    """The hash in the manifest is that of the rows that are there, as ingest would write them."""
    for side in ("good", "quarantine"):
        for name, info in read_manifest(folder / side).tables.items():
            content = ContentHash()
            table = read_table(folder / side, name)
            if side == "good":
                table = table.cast(layout.as_written(table.schema))
            for batch in table.to_batches():
                content.add(batch)
            assert content.hex == info.content_hash, side


@pytest.mark.parametrize("count", [1, 4, 16])
def test_tables_of_all_kinds_and_sizes_together(count: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    tables = {
        "small": make_events(3),
        "t": _table(500, draw, 40, 0.02),
        "empty": make_events(9).slice(0, 0),
        "unknown": make_events(5),
        "wrong": make_events(20),
    }
    schema = _schema("time", ["id"], 1, "fail")
    schema["tables"] |= {
        "small": {"properties": {}, "x-unique": [["id"]]},
        "empty": {"properties": {"amount": {"type": "number"}}, "x-unique": [["id"]]},
        "missing": {"properties": {}},
        "wrong": {"properties": {"id": {"type": "integer"}}, "x-unique": [["id"]]},
    }
    work = Sharded(tmp_path, tables, schema)
    whole, merged = work.check(count)
    assert merged == whole
    assert isinstance(whole, str)
    assert "the dataset has no such table" in whole and "wrong: id: type" in whole
    rows = [ValidatedShard.read(tmp_path / f"part-{i}" / FILE).tables for i in range(count)]
    assert sum(found["t"].rows for found in rows if "t" in found) == 500
    assert max(found["t"].rows for found in rows if "t" in found) <= 500 // count + 4 * GROUP


def test_a_key_is_looked_for_only_where_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that rise with the rows are not read again by later shards; others are, and found."""
    read: list[int] = []
    real = unique._scatter

    def scatter(batch: Any, start: int, files: Any) -> None:
        read.append(start)
        real(batch, start, files)

    monkeypatch.setattr(unique, "_scatter", scatter)
    rising = pa.table({"id": pa.array(range(128), pa.int64())})
    Sharded(
        tmp_path / "a", {"t": rising}, {"tables": {"t": {"properties": {}, "x-unique": [["id"]]}}}
    ).shards(4)
    assert read == list(range(0, 128, GROUP))
    read.clear()
    ids = [*range(127), 5]
    again = pa.table({"id": pa.array(ids, pa.int64())})
    work = Sharded(
        tmp_path / "b", {"t": again}, {"tables": {"t": {"properties": {}, "x-unique": [["id"]]}}}
    )
    whole, merged = work.check(4)
    assert "row 127 (id 5)" in str(whole) and merged == whole


def test_hashes_alone_do_not_make_two_keys_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unique, "row_hashes", lambda batch: np.zeros(batch.num_rows, np.uint64))
    table = pa.table({"id": pa.array([*range(60), 7, 59, 7, 60], pa.int64())})
    schema = {"tables": {"t": {"properties": {}, "x-unique": [["id"]], "x-maxFailedFraction": 1}}}
    whole, merged = Sharded(tmp_path, {"t": table}, schema).check(4)
    assert isinstance(whole, Validation) and merged == whole
    assert read_table(tmp_path / "merged/quarantine", "t")["_row"].to_pylist() == [60, 61, 62]


def test_a_shard_that_failed_is_run_again_alone(tmp_path: Path) -> None:
    work = Sharded(
        tmp_path,
        {"t": make_events(100)},
        {"tables": {"t": {"properties": {}, "x-unique": [["id"]]}}},
    )
    parts = work.shards(4)
    before = [hash_directory(part) for part in parts]
    (parts[2] / FILE).unlink()
    with pytest.raises(SlipwayError, match=r"part-2 holds no shard of a validation"):
        work.merge(parts)
    assert not (tmp_path / "merged/good").exists()
    work.shard(2, 4)
    assert [hash_directory(part) for part in parts] == before
    assert work.merge(parts).good.rows == 100


def _of_another_run(parts: list[Path]) -> list[Path]:
    text = (parts[1] / FILE).read_text()
    (parts[1] / FILE).write_text(text.replace(NOW, "2024-06-02T00:00:00Z"))
    return parts


def _lose_rows(parts: list[Path]) -> list[Path]:
    text = (parts[1] / FILE).read_text()
    (parts[1] / FILE).write_text(text.replace('"rows": 32', '"rows": 31'))
    return parts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: parts[:0], "run the validation again"),
        (lambda parts: [*parts[:3], parts[2]], r"The shards \[0, 1, 2, 2\] are there, of 4"),
        (_of_another_run, "are shards of different validations"),
        (_lose_rows, "hold 99 of the table t's 100 rows"),
    ],
)
def test_less_than_the_whole_is_refused(
    change: Callable[[list[Path]], list[Path]], said: str, tmp_path: Path
) -> None:
    work = Sharded(tmp_path, {"t": make_events(100)}, {"tables": {"t": {"properties": {}}}})
    parts = change(work.shards(4))
    with pytest.raises(SlipwayError, match=said):
        work.merge(parts)
    assert not (tmp_path / "merged/good").exists()


def test_shards_of_another_schema_are_refused(tmp_path: Path) -> None:
    work = Sharded(tmp_path, {"t": make_events(100)}, {"tables": {"t": {"properties": {}}}})
    parts = work.shards(2)
    work.schema = {"tables": {"t": {"properties": {}, "x-minRows": 1}}}
    work.shard(1, 2)
    with pytest.raises(SlipwayError, match="shards of different validations"):
        work.merge(parts)
