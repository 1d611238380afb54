"""Where the bundle lies: in the folder that KServe filled, or fetched from a URI."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.components.contracts.bundle import FILE
from slipway.components.support.errors import SlipwayError
from slipway.serving.object_store import LONGEST_SECONDS, open_store, transfer, within
from slipway.serving.settings import PredictorSettings


@contextmanager
def bundle_folder(settings: PredictorSettings) -> Iterator[Path]:
    """The bundle's folder while it is read.

    KServe's storage initializer reads the same STORAGE_URI and fills the folder before the predictor
    starts; a bundle that is there already is not fetched again.

    Raises:
        SlipwayError: the URI cannot be read, or holds nothing.
    """
    if not settings.model_uri or (settings.model_dir / FILE).exists():
        yield settings.model_dir
        return
    with tempfile.TemporaryDirectory(prefix="slipway-model-") as scratch:
        _fetch(settings.model_uri, scratch)
        yield Path(scratch)


def _fetch(uri: str, folder: str) -> None:
    # Arrow takes a third of the start, and a folder that is filled already does without.
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        system, root = open_store(uri)
        root = root.rstrip("/")
        everything = pafs.FileSelector(root, recursive=True)
        there = within(LONGEST_SECONDS, lambda: system.get_file_info(everything))
        transfer(
            sum(file.size or 0 for file in there),
            lambda: pafs.copy_files(root, folder, system, pafs.LocalFileSystem()),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SlipwayError(
            f"STORAGE_URI={uri} cannot be fetched: {error}. Give the folder of a bundle (file, s3, gs,"
            " abfss), or fill --model-dir."
        ) from error
