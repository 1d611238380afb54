"""Copies of predictions outside the run, where other systems read them."""

import shutil
from pathlib import Path

from slipway.components.config.base import parse_instant
from slipway.components.contracts.predictions import FILE, Predictions
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory


def place_of(publish: str, predictions: Predictions) -> str:
    """Where predictions are copied to below a folder or prefix, as `score_rows` says it."""
    if predictions.window is None:
        rows = f"data={predictions.data_hash[:16]}"
    else:
        rows = "--".join(f"{parse_instant(at):%Y%m%dT%H%M%SZ}" for at in predictions.window)
    name = f"{predictions.model}/{rows}/version={predictions.model_version}"
    return f"{publish.rstrip('/')}/{name}"


def publish_to(folder: Path, uri: str) -> None:
    """Copies the predictions so that a reader who waits for predictions.json sees all or none."""
    if "://" not in uri or uri.startswith("file://"):
        with new_directory(Path(uri.removeprefix("file://"))) as target:
            shutil.copytree(folder, target, dirs_exist_ok=True)
        return
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(uri)
        mark = f"{root}/{FILE}"
        if system.exists(mark):
            system.rm_file(mark)
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != FILE)
        wanted = {f"{root}/{file.relative_to(folder).as_posix()}": file for file in files}
        for target_file, file in wanted.items():
            system.put_file(str(file), target_file)
        for stale in set(system.find(root)) - set(wanted):
            system.rm_file(stale)
        system.put_file(str(folder / FILE), mark)
    except (OSError, ImportError, ValueError) as error:
        raise SlipwayError(f"The predictions cannot be copied to {uri}: {error}.") from error
