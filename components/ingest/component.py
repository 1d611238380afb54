"""The KFP faces of ingest: in one task, or in shards."""

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


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def plan_ingest(
    config: dict,
    data_root: str,
    window_start: str,
    window_end: str,
    shards: int,
    plan: dsl.Output[dsl.Artifact],
    data_version: str = "",
    scheduled_at: str = "",
    before: str = "",
    after: str = "",
    required: dict = {},  # noqa: B006  # kfp compiles the default
    may_be_empty: bool = False,
) -> list:
    """Settles once for all shards which files they read, and which rows each has.

    Args:
        config: As for `ingest`.
        data_root: As for `ingest`.
        window_start: As for `ingest`.
        window_end: As for `ingest`.
        shards: How many shards at most; 0: as many as the largest table asks for.
        plan: The files, and the rows of each shard.
        data_version: As for `ingest`.
        scheduled_at: As for `ingest`.
        before: As for `ingest`.
        after: As for `ingest`.
        required: As for `ingest`.
        may_be_empty: As for `ingest`.

    Returns:
        A text for each shard, which `ingest_shard` reads.
    """
    from pathlib import Path

    from slipway.components.config.data import read_window, widen
    from slipway.components.ingest.shards import plan_ingest as work
    from slipway.components.support.settings import given

    asked = read_window(window_start, window_end, scheduled_at)
    window = widen(asked, before, after).to_struct() if asked else {"start": "", "end": ""}
    return work(
        config=given("data", config, data_root),
        data_root=data_root,
        window_start=window["start"],
        window_end=window["end"],
        plan=Path(plan.path),
        shards=int(shards),
        required=required,
        may_be_empty=may_be_empty,
    ).shards


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def ingest_shard(
    plan: dsl.Input[dsl.Artifact],
    config: dict,
    data_root: str,
    shard: str,
    part: dsl.Output[dsl.Dataset],
):
    """Copies the rows of one shard of the source tables.

    Args:
        plan: What all shards agreed on.
        config: As for `ingest`.
        data_root: As for `ingest`.
        shard: Which shard it is, as planned.
        part: As the dataset of `ingest`, with the shard's rows alone.
    """
    from pathlib import Path

    from slipway.components.ingest.shards import ingest_shard as work
    from slipway.components.support.settings import given

    manifest = work(
        plan=Path(plan.path),
        config=given("data", config, data_root),
        data_root=data_root,
        shard=shard,
        part=Path(part.path),
    )
    # Little: Kubeflow gives the merge what is noted of all shards in one argument.
    part.metadata["rows"] = manifest.rows


@dsl.component(base_image=image("ingest"), install_kfp_package=False)
def merge_dataset(
    plan: dsl.Input[dsl.Artifact],
    parts: dsl.Input[list[dsl.Dataset]],
    shards: int,
    dataset: dsl.Output[dsl.Dataset],
) -> list:
    """Puts the shards of an ingest together, as if one task had read all.

    Args:
        plan: What all shards agreed on.
        parts: The rows of each shard.
        shards: In how many shards the next stage reads the dataset at most; 0: as many as it asks for.
        dataset: As that of `ingest`.

    Returns:
        A text for each shard of the next stage.
    """
    from pathlib import Path

    from slipway.components.ingest.shards import merge_dataset as work

    merged = work(
        plan=Path(plan.path),
        parts=[Path(part.path) for part in parts],
        dataset=Path(dataset.path),
        shards=int(shards),
    )
    dataset.metadata.update(merged.manifest.metadata())
    return merged.shards
