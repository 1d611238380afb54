"""The evidence of a registered version, fetched and checked: what `slipway evidence` shows."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway.components.config.kinds import asked_of, metric_name
from slipway.components.contracts.bundle import bundle_hash
from slipway.components.contracts.release import EVIDENCE_INDEX, Tag, require_tags
from slipway.components.contracts.signing.keyless import check_keyless
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import (
    UntrustedModel,
    describe_signer,
    read_signer,
)
from slipway.components.contracts.splits import read_splits
from slipway.components.contracts.verdict import read_verdict
from slipway.components.register.evidence import hash_files
from slipway.components.register.index import EvidenceIndex
from slipway.components.register.technical_documentation import write_documentation
from slipway.components.support.documents import load_json, read_document
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file
from slipway.components.support.tracking import RegisteredVersion, connect

_PARTS = {
    "bundle": Tag.BUNDLE_URI,
    "reference": Tag.REFERENCE_URI,
    "model": Tag.MODEL_URI,
    "evidence": Tag.EVIDENCE_URI,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """The evidence of a registered version, and what of it does not hold.

    Attributes:
        override: who let the model pass, and why, as the registry has it; empty: nobody.
        signature: who signed the model, and whether that was checked.
        documentation: a draft by the headings of the EU AI Act's Annex IV; empty: the evidence cannot be
            read.
        index: evidence.json. problems: every hash that does not match, in words; empty: all hold.
        files: files whose hash was checked.
    """

    name: str
    model_version: str
    aliases: tuple[str, ...]
    override: str
    signature: str
    documentation: str
    index: EvidenceIndex
    files: int
    problems: tuple[str, ...]

    @property
    def facts(self) -> dict[str, str]:
        """The evidence for a person, fact by fact."""
        index = self.index
        aliases = ", ".join(self.aliases) or "no alias"
        verdict, test = index.verdict, index.data.windows.get("test")
        rows = f"{index.data.rows.get('test', 0):,} rows"
        metrics = ", ".join(
            f"{metric_name(name)} {value:.4f} ({asked_of(name, verdict.thresholds[name])})"
            for name, value in verdict.metrics.items()
            if name in verdict.thresholds and value is not None
        )
        packages = ", ".join(
            f"{stage} {count}" for stage, count in index.environment.packages.items()
        )
        return {
            "model": f"{self.name} version {self.model_version} ({aliases})",
            "model hash": index.model.hash,
            "signature": self.signature,
            "data hash": index.data.hash,
            "test part": f"{test[0]} to {test[1]}, {rows}" if test else rows,
            "split": index.data.split,
            "features": f"{len(index.features.names)} of service {index.features.service}",
            "verdict": f"{verdict.outcome}, {verdict.rules} rules: {metrics}",
            "override": self.override or "none",
            "champion": verdict.notes.get("champion", "not compared"),
            "rehearsal": verdict.notes.get("rehearsal", "not rehearsed"),
            "code commit": index.code.commit or "unknown",
            "images": self._images(),
            "seeds": ", ".join(
                f"{name} {seed}" for name, seed in sorted(asdict(index.seeds).items())
            ),
            "MLflow run": index.runs.mlflow,
            "pipeline run": index.runs.pipeline or "unknown",
            "environment": f"Python {index.environment.python}; packages: {packages}"
            " (sbom.cdx.json)",
            "hashes": f"{self.files} files checked, all match"
            if not self.problems
            else f"{self.files} files checked, {len(self.problems)} problems",
        }

    @property
    def text(self) -> str:
        """The same, one fact a line, and what does not hold."""
        return "\n".join(f"{name:<14} {value}" for name, value in self.lines)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The facts and the problems, each with its name."""
        return [*self.facts.items(), *(("PROBLEM", problem) for problem in self.problems)]

    def _images(self) -> str:
        """How many images are named by digest; those by tag by name, for their bytes are not known."""
        images = self.index.images
        tagged = sorted(name for name, reference in images.items() if not by_digest(reference))
        named = f"{len(images) - len(tagged)} by digest"
        return f"{named}, by tag only: {', '.join(tagged)}" if tagged else named


