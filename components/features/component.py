"""The KFP faces of features: for training, for rows to predict, for a range of the past, to prune."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("features"), install_kfp_package=False)
def features(
    dataset: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    splits: dsl.Output[dsl.Dataset],
    data_root: str = "",
    scratch: str = "",
):
    """Joins features point in time through Feast, parts the rows, fills the online store.

    Args:
        dataset: The validated tables.
        project: The project's name: the Feast project.
        config: The project's `features` section: entities, examples, label, views, split.
        splits: Train, validation and test tables with the statistics of the training part.
        data_root: Folder or object-store prefix below which large settings lie as files.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.
    """
    from pathlib import Path

    from slipway.components.features.features import build_features
    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given

    use_scratch(scratch)
    result = build_features(
        dataset=Path(dataset.path),
        project=project,
        config=given("features", config, data_root),
        output=Path(splits.path),
    )
    splits.metadata.update(result.metadata())


@dsl.component(base_image=image("features"), install_kfp_package=False)
def scoring_features(
    dataset: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    window_start: str,
    window_end: str,
    rows: dsl.Output[dsl.Dataset],
    scheduled_at: str = "",
    data_root: str = "",
    scratch: str = "",
):
    """Joins features point in time to the rows of a window, whether or not they have a label.

    Args:
        dataset: The validated tables, with the history that the features look back on.
        project: The project's name: the Feast project.
        config: The project's `features` section: entities, examples, views.
        window_start: First instant of the rows, ISO 8601 (no zone means UTC); or how long before
            its end, as in 1d. Empty: all rows, where they have no time.
        window_end: First instant after them; empty: when the run was scheduled.
        rows: The rows with their features.
        scheduled_at: When the run was scheduled; it stands in for an empty window_end.
        data_root: Folder or object-store prefix below which large settings lie as files.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.
    """
    from pathlib import Path

    from slipway.components.config.data import read_window
    from slipway.components.features.look_up import look_up_features
    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given

    use_scratch(scratch)
    window = read_window(window_start, window_end, scheduled_at)
    result = look_up_features(
        dataset=Path(dataset.path),
        project=project,
        config=given("features", config, data_root),
        window=window,
        output=Path(rows.path),
    )
    rows.metadata.update(result.metadata())


@dsl.component(base_image=image("features"), install_kfp_package=False)
def backfill(
    dataset: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    window_start: str,
    window_end: str,
    online: bool,
    record: dsl.Output[dsl.Artifact],
    scheduled_at: str = "",
    data_root: str = "",
    scratch: str = "",
):
    """Recomputes the feature values of a range, in the offline and the online store.

    Args:
        dataset: The validated tables, reaching beyond the range as far as the features do.
        project: The project's name: the Feast project.
        config: The project's `features` section: entities, views.
        window_start: First instant of the range, ISO 8601 (no zone means UTC); or how long before
            its end, as in 7d. Empty: all values, where the examples have no time.
        window_end: First instant after it; empty: when the run was scheduled.
        online: Whether to write the online store too.
        record: Rows a view that were replaced and written, as JSON.
        scheduled_at: When the run was scheduled; it stands in for an empty window_end.
        data_root: Folder or object-store prefix below which large settings lie as files.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.
    """
    from pathlib import Path

    from slipway.components.config.data import read_window
    from slipway.components.features.backfill import backfill_features
    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given

    use_scratch(scratch)
    window = read_window(window_start, window_end, scheduled_at)
    result = backfill_features(
        dataset=Path(dataset.path),
        project=project,
        config=given("features", config, data_root),
        window=window,
        online=online,
        record=Path(record.path),
    )
    record.metadata.update(result.metadata())


@dsl.component(base_image=image("features"), install_kfp_package=False)
def prune_online(project: str, config: dict, data_root: str = "") -> int:
    """Removes the rows of the online store that are past their view's TTL for long enough.

    Args:
        project: The project's name: the Feast project.
        config: The project's `monitoring` section: its `retention.online`.
        data_root: Folder or object-store prefix below which large settings lie as files.

    Returns:
        How many rows were removed.
    """
    from slipway.components.config.monitoring import MonitoringConfig
    from slipway.components.features.store.past import prune_online as work
    from slipway.components.support.settings import given

    settings = MonitoringConfig.parse(given("monitoring", config, data_root), "monitoring")
    grace = settings.retention.online
    return 0 if grace is None else sum(work(project, grace).views.values())
