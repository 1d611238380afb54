"""The KFP face of deploy."""

from kfp import dsl

from components.contracts.images import image


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

    from components.deploy.deploy import deploy_model

    result = deploy_model(
        release=Path(release.path),
        verdict=Path(verdict.path),
        splits=Path(splits.path),
        project=project,
        config={**config, "target": target},
        deployment=Path(deployment.path),
    )
    deployment.metadata.update(result.metadata())
    return result.endpoint
