"""The KFP face of validate."""

from kfp import dsl

from slipway.components.support.images import image


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def validate(
    dataset: dsl.Input[dsl.Dataset],
    schema: str,
    good: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    results: dsl.Output[dsl.Artifact],
    project: str = "",
    data_root: str = "",
    scratch: str = "",
):
    """Checks every row against the schema and sets bad rows apart, each with its reasons.

    Args:
        dataset: The ingested tables.
        schema: The content of the project's schema file as JSON text; or the file below the data root
            that holds it, where it is large.
        good: The rows that passed.
        quarantine: The rows that did not, with a column of reasons.
        report: The checks and their counts, to look at.
        results: The same as JSON.
        project: Name of the project, for the report's title.
        data_root: Folder or object-store prefix that such a file lies below.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.
    """
    from pathlib import Path

    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given
    from slipway.components.validate.validate import validate_dataset

    use_scratch(scratch)
    result = validate_dataset(
        dataset=Path(dataset.path),
        schema=given("schema", schema, data_root),
        good=Path(good.path),
        quarantine=Path(quarantine.path),
        report=Path(report.path),
        results=Path(results.path),
        project=project,
    )
    good.metadata.update(result.good.metadata())
    quarantine.metadata.update(result.quarantine.metadata())
