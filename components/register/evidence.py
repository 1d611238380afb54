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

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.components.contracts.bundle import FILE as BUNDLE
from slipway.components.contracts.bundle import (
    ONNX,
    SIGNATURE,
    TRAINING,
    read_bundle,
    read_training,
)
from slipway.components.contracts.release import EVIDENCE_INDEX
from slipway.components.contracts.splits import FILE as SPLITS
from slipway.components.contracts.splits import read_splits
from slipway.components.contracts.verdict import read_verdict
from slipway.components.register.index import (
    CodeFacts,
    DataFacts,
    EnvironmentFacts,
    EvidenceIndex,
    FeatureFacts,
    ModelFacts,
    RunFacts,
    SeedFacts,
    TrainingFacts,
    VerdictFacts,
)
from slipway.components.support.files import hash_file, write_json, write_text
from slipway.components.support.libraries.packages import git_commit, installed_packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a model was made from, besides the artifacts that register is given.

    Attributes:
        schema: the content of the schema file. features: the project's `features` section.
        images: the image of each stage and of the predictor, as the compiled pipeline names them.
        pipeline_run: id of the KFP run, where there is one.
    """

    schema: dict[str, object]
    features: dict[str, object]
    images: dict[str, str]
    pipeline_run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationInputs:
    """What a registration is about.

    Attributes:
        bundle_path: the model's folder.
        splits_path: folder of the tables that it was trained and tested on.
        verdict_path: the gate's decision about exactly this bundle.
        card_path: the model card.
        provenance: what the model was made from, for the evidence.
    """

    bundle_path: Path
    splits_path: Path
    verdict_path: Path
    card_path: Path
    provenance: Provenance


def write_evidence(
    folder: Path, inputs: RegistrationInputs, *, reference_path: Path, model_path: Path, run_id: str
) -> str:
    """Gathers the evidence and writes its index last.

    Args:
        folder: the empty folder to fill.
        inputs: what is registered.
        reference_path: the folder that monitoring compares with.
        model_path: the folder of the MLflow model.
        run_id: the MLflow run.

    Returns:
        SHA-256 of the index.
    """
    _copy_artifacts(folder, inputs)
    write_json(folder / "schema.json", inputs.provenance.schema)
    write_json(folder / "features.json", inputs.provenance.features)
    training = read_training(inputs.bundle_path)
    packages = {"register": installed_packages(), "train": training.get("packages", {})}
    _write_lock(folder / "requirements.txt", packages["register"])
    if packages["train"]:
        _write_lock(folder / "requirements-train.txt", packages["train"])
    name = read_bundle(inputs.bundle_path).name
    write_text(
        folder / "sbom.cdx.json",
        _bill_of_materials(name, hash_file(inputs.bundle_path / ONNX), packages),
    )
    files = {
        **hash_files(inputs.bundle_path, "bundle"),
        **hash_files(reference_path, "reference"),
        **hash_files(model_path, "model"),
        **hash_files(folder, "evidence"),
    }
    _describe(inputs, name, training, packages, run_id, files).write(folder / EVIDENCE_INDEX)
    return hash_file(folder / EVIDENCE_INDEX)


def _describe(
    inputs: RegistrationInputs,
    name: str,
    training: dict[str, Any],
    packages: dict[str, dict[str, str]],
    run_id: str,
    files: dict[str, str],
) -> EvidenceIndex:
    splits, verdict = read_splits(inputs.splits_path), read_verdict(inputs.verdict_path)
    commit = training.get("environment", {}).get("git_commit") or git_commit()
    return EvidenceIndex(
        data=DataFacts(
            hash=splits.data_hash,
            rows=splits.rows,
            positives=splits.positives,
            labels=splits.labels,
            windows=splits.windows,
            split=splits.split.text,
        ),
        features=FeatureFacts(
            service=splits.feature_service,
            lead_seconds=splits.lead_seconds,
            names=[feature.name for feature in splits.features],
        ),
        model=ModelFacts(name=name, hash=verdict.model_hash),
        code=CodeFacts(commit=str(commit)),
        seeds=SeedFacts(
            training=training.get("settings", training).get("seed"), gate=verdict.notes.get("seed")
        ),
        training=TrainingFacts(settings=training.get("settings", {})),
        verdict=VerdictFacts(
            outcome=verdict.outcome,
            metrics=verdict.metrics,
            thresholds=verdict.thresholds,
            rules=len(verdict.rules),
            notes=verdict.notes,
            override=verdict.override,
        ),
        images=inputs.provenance.images,
        environment=EnvironmentFacts(
            python=platform.python_version(),
            packages={stage: len(found) for stage, found in packages.items()},
        ),
        runs=RunFacts(mlflow=run_id, pipeline=inputs.provenance.pipeline_run),
        files=files,
    )


def _copy_artifacts(folder: Path, inputs: RegistrationInputs) -> None:
    for source, name in (
        (inputs.verdict_path, "verdict.json"),
        (inputs.card_path, "card.html"),
        (inputs.splits_path / SPLITS, SPLITS),
        (inputs.bundle_path / BUNDLE, BUNDLE),
        (inputs.bundle_path / TRAINING, TRAINING),
    ):
        if source.is_file():
            shutil.copyfile(source, folder / name)


def _write_lock(path: Path, packages: dict[str, str]) -> None:
    write_text(path, "".join(f"{name}=={version}\n" for name, version in packages.items()))


def hash_files(folder: Path, name: str) -> dict[str, str]:
    """SHA-256 of every file of a folder but the index, by `name/relative path`.

    A model's signature says itself what it stands for, and a later key may sign the same model.
    """
    named = {
        f"{name}/{file.relative_to(folder).as_posix()}": file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    left_out = (f"evidence/{EVIDENCE_INDEX}", f"bundle/{SIGNATURE}")
    return {name: hash_file(file) for name, file in named.items() if name not in left_out}


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
