"""The checks of a table's rows: each a polars expression that is true where a row fails.

A check may also know from a column's footer (its nulls, least and greatest value in a row group) that no
row of the group fails; then the column is not even read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from slipway.components.contracts.table_schema.bounds import greatest, least
from slipway.components.contracts.table_schema.schema import ColumnSchema, Level
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a footer says of one column in one row group; None: it does not say.

    For floats `low` and `high` are unknown, since a footer passes over NaN; those of times are whole
    numbers of the column's unit since 1970, since no date is past the year 9999.
    """

    rows: int
    nulls: int | None = None
    low: Any = None
    high: Any = None

    def within(self, low: object = None, high: object = None) -> bool:
        """Whether all values that are not null surely are from `low` to `high`, both inclusive."""
        if self.nulls == self.rows:
            return True
        return (low is None or (self.low is not None and self.low >= low)) and (
            high is None or (self.high is not None and self.high <= high)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition on the rows of a table.

    Attributes:
        text: what it says, as it stands in reports and as a quarantined row's reason.
        columns: the columns that it reads.
        fails: true for the rows that fail; None for a kind that one row does not decide.
        kind: `row` is decided row by row, `unique` over all rows, `order` against the rows before.
        sure: whether a footer shows that no row of its group fails.
        enum: the allowed texts, so that a dictionary shows that no row fails.
    """

    text: str
    columns: tuple[str, ...]
    level: Level
    tolerance: float
    fails: "pl.Expr | None"
    kind: Literal["row", "unique", "order"] = "row"
    sure: Callable[[Span], bool] | None = None
    enum: frozenset[str] | None = None


def type_problem(column: ColumnSchema, kind: "pa.DataType", *, window: bool = False) -> str | None:
    """Why an Arrow type is not the type that the schema asks for; None where it is.

    Args:
        column: what the schema says of the column.
        kind: its Arrow type.
        window: whether the window cuts on the column. Ingest has made it an instant, so it is right
            whichever of the times the schema calls it.
    """
    import pyarrow as pa

    if column.kind is None or pa.types.is_null(kind):
        return None
    if window and column.format is not None and pa.types.is_timestamp(kind) and kind.tz:
        return None
    wanted: str = column.kind if column.format is None else f"{column.kind} ({column.format})"
    match column.kind, column.format:
        case "string", None:
            fits = pa.types.is_string(kind)
        case "string", "date-time":
            fits = pa.types.is_timestamp(kind) and kind.tz is not None
        case "string", "local-date-time":
            fits = pa.types.is_timestamp(kind) and kind.tz is None
        case "string", "date":
            fits = pa.types.is_date32(kind)
        case "boolean", _:
            fits = pa.types.is_boolean(kind)
        case _:
            # As in JSON Schema, 1.0 is an integer: the rows decide.
            fits = (
                pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            )
    return None if fits else f"is {kind}, and the schema says {wanted}"


def column_checks(column: ColumnSchema, kind: "pa.DataType") -> list[Check]:
    """The row checks of a column whose Arrow type fits."""
    import polars as pl
    import pyarrow as pa

    name, value = column.name, pl.col(column.name)
    checks: list[Check] = []

    def add(
        text: str,
        fails: pl.Expr,
        sure: Callable[[Span], bool] | None = None,
        enum: frozenset[str] | None = None,
    ) -> None:
        checks.append(
            Check(
                text=f"{name}: {text}",
                columns=(name,),
                level=column.level,
                tolerance=column.tolerance,
                fails=fails.fill_null(False),
                sure=sure,
                enum=enum,
            )
        )

    if not column.nullable:
        add("null", value.is_null(), sure=lambda span: span.nulls == 0)
    if pa.types.is_null(kind):
        return checks
    floating = pa.types.is_floating(kind)
    if column.kind in ("integer", "number") and floating:
        add("not a finite number", value.is_finite().not_())
    if column.kind == "integer" and (floating or (pa.types.is_decimal(kind) and kind.scale)):
        finite = value.is_finite() if floating else pl.lit(True)
        add("not a whole number", finite & (value != value.floor()))
    for text, fails, sure in _bounds(column, kind):
        add(text, fails, sure=sure)
    for text, fails, sure in _moments(column, kind):
        add(text, fails, sure=sure)
    if column.min_length is not None:
        add(f"minLength {column.min_length}", value.str.len_chars() < column.min_length)
    if column.max_length is not None:
        add(f"maxLength {column.max_length}", value.str.len_chars() > column.max_length)
    if column.pattern is not None:
        _try_pattern(name, column.pattern)
        add(f"pattern {column.pattern}", value.str.contains(column.pattern).not_())
    if column.enum is not None:
        texts = (
            frozenset(text for text in column.enum if isinstance(text, str))
            if pa.types.is_string(kind)
            else None
        )
        allowed = pl.Series(_enum_values(column, kind), dtype=_polars(kind))
        add("enum", value.is_in(allowed.implode()).not_(), enum=texts)
    return checks


def _bounds(
    column: ColumnSchema, kind: "pa.DataType"
) -> Iterator[tuple[str, "pl.Expr", Callable[[Span], bool] | None]]:
    """What a number's bounds say, compared as values of the column's own type.

    What is not finite has failed already, once.
    """
    import polars as pl
    import pyarrow as pa

    value = pl.col(column.name)
    finite = value.is_finite() if pa.types.is_floating(kind) else value.is_not_null()

    def literal(number: object) -> pl.Expr:
        return pl.lit(number, dtype=_polars(kind))

    if (bound := column.minimum) is not None:
        low = least(kind, bound)
        fails = finite if low is None else finite & (value < literal(low))
        yield f"minimum {bound}", fails, lambda s: low is not None and s.within(low=low)
    if (bound := column.maximum) is not None:
        high = greatest(kind, bound)
        fails = finite if high is None else finite & (value > literal(high))
        yield f"maximum {bound}", fails, lambda s: high is not None and s.within(high=high)
    if (bound := column.exclusive_minimum) is not None:
        low_out = greatest(kind, bound)
        if low_out is not None:
            yield f"exclusiveMinimum {bound}", finite & (value <= literal(low_out)), None
    if (bound := column.exclusive_maximum) is not None:
        high_out = least(kind, bound)
        if high_out is not None:
            yield f"exclusiveMaximum {bound}", finite & (value >= literal(high_out)), None


def _moments(
    column: ColumnSchema, kind: "pa.DataType"
) -> Iterator[tuple[str, "pl.Expr", Callable[[Span], bool] | None]]:
    """What a time's bounds say. A footer's times are whole numbers of the column's unit."""
    import polars as pl

    value = pl.col(column.name)
    earliest, latest = (_as_kind(moment, kind) for moment in (column.earliest, column.latest))
    if earliest is not None:
        low = _ticks(earliest, kind, up=True)
        yield f"earlier than {_shown(earliest)}", value < earliest, lambda s: s.within(low=low)
    if latest is not None:
        high = _ticks(latest, kind, up=False)
        yield f"later than {_shown(latest)}", value > latest, lambda s: s.within(high=high)


def _polars(kind: "pa.DataType") -> "pl.DataType":
    """A column's type as polars has it."""
    import polars as pl
    import pyarrow as pa

    series = pl.from_arrow(pa.array([], kind))
    assert isinstance(series, pl.Series)  # noqa: S101
    return series.dtype


def _try_pattern(name: str, pattern: str) -> None:
    import polars as pl

    try:
        pl.Series(["x"]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise SlipwayError(
            f"The schema file is wrong. {name}: the pattern {pattern} is not a regular expression:"
            f" {' '.join(str(error).split())[:300]}."
        ) from error


def _as_kind(moment: datetime | None, kind: "pa.DataType") -> datetime | date | None:
    """An instant as a value that compares with a column's values."""
    import pyarrow as pa

    if moment is None:
        return None
    if pa.types.is_date(kind):
        return moment.date()
    return moment if kind.tz else moment.replace(tzinfo=None)


def _ticks(moment: datetime | date, kind: "pa.DataType", *, up: bool) -> int:
    """A moment as a whole number of a column's unit since 1970, rounded to the side that decides."""
    import pyarrow as pa

    if not isinstance(moment, datetime):
        return (moment - date(1970, 1, 1)).days
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    step = timedelta(seconds=1) / {"s": 1, "ms": 10**3}.get(kind.unit, 10**6)
    steps = -(-since // step) if up else since // step
    return steps * 1000 if pa.types.is_timestamp(kind) and kind.unit == "ns" else steps


def _shown(moment: datetime | date) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _enum_values(column: ColumnSchema, kind: "pa.DataType") -> list[object]:
    import pyarrow as pa

    allowed: list[object] = list(column.enum or ())
    if pa.types.is_floating(kind):
        allowed = [float(v) if isinstance(v, int | Decimal) else v for v in allowed]
    elif pa.types.is_decimal(kind):
        allowed = [Decimal(v) if isinstance(v, int) else v for v in allowed]
    try:
        if pa.types.is_integer(kind) and (odd := [v for v in allowed if not isinstance(v, int)]):
            raise pa.ArrowInvalid(str(odd[0]))
        values: list[object] = pa.array(allowed, kind).to_pylist()
        return values
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise SlipwayError(
            f"The schema file is wrong. {column.name}: its enum holds a value that {kind} cannot"
            f" have: {error}."
        ) from error
