"""Pushed events held against their table's schema, by the checks that validate runs on its rows.

A row that fails one of level `fail` never reaches the offline store, whatever fraction of the rows may
fail; so an event that does is refused. What only all rows decide is left to validate: that a key comes
once (a repeated event changes nothing here), the order of the rows, and fractions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import parse_instant
from slipway.components.contracts.table_schema.checks import Check, column_checks
from slipway.components.contracts.table_schema.frames import evaluates
from slipway.components.contracts.table_schema.rules import table_checks
from slipway.components.contracts.table_schema.schema import (
    RunMoments,
    TableSchema,
    read_schema,
    table_schema,
)
from slipway.components.features.store.online import as_arrow
from slipway.components.features.streams.lines import (
    Malformed,
    is_readable,
    polars_type,
    shown,
)
from slipway.components.features.streams.record import StreamRecord

if TYPE_CHECKING:
    import polars as pl

CLOCKS_DIFFER = timedelta(minutes=1)
"""An event may come from a clock that is so much ahead."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Landing:
    """Events that are to be rows of their table's source: what one is without is null there.

    Attributes:
        all_fields: ingest reads all that they bring, and not some columns that the project chooses.
    """

    all_fields: bool


class EventSchema:
    """What the schema says of one stream's events, as of the last run of the features stage.

    Args:
        table: the stream.
        record: what the last run left.
    """

    def __init__(self, table: str, record: StreamRecord) -> None:
        self._table, self._window = table, record.window
        self._types = {n: kind for n, kind in record.tables[table].items() if is_readable(kind)}
        tables = read_schema(record.schema)["tables"] if record.schema else {}
        self._text: dict[str, Any] = tables.get(table, {"properties": {}})
        self._moving = {n: c for n, c in self._text["properties"].items() if _moves(c)}
        self._fixed: list[Check] | None = None
        self._at: datetime | None = None
        self._checks: list[Check] = []

    def columns(self, now: datetime) -> dict[str, str]:
        """The columns that the schema judges, with their Arrow types."""
        names = {name for check in self._checks_at(now) for name in check.columns}
        return {name: kind for name, kind in self._types.items() if name in names}

    def check(
        self,
        rows: "pl.DataFrame",
        events: Sequence[tuple[int, Any]],
        needed: Collection[str],
        *,
        now: datetime,
        name: str,
    ) -> dict[str, int]:
        """Refuses events that fail a check; counts those that fail one that only warns.

        Args:
            rows: the events as columns.
            events: each one's line, and the event.
            needed: the columns that are judged of each event; others only where it brings them.
            now: the moment of the push.
            name: what the events are from, for messages.

        Returns:
            Check to how many events fail it.

        Raises:
            Malformed: naming line, field and check.
        """
        if not rows.height:
            return {}
        refused: dict[int, str] = {}
        warned: dict[str, int] = {}
        count = 0
        for check, failing in self._failing(rows, now):
            maybe = set(check.columns) - set(needed)
            bad = [n for n in failing if all(column in events[n][1] for column in maybe)]
            if check.level == "warn":
                # A bound that moves has another text at each push, and is the same check.
                moves = self._moving.keys() & set(check.columns)
                text = (
                    f"{', '.join(check.columns)}: beyond a bound that moves"
                    if moves
                    else check.text
                )
                warned[text] = warned.get(text, 0) + len(bad)
                continue
            for n in bad:
                line, event = events[n]
                fields = " and ".join(
                    f"field '{c}' is {shown(event.get(c))}" for c in check.columns
                )
                refused.setdefault(n, f"line {line:,}: {fields} ({check.text})")
            count = len(refused)
        if refused:
            first = [refused[n] for n in sorted(refused)[:_SHOWN]]
            more = f"; and {count - len(first):,} more events" if count > len(first) else ""
            raise Malformed(
                f"{name}, {'; '.join(first)}{more}. That is not as the schema of {self._table} says (as"
                " of the last run), and validate would set such a row apart: mend the event, or change"
                " the schema and run."
            )
        return {text: rows for text, rows in warned.items() if rows}

    def require_whole(self, events: Sequence[tuple[int, Any]], name: str, landing: Landing) -> None:
        """Refuses a field that would be a column which the schema does not allow.

        Raises:
            Malformed: naming line and field.
        """
        text = self._text
        if not landing.all_fields or text.get("additionalProperties", True):
            return
        for line, event in events:
            if other := next((field for field in event if field not in text["properties"]), None):
                raise Malformed(
                    f"{name}, line {line:,}: field {shown(other)} is none of the table's: the schema of"
                    f" {self._table} allows no other (additionalProperties), and the next run's validate"
                    " would refuse the whole table. Leave it out, or change the schema and run."
                )

    def _failing(self, rows: "pl.DataFrame", now: datetime) -> list[tuple[Check, list[int]]]:
        """Each check that some rows fail, and their places."""
        checks = self._checks_at(now)
        with evaluates(self._table, {name for check in checks for name in check.columns}):
            found = rows.select(
                check.fails.alias(str(n))  # type: ignore[union-attr]
                for n, check in enumerate(checks)
            )
            return [
                (checks[int(mask.name)], mask.arg_true().to_list()) for mask in found if mask.any()
            ]

    def _checks_at(self, now: datetime) -> list[Check]:
        """The checks of single rows; only those by a moment of the push are made for each."""
        if self._fixed is None:
            others = {n: c for n, c in self._text["properties"].items() if n not in self._moving}
            self._fixed = self._make({**self._text, "properties": others}, now)
        if now != self._at:
            moving = self._make({"properties": self._moving}, now) if self._moving else []
            self._at, self._checks = now, [*self._fixed, *moving]
        return self._checks

    def _make(self, text: dict[str, object], now: datetime) -> list[Check]:
        """The checks of a schema's entry; the words for moments mean those of the next run."""
        import polars as pl
        import pyarrow as pa

        later = now + CLOCKS_DIFFER
        start, end = map(parse_instant, self._window) if self._window else (None, None)
        end = max(end, later) if end is not None else None
        moments = RunMoments(window_start=start, window_end=end, now=later)
        schema = self._readable(table_schema(self._table, text, moments))
        empty = pl.DataFrame(schema={n: polars_type(kind) for n, kind in self._types.items()})
        checks = []
        for column in schema.columns:
            kind = as_arrow(empty.select(column.name)).schema.field(0).type
            kind = pa.string() if pa.types.is_large_string(kind) else kind
            checks += column_checks(column, kind)
        return [*checks, *(check for check in table_checks(schema, empty) if check.kind == "row")]

    def _readable(self, schema: TableSchema) -> TableSchema:
        """Without what is said of columns whose values no event can bring."""
        import polars as pl

        def known(names: Collection[str]) -> bool:
            return all(name in self._types for name in names)

        return replace(
            schema,
            columns=tuple(c for c in schema.columns if known([c.name])),
            rules=tuple(r for r in schema.rules if known(pl.sql_expr(r.sql).meta.root_names())),
            own_checks=tuple(own for own in schema.own_checks if known(own.columns)),
        )


def _moves(column: dict[str, object]) -> bool:
    """Whether a column is held against a moment that is another one at each push."""
    bounds = (str(column.get(word, "")) for word in ("formatMinimum", "formatMaximum"))
    return any(bound.startswith(("now", "window_")) for bound in bounds)
