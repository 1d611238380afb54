"""Parses csv and jsonl in blocks, so that memory does not grow with the file."""

import codecs
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from slipway.components.config.data import Csv
from slipway.components.ingest.columns import Columns
from slipway.components.ingest.sources import Source, reading
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as pc

_EXACT = 2**53
BLOCK = 4 << 20
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _CountsQuotes(io.RawIOBase):
    """A stream that counts the quotes read from it."""

    def __init__(self, stream: IO[bytes], quote: bytes) -> None:
        self._stream, self._quote = stream, quote
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.quotes += block.count(self._quote)
        return block


Folders = dict[str, str | None]
"""What the `key=value` folders of a file say."""
FOLDER = {"from": "folder"}
"""Marks a column that comes from them."""
KINDS = b"kinds"
"""The key of the mark of a JSON column that is read as text although not all its values are texts."""
NUMBERS = "numbers"
_KINDS = {bool: "booleans", int: NUMBERS, float: NUMBERS, str: "texts"}


def _options(dialect: Csv) -> "tuple[pc.ReadOptions, pc.ParseOptions]":
    """What pyarrow's parser needs to know. It reads serially, so that an error has its row's number."""
    import pyarrow.csv as pc

    encoding = "utf8" if dialect.is_utf8 else dialect.encoding
    return (
        pc.ReadOptions(block_size=BLOCK, use_threads=False, encoding=encoding),
        pc.ParseOptions(
            newlines_in_values=True, delimiter=dialect.separator, quote_char=dialect.quote
        ),
    )


def csv_names(source: Source, dialect: Csv) -> list[str]:
    """The names in the first line of a table's first csv file; none where it is empty.

    Raises:
        SlipwayError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    file = source.files[0]
    with reading(source.name(file)), source.store.open(file, "rb", compression="infer") as stream:
        try:
            names = pc.open_csv(
                stream, *_options(dialect), pc.ConvertOptions(check_utf8=False)
            ).schema.names
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return []  # what is wrong with it is said where its rows are read
    return list(names)


def csv_batches(
    source: Source, file: str, name: str, columns: Columns, folders: Folders, dialect: Csv
) -> Iterator["pa.RecordBatch"]:
    """Gives a csv file's rows, all columns as text; the first line has the names.

    Raises:
        SlipwayError: a ragged row, a quote that is never closed, or bytes that are not of the encoding,
            with the row's number; or two columns of one name.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    def opened(
        convert: pc.ConvertOptions, empty_lines: bool = False
    ) -> tuple[IO[bytes], _CountsQuotes, pc.CSVStreamingReader]:
        stream = source.store.open(file, "rb", compression="infer")
        counting = _CountsQuotes(stream, dialect.quote.encode(dialect.encoding))
        read, parse = _options(dialect)
        parse.ignore_empty_lines = not empty_lines
        return stream, counting, pc.open_csv(counting, read, parse, convert)

    beginning = _beginning(source, file, name, dialect)
    done = 0
    try:
        # First only for the names. As binary, so that no value can fail yet.
        stream, _, reader = opened(pc.ConvertOptions(check_utf8=False))
        names = reader.schema.names
        stream.close()
        if len(names) == 1 and beginning[:1] in (b"\n", b"\r"):
            raise SlipwayError(
                f"{name} begins with an empty line: the column's name belongs there."
            )
        folders = {key: value for key, value in folders.items() if key not in names}
        chosen = columns.chosen(name, [*names, *folders])
        read = [column for column in chosen if columns.source(column) not in folders]
        stream, counting, reader = opened(
            pc.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[columns.source(column) for column in read],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
            # In a file of one column an empty line is a row whose only value is missing.
            empty_lines=len(names) == 1,
        )
        with stream:
            # Also without rows, for the names.
            nothing = pa.RecordBatch.from_pylist([], reader.schema).rename_columns(read)
            yield _with_folders(nothing, chosen, columns, folders)
            for batch in reader:
                yield _with_folders(batch.rename_columns(read), chosen, columns, folders)
                done += batch.num_rows
        if counting.quotes % 2:
            _require_pairs(source, file, name, dialect)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise SlipwayError(
            _csv_problem(name, done, " ".join(str(error).split()), dialect)
        ) from error


def _beginning(source: Source, file: str, name: str, dialect: Csv) -> bytes:
    """The first two bytes of a file."""
    with source.store.open(file, "rb", compression="infer") as stream:
        beginning: bytes = stream.read(2)
    if dialect.is_utf8:
        _require_utf8(beginning, name)
    return beginning


