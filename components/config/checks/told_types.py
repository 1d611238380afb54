"""What a project file and its schema say of a column's or a feature's type, before any row is read."""

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.support.expressions.functions import TYPES, Type

if TYPE_CHECKING:
    from slipway.components.config.checks.messages import Location


def properties(schema: dict[str, object], table: str) -> dict[str, object]:
    """The columns that the schema has of a table, each with its entry."""
    entry = tables_of(schema).get(table)
    found = entry.get("properties") if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


def tables_of(schema: dict[str, object]) -> dict[str, object]:
    """The schema's tables, each with its entry."""
    tables = schema.get("tables")
    return tables if isinstance(tables, dict) else {}


def type_of_feature(view: FeatureView, name: str, columns: dict[str, Type | None]) -> Type | None:
    """A feature's type as far as the files say it."""
    if name in view.aggregates:
        aggregate = view.aggregates[name]
        return columns[aggregate.column or ""] if aggregate.function == "most_common" else "number"
    field = view.fields[name]
    if isinstance(field, str):
        return columns[field]
    return TYPES[field.kind] if field.kind else columns[field.column]


def type_of_column(
    features: FeaturesConfig, schema: dict[str, object], name: str
) -> tuple[Type | None, str]:
    """The type of a feature, or of a column that travels beside them, and the table that it is of."""
    own = features.examples.table
    if name in features.own_beside:
        return type_in_schema(properties(schema, own).get(name)), own
    for view in features.views:
        if name in view.feature_names:
            there = properties(schema, view.table)
            columns = {c: type_in_schema(there.get(c)) for c in view.source_columns}
            return type_of_feature(view, name, dict.fromkeys(view.columns) | columns), view.table
    return None, own


def type_in_schema(entry: Any) -> Type | None:
    """The type of values that a column's entry in the schema admits; None: it does not say."""
    kinds = entry.get("type") if isinstance(entry, dict) else None
    named = [
        kind for kind in ([kinds] if isinstance(kinds, str) else kinds or []) if kind != "null"
    ]
    if len(named) != 1:
        return None
    if named[0] == "string":
        return "time" if entry.get("format") in ("date-time", "local-date-time", "date") else "text"
    kind: Type | None = {"integer": "number", "number": "number", "boolean": "boolean"}.get(
        named[0]
    )  # type: ignore[assignment]
    return kind


def key_of(place: "Location") -> str:
    """A setting's name, as messages have it."""
    return ".".join(map(str, place))


def near(name: str, names: Collection[str]) -> str:
    """A hint at the name that was perhaps meant; empty where none is like it."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {found[0]}?" if found else ""
