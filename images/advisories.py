"""Advisories from a snapshot that was carried here: the audit of a place without a network.

The snapshot is OSV's of PyPI, one zip with a JSON file an advisory, as
https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip gives it (OSV schema 1.x). A package is
affected where an advisory lists its version, or where one of its ECOSYSTEM ranges holds it.
"""

import json
import re
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

OLDEST_DAYS = 30
"""A snapshot that is older says nothing of what was found since."""


class SnapshotError(Exception):
    """The snapshot cannot be used; the message says why."""


def report_from(snapshot: Path, pins: Iterable[tuple[str, str]]) -> dict[str, object]:
    """What a snapshot knows of the pinned packages, in the form of pip-audit's report.

    Args:
        snapshot: the zip.
        pins: package and version.

    Raises:
        SnapshotError: it is none, is damaged, or its newest advisory is older than `OLDEST_DAYS`.
    """
    wanted = {_canonical(name): (name, version.split("+")[0]) for name, version in pins}
    found: dict[str, list[dict[str, object]]] = {name: [] for name in wanted}
    newest, count = "", 0
    try:
        for advisory in _read(snapshot):
            count += 1
            newest = max(newest, str(advisory.get("modified", "")))
            if advisory.get("withdrawn"):
                continue
            for affected in advisory.get("affected") or ():
                package = affected.get("package") or {}
                name = _canonical(str(package.get("name", "")))
                if package.get("ecosystem") != "PyPI" or name not in wanted:
                    continue
                if _is_affected(affected, wanted[name][1]):
                    found[name].append(_finding(advisory, affected))
    except (OSError, zipfile.BadZipFile, ValueError, AttributeError, TypeError) as error:
        raise SnapshotError(f"{snapshot} is no snapshot of OSV's: {error}.") from error
    if not count:
        raise SnapshotError(f"{snapshot} holds no advisory.")
    age = (time.time() - _seconds(newest)) / 86_400
    if age > OLDEST_DAYS:
        raise SnapshotError(
            f"{snapshot} ends on {newest[:10]}, {age:.0f} days ago; carry a newer one here."
        )
    return {
        "dependencies": [
            {"name": wanted[name][0], "version": wanted[name][1], "vulns": vulns}
            for name, vulns in found.items()
        ]
    }


def _read(snapshot: Path) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(snapshot) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".json"):
                yield json.loads(archive.read(entry))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _seconds(moment: str) -> float:
    try:
        return time.mktime(time.strptime(moment[:10], "%Y-%m-%d"))
    except ValueError:
        return 0.0


def _is_affected(affected: dict[str, Any], version: str) -> bool:
    if version in (affected.get("versions") or ()):
        return True
    return any(
        _is_in(span.get("events") or (), version)
        for span in affected.get("ranges") or ()
        if span.get("type") == "ECOSYSTEM"
    )


def _is_in(events: Iterable[dict[str, str]], version: str) -> bool:
    """Whether a version lies in a range, its events taken in the order of their versions."""
    mine, inside = Version(version), False
    for event in sorted(events, key=lambda event: _version(next(iter(event.values()), "0"))):
        ((kind, at),) = event.items()
        if kind == "introduced" and _version(at) <= mine:
            inside = True
        elif (kind == "fixed" and _version(at) <= mine) or (
            kind == "last_affected" and _version(at) < mine
        ):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _finding(advisory: dict[str, Any], affected: dict[str, Any]) -> dict[str, object]:
    fixed = {
        event["fixed"]
        for span in affected.get("ranges") or ()
        if span.get("type") == "ECOSYSTEM"
        for event in span.get("events") or ()
        if "fixed" in event
    }
    return {
        "id": str(advisory.get("id", "")),
        "aliases": list(advisory.get("aliases") or ()),
        "fix_versions": sorted(fixed),
    }
