"""Evidence: what a registered version was made from, so that anyone can check it years later.

The folder `evidence/` of a version, layout version 1::

    evidence.json       the index: hashes, commit, images, seeds, run ids, and the SHA-256 of every file
    verdict.json        the gate's decision, rule by rule
    card.html           the model card
    splits.json         features, split, statistics
    bundle.json         the model's signature. training.json: the training log
    images.lock.yaml    the images of all stages
    requirements.txt    the Python environment that registered
    sbom.cdx.json       the same as a CycloneDX 1.6 bill of materials

The index also names every file of the bundle and of the reference. The version's tag
`slipway.evidence_hash` is the SHA-256 of the index, so nothing can be exchanged unseen.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from components.contracts import images
from components.contracts.bundle import FILE as BUNDLE
from components.contracts.bundle import TRAINING, bundle_hash, read_bundle
from components.contracts.errors import SlipwayError
from components.contracts.files import hash_file, write_json, write_text
from components.contracts.splits import FILE as SPLITS
from components.contracts.splits import read_splits
from components.contracts.tracking import connect
from components.contracts.verdict import read_verdict

VERSION = 1
INDEX = "evidence.json"
_PARTS = ("bundle", "reference", "evidence")


def write_evidence(
    folder: Path,
    *,
    bundle: Path,
    reference: Path,
    splits: Path,
    verdict: Path,
    card: Path,
    run_id: str,
    pipeline_run: str = "",
) -> str:
    """Gathers the evidence and writes its index last.

    Args:
        folder: the empty folder to fill.
        bundle: the model's folder.
        reference: the folder that monitoring compares with.
        splits: the tables' folder.
        verdict: the verdict's file.
        card: the model card's file.
        run_id: the MLflow run.
        pipeline_run: the KFP run, where there is one.

    Returns:
        SHA-256 of the index.
    """
    for source, name in (
        (verdict, "verdict.json"),
        (card, "card.html"),
        (splits / SPLITS, SPLITS),
        (bundle / BUNDLE, BUNDLE),
        (bundle / TRAINING, TRAINING),
        (images.LOCK, "images.lock.yaml"),
    ):
        if source.is_file():
            shutil.copyfile(source, folder / name)
    packages = _packages()
    lines = "".join(f"{name}=={version}\n" for name, version in packages.items())
    write_text(folder / "requirements.txt", lines)
    write_text(folder / "sbom.cdx.json", _bill_of_materials(packages))
    decision, table, model = read_verdict(verdict), read_splits(splits), read_bundle(bundle)
    training = _training_log(bundle)
    write_json(
        folder / INDEX,
        {
            "version": VERSION,
            "model": {"name": model.name, "hash": decision.model_hash},
            "data": {
                "hash": table.data_hash,
                "rows": table.rows,
                "positives": table.positives,
                "windows": table.windows,
            },
            "features": {
                "service": table.feature_service,
                "lead_seconds": table.lead_seconds,
                "names": [feature.name for feature in table.features],
            },
            "code": {"commit": _commit(training)},
            "environment": {"python": platform.python_version(), "packages": len(packages)},
            "training": {
                "seed": training.get("settings", training).get("seed"),
                "settings": training.get("settings", {}),
            },
            "verdict": {
                "outcome": decision.outcome,
                "metrics": decision.metrics,
                "thresholds": decision.thresholds,
                "rules": len(decision.rules),
                "notes": decision.notes,
                "override": asdict(decision.override) if decision.override else None,
            },
            "runs": {"mlflow": run_id, "pipeline": pipeline_run},
            "files": {
                **_hashes(bundle, "bundle"),
                **_hashes(reference, "reference"),
                **_hashes(folder, "evidence"),
            },
        },
    )
    return hash_file(folder / INDEX)


def _hashes(folder: Path, name: str) -> dict[str, str]:
    return {
        f"{name}/{file.relative_to(folder).as_posix()}": hash_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != INDEX
    }


def _training_log(bundle: Path) -> dict[str, Any]:
    try:
        content = json.loads((bundle / TRAINING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SlipwayError(f"{bundle / TRAINING} is not JSON: {error}. Train again.") from error
    return content if isinstance(content, dict) else {}


def _commit(training: dict[str, Any]) -> str:
    """The commit of the code: as the training log has it, the image was built with, or git says."""
    known = training.get("environment", {}).get("git_commit") or os.environ.get("GIT_COMMIT", "")
    if known:
        return str(known)
    folder = Path(__file__).resolve().parents[2]
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def _packages() -> dict[str, str]:
    """Installed distributions with their versions, by normalised name."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
    return dict(sorted(found.items()))


