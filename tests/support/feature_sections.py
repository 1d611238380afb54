"""The `features` section of a table whose examples are their own events."""

from typing import Any


def of_one_table(
    table: str, entity: str, key: str, time: str, view: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """The section.

    Args:
        table: of the examples, and of the one view.
        entity: that the view is of.
        key: of an example, and so of the entity.
        time: of both.
        view: what the view has beside, as its name and its fields.
        more: the label and the split, and what else a section has.
    """
    return {
        "entities": {entity: key},
        "examples": {"table": table, "key": key, "time": time},
        "views": [{"entity": entity, "table": table, "time": time, **view}],
        **more,
    }
