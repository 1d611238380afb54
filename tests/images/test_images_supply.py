"""Bills of materials and the audit's policy."""

import json
import sys
import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from slipway.images import advisories, audit, sbom
from slipway.images.audit import ALLOW, judge, read_allowed
from slipway.images.plan import read_images
from slipway.images.sbom import locks, pins, write_bill

TODAY = date(2030, 1, 15)


def package(**finding: Any) -> dict[str, Any]:
    vulnerability = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"], **finding}
    return {"name": "x", "version": "1.0", "vulns": [vulnerability]}


@dataclass(frozen=True)
class Case:
    name: str
    package: dict[str, Any]
    allow: str
    expected: list[str]


FIXABLE = ["x 1.0: PYSEC-1, fixed in 2.0"]
CASES = [
    Case("clean", {"name": "x", "version": "1.0", "vulns": []}, "", []),
    Case("fixable", package(), "", FIXABLE),
    Case("no fix yet", package(fix_versions=[]), "", []),
    Case("accepted today", package(), "PYSEC-1 2030-01-15 why", []),
    Case("accepted by its alias", package(), "CVE-1 2031-01-01 why", []),
    Case("accepted until yesterday", package(), "PYSEC-1 2030-01-14 why", FIXABLE),
    Case("another one accepted", package(), "PYSEC-2 2031-01-01 why", FIXABLE),
    Case(
        "not audited",
        {"name": "x", "skip_reason": "no answer"},
        "",
        ["x was not audited: no answer"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_policy(case: Case) -> None:
    report = {"dependencies": [case.package], "fixes": []}
    assert judge(report, read_allowed(case.allow), TODAY) == case.expected


def test_the_committed_exceptions_can_be_read() -> None:
    read_allowed(ALLOW.read_text())


@pytest.mark.parametrize("name", ["predictor", "train"])
def test_a_bill_lists_every_locked_package_and_is_the_same_again(name: str, tmp_path: Path) -> None:
    first, second = write_bill(name, tmp_path / "1.json"), write_bill(name, tmp_path / "2.json")
    assert first.read_bytes() == second.read_bytes()
    bill = json.loads(first.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    found = {(c["name"], c["version"]) for c in bill["components"]}
    assert found == set(pins(name))
    assert all(c["purl"].startswith("pkg:pypi/") for c in bill["components"])
    assert bill["metadata"]["component"]["name"] == f"slipway/{name}"


def test_the_cuda_variant_has_a_bill_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbom, "FOLDER", tmp_path)
    monkeypatch.setenv("TORCH_BUILD", "cuda")
    assert sbom.main(["train", "evaluate"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluate.json", "train-cuda.json"]
    bill = json.loads((tmp_path / "train-cuda.json").read_text())
    found = {c["name"]: c["version"] for c in bill["components"]}
    assert "nvidia-cudnn-cu13" in found
    assert not found["torch"].endswith("+cpu")
    other = json.loads(write_bill("train", tmp_path / "train.json").read_text())
    assert other["serialNumber"] != bill["serialNumber"]


AUDITOR = """\
import json, pathlib, sys
asked = pathlib.Path(sys.argv[-1]).read_text().splitlines()
pathlib.Path("asked").write_text("\\n".join(asked))
packages = [dict(zip(("name", "version"), line.split("=="))) | {"vulns": []} for line in asked]
for package in packages:
    if package["name"] == "numpy":
        package["vulns"] = [{"id": "PYSEC-9", "aliases": [], "fix_versions": ["99.0"]}]
print(json.dumps({"dependencies": packages, "fixes": []}))
sys.exit(1)
"""


def test_the_audit_fails_on_a_finding_until_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "auditor.py").write_text(AUDITOR)
    monkeypatch.setenv("PIP_AUDIT", f"{sys.executable} {tmp_path / 'auditor.py'}")
    monkeypatch.chdir(tmp_path)
    assert audit.main(["predictor", "deploy"]) == 1
    assert "PYSEC-9, fixed in 99.0 (in predictor, deploy)" in capsys.readouterr().err
    allow = tmp_path / "audit.allow"
    allow.write_text("# id, last day, reason\nPYSEC-9 9999-12-31 not reached\n")
    monkeypatch.setattr(audit, "ALLOW", allow)
    assert audit.main(["predictor", "deploy"]) == 0


@pytest.mark.parametrize(
    ("auditor", "says"),
    [
        ("/no/such/pip-audit", "Install pip-audit"),
        ("sh -c 'echo no answer >&2; exit 1'", "no report about predictor: no answer"),
    ],
)
def test_an_audit_that_does_not_take_place_has_failed(
    auditor: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_AUDIT", auditor)
    assert audit.main(["predictor"]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("torch", "is_there"), [("cpu", False), ("cuda", True)])
def test_the_audit_asks_for_what_the_variant_holds(
    torch: str, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auditor.py").write_text(AUDITOR)
    monkeypatch.setenv("PIP_AUDIT", f"{sys.executable} {tmp_path / 'auditor.py'}")
    monkeypatch.setenv("TORCH_BUILD", torch)
    monkeypatch.chdir(tmp_path)
    audit.main(["train"])
    asked = (tmp_path / "asked").read_text()
    assert ("nvidia-cudnn-cu13==" in asked) is is_there
    assert "torch==" in asked
    assert "+cpu" not in asked


def test_every_image_has_the_base_in_its_bill() -> None:
    for name in read_images():
        assert next(p.parent.name for p in locks(name)) == "base"
    assert [p.name for p in locks("train", "cuda")] == [
        "requirements.lock",
        "torch-cuda.lock",
        "requirements.lock",
    ]


def snapshot(path: Path, *advisories: dict[str, Any], modified: str = "") -> Path:
    """A zip as OSV gives it."""
    modified = modified or f"{date.today()}T00:00:00Z"
    with zipfile.ZipFile(path, "w") as archive:
        for number, advisory in enumerate(advisories):
            text = json.dumps({"modified": modified, **advisory})
            archive.writestr(f"OSV-{number}.json", text)
    return path


def advisory(name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"name": name, "ecosystem": more.pop("ecosystem", "PyPI")},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
        "versions": more.pop("versions", []),
    }
    return {"id": "OSV-1", "aliases": ["CVE-1"], "affected": [affected], **more}


@pytest.mark.parametrize(
    ("found", "affected"),
    [
        (advisory("Some.Package", {"introduced": "0"}, {"fixed": "2.10"}), True),
        (advisory("some-package", {"fixed": "2.10"}, {"introduced": "2.9"}), True),
        (advisory("some-package", {"introduced": "0"}, {"fixed": "2.9"}), False),
        (advisory("some-package", {"introduced": "2.9.1"}), False),
        (advisory("some-package", {"introduced": "1"}, {"last_affected": "2.9"}), True),
        (advisory("some-package", {"introduced": "1"}, {"last_affected": "2.8"}), False),
        (advisory("some-package", versions=["2.9"]), True),
        (advisory("another", {"introduced": "0"}), False),
        (advisory("some-package", {"introduced": "0"}, ecosystem="npm"), False),
        (advisory("some-package", {"introduced": "0"}, withdrawn="2026-01-01"), False),
    ],
)
def test_a_carried_snapshot_says_what_is_affected(
    tmp_path: Path, found: dict[str, Any], affected: bool
) -> None:
    path = snapshot(tmp_path / "all.zip", found)
    report = advisories.report_from(path, [("some_package", "2.9+cpu"), ("other", "1")])
    first, second = report["dependencies"]
    assert (first["name"], first["version"], second["vulns"]) == ("some_package", "2.9", [])
    assert [v["id"] for v in first["vulns"]] == (["OSV-1"] if affected else [])


def test_the_audit_by_a_snapshot_fails_on_a_finding_and_where_it_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, version = next(iter(sbom.pins("predictor", "cpu")))
    bad = advisory(name, {"introduced": "0"}, {"fixed": "99"})
    monkeypatch.setenv("ADVISORIES", str(snapshot(tmp_path / "bad.zip", bad)))
    assert audit.main(["predictor"]) == 1
    assert f"{name} {version}: OSV-1, fixed in 99" in capsys.readouterr().err
    fine = snapshot(tmp_path / "fine.zip", advisory("unknown", {"introduced": "0"}))
    monkeypatch.setenv("ADVISORIES", str(fine))
    assert audit.main(["predictor"]) == 0 and "1 images audited" in capsys.readouterr().err
    (tmp_path / "text").write_text("no zip")
    useless = {
        "is no snapshot": tmp_path / "text",
        "No such file": tmp_path / "absent.zip",
        "holds no advisory": snapshot(tmp_path / "empty.zip"),
        "days ago": snapshot(tmp_path / "old.zip", bad, modified="2020-01-01T00:00:00Z"),
    }
    for says, path in useless.items():
        monkeypatch.setenv("ADVISORIES", str(path))
        assert audit.main(["predictor"]) == 1
        said = capsys.readouterr().err
        assert says in said and "DID NOT RUN" in said
