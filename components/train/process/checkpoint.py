"""Checkpoints: what training needs to go on as if it had never stopped.

One file at a time per training, replaced atomically. It lies below a folder or an object-store prefix,
under a name made of all that decides the result, so that a retried task finds its own.
"""

import hashlib
import io
import json
import os
from typing import TYPE_CHECKING, Any

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

VERSION = 1
_OBJECT_STORES = ("s3", "gs", "abfs", "abfss")


def fingerprint(**parts: object) -> str:
    """SHA-256 over everything that decides the trained weights, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def checkpoint_root(configured: str, storage: str) -> str:
    """Where checkpoints lie: as configured, else below SLIPWAY_HOME, else beside the pipeline's files.

    The last is for a cluster, where a retried task writes its bundle to the place of the first try.

    Args:
        configured: `training.checkpoints`; may be empty.
        storage: URI of the pipeline's own bundle.

    Returns:
        A folder or an object-store prefix; empty: no checkpoints are kept.
    """
    if configured:
        return configured
    home = os.environ.get("SLIPWAY_HOME", "").strip()
    if home:
        return f"{home}/checkpoints"
    if storage.partition("://")[0] in _OBJECT_STORES:
        return f"{storage.rpartition('/')[0]}/checkpoints"
    progress("no checkpoints are kept: training.checkpoints names no place, and nothing else does")
    return ""


class Checkpoint:
    """Where one training keeps its state.

    Args:
        root: folder or object-store prefix; empty keeps nothing.
        project: the project's name, a folder below the root.
        identity: the training's `fingerprint`.
    """

    def __init__(self, root: str, project: str, identity: str) -> None:
        self.identity = identity
        self.path = f"{root.rstrip('/')}/{project}/{identity[:16]}.ckpt" if root else ""

    def save(self, state: dict[str, object]) -> None:
        """Replaces the checkpoint; a reader sees the old one or the new one, never a part."""
        if not self.path:
            return
        import fsspec
        import torch

        content = io.BytesIO()
        torch.save({"version": VERSION, "identity": self.identity, "state": state}, content)
        system, path = fsspec.core.url_to_fs(self.path)
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        if "file" in _protocols(system):
            _replace_file(path, content.getvalue())
        else:
            # An object store shows a new object only once it is whole.
            system.pipe_file(path, content.getvalue())

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none.

        Raises:
            SlipwayError: the file is damaged, or belongs to another configuration.
        """
        if not self.path:
            return None
        import fsspec
        import torch

        system, path = fsspec.core.url_to_fs(self.path)
        if not system.exists(path):
            return None
        try:
            content = torch.load(io.BytesIO(system.cat_file(path)), weights_only=True)
            version, identity, state = content["version"], content["identity"], content["state"]
        except Exception as error:
            raise SlipwayError(
                f"The checkpoint {self.path} cannot be read ({error}). Delete it to train from"
                " the start."
            ) from error
        if version != VERSION or identity != self.identity:
            raise SlipwayError(
                f"The checkpoint {self.path} belongs to another configuration, other data or"
                " another release. Delete it, or give training.checkpoints another place."
            )
        return dict(state)

    def delete(self) -> None:
        """Removes the checkpoint: training has ended and its model is written."""
        if not self.path:
            return
        import fsspec

        system, path = fsspec.core.url_to_fs(self.path)
        if system.exists(path):
            system.rm_file(path)


def _protocols(system: "AbstractFileSystem") -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def _replace_file(path: str, content: bytes) -> None:
    from pathlib import Path

    partial = Path(f"{path}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
