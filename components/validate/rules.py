"""The checks over several columns or rows of a table: rules in SQL, keys, time order."""

from contextlib import suppress
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError
from slipway.components.validate.checks import Check
from slipway.components.validate.schema import Rule, TableSchema

if TYPE_CHECKING:
    import polars as pl


def table_checks(schema: TableSchema, frame: "pl.DataFrame") -> list[Check]:
    """The checks over several columns or rows: rules, keys, time order.

    Args:
        schema: the table's schema.
        frame: a frame without rows that has the table's columns and types.

    Raises:
        SlipwayError: a rule is not a condition on the table's columns.
    """
    default = schema.tolerance or 0.0
    checks: list[Check] = []
    for rule in schema.rules:
        condition = _condition(schema.name, rule, frame)
        checks.append(
            Check(
                text=f"rule {rule.name}",
                columns=tuple(condition.meta.root_names()),
                level=rule.level,
                tolerance=rule.tolerance,
                fails=condition.not_().fill_null(False),
            )
        )
    checks += [
        Check(
            text=f"duplicate {', '.join(key)}",
            columns=key,
            level="fail",
            tolerance=default,
            fails=None,
            kind="unique",
        )
        for key in schema.unique
    ]
    if schema.time_order is not None:
        checks.append(
            Check(
                text=f"{schema.time_order}: goes back in time",
                columns=(schema.time_order,),
                level="fail",
                tolerance=default,
                fails=None,
                kind="order",
            )
        )
    return checks


def _condition(table: str, rule: Rule, frame: "pl.DataFrame") -> "pl.Expr":
    import polars as pl

    where = f"The schema file is wrong. tables.{table}.x-rules.{rule.name}: '{rule.sql}'"
    try:
        expression = pl.sql_expr(rule.sql)
        result = frame.select(expression.alias("result"))
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:300]
        raise SlipwayError(f"{where} cannot be evaluated: {reason}.") from error
    if result.schema["result"] != pl.Boolean:
        raise SlipwayError(f"{where} is no condition: it gives {result.schema['result']}.")
    if _looks_at_other_rows(expression):
        raise SlipwayError(
            f"{where} looks at more than one row (an aggregate, OVER, LAG). Rules are evaluated some rows"
            " at a time, so its answer would depend on how the table is cut. Compare columns of one row."
        )
    return expression


def _looks_at_other_rows(expression: "pl.Expr") -> bool:
    import polars as pl

    parts = [expression]
    while parts:
        part = parts.pop()
        # Of some functions polars cannot say it without the columns' types; their arguments can be asked.
        with suppress(pl.exceptions.PolarsError):
            if not part.meta.is_row_separable() and not part.meta.is_literal():
                return True
        parts += part.meta.pop()
    return False
