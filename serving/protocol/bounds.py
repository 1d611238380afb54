"""What a request may hold, from the model's signature, and JSON that is read within it.

A parser makes objects of whatever it is sent: 14 MB of `[],[],…` become 300 MB, and hold the interpreter
for a second. Here a body is first looked at as bytes, a block at a time and without the interpreter's
lock. What is not tensor data must be short; each tensor's data, or each row of V1, is then parsed by
itself, and only where its commas and brackets are no more than the signature explains.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slipway.serving.errors import RequestError

# A body up to this size is parsed at once, on the event loop.
INLINE_BYTES = 64 * 1024
# Values of one request: rows by inputs.
MAX_VALUES = 2**20
# Characters of one text: a category, a key, a time.
MAX_TEXT = 4096
_MAX_DEPTH = 16
_COMMA, _QUOTE, _BACKSLASH, _OPEN, _CLOSE, _UPPER = 0x2C, 0x22, 0x5C, 0x7B, 0x7D, 0x20
_LIST = 0x5B
# Stands in place of what is parsed by itself; nobody outside can guess it.
_MARK = secrets.token_hex(12)

Body = bytes | bytearray | memoryview
Loads = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may hold.

    Attributes:
        inputs: tensors, or members of a V1 row: the features, the key and the entity keys.
        rows: of one request.
    """

    inputs: int
    rows: int

    @property
    def aside(self) -> int:
        """Bytes of JSON that are no tensor data: names, shapes, parameters."""
        return INLINE_BYTES + 512 * self.inputs

    @property
    def containers(self) -> int:
        """Lists and objects up to which a short body is parsed without a look at its bytes."""
        return 64 + 6 * self.inputs


@dataclass(slots=True)
class _Cut:
    """A part of the body that is parsed by itself; `commas` and `opens` are those in it."""

    start: int
    end: int = 0
    commas: int = 0
    opens: int = 0


@dataclass(slots=True)
class _Scanner:
    """Finds the containers that open at one depth, block by block."""

    depth_of_cuts: int
    most_cuts: int
    refusal: Callable[[], RequestError]
    depth: int = 0
    in_text: int = 0
    escapes: int = 0  # backslashes right before the block
    commas: int = 0
    opens: int = 0
    cuts: list[_Cut] = field(default_factory=list)

    def feed(self, block: np.ndarray, start: int) -> None:
        """Takes the next bytes, uint8 [n], which begin at `start` of the body."""
        quote = block == _QUOTE
        if self.escapes or (block == _BACKSLASH).any():
            quote &= ~self._escaped(block)
        text = np.bitwise_xor.accumulate(quote.view(np.uint8))
        text ^= self.in_text
        self.in_text = int(text[-1])
        folded = block | _UPPER  # [ as {, and ] as }
        opens, closes = folded == _OPEN, folded == _CLOSE
        found = opens | closes
        found |= block == _COMMA
        found &= text == 0
        places = np.flatnonzero(found)
        if not len(places):
            return
        step = opens[places].astype(np.int32) - closes[places]
        depth = np.cumsum(step) + self.depth
        if depth.max() > _MAX_DEPTH:
            raise RequestError(f"The body's JSON is nested more than {_MAX_DEPTH} deep.")
        if depth.min() < 0:
            raise RequestError("The body is not JSON that can be read: a bracket closes nothing.")
        commas, opened = np.cumsum(step == 0) + self.commas, np.cumsum(step == 1) + self.opens
        begins = (step == 1) & (depth == self.depth_of_cuts + 1)
        ends = (step == -1) & (depth == self.depth_of_cuts)
        for i in np.flatnonzero(begins | ends):
            if step[i] == 1:
                if len(self.cuts) >= self.most_cuts:
                    raise self.refusal()
                # What opens here counts itself, so that a list of lists of one is told apart.
                cut = _Cut(start + int(places[i]), 0, int(commas[i]), int(opened[i]))
                self.cuts.append(cut)
            else:
                cut = self.cuts[-1]
                cut.end = start + int(places[i]) + 1
                cut.commas, cut.opens = int(commas[i]) - cut.commas, int(opened[i]) - cut.opens
        self.depth, self.commas, self.opens = int(depth[-1]), int(commas[-1]), int(opened[-1])

    def _escaped(self, block: np.ndarray) -> np.ndarray:
        """Which bytes stand behind an odd number of backslashes: bool [n]."""
        place = np.arange(len(block), dtype=np.int32)
        other = np.where(block == _BACKSLASH, np.int32(-1 - self.escapes), place)
        last = np.maximum.accumulate(other)  # the last byte that is no backslash
        run = place - last  # backslashes that end here
        before = np.empty_like(run)
        before[0], before[1:] = self.escapes, run[:-1]
        self.escapes = int(run[-1])
        return (before & 1).astype(bool)


def scan_json(
    body: Body,
    depth: int,
    most: int,
    refusal: Callable[[], RequestError],
    *,
    block: int = 256 * 1024,
) -> list[_Cut]:
    """The lists and objects of a JSON text that open `depth` deep.

    Args:
        body: JSON, or what says so.
        depth: of lists and objects around them.
        most: of them.
        refusal: makes the error where there are more.
        block: bytes that are looked at in one go.

    Raises:
        RequestError: 400, they do not close, or the text is nested too deep.
    """
    scanner = _Scanner(depth, most, refusal)
    whole = np.frombuffer(body, np.uint8)
    for start in range(0, len(whole), block):
        scanner.feed(whole[start : start + block], start)
    if scanner.depth or scanner.in_text:
        raise RequestError("The body is not JSON that can be read: it ends too early.")
    return scanner.cuts


