"""The KFP face of ingest."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def ingest(
    config: dict,
    data_root: str,
    window_start: str,
    window_end: str,
    dataset: dsl.Output[dsl.Dataset],
    data_version: str = "",
    scheduled_at: str = "",
    before: str = "",
    after: str = "",
    required: dict = {},  # noqa: B006  # kfp compiles the default
    may_be_empty: bool = False,
):
    """Copies a window of the source tables into a dataset with a manifest.

    Args:
        config: The project's `data` section: tables with path, format, time and columns; or the file
            below `data_root` that holds it, where it is large.
        data_root: Folder or object-store prefix that relative table paths start from.
        window_start: First instant of the window, ISO 8601 (no zone means UTC); or how long before
            its end, as in 1d. Empty: the tables whole, where none has a time.
        window_end: First instant after the window; empty: when the run was scheduled.
        dataset: The tables as parquet with a manifest of rows, bytes and content hashes.
        data_version: Any text. A cached result serves as long as it stays the same.
        scheduled_at: When the run was scheduled; it stands in for an empty window_end.
        before: How long before the window the tables are read too, as in 30d: features look back.
        after: How long after it.
        required: Columns that tables must have: table to column to the setting that names it.
        may_be_empty: Whether a table may have no row in the window, as when nothing is known yet.
    """
    from pathlib import Path

    from slipway.components.config.data import read_window, widen
    from slipway.components.ingest.ingest import ingest_tables
    from slipway.components.support.settings import given

    asked = read_window(window_start, window_end, scheduled_at)
    window = widen(asked, before, after).to_struct() if asked else {"start": "", "end": ""}
    manifest = ingest_tables(
        config=given("data", config, data_root),
        data_root=data_root,
        window_start=window["start"],
        window_end=window["end"],
        output=Path(dataset.path),
        required=required,
        may_be_empty=may_be_empty,
    )
    dataset.metadata.update(manifest.metadata())
