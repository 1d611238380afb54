"""The checks over several columns or rows: rules in SQL, checks of packages, keys, time order."""

from contextlib import suppress
from typing import TYPE_CHECKING

from slipway.components.contracts.table_schema.checks import Check
from slipway.components.contracts.table_schema.schema import OwnCheck, Rule, TableSchema
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries import plugins

if TYPE_CHECKING:
    import polars as pl


def table_checks(schema: TableSchema, frame: "pl.DataFrame") -> list[Check]:
    """The checks over several columns or rows: rules, checks of packages, keys, time order.

    Args:
        schema: the table's schema.
        frame: a frame without rows that has the table's columns and types.

    Raises:
        SlipwayError: a rule, or what a package's check gives, is not a condition on the table's columns.
    """
    default = schema.tolerance or 0.0
    checks: list[Check] = []
    conditions: list[tuple[Rule | OwnCheck, str, pl.Expr]] = [
        *((rule, f"rule {rule.name}", _rule(schema.name, rule, frame)) for rule in schema.rules),
        *((own, f"check {own.name}", _own(schema.name, own, frame)) for own in schema.own_checks),
    ]
    for source, text, condition in conditions:
        checks.append(
            Check(
                text=text,
                columns=tuple(condition.meta.root_names()),
                level=source.level,
                tolerance=source.tolerance,
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


def _rule(table: str, rule: Rule, frame: "pl.DataFrame") -> "pl.Expr":
    import polars as pl

    where = f"The schema file is wrong. tables.{table}.x-rules.{rule.name}: '{rule.sql}'"
    try:
        expression = pl.sql_expr(rule.sql)
    except pl.exceptions.PolarsError as error:
        raise SlipwayError(f"{where} cannot be evaluated: {_reason(error)}.") from error
    return _condition(where, expression, frame)


def _own(table: str, own: OwnCheck, frame: "pl.DataFrame") -> "pl.Expr":
    import polars as pl

    if missing := [name for name in own.columns if name not in frame.columns]:
        raise SlipwayError(
            f"The schema file is wrong. tables.{table}.x-checks.{own.name}: the table has no column"
            f" {', '.join(missing)}."
        )
    check = plugins.load(plugins.CHECKS, own.function)
    where = f"tables.{table}.x-checks.{own.name}: '{own.function}' of {check.origin}"
    try:
        expression = check.function(*(pl.col(name) for name in own.columns))
    except Exception as error:
        raise SlipwayError(
            f"{where} failed: {type(error).__name__}: {error}. It is called with a polars expression"
            f" a column ({', '.join(own.columns)})."
        ) from error
    if not isinstance(expression, pl.Expr):
        raise SlipwayError(
            f"{where} gives {type(expression).__name__}, and not a polars expression."
        )
    return _condition(where, expression, frame)


def _condition(where: str, expression: "pl.Expr", frame: "pl.DataFrame") -> "pl.Expr":
    import polars as pl

    try:
        result = frame.select(expression.alias("result"))
    except pl.exceptions.PolarsError as error:
        raise SlipwayError(f"{where} cannot be evaluated: {_reason(error)}.") from error
    if result.schema["result"] != pl.Boolean:
        raise SlipwayError(f"{where} is no condition: it gives {result.schema['result']}.")
    if _looks_at_other_rows(expression):
        raise SlipwayError(
            f"{where} looks at more than one row (an aggregate, OVER, LAG). Rules are evaluated some rows"
            " at a time, so its answer would depend on how the table is cut. Compare columns of one row."
        )
    return expression


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


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
