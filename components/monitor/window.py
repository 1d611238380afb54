"""One window of the inference log: its answers as a table, its features as sketches."""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant
from slipway.components.config.data import Window
from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX, WHOLE_AFTER
from slipway.components.monitor import payloads
from slipway.components.monitor.measures.sketch import (
    Sketch,
    add_column,
    hours_since_1970,
    new_sketch,
)
from slipway.components.monitor.reference import Reference
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import pyarrow as pa
    from fsspec import AbstractFileSystem

_REQUEST = ("row", "key", "time", "served_at", "model_version", "status", "latency_ms")
CHUNK = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWindow:
    """The log of one model in a window of time.

    Attributes:
        uri: root of the log. files: paths of the hours that the window touches.
        filesystem: the fsspec file system that opens them.
        scratch: holds the files where they were made from KServe's payload log.
    """

    uri: str
    model: str
    window: Window
    files: list[str]
    filesystem: "AbstractFileSystem"
    scratch: "tempfile.TemporaryDirectory[str] | None" = None

    def batches(self, columns: list[str]) -> Iterator["pa.Table"]:
        """Reads columns of the window's rows, row group by row group.

        Columns that a file does not have are left out of its tables.

        Raises:
            SlipwayError: naming the file that cannot be read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        instant = pa.timestamp("us", tz="UTC")
        start, end = pa.scalar(self.window.start, instant), pa.scalar(self.window.end, instant)
        for path in self.files:
            try:
                with self.filesystem.open(path, "rb") as file:
                    parquet = pq.ParquetFile(file)
                    schema = parquet.schema_arrow  # computed on every access
                    names = set(schema.names)
                    texts = [
                        name
                        for name in columns
                        if name.startswith(FEATURE_PREFIX)
                        and name in names
                        and schema.field(name).type == pa.string()
                    ]
                    # Text features stay the codes that the file has: counting those is cheap.
                    if texts:
                        parquet = pq.ParquetFile(
                            file, metadata=parquet.metadata, read_dictionary=texts
                        )
                    wanted = [name for name in dict.fromkeys(["time", *columns]) if name in names]
                    for group in range(parquet.num_row_groups):
                        table = parquet.read_row_group(group, columns=wanted)
                        inside = pc.and_(
                            pc.greater_equal(table["time"], start), pc.less(table["time"], end)
                        )
                        yield keep(table, inside).select([n for n in columns if n in names])
            # A damaged name of a column or a value is a UnicodeDecodeError.
            except (OSError, ValueError, pa.ArrowException) as error:
                raise SlipwayError(
                    f"The inference log file {path} cannot be read: {error}. If it is damaged, move"
                    " it away and run the window again."
                ) from error


def keep(table: "pa.Table", wanted: "pa.ChunkedArray") -> "pa.Table":
    """The rows where a mask holds; the table itself, not a copy, where it holds everywhere."""
    import pyarrow.compute as pc

    return table if pc.all(wanted, skip_nulls=False).as_py() else table.filter(wanted)


def open_window(uri: str, model: str, window: Window) -> LogWindow:
    """Finds the log files of a window.

    Args:
        uri: root of the inference log: a folder or an object-store prefix, or KServe's own payload log
            (`slipway.components.monitor.payloads`).
        model: the served model's name.
        window: of time.

    Raises:
        SlipwayError: the store cannot be reached.
    """
    import fsspec

    scratch = None
    if uri.startswith(payloads.SCHEME):
        scratch = tempfile.TemporaryDirectory(prefix="slipway-payloads-")
        payloads.convert(uri, model, window, Path(scratch.name))
        uri = scratch.name
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        files: list[str] = []
        day = window.start.replace(hour=0, minute=0, second=0, microsecond=0)
        while day < window.end:
            folder = f"{root.rstrip('/')}/{model}/date={day:%Y-%m-%d}"
            if filesystem.exists(folder):
                files += [path for path in filesystem.find(folder) if _touches(path, window)]
            day += timedelta(days=1)
    except (OSError, ValueError, ImportError) as error:
        raise SlipwayError(f"The inference log {uri} cannot be read: {error}.") from error
    return LogWindow(
        uri=uri,
        model=model,
        window=window,
        files=sorted(files),
        filesystem=filesystem,
        scratch=scratch,
    )


def wait_until_whole(
    window: Window,
    whole_after: timedelta = WHOLE_AFTER,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Waits until the log of a window is in the store: a predictor ships its last rows after its end.

    Args:
        window: of time. One that ends in the future is not waited for.
        whole_after: how long after a moment the rows of its answers are stored.
        now: the clock.
        sleep: waits so many seconds.

    Returns:
        What will be missing, in words; empty: nothing.
    """
    moment = now()
    if window.end > moment:
        return (
            f"the window ends at {format_instant(window.end)}, which is yet to come: what is answered"
            " until then is not in it. Monitor it again afterwards."
        )
    wait = (window.end + whole_after - moment).total_seconds()
    if wait > 0:
        progress(f"waiting {wait:.0f} s until the log of the window's last minutes is stored")
        sleep(wait)
    return ""


