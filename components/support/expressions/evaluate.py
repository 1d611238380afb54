"""An expression's values for N rows: the one implementation that training, scoring and serving call."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from slipway.components.support.expressions.functions import (
    FUNCTIONS,
    LARGEST,
    Column,
    Type,
    as_type,
)
from slipway.components.support.expressions.parse import (
    Constant,
    ExpressionError,
    Name,
    Node,
    in_order,
    parse,
    type_of,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


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
    with np.errstate(all="ignore"):
        for name in in_order(expressions):
            tree = parse(expressions[name])
            try:
                kind = type_of(tree, {column: found.type for column, found in known.items()})
            except ExpressionError as error:
                raise ExpressionError(f"{name}: {error}") from error
            made = as_type(_value(tree, known, rows), kind or "missing")
            known[name] = number_column(made.values, made.type) if _is_number(made.type) else made
    return {name: known[name] for name in expressions}


def _is_number(kind: Type) -> bool:
    return kind in ("number", "boolean")


def _value(node: Node, columns: Mapping[str, Column], rows: int) -> Column:
    import numpy as np

    if isinstance(node, Name):
        return columns[node.name]
    if isinstance(node, Constant):
        if node.type == "text":
            return text_column([str(node.value)] * rows)
        value = np.nan if node.value is None else float(node.value)
        return Column(node.type, np.full(rows, value))
    given = [_value(argument, columns, rows) for argument in node.arguments]
    kind = type_of(node, {name: column.type for name, column in columns.items()})
    return Column(kind or "missing", FUNCTIONS[node.function].work(given))
