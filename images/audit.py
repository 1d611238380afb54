"""Holds the images' locks against the vulnerability databases, by a policy that fails closed.

    python -m images.audit [NAME …]      PIP_AUDIT="uvx pip-audit" where pip-audit is not installed;
                                         TORCH_BUILD=cuda for that variant of train
                                         ADVISORIES=all.zip: OSV's snapshot, without a network

A finding fails where a version that fixes it exists, unless `images/audit.allow` lists it with a day
until which that is accepted. A package that could not be audited fails too: pip-audit itself only says
that it skipped it, and reports "no known vulnerabilities" where it reached no database at all.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from .build import BuildSettings
from .plan import ROOT, read_images
from .sbom import pins

ALLOW = ROOT / "images" / "audit.allow"


class AuditError(Exception):
    """The audit did not take place; the message says why."""


def main(arguments: Sequence[str]) -> int:
    """Audits the images that are named, or all; 1 where the policy is broken."""
    allowed = read_allowed(ALLOW.read_text(encoding="utf-8"))
    problems: dict[str, list[str]] = {}
    audited = 0
    settings = BuildSettings.read(os.environ)
    for name in arguments or read_images():
        try:
            report = audit(name, settings.torch_of(name))
        except AuditError as error:
            print(f"error: {error}\nThe audit DID NOT RUN: nothing is known.", file=sys.stderr)
            return 1
        audited += 1
        for problem in judge(report, allowed, date.today()):
            problems.setdefault(problem, []).append(name)
    for problem, names in sorted(problems.items()):
        print(f"{problem} (in {', '.join(names)})", file=sys.stderr)
    print(f"{audited} images audited, {len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


def audit(name: str, torch: str = "cpu") -> dict[str, object]:
    """What pip-audit reports about an image's locks, with the one or the other build of torch.

    Raises:
        AuditError: pip-audit is not here, or gave no report.
    """
    if carried := os.environ.get("ADVISORIES"):
        from .advisories import SnapshotError, report_from

        try:
            return report_from(Path(carried), pins(name, torch))
        except SnapshotError as error:
            raise AuditError(str(error)) from error
    # Databases know a release, not its builds: 2.13.0+cpu is 2.13.0 there.
    requirements = [f"{package}=={version.split('+')[0]}" for package, version in pins(name, torch)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements))
        file.flush()
        command = shlex.split(os.environ.get("PIP_AUDIT", "pip-audit"))
        options = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--no-deps"]
        try:
            done = subprocess.run(
                [*command, *options, "-r", file.name], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise AuditError(
                f"{command[0]} cannot be started ({error.strerror}). Install pip-audit, or say in"
                ' PIP_AUDIT how it is started: PIP_AUDIT="uvx pip-audit".'
            ) from error
    try:
        report: dict[str, object] = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines()[-1:]
        raise AuditError(f"pip-audit gave no report about {name}: {' '.join(said)}") from error
    return report


def judge(report: dict[str, Any], allowed: dict[str, date], today: date) -> list[str]:
    """What breaks the policy in a report of pip-audit.

    Args:
        report: as its JSON has it.
        allowed: id of a finding to the last day on which it is accepted.
        today: the day.
    """
    problems = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            problems.append(f"{package['name']} was not audited: {package['skip_reason']}")
            continue
        for finding in package["vulns"]:
            names = {finding["id"], *finding.get("aliases", ())}
            accepted = any(allowed.get(name, date.min) >= today for name in names)
            if finding["fix_versions"] and not accepted:
                fixed = ", ".join(finding["fix_versions"])
                problems.append(
                    f"{package['name']} {package['version']}: {finding['id']}, fixed in {fixed}"
                )
    return problems


def read_allowed(text: str) -> dict[str, date]:
    """Reads `audit.allow`: an id, the last day, and the reason on each line."""
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line and line[0] != "#"]
    return {identifier: date.fromisoformat(day) for identifier, day, _ in rows}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
