"""Where monitoring keeps what must outlast a run: small files in a folder or an object store.

Below MONITORING_URI, a folder a model::

    <model>/windows/<start>_<end>.parquet     one row: the record, typed
    <model>/latest.json                       which of them was measured last
    <model>/sketches/<start>_<end>.parquet    one row a feature: its sketch
    <model>/retrain/<window end>-<key>.json   a request to retrain, and its status
    <model>/routes/<route>.json               what a route was notified of

On a cluster every run is a pod of its own, so this must be an object store there. A file is written
whole or not at all, in both.
"""

import uuid
from pathlib import Path
from typing import Any

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stores import asking_store

Root = str | Path


def folder(root: Root, model: str) -> str:
    """Where the files of one model lie."""
    return f"{str(root).rstrip('/')}/{model}"


def names(path: str) -> list[str]:
    """Names of what lies in a folder, sorted; those of half-written files are left out.

    Raises:
        SlipwayError: the store cannot be read.
    """
    filesystem, place = _open(path)
    try:
        with asking_store(f"{path} cannot be listed"):
            filesystem.invalidate_cache()
            found = filesystem.ls(place, detail=False)
    except FileNotFoundError:
        return []
    here = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found)
    return sorted(name for name in here if not name.startswith("."))


def read(path: str) -> bytes | None:
    """A file's content; None where there is none.

    Raises:
        SlipwayError: the store cannot be read.
    """
    filesystem, place = _open(path)
    try:
        with asking_store(f"{path} cannot be read"):
            return bytes(filesystem.cat_file(place))
    except FileNotFoundError:
        return None


def write(path: str, content: bytes) -> None:
    """Writes a file, in place of an earlier one.

    Raises:
        SlipwayError: the store cannot be written.
    """
    filesystem, place = _open(path)
    if "file" not in (protocol := filesystem.protocol) and protocol != "file":
        with asking_store(f"{path} cannot be written"):
            filesystem.pipe_file(place, content)
        return
    try:
        target = Path(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise SlipwayError(f"{path} cannot be written: {error}.") from error


def _open(path: str) -> tuple[Any, str]:
    import fsspec

    try:
        filesystem, place = fsspec.core.url_to_fs(path)
    except (OSError, ValueError, ImportError) as error:
        raise SlipwayError(f"{path} cannot be opened: {error}.") from error
    return filesystem, place
