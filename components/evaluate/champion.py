"""The champion: what serves now, fetched whole from the registry and run with its own preprocessing."""

from dataclasses import dataclass
from pathlib import Path

from slipway.components.contracts.bundle import Bundle, bundle_hash, read_bundle
from slipway.components.contracts.release import Tag, require_tags
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import PATIENCE_SECONDS, TrackingError, connect

ALIAS = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The model that the alias `champion` names, downloaded and checked."""

    model_version: str
    folder: Path
    bundle: Bundle


def fetch_champion(
    project: str, into: Path, *, patience: float = PATIENCE_SECONDS
) -> Champion | None:
    """Downloads the champion's bundle and checks its hash.

    Args:
        project: the registered model's name.
        into: a scratch folder.
        patience: seconds for which a registry that does not answer is asked again.

    Returns:
        None only where the registry says that there is no such model or alias.

    Raises:
        TrackingError: the registry could not be asked, so whether there is a champion is not known.
        SlipwayError: there is a champion, but it cannot be read, or it is not what was registered.
    """
    server = connect(patience=patience)
    version = server.find_version(project, ALIAS)
    if version is None:
        return None
    source, expected = require_tags(version, Tag.BUNDLE_URI, Tag.MODEL_HASH)
    try:
        folder = server.fetch(source, into, what=f"the bundle of version {version.version}")
        found, bundle = bundle_hash(folder), read_bundle(folder)
    except TrackingError:
        raise
    except Exception as error:
        # Whatever else keeps the champion from being read, the comparison cannot be made.
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
