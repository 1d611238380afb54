"""The KFP face of features."""

from kfp import dsl

from components.contracts.images import image


@dsl.component(base_image=image("features"), install_kfp_package=False)
def features(
    dataset: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    splits: dsl.Output[dsl.Dataset],
):
    """Joins features point in time through Feast, splits by time, fills the online store.

    Args:
        dataset: The validated tables.
        project: The project's name: the Feast project.
        config: The project's `features` section: entities, examples, label, views, split.
        splits: Train, validation and test tables with the statistics of the training part.
    """
    from pathlib import Path

    from components.features.features import build_features

    result = build_features(
        dataset=Path(dataset.path), project=project, config=config, output=Path(splits.path)
    )
    splits.metadata.update(result.metadata())
