"""The champion: what serves now, fetched whole from the registry and run with its own preprocessing."""

from dataclasses import dataclass
from pathlib import Path

from slipway.components.contracts.bundle import Bundle, bundle_hash, read_bundle
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import connect, failure, is_absent

ALIAS = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The model that the alias `champion` names, downloaded and checked."""

    model_version: str
    folder: Path
    bundle: Bundle


def fetch_champion(project: str, into: Path) -> Champion | None:
    """Downloads the champion's bundle and checks its hash.

    Args:
        project: the registered model's name.
        into: a scratch folder.

    Returns:
        None only where the registry says that there is no such model or alias.

    Raises:
        SlipwayError: there is a champion, but it cannot be read, or it is not what was registered.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = connect()
    try:
        version = client.get_model_version_by_alias(project, ALIAS)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise failure(error, "name the champion") from error
    try:
        source = version.tags["slipway.bundle_uri"]
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(into)))
        found, expected = bundle_hash(folder), version.tags["slipway.model_hash"]
        bundle = read_bundle(folder)
    except Exception as error:
        # Whatever keeps the champion from being read, the comparison cannot be made.
        raise SlipwayError(
            f"version {version.version} has the alias {ALIAS} but cannot be loaded:"
            f" {type(error).__name__}: {error}"
        ) from error
    if found != expected:
        raise SlipwayError(
            f"version {version.version} has the alias {ALIAS}, but its files have the hash"
            f" {found[:12]}, not {expected[:12]} as registered."
        )
    return Champion(model_version=str(version.version), folder=folder, bundle=bundle)
