"""Ingest and validate as loops of shards, by the local runner: the dataset of one task each."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kfp import dsl
from support.event_tables import make_events
from support.local_runs import run_in

from slipway.components.config.project import load_project
from slipway.components.support.files import hash_directory
from slipway.local.runner.execution import PipelineRun
from slipway.pipelines.interface import Channels
from slipway.pipelines.reading import read_good_rows

ROWS = 3 * 65_536
SCHEMA = {"tables": {"events": {"properties": {}, "x-unique": [["id"]], "x-maxFailedFraction": 1}}}


def _run(repository: Path, shards: str, lake: Path, folder: Path) -> PipelineRun:
    project = load_project(
        repository / "examples" / "flights", {"orchestration.shards": shards}
    ).project
    data = {"tables": {"events": {"path": "events"}}}

    @dsl.pipeline(name="reading")
    def reading(
        data: dict = data,
        data_root: str = str(lake),
        schema: str = json.dumps(SCHEMA),
    ) -> None:
        given = Channels(data=data, data_root=data_root, schema=schema, project="events")
        read_good_rows(given, project, {}, cached=False, window_start="", window_end="")

    return run_in(folder, reading, {})


@pytest.fixture(scope="module")
def runs(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PipelineRun, PipelineRun]:
    """One task each, and two shards: a key of the last rows is one of the first."""
    root = tmp_path_factory.mktemp("reading")
    (root / "lake/events").mkdir(parents=True)
    table = make_events(ROWS)
    pq.write_table(table, root / "lake/events/0.parquet")
    pq.write_table(table.slice(5, 1), root / "lake/events/1.parquet")
    one, two = (_run(repository, n, root / "lake", root / n) for n in ("1", "2"))
    return one, two


def test_the_merges_give_what_one_task_gives(runs: tuple[PipelineRun, PipelineRun]) -> None:
    one, two = runs
    assert one.error is None and two.error is None, (one.error, two.error)
    assert list(one.tasks) == ["ingest", "validate"]
    assert list(two.tasks) == [
        *("plan-ingest", "ingest-shard-0", "ingest-shard-1", "merge-dataset"),
        *("validate-shard-0", "validate-shard-1", "merge-validated"),
    ]
    for task, outputs in (("ingest", ["dataset"]), ("validate", ["good", "quarantine"])):
        for name in outputs:
            left, right = (Path(run.output(task, name)) for run in runs)
            assert hash_directory(left) == hash_directory(right), name
    for name in ("report", "results"):
        left, right = (Path(run.output("validate", name)) for run in runs)
        assert left.read_bytes() == right.read_bytes(), name
    assert json.loads(Path(two.output("validate", "results")).read_text())["tables"]["events"] == {
        **{"rows": ROWS + 1, "good": ROWS, "quarantine": 1},
        **{"before": 0, "after": 0, "warnings": []},
    }


def test_a_stage_in_shards_is_told_as_one(runs: tuple[PipelineRun, PipelineRun]) -> None:
    _, two = runs
    told = two.task("validate")
    parts = [task for name, task in two.tasks.items() if "valida" in name]
    assert told is not None and told.status == "succeeded"
    assert told.headline == parts[-1].headline and told.seconds == sum(t.seconds for t in parts)
    assert two.task("features") is None
