"""How a setting reaches the tasks that read it: in a parameter, or in a file beside the data.

A pipeline's parameter has narrow bounds: Kubeflow's API may take 10,000 bytes of a run's parameters
together, a process 131,072 in one argument, which holds all of a task's, and protobuf keeps whole numbers
as doubles. So a setting whose numbers must stay exact travels as JSON text, in ASCII, and a large one
as a file, named after its content's SHA-256, below `_slipway/` in the folder that table paths start from.
The parameter then says which file: the same compiled pipeline runs wherever the data is, on exactly that
content.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import emit

FOLDER = "_slipway"
# Bytes of a parameter that still holds its setting itself.
INLINE = 8_000
FILE = "$file"
_REFERENCE = re.compile(rf"(?:.*/)?{FOLDER}/[a-z_]+-([0-9a-f]{{64}})\.json")


@dataclass(frozen=True, slots=True)
class Packed:
    """A setting as its parameter holds it.

    Attributes:
        value: text, or a struct; where it is too large, the name of a file.
        files: path below the tables' root to content; empty where the parameter holds it all.
    """

    value: object
    files: dict[str, bytes] = field(default_factory=dict)


def pack_text(name: str, content: Mapping[str, object]) -> Packed:
    """Packs a setting as text, which keeps every number as it is.

    Args:
        name: of the parameter: lower-case letters and underscores.
        content: JSON values; NaN and infinity are none.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    if _size(text) <= INLINE:
        return Packed(text)
    path = _path(name, text)
    return Packed(path, {path: text.encode()})


def pack_struct(name: str, content: Mapping[str, object]) -> Packed:
    """Packs a setting as a struct, whose keys can be changed one by one when a run is started."""
    if _size(content) <= INLINE:
        return Packed(dict(content))
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    path = _path(name, text)
    return Packed({FILE: path}, {path: text.encode()})


def reference_in(value: object) -> str | None:
    """The file that a parameter names; None where it holds the setting itself."""
    if isinstance(value, Mapping) and value.keys() == {FILE}:
        value = value[FILE]
    return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else None


def locate(value: object, folder: Path) -> Any:
    """A parameter whose file is looked for in a folder of this machine; others stay as they are."""
    path = reference_in(value)
    if path is None:
        return value
    absolute = str(folder.resolve() / path)
    return {FILE: absolute} if isinstance(value, Mapping) else absolute


def read_setting(name: str, value: str | Mapping[str, object], root: str) -> dict[str, Any]:
    """Reads what a parameter holds or names.

    Args:
        name: of the parameter, for messages.
        value: the parameter.
        root: the folder or object-store prefix that table paths start from.

    Raises:
        SlipwayError: it is no JSON object, the file is not there, it holds something else than it did, or
            the parameter has keys beside the file, which would be ignored.
    """
    if isinstance(value, Mapping) and FILE in value and len(value) > 1:
        others = ", ".join(sorted(value.keys() - {FILE}))
        raise SlipwayError(
            f"{name} is the file {value[FILE]}, and has {others} beside it. Give the whole setting, or"
            " change the project file and compile again."
        )
    path = reference_in(value)
    if path is not None:
        return _parsed(name, _read(name, path, root))
    return dict(value) if isinstance(value, Mapping) else _parsed(name, value)


def given(name: str, value: str | Mapping[str, object], root: str) -> dict[str, object]:
    """As `read_setting`, for the face of a stage: what is wrong is said as a stage says it."""
    try:
        return read_setting(name, value, root)
    except SlipwayError as error:
        emit("error", message=str(error))
        raise SystemExit(1) from error


def place_of(path: str, root: str) -> str:
    """Where a named file lies: below the root, unless it is a place of its own."""
    return path if "://" in path or path.startswith("/") else f"{root.rstrip('/')}/{path}"


def _read(name: str, path: str, root: str) -> str:
    from fsspec.core import url_to_fs

    place = place_of(path, root)
    try:
        store, found = url_to_fs(place)
        content = bytes(store.cat_file(found))
    except FileNotFoundError as error:
        raise SlipwayError(
            f"{name} is in {place}, and there is no such file. `slipway upload` puts it there; it lies"
            f" beside the compiled pipeline, in {FOLDER}/."
        ) from error
    except Exception as error:  # each store's library has errors of its own kind
        raise SlipwayError(
            f"{name} is in {place}, which cannot be read: {' '.join(str(error).split())}."
        ) from error
    match = _REFERENCE.fullmatch(path)
    if match is None or hashlib.sha256(content).hexdigest() != match[1]:
        raise SlipwayError(
            f"{place} does not hold the {name} that it was named after: it was changed."
        )
    return content.decode()


def _parsed(name: str, text: str) -> dict[str, object]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SlipwayError(f"{name} is no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SlipwayError(f"{name} is no JSON object.")
    return content


def _size(value: object) -> int:
    return len(json.dumps(value).encode())


def _path(name: str, text: str) -> str:
    return f"{FOLDER}/{name}-{hashlib.sha256(text.encode()).hexdigest()}.json"
