"""What names a row, and how the other tables hang on the examples' table."""

import itertools
from dataclasses import dataclass

from slipway.components.support.errors import ProjectError
from slipway.local.guess.guess import Answers, Guess, Notes
from slipway.local.guess.moments import NONE
from slipway.local.guess.tables.amounts import is_amount, may_name_rows
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts
from slipway.local.guess.tables.named import find_column

_ID = {
    "id", "key", "no", "nr", "number", "code", "uuid", "guid", "pk", "ref", "index", "row",
    "nummer", "kennung", "numero",
}  # fmt: skip
_NO_ID = {
    "acid", "android", "arid", "asteroid", "avoid", "braid", "covid", "fluid", "grid", "humid", "hybrid",
    "invalid", "lipid", "liquid", "maid", "orchid", "overpaid", "paid", "prepaid", "raid", "rapid",
    "repaid", "rigid", "said", "solid", "squid", "steroid", "thyroid", "timid", "underpaid", "unpaid",
    "valid", "vivid", "void",
}  # fmt: skip
"""Words that end as ids do and are none."""
_NO_ENTITY = {"code", "no", "nr", "number", "nummer", "numero", "row", "index"}
"""What numbers rows or names a category, and so nobody that comes back."""
_SHARED = 0.5
"""Least share of the examples' keys that the other table must have, or the other way round."""
_REPEATS = 1.5
"""Least rows a value, for a column to name something that comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """How a table is looked up for an example.

    Attributes:
        table: the other table. own: the examples' column with the key. other: the table's.
        single: whether a key has one row there.
        time: the table's column with the time of a row; None: it has none.
    """

    table: TableFacts
    own: str
    other: str
    single: bool
    time: str | None
    reason: str


def stem_of(table: TableFacts) -> str:
    """What one row is: an order, for a table orders."""
    name = table.name
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name.removesuffix("s") if not name.endswith("ss") else name


def is_id(column: ColumnFacts) -> bool:
    """Whether a column's name says that it names something."""
    last = column.words[-1]
    joined = last.endswith(("id", "nr")) and len(last) > 3 and last not in _NO_ID
    return column.may_be_key and (last in _ID or joined)


def guess_key(
    table: TableFacts, label: ColumnFacts, answers: Answers, notes: Notes
) -> Guess[tuple[str, ...]]:
    """The column, or columns, that name an example; none: nothing does.

    Raises:
        ProjectError: the answer names no column, or not each row.
    """
    change = "Change: --key COLUMN (once for each column), or --key none"
    columns = [c for c in table.columns.values() if c.name != label.name and c.may_be_key]
    if answers.key == (NONE,):
        return Guess(value=(), reason="As --key none says")
    if answers.key:
        return _answered(table, answers)
    _warn_of_repeated_rows(table, notes)
    found = [
        c
        for c in columns
        if c.is_unique
        and (is_id(c) or c.is_text or _counts_up(c))
        and may_name_rows(c, is_id=is_id(c))
    ]
    if found:
        best = min(found, key=lambda c: (_rank(c, table), list(table.columns).index(c.name)))
        looked = " looked at" if table.is_sample else ""
        reason = f"{best.source} names each of the {table.frame.height:,} rows{looked} once"
        return Guess(value=(best.name,), reason=reason, change=change)
    ids = [c for c in columns if is_id(c) and not c.nulls and not is_amount(c)]
    near = [c for c in ids if not c.is_unique and c.distinct > 0.9 * c.rows]
    for column in near:
        notes.warn(
            f"{column.source} looks like the key of {table.name}, but"
            f" {column.rows - column.distinct:,} of {column.rows:,} rows repeat another's: check the"
            " source for doubled rows"
        )
    for pair in itertools.combinations(ids, 2):
        names = tuple(c.name for c in pair)
        # A customer beside an order that is there twice names no row: only a line's number does.
        doubled = any(
            _is_entity_beside(one, other) for one, other in (pair, pair[::-1]) if one in near
        )
        if not doubled and table.frame.select(names).is_unique().all():
            reason = f"{' and '.join(c.source for c in pair)} together name each row once"
            return Guess(value=names, reason=reason, change=change)
    reason = "no column, and no pair of ids, names each row once, so a row is named by its content"
    return Guess(value=(), reason=reason, change=change)


def _is_entity_beside(key: ColumnFacts, other: ColumnFacts) -> bool:
    """Whether the other column of a nearly unique one has more values than number the rows of one key."""
    most = int(key.values.value_counts()["count"].max())  # type: ignore[arg-type]
    return other.distinct > most


def _answered(table: TableFacts, answers: Answers) -> Guess[tuple[str, ...]]:
    found = [find_column("key", name, table) for name in answers.key]
    if unfit := [column for column in found if not column.may_be_key]:
        raise ProjectError(
            f"--key {unfit[0].source}: the column is of type {unfit[0].dtype}, and a key is text or a"
            " whole number. Give another, several, or --key none."
        )
    if gaps := [column for column in found if column.nulls]:
        raise ProjectError(
            f"--key {gaps[0].source}: {gaps[0].nulls:,} of {gaps[0].rows:,} rows of {table.name} have"
            " none, and a key names each row. Give another, several, or --key none."
        )
    names = tuple(column.name for column in found)
    twice = table.frame.height - table.frame.select(names).n_unique()
    if twice:
        raise ProjectError(
            f"--key {' --key '.join(answers.key)}: {twice:,} rows of {table.name} share it with another"
            " row, and a key names each row once. Give another, several, or --key none."
        )
    return Guess(value=names, reason="As --key says")


