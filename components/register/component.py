"""The KFP face of register."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("register"), install_kfp_package=False)
def register(
    bundle: dsl.Input[dsl.Model],
    verdict: dsl.Input[dsl.Artifact],
    splits: dsl.Input[dsl.Dataset],
    card: dsl.Input[dsl.HTML],
    project: str,
    schema: str,
    features: dict,
    images: dict,
    release: dsl.Output[dsl.Artifact],
    data_root: str = "",
    pipeline_run: str = "",
):
    """Registers a model that passed the gate, with its evidence, as challenger.

    Args:
        bundle: The trained model.
        verdict: The gate's decision; anything but a pass for exactly this bundle is refused.
        splits: The data that it was trained and tested on: the reference for monitoring.
        card: The model card.
        project: The project's name: the registered model.
        schema: What the tables had to satisfy, as JSON text, for the evidence.
        features: The project's `features` section, for the evidence.
        images: The image of each stage and of the predictor, for the evidence.
        release: Name, version, alias and artifact URI of the registered version.
        data_root: Folder or object-store prefix below which large settings lie as files.
        pipeline_run: Id of the KFP run, for the evidence.
    """
    from pathlib import Path

    from slipway.components.register.evidence import Provenance, RegistrationInputs
    from slipway.components.register.register import register_model
    from slipway.components.support.settings import given

    result = register_model(
        RegistrationInputs(
            bundle_path=Path(bundle.path),
            splits_path=Path(splits.path),
            verdict_path=Path(verdict.path),
            card_path=Path(card.path),
            provenance=Provenance(
                schema=given("schema", schema, data_root),
                features=given("features", features, data_root),
                images=images,
                pipeline_run=pipeline_run,
            ),
        ),
        project=project,
        release_path=Path(release.path),
    )
    release.metadata.update(result.metadata())
