"""Back to a version that served before: it answers first, and only then is it champion again."""

import tempfile
from datetime import timedelta
from pathlib import Path

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.bundle import Bundle, read_bundle
from slipway.components.contracts.monitoring.reference import ROWS
from slipway.components.contracts.release import Deployment, Release, Tag, require_tags
from slipway.components.deploy.deploy import (
    ALIAS,
    check_passed,
    fetch_bundle,
    put_in_service,
)
from slipway.components.deploy.golden import Golden, golden_of
from slipway.components.support import tracking
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import TrackingServer


def roll_back(*, project: str, config: DeploymentConfig, version: str | None = None) -> Deployment:
    """Serves an earlier version again, by the same way that a deploy takes.

    What a deploy has from the pipeline comes from the registry: the bundle, whose hash is checked, the
    gate's verdict from the evidence, and the golden rows from the reference. There is no observation
    window: a rollback is to remove the other model at once.

    Args:
        project: the project's name: the registered model and the endpoint.
        config: the `deployment` section.
        version: a registered version; None: the one that served before the champion.

    Returns:
        What now serves.

    Raises:
        SlipwayError: there is no such version, it never passed the gate, or it does not answer as it
            should. What served then serves on, and `champion` stays where it is.
    """
    server = tracking.connect()
    release, evidence_uri = _find(server, project, version)
    # The older version has proved itself in production; it answers golden rows and takes over.
    quick = config.model_copy(
        update={
            "canary": config.canary.model_copy(update={"share": 0, "local_window": timedelta(0)})
        }
    )
    with tempfile.TemporaryDirectory(prefix="slipway-rollback-") as scratch:
        for name in ("bundle", "evidence", "reference"):
            (Path(scratch) / name).mkdir()
        evidence = _fetch(server, evidence_uri, "verdict.json", Path(scratch) / "evidence")
        check_passed(evidence, release)
        folder = fetch_bundle(release, Path(scratch) / "bundle")
        rows = _fetch(server, release.reference_uri, ROWS, Path(scratch) / "reference")
        golden = _golden(folder, read_bundle(folder), rows)
        return put_in_service(release, folder, golden, project, quick)


def _find(server: TrackingServer, project: str, wanted: str | None) -> tuple[Release, str]:
    """The version to return to, and where its evidence lies."""
    versions = {int(found.version): found for found in server.list_versions(project)}
    champion = server.find_version(project, ALIAS) if versions else None
    if not versions:
        raise SlipwayError(f"The registry has no version of the model {project}.")
    served = sorted(number for number, found in versions.items() if Tag.SERVED in found.tags)
    known = ", ".join(str(number) for number in served) or "none"
    if wanted is None:
        if champion is None:
            raise SlipwayError(
                f"{project} has no {ALIAS}, so there is nothing to roll back from. Versions that have"
                f" served: {known}."
            )
        before = [number for number in served if number < int(champion.version)]
        if not before:
            raise SlipwayError(
                f"No version of {project} served before version {champion.version}, which is {ALIAS}."
                f" Versions that have served: {known}. Name one: slipway rollback VERSION."
            )
        wanted = str(before[-1])
    if not wanted.isdigit() or int(wanted) not in versions:
        raise SlipwayError(
            f"{project} has no version {wanted}. Versions that have served: {known}."
        )
    found = versions[int(wanted)]
    needed = (Tag.MODEL_HASH, Tag.BUNDLE_URI, Tag.REFERENCE_URI, Tag.EVIDENCE_URI)
    *_, evidence_uri = require_tags(found, *needed)
    return Release.of(found, ALIAS), evidence_uri


def _fetch(server: TrackingServer, uri: str, name: str, scratch: Path) -> Path:
    """One file of the registry's artifacts."""
    return server.fetch(f"{uri.rstrip('/')}/{name}", scratch, what=name)


def _golden(folder: Path, bundle: Bundle, rows: Path) -> Golden:
    """Golden rows of the version's own test part, from the sample that its reference keeps."""
    import pyarrow.parquet as pq

    names = [feature.name for feature in bundle.features]
    columns: list[object] = [*names, "part"]
    table = pq.read_table(rows, columns=columns, filters=[("part", "=", "test")]).select(names)
    if not table.num_rows:
        raise SlipwayError(
            f"The reference of {bundle.name} has no rows of the test part: the version cannot be"
            " asked anything before it serves."
        )
    return golden_of(folder, bundle, table)