def _warn_of_repeated_rows(table: TableFacts, notes: Notes) -> None:
    flat = [n for n in table.frame.columns if not table.frame.schema[n].is_nested()]
    twice = table.frame.height - table.frame.select(flat).n_unique()
    if twice and len(flat) > 2:
        notes.warn(
            f"{twice:,} of {table.frame.height:,} rows of {table.name} are exact copies of another: a"
            " copy in training and in test flatters the model. Remove them at the source"
        )


def _rank(column: ColumnFacts, table: TableFacts) -> int:
    """How good a key a column is by its name, 0 the best."""
    words, stem = set(column.words), stem_of(table)
    if is_id(column):
        return 0 if stem in words or column.source.lower() in ("id", f"{stem}id") else 1
    return 2


def _counts_up(column: ColumnFacts) -> bool:
    """Whether whole numbers are those from the first to the last: a row's number."""
    low, high = column.values.min(), column.values.max()
    return isinstance(low, int) and isinstance(high, int) and high - low + 1 == column.rows


def returning(table: TableFacts, key: tuple[str, ...], label: ColumnFacts) -> list[ColumnFacts]:
    """Columns that name something that comes back in other rows: customers, products."""
    return [
        column
        for column in table.columns.values()
        if column.name not in key
        and column.name != label.name
        and is_id(column)
        and column.words[-1] not in _NO_ENTITY
        and column.distinct > 1
        and column.rows - column.nulls >= _REPEATS * column.distinct
    ]


def guess_joins(
    table: TableFacts, others: list[TableFacts], label: ColumnFacts, notes: Notes
) -> list[Join]:
    """How each of the other tables is looked up; one that cannot be is named in a warning."""
    joins = []
    for other in others:
        join = _best_join(table, other, label)
        if join is None:
            notes.warn(
                f"the table {other.name} shares no key with {table.name}, so it gives no features:"
                f" {_why_no_key(table, other, label)}"
            )
        elif not join.single and join.time is None:
            notes.warn(
                f"the table {other.name} has several rows for a {join.own}, and no column that says when"
                " they happened: nothing of it can be used without seeing the future"
            )
        else:
            joins.append(join)
    return joins


def _why_no_key(table: TableFacts, other: TableFacts, label: ColumnFacts) -> str:
    """Why no column of two tables is a key of both, and what to do about it."""
    why = []
    for name in table.columns.keys() & other.columns.keys():
        own, foreign = table.columns[name], other.columns[name]
        said = f"{own.source} stands in both"
        if name == label.name:
            why.append(f"{said}, but it is what is predicted")
        elif not (own.may_be_key and foreign.may_be_key):
            kinds = " and ".join(dict.fromkeys((str(own.dtype), str(foreign.dtype))))
            why.append(f"{said}, but is of type {kinds}, and a key is text or a whole number")
        elif is_id(own) or foreign.is_unique:
            why.append(f"{said}, but less than half of the values of one are in the other")
        else:
            why.append(f"{said}, but has several rows in {other.name} and no name such as"
                       f" {own.name}_id")  # fmt: skip
    if not why:
        return "no column stands in both. Name the key alike in both tables"
    return (
        f"{'; '.join(sorted(why))}. If another column names the same, name it alike in both tables"
    )


def _best_join(table: TableFacts, other: TableFacts, label: ColumnFacts) -> Join | None:
    found: list[tuple[bool, float, Join]] = []
    for own, foreign in _pairs(table, other, label):
        keys = foreign.values.drop_nulls().unique()
        there = own.values.drop_nulls()
        if own.is_text != foreign.is_text:
            keys, there = keys.cast(str), there.cast(str)
        share = float(there.is_in(keys.implode()).sum()) / max(len(there), 1)
        back = float(keys.is_in(there.unique().implode()).sum()) / max(len(keys), 1)
        if max(share, back) < _SHARED:
            continue
        times = [c for c in other.columns.values() if c.is_time and c.nulls < c.rows / 2]
        time = _time_of(other, times)
        each = "one row" if foreign.is_unique else "several rows"
        reason = (
            f"{other.name} has {each} for a {foreign.source}, and {share:.0%} of the rows of"
            f" {table.name} have one there"
        )
        found.append(
            (
                foreign.is_unique,
                share,
                Join(
                    table=other, own=own.name, other=foreign.name, single=foreign.is_unique,
                    time=time, reason=reason,
                ),
            )
        )  # fmt: skip
    return max(found, key=lambda one: one[:2])[2] if found else None


def _pairs(
    table: TableFacts, other: TableFacts, label: ColumnFacts
) -> list[tuple[ColumnFacts, ColumnFacts]]:
    """Columns of two tables that may name the same: alike by name, or `id` and `customer_id`."""
    pairs = []
    for own in table.columns.values():
        if not own.may_be_key or own.name == label.name:
            continue
        for foreign in other.columns.values():
            alike = own.name == foreign.name and (is_id(own) or foreign.is_unique)
            stem = f"{stem_of(other)}_id"
            named = own.name == stem and foreign.source.lower() == "id"
            if foreign.may_be_key and (alike or named):
                pairs.append((own, foreign))
    return pairs


def _time_of(table: TableFacts, times: list[ColumnFacts]) -> str | None:
    """A table's own time: the only one, or the one named so."""
    if len(times) == 1:
        return times[0].name
    named = [c for c in times if set(c.words) & {stem_of(table), "time", "timestamp", "event"}]
    return named[0].name if len(named) == 1 else None
