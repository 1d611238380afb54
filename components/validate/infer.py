"""A first schema, written from data: for a person to read, tighten and keep."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.content_hash import row_hashes
from slipway.components.contracts.dataset import MANIFEST, read_manifest, table_files
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import write_text
from slipway.components.validate.schema import META_SCHEMA

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH = 65_536
# A text column with few values, each seen often, is taken as a category.
_MOST_VALUES = 30
_ROWS_A_VALUE = 20


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What a column was seen to hold."""

    nulls: int = 0
    low: Any = None
    high: Any = None
    values: set[str] | None = field(default_factory=set)
    whole: bool = True
    ordered: bool = True
    # Hashes of all values, as long as no two are equal.
    hashes: "list[np.ndarray] | None" = field(default_factory=list)


def infer_schema(path: Path) -> dict[str, Any]:
    """Writes a first schema from data.

    What is written holds for these data with some room: a range is widened by its own width, a null
    fraction doubled. A person should go over it: it knows what the data are, not what they should be.

    Args:
        path: a dataset that ingest wrote (all its tables), a parquet file, or a folder of them (one
            table, of the file's or folder's name).

    Returns:
        The content of a schema file.

    Raises:
        SlipwayError: there are no rows to learn from.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        tables = {name: table_files(path, name) for name in read_manifest(path).tables}
    elif path.is_dir():
        tables = {path.resolve().name: sorted(path.rglob("*.parquet"))}
    else:
        tables = {path.name.split(".")[0]: [path] if path.is_file() else []}
    for files in tables.values():
        if not files:
            raise SlipwayError(
                f"There is no parquet file at {path}. Give a parquet file, a folder of them, or a"
                " dataset that ingest wrote."
            )
    meta = json.loads(META_SCHEMA.read_text(encoding="utf-8"))
    return {
        "$schema": meta["$id"],
        "tables": {name: _table(name, files) for name, files in tables.items()},
    }


def write_schema(path: Path, out: Path) -> None:
    """Writes a first schema to a file, and the meta-schema beside it, for editors to complete by.

    Args:
        path: as for `infer_schema`.
        out: the schema file.

    Raises:
        SlipwayError: there are no rows to learn from.
    """
    schema = infer_schema(path) | {"$schema": META_SCHEMA.name}
    write_text(out, json.dumps(schema, indent=2, allow_nan=False) + "\n")
    write_text(out.with_name(META_SCHEMA.name), META_SCHEMA.read_text(encoding="utf-8"))


def _batches(files: list[Path]) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            yield from pq.ParquetFile(file).iter_batches(BATCH)
        except (pa.ArrowException, OSError) as error:
            raise SlipwayError(
                f"{file} cannot be read as parquet: {' '.join(str(error).split()).rstrip('.')}."
            ) from error


def _table(name: str, files: list[Path]) -> dict[str, Any]:
    rows = 0
    seen: dict[str, _Seen] = {}
    kinds: dict[str, pa.DataType] = {}
    for batch in _batches(files):
        rows += batch.num_rows
        for field_, column in zip(batch.schema, batch.columns, strict=True):
            kinds[field_.name] = field_.type
            _look(seen.setdefault(field_.name, _Seen()), column)
    if rows == 0:
        raise SlipwayError(f"Table {name} has no rows, so there is nothing to learn from.")
    properties = {column: _column(kinds[column], what, rows) for column, what in seen.items()}
    table: dict[str, Any] = {
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }
    if keys := [column for column, what in seen.items() if _is_key(kinds[column], what)]:
        table["x-unique"] = [keys[:1]]
    times = [c for c, p in properties.items() if p.get("format") == "date-time"]
    if ordered := [c for c in times if seen[c].ordered and seen[c].nulls == 0]:
        table["x-timeOrder"] = ordered[0]
    return table


def _look(seen: _Seen, column: "pa.Array") -> None:
    """Takes a batch's values into account."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    seen.nulls += column.null_count
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if seen.hashes is not None:
        batch = pa.RecordBatch.from_arrays([column], ["value"])
        seen.hashes.append(row_hashes(batch))
        if len(np.unique(seen.hashes[-1])) < len(column):
            seen.hashes = None
    if seen.values is not None and _is_text(kind):
        seen.values |= set(pc.unique(column.drop_null()).to_pylist())
        if len(seen.values) > _MOST_VALUES:
            seen.values = None
    if pa.types.is_floating(kind):
        # No bound is NaN or infinite: validate refuses such values, and JSON has no word for them.
        column = column.filter(pc.is_finite(column))
    if _is_number(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        span = pc.min_max(column).as_py()
        if span["min"] is None:
            return
        if pa.types.is_timestamp(kind) and seen.ordered:
            ticks = column.drop_null().cast(pa.int64()).to_numpy()
            after = seen.high is None or span["min"] >= seen.high
            seen.ordered = bool(after and np.all(ticks[1:] >= ticks[:-1]))
        seen.low = span["min"] if seen.low is None else min(seen.low, span["min"])
        seen.high = span["max"] if seen.high is None else max(seen.high, span["max"])
        if pa.types.is_floating(kind) and seen.whole:
            values = column.drop_null().to_numpy(zero_copy_only=False)
            seen.whole = bool(np.all(np.floor(values) == values))


def _column(kind: "pa.DataType", seen: _Seen, rows: int) -> dict[str, Any]:
    """The schema of one column."""
    import pyarrow as pa

    name, form = _json_type(kind)
    if name is None:
        return {"description": f"Arrow type {kind}: not judged."}
    if name == "number" and seen.whole and pa.types.is_floating(kind) and seen.low is not None:
        name = "integer"
    column: dict[str, Any] = {"type": [name, "null"] if seen.nulls else name}
    if form:
        column["format"] = form
    if form == "date-time" and seen.high is not None:
        high = seen.high if seen.high.tzinfo else seen.high.replace(tzinfo=UTC)
        if high <= datetime.now(UTC):
            column["formatMaximum"] = "now"
    if name in ("integer", "number") and seen.low is not None:
        column |= _range(seen.low, seen.high)
    few = seen.values if name == "string" and not form else None
    if few and rows >= _ROWS_A_VALUE * len(few):
        column["enum"] = sorted(few)
    if seen.nulls:
        column["x-maxNullFraction"] = min(1.0, math.ceil(200 * seen.nulls / rows) / 100)
    return column


def _json_type(kind: "pa.DataType") -> tuple[str | None, str | None]:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_timestamp(kind):
        return "string", "date-time" if kind.tz else "local-date-time"
    if pa.types.is_date(kind):
        return "string", "date"
    if pa.types.is_boolean(kind):
        return "boolean", None
    if pa.types.is_integer(kind):
        return "integer", None
    if _is_number(kind):
        return "number", None
    return ("string", None) if _is_text(kind) else (None, None)


def _range(low: Any, high: Any) -> dict[str, Any]:
    """The range that was seen, widened by its own width; what was never negative stays so."""
    width = high - low or abs(high) or 1
    bottom, top = low - width, high + width
    if low >= 0:
        bottom = 0
    if high <= 0:
        top = 0
    if isinstance(low, int):
        return {"minimum": int(bottom), "maximum": int(top)}
    bounds = {"minimum": float(f"{bottom:.3g}"), "maximum": float(f"{top:.3g}")}
    return {word: bound for word, bound in bounds.items() if math.isfinite(bound)}


def _is_key(kind: "pa.DataType", seen: _Seen) -> bool:
    """Whether a text or whole number without nulls never came twice."""
    import numpy as np
    import pyarrow as pa

    if seen.nulls or seen.hashes is None or not (_is_text(kind) or pa.types.is_integer(kind)):
        return False
    hashes = np.concatenate(seen.hashes)
    return len(np.unique(hashes)) == len(hashes)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
