"""What to say where an option names a column that no table has."""

import difflib

from slipway.components.support.errors import ProjectError
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts

_SHOWN = 30


def find_column(option: str, name: str, table: TableFacts) -> ColumnFacts:
    """The column that an option names, by the source's name or ours.

    Raises:
        ProjectError: the table has none of that name; it says which there are, and the nearest.
    """
    column = table.find(name)
    if column is None:
        raise no_such_column(option, name, [table])
    return column


def require_columns(option: str, names: tuple[str, ...], tables: list[TableFacts]) -> None:
    """Refuses names that are no column of any table.

    Raises:
        ProjectError: the first such name, with the columns there are.
    """
    for name in names:
        if not any(table.find(name) for table in tables):
            raise no_such_column(option, name, tables)


def no_such_column(option: str, name: str, tables: list[TableFacts]) -> ProjectError:
    """The refusal of a name that is no column."""
    sources = list(dict.fromkeys(c.source for table in tables for c in table.columns.values()))
    if len(tables) == 1:
        more = f", … ({len(sources) - _SHOWN} more)" if len(sources) > _SHOWN else ""
        there = f"{tables[0].name} has no such column. It has: {', '.join(sources[:_SHOWN])}{more}"
    else:
        there = f"none of {', '.join(table.name for table in tables)} has such a column"
    return ProjectError(f"--{option} {name}: {there}.{nearest(name, sources)}")


def nearest(name: str, names: list[str]) -> str:
    """A question with the name that is most like it; empty: none is."""
    folded = {other.casefold(): other for other in reversed(names)}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f" Did you mean {folded[near[0]]}?" if near else ""
