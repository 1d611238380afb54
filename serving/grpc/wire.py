"""A look at a request's bytes before protobuf makes messages of them.

Two bytes can be a message of seventy: 14 MB of empty inputs would become half a gigabyte. The fields of
the request, and of each of its inputs, are counted here without making anything of them.
"""

from collections.abc import Iterator

import numpy as np

from slipway.serving.errors import RequestError
from slipway.serving.protocol.bounds import MAX_VALUES, Bounds

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_INPUTS, _SHAPE, _CONTENTS = 5, 3, 5  # numbers of fields: of a request, of an input, of an input
_TEXTS = 8  # of an input's contents
_WIDTHS = {6: 4, 7: 8}  # of an input's contents: bytes of a number; the others are varints
_MOST_FIELDS = 64  # of an input, and of a request beside its inputs
_MOST_BYTES = 4096  # of a field of an input that is not its contents
_DAMAGED = "The request is no protobuf."


def check_request(raw: bytes, bounds: Bounds) -> None:
    """Refuses a ModelInferRequest that has more in it than the model's inputs explain.

    Raises:
        RequestError: 400, that, or it is no protobuf; 413, it has more rows than a request may have.
    """
    values = 0
    most = _MOST_FIELDS + 4 * bounds.inputs
    for number, (field, start, end) in enumerate(_fields(raw, 0, len(raw))):
        if number >= most:
            raise RequestError(
                f"The request has more than the {most} fields that its model explains."
            )
        if field == _INPUTS:
            values += _check_input(raw, start, end, bounds)
            if values > MAX_VALUES:
                raise RequestError(f"More than {MAX_VALUES:,} values in one request.", 413)


def _check_input(raw: bytes, start: int, end: int, bounds: Bounds) -> int:
    """How many values an input has."""
    values = 0
    for number, (field, first, last) in enumerate(_fields(raw, start, end)):
        if number >= _MOST_FIELDS:
            raise RequestError(f"An input of the request has more than {_MOST_FIELDS} fields.")
        if field == _CONTENTS:
            values += _count_values(raw, first, last, bounds)
        elif last - first > _MOST_BYTES:
            raise RequestError(
                f"A field of an input has {last - first} bytes; at most {_MOST_BYTES} are taken."
            )
    return values


def _count_values(raw: bytes, start: int, end: int, bounds: Bounds) -> int:
    values = 0
    for field, first, last in _fields(raw, start, end):
        if field == _TEXTS or last - first <= _WIDTHS.get(field, 1):
            values += 1
        elif field in _WIDTHS:
            values += (last - first) // _WIDTHS[field]
        else:
            # Each varint has one byte without the mark that another follows.
            packed = np.frombuffer(raw, np.uint8, last - first, first)
            values += int(np.count_nonzero(packed < 0x80))
        if values > bounds.rows:
            raise RequestError(f"More than {bounds.rows} rows in one request.", 413)
    return values


def _fields(raw: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first and last place of each field's value."""
    while place < end:
        tag, place = _varint(raw, place, end)
        kind = tag & 7
        if kind == _BYTES:
            size, place = _varint(raw, place, end)
        elif kind == _VARINT:
            start = place
            _, place = _varint(raw, place, end)
            size, place = place - start, start
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise RequestError(_DAMAGED)
        if place + size > end:
            raise RequestError(_DAMAGED)
        yield tag >> 3, place, place + size
        place += size


def _varint(raw: bytes, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise RequestError(_DAMAGED)