def is_plain(body: Body, bounds: Bounds) -> bool:
    """Whether a body is so short, and of so few parts, that parsing it costs next to nothing."""
    # mypy takes a memoryview for bytes, and that counts nothing.
    brackets = body.count(b"[") + body.count(b"{")  # type: ignore[misc]
    return len(body) <= INLINE_BYTES and brackets <= bounds.containers


def read_tensors(body: Body, bounds: Bounds, loads: Loads) -> object:
    """Parses a V2 request of any size within the bounds.

    Args:
        body: JSON.
        bounds: of a request.
        loads: parses JSON strictly; raises ValueError.

    Raises:
        RequestError: 400 or 413, what does not fit.
        ValueError: a part is no JSON.
    """
    view = memoryview(body)
    # A tensor has its shape, its data and perhaps parameters.
    found = scan_json(body, 3, 64 + 4 * bounds.inputs, _too_many_parts)
    cuts = [cut for cut in found if cut.end - cut.start > 64 and view[cut.start] == _LIST]
    content = loads(_without(view, cuts, bounds))
    inputs = content.get("inputs") if type(content) is dict else None
    used = values = 0
    for tensor in inputs if type(inputs) is list else ():
        number = _number(tensor.get("data")) if type(tensor) is dict else None
        if number is None:
            continue
        cut = cuts[number]
        if cut.commas >= bounds.rows or cut.opens > bounds.rows:
            raise RequestError(_too_many(cut.commas + 1, bounds), 413)
        values += cut.commas + 1
        if values > MAX_VALUES:
            raise RequestError(f"More than {MAX_VALUES:,} values in one request.", 413)
        tensor["data"] = loads(view[cut.start : cut.end])
        used += 1
    if used != len(cuts):
        raise RequestError("The body has a long list or object that is not the 'data' of an input.")
    return content


def read_instances(body: Body, bounds: Bounds, loads: Loads) -> object:
    """Parses a V1 request of any size within the bounds; as `read_tensors`."""
    view = memoryview(body)
    cuts = scan_json(body, 2, bounds.rows, lambda: _more_rows(bounds))
    content = loads(_without(view, cuts, bounds))
    instances = content.get("instances") if type(content) is dict else None
    if type(instances) is not list:
        return content
    if len(instances) > bounds.rows:
        raise RequestError(_too_many(len(instances), bounds), 413)
    rows = list(_rows(view, cuts, instances, bounds, loads))
    if len(cuts) != sum(_number(item) is not None for item in instances):
        raise RequestError("The body has lists or objects that are not rows of 'instances'.")
    content["instances"] = rows
    return content


def _rows(
    view: memoryview, cuts: list[_Cut], instances: list[object], bounds: Bounds, loads: Loads
) -> Iterator[object]:
    for place, item in enumerate(instances):
        number = _number(item)
        if number is None:
            yield item
            continue
        cut = cuts[number]
        if cut.commas > bounds.inputs or cut.opens > bounds.inputs:
            raise RequestError(
                f"Instance {place} has more members than the model's {bounds.inputs} inputs."
            )
        yield loads(view[cut.start : cut.end])


def _without(view: memoryview, cuts: list[_Cut], bounds: Bounds) -> bytes:
    """The JSON with a mark in place of each part, if what is left is short."""
    left = len(view) - sum(cut.end - cut.start for cut in cuts)
    if left > bounds.aside + 2 * len(cuts):
        raise RequestError(
            f"The request has {left} bytes of JSON that are no values of inputs; at most {bounds.aside}"
            " are taken."
        )
    parts: list[bytes | memoryview] = []
    place = 0
    for number, cut in enumerate(cuts):
        parts += [view[place : cut.start], b'"%b%d"' % (_MARK.encode(), number)]
        place = cut.end
    return b"".join([*parts, view[place:]])


def _number(value: object) -> int | None:
    """Which part a mark stands for; None: it is none."""
    if type(value) is str and value.startswith(_MARK):
        return int(value[len(_MARK) :])
    return None


def _too_many_parts() -> RequestError:
    return RequestError("The request has more lists and objects than its inputs need.")


def _more_rows(bounds: Bounds) -> RequestError:
    return RequestError(f"More than {bounds.rows} rows in one request.", 413)


def _too_many(rows: int, bounds: Bounds) -> str:
    return f"{rows} rows in one request; at most {bounds.rows} are taken."


def strict_json(text: Body | memoryview) -> object:
    """Python's own parser, as strict as JSON is; for images without a faster one.

    Raises:
        ValueError: the text is no JSON, or no Unicode.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON")

    whole = str(text, "utf-8")
    content = json.loads(whole, parse_constant=refuse)
    if "\\u" in whole:
        # Half of a surrogate pair can be escaped, and be written nowhere.
        json.dumps(content, ensure_ascii=False).encode()
    return content
