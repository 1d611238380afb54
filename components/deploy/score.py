"""Batch scoring: a registered version over a table of rows, instead of behind an endpoint."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.data import Window
from slipway.components.contracts.bundle import Bundle, read_bundle
from slipway.components.contracts.feature_rows import ROWS, FeatureRows, read_feature_rows
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX, log_schema
from slipway.components.contracts.predictions import Predictions, write_predictions
from slipway.components.contracts.release import Release
from slipway.components.contracts.rows.scoring import BATCH_ROWS, open_model, predict
from slipway.components.contracts.shards import Shard
from slipway.components.contracts.splits import TIME
from slipway.components.deploy.deploy import fetch_bundle
from slipway.components.deploy.publishing import place_of, publish_to
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support import tracking
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import part, progress, stage

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

_FETCHED, _PREDICTED = 0.1, 0.95
"""Shares of the stage at which the version is there, and at which all rows are predicted."""


@stage("score")
def score_rows(
    *,
    rows: Path,
    project: str,
    model: str,
    predictions: Path,
    publish: str = "",
    now: datetime | None = None,
) -> Predictions:
    """Predicts every row of a table with one registered version.

    Memory does not grow with the table. Run again it gives the same files in the same place.

    Args:
        rows: the rows with their features, from the features stage.
        project: the registered model's name.
        model: which version: an alias, such as champion, or a number.
        predictions: the folder that the predictions appear in, once all are there.
        publish: folder or object-store prefix that they are copied below too, as
            `<publish>/<project>/<first>--<last>/version=<version>` (rows without time:
            `data=<hash>` in place of the moments); empty: nowhere. There predictions.json is taken away
            first and written last.
        now: the moment of prediction of rows without time; None: this one.

    Raises:
        SlipwayError: there is no such version, its bundle is not the registered one, the rows lack a
            feature of it, or an answer is none of its kind of label. Nothing is left behind.
    """
    progress(f"looking up {project} {model}", 0.0)
    release = find_version(project, model)
    shard = ScoringShard(
        version=release.model_version, moment=format_instant(now or datetime.now(UTC))
    )
    with new_directory(predictions) as target:
        result = score_into(target, rows, release, shard)
        if publish:
            result = replace(result, published=place_of(publish, result))
        write_predictions(target, result)
    if result.published:
        progress(f"publishing to {result.published}", _PREDICTED)
        publish_to(predictions, result.published)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringShard(Shard):
    """Which part of a table a task scores, by which version (a number: an alias may move meanwhile)."""

    version: str


def score_into(target: Path, rows: Path, release: Release, shard: ScoringShard) -> Predictions:
    """Predicts a shard's rows, each as the whole table's scoring predicts it.

    Args:
        target: an empty folder that the rows go to.
        rows: the whole table's folder.
        release: the shard's version.
        shard: which rows.

    Returns:
        What the folder holds; the caller writes it there.
    """
    source = read_feature_rows(rows)
    moments = _moments(source, parse_instant(shard.moment))
    with tempfile.TemporaryDirectory(prefix="slipway-score-") as scratch:
        folder = fetch_bundle(release, Path(scratch))
        bundle = read_bundle(folder)
        require_features(bundle, source, release)
        timed = _Timed(rows / ROWS, source, moments)
        with part(_FETCHED, _PREDICTED):
            counted = _predict_all(folder, bundle, timed, release, target, shard)
    return Predictions(
        model=release.name,
        model_version=release.model_version,
        model_hash=release.model_hash,
        window=source.window,
        moments=moments.texts,
        rows=counted[0],
        positives=counted[1],
        threshold=bundle.threshold,
        label_kind=bundle.label_kind,
        data_hash=source.data_hash,
    )


def _moments(source: FeatureRows, now: datetime) -> Window:
    """The stretch in which the predictions are made: of rows without time the second that it is now."""
    if source.window is None:
        second = now.astimezone(UTC).replace(microsecond=0)
        return Window(start=second, end=second + timedelta(seconds=1))
    lead = timedelta(seconds=source.lead_seconds)
    start, end = (parse_instant(instant) - lead for instant in source.window)
    return Window(start=start, end=end)


@dataclass(frozen=True, slots=True)
class _Timed:
    """The rows' table, what is in it, and when the predictions are made."""

    table: Path
    source: FeatureRows
    moments: Window


def find_version(project: str, wanted: str) -> Release:
    """The registered version that an alias or a number names.

    Raises:
        SlipwayError: there is none, or Slipway did not register it.
    """
    found = tracking.connect().require_version(project, wanted)
    return Release.of(found, "" if wanted.isdigit() else wanted)


def require_features(bundle: Bundle, source: FeatureRows, release: Release) -> None:
    """The version's features must be there, each of the kind that it was trained with."""
    there = {feature.name: feature.kind for feature in source.features}
    wrong = [
        f"{f.name} ({f.kind}{f', here {there[f.name]}' if f.name in there else ', not there'})"
        for f in bundle.features
        if there.get(f.name) != f.kind and f.name not in source.untyped
    ]
    if wrong:
        raise SlipwayError(
            f"Version {release.model_version} of {release.name} was trained on other features than"
            f" the project has now: {', '.join(wrong)}. Score with the project file of that version."
        )


