"""One window of the inference log: where its rows lie, and its answers as a table."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant
from slipway.components.config.data import Window
from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX, WHOLE_AFTER
from slipway.components.monitor import payloads
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from fsspec import AbstractFileSystem

_REQUEST = ("row", "key", "time", "served_at", "model_version", "status", "latency_ms")
CHUNK = 1 << 17
PIECE_ROWS = 1 << 18
"""Rows of a piece of the log: it is sketched by itself, whoever does it."""
Piece = Mapping[str, range]
"""Which row groups of which files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWindow:
    """The log of one model in a window of time.

    Attributes:
        uri: root of the log. files: paths of the hours that the window touches.
        filesystem: the fsspec file system that opens them.
        scratch: holds the files where they were made from KServe's payload log.
        sizes: of each file that was opened, the rows of its row groups.
        groups: which row groups of a file are read; of one that is not named, all.
    """

    uri: str
    model: str
    window: Window
    files: list[str]
    filesystem: "AbstractFileSystem"
    scratch: "tempfile.TemporaryDirectory[str] | None" = None
    sizes: dict[str, list[int]] = field(default_factory=dict)
    groups: Piece = field(default_factory=dict)

    def pieces(self) -> list[Piece]:
        """The log in runs of row groups of `PIECE_ROWS` rows or a little more: its files say which.

        Raises:
            SlipwayError: naming the file that cannot be read.
        """
        found: list[dict[str, range]] = []
        rows = PIECE_ROWS
        for path in self.files:
            if path not in self.sizes:
                with self._opened(path):
                    pass
            for group, size in enumerate(self.sizes[path]):
                if rows >= PIECE_ROWS:
                    found.append({})
                    rows = 0
                first = found[-1].get(path, range(group, group)).start
                found[-1][path] = range(first, group + 1)
                rows += size
        return list(found)

    def below_root(self, path: str) -> str:
        """A file's place below the root of the log."""
        _, _, place = path.rpartition(f"/{self.model}/date=")
        return f"{self.model}/date={place}"

    def of(self, piece: Piece) -> "LogWindow":
        """The rows of one piece alone."""
        return replace(self, files=list(piece), groups=piece)

    def batches(self, columns: list[str]) -> Iterator["pa.Table"]:
        """Reads columns of the window's rows, row group by row group.

        Columns that a file does not have are left out of its tables.

        Raises:
            SlipwayError: naming the file that cannot be read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        instant = pa.timestamp("us", tz="UTC")
        start, end = pa.scalar(self.window.start, instant), pa.scalar(self.window.end, instant)
        for path in self.files:
            with self._opened(path, columns) as parquet:
                names = set(parquet.schema_arrow.names)
                wanted = [name for name in dict.fromkeys(["time", *columns]) if name in names]
                for group in self.groups.get(path, range(parquet.num_row_groups)):
                    table = parquet.read_row_group(group, columns=wanted)
                    inside = pc.and_(
                        pc.greater_equal(table["time"], start), pc.less(table["time"], end)
                    )
                    yield self._typed(
                        keep(table, inside).select([n for n in columns if n in names])
                    )

    def _typed(self, table: "pa.Table") -> "pa.Table":
        """The columns that each log has, in the contract's types.

        Raises:
            SlipwayError: naming the one that holds something else.
        """
        from slipway.components.contracts.monitoring.inference_log import log_schema

        schema = log_schema((), ())
        for place, name in enumerate(table.column_names):
            if name in _REQUEST and table[name].type != schema.field(name).type:
                table = table.set_column(place, name, self.cast(table[name], schema.field(name)))
        return table

    def cast(self, column: "pa.ChunkedArray", field: "pa.Field") -> "pa.ChunkedArray":
        """A column of a file in the contract's type.

        Raises:
            SlipwayError: it holds something else.
        """
        import pyarrow as pa

        try:
            return column.cast(field.type)
        except pa.ArrowException as error:
            raise SlipwayError(
                f"The inference log {self.uri} of {self.model} holds {column.type} in the column"
                f" {field.name}, which is no {field.type} ({error}): it was not written by this"
                " release's predictor."
            ) from error

    @contextmanager
    def _opened(self, path: str, columns: Sequence[str] = ()) -> "Iterator[pq.ParquetFile]":
        """A file of the log, whose text features are read as the codes that it has.

        Raises:
            SlipwayError: it cannot be read, or is not the one that it was.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.filesystem.open(path, "rb") as file:
                parquet = pq.ParquetFile(file)
                footer = parquet.metadata
                sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
                if self.sizes.setdefault(path, sizes) != sizes:
                    raise SlipwayError(
                        f"The inference log file {path} has changed since the shards were planned. Run"
                        " the pipeline again."
                    )
                schema = parquet.schema_arrow  # computed on every access
                texts = [
                    name
                    for name in columns
                    if name.startswith(FEATURE_PREFIX)
                    and name in schema.names
                    and schema.field(name).type == pa.string()
                ]
                # Text features stay the codes that the file has: counting those is cheap.
                if texts:
                    parquet = pq.ParquetFile(file, metadata=footer, read_dictionary=texts)
                yield parquet
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


