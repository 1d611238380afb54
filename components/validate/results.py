"""What came out of each check, and of all of them."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from slipway.components.contracts.table_schema.schema import Level
from slipway.components.support.pages.digits import counted
from slipway.components.validate.rows import CheckTally

_FEW, _LEAST = 0.05, 0.001
"""Shares of rows: up to which they may be set apart at all, and the least that is worth naming."""
Status = Literal["pass", "tolerated", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What came out of one check.

    Attributes:
        table: the table.
        check: what was checked; a quarantined row's reason has the same words.
        level: what a failure means.
        status: `tolerated` means that rows failed, no more of them than the schema allows.
        failed: rows that failed; for a check of a whole table or column, 0.
        fraction: of the table's rows.
        allowed: the tolerated fraction.
        detail: in words, where the count does not say all.
        examples: the first failing rows, by their number in the table, with the values looked at.
        ways: how the schema can be changed, where it is what is wrong; empty: not for one check.
    """

    table: str
    check: str
    level: Level
    status: Status
    failed: int = 0
    fraction: float = 0.0
    allowed: float = 0.0
    detail: str = ""
    examples: list[dict[str, Any]] = field(default_factory=list)
    ways: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The result in words, for messages."""
        if self.detail:
            return f"{self.table}: {self.check}: {self.detail}"
        first = self.examples[0] if self.examples else None
        shown = ""
        if first:
            values = ", ".join(f"{name} {value}" for name, value in first["values"].items())
            shown = f", first row {first['row']:,} ({values})"
        return (
            f"{self.table}: {self.check}: {counted(self.failed, 'row')} ({self.fraction:.3%}, allowed"
            f" {self.allowed:.3%}){shown}"
        )


def problem(table: str, check: str, detail: str, level: Level = "fail") -> CheckResult:
    """A failure of a whole table or column."""
    return CheckResult(table=table, check=check, level=level, status=level, detail=detail)


def passed(table: str, check: str) -> CheckResult:
    """A check of a whole table or column that nothing failed."""
    return CheckResult(table=table, check=check, level="fail", status="pass")


def judge(table: str, tally: CheckTally, rows: int) -> CheckResult:
    """What the rows that failed one check amount to, of all rows of the table."""
    fraction = tally.failed / rows if rows else 0.0
    status: Status
    if tally.failed == 0:
        status = "pass"
    elif fraction <= tally.check.tolerance:
        status = "tolerated"
    else:
        status = tally.check.level
    return CheckResult(
        table=table,
        check=tally.check.text,
        level=tally.check.level,
        status=status,
        failed=tally.failed,
        fraction=fraction,
        allowed=tally.check.tolerance,
        examples=tally.examples,
        ways=_ways(table, tally, fraction) if status == "fail" else (),
    )


def _ways(table: str, tally: CheckTally, fraction: float) -> tuple[str, ...]:
    """What to change in the schema where it, or that it lets no row go, is what is wrong."""
    check = tally.check
    column = check.columns[0] if check.text.startswith(f"{check.columns[0]}: ") else ""
    place = f"tables.{table}.properties.{column}" if column else f"tables.{table}"
    ways = []
    if column and check.text == f"{column}: enum":
        value = tally.examples[0]["values"].get(column) if tally.examples else ""
        ways.append(f"add {value!r} to the enum of {place} if it is a value from now on")
    if check.kind == "row" and fraction <= _FEW:
        allowed = max(_LEAST, _rounded_up(fraction))
        ways.append(
            f'`"x-maxFailedFraction": {allowed:g}` in {place} sets so few rows apart and goes on'
            " without them"
        )
    return tuple(ways)


def _rounded_up(share: float) -> float:
    """A share with one digit that is not 0, never less."""
    unit: float = 10.0 ** math.floor(math.log10(share))
    return math.ceil(share / unit - 1e-9) * unit


def overall(checks: tuple[CheckResult, ...]) -> Status:
    """The worst status."""
    order: tuple[Status, ...] = ("fail", "warn", "tolerated", "pass")
    return next(s for s in order if s == "pass" or any(c.status == s for c in checks))
