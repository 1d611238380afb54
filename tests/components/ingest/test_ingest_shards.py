"""Ingest in shards: the files and the manifest of one task, and a refusal of anything less."""

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.event_tables import START, make_events

from slipway.components.contracts import dataset as layout
from slipway.components.contracts.shards import Shard
from slipway.components.ingest import plan as planning
from slipway.components.ingest import shards as module
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.ingest.shards import ingest_shard, merge_dataset, plan_ingest
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_directory

NOW = datetime(2025, 1, 1, tzinfo=UTC)
GROUP = 8
"""Rows of a row group of the dataset here, and four groups are a file."""


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ROW_GROUP", GROUP), ("PART_ROWS", 4 * GROUP)):
        for each in (layout, planning, module):
            monkeypatch.setattr(each, name, value, raising=False)


class Sharded:
    """One set of tables, ingested by one task and in shards."""

    def __init__(self, root: Path, config: dict[str, Any], window: tuple[str, str], **more: Any):
        self.given = {"config": config, "data_root": str(root / "lake")}
        self.root, self.window, self.more = root, window, more

    def whole(self) -> Any:
        return ingest_tables(
            **self.given,
            window_start=self.window[0],
            window_end=self.window[1],
            output=self.root / "whole",
            **self.more,
        )

    def plan(self, count: int) -> Any:
        return plan_ingest(
            **self.given,
            window_start=self.window[0],
            window_end=self.window[1],
            plan=self.root / "plan",
            shards=count,
            now=NOW,
            **self.more,
        )

    def shard(self, text: str) -> Path:
        part = self.root / f"part-{Shard.parse(text).index}"
        ingest_shard(**self.given, plan=self.root / "plan", shard=text, part=part)
        return part

    def shards(self, count: int) -> list[Path]:
        return [self.shard(text) for text in self.plan(count).shards]

    def merge(self, parts: list[Path], count: int = 0) -> Any:
        return merge_dataset(
            plan=self.root / "plan",
            parts=parts,
            dataset=self.root / "merged",
            shards=count,
            now=NOW,
        )

    def check(self, count: int) -> list[Path]:
        whole = self.whole()
        parts = self.shards(count)
        assert self.merge(parts[::-1]).manifest == whole
        assert hash_directory(self.root / "merged") == hash_directory(self.root / "whole")
        return parts


def _nested(rows: int) -> pa.Table:
    """Events with what parquet names otherwise than Arrow."""
    table = make_events(rows)
    tags = pa.array([[str(i)] * (i % 3) or None for i in range(rows)], pa.list_(pa.string()))
    places = pa.array(
        [[("a", [{"x": i}])] for i in range(rows)],
        pa.map_(pa.string(), pa.list_(pa.struct([("x", pa.int32())]))),
    )
    return table.append_column("tags", tags).append_column("places", places)


def _lay_out(root: Path, form: str, table: pa.Table, cuts: list[int], group: int) -> dict[str, Any]:
    """Writes a table as files of a format, cut at these rows."""
    folder = root / "lake" / "events"
    folder.mkdir(parents=True)
    ends = [0, *cuts, table.num_rows]
    slices = [table.slice(a, b - a) for a, b in pairwise(ends)]
    if form == "delta":
        import deltalake

        for piece in slices:
            properties = deltalake.WriterProperties(max_row_group_size=group)
            deltalake.write_deltalake(
                str(folder), piece, mode="append", writer_properties=properties
            )
        return {"path": "events", "format": "delta"}
    for number, piece in enumerate(slices):
        if form == "csv":
            pc.write_csv(piece, folder / f"{number}.csv")
        else:
            pq.write_table(piece, folder / f"{number}.parquet", row_group_size=group)
    return {"path": "events", "format": form}


