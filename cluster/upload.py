"""`slipway upload`: a compiled pipeline becomes a version on the server, once for each content."""

from dataclasses import dataclass

from slipway.cluster.api import Kubeflow
from slipway.cluster.checks import refuse_faults
from slipway.components.support.errors import SlipwayError
from slipway.components.support.settings import place_of, reference_in
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


def upload(kubeflow: Kubeflow, package: Package, data_root: str = "") -> Uploaded:
    """Uploads a package as a version named after its content; creates the pipeline at first.

    Settings that are too large for a parameter go to the data, before the version is there.

    Args:
        kubeflow: the server.
        package: the pipeline.
        data_root: where the data is, if not where the package says.

    Raises:
        SlipwayError: the package breaks a rule, the store or the server refuses it.
    """
    refuse_faults(package)
    place_settings(package, data_root)
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


def place_settings(package: Package, data_root: str = "") -> None:
    """Copies the files that a package's parameters name beside the data that its runs read.

    Args:
        package: the pipeline.
        data_root: where the data is, if not where the package says.

    Raises:
        SlipwayError: a file is not beside the package, or the store does not take it.
    """
    defaults = {name: p.get("defaultValue") for name, p in package.parameters.items()}
    root = data_root or str(defaults.get("data_root") or "")
    for name, value in defaults.items():
        if path := reference_in(value):
            _place(package, name, path, root)


def _place(package: Package, name: str, path: str, root: str) -> None:
    from fsspec.core import url_to_fs

    source, place = package.path.parent / path, place_of(path, root)
    if not source.is_file():
        raise SlipwayError(
            f"Parameter {name} of {package.name} is in {source}, which is not there. Run `slipway"
            " compile`, and keep its folder whole."
        )
    if "://" not in place:
        raise SlipwayError(
            f"Parameter {name} of {package.name} is too large to travel inside it, so it lies beside the"
            f" data, and data_root ({root or 'empty'}) is on this machine. Compile with --set"
            " data.root=s3://…, or give --set data_root=s3://… to `slipway submit`."
        )
    content = source.read_bytes()
    try:
        store, target = url_to_fs(place)
        if not store.exists(target) or store.cat_file(target) != content:
            store.pipe_file(target, content)
    except Exception as error:  # each store's library has errors of its own kind
        raise SlipwayError(
            f"Parameter {name} of {package.name} could not be written to {place}:"
            f" {' '.join(str(error).split())}. Give this machine's credentials for the store, or copy"
            f" {source} there by other means."
        ) from error
