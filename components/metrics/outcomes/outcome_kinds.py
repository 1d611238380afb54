"""A row's outcome where it is one of several classes, or a number: as `outcome` reads yes and no."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from slipway.components.config.features.label import (
    MAX_CLASSES,
    MIN_CLASS_ROWS,
    Label,
    number_text,
    value_text,
)
from slipway.components.metrics.outcomes.exact import as_written
from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.functions import LARGEST

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 10
_VALUE = "value"
_UNIT_MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def show_counts(counts: Mapping[Any, int]) -> str:
    """Values with the number of their rows, at most ten of them."""
    listed = [
        f"{value_text(value) or '(empty text)'} ({rows:,} rows)" for value, rows in counts.items()
    ]
    more = f" and {len(listed) - _SHOWN:,} more values" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def find_classes(column: "pl.Series", label: Label, table: str) -> tuple[str, ...]:
    """The classes that a model tells apart: those that the project names, or those that the data have.

    Args:
        column: as the dataset has it, all rows.
        label: what the project file says of it.
        table: the column's table, for messages.

    Returns:
        Their names: numbers in order of size, texts by the alphabet; `merge_rare` last.

    Raises:
        SlipwayError: there are fewer than two, more than 1,000, or a rare one with nothing to merge into.
    """
    where = f"The label's column {label.column} of table {table}"
    counts = _count_values(column, label, where)
    named, least = label.classes, label.min_class_rows or MIN_CLASS_ROWS
    texts: dict[str, int] = {}
    for value, rows in counts.items():
        name = value_text(value)
        texts[name] = texts.get(name, 0) + rows
    if named is not None:
        named = _as_written(named, column)
        there = tuple(name for name in named if name in texts)
        strange = [name for name in texts if name not in named and name != label.merge_rare]
        if strange and label.merge_rare is None:
            raise SlipwayError(
                f"{where} has {show_counts({name: texts[name] for name in strange})}, which"
                " features.label.classes does not name. Name them there, in `unknown` where they mean"
                " that the label is not known, or set `merge_rare` to the class that they count as."
            )
        if len(there) < len(named):
            gone = [name for name in named if name not in texts]
            raise SlipwayError(
                f"{where} has no row of class {', '.join(gone)} (features.label.classes). It has"
                f" {show_counts(texts)}."
            )
    rare = [name for name in texts if texts[name] < least and name != label.merge_rare]
    if rare and label.merge_rare is None:
        raise SlipwayError(
            f"{where} has classes with fewer than {least:,} rows:"
            f" {show_counts({name: texts[name] for name in rare})}. Lower"
            " features.label.min_class_rows, set `merge_rare` to the name of a class that they count"
            " as, or name them in `unknown`."
        )
    ordered = named if named is not None else _in_order(texts, column)
    classes = [name for name in ordered if name not in rare and name != label.merge_rare]
    if label.merge_rare is not None and (len(classes) < len(texts) or label.merge_rare in texts):
        classes.append(label.merge_rare)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise SlipwayError(
            f"{where} has {len(classes):,} classes, and a model tells 2 to {MAX_CLASSES:,} apart"
            + (f": {show_counts(texts)}." if texts else ". No row has a label that is known.")
            + (" If it is a number, set `kind: number`." if column.dtype.is_numeric() else "")
        )
    return tuple(classes)


def name_classes(column: "pl.Series", label: Label, table: str) -> "pl.Series":
    """The name of each row's class, String; null where the label is not known."""
    import polars as pl

    where = f"The label's column {label.column} of table {table}"
    if column.dtype == pl.Null:
        return column.cast(pl.String)
    names = {value: value_text(value) for value in _count_values(column, label, where)}
    column = _plain(column).alias(_VALUE)
    rule = pl.DataFrame(
        {_VALUE: list(names), "class": list(names.values())},
        schema={_VALUE: column.dtype, "class": pl.String},
    )
    joined = column.to_frame().join(rule, on=_VALUE, how="left", maintain_order="left")
    return joined["class"].alias(column.name)


def read_classes(
    column: "pl.Series", label: Label, table: str, classes: tuple[str, ...]
) -> "pl.Series":
    """The place of each row's class: Int32; null where the label is not known.

    Args:
        column: as the dataset has it.
        label: what the project file says of it.
        table: the column's table, for messages.
        classes: in the order of the model's answers.

    Raises:
        SlipwayError: a row is of a class that the model does not know, and `merge_rare` is not set.
    """
    import polars as pl

    where = f"The label's column {label.column} of table {table}"
    names = name_classes(column, label, table)
    counts = dict(names.drop_nulls().value_counts(sort=True).iter_rows())
    other = classes.index(label.merge_rare) if label.merge_rare in classes else None
    places = {name: classes.index(name) if name in classes else other for name in counts}
    strange = {name: counts[name] for name, place in places.items() if place is None}
    if strange:
        raise SlipwayError(
            f"{where} has {show_counts(strange)}, a class that the model does not know; it knows"
            f" {', '.join(classes[:_SHOWN])}{' …' if len(classes) > _SHOWN else ''}. Train it again, or"
            " set features.label.merge_rare to the class that new ones count as."
        )
    return names.replace_strict(places, default=None, return_dtype=pl.Int32)


