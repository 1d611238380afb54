"""The work of deploy: from a registered version to a live endpoint, and only then to champion."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.bundle import bundle_hash, read_bundle
from slipway.components.contracts.release import Deployment, Release, Tag
from slipway.components.contracts.signing.keyless import check_keyless
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import describe_signer
from slipway.components.contracts.verdict import read_verdict
from slipway.components.support import environment, tracking
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress, stage

if TYPE_CHECKING:
    from slipway.components.deploy.golden import Golden

ALIAS = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployResult:
    """What now serves."""

    record: Deployment

    @property
    def endpoint(self) -> str:
        """Base URL of the V2 protocol."""
        return self.record.endpoint

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return self.record.headline

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return asdict(self.record)


@stage("deploy")
def deploy_model(
    *,
    release: Path,
    verdict: Path,
    splits: Path,
    project: str,
    config: dict[str, object],
    deployment: Path,
    parameters: Mapping[str, object] | None = None,
) -> DeployResult:
    """Serves a registered version and makes it champion once it answers real rows rightly.

    Args:
        release: record of the registered version.
        verdict: the gate's decision, checked again here.
        splits: the test part gives the golden rows.
        project: the project's name: the served model.
        config: the `deployment` section.
        deployment: where the record of the endpoint is written.
        parameters: what of the section is a pipeline parameter of its own, by parameter.

    Raises:
        SlipwayError: the verdict is no pass for exactly this model, the downloaded bundle is not
            the registered one, or the new model does not load, answers wrongly or is too slow. An
            earlier model then keeps serving, and stays champion.
    """
    settings = DeploymentConfig.parse(config, "deployment", parameters)
    version = Release.read(release)
    check_passed(verdict, version)

    from slipway.components.deploy.golden import golden_rows

    with tempfile.TemporaryDirectory(prefix="slipway-deploy-") as scratch:
        folder = fetch_bundle(version, Path(scratch))
        golden = golden_rows(folder, read_bundle(folder), splits)
        record = put_in_service(version, folder, golden, project, settings)
    record.write(deployment)
    return DeployResult(record=record)


def put_in_service(
    version: Release, folder: Path, golden: "Golden", project: str, config: DeploymentConfig
) -> Deployment:
    """Rolls a checked bundle out and makes it champion once it has answered: deploy and rollback alike.

    Raises:
        SlipwayError: the version does not take over; the one before serves on and stays champion.
    """
    progress(f"rolling out to {config.target}")
    alone: AbstractContextManager[None] = nullcontext()
    if config.target == "kserve":
        from slipway.components.deploy.kserve.target import roll_out
    else:
        from slipway.components.deploy.local.target import alone_at, roll_out

        alone = alone_at(environment.home(), project)
    with alone:
        endpoint = roll_out(
            folder=folder, release=version, golden=golden, project=project, config=config
        )
        _make_champion(version)
    return Deployment(
        name=project,
        endpoint=endpoint,
        target=config.target,
        model_version=version.model_version,
        model_hash=version.model_hash,
        inference_log=environment.inference_log_uri(),
    )


def check_passed(path: Path, version: Release) -> None:
    """Holds a verdict against a version.

    Raises:
        SlipwayError: it is no pass, or about another model.
    """
    verdict = read_verdict(path)
    if verdict.outcome != "pass":
        raise SlipwayError(
            f"{version.name} version {version.model_version} was refused by the gate and is not"
            f" deployed: {' '.join(verdict.reasons)}"
        )
    if verdict.model_hash != version.model_hash:
        raise SlipwayError(
            f"The verdict is about the model {verdict.model_hash[:12]}, the release is"
            f" {version.model_hash[:12]}: it is not deployed. Evaluate the registered model."
        )


def fetch_bundle(version: Release, scratch: Path) -> Path:
    """The version's bundle, as the registry has it, checked against what the gate saw and who signed it.

    Raises:
        SlipwayError: it cannot be fetched, was changed after the gate, or is signed by nobody whom this
            place trusts.
    """
    policy = TrustPolicy.here()
    progress(f"downloading {version.name} version {version.model_version}")
    what = f"The bundle of {version.name} version {version.model_version}"
    folder = tracking.connect().fetch(version.bundle_uri, scratch, what=what)
    found = bundle_hash(folder)
    if found != version.model_hash:
        raise SlipwayError(
            f"The bundle at {version.bundle_uri} has the hash {found[:12]}, the registered model"
            f" {version.model_hash[:12]}: it was changed after the gate and is not deployed."
        )
    if signer := policy.check(folder, check_keyless):
        progress(f"signed by {describe_signer(signer, trusted=True)}")
    return folder


def _make_champion(version: Release) -> None:
    try:
        server = tracking.connect()
        server.point_alias(version.name, ALIAS, version.model_version)
        # A rollback returns to versions that have served, and to no other.
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        server.tag_version(version.name, version.model_version, {Tag.SERVED: moment})
    except tracking.TrackingError as error:
        raise SlipwayError(
            f"Version {version.model_version} of {version.name} serves, but the alias {ALIAS} could"
            f" not be moved to it: {error} Run deploy again; it will find the endpoint as it is."
        ) from error
