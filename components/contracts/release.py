"""Release and deployment: what register hands deploy, and deploy hands monitor. One JSON file each."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import write_json

VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A registered model version.

    Attributes:
        name: the registered model. model_version: its version. alias: the alias that it got.
        run_id: the MLflow run that it came from.
        bundle_uri: where the bundle's files lie (the version's artifact URI and a sub-folder).
        model_hash: `bundle_hash` of the bundle: deploy checks it after download.
        reference_uri: the folder that monitoring compares with (see components/register).
    """

    name: str
    model_version: str
    alias: str
    run_id: str
    bundle_uri: str
    model_hash: str
    reference_uri: str = ""
    version: int = VERSION

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return f"{self.name} version {self.model_version} as {self.alias}"

    def metadata(self) -> dict[str, str]:
        """What the KFP artifact shows."""
        return {
            "name": self.name,
            "model_version": self.model_version,
            "alias": self.alias,
            "run_id": self.run_id,
            "bundle_uri": self.bundle_uri,
            "model_hash": self.model_hash,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A live endpoint.

    Attributes:
        endpoint: base URL of the V2 protocol, without a trailing slash.
        target: "local" or "kserve".
        model_version: the registered version that serves.
        inference_log: URI of the folder that the predictor's log is written below.
    """

    name: str
    endpoint: str
    target: str
    model_version: str
    model_hash: str
    inference_log: str
    version: int = VERSION

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return f"{self.name} version {self.model_version} at {self.endpoint}"


def write_record(path: Path, record: Release | Deployment) -> None:
    """Writes a release or a deployment, atomically."""
    write_json(path, asdict(record))


def read_record(path: Path, kind: type[T]) -> T:
    """Reads a release or a deployment.

    Raises:
        SlipwayError: the file is missing, damaged or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = kind(**content)
    except (OSError, ValueError, TypeError) as error:
        raise SlipwayError(f"{path} is not a {kind.__name__.lower()}: {error}.") from error
    if content.get("version") != VERSION:
        raise SlipwayError(f"{path} has another version than {VERSION}. Run the stage again.")
    return record
