"""Which of a source's columns are read, and under which names."""

from collections.abc import Collection

from slipway.components.config.data import Table
from slipway.components.support.errors import SlipwayError


class Columns:
    """The columns of one table: `rename:` first; everything else knows the new names only.

    Args:
        table: the table, for messages.
        settings: its section of the project file.
    """

    def __init__(self, table: str, settings: Table):
        self._table = table
        self._rename = settings.rename
        self._source = {new: old for old, new in settings.rename.items()}
        self.wanted = settings.columns

    def source(self, name: str) -> str:
        """What the source calls one of our columns."""
        return self._source.get(name, name)

    def name(self, source: str) -> str:
        """What we call one of the source's columns."""
        return self._rename.get(source, source)

    def chosen(self, file: str, there: list[str], *, sparse: bool = False) -> list[str]:
        """The columns to read from a file, by their new names, in order.

        Args:
            file: the file, for messages.
            there: the columns that it has, as it calls them.
            sparse: a column that the file lacks is null there (json lines).

        Raises:
            SlipwayError: the file lacks one; two have one name; or one has none.
        """
        if twice := sorted({name for name in there if there.count(name) > 1}):
            raise SlipwayError(f"{file} has the column {', '.join(twice)} more than once.")
        named = [self.name(source) for source in there]
        missing = [old for old in self._rename if old not in there]
        if missing and not sparse:
            raise SlipwayError(
                f"Table {self._table}: `rename:` names {', '.join(missing)}, and {file} has no such"
                f" column. It has: {', '.join(there)}."
            )
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise SlipwayError(
                f"Table {self._table}: `rename:` gives {', '.join(twice)} to a column of {file}, which"
                " has another column of that name. Choose another name, or rename both."
            )
        absent = [] if sparse else [name for name in self.wanted or () if name not in named]
        if absent:
            old = next((self._rename[name] for name in absent if name in self._rename), None)
            hint = f" It is called {old} since `rename:`." if old else ""
            raise SlipwayError(
                f"Table {self._table}: {file} has no column {', '.join(absent)}.{hint} It has:"
                f" {', '.join(named)}."
            )
        chosen = [name for name in self.wanted if name in named] if self.wanted else named
        if "" in chosen:
            raise SlipwayError(
                f"Table {self._table}: {file} has a column without a name (column"
                f" {named.index('') + 1} of {len(named)}). Give it one with"
                ' `rename: {"": row}`, or name the columns to read under `columns:`.'
            )
        return chosen

    def require_renamed(self, found: Collection[str]) -> None:
        """Refuses a `rename:` of a column that no file has.

        Args:
            found: the columns of all files, by their new names.

        Raises:
            SlipwayError: naming it.
        """
        missing = [old for old, new in self._rename.items() if new not in found]
        if missing and self.wanted is None:
            raise SlipwayError(
                f"Table {self._table}: `rename:` names {', '.join(missing)}, which no file has. There"
                f" are: {', '.join(found)}."
            )
