"""Columns as the bytes that Feast keeps in an online store.

Feast encodes value by value through protobuf objects. Here a column is encoded in one go; the tests
compare the bytes with Feast's own.
"""

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from feast import FeatureView

# Feast's Value message: field double_val = 5 as a 64-bit float.
_DOUBLE_TAG = bytes([5 << 3 | 1])
_LENGTHS = struct.Struct("<II")
MISSING_TIME = -(2**63)


def entity_keys(view: "FeatureView", rows: "pa.Table") -> list[bytes]:
    """Each row's entity key: names, then types, lengths and values (Feast's version 3)."""
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix
    from feast.protos.feast.types.Value_pb2 import ValueType

    names = sorted(view.join_keys)
    prefix = serialize_entity_key_prefix(names, 3)
    columns: list[list[bytes]] = []
    for name in names:
        kind = next(column.dtype for column in view.entity_columns if column.name == name)
        # The first column's parts begin with the prefix of the whole key.
        start = b"" if columns else prefix
        if str(kind) == "String":
            head = start + struct.pack("<I", ValueType.STRING)
            texts = [str(value).encode() for value in rows[name].to_pylist()]
            columns.append([head + struct.pack("<I", len(text)) + text for text in texts])
        else:
            head = start + _LENGTHS.pack(ValueType.INT64, 8)
            columns.append(_words(head, rows[name].cast("int64").to_numpy(), "<i8"))
    return (
        columns[0] if len(columns) == 1 else [b"".join(row) for row in zip(*columns, strict=True)]
    )


def in_key_order(view: "FeatureView", rows: "pl.DataFrame") -> "pl.DataFrame":
    """The rows in the order of the bytes of their entity keys."""
    import polars as pl

    def lowest_byte_first(numbers: pl.Series) -> pl.Series:
        words = numbers.to_numpy()
        size = words.itemsize
        return pl.Series(words.astype(f"<i{size}").view(f">u{size}").astype(f"u{size}"))

    order: dict[str, pl.Series] = {}
    for name in sorted(view.join_keys):
        kind = next(column.dtype for column in view.entity_columns if column.name == name)
        if str(kind) == "String":
            text = rows[name].cast(pl.String)
            order[f"{name} length"] = lowest_byte_first(text.str.len_bytes())
            order[name] = text
        else:
            order[name] = lowest_byte_first(rows[name].cast(pl.Int64))
    return rows[pl.DataFrame(order).select(pl.arg_sort_by(*order)).to_series()]


def _words(head: bytes, numbers: "np.ndarray[Any, Any]", kind: str) -> list[bytes]:
    """Each number as `head` and its eight bytes; laid out in one array, not number by number."""
    import numpy as np

    cells = np.empty(len(numbers), dtype=[("head", f"V{len(head)}"), ("number", kind)])
    cells["head"] = np.void(head)
    cells["number"] = numbers
    words: list[bytes] = cells.view(f"V{cells.itemsize}").tolist()
    return words


def values(column: "pa.ChunkedArray") -> list[bytes]:
    """A feature's values as serialised `Value` messages; a null is the empty message.

    A missing time is MISSING_TIME, as in Feast. The column has one of the types of a view's table:
    float64, string, bool, timestamp.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from feast.protos.feast.types.Value_pb2 import Value

    if pa.types.is_floating(column.type):
        words = _words(_DOUBLE_TAG, column.fill_null(0).to_numpy(), "<f8")
        for place in _nulls(column):
            words[place] = b""
        return words
    if pa.types.is_timestamp(column.type):
        column = pc.floor_temporal(column, unit="second").cast(pa.timestamp("s")).cast(pa.int64())
        field = "unix_timestamp_val"
        # Feast has a value of its own for a time that is missing.
        missing = Value(unix_timestamp_val=MISSING_TIME).SerializeToString()
    else:
        field, missing = ("bool_val" if pa.types.is_boolean(column.type) else "string_val"), b""
    messages: dict[object, bytes] = {None: missing}
    for value in column.unique().to_pylist():
        if value is not None:
            messages[value] = Value(**{field: value}).SerializeToString()
    return [messages[value] for value in column.to_pylist()]


def texts(column: "pa.ChunkedArray") -> list[str | None]:
    """What Feast's sqlite store keeps beside a value, for text search."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return [None] * len(column)
    if pa.types.is_floating(column.type):
        numbers = _number_texts(column.fill_null(0).to_numpy())
        for place in _nulls(column):
            numbers[place] = None
        return numbers
    return [None if value is None else str(value) for value in column.to_pylist()]


def _number_texts(numbers: "np.ndarray[Any, Any]") -> list[str | None]:
    """Each number as Python's `repr` has it."""
    import numpy as np
    import polars as pl

    # Polars writes the same digits six times faster, but takes to exponents elsewhere.
    written: list[str | None] = pl.Series(numbers).cast(pl.String).to_list()
    size = np.abs(numbers)
    alike = (size >= 1e-4) & (size < 1e16) | (size == 0)
    for place in np.flatnonzero(~alike):
        written[place] = repr(float(numbers[place]))
    return written


def _nulls(column: "pa.ChunkedArray") -> list[int]:
    """The places of a column's nulls."""
    places: list[int] = column.is_null().to_numpy().nonzero()[0].tolist()
    return places
