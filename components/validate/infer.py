"""A first schema, written from data: for a person to read, tighten and keep.

Whatever ingest makes of a table passes the schema that is inferred from it, in any order of its rows.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.rows.content_hash import row_hashes
from slipway.components.contracts.table_schema.bounds import ticks
from slipway.components.support.documents import load_json, read_document
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import write_text
from slipway.components.validate.schema import META_SCHEMA

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# A text column with few values, each seen often, is taken as a category.
_MOST_VALUES = 30
_ROWS_A_VALUE = 20
_EXACT = 2**53


@dataclass(slots=True, kw_only=True)
class _ColumnSummary:
    """What a column was seen to hold; times as whole numbers of their unit since 1970."""

    nulls: int = 0
    strange: int = 0
    low: Any = None
    high: Any = None
    values: set[str] | None = field(default_factory=set)
    whole: bool = True
    # Hashes of all values, as long as no two are equal.
    hashes: "list[np.ndarray] | None" = field(default_factory=list)


def infer_table(
    name: str, schema: "pa.Schema", batches: Iterable["pa.RecordBatch"]
) -> dict[str, object]:
    """A first entry for one table.

    A person should go over it: it knows what the data are, not what they should be. So it says nothing
    of how large a number may become, only that it never was negative, or that it is 0 or 1.

    Args:
        name: the table.
        schema: its columns, as ingest makes them.
        batches: its rows, likewise.

    Raises:
        SlipwayError: there are no rows to learn from.
    """
    rows = 0
    seen = {column: _ColumnSummary() for column in schema.names}
    for batch in batches:
        rows += batch.num_rows
        for column, values in zip(schema.names, batch.columns, strict=True):
            _look(seen[column], values)
    if rows == 0:
        raise SlipwayError(f"Table {name} has no rows, so there is nothing to learn from.")
    table: dict[str, object] = {
        "required": schema.names,
        "additionalProperties": False,
        "properties": {c: _column(schema.field(c).type, seen[c], rows) for c in schema.names},
    }
    if keys := [
        column for column in schema.names if _is_key(schema.field(column).type, seen[column])
    ]:
        table["x-unique"] = [keys[:1]]
    return table


def write_schema(tables: dict[str, Any], out: Path, *, force: bool = False) -> list[str]:
    """Writes entries into a schema file, which keeps its others, and the meta-schema beside it.

    Args:
        tables: the entry of each table.
        out: the schema file; it may be there already.
        force: replace what the file says of these tables.

    Returns:
        The tables whose entries are new, or were replaced.

    Raises:
        SlipwayError: the file is no schema, or says something else of one of the tables.
    """
    schema: dict[str, Any] = {"$schema": META_SCHEMA.name, "tables": {}}
    if out.exists():
        schema |= _read(out)
    there = schema["tables"]
    changed = [name for name, entry in tables.items() if there.get(name) != entry]
    kept = [name for name in changed if name in there]
    if kept and not force:
        raise SlipwayError(
            f"{out} has an entry for {', '.join(kept)} already, and it says something else. Nothing is"
            " written. --force replaces it; --out names another file."
        )
    schema["tables"] = there | tables
    write_text(out, json.dumps(schema, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    write_text(out.with_name(META_SCHEMA.name), META_SCHEMA.read_text(encoding="utf-8"))
    return changed


def _read(out: Path) -> dict[str, object]:
    try:
        schema = load_json(read_document(out))
    except (OSError, ValueError) as error:
        raise SlipwayError(f"{out} is no JSON file that can be read: {error}.") from error
    if not isinstance(schema, dict) or not isinstance(schema.get("tables"), dict):
        raise SlipwayError(f"{out} is no schema: it has no tables. Name another file with --out.")
    return schema


def _look(seen: _ColumnSummary, column: "pa.Array") -> None:
    """Takes a batch's values into account."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    seen.nulls += column.null_count
    kind = column.type
    if seen.hashes is not None and _may_be_key(kind):
        batch = pa.RecordBatch.from_arrays([column], ["value"])
        seen.hashes.append(row_hashes(batch))
        if len(np.unique(seen.hashes[-1])) < len(column):
            seen.hashes = None
    if seen.values is not None and pa.types.is_string(kind):
        seen.values |= set(pc.unique(column.drop_null()).to_pylist())
        if len(seen.values) > _MOST_VALUES:
            seen.values = None
    if pa.types.is_floating(kind):
        finite = column.filter(pc.is_finite(column))
        seen.strange += len(column) - column.null_count - len(finite)
        column = finite
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = ticks(column)
    elif not _is_number(kind):
        return
    span = pc.min_max(column).as_py()
    if span["min"] is None:
        return
    seen.low = span["min"] if seen.low is None else min(seen.low, span["min"])
    seen.high = span["max"] if seen.high is None else max(seen.high, span["max"])
    if pa.types.is_floating(kind) and seen.whole:
        values = column.drop_null().to_numpy(zero_copy_only=False)
        seen.whole = bool(np.all(np.floor(values) == values))


def _column(kind: "pa.DataType", seen: _ColumnSummary, rows: int) -> dict[str, object]:
    """The schema of one column."""
    name, form = _json_type(kind, seen)
    if name is None:
        what = "No value was seen" if seen.nulls == rows else f"Arrow type {kind}"
        return {"description": f"{what}: not judged."}
    column: dict[str, object] = {"type": [name, "null"] if seen.nulls else name}
    if form:
        column["format"] = form
    if form == "date-time" and seen.high is not None and _is_past(kind, seen.high):
        column["formatMaximum"] = "now"
    if name in ("integer", "number") and seen.low is not None and seen.low >= 0:
        column["minimum"] = 0
        if name == "integer" and (seen.low, seen.high) == (0, 1):
            column["maximum"] = 1
    few = seen.values if name == "string" and not form else None
    if few and rows >= _ROWS_A_VALUE * len(few):
        column["enum"] = sorted(few)
    if seen.nulls:
        column["x-maxNullFraction"] = min(1.0, math.ceil(200 * seen.nulls / rows) / 100)
    if seen.strange:
        # NaN is no null and fails, and whatever is here passes.
        column["x-level"] = "warn"
        column["description"] = f"{seen.strange:,} of {rows:,} values were NaN or infinite."
    return column


def _json_type(kind: "pa.DataType", seen: _ColumnSummary) -> tuple[str | None, str | None]:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return "string", "date-time" if kind.tz else "local-date-time"
    if pa.types.is_date(kind):
        return "string", "date"
    if pa.types.is_boolean(kind):
        return "boolean", None
    if pa.types.is_integer(kind):
        return "integer", None
    if pa.types.is_floating(kind) and seen.low is not None and seen.whole:
        small = max(abs(seen.low), abs(seen.high)) <= _EXACT
        return "integer" if small else "number", None
    if _is_number(kind):
        return "number", None
    return ("string", None) if pa.types.is_string(kind) else (None, None)


def _is_past(kind: "pa.DataType", ticks: int) -> bool:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    return bool(ticks <= int(datetime.now(UTC).timestamp()) * scale)


def _may_be_key(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind))


def _is_key(kind: "pa.DataType", seen: _ColumnSummary) -> bool:
    """Whether a text or whole number without nulls never came twice."""
    import numpy as np

    if seen.nulls or not seen.hashes or not _may_be_key(kind):
        return False
    hashes = np.concatenate(seen.hashes)
    return len(np.unique(hashes)) == len(hashes)


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