def _touches(path: str, window: Window) -> bool:
    """Whether a whole log file's hour touches the window; of a scored table: whether its day does."""
    *_, day, hour, name = path.split("/")
    if not name.endswith(".parquet") or name.startswith((".", "_")):
        return False
    if hour.startswith("date="):
        text, layout, length = hour, "date=%Y-%m-%d", timedelta(days=1)
    else:
        text, layout, length = f"{day}/{hour}", "date=%Y-%m-%d/hour=%H", timedelta(hours=1)
    try:
        begins = datetime.strptime(text, layout).replace(tzinfo=UTC)
    except ValueError:
        return False
    return begins < window.end and begins + length > window.start


def read_answers(window: LogWindow, kind: LabelKind, features: Sequence[str] = ()) -> "pa.Table":
    """All rows of the window without their features: one row a predicted row or refused request.

    Args:
        window: the log.
        kind: of label, which says the columns of an answer; they are null in rows that a version of
            another kind answered.
        features: columns of features that are wanted all the same; null where a file has them not.
    """
    import pyarrow as pa

    from slipway.components.contracts.monitoring.inference_log import log_schema
    from slipway.components.metrics.kinds.choose import label_type

    columns = label_type(kind).columns()
    names = [*_REQUEST, *(name for name, _ in columns)]
    schema = pa.schema([log_schema((), columns).field(name) for name in names])
    tables = [schema.empty_table()]
    extra: dict[str, list[pa.ChunkedArray]] = {name: [] for name in features}
    for table in window.batches([*names, *features]):
        for name in features:
            values = table[name] if name in table.column_names else pa.nulls(table.num_rows)
            extra[name].append(values.cast(pa.string()))
        table = table.select([name for name in table.column_names if name in names])
        lacking = [name for name in _REQUEST if name not in table.column_names]
        if lacking:
            raise SlipwayError(
                f"The inference log {window.uri} of {window.model} lacks the columns"
                f" {', '.join(lacking)}: it was not written by this release's predictor."
            )
        if not _holds(table, schema):
            # Another version's answers, of another kind of label.
            table = table.select(list(_REQUEST))
            for name, column in columns:
                table = table.append_column(name, pa.nulls(table.num_rows, column))
        tables.append(table.select(names).cast(schema))
    answers = pa.concat_tables(tables)
    for name, parts in extra.items():
        chunks = [chunk for part in parts for chunk in getattr(part, "chunks", [part])]
        answers = answers.append_column(name, pa.chunked_array(chunks, pa.string()))
    return answers


def _holds(table: "pa.Table", schema: "pa.Schema") -> bool:
    """Whether a table has all columns of a schema, texts where it has texts."""
    import pyarrow as pa

    there = {field.name: field.type for field in table.schema}
    return all(
        field.name in there
        and pa.types.is_string(field.type) == pa.types.is_string(there[field.name])
        for field in schema
    )


