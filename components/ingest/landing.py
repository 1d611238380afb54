"""Events that were pushed online, landed in their table's folder: the next ingest reads them."""

import hashlib
import uuid

from slipway.components.config.data import Table
from slipway.components.ingest.sources import (
    check_uri,
    join_uri,
    kind_of,
    public_uri,
    reading,
    store_options,
)
from slipway.components.support.errors import SlipwayError


def require_landing(name: str, table: Table, root: str) -> str:
    """The folder that a table's pushed events are landed in.

    Args:
        name: the table's.
        table: its settings.
        root: `data.root`.

    Raises:
        SlipwayError: its files cannot take lines as they are pushed.
    """
    if table.format != "jsonl" or table.rename:
        what = "renames columns" if table.format == "jsonl" else f"is of format {table.format}"
        raise SlipwayError(
            f"--to offline lands lines of jsonl as they were pushed, and the table {name} {what}. Leave"
            " --to out, and let what sends the events also write them to the table's source."
        )
    uri = join_uri(root, table.path)
    scheme = check_uri(name, uri)
    from fsspec.core import url_to_fs

    with reading(public_uri(uri)):
        store, base = url_to_fs(uri, **store_options(scheme))
        if scheme.startswith("http") or kind_of(store, base) == "file":
            raise SlipwayError(
                f"--to offline lands a file in the table's folder, and {public_uri(uri)} is"
                f" {'an address that takes none' if scheme.startswith('http') else 'a file'}."
            )
    return uri


def land_lines(name: str, uri: str, lines: bytes) -> str:
    """Writes lines as one file of a table's folder, which readers see whole or not at all.

    The same lines again are the same file.

    Args:
        name: the table's.
        uri: as `require_landing` gives it.
        lines: jsonl.

    Returns:
        The file's URI.
    """
    from fsspec.core import url_to_fs

    file = f"pushed-{hashlib.sha256(lines).hexdigest()[:24]}.jsonl"
    with reading(public_uri(uri)):
        store, base = url_to_fs(uri, **store_options(check_uri(name, uri)))
        base = base.rstrip("/")
        if "://" in uri and not uri.startswith("file://"):
            store.pipe_file(f"{base}/{file}", lines)  # an object appears whole
        else:
            store.makedirs(base, exist_ok=True)
            partial = f"{base}/.{file}.{uuid.uuid4().hex}"
            store.pipe_file(partial, lines)
            store.mv(partial, f"{base}/{file}")
    return f"{public_uri(uri)}/{file}"
