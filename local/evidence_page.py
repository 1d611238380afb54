"""The evidence of a registered version as a page of the reports' frame."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.components.config.kinds import asked_of, metric_name
from slipway.components.contracts.splits import PARTS
from slipway.components.register.evidence_report import EvidenceReport, by_digest
from slipway.components.support.pages import digits
from slipway.components.support.pages.pages import write_page
from slipway.components.support.secrets import redact_values

TEMPLATE = Path(__file__).with_name("evidence.html.j2")


def write_evidence_page(path: Path, report: EvidenceReport) -> None:
    """Writes the page, atomically; also of a version whose evidence does not hold."""
    write_page(path, TEMPLATE, **page_content(report))


def page_content(report: EvidenceReport) -> dict[str, Any]:
    """What the template shows of a version's evidence; no text has a secret in it."""
    index, verdict = report.index, report.index.verdict
    content: dict[str, object] = redact_values(
        {
            "name": f"{report.name} version {report.model_version}",
            "aliases": list(report.aliases),
            "files": report.files,
            "problems": list(report.problems),
            "override": report.override,
            "passed": verdict.outcome == "pass",
            "rules": verdict.rules,
            "metrics": _metrics(report),
            "notes": [
                ["Champion", verdict.notes.get("champion", "not compared")],
                ["Rehearsal", verdict.notes.get("rehearsal", "not rehearsed")],
            ],
            "parts": [
                {"name": part, "rows": rows, "window": index.data.windows.get(part)}
                for part in PARTS
                if (rows := index.data.rows.get(part)) is not None
            ],
            "sources": _sources(report),
            "images": [
                {"stage": stage, "image": image, "fixed": by_digest(image)}
                for stage, image in sorted(index.images.items())
            ],
            "hashes": [["Model", index.model.hash], ["Data", index.data.hash]],
            "all_files": sorted(index.files.items()),
        }
    )
    return content


def _metrics(report: EvidenceReport) -> list[dict[str, object]]:
    verdict = report.index.verdict
    return [
        {
            "name": metric_name(name),
            "value": digits.number(value),
            "asked": asked_of(name, verdict.thresholds[name])
            if name in verdict.thresholds
            else "–",
        }
        for name, value in sorted(
            verdict.metrics.items(), key=lambda pair: pair[0] not in verdict.thresholds
        )
    ]


def _sources(report: EvidenceReport) -> list[tuple[str, str]]:
    """What the version was made from, besides its data."""
    index = report.index
    names = index.features.names
    seeds = ", ".join(f"{name} {seed}" for name, seed in sorted(asdict(index.seeds).items()))
    packages = ", ".join(f"{stage} {count}" for stage, count in index.environment.packages.items())
    return [
        ("Signature", report.signature),
        ("Code commit", index.code.commit or "unknown"),
        ("Split", index.data.split),
        (digits.counted(len(names), "feature"), ", ".join(names)),
        ("Seeds", seeds),
        ("MLflow run", index.runs.mlflow),
        ("Pipeline run", index.runs.pipeline or "unknown"),
        ("Environment", f"Python {index.environment.python}; packages: {packages} (sbom.cdx.json)"),
    ]
