"""Where a table's files are: on this machine or in an object store, through fsspec.

Credentials come from the environment or from mounted secrets, as each store's own library reads them
(AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY
or a workload identity); never from the project file.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.data import Format
from slipway.components.support.addresses import refuse_metadata
from slipway.components.support.errors import SlipwayError, is_failure
from slipway.components.support.secrets import holds_secret

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SCHEMES = ("file", "s3", "gs", "abfss", "https", "http")
ENDINGS: dict[Format, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq", ".parq"),
    "csv": (".csv", ".csv.gz"),
    "jsonl": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
    "delta": (),
}
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of one table.

    Attributes:
        uri: what the manifest says; without query or credentials.
        store: the file system that opens the files.
        base: the folder (or the file) that the table is.
        files: paths in the store, sorted.
        local: whether the files are on this machine.
    """

    uri: str
    store: "AbstractFileSystem"
    base: str
    files: tuple[str, ...]
    local: bool

    def name(self, file: str) -> str:
        """A file's name for messages: a path, or a URI."""
        return file if self.local else str(self.store.unstrip_protocol(file)).split("?")[0]

    def relative(self, file: str) -> str:
        """A file's path below the table's folder; of a table that is one file nothing.

        It can be kept: a signature in the address is no part of it.
        """
        return file[len(self.base) :]


def join_uri(root: str, path: str) -> str:
    """A table's URI: `path` itself if it is a URI or absolute, otherwise `path` below `root`."""
    if "://" in path or path.startswith("/") or not root:
        return path
    return f"{root.rstrip('/')}/{path}"


def public_uri(uri: str) -> str:
    """The URI without query (which may be a signature); a path becomes absolute."""
    if "://" not in uri:
        return str(Path(uri).resolve())
    return re.split(r"[?#]", uri)[0]


def check_uri(table: str, uri: str) -> str:
    """The URI's scheme.

    Raises:
        SlipwayError: an unknown scheme, a password in the URI, or a cloud's metadata service.
    """
    scheme = uri.partition("://")[0].lower() if "://" in uri else "file"
    if scheme not in SCHEMES:
        raise SlipwayError(
            f"Table {table}: '{scheme}://' is not a source that Slipway reads. Use a path,"
            f" {', '.join(f'{name}://' for name in SCHEMES[1:-1])}."
        )
    if holds_secret(uri.partition("?")[0]):
        raise SlipwayError(
            f"Table {table}: the address holds a password or a token. Credentials come from the"
            " environment or a mounted secret, never from the project file."
        )
    if scheme in ("http", "https"):
        refuse_metadata(uri, f"Table {table}")
    return scheme


def locate(table: str, uri: str, form: Format) -> Source:
    """Finds a table's files.

    Args:
        table: its name, for messages.
        uri: a file or a folder; folders are searched to any depth, names that begin with _ or .
            are left out.
        form: the format; it decides which endings count.

    Raises:
        SlipwayError: nothing is there (the message says what is there instead), the store refuses, or
            it is a Delta table and `form` is another.
    """
    from fsspec.core import url_to_fs

    scheme = check_uri(table, uri)
    with reading(public_uri(uri)):
        store, base = url_to_fs(uri, **store_options(scheme))
        base = base.rstrip("/")
        kind = kind_of(store, base)
        if kind == "file":
            return _source(uri, store, base, (base,), scheme)
        if not kind:
            raise SlipwayError(_missing(table, uri, store, base))
        there = store.find(base)
        found = sorted(file for file in there if not _hidden(file[len(base) :]))
    if any(file[len(base) :].startswith("/_delta_log/") for file in there):
        # Its folder also has the files whose rows were deleted or rewritten since.
        raise SlipwayError(
            f"Table {table}: {public_uri(uri)} is a Delta table, which only its log can tell the rows of."
            " Set `format: delta`."
        )
    files = tuple(file for file in found if file.lower().endswith(ENDINGS[form]))
    if not files:
        listed = _few([file[len(base) + 1 :] for file in found])
        raise SlipwayError(
            f"Table {table}: {public_uri(uri)} holds no {form} file ({', '.join(ENDINGS[form])})."
            + (f" There is: {listed}." if listed else " It is empty.")
        )
    return _source(uri, store, base, files, scheme)