def open_files(uri: str, model: str, window: Window, files: Mapping[str, list[int]]) -> LogWindow:
    """The log of a window whose files are known.

    Args:
        uri: as for `open_window`, and no payload log of KServe's.
        model: likewise.
        window: likewise.
        files: as `LogWindow.below_root` names them, with the rows of their row groups.

    Raises:
        SlipwayError: the store is of no kind that is known.
    """
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
    except (OSError, ValueError, ImportError) as error:
        raise SlipwayError(f"The inference log {uri} cannot be read: {error}.") from error
    sizes = {f"{root.rstrip('/')}/{name}": rows for name, rows in files.items()}
    return LogWindow(
        uri=uri,
        model=model,
        window=window,
        files=list(sizes),
        filesystem=filesystem,
        sizes=sizes,
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
        features: columns of features that are wanted all the same, as text; null where a file has them
            not.
    """
    import pyarrow as pa

    schema = answer_schema(kind, features)
    return pa.concat_tables([schema.empty_table(), *answer_batches(window, kind, features)])


def answer_schema(kind: LabelKind, features: Sequence[str]) -> "pa.Schema":
    """The columns of `read_answers`."""
    import pyarrow as pa

    from slipway.components.contracts.monitoring.inference_log import log_schema
    from slipway.components.metrics.kinds.choose import label_type

    columns = label_type(kind).columns()
    whole = log_schema((), columns)
    names = [*_REQUEST, *(name for name, _ in columns)]
    texts = [pa.field(name, pa.string()) for name in features]
    return pa.schema([*(whole.field(name) for name in names), *texts])


def answer_batches(
    window: LogWindow, kind: LabelKind, features: Sequence[str] = ()
) -> "Iterator[pa.Table]":
    """As `read_answers`, row group by row group.

    Raises:
        SlipwayError: a file cannot be read, or was not written by a predictor of this release.
    """
    import pyarrow as pa

    schema = answer_schema(kind, features)
    answers = pa.schema([field for field in schema if field.name not in features])
    for table in window.batches(schema.names):
        _require_columns(table, _REQUEST, window)
        # Another version's answers are of another kind of label.
        taken = {*(answers.names if _holds(table, answers) else _REQUEST), *features}
        taken &= set(table.column_names)
        columns = [
            _answer(table, field, features, window)
            if field.name in taken
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        ]
        yield pa.table(columns, schema=schema)


def _answer(
    table: "pa.Table", field: "pa.Field", features: Sequence[str], window: LogWindow
) -> "pa.ChunkedArray | pa.Array":
    """A column of an answer, or a feature as text; null where no text stands for it, as for a list."""
    import pyarrow as pa

    if field.name not in features:
        return window.cast(table[field.name], field)
    try:
        return table[field.name].cast(field.type)
    except pa.ArrowException:
        return pa.nulls(table.num_rows, field.type)


def _require_columns(table: "pa.Table", names: Sequence[str], window: LogWindow) -> None:
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        raise SlipwayError(
            f"The inference log {window.uri} of {window.model} lacks the columns"
            f" {', '.join(lacking)}: it was not written by this release's predictor."
        )


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
    return _most_frequent(_count_versions(answers))


def find_version(window: LogWindow) -> tuple[str | None, dict[str, int]]:
    """As `main_version`, of a log whose answers are not read.

    Raises:
        SlipwayError: as `answer_batches`.
    """
    names = ["row", "model_version"]
    counts: Counter[str] = Counter()
    for table in window.batches(names):
        _require_columns(table, names, window)
        counts += _count_versions(table)
    return _most_frequent(counts)


def _count_versions(answers: "pa.Table") -> Counter[str]:
    predicted = answers.filter(is_answered(answers))
    return Counter(
        {
            str(item["values"].as_py()): int(item["counts"].as_py())
            for item in predicted["model_version"].value_counts()
        }
    )


def _most_frequent(counts: Counter[str]) -> tuple[str | None, dict[str, int]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return (ordered[0][0] if ordered else None), dict(ordered)