@given(
    form=st.sampled_from(["parquet", "parquet", "delta", "csv"]),
    rows=st.integers(1, 150),
    cuts=st.lists(st.integers(1, 149), max_size=3),
    group=st.integers(1, 40),
    shuffled=st.booleans(),
    hours=st.tuples(st.integers(-5, 160), st.integers(1, 200)),
    timed=st.booleans(),
    count=st.sampled_from([1, 2, 4, 16]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_shards_together_are_what_one_task_writes_byte_for_byte(
    form: str,
    rows: int,
    cuts: list[int],
    group: int,
    shuffled: bool,
    hours: tuple[int, int],
    timed: bool,
    count: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("lake")
    table = make_events(rows)
    if shuffled:
        table = table.take(random.Random(rows).sample(range(rows), rows))
    settings = _lay_out(root, form, table, sorted({c for c in cuts if c < rows}), group)
    start = START + timedelta(hours=hours[0])
    window = (start.isoformat(), (start + timedelta(hours=hours[1])).isoformat())
    if timed:
        settings["time"] = "time"
    work = Sharded(root, {"tables": {"events": settings}}, window if timed else ("", ""))
    try:
        work.whole()
    except SlipwayError as error:  # no row is in the window
        with pytest.raises(SlipwayError) as refused:
            work.shards(count)
        assert str(refused.value) == str(error)
        return
    parts = work.check(count)
    if form != "csv" and not timed:
        assert len(parts) == min(count, -(-rows // GROUP))


@pytest.mark.parametrize("count", [1, 4, 16])
def test_tables_of_all_kinds_and_sizes_together(count: int, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    _lay_out(tmp_path, "parquet", _nested(500), [37, 300], 20)
    (lake / "small").mkdir()
    pq.write_table(make_events(3), lake / "small/a.parquet")
    for number, day in enumerate(("2024-01-01", "2024-01-02", "__HIVE_DEFAULT_PARTITION__")):
        (lake / f"days/day={day}").mkdir(parents=True)
        pq.write_table(make_events(20, 20 * number), lake / f"days/day={day}/a.parquet")
    pc.write_csv(make_events(90), lake / "texts.csv")
    (lake / "lines.jsonl").write_text('{"a": 1, "time": "2024-01-01T09:00:00Z"}\n')
    nulls = make_events(60).set_column(1, "time", pa.nulls(60, pa.timestamp("us", "UTC")))
    pq.write_table(
        pa.concat_tables([make_events(60), nulls]),
        lake / "nulls.parquet",
    )
    config = {
        "tables": {
            "lines": {"path": "lines.jsonl", "format": "jsonl", "time": "time"},
            "events": {"path": "events", "time": "time", "rename": {"count": "n"}},
            "small": {"path": "small"},
            "days": {"path": "days", "time": "day", "columns": ["day", "id"]},
            "texts": {"path": "texts.csv", "format": "csv", "time": "time"},
            "nulls": {"path": "nulls.parquet", "time": "time"},
        }
    }
    work = Sharded(tmp_path, config, ("2024-01-01T05:00", "2024-01-15"))
    parts = work.check(count)
    assert len(parts) == count
    rows = [
        layout.read_manifest(part).tables["events"].rows
        for part in parts
        if (part / "events").exists()
    ]
    assert max(rows) - min(rows) <= 4 * GROUP


def test_a_shard_that_failed_is_run_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lay_out(tmp_path, "parquet", make_events(100), [], 100)
    work = Sharded(
        tmp_path,
        {"tables": {"events": {"path": "events", "time": "time"}}},
        ("2024-01-01", "2025-01-01"),
    )
    texts = work.plan(4).shards
    parts = [work.shard(text) for text in texts]
    before = [hash_directory(part) for part in parts]
    # A file that came since belongs to the next run, not to this one's second try.
    pq.write_table(make_events(9, 100), tmp_path / "lake/events/9.parquet")
    shutil.rmtree(parts[2])
    with pytest.raises(SlipwayError, match="part-2"):
        work.merge(parts)

    def breaks(*_: Any) -> Any:
        raise SlipwayError("the node went away")

    with monkeypatch.context() as broken:
        broken.setattr(module, "copy_rows", breaks)
        with pytest.raises(SlipwayError, match="the node went away"):
            work.shard(texts[2])
    assert not parts[2].exists()
    assert work.shard(texts[2]) == parts[2]
    assert [hash_directory(part) for part in parts] == before
    assert work.merge(parts).manifest.rows == 100
    assert work.whole().rows == 109


def test_a_source_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    _lay_out(tmp_path, "parquet", make_events(100), [50], 100)
    work = Sharded(tmp_path, {"tables": {"events": {"path": "events"}}}, ("", ""))
    texts = work.plan(2).shards
    work.shard(texts[0])
    pq.write_table(make_events(51), tmp_path / "lake/events/1.parquet")
    with pytest.raises(
        SlipwayError, match=r"1\.parquet has changed since the shards were planned: .* 50 rows"
    ):
        work.shard(texts[1])
    (tmp_path / "lake/events/1.parquet").unlink()
    with pytest.raises(SlipwayError, match=r"1\.parquet cannot be read"):
        work.shard(texts[1])


def test_of_a_delta_table_all_shards_read_one_version(tmp_path: Path) -> None:
    import deltalake

    settings = _lay_out(tmp_path, "delta", make_events(100), [50], 20)
    work = Sharded(tmp_path, {"tables": {"events": settings}}, ("", ""))
    work.whole()
    texts = work.plan(4).shards
    deltalake.write_deltalake(str(tmp_path / "lake/events"), make_events(7), mode="overwrite")
    assert work.merge([work.shard(text) for text in texts]).manifest.rows == 100
    assert hash_directory(tmp_path / "merged") == hash_directory(tmp_path / "whole")


def test_what_the_first_task_can_know_it_refuses(tmp_path: Path) -> None:
    _lay_out(tmp_path, "parquet", make_events(10), [], 5)
    events = {"path": "events", "time": "time"}
    window = ("2024-01-01", "2024-02-01")
    missing = Sharded(
        tmp_path,
        {"tables": {"events": events}},
        window,
        required={"events": {"label": "features.label"}},
    )
    with pytest.raises(SlipwayError, match=r"no column label, which features\.label names"):
        missing.plan(4)
    empty = Sharded(tmp_path, {"tables": {"events": events}}, ("2030-01-01", "2030-02-01"))
    with pytest.raises(SlipwayError, match="no row with time from 2030"):
        empty.plan(4)
    assert not (tmp_path / "plan").exists()
    may = Sharded(
        tmp_path, {"tables": {"events": events}}, ("2030-01-01", "2030-02-01"), may_be_empty=True
    )
    may.check(4)


Change = Callable[[list[Path]], list[Path]]


def _of_another_plan(parts: list[Path]) -> list[Path]:
    other = layout.read_manifest(parts[1])
    other.notes["shard"]["plan"] = "0" * 32
    layout.write_manifest(parts[1], other)
    return parts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: parts[:0], "No shard of the table is there: run the ingest again"),
        (lambda parts: parts[:2] + parts[3:], r"The shards \[0, 1, 3\] are there, of 4"),
        (lambda parts: [*parts[:3], parts[2]], r"The shards \[0, 1, 2, 2\] are there, of 4"),
        (_of_another_plan, "are shards of different ingests"),
    ],
)
def test_less_than_the_whole_is_refused(change: Change, said: str, tmp_path: Path) -> None:
    _lay_out(tmp_path, "parquet", make_events(100), [], 100)
    work = Sharded(tmp_path, {"tables": {"events": {"path": "events"}}}, ("", ""))
    parts = change(work.shards(4))
    with pytest.raises(SlipwayError, match=said):
        work.merge(parts)
    assert not (tmp_path / "merged").exists()


def test_the_merge_says_in_which_shards_the_next_stage_reads_it(tmp_path: Path) -> None:
    _lay_out(tmp_path, "parquet", make_events(100), [], 100)
    work = Sharded(tmp_path, {"tables": {"events": {"path": "events"}}}, ("", ""))
    merged = work.merge(work.shards(4), 16)
    found = [Shard.parse(text) for text in merged.shards]
    assert [shard.index for shard in found] == list(range(13))
    assert {(shard.of, shard.moment) for shard in found} == {(13, "2025-01-01T00:00:00Z")}
    with pytest.raises(SlipwayError, match="holds no shard of a dataset, but all of one"):
        merge_dataset(
            plan=tmp_path / "plan",
            parts=[tmp_path / "merged"],
            dataset=tmp_path / "again",
            shards=1,
        )
