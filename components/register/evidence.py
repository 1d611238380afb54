"""Evidence: what a registered version was made from, so that anyone can check it years later.

The folder of a version's evidence, layout version 2::

    evidence.json       the index: hashes, commit, images, seeds, run ids, and the SHA-256 of every file
    verdict.json        the gate's decision, rule by rule, and the rehearsal. card.html: the model card
    schema.json         what the tables had to satisfy
    features.json       the definitions of the features, the label and the split
    splits.json         the features and the split as they came out, with statistics
    bundle.json         the model's signature. training.json: the training log
    requirements.txt    the Python environment that registered
    requirements-train.txt  the one that trained
    sbom.cdx.json       both as a CycloneDX 1.6 bill of materials

The index also names every file of the bundle, of the reference and of the MLflow model. The version's
tag `slipway.evidence_hash` is the SHA-256 of the index, so nothing can be exchanged unseen.
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.components.contracts.bundle import FILE as BUNDLE
from slipway.components.contracts.bundle import ONNX, TRAINING, bundle_hash, read_bundle
from slipway.components.contracts.splits import FILE as SPLITS
from slipway.components.contracts.splits import read_splits
from slipway.components.contracts.verdict import read_verdict
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file, write_json, write_text
from slipway.components.support.packages import installed_packages
from slipway.components.support.tracking import connect

VERSION = 2
INDEX = "evidence.json"
_PARTS = ("bundle", "reference", "model", "evidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a model was made from, besides the artifacts that register is handed.

    Attributes:
        schema: the content of the schema file. features: the project's `features` section.
        images: the image of each stage and of the predictor, as the compiled pipeline names them.
        pipeline_run: id of the KFP run, where there is one.
    """

    schema: dict[str, Any]
    features: dict[str, Any]
    images: dict[str, str]
    pipeline_run: str = ""


def write_evidence(
    folder: Path,
    *,
    bundle: Path,
    reference: Path,
    model: Path,
    splits: Path,
    verdict: Path,
    card: Path,
    run_id: str,
    made: Made,
) -> str:
    """Gathers the evidence and writes its index last.

    Args:
        folder: the empty folder to fill.
        bundle: the model's folder.
        reference: the folder that monitoring compares with.
        model: the folder of the MLflow model.
        splits: the tables' folder.
        verdict: the verdict's file.
        card: the model card's file.
        run_id: the MLflow run.
        made: what the model was made from.

    Returns:
        SHA-256 of the index.
    """
    for source, name in (
        (verdict, "verdict.json"),
        (card, "card.html"),
        (splits / SPLITS, SPLITS),
        (bundle / BUNDLE, BUNDLE),
        (bundle / TRAINING, TRAINING),
    ):
        if source.is_file():
            shutil.copyfile(source, folder / name)
    write_json(folder / "schema.json", made.schema)
    write_json(folder / "features.json", made.features)
    training = _training_log(bundle)
    packages = {"register": installed_packages(), "train": training.get("packages", {})}
    _write_lock(folder / "requirements.txt", packages["register"])
    if packages["train"]:
        _write_lock(folder / "requirements-train.txt", packages["train"])
    decision, table, signature = read_verdict(verdict), read_splits(splits), read_bundle(bundle)
    bill = _bill_of_materials(signature.name, hash_file(bundle / ONNX), packages)
    write_text(folder / "sbom.cdx.json", bill)
    write_json(
        folder / INDEX,
        {
            "version": VERSION,
            "model": {"name": signature.name, "hash": decision.model_hash},
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
            "images": made.images,
            "environment": {
                "python": platform.python_version(),
                "packages": {stage: len(found) for stage, found in packages.items()},
            },
            "seeds": {
                "training": training.get("settings", training).get("seed"),
                "gate": decision.notes.get("seed"),
            },
            "training": {"settings": training.get("settings", {})},
            "verdict": {
                "outcome": decision.outcome,
                "metrics": decision.metrics,
                "thresholds": decision.thresholds,
                "rules": len(decision.rules),
                "notes": decision.notes,
                "override": asdict(decision.override) if decision.override else None,
            },
            "runs": {"mlflow": run_id, "pipeline": made.pipeline_run},
            "files": {
                **_hashes(bundle, "bundle"),
                **_hashes(reference, "reference"),
                **_hashes(model, "model"),
                **_hashes(folder, "evidence"),
            },
        },
    )
    return hash_file(folder / INDEX)