def _bill_of_materials(packages: dict[str, str]) -> str:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    parts = [
        Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=f"{name}=={version}",
            purl=PackageURL("pypi", name=name, version=version),
        )
        for name, version in packages.items()
    ]
    return JsonV1Dot6(Bom(components=parts)).output_as_string(indent=1) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """The evidence of a registered version, and what of it does not hold.

    Attributes:
        index: evidence.json. problems: every hash that does not match, in words; empty: all hold.
        files: files whose hash was checked.
    """

    name: str
    model_version: str
    aliases: tuple[str, ...]
    index: dict[str, Any]
    files: int
    problems: tuple[str, ...]

    @property
    def text(self) -> str:
        """The evidence for a person, one fact a line."""
        index = self.index
        aliases = ", ".join(self.aliases) or "no alias"
        metrics = ", ".join(
            f"{name} {value:.4f} (least {index['verdict']['thresholds'][name]:g})"
            for name, value in index["verdict"]["metrics"].items()
            if name in index["verdict"]["thresholds"] and value is not None
        )
        notes, override = index["verdict"]["notes"], index["verdict"]["override"]
        test = index["data"]["windows"].get("test", ["?", "?"])
        facts = {
            "model": f"{self.name} version {self.model_version} ({aliases})",
            "model hash": index["model"]["hash"],
            "data hash": index["data"]["hash"],
            "test window": f"{test[0]} to {test[1]}, {index['data']['rows'].get('test', 0):,} rows",
            "features": f"{len(index['features']['names'])} of service {index['features']['service']}",
            "verdict": f"{index['verdict']['outcome']}, {index['verdict']['rules']} rules: {metrics}",
            "override": f"{override['approver']}: {override['reason']}" if override else "none",
            "champion": notes.get("champion", "not compared"),
            "rehearsal": notes.get("rehearsal", "not rehearsed"),
            "code commit": index["code"]["commit"] or "unknown",
            "training seed": index["training"]["seed"],
            "MLflow run": index["runs"]["mlflow"],
            "pipeline run": index["runs"]["pipeline"] or "unknown",
            "environment": f"Python {index['environment']['python']},"
            f" {index['environment']['packages']} packages (sbom.cdx.json)",
            "hashes": f"{self.files} files checked, all match"
            if not self.problems
            else f"{self.files} files checked, {len(self.problems)} problems",
        }
        lines = [f"{name:<14} {value}" for name, value in facts.items()]
        return "\n".join([*lines, *(f"PROBLEM        {problem}" for problem in self.problems)])


def show_evidence(model: str, alias_or_version: str = "challenger") -> EvidenceReport:
    """Fetches a version's evidence and checks every hash in it.

    Args:
        model: the registered model's name.
        alias_or_version: an alias ("champion") or a version number ("3").

    Raises:
        SlipwayError: there is no such version, or it has no evidence that can be read.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = connect()
    try:
        if alias_or_version.isdigit():
            version = client.get_model_version(model, alias_or_version)
        else:
            version = client.get_model_version_by_alias(model, alias_or_version)
    except MlflowException as error:
        raise SlipwayError(f"The registry has no {model}@{alias_or_version}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="slipway-evidence-") as scratch:
        folders = {}
        for part in _PARTS:
            uri = version.tags.get(f"slipway.{part}_uri")
            if not uri:
                raise SlipwayError(
                    f"{model} version {version.version} was not registered by Slipway: it has no tag"
                    f" slipway.{part}_uri."
                )
            try:
                path = mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=str(Path(scratch) / part)
                )
            except (MlflowException, OSError) as error:
                raise SlipwayError(f"{uri} cannot be downloaded: {error}") from error
            folders[part] = Path(path)
        return _check(version, folders)


def _check(version: Any, folders: dict[str, Path]) -> EvidenceReport:
    index_file = folders["evidence"] / INDEX
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        expected: dict[str, str] = index["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlipwayError(f"The evidence's {INDEX} cannot be read: {error!r}") from error
    problems = []
    if hash_file(index_file) != version.tags.get("slipway.evidence_hash"):
        problems.append(f"{INDEX} is not the one that was registered.")
    found: dict[str, str] = {}
    for part, folder in folders.items():
        found |= _hashes(folder, part)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problems.append(f"{name} is missing.")
        elif name not in expected:
            problems.append(f"{name} was added.")
        elif found[name] != expected[name]:
            problems.append(f"{name} was changed.")
    model_hash = bundle_hash(folders["bundle"])
    if model_hash != version.tags.get("slipway.model_hash") or model_hash != index["model"]["hash"]:
        problems.append("The bundle is not the one that was registered.")
    try:
        verdict = read_verdict(folders["evidence"] / "verdict.json")
    except SlipwayError as error:
        problems.append(str(error))
    else:
        if verdict.outcome != "pass" or verdict.model_hash != model_hash:
            problems.append("The verdict is not a pass for this bundle.")
    return EvidenceReport(
        name=version.name,
        model_version=str(version.version),
        aliases=tuple(version.aliases),
        index=index,
        files=len(found) + 1,
        problems=tuple(problems),
    )
