"""Rows as the Open Inference Protocol (V2) carries them: one input a feature, by the feature's kind."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from slipway.components.contracts.splits import Feature, Kind

if TYPE_CHECKING:
    import pyarrow as pa

DATATYPES: dict[Kind, str] = {
    "numeric": "FP64",
    "boolean": "BOOL",
    "categorical": "BYTES",
    "time": "BYTES",
}


class Tensor(TypedDict):
    """One input of a V2 request, its data as JSON values."""

    name: str
    datatype: str
    shape: list[int]
    data: list[object]


def wire_values(kind: Kind, column: "pa.ChunkedArray") -> list[object]:
    """A feature's values as JSON carries them: what is missing is null, a time its wall clock as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values: list[object]
    if kind == "time":
        wall = pc.local_timestamp(column) if getattr(column.type, "tz", None) else column
        return [value and value.isoformat() for value in wall.to_pylist()]
    if kind == "numeric":
        # JSON has no NaN.
        values = column.cast(pa.float64()).to_pylist()
        return [None if value is None or value != value else value for value in values]
    values = column.to_pylist()
    return values


def v2_inputs(features: Iterable[Feature], table: "pa.Table") -> list[Tensor]:
    """The inputs of a V2 request for all rows of a table that has the features under their names."""
    return [
        {
            "name": feature.name,
            "datatype": DATATYPES[feature.kind],
            "shape": [table.num_rows],
            "data": wire_values(feature.kind, table[feature.name]),
        }
        for feature in features
    ]
