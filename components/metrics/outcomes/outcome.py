"""A row's outcome, as a table has it: which rows are positive, which negative, and which have no label.

One rule for training and for late labels. A column of booleans or of 0 and 1 is read as it is; any other
needs a word in the project file (`features.label`). What the rule does not cover is refused, with the
values and how many rows have each: a value that nobody thought of is no negative.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.components.config.features.label import Label, as_number, number_text, value_text
from slipway.components.metrics.outcomes.exact import as_written, is_above, is_equal
from slipway.components.metrics.outcomes.outcome_kinds import (
    read_classes,
    read_numbers,
    show_counts,
)
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl

_VALUE = "value"


def read_label(
    column: "pl.Series",
    label: Label,
    table: str,
    *,
    whole: bool = True,
    classes: tuple[str, ...] = (),
) -> "pl.Series":
    """The labels of a column's rows.

    Args:
        column: as the dataset has it.
        label: what the project file says of it.
        table: the column's table, for messages.
        whole: whether these are all rows there are, so that a declared value must be among them.
        classes: where the label is one of several, their names, as `find_classes` gives them.

    Returns:
        Int8, 1 or 0; of several classes the place of each row's, Int32; of a number Float64. Null where
        the label is not known.

    Raises:
        SlipwayError: the column holds values that the rule does not cover.
    """
    if label.kind == "multiclass":
        return read_classes(column, label, table, classes)
    if label.kind == "number":
        return read_numbers(column, label, table)
    return _read_binary(column, label, table, whole=whole)


def _read_binary(column: "pl.Series", label: Label, table: str, *, whole: bool) -> "pl.Series":
    import polars as pl

    where = f"The label's column {label.column} of table {table}"
    column = column.alias(_VALUE)
    if column.dtype == pl.Null:
        return column.cast(pl.Int8)
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype.is_float():
        column = column.to_frame().select(as_written(pl.col(_VALUE), column.dtype)).to_series()
    if column.dtype.is_numeric():
        declared = {"positive": label.positive, "unknown": label.unknown}
        label = label.model_copy(
            update={
                name: values and tuple(map(number_text, values))
                for name, values in declared.items()
            }
        )
    if label.above is not None:
        return _above(column, label, where)
    if not (column.dtype in (pl.Boolean, pl.String) or column.dtype.is_numeric()):
        remedy = " Set `label.above` with a unit, as in 15m." if column.dtype == pl.Duration else ""
        raise SlipwayError(
            f"{where} is of type {_type(column)}: a label is made of booleans, numbers, texts or"
            f" durations.{remedy}"
        )
    counts = dict(column.drop_nulls().value_counts(sort=True).iter_rows())
    classes = {value: _class(value, column.dtype == pl.String, label) for value in counts}
    texts = {value_text(value) for value in counts}
    unseen = [value for value in label.positive or () if value not in texts]
    if (whole and counts and unseen) or -1 in classes.values():
        problem = f"has no value {', '.join(unseen)} (positive)" if unseen else "is not 0 or 1"
        raise SlipwayError(
            f"{where} {problem}. It has {show_counts(counts)}. {_remedy(column, label)}"
        )
    rule = pl.DataFrame(
        {_VALUE: list(classes), "class": list(classes.values())},
        schema={_VALUE: column.dtype, "class": pl.Int8},
    )
    return column.to_frame().join(rule, on=_VALUE, how="left", maintain_order="left")["class"]


def tell(column: "pl.Series", labels: "pl.Series", label: Label) -> str:
    """Which values of a column were taken for which label, and how many rows have them."""
    if label.kind == "number":
        known = labels.drop_nulls()
        if known.is_empty():
            return "no number"
        unit = f" {label.unit}" if label.unit else ""
        return (
            f"{known.len():,} numbers from {value_text(known.min())}{unit} to"
            f" {value_text(known.max())}{unit}"
        )
    if label.kind == "multiclass":
        return show_counts(dict(column.drop_nulls().value_counts(sort=True).iter_rows()))
    told = []
    for name, value in (("positive", 1), ("negative", 0), ("not known", None)):
        chosen = labels.is_null() if value is None else (labels == value).fill_null(value=False)
        values = column.filter(chosen).drop_nulls()
        if values.len():
            told.append(f"{name}: {show_counts(dict(values.value_counts(sort=True).iter_rows()))}")
    return "; ".join(told)


def _class(value: object, is_text: bool, label: Label) -> int | None:
    """1, 0, None for what is declared unknown, and -1 for what nothing is said of."""
    text = value_text(value)
    if label.unknown is not None and text in label.unknown:
        return None
    if label.positive is not None:
        return -1 if text == "NaN" and not is_text else int(text in label.positive)
    return int(value) if not is_text and value in (0, 1) else -1


def _above(column: "pl.Series", label: Label, where: str) -> "pl.Series":
    """Positive where the column is greater than `label.above`."""
    import polars as pl

    limit = label.above
    assert limit is not None  # noqa: S101 - asked by the caller
    if column.dtype == pl.Duration and not isinstance(limit, timedelta):
        raise SlipwayError(
            f"{where} is a duration, and `label.above: {value_text(limit)}` has no unit: write s, m, h,"
            f" d or w behind it, as in {value_text(limit)}m."
        )
    if column.dtype != pl.Duration and isinstance(limit, timedelta):
        raise SlipwayError(
            f"{where} is of type {_type(column)}, no duration: `label.above` must be a plain number."
        )
    if not (column.dtype == pl.Duration or column.dtype.is_numeric()):
        raise SlipwayError(
            f"{where} is of type {_type(column)}, and `label.above` compares numbers or durations."
            " Set `label.positive` to the values that are positive."
        )
    known = pl.col(_VALUE).is_not_null()
    if label.unknown and column.dtype == pl.Duration:
        raise SlipwayError(f"{where} is a duration, of which `label.unknown` can name no value.")
    if label.unknown:
        for text in label.unknown:
            if (number := as_number(text)) is not None:
                known &= ~is_equal(pl.col(_VALUE), column.dtype, number)
        if "NaN" in label.unknown and column.dtype.is_float():
            known &= ~pl.col(_VALUE).is_nan()
    rows = column.to_frame().with_columns(known.alias("known"))
    if column.dtype.is_float():
        strange = rows.filter(pl.col("known") & pl.col(_VALUE).is_nan()).height
        if strange:
            raise SlipwayError(
                f"{where} is NaN in {strange:,} of {column.len():,} rows, which is neither above"
                f" {value_text(limit)} nor below. Set `label.unknown: [NaN]` if it means that the"
                " label is not known."
            )
    value = pl.col(_VALUE)
    above = value > limit if isinstance(limit, timedelta) else is_above(value, column.dtype, limit)
    return rows.select(pl.when("known").then(above.cast(pl.Int8)).alias(_VALUE))[_VALUE]


def _type(column: "pl.Series") -> str:
    return str(column.dtype)


def _remedy(column: "pl.Series", label: Label) -> str:
    if label.positive is not None:
        return (
            "Correct `label.positive`; set `label.unknown` to the values that mean that the label is"
            " not known."
        )
    above = (
        ", or `label.above` to the number from which on it is" if column.dtype.is_numeric() else ""
    )
    return (
        f"Set `label.positive` to the value (or list of values) that is positive{above}; and"
        " `label.unknown` to the values that mean that the label is not known."
    )
