"""The KFP faces of validate: in one task, or in shards."""

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


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def validate_shard(
    dataset: dsl.Input[dsl.Dataset],
    schema: str,
    shard: str,
    part: dsl.Output[dsl.Dataset],
    data_root: str = "",
    scratch: str = "",
):
    """Checks the rows of one shard against the schema and sets bad rows apart.

    Args:
        dataset: The ingested tables, whole.
        schema: As for `validate`.
        shard: Which shard it is, from the merge of the ingest.
        part: The shard's good rows, the others, and what was found.
        data_root: Folder or object-store prefix that a large schema lies below.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.
    """
    from pathlib import Path

    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given
    from slipway.components.validate.shards import validate_shard as work

    use_scratch(scratch)
    found = work(
        dataset=Path(dataset.path),
        schema=given("schema", schema, data_root),
        shard=shard,
        part=Path(part.path),
    )
    # Little: Kubeflow gives the merge what is noted of all shards in one argument.
    part.metadata["rows"] = sum(table.rows for table in found.tables.values())


@dsl.component(base_image=image("validate"), install_kfp_package=False)
def merge_validated(
    parts: dsl.Input[list[dsl.Dataset]],
    good: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    results: dsl.Output[dsl.Artifact],
    project: str = "",
):
    """Puts the shards of a validation together and judges, as if one task had checked all.

    Args:
        parts: What each shard found.
        good: The rows that passed.
        quarantine: The rows that did not, with a column of reasons.
        report: The checks and their counts, to look at.
        results: The same as JSON.
        project: Name of the project, for the report's title.
    """
    from pathlib import Path

    from slipway.components.validate.shards import merge_validated as work

    result = work(
        parts=[Path(part.path) for part in parts],
        good=Path(good.path),
        quarantine=Path(quarantine.path),
        report=Path(report.path),
        results=Path(results.path),
        project=project,
    )
    good.metadata.update(result.good.metadata())
    quarantine.metadata.update(result.quarantine.metadata())
