"""A table scored in shards: the bytes that one task writes, and a refusal of anything less."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import deploy_world

from slipway.components.contracts import shards as module
from slipway.components.contracts.feature_rows import read_feature_rows, write_feature_rows
from slipway.components.contracts.predictions import (
    FILE,
    Predictions,
    read_predictions,
    write_predictions,
)
from slipway.components.contracts.shards import join_files
from slipway.components.deploy import score as scoring
from slipway.components.deploy.score import score_rows
from slipway.components.deploy.score_shards import merge_predictions, plan_scoring, score_shard
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_directory

NOW = datetime(2014, 1, 1, 5, 6, 7, 89, tzinfo=UTC)
GROUP = 7
"""Rows of a row group: the 60 rows have nine, and the day ends inside the seventh."""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Sixty flights of two days, in nine row groups."""
    folder = deploy_world.make_rows(tmp_path / "rows", group=GROUP)
    write_feature_rows(folder, replace(read_feature_rows(folder), lead_seconds=0))
    return folder


Shards = Callable[[int], list[Path]]


@pytest.fixture
def shards(registered: Any, rows: Path, tmp_path: Path) -> Shards:
    """Plans so many shards and scores each."""

    def score(count: int) -> list[Path]:
        plan = plan_scoring(rows=rows, project="flights", model="champion", shards=count, now=NOW)
        parts = [tmp_path / f"part-{number}" for number in range(len(plan.shards))]
        for text, part in zip(plan.shards, parts, strict=True):
            score_shard(rows=rows, project="flights", shard=text, predictions=part)
        return parts

    return score


def _whole(rows: Path, folder: Path, model: str = "champion") -> Predictions:
    return score_rows(rows=rows, project="flights", model=model, predictions=folder, now=NOW)


@pytest.mark.parametrize(("asked", "made"), [(1, 1), (2, 2), (4, 4), (16, 9)])
@pytest.mark.parametrize("timed", [True, False])
def test_shards_together_are_what_one_task_writes_byte_for_byte(
    asked: int, made: int, timed: bool, rows: Path, shards: Shards, tmp_path: Path
) -> None:
    if not timed:
        write_feature_rows(rows, replace(read_feature_rows(rows), window=None, lead_seconds=0))
    whole = _whole(rows, tmp_path / "whole")
    parts = shards(asked)
    assert len(parts) == made
    sizes = [pq.ParquetDataset(part / "flights").read().num_rows for part in parts]
    assert sum(sizes) == whole.rows == 60 and max(sizes) - min(sizes) <= 2 * GROUP
    merged = merge_predictions(parts=parts[::-1], predictions=tmp_path / "merged")
    assert merged == whole == read_predictions(tmp_path / "merged")
    days = {p.parent.name for p in (tmp_path / "merged").rglob("*.parquet")}
    assert len(days) == (2 if timed else 1)
    assert hash_directory(tmp_path / "merged") == hash_directory(tmp_path / "whole")