def read_numbers(column: "pl.Series", label: Label, table: str) -> "pl.Series":
    """The label of each row as a number: Float64; null where it is not known.

    A duration becomes a number of the unit that `label.unit` names.

    Raises:
        SlipwayError: the column is no number, or holds NaN or an infinity that nothing is said of.
    """
    import polars as pl

    where = f"The label's column {label.column} of table {table}"
    if column.dtype == pl.Null:
        return column.cast(pl.Float64)
    if column.dtype == pl.Duration:
        if label.unit is None:
            raise SlipwayError(
                f"{where} is a duration: set features.label.unit to s, m, h or d, the unit that the"
                " model is to predict."
            )
        microseconds = column.dt.total_microseconds()
        return microseconds.cast(pl.Float64) / _UNIT_MICROSECONDS[label.unit]
    if label.unit is not None:
        raise SlipwayError(f"{where} is of type {column.dtype}, no duration: leave out `unit`.")
    if not column.dtype.is_numeric():
        raise SlipwayError(
            f"{where} is of type {column.dtype}, and `kind: number` predicts numbers or durations. If"
            " its values are classes, set `kind: multiclass`."
        )
    exact = _plain(column)
    unknown = {number_text(text) for text in label.unknown or ()}
    if unknown:
        distinct = exact.drop_nulls().unique()
        gone = [value for value in distinct if value_text(value) in unknown]
        is_gone = exact.is_in(pl.Series(gone, dtype=exact.dtype)) if gone else None
        if "NaN" in unknown and exact.dtype.is_float():
            nans = exact.is_nan()
            is_gone = nans if is_gone is None else is_gone | nans
        if is_gone is not None:
            exact = exact.to_frame().select(
                pl.when(~is_gone.fill_null(value=False)).then(pl.col(exact.name))
            )[exact.name]
    numbers = exact.cast(pl.Float64)
    strange = numbers.drop_nulls().filter(~numbers.drop_nulls().is_finite())
    if strange.len():
        raise SlipwayError(
            f"{where} is {value_text(strange[0])} in {strange.len():,} of {column.len():,} rows. Set"
            f" `label.unknown: [{value_text(strange[0])}]` if it means that the label is not known."
        )
    beyond = numbers.drop_nulls().filter(numbers.drop_nulls().abs() > LARGEST)
    if beyond.len():
        raise SlipwayError(
            f"{where} is {beyond[0]:g} in one of {beyond.len():,} rows that are beyond {LARGEST:.3g}, the"
            " largest number that a model answers with. Give it in another unit, or as its logarithm."
        )
    return numbers


def _plain(column: "pl.Series") -> "pl.Series":
    """The column as values that equal what was written: 0.2 stays 0.2, categories become texts."""
    import polars as pl

    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if column.dtype.is_float():
        return column.to_frame().select(as_written(pl.col(column.name), column.dtype)).to_series()
    return column


def _count_values(column: "pl.Series", label: Label, where: str) -> dict[object, int]:
    """Rows by value, the commonest first, without those that are declared unknown.

    Raises:
        SlipwayError: the column is of a type that names no classes.
    """
    import polars as pl

    column = _plain(column).alias(_VALUE)
    if not (
        column.dtype in (pl.Boolean, pl.String, pl.Null)
        or column.dtype.is_integer()
        or column.dtype.is_float()
        or column.dtype.is_decimal()
    ):
        raise SlipwayError(
            f"{where} is of type {column.dtype}: classes are texts, whole numbers or booleans."
        )
    unknown = set(_as_written(label.unknown or (), column))
    counted = column.drop_nulls().value_counts(sort=True)
    counts = {
        value: rows for value, rows in counted.iter_rows() if value_text(value) not in unknown
    }
    broken = {
        value: rows
        for value, rows in counts.items()
        if isinstance(value, float) and not (math.isfinite(value) and value == int(value))
    }
    if broken:
        raise SlipwayError(
            f"{where} has {show_counts(broken)}: a class is a text or a whole number. If the label is a"
            " number, set `kind: number`."
        )
    return counts


def _as_written(names: tuple[str, ...], column: "pl.Series") -> tuple[str, ...]:
    """Declared values as the texts of the numbers that they are, where the column has numbers."""
    return tuple(map(number_text, names)) if column.dtype.is_numeric() else names


def _in_order(texts: Mapping[str, int], column: "pl.Series") -> list[str]:
    if column.dtype.is_numeric():
        return sorted(texts, key=Decimal)
    return sorted(texts)
