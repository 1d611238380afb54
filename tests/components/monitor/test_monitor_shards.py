"""Monitoring in shards: the answers, the sketches, the sample and the record of one task."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from support.feature_sections import of_one_table
from support.local_runs import run_in

from slipway.components.config.data import Window, parse_window
from slipway.components.config.project import load_project
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.predictions import Predictions, write_predictions
from slipway.components.contracts.splits import Feature
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.monitor import history
from slipway.components.monitor import reference as references
from slipway.components.monitor import window as windows
from slipway.components.monitor.measures import window_measures
from slipway.components.monitor.measures.scan import FeatureScan, LogReader
from slipway.components.monitor.measures.sketch import bin_edges
from slipway.components.monitor.monitor import MonitoringTask
from slipway.components.monitor.reference import Reference
from slipway.components.monitor.shards import (
    FILE,
    NOTE,
    SKETCHES,
    MonitoringPlan,
    ShardFindings,
    ShardsReader,
    merge_monitoring,
    monitor_shard,
    plan_monitoring,
    planned_window,
)
from slipway.components.monitor.window import open_window
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_directory
from slipway.local.runner.execution import PipelineRun
from slipway.pipelines.interface import Channels
from slipway.pipelines.monitoring import watch_window
from slipway.pipelines.watching import watch_in_shards

from . import test_monitor_payloads as payloads

DAY = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))
WEEK = ("2013-12-09T05:00:00", "2013-12-16T05:00:00")
FEATURES = (
    Feature(name="amount", kind="numeric", view="v"),
    Feature(name="shop", kind="categorical", view="v"),
    Feature(name="late", kind="boolean", view="v"),
    Feature(name="opens", kind="time", view="v"),
    Feature(name="gone", kind="numeric", view="v"),
)
SECTION = of_one_table(
    "t",
    "shop",
    "shop",
    "time",
    {"name": "v", "fields": {"amount": "amount"}},
    label={"column": "y"},
    split={"validation": "1d", "test": "1d"},
)
RULE = {"rule": {"by": "shop", "measure": "selection_rate", "gap": 0.1}}


def _reference() -> Reference:
    draw = np.random.default_rng(1)
    edges = {
        "amount": bin_edges(draw.normal(size=500), 16),
        "opens": bin_edges(draw.uniform(0, 24, 500), 16),
        "gone": bin_edges(draw.normal(size=500), 16),
    }
    return Reference(
        model_version="1",
        features=FEATURES,
        table=pa.table({}),
        edges=edges,
        sketches={},
        prediction=None,  # type: ignore[arg-type]
        release={},
        label=label_type("binary", threshold=0.5),
        # Two rules of one feature: its column is handed on once.
        fairness=(RULE, {"rule": {**RULE["rule"], "measure": "error"}}),
    )


def _hour(hour: int, rows: int, draw: np.random.Generator, wrong: bool) -> pa.Table:
    """Rows of an hour: of two versions, some refused, with what a real log has of odd values."""
    first = DAY.start + timedelta(hours=hour)
    moments = [first + timedelta(seconds=float(s)) for s in np.sort(draw.uniform(0, 3600, rows))]
    amount = draw.choice([0.1, 1e9, -3.3, np.nan], rows) * draw.normal(1, 0.1, rows)
    shops = [None if s == 0 else f"s{s}" for s in draw.integers(0, 9, rows)]
    return pa.table(
        {
            "request_id": [f"{hour}-{i}" for i in range(rows)],
            "row": pa.array(draw.choice([0, 0, 1, -1], rows), pa.int32()),
            "key": [f"k{k}" for k in draw.integers(0, 50, rows)],
            "time": pa.array(moments, pa.timestamp("us", "UTC")),
            "served_at": pa.array(moments, pa.timestamp("us", "UTC")),
            "model_version": draw.choice(["1", "1", "1", "2"], rows),
            "status": pa.array([200] * rows, pa.int16()),
            "probability": draw.random(rows),
            "label": pa.array(draw.integers(0, 2, rows), pa.int8()),
            "latency_ms": draw.gamma(2, 2, rows),
            f"{FEATURE_PREFIX}amount": pa.array(["x"] * rows) if wrong else pa.array(amount),
            f"{FEATURE_PREFIX}shop": pa.array(range(rows))
            if wrong
            else pa.array(shops, pa.string()),
            f"{FEATURE_PREFIX}late": draw.random(rows) > 0.5,
            f"{FEATURE_PREFIX}opens": pa.array(moments, pa.timestamp("us")),
        }
    )


def _write_log(root: Path, sizes: list[int], group: int, seed: int, wrong: int) -> Path:
    draw = np.random.default_rng(seed)
    for number, rows in enumerate(sizes):
        hour = number * 24 // len(sizes)
        folder = root / f"toy/date=2024-01-01/hour={hour:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        table = _hour(hour, rows, draw, wrong=number == wrong)
        pq.write_table(table, folder / f"{number:03d}.parquet", row_group_size=group)
    return root


class Sharded:
    """A log that is monitored in shards, each in a folder of its own."""

    def __init__(self, root: Path, log: Path | str, config: dict[str, Any], project: str = "toy"):
        self.root, self.log, self.config, self.project = root, str(log), config, project

    def plan(self, of: int, window: Window = DAY) -> list[str]:
        return plan_monitoring(
            project=self.project,
            config=self.config,
            window=window,
            plan=self.root / "plan",
            shards=of,
            log_uri=self.log,
        ).shards

    def shard(self, text: str, features: dict[str, Any] = SECTION) -> Path:
        part = self.root / f"part-{json.loads(text)['index']}"
        monitor_shard(
            plan=self.root / "plan",
            project=self.project,
            config=self.config,
            features=features,
            shard=text,
            part=part,
            log_uri=self.log,
        )
        return part

    def reader(self, parts: list[Path]) -> ShardsReader:
        plan = MonitoringPlan.read(self.root / "plan" / FILE)
        found = [(part, ShardFindings.read(part / NOTE)) for part in parts]
        return ShardsReader(plan.open(self.log, self.project), plan, found)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Reference:
    """The reference of `toy`, as the registry gives it."""
    found = _reference()
    give(monkeypatch, found)
    return found


def give(patch: pytest.MonkeyPatch, found: Reference) -> None:
    """The registry gives this reference."""
    for module in (references, window_measures):
        patch.setattr(module, "fetch_reference", lambda *_: found)


def _content(scan: FeatureScan) -> dict[str, Any]:
    drawn = scan.drawn
    return {
        # A number for a category would be a text after its way through a file.
        "sketches": {n: repr(s.to_dict()) for n, s in scan.sketches.items()},
        "rows": scan.rows,
        "missing": scan.missing_columns,
        "wrong": scan.wrong_types,
        "sample": None if drawn is None else repr(drawn.rows.to_pydict()),
        "draws": None if drawn is None else drawn.draws.tolist(),
    }


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    group=st.sampled_from([7, 25, 1000]),
    piece=st.sampled_from([1, 40, 100_000]),
    of=st.sampled_from([1, 4, 16]),
    sample=st.sampled_from([0, 5, 1000]),
    seed=st.integers(0, 50),
    wrong=st.integers(-1, 12),
)
@settings(max_examples=25, deadline=None)
def test_shards_together_find_what_one_task_finds_to_the_last_digit(
    sizes: list[int],
    group: int,
    piece: int,
    of: int,
    sample: int,
    seed: int,
    wrong: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("log")
    log = _write_log(root / "log", sizes, group, seed, wrong)
    toy = _reference()
    with pytest.MonkeyPatch.context() as patch:
        give(patch, toy)
        patch.setattr(windows, "PIECE_ROWS", piece)
        work = Sharded(root, log, {"report_rows": sample})
        texts = work.plan(of)
        shards = work.reader([work.shard(text) for text in texts])
        whole = LogReader(open_window(str(log), "toy", DAY))
        answers = [reader.answers("binary") for reader in (whole, shards)]
        assert answers[0] == answers[1]
        pieces = len(whole.log.pieces())
        assert len(texts) == max(1, min(of, pieces))
        assert pieces <= 1 or piece < 100_000
        version = shards.plan.model_version
        assert version == windows.main_version(answers[0])[0]
        if version is not None:
            # The groups of the release's rules are handed on too.
            by = [f"{FEATURE_PREFIX}shop"]
            assert whole.answers("binary", by) == shards.answers("binary", by)
            scans = [reader.scan(version, toy, sample, 0) for reader in (whole, shards)]
            assert _content(scans[0]) == _content(scans[1])
            assert scans[0].rows == shards.plan.rows
            assert (scans[0].drawn is not None) == (sample > 0)
            assert sample == 0 or scans[0].drawn.rows.num_rows == min(sample, scans[0].rows)  # type: ignore[union-attr]


def test_a_sample_is_even_and_no_row_is_drawn_twice(tmp_path: Path, toy: Reference) -> None:
    """Of 40 pieces as many rows as of each other, in the order of the log."""
    log = _write_log(tmp_path / "log", [250] * 40, 250, 0, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PIECE_ROWS", 250)
        scan = LogReader(open_window(str(log), "toy", DAY)).scan("1", toy, 2000, 0)
    assert scan.sample is not None and scan.drawn is not None
    places = scan.sample["amount"].to_pylist()
    assert len(places) == 2000 and scan.sample.column_names == ["amount", "shop", "late", "gone"]
    assert len(set(scan.drawn.draws.tolist())) == 2000
    assert max(scan.drawn.draws) == pytest.approx(2000 / scan.rows, rel=0.05)


@pytest.fixture
def sharded(world: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the stage on the world's log in shards of pieces of 500 rows."""
    monkeypatch.setattr(windows, "PIECE_ROWS", 500)

    def run(of: int, features: dict[str, Any], merges: int = 1, **changes: Any) -> Any:
        root = world.root / f"of-{of}"
        work = Sharded(root, "", {**world.config, **changes}, "flights")
        texts = work.plan(of, parse_window(*WEEK))
        assert len(texts) == of
        parts = [work.shard(text, features) for text in texts]
        task = MonitoringTask(
            labels_path=world.root / "labels",
            project="flights",
            config=work.config,
            features=features,
            window=planned_window(root / "plan"),
            endpoint="",
            record_path=root / "record.json",
            report_path=root / "report",
        )

        def merge(_: int) -> Any:
            return merge_monitoring(task, plan=root / "plan", parts=parts[::-1])

        if merges == 1:
            return merge(0)
        with ThreadPoolExecutor(merges) as pool:
            return list(pool.map(merge, range(merges)))

    return run