def test_a_shard_that_failed_is_run_again_alone(
    registered: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alias moves in between; the shard still asks the version of the others."""
    import mlflow

    plan = plan_scoring(rows=rows, project="flights", model="champion", shards=4, now=NOW)
    parts = [tmp_path / f"part-{number}" for number in range(4)]
    for number in (0, 1, 3):
        score_shard(
            rows=rows, project="flights", shard=plan.shards[number], predictions=parts[number]
        )
    before = [hash_directory(parts[number]) for number in (0, 1, 3)]
    again = {
        "rows": rows,
        "project": "flights",
        "shard": plan.shards[2],
        "predictions": parts[2],
    }

    def breaks(*_: Any) -> Any:
        raise SlipwayError("the node went away")

    with monkeypatch.context() as broken:
        broken.setattr(scoring, "predict", breaks)
        with pytest.raises(SlipwayError, match="the node went away"):
            score_shard(**again)
    assert not parts[2].exists()
    with pytest.raises(SlipwayError, match="part-2"):
        merge_predictions(parts=parts, predictions=tmp_path / "merged")
    mlflow.MlflowClient().set_registered_model_alias("flights", "champion", "1")
    score_shard(**again)
    merge_predictions(parts=parts, predictions=tmp_path / "merged")
    _whole(rows, tmp_path / "whole", model="2")
    assert hash_directory(tmp_path / "merged") == hash_directory(tmp_path / "whole")
    assert [hash_directory(parts[number]) for number in (0, 1, 3)] == before


def _leave_out(parts: list[Path]) -> list[Path]:
    return parts[:2] + parts[3:]


def _repeat(parts: list[Path]) -> list[Path]:
    return [*parts[:2], parts[1], parts[3]]


def _mix(parts: list[Path]) -> list[Path]:
    record = read_predictions(parts[1])
    write_predictions(parts[1], replace(record, model_hash="e" * 64))
    return parts


def _lose_a_row(parts: list[Path]) -> list[Path]:
    record = read_predictions(parts[1])
    write_predictions(parts[1], replace(record, rows=record.rows - 1))
    return parts


def _swap(parts: list[Path]) -> list[Path]:
    notes = [read_predictions(part).notes for part in parts]
    for part, note in zip(parts, notes[::-1], strict=True):
        write_predictions(part, replace(read_predictions(part), notes=note))
    return parts


def _of_another_plan(parts: list[Path]) -> list[Path]:
    record = read_predictions(parts[1])
    notes = {"shard": {**record.notes["shard"], "of": 9}}
    write_predictions(parts[1], replace(record, notes=notes))
    return parts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_leave_out, r"The shards \[0, 1, 3\] are there, of 4"),
        (_repeat, r"The shards \[0, 1, 1, 3\] are there, of 4"),
        (_mix, "are shards of different scorings"),
        (_lose_a_row, "hold 59 of the table's 60 rows"),
        (_swap, "not ordered by time"),
        (_of_another_plan, "are shards of different scorings"),
        (lambda parts: parts[:0], "No shard of the table is there"),
    ],
)
def test_less_than_the_whole_is_refused(
    change: Callable[[list[Path]], list[Path]], said: str, shards: Shards, tmp_path: Path
) -> None:
    parts = change(shards(4))
    with pytest.raises(SlipwayError, match=said):
        merge_predictions(parts=parts, predictions=tmp_path / "merged", publish=str(tmp_path / "o"))
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / "o").exists()


def test_the_whole_is_published_and_a_shard_is_not(
    rows: Path, shards: Shards, tmp_path: Path
) -> None:
    parts = shards(4)
    publish = str(tmp_path / "out")
    merged = merge_predictions(parts=parts, predictions=tmp_path / "merged", publish=publish)
    place = f"{publish}/flights/20131201T200000Z--20131202T010000Z/version=2"
    assert merged.published == place
    assert read_predictions(Path(place)) == merged
    with pytest.raises(SlipwayError, match="holds no shard of a table"):
        merge_predictions(parts=[tmp_path / "merged"], predictions=tmp_path / "twice")


@pytest.mark.parametrize(
    ("shard_rows", "most", "made"), [(60, 64, 1), (59, 64, 2), (1, 64, 9), (1, 5, 5)]
)
def test_left_to_slipway_the_rows_say_how_many_shards(
    shard_rows: int,
    most: int,
    made: int,
    registered: Any,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", shard_rows)
    monkeypatch.setattr(module, "MOST", most)
    plan = plan_scoring(rows=rows, project="flights", model="champion", shards=0)
    assert [json.loads(text)["index"] for text in plan.shards] == list(range(made))


def test_a_version_that_cannot_score_the_rows_is_refused_before_the_first_shard(
    registered: Any, rows: Path
) -> None:
    record = read_feature_rows(rows)
    fewer = tuple(feature for feature in record.features if feature.name != "miles")
    write_feature_rows(rows, replace(record, features=fewer))
    with pytest.raises(SlipwayError, match=r"miles \(numeric, not there\)"):
        plan_scoring(rows=rows, project="flights", model="champion", shards=4)


def test_nothing_but_predictions_is_taken_for_a_shard(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SlipwayError, match=f"holds no predictions.*{FILE}"):
        merge_predictions(parts=[tmp_path / "empty"], predictions=tmp_path / "merged")


def test_a_day_of_two_shards_is_joined_to_the_byte_with_sets_of_classes_too(tmp_path: Path) -> None:
    table = pa.table(
        {"key": ["a", "b", "c"], "set": [["x", "y"], [], ["z"]], "p": [0.5, None, 1.0]}
    )
    name = Path("flights/date=2013-12-01/part-00000.parquet")
    for folder, groups in (("0", [table]), ("1", [table[1:]]), ("whole", [table, table[1:]])):
        (tmp_path / folder / name).parent.mkdir(parents=True)
        with pq.ParquetWriter(tmp_path / folder / name, table.schema, compression="zstd") as file:
            for group in groups:
                file.write_table(group)
    join_files([tmp_path / "0", tmp_path / "1"], "*.parquet", tmp_path / "joined")
    assert (tmp_path / "joined" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
