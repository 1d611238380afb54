"""Names of columns that are ours: no key and no feature of a project may have one of them."""

TIME = "event_timestamp"
LABEL = "label"
ROW_ID = "row_id"
"""The key of a row that no one column names: a text made of several columns, or of the row."""
RESERVED = (TIME, LABEL, "part", "predicted", "probability")
"""What stages put beside an example's keys and features: in the splits, and in the reference."""


def is_reserved(name: str) -> bool:
    """Whether a column of ours has this name, or may have it."""
    return name in RESERVED or name.startswith("__")
