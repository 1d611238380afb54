"""Writing so that a reader sees all of a result or none of it."""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from slipway.components.support.errors import SlipwayError


def write_text(path: Path, text: str) -> None:
    """Writes a file that is visible only once it is whole; what a killed try left of it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for earlier in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        _remove_abandoned(earlier)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with _held(partial) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        # A write that fails (a full disk) does not say by itself which file it was.
        error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _held(partial: Path) -> TextIO:
    """A new file that is locked as long as it is open: another writer takes it for abandoned else."""
    while True:
        file = partial.open("w", encoding="utf-8")
        with suppress(OSError):  # no locks there: then nobody removes anything either
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # it was removed before it was locked


def write_json(path: Path, value: object) -> None:
    """Writes JSON with sorted keys; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_header(
    path: Path, version: int, absent: str, remedy: str = "Run the stage again."
) -> dict[str, object]:
    """Reads the JSON object that describes a folder, and that its writer wrote last.

    Args:
        path: the file.
        version: the layout version that the caller reads; the object names its own as "version".
        absent: what is to be said of a folder without it, as in "is not a dataset".
        remedy: what to do about a damaged file.

    Raises:
        SlipwayError: the file is missing, damaged or of another version.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise SlipwayError(f"{path.parent} {absent}: it has no {path.name}.") from error
    except OSError as error:
        raise SlipwayError(f"{path} cannot be read: {error.strerror}. {remedy}") from error
    return parse_header(text, str(path), version, remedy)


def parse_header(text: str | bytes, source: str, version: int, remedy: str) -> dict[str, object]:
    """The same from the file's content; `source` names it in a message.

    Raises:
        SlipwayError: the content is damaged or of another version.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SlipwayError(f"{source} is damaged: {error}. {remedy}") from error
    if not isinstance(content, dict):
        raise SlipwayError(f"{source} is damaged: it is no JSON object. {remedy}")
    if content.get("version") != version:
        raise SlipwayError(
            f"{source} has layout version {content.get('version')}; this release reads {version}."
            f" {remedy}"
        )
    return content


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Gives a scratch folder beside `path` that takes its place when the block ends well.

    An earlier folder at `path` (the half or whole work of an earlier try) is replaced, and so is the
    scratch folder of a try that was killed, so a retried task leaves one copy. If the block raises,
    `path` is as it was and the scratch folder is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for earlier in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        _remove_abandoned(earlier)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    scratch.mkdir()
    # The lock goes with the process, however it ends.
    held = os.open(scratch, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield scratch
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        scratch.replace(path)
    finally:
        os.close(held)
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_abandoned(scratch: Path) -> None:
    """Removes a half-written file or folder unless its writer holds it, or that is unknown (no locks)."""
    try:
        held = os.open(scratch, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        os.close(held)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_directory(path: Path, leave_out: Collection[str] = ()) -> str:
    """SHA-256 over the names and bytes of all files below `path`; their order does not matter.

    Args:
        path: the folder.
        leave_out: paths below it that do not count.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if name not in leave_out:
            digest.update(f"{name}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()


def short_path(path: str | Path) -> str:
    """A path as a person in this folder would write it: relative, where that is no longer."""
    text = str(path)
    if not text.startswith(os.sep):
        return text
    relative = os.path.relpath(text)
    return relative if len(relative) <= len(text) else text