@pytest.mark.parametrize("of", [1, 4, 11])
def test_the_record_and_the_page_are_those_of_one_task(
    world: Any, flights_section: dict[str, Any], sharded: Any, of: int
) -> None:
    rows = world.between(*WEEK)
    world.write_log(rows[:4000], failed=7, latency_ms=3.3)
    world.write_log(rows[4000:4300], version="99")
    world.write_log(rows[4300:], drop=("temp",), latency_ms=150.0)
    alone = world.run(*WEEK)
    written = _history(world)
    assert {path.parts[1] for path in written} == {"windows", "sketches"}
    merged = sharded(of, flights_section)
    assert merged.record == alone.record
    assert merged.record.to_json() == alone.record.to_json()
    page = (world.root / f"of-{of}/report").read_text()
    assert page == (world.root / "report").read_text()
    assert _history(world) == written


def _history(world: Any) -> dict[Path, pa.Table]:
    """What is kept of all windows, but when each was measured."""
    tables = {}
    for path in sorted((world.root / "home").rglob("*.parquet")):
        table = pq.read_table(path)
        kept = [name for name in table.column_names if name != "measured_at"]
        tables[path.relative_to(world.root / "home")] = table.select(kept)
    return tables


def test_doubled_requests_missing_hours_and_late_labels_give_one_record_twice_at_once(
    world: Any, flights_section: dict[str, Any], sharded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen shards, some without a row, that two tries of the merge put together at the same time."""
    monkeypatch.setattr(windows, "PIECE_ROWS", 250)
    earlier = ("2013-12-02T05:00:00", "2013-12-09T05:00:00")
    before, rows = world.between(*earlier), world.between(*WEEK)
    world.write_log(before)
    world.write_labels(before[::3])
    world.run(*earlier)
    world.write_labels()
    world.write_log(rows)
    world.write_log(rows[::2].with_columns(probability=1 - pl.col("probability")))
    world.write_log(rows[::3].with_columns(flight_id=pl.lit(None, pl.String)), failed=5)
    gone, empty, *_ = sorted((world.log / "flights/date=2013-12-10").iterdir())
    shutil.rmtree(gone)
    for path in empty.iterdir():
        pq.write_table(pq.read_table(path, partitioning=None)[:0], path)
    alone = world.run(*WEEK)
    assert alone.record.details["late"] and alone.record.summary["unlabelled_share"] > 0
    page, written = (world.root / "report").read_text(), _history(world)
    for merged in sharded(16, flights_section, merges=2):
        assert merged.record.to_json() == alone.record.to_json()
    assert (world.root / "of-16/report").read_text() == page
    assert _history(world) == written
    assert history.latest(world.root / "home")[0]["window"] == alone.record.window


def test_a_shard_that_failed_is_run_again_alone(tmp_path: Path, toy: Reference) -> None:
    log = _write_log(tmp_path / "log", [60] * 12, 20, 0, -1)
    work = Sharded(tmp_path, log, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PIECE_ROWS", 60)
        texts = work.plan(4)
        parts = [work.shard(text) for text in texts]
        before = [hash_directory(part) for part in parts]
        (parts[2] / NOTE).unlink()
        with pytest.raises(SlipwayError, match="part-2 holds no shard of a monitoring"):
            _merge(work, parts)
        work.shard(texts[2])
    assert [hash_directory(part) for part in parts] == before
    assert [len(pq.ParquetFile(part / SKETCHES).read()) for part in parts] == [15] * 4


def _merge(work: Sharded, parts: list[Path]) -> Any:
    task = MonitoringTask(
        labels_path=work.root / "labels",
        project="toy",
        config=work.config,
        features=SECTION,
        window=DAY,
        endpoint="",
        record_path=work.root / "record.json",
        report_path=work.root / "report",
        log_uri=work.log,
    )
    return merge_monitoring(task, plan=work.root / "plan", parts=parts)


def _of_another_plan(work: Sharded, parts: list[Path]) -> list[Path]:
    plan = work.root / "plan" / FILE
    found = MonitoringPlan.read(plan)
    replace(found, rows=found.rows + 1).write(plan)
    return parts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda work, parts: parts[:0], "run the monitoring again"),
        (lambda work, parts: [*parts[:3], parts[2]], r"The shards \[0, 1, 2, 2\] are there, of 4"),
        (_of_another_plan, "is a shard of another plan"),
    ],
)
def test_less_than_the_whole_is_refused(
    change: Any, said: str, tmp_path: Path, toy: Reference
) -> None:
    work = Sharded(tmp_path, _write_log(tmp_path / "log", [60] * 12, 20, 0, -1), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PIECE_ROWS", 60)
        parts = [work.shard(text) for text in work.plan(4)]
    with pytest.raises(SlipwayError, match=said):
        _merge(work, change(work, parts))
    assert not (tmp_path / "record.json").exists()


def test_a_log_that_changes_after_the_plan_is_refused_and_what_comes_later_is_not_read(
    tmp_path: Path, toy: Reference
) -> None:
    log = _write_log(tmp_path / "log", [60] * 3, 20, 0, -1)
    work = Sharded(tmp_path, log, {})
    (text,) = work.plan(4)
    late = log / "toy/date=2024-01-01/hour=03/late.parquet"
    late.parent.mkdir()
    first = log / "toy/date=2024-01-01/hour=00/000.parquet"
    late.write_bytes(first.read_bytes())
    findings = ShardFindings.read(work.shard(text) / NOTE)
    assert findings.answers == 180
    pq.write_table(pq.read_table(first), first, row_group_size=30)
    with pytest.raises(SlipwayError, match=r"000\.parquet has changed since the shards were plann"):
        work.shard(text)
    first.unlink()
    with pytest.raises(SlipwayError, match=r"000\.parquet cannot be read"):
        work.shard(text)


def test_a_shard_reads_its_own_files_alone(
    tmp_path: Path, toy: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    log = _write_log(tmp_path / "log", [60] * 12, 20, 0, -1)
    monkeypatch.setattr(windows, "PIECE_ROWS", 60)
    work = Sharded(tmp_path, log, {})
    texts = work.plan(4)
    read: list[str] = []
    real = LocalFileSystem.open

    def count(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        if "toy/date=" in path:
            read.append(path)
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "open", count)
    work.shard(texts[1])
    assert sorted({Path(path).name for path in read}) == [f"{n:03d}.parquet" for n in (3, 4, 5)]


def test_a_window_of_which_nothing_was_asked(tmp_path: Path, toy: Reference) -> None:
    work = Sharded(tmp_path, tmp_path / "log", {})
    (text,) = work.plan(16)
    reader = work.reader([work.shard(text)])
    assert reader.answers("binary").num_rows == 0
    assert reader.plan.model_version is None
    # A window of refused requests alone has answers, and nothing to compare.
    log = _write_log(tmp_path / "log", [60], 60, 0, -1)
    (path,) = log.rglob("*.parquet")
    table = pq.read_table(path)
    refused = pa.array([-1] * table.num_rows, pa.int32())
    pq.write_table(table.set_column(1, "row", refused), path)
    (text,) = work.plan(16)
    reader = work.reader([work.shard(text)])
    assert (reader.plan.model_version, reader.answers("binary").num_rows) == (None, 60)


@pytest.mark.parametrize("which", [0, -1])
def test_a_feature_of_another_type_in_some_files_is_a_break_and_no_traceback(
    world: Any, which: int
) -> None:
    rows = world.between(*WEEK)
    world.write_log(rows[:2000])
    world.write_log(rows[2000:])
    path = sorted(world.log.rglob("*.parquet"))[which]
    table = pq.read_table(path)
    place = table.column_names.index(f"{FEATURE_PREFIX}temp")
    words = pa.array(["warm"] * table.num_rows)
    pq.write_table(table.set_column(place, f"{FEATURE_PREFIX}temp", words), path)
    result = world.run(*WEEK, report_rows=300)
    assert "SCHEMA_BREAK" in [alert.name for alert in result.record.alerts]
    assert result.record.details["schema_breaks"] == ["temp has type string"]
    assert result.record.details["sampled_rows"] == 300


@pytest.mark.parametrize("of", [1, 4])
def test_an_odd_file_of_the_log_is_told_of_in_shards_as_in_one_task(
    of: int, tmp_path: Path, toy: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers in the place of categories are a break; a group that no text stands for is none."""
    monkeypatch.setattr(windows, "PIECE_ROWS", 60)
    log = _write_log(tmp_path / "log", [60] * 4, 20, 0, -1)
    *_, second, third, last = sorted(log.rglob("*.parquet"))
    by = [f"{FEATURE_PREFIX}shop"]
    _put(second, by[0], pa.array(range(60)))
    _put(third, by[0], pa.array([[1]] * 60))
    _put(third, "model_version", pa.array([1] * 60))
    work = Sharded(tmp_path, log, {})
    reader = work.reader([work.shard(text) for text in work.plan(of)])
    whole = LogReader(open_window(str(log), "toy", DAY))
    assert whole.answers("binary", by) == reader.answers("binary", by)
    assert reader.answers("binary", by)[by[0]][120:180].null_count == 60
    scans = [each.scan("1", toy, 0, 0) for each in (whole, reader)]
    assert _content(scans[0]) == _content(scans[1])
    assert scans[1].wrong_types == {"shop": "int64"}
    _put(last, "status", pa.array(["fine"] * 60))
    said = r"of toy holds string in the column status, which is no int16"
    with pytest.raises(SlipwayError, match=said):
        LogReader(open_window(str(log), "toy", DAY)).answers("binary")
    with pytest.raises(SlipwayError, match=said):
        [work.shard(text) for text in work.plan(of)]


def _put(path: Path, column: str, values: pa.Array) -> None:
    table = pq.read_table(path, partitioning=None)
    table = table.set_column(table.column_names.index(column), column, values)
    pq.write_table(table, path, row_group_size=20)


@pytest.mark.parametrize("first", [[], ["1"]])
def test_shards_of_another_version_than_the_merge_finds_are_refused(
    first: list[str], tmp_path: Path, toy: Reference
) -> None:
    """KServe's log is read by the plan, and by the shard: what came between may be of another version."""
    folder = tmp_path / "payloads"
    folder.mkdir()
    work = Sharded(tmp_path, f"kserve+{folder}#flight_id", {}, "flights")
    _write_payloads(folder, first)
    (text,) = work.plan(4, payloads.WINDOW)
    _write_payloads(folder, ["2", "2"])
    reader = work.reader([work.shard(text)])
    version, _ = windows.main_version(reader.answers("binary"))
    assert version == "2"
    said = f"answered by version {(*first, 'none')[0]}, and now by 2. Run the pipeline again"
    with pytest.raises(SlipwayError, match=said):
        reader.scan(version, toy, 0, 0)


def _write_payloads(folder: Path, versions: list[str]) -> None:
    for number, version in enumerate(versions):
        name = f"{version}-{number}"
        records = [
            payloads.record(name, "request", payloads.request([1.0], ["a"])),
            payloads.record(name, "response", payloads.answer([0.2], version)),
        ]
        payloads.write(folder, records, f"{name}.json")


def _run_here(world: Any, features: dict[str, Any], scored: Path | None) -> PipelineRun:
    """The tasks that monitor in shards, by the local runner."""
    settings = {"orchestration.shards": "auto"}
    project = load_project(world.repository / "examples" / "flights", settings).project

    @dsl.pipeline(name="watching")
    def watching(monitoring: dict = world.config, features: dict = features) -> None:
        labels = dsl.importer(artifact_uri=str(world.root / "labels"), artifact_class=dsl.Dataset)
        given = Channels(
            project="flights",
            monitoring=monitoring,
            features=features,
            data_root="",
            window_start=WEEK[0],
            window_end=WEEK[1],
            endpoint="",
        )
        if scored is None:
            watch_window(given, project, labels.output)
        else:
            table = dsl.importer(artifact_uri=str(scored), artifact_class=dsl.Dataset)
            watch_in_shards(given, project, labels.output, {"predictions": table.output}, {})

    names = ("MLFLOW_TRACKING_URI", "INFERENCE_LOG_URI", "MONITORING_URI")
    run = run_in(world.root / "run", watching, {name: os.environ[name] for name in names})
    assert run.error is None, run.error
    tasks = [name for name in run.tasks if not name.startswith("importer")]
    assert tasks == ["plan-monitoring", "monitor-shard-0", "merge-monitoring"]
    return run


def test_the_local_runner_monitors_by_plan_loop_and_merge(
    world: Any, flights_section: dict[str, Any], repository: Path
) -> None:
    world.repository = repository
    world.write_log(world.between(*WEEK))
    alone = world.run(*WEEK)
    run = _run_here(world, flights_section, None)
    assert MonitoringRecord.read(Path(run.output("monitor", "record"))) == alone.record
    assert run.output("monitor", "Output") == alone.decision


def test_a_scored_table_is_monitored_in_shards_under_a_history_of_its_own(
    world: Any,
    flights_section: dict[str, Any],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.repository = repository
    world.write_log(world.between(*WEEK))
    world.write_labels()
    moments = parse_window(*WEEK).texts
    table = Predictions(
        model="flights",
        model_version=world.version,
        model_hash="c0ffee",
        window=moments,
        moments=moments,
        rows=1,
        positives=0,
        threshold=0.25,
        label_kind="binary",
        data_hash="0",
    )
    write_predictions(world.log, table)
    monkeypatch.setenv("INFERENCE_LOG_URI", str(world.root / "nothing"))
    run = _run_here(world, flights_section, world.log)
    record = MonitoringRecord.read(Path(run.output("monitor-predictions", "record")))
    assert record.model == "flights-scoring" and not record.retrain
    assert record.summary["total_predictions"] == world.between(*WEEK).height
    assert record.summary["labelled"] > 1000