def locate_again(table: str, uri: str, paths: list[str]) -> Source:
    """A table's files as they were found before. Whether they are there is seen where they are read.

    Args:
        table: its name, for messages.
        uri: a file or a folder.
        paths: of each file, as `Source.relative` gives it.
    """
    from fsspec.core import url_to_fs

    scheme = check_uri(table, uri)
    with reading(public_uri(uri)):
        store, base = url_to_fs(uri, **store_options(scheme))
    base = base.rstrip("/")
    return _source(uri, store, base, tuple(base + path for path in paths), scheme)


def find_format(uri: str) -> Format:
    """The format of a file or a folder, by the endings of its files.

    Raises:
        SlipwayError: they have none that is known, or several; or nothing is there.
    """
    from fsspec.core import url_to_fs

    scheme = check_uri(public_uri(uri), uri)
    with reading(public_uri(uri)):
        store, base = url_to_fs(uri, **store_options(scheme))
        base = base.rstrip("/")
        kind = kind_of(store, base)
        if not kind:
            raise SlipwayError(_missing(public_uri(uri), uri, store, base))
        there = [base] if kind == "file" else store.find(base)
    if any(file[len(base) :].startswith("/_delta_log/") for file in there):
        return "delta"
    files = [file.lower() for file in there if not _hidden(file[len(base) :])]
    found = [form for form, endings in ENDINGS.items() if any(f.endswith(endings) for f in files)]
    if len(found) == 1:
        return found[0]
    what = f"files of {' and '.join(found)}" if found else "no parquet, csv or jsonl file"
    raise SlipwayError(f"{public_uri(uri)} holds {what}. Say which is meant with --format.")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever a store or a parser raises into a message that names what was read."""
    try:
        yield
    except SlipwayError:
        raise
    except PermissionError as error:
        raise SlipwayError(
            f"{what} must not be read with the credentials that are set: {_text(error)}."
        ) from error
    except BaseException as error:  # each store's library has errors of its own kind
        if not is_failure(error):
            raise
        raise SlipwayError(f"{what} cannot be read: {_text(error)}.") from error


def _text(error: BaseException) -> str:
    """An error's own words on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Delta's come with colours, and with a backtrace that names nothing.
    text = re.split(r"\s+0: <unknown>", re.sub(r"\x1b\[[0-9;]*m", "", str(error)))[0]
    return " ".join(text.split()).rstrip(".")[:400] or type(error).__name__


def store_options(scheme: str) -> dict[str, object]:
    """What a store needs besides the environment."""
    if scheme == "abfss" and not os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        # Without it adlfs would read as nobody where a workload identity is meant.
        return {"anon": False}
    return {}


def kind_of(store: "AbstractFileSystem", place: str) -> str:
    """What is at a place: file, directory, or "" for nothing.

    fsspec's own `isfile` says no where the store fails, so that the failure costs its time once more.
    """
    try:
        return str(store.info(place)["type"])
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _source(
    uri: str, store: "AbstractFileSystem", base: str, files: tuple[str, ...], scheme: str
) -> Source:
    return Source(uri=public_uri(uri), store=store, base=base, files=files, local=scheme == "file")


def _hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.split("/") if "=" not in part)


def _missing(table: str, uri: str, store: "AbstractFileSystem", base: str) -> str:
    """There is nothing at `base`: says what the nearest folder that exists holds."""
    text = f"Table {table}: there is nothing at {public_uri(uri)}."
    folder = base
    while "/" in folder.strip("/"):
        folder = folder.rsplit("/", 1)[0] or "/"
        try:
            entries = store.ls(folder, detail=False)
        except (FileNotFoundError, NotADirectoryError, NotImplementedError, PermissionError):
            continue
        if store.isfile(folder):
            return f"{text} {folder} is a file."
        names = _few(sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries))
        return f"{text} {folder} holds: {names}." if names else f"{text} {folder} is empty."
    return text


def empty_files(found: dict[str, str]) -> list[str]:
    """Warnings of a table's empty files, one a kind: file to what is wrong with it."""
    kinds: dict[str, list[str]] = {}
    for file, problem in found.items():
        kinds.setdefault(problem, []).append(file)
    return [
        f"{files[0]} {problem}"
        if len(files) == 1
        else f"{len(files):,} files: {_few(files)}: each {problem}"
        for problem, files in kinds.items()
    ]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