def by_digest(image: str) -> bool:
    """Whether an image is named by what it holds, and not by a tag that may move."""
    return "@sha256:" in image


def show_evidence(model: str, alias_or_version: str = "challenger") -> EvidenceReport:
    """Fetches a version's evidence and checks every hash in it.

    Args:
        model: the registered model's name.
        alias_or_version: an alias ("champion") or a version number ("3").

    Raises:
        SlipwayError: there is no such version, or it has no evidence that can be read.
    """
    server = connect()
    version = server.require_version(model, alias_or_version)
    with tempfile.TemporaryDirectory(prefix="slipway-evidence-") as scratch:
        folders = {}
        uris = require_tags(version, *_PARTS.values())
        for part, uri in zip(_PARTS, uris, strict=True):
            what = f"The {part} of {model} version {version.version}"
            folders[part] = server.fetch(uri, Path(scratch) / part, what=what)
        return _check(version, folders)


def _check(version: RegisteredVersion, folders: dict[str, Path]) -> EvidenceReport:
    index_file = folders["evidence"] / EVIDENCE_INDEX
    index = EvidenceIndex.read(index_file)
    expected = index.files
    problems = []
    if hash_file(index_file) != version.tags.get(Tag.EVIDENCE_HASH):
        problems.append(f"{EVIDENCE_INDEX} is not the one that was registered.")
    found: dict[str, str] = {}
    for part, folder in folders.items():
        found |= hash_files(folder, part)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problems.append(f"{name} is missing.")
        elif name not in expected:
            problems.append(f"{name} was added.")
        elif found[name] != expected[name]:
            problems.append(f"{name} was changed.")
    try:
        signature = _signature(folders["bundle"])
    except UntrustedModel as error:
        signature = "not one that is trusted here"
        problems.append(str(error))
    except SlipwayError as error:  # of the policy: nothing is known of the signature
        signature = "could not be checked"
        problems.append(str(error))
    model_hash = bundle_hash(folders["bundle"])
    if model_hash != version.tags.get(Tag.MODEL_HASH) or model_hash != index.model.hash:
        problems.append("The bundle is not the one that was registered.")
    documentation = ""
    try:
        verdict = read_verdict(folders["evidence"] / "verdict.json")
        documentation = write_documentation(
            f"{version.name} version {version.version}",
            signature,
            index,
            verdict,
            read_splits(folders["evidence"]),
            _features(folders["evidence"]),
        )
    except SlipwayError as error:
        problems.append(str(error))
    else:
        if verdict.outcome != "pass" or verdict.model_hash != model_hash:
            problems.append("The verdict is not a pass for this bundle.")
    return EvidenceReport(
        name=version.name,
        model_version=version.version,
        aliases=version.aliases,
        override=_override(version.tags),
        signature=signature,
        documentation=documentation,
        index=index,
        files=len(found) + 1,
        problems=tuple(problems),
    )


def _features(folder: Path) -> dict[str, object]:
    """The project's `features` section, as it was registered.

    Raises:
        SlipwayError: it cannot be read.
    """
    try:
        content = load_json(read_document(folder / "features.json"))
    except (OSError, ValueError) as error:
        raise SlipwayError(f"features.json of the evidence cannot be read: {error}.") from error
    return content if isinstance(content, dict) else {}


def _signature(folder: Path) -> str:
    """Who signed a bundle.

    Raises:
        SlipwayError: nobody whom this place trusts.
    """
    if trusted := TrustPolicy.here().check(folder, check_keyless):
        return f"valid, by {describe_signer(trusted, trusted=True)}"
    if signer := read_signer(folder):
        setting = "MODEL_SIGNERS and MODEL_TRUST_ROOT" if " " in signer else "MODEL_PUBLIC_KEYS"
        return f"by {describe_signer(signer)}, not checked: set {setting}"
    return "not signed"


def _override(tags: Mapping[str, str]) -> str:
    approver = tags.get(Tag.OVERRIDE_APPROVER)
    return f"{approver}: {tags.get(Tag.OVERRIDE_REASON, '')}" if approver else ""