def _with_folders(
    batch: "pa.RecordBatch", chosen: list[str], columns: Columns, folders: Folders
) -> "pa.RecordBatch":
    """The chosen columns in order, with what the file's folders say as text."""
    import pyarrow as pa

    if not folders:
        return batch
    made = {name: batch.column(name) for name in batch.schema.names}
    fields = {field.name: field for field in batch.schema}
    for name in chosen:
        if name not in made:
            made[name] = pa.array([folders[columns.source(name)]] * batch.num_rows, pa.string())
            fields[name] = pa.field(name, pa.string(), metadata=FOLDER)
    schema = pa.schema([fields[name] for name in chosen])
    return pa.RecordBatch.from_arrays([made[name] for name in chosen], schema=schema)


def _require_utf8(beginning: bytes, name: str) -> None:
    if beginning.startswith(UTF16):
        raise SlipwayError(f"{name} is not UTF-8 text: it begins as UTF-16 does. Convert it.")


def _require_pairs(source: Source, file: str, name: str, dialect: Csv) -> None:
    """Refuses a quote that is never closed: all rows after it would be one value.

    The parser takes such a value for whole. Python's own says so, but reads slowly: it looks only at
    files with an odd number of quotes. A quote within a value, as in 5", is no such fault.

    Raises:
        SlipwayError: with the line where the row begins.
    """
    begins = 1
    with source.store.open(
        file, "rt", compression="infer", encoding=dialect.encoding, newline=""
    ) as text:
        rows = csv.reader(text, strict=True, delimiter=dialect.separator, quotechar=dialect.quote)
        try:
            for _ in rows:
                begins = rows.line_num + 1
        except csv.Error as error:
            raise SlipwayError(
                f"{name} has a quote that is not closed, in the row that begins on line {begins:,}:"
                f" {error}."
            ) from error


def _csv_problem(name: str, done: int, text: str, dialect: Csv) -> str:
    if "Expected" in text and "columns" in text:
        return f"{name} is ragged: {text.removeprefix('CSV parse error: ')}."
    if not dialect.is_utf8 and "codec can't decode" in text:
        return (
            f"{name} is not {dialect.encoding} text (`csv.encoding`), after row {done:,}: {text}."
        )
    if "UTF8" in text or "utf-8" in text:
        return (
            f"{name} is not UTF-8 text, after row {done:,}: {text}. Say what it is, as in"
            " `csv: {encoding: cp1252}`, or convert it with `iconv -f latin1 -t utf-8`."
        )
    return f"{name} cannot be read as csv, after row {done:,}: {text}."


def jsonl_batches(
    source: Source, file: str, name: str, columns: Columns, folders: Folders
) -> Iterator["pa.RecordBatch"]:
    """Gives the rows of a file with one JSON object a line; a key that is left out is null.

    Raises:
        SlipwayError: a line that is no JSON object, or says two things at once, with its number.
    """
    line = 1
    with source.store.open(file, "rb", compression="infer") as stream:
        rest = stream.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
        _require_utf8(rest, name)
        while block := stream.read(BLOCK):
            whole, newline, rest_of_block = block.rpartition(b"\n")
            if not newline:
                rest += block
                continue
            text, rest = rest + whole + newline, rest_of_block
            yield from _json_batch(text, name, line, columns, folders)
            line += text.count(b"\n")
        if rest.strip():
            yield from _json_batch(rest, name, line, columns, folders)


def _json_batch(
    text: bytes, name: str, line: int, columns: Columns, folders: Folders
) -> Iterator["pa.RecordBatch"]:
    import polars as pl
    import pyarrow as pa

    if not text.strip():
        return
    try:
        frame, kinds = _parsed(text, line)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SlipwayError(
            _json_problem(text, name, line) or f"{name}, from line {line:,}: {reason}."
        ) from error
    if not _is_plain(text, frame):
        _require_plain(text, name, line)
    folders = {key: value for key, value in folders.items() if key not in frame.columns}
    chosen = columns.chosen(name, [*frame.columns, *folders], sparse=True)
    read = [column for column in chosen if columns.source(column) not in folders]
    marks = {column: kinds.get(columns.source(column)) for column in read}
    frame = frame.select(pl.col(columns.source(column)).alias(column) for column in read)
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in table.schema
    ]
    schema = pa.schema(
        field.with_metadata({KINDS: mark}) if (mark := marks[field.name]) else field
        for field in fields
    )
    for batch in table.cast(schema).combine_chunks().to_batches():
        yield _with_folders(batch, chosen, columns, folders)


def _is_plain(text: bytes, frame: "pl.DataFrame") -> bool:
    """Whether counting alone shows that no row repeats a key and no text has an escaped character.

    As many keys as rows and columns ask for, and as many nulls as are written: no key is left out, and
    so none repeated.
    """
    nulls = text.count(b":null") + text.count(b": null")
    return (
        b"\\u" not in text
        and text.count(b'":') == frame.height * frame.width
        and nulls == sum(frame.null_count().row(0))
    )


