"""Scoring a table as shards, one task each: the plan that all follow, a shard, and what they make."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from slipway.components.config.base import format_instant
from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.feature_rows import ROWS, read_feature_rows
from slipway.components.contracts.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)
from slipway.components.contracts.shards import count_shards, join_files, put_in_order
from slipway.components.deploy.deploy import fetch_bundle
from slipway.components.deploy.publishing import place_of, publish_to
from slipway.components.deploy.score import (
    ScoringShard,
    find_version,
    require_features,
    score_into,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import progress, stage

_NOTE = "shard"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """How a table is scored: a text for each shard, which the shard's task reads."""

    shards: list[str]
    rows: int
    version: str

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        count = f"{len(self.shards)} shard" + ("s" if len(self.shards) > 1 else "")
        return f"{self.rows:,} rows in {count}, by version {self.version}"


@stage("plan-scoring")
def plan_scoring(
    *, rows: Path, project: str, model: str, shards: int, now: datetime | None = None
) -> ShardPlan:
    """Settles once for all shards which version scores, as of when, and which rows each has.

    Args:
        rows: the rows with their features, from the features stage.
        project: the registered model's name.
        model: which version: an alias, or a number.
        shards: how many at most; 0: one for every `SHARD_ROWS` rows. A table has no more than row groups.
        now: the moment of the scoring; None: this one.

    Raises:
        SlipwayError: as `score_rows`: a version that cannot score these rows fails here, and once.
    """
    import pyarrow.parquet as pq

    source = read_feature_rows(rows)
    release = find_version(project, model)
    with tempfile.TemporaryDirectory(prefix="slipway-score-") as scratch:
        bundle = read_bundle(fetch_bundle(release, Path(scratch)))
        require_features(bundle, source, release)
    footer = pq.read_metadata(rows / ROWS)
    count = count_shards(shards, rows=footer.num_rows, pieces=footer.num_row_groups)
    moment = format_instant(now or datetime.now(UTC))
    planned = [
        ScoringShard(version=release.model_version, moment=moment, index=index, of=count)
        for index in range(count)
    ]
    return ShardPlan(
        shards=[shard.text for shard in planned],
        rows=footer.num_rows,
        version=release.model_version,
    )


@stage("score-shard")
def score_shard(*, rows: Path, project: str, shard: str, predictions: Path) -> Predictions:
    """Predicts one shard's rows; run again it gives the same files, byte for byte.

    Args:
        rows: the whole table's folder.
        project: the registered model's name.
        shard: its text in the plan.
        predictions: the folder that its predictions appear in, once all are there.

    Raises:
        SlipwayError: as `score_rows`.
    """
    given = ScoringShard.parse(shard)
    with new_directory(predictions) as target:
        result = score_into(target, rows, find_version(project, given.version), given)
        whole = read_feature_rows(rows).rows
        note = {"index": given.index, "of": given.of, "table_rows": whole}
        result = replace(result, notes={_NOTE: note})
        write_predictions(target, result)
    return result


@stage("merge-predictions")
def merge_predictions(
    *, parts: Sequence[Path], predictions: Path, publish: str = ""
) -> Predictions:
    """Puts the shards of a table together: the files that one task makes, byte for byte.

    Memory holds one batch of rows.

    Args:
        parts: the folder of each shard, in any order.
        predictions: the folder that the whole appears in.
        publish: as in `score_rows`.

    Raises:
        SlipwayError: a shard is missing, or they are of different scorings. Nothing is left behind.
    """
    ordered = _in_order(parts)
    records = [read_predictions(part) for part in ordered]
    with new_directory(predictions) as target:
        disorder = "The rows are not ordered by time: run features again."
        join_files(ordered, "*.parquet", target, disorder)
        result = replace(
            records[0],
            rows=sum(record.rows for record in records),
            positives=sum(record.positives for record in records),
            notes={},
        )
        if publish:
            result = replace(result, published=place_of(publish, result))
        write_predictions(target, result)
    if result.published:
        progress(f"publishing to {result.published}")
        publish_to(predictions, result.published)
    return result


def _in_order(parts: Sequence[Path]) -> list[Path]:
    """The folders of all shards of one scoring in their order; each must be there once.

    Raises:
        SlipwayError: as `merge_predictions`.
    """
    found = [(read_predictions(part), part) for part in parts]
    for record, part in found:
        if _NOTE not in record.notes:
            raise SlipwayError(f"{part} holds no shard of a table, but all of one.")
    same = [asdict(replace(record, rows=0, positives=0, notes={})) for record, _ in found]
    notes = [note | record.notes[_NOTE] for note, (record, _) in zip(same, found, strict=True)]
    ordered = put_in_order(zip(notes, parts, strict=True), "scoring")
    rows = sum(record.rows for record, _ in found)
    wanted = found[0][0].notes[_NOTE]["table_rows"]
    if rows != wanted:
        raise SlipwayError(
            f"The shards hold {rows:,} of the table's {wanted:,} rows. Run the scoring again."
        )
    return ordered
