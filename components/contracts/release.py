"""Release and deployment: what register hands deploy, and deploy hands monitor. One JSON file each."""

from dataclasses import dataclass
from typing import ClassVar

from slipway.components.contracts.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Record):
    """A registered model version.

    Attributes:
        name: the registered model. model_version: its version. alias: the alias that it got.
        run_id: the MLflow run that it came from.
        bundle_uri: where the bundle's files lie (the version's artifact URI and a sub-folder).
        model_hash: `bundle_hash` of the bundle: deploy checks it after download.
        reference_uri: the folder that monitoring compares with (see components/register).
    """

    ABSENT: ClassVar[str] = "holds no release"

    name: str
    model_version: str
    alias: str
    run_id: str
    bundle_uri: str
    model_hash: str
    reference_uri: str = ""

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
class Deployment(Record):
    """A live endpoint.

    Attributes:
        endpoint: base URL of the V2 protocol, without a trailing slash.
        target: "local" or "kserve".
        model_version: the registered version that serves.
        inference_log: URI of the folder that the predictor's log is written below.
    """

    ABSENT: ClassVar[str] = "holds no deployment"

    name: str
    endpoint: str
    target: str
    model_version: str
    model_hash: str
    inference_log: str

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return f"{self.name} version {self.model_version} at {self.endpoint}"