def _require_plain(text: bytes, name: str, line: int) -> None:
    """Refuses a repeated key, and half a surrogate pair: polars takes both without a word.

    Raises:
        SlipwayError: with the line.
    """
    import pyarrow as pa
    import pyarrow.json as pj

    try:
        whole = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
        pj.read_json(io.BytesIO(text), whole)
    except pa.ArrowInvalid as error:
        # It refuses other things too, such as a column of numbers and texts.
        if problem := _json_problem(text, name, line):
            raise SlipwayError(problem) from error


def _parsed(text: bytes, line: int) -> tuple["pl.DataFrame", dict[str, str]]:
    """The rows; whole numbers that their column's type does not hold are text, as in csv.

    And of the columns that are read as text the kinds of their values, where they are not all texts.
    """
    import polars as pl

    def read(texts: list[str]) -> pl.DataFrame:
        kinds = dict.fromkeys(texts, pl.String)
        return pl.read_ndjson(io.BytesIO(text), infer_schema_length=None, schema_overrides=kinds)

    mixed: dict[str, str] = {}
    try:
        frame = read([])
    except pl.exceptions.PolarsError:
        # Of booleans and numbers it makes no column.
        if not (mixed := _mixed_columns(text, line)):
            raise
        frame = read(list(mixed))
    if not mixed and not _quotes_texts(text, frame):
        mixed = _mixed_columns(text, line)
    lossy: list[str] = []
    large_numbers = pl.col(pl.Int128, pl.UInt128, pl.UInt64)
    large = frame.select(pl.col(pl.Float64).abs().max() >= _EXACT)
    doubtful = [column.name for column in large if column.item()]
    if doubtful:
        # A double beside which whole numbers stand that it cannot tell apart.
        texts = read(doubtful)
        lossy = [
            name
            for name in doubtful
            if any(int(v) != int(float(v)) for v in texts[name].drop_nulls() if _is_whole(v))
        ]
        frame = frame.with_columns(texts[lossy]) if lossy else frame
    kinds = dict.fromkeys([*lossy, *frame.select(large_numbers).columns], NUMBERS)
    return frame.with_columns(large_numbers.cast(pl.String)), kinds | mixed


def _quotes_texts(text: bytes, frame: "pl.DataFrame") -> bool:
    """Whether counting alone shows that every value of a column of texts stands in quotes."""
    import polars as pl

    texts = frame.select(pl.col(pl.String))
    values = texts.height * texts.width - sum(texts.null_count().row(0)) if texts.width else 0
    return text.count(b'"') == 2 * (text.count(b'":') + values)


def _mixed_columns(text: bytes, line: int) -> dict[str, str]:
    """Columns with values of more than one kind: where each kind is first seen."""
    found: dict[str, dict[str, int]] = {}
    for number, raw in enumerate(text.split(b"\n"), line):
        try:
            row = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            continue  # said elsewhere
        for name, value in row.items() if isinstance(row, dict) else ():
            if (kind := _KINDS.get(type(value))) is not None:
                found.setdefault(name, {}).setdefault(kind, number)
    return {
        name: " and ".join(f"{kind} (line {at:,})" for kind, at in kinds.items())
        for name, kinds in found.items()
        if len(kinds) > 1
    }


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _json_problem(text: bytes, name: str, line: int) -> str | None:
    """Finds the line that is no JSON object, or says two things at once; None: there is none."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON value")

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        row = dict(pairs)
        if len(row) < len(pairs):
            twice = next(key for key, times in Counter(k for k, _ in pairs).items() if times > 1)
            raise _Ambiguous(f"the key '{twice}' stands in it more than once")
        return row

    def finite(number: str) -> float:
        if math.isinf(float(number)):
            raise ValueError(f"{number} is larger than any number")
        return float(number)

    for number, raw in enumerate(text.split(b"\n"), line):
        where = f"{name}, line {number:,}"
        try:
            if not raw.strip():
                continue
            row = json.loads(raw, parse_constant=refuse, parse_float=finite, object_pairs_hook=once)
            if not isinstance(row, dict):
                return f"{where}: a row is a JSON object, and this is none."
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeDecodeError:
            return f"{where}: not UTF-8 text. Convert the file."
        except UnicodeEncodeError:
            return f"{where}: half a surrogate pair (\\ud800 to \\udfff), which is no character."
        except _Ambiguous as problem:
            return f"{where}: {problem}."
        except (ValueError, RecursionError) as problem:
            return f"{where}: not JSON: {problem}."
    return None


class _Ambiguous(Exception):
    """A row that says two things at once."""
