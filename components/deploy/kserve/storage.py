"""Where the cluster reads a bundle from: a URI that KServe's storage initializer understands."""

import re
from pathlib import Path

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.bundle import SIGNATURE
from slipway.components.contracts.release import Release
from slipway.components.support import tracking
from slipway.components.support.errors import SlipwayError

# The schemes of KServe's storage initializer (python/storage/kserve_storage); it knows no abfss.
_READABLE = ("s3://", "gs://", "hdfs://", "webhdfs://", "pvc://", "oci://", "https://")
_STORES = ("s3://", "gs://", "abfss://")
_ABFSS = re.compile(r"abfss://(?P<container>[^@/]+)@(?P<account>[^./]+)\.dfs\.[^/]+/?(?P<path>.*)")


def storage_uri(release: Release, folder: Path, config: DeploymentConfig) -> str:
    """The URI of a version's bundle, as the cluster can read it.

    Args:
        release: the registered version.
        folder: its bundle, downloaded and checked.
        config: `storage` names a prefix that the bundle is copied to, under its hash.

    Raises:
        SlipwayError: the registry's own URI cannot be read by KServe and no prefix is set, or the
            copy fails.
    """
    if config.storage:
        uri = f"{config.storage.rstrip('/')}/{release.name}/{release.model_hash}"
        if not uri.startswith(_STORES):
            raise SlipwayError(
                f"deployment.storage is {config.storage}: give an object-store prefix (s3, gs, abfss)."
            )
        _copy(folder, uri)
        return as_kserve_reads(uri)
    uri = as_kserve_reads(tracking.connect().resolve(release.bundle_uri))
    if not uri.startswith(_READABLE):
        raise SlipwayError(
            f"The bundle of version {release.model_version} lies at {uri}, which KServe cannot read."
            " Set deployment.storage to an object-store prefix (s3://bucket/models) that the bundle"
            " may be copied to, or give the MLflow server an object store that pods reach directly."
        )
    return uri


def as_kserve_reads(uri: str) -> str:
    """A URI as KServe's storage initializer takes it: Azure's by its blob address."""
    found = _ABFSS.match(uri)
    if not found:
        return uri
    return f"https://{found['account']}.blob.core.windows.net/{found['container']}/{found['path']}"


def _copy(folder: Path, uri: str) -> None:
    """Copies the files; the same hash is the same files, so a repeated copy changes nothing."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(uri)
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            target = f"{root}/{file.relative_to(folder).as_posix()}"
            # A signature comes after the hash: another one may be there, of the same size.
            known = system.exists(target) and system.size(target) == file.stat().st_size
            if file.name == SIGNATURE or not known:
                system.put_file(str(file), target)
    except (OSError, ImportError, ValueError) as error:
        raise SlipwayError(f"The bundle cannot be copied to {uri}: {error}.") from error