def _write_lock(path: Path, packages: dict[str, str]) -> None:
    write_text(path, "".join(f"{name}=={version}\n" for name, version in packages.items()))


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


def _bill_of_materials(model: str, digest: str, packages: dict[str, dict[str, str]]) -> str:
    """The model and the packages that the stages had, each with the stages that had it."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    stages: dict[tuple[str, str], list[str]] = {}
    for stage, found in packages.items():
        for pair in found.items():
            stages.setdefault(pair, []).append(stage)
    parts = [
        Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=f"{name}=={version}",
            purl=PackageURL("pypi", name=name, version=version),
            properties=[Property(name="slipway:stage", value=stage) for stage in where],
        )
        for (name, version), where in sorted(stages.items())
    ]
    subject = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model,
        bom_ref=model,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    bill = Bom(metadata=BomMetaData(component=subject), components=parts)
    bill.register_dependency(subject, parts)
    return JsonV1Dot6(bill).output_as_string(indent=1) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """The evidence of a registered version, and what of it does not hold.

    Attributes:
        override: who let the model pass, and why, as the registry has it; empty: nobody.
        index: evidence.json. problems: every hash that does not match, in words; empty: all hold.
        files: files whose hash was checked.
    """

    name: str
    model_version: str
    aliases: tuple[str, ...]
    override: str
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
        notes = index["verdict"]["notes"]
        packages = ", ".join(
            f"{stage} {count}" for stage, count in index["environment"]["packages"].items()
        )
        test = index["data"]["windows"].get("test", ["?", "?"])
        facts = {
            "model": f"{self.name} version {self.model_version} ({aliases})",
            "model hash": index["model"]["hash"],
            "data hash": index["data"]["hash"],
            "test window": f"{test[0]} to {test[1]}, {index['data']['rows'].get('test', 0):,} rows",
            "features": f"{len(index['features']['names'])} of service {index['features']['service']}",
            "verdict": f"{index['verdict']['outcome']}, {index['verdict']['rules']} rules: {metrics}",
            "override": self.override or "none",
            "champion": notes.get("champion", "not compared"),
            "rehearsal": notes.get("rehearsal", "not rehearsed"),
            "code commit": index["code"]["commit"] or "unknown",
            "images": self._images(),
            "seeds": ", ".join(f"{name} {seed}" for name, seed in index["seeds"].items()),
            "MLflow run": index["runs"]["mlflow"],
            "pipeline run": index["runs"]["pipeline"] or "unknown",
            "environment": f"Python {index['environment']['python']}; packages: {packages}"
            " (sbom.cdx.json)",
            "hashes": f"{self.files} files checked, all match"
            if not self.problems
            else f"{self.files} files checked, {len(self.problems)} problems",
        }
        lines = [f"{name:<14} {value}" for name, value in facts.items()]
        return "\n".join([*lines, *(f"PROBLEM        {problem}" for problem in self.problems)])

    def _images(self) -> str:
        """How many images are named by digest; those by tag by name, for their bytes are not known."""
        images = self.index["images"]
        tagged = sorted(name for name, reference in images.items() if "@sha256:" not in reference)
        named = f"{len(images) - len(tagged)} by digest"
        return f"{named}, by tag only: {', '.join(tagged)}" if tagged else named


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
    if index.get("version") != VERSION:
        raise SlipwayError(
            f"The evidence of {version.name} version {version.version} has layout"
            f" {index.get('version')}; this release reads {VERSION}."
        )
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
        override=_override(version.tags),
        index=index,
        files=len(found) + 1,
        problems=tuple(problems),
    )


def _override(tags: dict[str, str]) -> str:
    approver = tags.get("slipway.override_approver")
    return f"{approver}: {tags.get('slipway.override_reason', '')}" if approver else ""
