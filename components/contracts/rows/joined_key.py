"""The key of a row that several columns name: their values as texts, with a bar between them.

A bar or a backslash in a value has a backslash before it. `row_key` does the same to whole tables.
"""

from collections.abc import Sequence


def join_values(values: Sequence[str | None]) -> str | None:
    """The key of one row from the texts of its columns, in the order of the project's `key`."""
    parts = []
    for value in values:
        if value is None:
            return None
        parts.append(value.replace("\\", "\\\\").replace("|", "\\|"))
    return "|".join(parts)