def is_answered(table: "pa.Table") -> "pa.ChunkedArray":
    """Which rows hold an answer: those that are no refused request."""
    import pyarrow.compute as pc

    return pc.greater_equal(table["row"], 0)


def main_version(answers: "pa.Table") -> tuple[str | None, dict[str, int]]:
    """The version that answered most of the window's rows, and the rows of each version."""
    predicted = answers.filter(is_answered(answers))
    counts = Counter(
        {
            str(item["values"].as_py()): int(item["counts"].as_py())
            for item in predicted["model_version"].value_counts()
        }
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return (ordered[0][0] if ordered else None), dict(ordered)


@dataclass(slots=True, kw_only=True)
class FeatureScan:
    """What the features of one version looked like in the window.

    Attributes:
        sketches: feature to its sketch. rows: how many rows were counted.
        sample: an even sample of at most the asked number of rows, features under their own names.
        missing_columns: features that no file of the log has: a break of the schema.
        wrong_types: feature to the type that the log has and that cannot be read as its kind.
    """

    sketches: dict[str, Sketch]
    rows: int = 0
    sample: "pa.Table | None" = None
    missing_columns: list[str] = field(default_factory=list)
    wrong_types: dict[str, str] = field(default_factory=dict)


def _answered_chunks(
    window: LogWindow, logged_version: str, features: list[str]
) -> "Iterator[pa.Table]":
    """The answered rows of one version with these features, in pieces of about `CHUNK` rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["time", "model_version", "row", *(FEATURE_PREFIX + name for name in features)]
    waiting: list[pa.Table] = []
    for table in window.batches(columns):
        answered = pc.and_(pc.equal(table["model_version"], logged_version), is_answered(table))
        table = keep(table.drop_columns(["model_version", "row"]), answered)
        if waiting and waiting[0].schema != table.schema:
            yield pa.concat_tables(waiting)
            waiting = []
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= CHUNK:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def scan_features(
    window: LogWindow,
    logged_version: str,
    reference: Reference,
    sample_rows: int = 0,
    total: int = 0,
) -> FeatureScan:
    """Sketches every feature of one version's rows in one pass.

    Memory is bounded by a chunk of rows and the sketches. The sample is drawn evenly over the window
    with a fixed seed, so a repeated run draws the same.

    Args:
        window: the log.
        logged_version: whose rows.
        reference: of that version.
        sample_rows: of the sample; 0: none is drawn.
        total: how many rows it has in the window, for the progress; 0: unknown.
    """
    import pyarrow as pa

    kinds = reference.kinds
    scan = FeatureScan(
        sketches={name: new_sketch(kind, reference.edges.get(name)) for name, kind in kinds.items()}
    )
    seen: set[str] = set()
    draw = random.Random(0)  # noqa: S311
    sampled: list[pa.Table] = []

    def take(chunk: pa.Table) -> None:
        scan.rows += chunk.num_rows
        progress(f"{scan.rows:,} rows compared", min(1.0, scan.rows / total) if total else None)
        hours = hours_since_1970(chunk["time"])
        for name, kind in kinds.items():
            column = FEATURE_PREFIX + name
            if column not in chunk.column_names or name in scan.wrong_types:
                continue
            seen.add(name)
            try:
                add_column(scan.sketches[name], chunk[column], kind, hours)
            except (pa.ArrowException, TypeError):
                scan.wrong_types[name] = str(chunk[column].type)
        if sample_rows:
            size = min(chunk.num_rows, sample_rows)
            rows = chunk.drop_columns(["time"]).take(sorted(draw.sample(range(len(chunk)), size)))
            sampled.append(
                rows.rename_columns([n.removeprefix(FEATURE_PREFIX) for n in rows.column_names])
            )

    for chunk in _answered_chunks(window, logged_version, list(kinds)):
        take(chunk)
    scan.missing_columns = [name for name in kinds if name not in seen] if scan.rows else []
    if sampled:
        everything = pa.concat_tables(sampled, promote_options="permissive")
        size = min(everything.num_rows, sample_rows)
        scan.sample = everything.take(sorted(draw.sample(range(everything.num_rows), size)))
    return scan
