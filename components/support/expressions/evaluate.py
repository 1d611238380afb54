"""An expression's values for N rows: the one implementation that training, scoring and serving call."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from slipway.components.support.expressions.functions import (
    FUNCTIONS,
    LARGEST,
    Column,
    Type,
    as_type,
    resolve,
)
from slipway.components.support.expressions.grams import count_grams
from slipway.components.support.expressions.parse import (
    Call,
    Constant,
    ExpressionError,
    Name,
    Node,
    in_order,
    parse,
    reads,
    type_of,
)

if TYPE_CHECKING:
    from slipway.components.support.expressions.functions import Array


def number_column(values: "Array", kind: Type = "number") -> Column:
    """Numbers, or true and false as 1 and 0, without what no model can take."""
    import numpy as np

    numbers = np.asarray(values, np.float64)
    return Column(kind, np.where(np.abs(numbers) <= LARGEST, numbers, np.nan))


def text_column(values: Iterable[str | None]) -> Column:
    """Texts; an empty one is missing, as it is to a model."""
    import numpy as np

    texts = [value or None for value in values]
    made = np.empty(len(texts), object)
    made[:] = texts
    return Column("text", made)


def evaluate(
    expressions: Mapping[str, str], columns: Mapping[str, Column], rows: int
) -> dict[str, Column]:
    """The columns that expressions make.

    Args:
        expressions: name to expression; one may read another, in any order.
        columns: what else they read, each of `rows` values.
        rows: N.

    Raises:
        ExpressionError: one reads what is not there, or a function does not take what it is given.
    """
    import numpy as np

    known = dict(columns)
    types: dict[str, Type | None] = {name: column.type for name, column in known.items()}
    counted: _Counted = {}
    with np.errstate(all="ignore"):
        for name in in_order(expressions):
            text = expressions[name]
            given = tuple((read, types[read]) for read in reads(text) if read in types)
            try:
                kind = _kind(text, given)
            except ExpressionError as error:
                raise ExpressionError(f"{name}: {error}") from error
            made = as_type(_value(parse(text), known, rows, counted), kind or "missing")
            types[name] = made.type
            known[name] = number_column(made.values, made.type) if _is_number(made.type) else made
    return {name: known[name] for name in expressions}


@lru_cache(4096)
def _kind(text: str, given: tuple[tuple[str, Type | None], ...]) -> Type | None:
    """An expression's type, of the names that it reads with theirs."""
    return type_of(parse(text), dict(given))


_Counted = dict[tuple[Node, ...], "Array"]


def _is_number(kind: Type) -> bool:
    return kind in ("number", "boolean")


def _value(node: Node, columns: Mapping[str, Column], rows: int, counted: _Counted) -> Column:
    import numpy as np

    if isinstance(node, Name):
        return columns[node.name]
    if isinstance(node, Constant):
        if node.type == "text":
            return text_column([str(node.value)] * rows)
        value = np.nan if node.value is None else float(node.value)
        return Column(node.type, np.full(rows, value))
    if node.function == "grams":
        return Column("number", _bucket_of(node, columns, rows, counted))
    given = [_value(argument, columns, rows, counted) for argument in node.arguments]
    kind = resolve(node.function, tuple(column.type for column in given))
    return Column(kind or "missing", FUNCTIONS[node.function].work(given))


def _bucket_of(node: Call, columns: Mapping[str, Column], rows: int, counted: _Counted) -> "Array":
    """One bucket of a text's n-grams, of which all are counted at once."""
    import numpy as np

    text, *settings = node.arguments
    of, least, most, buckets, bucket = (s.value for s in settings if isinstance(s, Constant))
    key = node.arguments[:-1]
    if key not in counted:
        texts = as_type(_value(text, columns, rows, counted), "text").values
        counted[key] = count_grams(texts, of, int(least), int(most), int(buckets))  # type: ignore[arg-type]
    return counted[key][:, int(bucket or 0)].astype(np.float64)
