"""Which columns become features as they stand, which do not, and why."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.components.config.features.view import Kind
from slipway.components.features.columns import kind_of
from slipway.components.support.columns import is_reserved
from slipway.components.support.errors import SlipwayError
from slipway.local.guess.guess import Answers
from slipway.local.guess.labels import LabelGuess
from slipway.local.guess.moments import Moments, instants
from slipway.local.guess.relations import Join, is_id
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts

if TYPE_CHECKING:
    import polars as pl

MOST_CODES = 200
"""An id, or a code, with more different values is no category that can be learnt."""
_ROWS_A_CODE = 20
_FREE_TEXT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldGuess:
    """A feature that is a column as it stands.

    Attributes:
        name: of the feature. table: that has the column.
        column: its name there. kind: of the feature. declared: whether the kind must be said.
        values: of the examples' rows, in order.
        reason: why it is one, where that may surprise.
    """

    name: str
    table: str
    column: str
    kind: Kind
    declared: bool
    values: "pl.Series"
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Fields:
    """The features of all tables, and what was left out: table to column to why."""

    found: list[FieldGuess]
    left_out: dict[str, dict[str, str]]

    def leave_out(self, name: str, why: str) -> None:
        """Takes a feature back."""
        (field,) = [field for field in self.found if field.name == name]
        self.found = [other for other in self.found if other.name != name]
        self.left_out.setdefault(field.table, {})[field.column] = why

    def of(self, table: str) -> list[FieldGuess]:
        """The features of one table."""
        return [field for field in self.found if field.table == table]


def guess_fields(
    label: LabelGuess,
    key: tuple[str, ...],
    moments: Moments,
    joins: list[Join],
    answers: Answers,
) -> Fields:
    """The features of the examples' own rows, and of the tables with one row a key.

    Args:
        label: what is predicted.
        key: what names an example.
        moments: the examples' times.
        joins: the other tables.
        answers: what a person said.
    """
    own = label.table
    fields = Fields(found=[], left_out={})
    taken = {*key, *(join.own for join in joins)}
    reasons = {
        label.column.name: "",
        **dict.fromkeys(key, ""),
        **{name: f"known only later: {why}" for name, why in moments.later.items()},
    }
    keys = {join.own: join.table.name for join in joins}
    if moments.time.value and not _tells_hours_or_days(own.columns[moments.time.value]):
        reasons[moments.time.value] = ""
    if moments.known.value:
        reasons[moments.known.value] = ""
    _add(fields, own, reasons, answers, taken, keys)
    for join in joins:
        if join.single:
            skipped = {join.other: "", **({join.time: ""} if join.time else {})}
            rows = _joined(own, join, moments)
            _add(fields, join.table, skipped, answers, taken, {}, rows)
    return fields


def _add(
    fields: Fields,
    table: TableFacts,
    reasons: dict[str, str],
    answers: Answers,
    taken: set[str],
    keys: dict[str, str],
    rows: "pl.DataFrame | None" = None,
) -> None:
    """Adds a table's columns.

    Args:
        fields: gets them, or why they are none.
        table: the table.
        reasons: column to why it is none, as far as that is known already.
        answers: what a person said.
        taken: names of features that are taken; gets more.
        keys: column to the table that it is the key of.
        rows: the table's rows as the examples see them; None: it is the examples' own.
    """
    for name, column in table.columns.items():
        why = reasons.get(name)
        if why is None and {name, column.source} & set(answers.exclude):
            why = "as --exclude says"
        if why is None:
            why = _why_not(column, keys.get(name))
        if why is None and rows is not None and rows[name].null_count() == rows.height:
            why = "no example has a value before it is predicted"
        if why is not None:
            if why:
                fields.left_out.setdefault(table.name, {})[name] = why
            continue
        kind, declared = _kind(column, names_something=name in keys)
        feature = _free_name(name, table, taken)
        taken.add(feature)
        fields.found.append(
            FieldGuess(
                name=feature,
                table=table.name,
                column=name,
                kind=kind,
                declared=declared,
                values=column.values if rows is None else rows[name],
                reason=_why_kept(column, keys.get(name)),
            )
        )


def _why_not(column: ColumnFacts, key_of: str | None) -> str | None:
    """Why a column is no feature; None: it is one."""
    if column.distinct == 0:
        return "it holds no value at all"
    if column.is_constant:
        return "it holds one value in every row"
    try:
        _kind(column, names_something=key_of is not None)
    except SlipwayError:
        return f"it is of type {column.dtype}"
    named = key_of is not None or is_id(column)
    if named and column.distinct > min(MOST_CODES, column.rows // _ROWS_A_CODE):
        why = f"an id: {column.distinct:,} different values"
        return (
            why if key_of is None else f"{why}; it names a row of {key_of}, which is joined by it"
        )
    if column.is_text and column.distinct > max(100, _FREE_TEXT * (column.rows - column.nulls)):
        return f"free text or an id: {column.distinct:,} different values"
    return None


def _why_kept(column: ColumnFacts, key_of: str | None) -> str:
    """Why a column that names something is a feature all the same; empty: it names nothing."""
    if key_of is None and not is_id(column):
        return ""
    rows = (column.rows - column.nulls) // column.distinct
    why = (
        f"a category, not an amount: it names one of {column.distinct:,}, with {rows:,} rows each"
        " that it can be learnt from; a new one says nothing"
    )
    return why if key_of is None else f"{why} but what {key_of} says of it"


def _kind(column: ColumnFacts, *, names_something: bool) -> tuple[Kind, bool]:
    """The kind, and whether it is another than the type says."""
    import polars as pl

    if column.dtype.is_integer() and (names_something or is_id(column)):
        return "categorical", True
    kind = pl.Datetime("us") if column.dtype == pl.Date else column.dtype
    return kind_of(kind, column.source), False


def _free_name(name: str, table: TableFacts, taken: set[str]) -> str:
    for candidate in (name, f"{table.name}_{name}", f"{name}_value"):
        if candidate not in taken and not is_reserved(candidate):
            return candidate
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _tells_hours_or_days(column: ColumnFacts) -> bool:
    """Whether a time says more of a row than where it lies between the first and the last."""
    times = instants(column.values).drop_nulls()
    return bool(times.dt.time().n_unique() > 1 or times.dt.weekday().n_unique() > 1)


def _joined(own: TableFacts, join: Join, moments: Moments) -> "pl.DataFrame":
    """The other table's rows as the examples see them: null where there is none, or only later."""
    import polars as pl

    keys = own.frame.select(pl.col(join.own).cast(pl.String).alias("__key"))
    if moments.time.value:
        happens = instants(own.columns[moments.time.value].values)
        keys = keys.with_columns(happens.alias("__at"))
    other = join.table.frame.with_columns(pl.col(join.other).cast(pl.String).alias("__key"))
    if join.time and moments.time.value:
        other = other.with_columns(instants(other[join.time]).alias("__since"))
    rows = keys.join(other, on="__key", how="left", maintain_order="left")
    if "__since" in rows.columns:
        names = join.table.frame.columns
        seen = pl.col("__since") <= pl.col("__at")
        rows = rows.with_columns(pl.when(seen).then(pl.col(name)).alias(name) for name in names)
    return rows
