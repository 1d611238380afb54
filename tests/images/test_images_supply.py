"""Bills of materials and the audit's policy."""

import json
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from slipway.images import audit, sbom
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
