"""Scoring a table as shards, one task each: the plan that all follow, a shard, and what they make."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.feature_rows import ROWS, read_feature_rows
from slipway.components.contracts.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)
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

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 4_194_304
"""Rows of a shard where their number is left to Slipway: some minutes of work, against a pod's start."""
MOST = 64
"""Shards of a table where their number is left to Slipway."""
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
    wanted = shards or min(-(-footer.num_rows // SHARD_ROWS), MOST)
    count = max(min(wanted, footer.num_row_groups), 1)
    moment = format_instant(now or datetime.now(UTC))
    planned = [
        ScoringShard(version=release.model_version, moment=moment, index=index, of=count)
        for index in range(count)
    ]
    return ShardPlan(
        shards=[json.dumps(asdict(shard)) for shard in planned],
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
    given = ScoringShard(**json.loads(shard))
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
    if not parts:
        raise SlipwayError("No shard of the table is there: run the scoring again.")
    found = sorted(
        ((read_predictions(part), part) for part in parts), key=lambda f: _shard(*f)["index"]
    )
    _require_whole(found)
    records = [record for record, _ in found]
    with new_directory(predictions) as target:
        _merge_days([part for _, part in found], target, records[0].model)
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


def _shard(record: Predictions, part: Path) -> dict[str, Any]:
    if _NOTE not in record.notes:
        raise SlipwayError(f"{part} holds no shard of a table, but all of one.")
    return dict(record.notes[_NOTE])


def _require_whole(found: list[tuple[Predictions, Path]]) -> None:
    """All shards of one scoring must be there, each once."""
    first, place = found[0]
    wanted = _shard(first, place)
    for record, part in found[1:]:
        same = replace(record, rows=first.rows, positives=first.positives, notes=first.notes)
        note = _shard(record, part)
        if same != first or (note["of"], note["table_rows"]) != (
            wanted["of"],
            wanted["table_rows"],
        ):
            raise SlipwayError(f"{place} and {part} are shards of different scorings.")
    there = [_shard(record, part)["index"] for record, part in found]
    rows = sum(record.rows for record, _ in found)
    if there != list(range(wanted["of"])) or rows != wanted["table_rows"]:
        raise SlipwayError(
            f"The shards {there} are there, of {wanted['of']}, with {rows:,} of the table's"
            f" {wanted['table_rows']:,} rows. Run the shards again that are missing."
        )


def _merge_days(parts: list[Path], target: Path, model: str) -> None:
    """Copies each day's file, and joins those of a day that several shards have a part of."""
    import pyarrow.parquet as pq

    days: dict[Path, list[Path]] = {}
    latest = Path()
    for part in parts:
        for file in sorted((part / model).rglob("*.parquet")):
            name = file.relative_to(part)
            if name < latest:
                raise SlipwayError("The rows are not ordered by time: run features again.")
            latest = name
            days.setdefault(name, []).append(file)
    for number, (name, files) in enumerate(days.items()):
        progress(f"{name.parent.name}", number / len(days))
        path = target / name
        path.parent.mkdir(parents=True)
        if len(files) == 1:
            shutil.copyfile(files[0], path)
            continue
        schema = _as_written(pq.read_schema(files[0]))
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for file in files:
                parquet = pq.ParquetFile(file)
                for group in range(parquet.num_row_groups):
                    writer.write_table(parquet.read_row_group(group).cast(schema))


def _as_written(schema: "pa.Schema") -> "pa.Schema":
    """The schema that a file was written with: parquet calls the items of a list otherwise than Arrow."""
    import pyarrow as pa

    for index, field in enumerate(schema):
        if pa.types.is_list(field.type):
            schema = schema.set(index, field.with_type(pa.list_(field.type.value_type)))
    return schema
