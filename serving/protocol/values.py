"""Values of one tensor: from JSON or numpy to what a feature of its kind takes."""

import re
from datetime import datetime
from typing import Any

import numpy as np

from slipway.components.contracts.bundle import MISSING_TIME
from slipway.serving.errors import RequestError
from slipway.serving.protocol.bounds import MAX_TEXT
from slipway.serving.protocol.tensors import short_text

_EPOCH = datetime(1970, 1, 1)
FLOATS = frozenset({"FP16", "FP32", "FP64"})
_INTEGERS = {
    f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits if sign else bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
Values = list[Any] | np.ndarray
"""What a tensor carries: JSON values, which are looked at by their types, or a binary tensor's array."""
NUMBERS: frozenset[type] = frozenset({int, float, type(None)})
_WHOLE: frozenset[type] = frozenset({int, type(None)})
TRUTHS: frozenset[type] = frozenset({bool, type(None)})
TEXTS: frozenset[type] = frozenset({str, type(None)})
_DIGITS = re.compile(r"-?[0-9]{1,20}")
NUMERIC, BOOLEAN, CATEGORICAL, TIME, KEY, KEY_PART, ENTITY = range(7)
"""What an input is to the reader."""
_ACCEPTED = {
    NUMERIC: "FP64, FP32, FP16 or an integer type",
    BOOLEAN: "BOOL (or a number type with 0 and 1)",
    CATEGORICAL: "BYTES",
    TIME: "BYTES (ISO 8601) or INT64 (microseconds since 1970)",
    KEY: "BYTES or an integer type",
    KEY_PART: "BYTES or an integer type",
}


def read_numbers(name: str, datatype: str, data: Values, kind: int) -> Values:
    """Numbers, or booleans, as they came; a null stays one.

    Raises:
        RequestError: 400, a value is not of the datatype, or the feature does not take it.
    """
    values: Values
    if isinstance(data, np.ndarray):
        if data.dtype == object or (data.dtype == bool and kind == NUMERIC):
            raise RequestError(_wrong_type(name, datatype, kind))
        values = data
    elif datatype in FLOATS:
        if not NUMBERS.issuperset(map(type, data)):
            raise RequestError(_wrong_value(name, datatype, data, NUMBERS))
        values = data
    elif datatype in _INTEGERS:
        values = _whole(name, datatype, data)
    elif datatype == "BOOL" and kind == BOOLEAN:
        if not TRUTHS.issuperset(map(type, data)):
            raise RequestError(_wrong_value(name, datatype, data, TRUTHS))
        return data
    else:
        raise RequestError(_wrong_type(name, datatype, kind))
    if kind == BOOLEAN and not all(
        value is None or value == 0 or value == 1 or value != value for value in values
    ):
        raise RequestError(f"Input '{name}' is a boolean: a number must be 0 or 1.")
    return values


def read_texts(name: str, datatype: str, data: Values, kind: int) -> list[str]:
    """Texts; a null is the empty one.

    Raises:
        RequestError: 400, a value is no text, or too long.
    """
    if datatype != "BYTES":
        raise RequestError(_wrong_type(name, datatype, kind))
    if not TEXTS.issuperset(map(type, data)):
        raise RequestError(_wrong_value(name, datatype, data, TEXTS))
    return _short_enough(name, [value or "" for value in data])


def text_size(text: str) -> int:
    """About how many bytes its characters take."""
    return len(text) if text.isascii() else 4 * len(text)


def _short_enough(name: str, texts: list[str]) -> list[str]:
    """The texts, where none is longer than any category, key or time is."""
    longest = max(map(len, texts), default=0)
    if longest > MAX_TEXT:
        raise RequestError(
            f"Input '{name}' has a text of {longest} characters; at most {MAX_TEXT} are taken."
        )
    return texts


def read_keys(name: str, datatype: object, data: Values) -> list[str | None]:
    """Keys as texts: a whole number as its digits.

    Raises:
        RequestError: 400, a value is no text and no whole number.
    """
    if datatype == "BYTES":
        if not TEXTS.issuperset(map(type, data)):
            # V1 names no datatype: keys are BYTES there unless all are whole numbers.
            bad = next(value for value in data if type(value) not in TEXTS)
            raise RequestError(
                f"Input '{name}' has the value {short_text(bad)}: give keys as texts, or all of them as"
                " whole numbers (of an integer type)."
            )
        _short_enough(name, [value or "" for value in data])
        return list(data)
    if datatype not in _INTEGERS:
        raise RequestError(_wrong_type(name, datatype, KEY))
    values = data.tolist() if isinstance(data, np.ndarray) else data
    return [None if v is None else str(v) for v in _whole(name, datatype, values)]


def _whole(name: str, datatype: str, values: Values) -> Values:
    """Values of an integer type, checked."""
    if not _WHOLE.issuperset(map(type, values)):
        raise RequestError(_wrong_value(name, datatype, values, _WHOLE))
    low, high = _INTEGERS[datatype]
    if any(value is not None and not low <= value <= high for value in values):
        raise RequestError(f"Input '{name}' has a value that {datatype} cannot hold.")
    return values


def is_key(text: str, arrow_type: str) -> bool:
    """Whether a text is a whole number as the store writes it, and one that its type can hold."""
    if not _DIGITS.fullmatch(text):
        return False
    low, high = _INTEGERS["UINT64" if arrow_type == "uint64" else "INT64"]
    return str(int(text)) == text and low <= int(text) <= high


def key_datatype(values: Values) -> str:
    """The datatype of keys that came as JSON values."""
    present = {type(value) for value in values if value is not None}
    if present != {int}:
        return "BYTES"
    return "UINT64" if max(v for v in values if v is not None) >= 2**63 else "INT64"


def read_times(name: str, datatype: str, data: Values) -> Values:
    """Microseconds since 1970, from whole numbers or ISO 8601 texts.

    Raises:
        RequestError: 400, a value is no time.
    """
    if datatype == "INT64":
        if isinstance(data, np.ndarray):
            return data
        return [MISSING_TIME if v is None else v for v in _whole(name, datatype, data)]
    return [parse_time(name, value) for value in read_texts(name, datatype, data, TIME)]


def parse_time(name: str, text: str) -> int:
    """Microseconds since 1970 of the wall clock that an ISO 8601 text shows; a zone is left out.

    Raises:
        RequestError: 400, the text is no such time.
    """
    if not text:
        return MISSING_TIME
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(
            f"Input '{name}': '{short_text(text)}' is not an ISO 8601 time such as 2013-12-01T05:00:00."
        ) from error
    span = moment.replace(tzinfo=None) - _EPOCH
    return (span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds


def _wrong_type(name: str, datatype: object, kind: int) -> str:
    return f"Input '{name}' has datatype '{short_text(datatype)}': give {_ACCEPTED[kind]}."


def _wrong_value(name: str, datatype: str, data: Values, allowed: frozenset[type]) -> str:
    bad = next(value for value in data if type(value) not in allowed)
    return f"Input '{name}' has the value {short_text(bad)}, which is not {datatype}."
