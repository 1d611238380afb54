"""`slipway upload`: a compiled pipeline becomes a version on the server, once for each content."""

from dataclasses import dataclass

from slipway.cluster.api import Kubeflow
from slipway.cluster.checks import refuse_faults
from slipway.pipelines.package import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A version on the server.

    Attributes:
        created: false where exactly this content was there already.
    """

    pipeline: str
    pipeline_id: str
    version: str
    version_id: str
    created: bool
    link: str


def upload(kubeflow: Kubeflow, package: Package) -> Uploaded:
    """Uploads a package as a version named after its content; creates the pipeline at first.

    Raises:
        SlipwayError: the package breaks a rule, or the server refuses it.
    """
    refuse_faults(package)
    pipeline = kubeflow.find_pipeline(package.name)
    if pipeline is None:
        pipeline = kubeflow.create_pipeline(package.name, package.description)
        version = None
    else:
        version = kubeflow.find_version(pipeline.pipeline_id, package.version_name)
    created = version is None
    if version is None:
        version = kubeflow.upload_version(
            pipeline.pipeline_id,
            package.path,
            package.version_name,
            f"{package.description} Content sha256:{package.digest}.".strip(),
        )
    return Uploaded(
        pipeline=package.name,
        pipeline_id=pipeline.pipeline_id,
        version=package.version_name,
        version_id=version.pipeline_version_id,
        created=created,
        link=kubeflow.link(
            "pipelines", f"{pipeline.pipeline_id}/version/{version.pipeline_version_id}"
        ),
    )
