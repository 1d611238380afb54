"""The KFP faces of deploy: behind an endpoint, or over a table, in one task or in shards."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def deploy(
    release: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    splits: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    target: str,
    deployment: dsl.Output[dsl.Artifact],
) -> str:
    """Serves the registered version, asks it real rows, and only then makes it champion.

    Args:
        release: The registered version.
        verdict: The gate's decision; it is checked again.
        splits: Real rows to ask the new endpoint.
        project: The project's name: the served model.
        config: The project's `deployment` section.
        target: "kserve" or "local".
        deployment: Endpoint, version and inference log of what now serves.

    Returns:
        The endpoint's base URL.
    """
    from pathlib import Path

    from slipway.components.deploy.deploy import deploy_model

    result = deploy_model(
        release=Path(release.path),
        verdict=Path(verdict.path),
        splits=Path(splits.path),
        project=project,
        config=config,
        parameters={"deployment_target": target},
        deployment=Path(deployment.path),
    )
    deployment.metadata.update(result.metadata())
    return result.endpoint


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def score(
    rows: dsl.Input[dsl.Dataset],
    project: str,
    model: str,
    predictions: dsl.Output[dsl.Dataset],
    publish: str = "",
) -> str:
    """Predicts every row of a table with a registered version, whose hash is checked.

    Args:
        rows: The rows with their features.
        project: The project's name: the registered model.
        model: Which version: an alias, such as champion, or a number.
        predictions: Key, probability, label and features of each row, as parquet, a folder a day.
        publish: Folder or object-store prefix that the predictions are copied below too.

    Returns:
        The version that answered.
    """
    from pathlib import Path

    from slipway.components.deploy.score import score_rows

    result = score_rows(
        rows=Path(rows.path),
        project=project,
        model=model,
        predictions=Path(predictions.path),
        publish=publish,
    )
    predictions.metadata.update(result.metadata())
    return result.model_version


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def plan_scoring(
    rows: dsl.Input[dsl.Dataset],
    project: str,
    model: str,
    shards: int,
) -> list:
    """Settles once for all shards which version scores, as of when, and which rows each has.

    Args:
        rows: The rows with their features.
        project: The project's name: the registered model.
        model: Which version: an alias, such as champion, or a number.
        shards: How many shards at most; 0: as many as the rows ask for.

    Returns:
        A text for each shard, which `score_shard` reads.
    """
    from pathlib import Path

    from slipway.components.deploy.score_shards import plan_scoring as work

    return work(rows=Path(rows.path), project=project, model=model, shards=int(shards)).shards


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def score_shard(
    rows: dsl.Input[dsl.Dataset],
    project: str,
    shard: str,
    predictions: dsl.Output[dsl.Dataset],
):
    """Predicts the rows of one shard of a table.

    Args:
        rows: The rows of all shards, with their features.
        project: The project's name: the registered model.
        shard: Which shard it is, as planned.
        predictions: As those of `score`, of the shard's rows alone.
    """
    from pathlib import Path

    from slipway.components.deploy.score_shards import score_shard as work

    result = work(
        rows=Path(rows.path), project=project, shard=shard, predictions=Path(predictions.path)
    )
    # Little: Kubeflow gives the merge what is noted of all shards in one argument.
    predictions.metadata["rows"] = result.rows


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def merge_predictions(
    parts: dsl.Input[list[dsl.Dataset]],
    predictions: dsl.Output[dsl.Dataset],
    publish: str = "",
) -> str:
    """Puts the shards of a scored table together, as if one task had scored it.

    Args:
        parts: The predictions of each shard.
        predictions: Those of the whole table, as `score` gives them.
        publish: Folder or object-store prefix that the predictions are copied below too.

    Returns:
        The version that answered.
    """
    from pathlib import Path

    from slipway.components.deploy.score_shards import merge_predictions as work

    result = work(
        parts=[Path(part.path) for part in parts],
        predictions=Path(predictions.path),
        publish=publish,
    )
    predictions.metadata.update(result.metadata())
    return result.model_version
