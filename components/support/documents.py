"""YAML and JSON that a person gave: refused before it is read where reading it would take no end.

CI compiles what strangers send. A few lines of YAML can stand for billions of values (aliases of
aliases), a long number takes minutes to become an integer, deep nesting ends in Python's own limit. So
a text is looked through first, event by event and without building anything, within bounds that no
project comes near.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_DEPTH = 100
MAX_VALUES = 500_000
MAX_DIGITS = 400
# What a double holds ends at 1e308; as an exact number, 1e999999999 has a gigabyte of digits.
MAX_EXPONENT = 400
MAX_BYTES = 8 << 20

_NUMBER = re.compile(
    r"[-+]?(?:0[xXoObB][0-9a-fA-F_]+|[0-9][0-9_.:]*(?:[eE][-+]?(?P<exponent>[0-9]+))?)"
)
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<number>-?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?)',
    re.S,
)
KubeObject = dict[str, Any]
"""An object of Kubernetes' API, or a part of one; its shape is the API's."""


class UnfitDocument(ValueError):
    """A text that is not read; the message names the line where that is known, and the reason."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")


def read_document(path: Path, limit: int = MAX_BYTES) -> str:
    """The text of a file.

    Args:
        path: the file.
        limit: bytes; more are not read.

    Raises:
        OSError: it cannot be read.
        UnfitDocument: it is larger, or no UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnfitDocument(f"it has more than {limit:,} bytes, and is not read")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UnfitDocument("it is no UTF-8", content[: error.start].count(b"\n") + 1) from error


def load_yaml(text: str) -> list[Any]:
    """The documents of a YAML text, as plain values.

    Raises:
        UnfitDocument: it is no YAML, or beyond the bounds.
    """
    check_yaml(text)
    import yaml

    documents: list[object] = _as_yaml(lambda: list(yaml.load_all(text, Loader=_loader())))
    return documents


def check_yaml(text: str) -> None:
    """Looks a YAML text through.

    Raises:
        UnfitDocument: it is no YAML, or beyond the bounds.
    """
    _as_yaml(lambda: _look_through(text))


def load_json(text: str, parse_float: Callable[[str], object] | None = None) -> object:
    """The value of a JSON text.

    Args:
        text: the JSON.
        parse_float: what numbers with a point or an exponent become.

    Raises:
        UnfitDocument: it is no JSON, or beyond the bounds.
    """
    depth = 0
    for token in _TOKEN.finditer(text):
        if token["open"]:
            depth += 1
            if depth > MAX_DEPTH:
                raise UnfitDocument(_deep(), _line(text, token.start()))
        elif token["close"]:
            depth -= 1
        elif token["number"] and (reason := _long(token["number"])):
            raise UnfitDocument(reason, _line(text, token.start()))
    try:
        return json.loads(text, parse_float=parse_float, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UnfitDocument(str(error)) from error


def yaml_reason(error: Exception) -> str:
    """What is wrong with a YAML text, from PyYAML's or ruamel's error: the line first, no snippet."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or mark is None:
        return " ".join(re.sub(r'in "<[^"]*", ', "", str(error)).split())
    if repeated := re.match(r'found duplicate key "?(.*?)"? with value', problem):
        return f"line {mark.line + 1}: the key {repeated[1]} stands there a second time"
    context = getattr(error, "context", None)
    return f"line {mark.line + 1}: {problem}" + (f" ({context})" if context else "")


def _refuse_constant(name: str) -> None:
    """Python reads three numbers that JSON does not have."""
    raise ValueError(f"{name} is no number of JSON")


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _as_yaml(work: Callable[[], object]) -> Any:
    import yaml

    try:
        return work()
    except yaml.YAMLError as error:
        raise UnfitDocument(yaml_reason(error)) from error
    except UnfitDocument:
        raise
    except (ValueError, OverflowError) as error:  # a date that there is not, say
        raise UnfitDocument(f"it holds a value that cannot be: {error}") from error


def _look_through(text: str) -> None:
    """Counts values as if every alias were written out, without writing one out."""
    import yaml

    sizes: dict[str, int] = {}
    open_names: list[str | None] = []
    counts = [0]
    for event in yaml.parse(text, Loader=_loader()):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.CollectionStartEvent):
            open_names.append(event.anchor)
            counts.append(1)
            if len(open_names) > MAX_DEPTH:
                raise UnfitDocument(_deep(), line)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, name = counts.pop(), open_names.pop()
            counts[-1] += size
            if name:
                sizes[name] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_names:
                raise UnfitDocument(f"*{event.anchor} stands inside of what it names", line)
            counts[-1] += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if not event.style and (reason := _long(event.value)):
                raise UnfitDocument(reason, line)
        elif isinstance(event, yaml.DocumentStartEvent):
            sizes.clear()
        if counts[-1] > MAX_VALUES:
            raise UnfitDocument(
                f"with its aliases written out it has more than {MAX_VALUES:,} values", line
            )


def _long(value: str) -> str:
    """Why a number is not read; empty: it is, or it is no number."""
    found = _NUMBER.fullmatch(value)
    if not found:
        return ""
    if len(value) > MAX_DIGITS:
        return f"a number of {len(value):,} characters: at most {MAX_DIGITS} are read"
    if found["exponent"] and int(found["exponent"]) > MAX_EXPONENT:
        return f"the number {value[:40]} is larger than any that can be calculated with"
    return ""


def _deep() -> str:
    return f"lists and maps inside each other, more than {MAX_DEPTH} deep"


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