def _predict_all(
    folder: Path,
    bundle: Bundle,
    given: _Timed,
    release: Release,
    target: Path,
    shard: ScoringShard,
) -> tuple[int, int]:
    """Writes the shard's predictions, a file a day; returns rows and positives."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table, source = given.table, given.source
    session, label = open_model(folder), label_type_of(bundle)
    schema = log_schema(bundle.features, label.scored_columns())
    stamp = _stamp(source, release, shard)
    done, positives = 0, 0
    day: date | None = None
    writer: Any = None
    with pq.ParquetFile(table) as file:
        first, total = _rows_of(file.metadata, shard)
        try:
            for moment, rows in _by_day(_batches(file, shard), given):
                if moment != day:
                    if day is not None and moment < day:
                        raise SlipwayError(f"{table} is not ordered by time: run features again.")
                    if writer:
                        writer.close()
                    day = moment
                    path = target / release.name / f"date={day:%Y-%m-%d}" / "part-00000.parquet"
                    path.parent.mkdir(parents=True)
                    writer = pq.ParquetWriter(path, schema, compression="zstd")
                rows = _as_trained(rows, bundle, source)
                answers = predict(session, bundle, rows)
                _require_sound(answers, label, rows[source.key])
                logged = _logged(rows, answers, bundle, source, stamp, first + done)
                writer.write_table(logged.cast(schema))
                done += rows.num_rows
                if label.kind == "binary":
                    positives += pc.sum(logged["label"]).as_py() or 0
                progress(f"{done:,} of {total:,} rows", done / total if total else 1.0)
        finally:
            if writer:
                writer.close()
    return done, positives


def _batches(file: "pq.ParquetFile", shard: ScoringShard) -> Iterator["pa.RecordBatch"]:
    """The shard's rows in batches that are the same however many shards there are."""
    for group in shard.share([file.num_row_groups]):
        yield from file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group])


def _rows_of(footer: "pq.FileMetaData", shard: ScoringShard) -> tuple[int, int]:
    """The number of the shard's first row in the table, and how many it has."""
    groups = shard.share([footer.num_row_groups])
    sizes = [footer.row_group(group).num_rows for group in range(groups.stop)]
    return sum(sizes[: groups.start]), sum(sizes[groups.start :])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamp:
    """What every row of one scoring says of it."""

    request: str
    moment: datetime
    version: str


def _stamp(source: FeatureRows, release: Release, shard: ScoringShard) -> _Stamp:
    said = f"{release.model_hash} {source.data_hash} {shard.moment}"
    return _Stamp(
        request=f"batch-{hashlib.sha256(said.encode()).hexdigest()[:12]}",
        moment=parse_instant(shard.moment),
        version=release.model_version,
    )


def _as_trained(rows: "pa.Table", bundle: Bundle, source: FeatureRows) -> "pa.Table":
    """A count without events is null where it was so in training, since the view had no row of use.

    Such a feature has no default in the bundle, and so is missing online too.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    empty = {feature.name: feature.default for feature in source.features}
    for feature in bundle.features:
        default = empty.get(feature.name)
        if default is not None and feature.default is None:
            place, column = rows.schema.get_field_index(feature.name), rows[feature.name]
            nothing = pa.scalar(None, column.type)
            shown = pc.if_else(pc.equal(column, default), nothing, column)
            rows = rows.set_column(place, feature.name, shown)
    return rows


def _by_day(batches: Any, given: _Timed) -> Iterator[tuple[date, "pa.Table"]]:
    """Cuts batches where the UTC day of the moment of prediction changes; adds that moment."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    instant = pa.timestamp("us", "UTC")
    lead = pa.scalar(timedelta(seconds=given.source.lead_seconds), pa.duration("us"))
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if given.source.window is None:
            now = pa.repeat(pa.scalar(given.moments.start, instant), table.num_rows)
            moments: Any = pa.chunked_array([now])
        else:
            moments = pc.subtract(table[TIME].cast(instant), lead)
        table = table.append_column("__moment", moments)
        days = moments.cast(pa.int64()).to_numpy() // 86_400_000_000
        cuts = [0, *(np.flatnonzero(np.diff(days)) + 1), table.num_rows]
        for start, end in pairwise(cuts):
            if end > start:
                day = date(1970, 1, 1) + timedelta(days=int(days[start]))
                yield day, table.slice(start, end - start)


def _require_sound(answers: "np.ndarray", label: LabelType, keys: "pa.ChunkedArray") -> None:
    import numpy as np

    wrong = np.flatnonzero(~label.is_sound(answers))
    if len(wrong):
        raise SlipwayError(
            f"The model answers {len(wrong)} rows with what is not {label.answer_name}, for example"
            f" {answers[wrong[0]]} for {keys[int(wrong[0])]}. Nothing was written."
        )


def _logged(
    rows: "pa.Table",
    answers: "np.ndarray",
    bundle: Bundle,
    source: FeatureRows,
    stamp: _Stamp,
    first: int,
) -> "pa.Table":
    """The rows as the inference log has them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    count = rows.num_rows
    columns: dict[str, object] = {
        "request_id": pa.repeat(stamp.request, count),
        "row": pa.array(np.arange(first, first + count), pa.int64()),
        "key": rows[source.key].cast(pa.string()),
        "time": rows["__moment"],
        "served_at": pa.repeat(pa.scalar(stamp.moment, pa.timestamp("us", "UTC")), count),
        "model_version": pa.repeat(stamp.version, count),
        "status": pa.repeat(pa.scalar(200, pa.int16()), count),
        **label_type_of(bundle).to_scored_columns(answers),
        "latency_ms": pa.nulls(count, pa.float64()),
    }
    for feature in bundle.features:
        column = rows[feature.name]
        if feature.kind == "time" and getattr(column.type, "tz", None):
            column = pc.local_timestamp(column)
        columns[FEATURE_PREFIX + feature.name] = column
    return pa.table(columns)
