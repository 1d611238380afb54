"""Release and deployment: what register hands deploy, and deploy hands monitor. One JSON file each."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

from slipway.components.contracts.record import Record
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import RegisteredVersion

EVIDENCE_INDEX = "evidence.json"
"""The file of a version's evidence that holds its hashes and run ids."""


class Tag(StrEnum):
    """What a registered version carries beside its metrics."""

    BUNDLE_URI = "slipway.bundle_uri"
    MODEL_URI = "slipway.model_uri"
    REFERENCE_URI = "slipway.reference_uri"
    EVIDENCE_URI = "slipway.evidence_uri"
    MODEL_HASH = "slipway.model_hash"
    DATA_HASH = "slipway.data_hash"
    EVIDENCE_HASH = "slipway.evidence_hash"
    SIGNED_BY = "slipway.signed_by"
    THRESHOLD = "slipway.threshold"
    REQUESTED = "slipway.requested_at"
    SERVED = "slipway.served_at"
    OVERRIDE_APPROVER = "slipway.override_approver"
    OVERRIDE_REASON = "slipway.override_reason"


def require_tags(version: RegisteredVersion, *tags: Tag) -> list[str]:
    """The values of tags that every version has that register made.

    Raises:
        SlipwayError: the version lacks one.
    """
    values = [version.tags.get(tag, "") for tag in tags]
    if missing := [tag for tag, value in zip(tags, values, strict=True) if not value]:
        raise SlipwayError(
            f"Version {version.version} of {version.name} was not registered by Slipway: it lacks the"
            f" tags {', '.join(missing)}. What it rests on cannot be checked, and it is not used."
        )
    return values


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

    @classmethod
    def of(cls, version: RegisteredVersion, alias: str = "") -> Self:
        """The release that a registered version is.

        Raises:
            SlipwayError: register did not make the version.
        """
        bundle_uri, model_hash = require_tags(version, Tag.BUNDLE_URI, Tag.MODEL_HASH)
        return cls(
            name=version.name,
            model_version=version.version,
            alias=alias,
            run_id=version.run_id,
            bundle_uri=bundle_uri,
            model_hash=model_hash,
            reference_uri=version.tags.get(Tag.REFERENCE_URI, ""),
        )

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
