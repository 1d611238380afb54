"""What all records that stages hand each other have in common: one JSON file, typed, checked, whole.

A record is a frozen, keyword-only dataclass. Its fields' types are what a reader may find in the file:
text, numbers (finite, and never given as text), true and false, `Literal`, `X | None`, `list`, `dict`
by text, `tuple`, other dataclasses, and `object` for JSON of no fixed shape.
"""

import json
import math
import types
import typing
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import parse_header, read_header, write_json

_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"}
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The base of every record.

    Attributes:
        ABSENT: what is to be said of a folder without the file, as in "is not a dataset".
        REMEDY: what to do about a file that cannot be read.
        SPARSE: fields that are left out of the file where they say no more than their default. So the
            file of a project that does not use them is byte for byte what it was before there were such.
            `outer.inner` is a field of the records in a list, left out where it is null.
        version: of the layout. A record whose layout changes has another default.
    """

    ABSENT: ClassVar[str] = "holds no record"
    REMEDY: ClassVar[str] = "Run the stage again."
    SPARSE: ClassVar[frozenset[str]] = frozenset()

    version: int = 1

    def write(self, path: Path) -> None:
        """Writes the record as JSON, atomically; NaN and infinity are refused."""
        write_json(path, self._content())

    def to_json(self) -> str:
        """The record as one line of JSON, for where it is a cell or an object of a store."""
        return json.dumps(self._content(), sort_keys=True, allow_nan=False)

    def _content(self) -> dict[str, object]:
        content = asdict(self)
        for each in fields(self):
            made = each.default_factory
            default = each.default if made is MISSING else made()
            if each.name in self.SPARSE and content[each.name] == default:
                del content[each.name]
        for outer, _, inner in (name.partition(".") for name in self.SPARSE):
            for entry in content.get(outer, ()) if inner else ():
                if entry[inner] is None:
                    del entry[inner]
        return content

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a record from its file.

        Raises:
            SlipwayError: the file is missing, is damaged, has another version, or a field is missing,
                unknown or of another type; the message names file and field and shows the value.
        """
        return cls._of(read_header(path, cls._layout(), cls.ABSENT, cls.REMEDY), str(path))

    @classmethod
    def parse(cls, text: str | bytes, source: str) -> Self:
        """Reads a record from JSON text; `source` names it in a message.

        Raises:
            SlipwayError: as `read` does.
        """
        return cls._of(parse_header(text, source, cls._layout(), cls.REMEDY), source)

    @classmethod
    def _layout(cls) -> int:
        version: Any = cls.__dataclass_fields__["version"].default
        return int(version)

    @classmethod
    def _of(cls, content: dict[str, object], source: str) -> Self:
        try:
            record: Self = _fields(content, cls, "")
        except ValueError as error:
            raise SlipwayError(f"{source} is damaged: {error}. {cls.REMEDY}") from error
        return record


class _Unfit(ValueError):
    def __init__(self, place: str, value: object, expected: str) -> None:
        shown = json.dumps(value)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        super().__init__(f"{place} is {shown}, and must be {expected}")


@cache
def _types(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _convert(value: object, expected: object, place: str) -> object:
    """A JSON value as a field's type has it.

    Raises:
        ValueError: it is of another type; the message names the place.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if expected is object or expected is Any:
        return value
    if expected is None or expected is types.NoneType:
        if value is None:
            return None
        raise _Unfit(place, value, "null")
    if expected in _KINDS:
        return _scalar(value, expected, place)
    if is_dataclass(expected) and isinstance(expected, type):
        return _fields(value, expected, place)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        raise _Unfit(place, value, " or ".join(str(choice) for choice in arguments))
    if origin in (types.UnionType, typing.Union):
        if value is None and types.NoneType in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _convert(value, inner, place)
    if origin is dict:
        if not isinstance(value, dict):
            raise _Unfit(place, value, "an object")
        return {k: _convert(v, arguments[1], f"{place}.{k}") for k, v in value.items()}
    if origin in (list, tuple):
        return _sequence(value, origin, arguments, place)
    raise TypeError(f"{place}: a record's field cannot be {expected}")


def _scalar(value: object, expected: type, place: str) -> object:
    # JSON has one kind of number: a whole one is a float too. true is no number.
    fits = isinstance(value, (int, float) if expected is float else expected)
    if expected is not bool and isinstance(value, bool):
        fits = False
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise _Unfit(place, value, _KINDS[expected])
    return value


def _sequence(value: object, origin: Any, arguments: tuple[object, ...], place: str) -> object:
    if not isinstance(value, list):
        raise _Unfit(place, value, "a list")
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise _Unfit(place, value, f"a list of {len(arguments)}")
        kinds = list(arguments)
    else:
        kinds = [arguments[0]] * len(value)
    return origin(
        _convert(item, kind, f"{place}[{i}]")
        for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _fields(value: object, kind: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _Unfit(place, value, "an object")
    known, inside = _types(kind), f"{place}." if place else ""
    names = {field.name for field in fields(kind)}
    unknown = sorted(value.keys() - names)
    if unknown:
        raise ValueError(f"this release knows no field {inside}{unknown[0]}")
    for field in fields(kind):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if field.name not in value and not has_default:
            raise ValueError(f"the field {inside}{field.name} is missing")
    return kind(**{k: _convert(v, known[k], f"{inside}{k}") for k, v in value.items()})
