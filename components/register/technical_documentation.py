"""A draft of the technical documentation that the EU AI Act asks for, from the evidence of a version.

Regulation (EU) 2024/1689, Annex IV, names nine headings. What a version's evidence answers is filled in;
what only the provider knows stands as a line to fill, so that nothing is claimed that nobody measured.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.components.contracts.splits import Splits
from slipway.components.contracts.verdict import Verdict
from slipway.components.register.index import EvidenceIndex

TO_FILL = "_To be written by the provider: {}._"


def write_documentation(
    model: str,
    signature: str,
    index: EvidenceIndex,
    verdict: Verdict,
    splits: Splits,
    features: Mapping[str, Any],
) -> str:
    """The draft as Markdown, a section a heading of Annex IV.

    Args:
        model: name and version.
        signature: who signed the model, in words.
        index: evidence.json.
        verdict: the gate's decision.
        splits: the data that it was trained and tested on.
        features: the project's `features` section.
    """
    label = features.get("label", {})
    meaning = label.get("meaning") or f"the column {label.get('column', '')}"
    sections: dict[str, Iterator[str]] = {
        "1. General description of the AI system": _general(model, meaning, index, signature),
        "2. Elements of the system and how it was developed": _development(
            index, verdict, splits, features
        ),
        "3. Monitoring, functioning and control": _limits(verdict),
        "4. Appropriateness of the performance metrics": _metrics(verdict),
        "5. Risk management (Article 9)": _fill("the risk management system and its records"),
        "6. Changes through the lifecycle": _changes(index),
        "7. Standards applied": _fill("harmonised standards, or other solutions that were adopted"),
        "8. EU declaration of conformity": _fill("a copy of the declaration (Article 47)"),
        "9. Post-market monitoring (Article 72)": _after_release(),
    }
    lines = [
        f"# Technical documentation of {model}",
        "",
        "A draft by the headings of Annex IV of Regulation (EU) 2024/1689, from the evidence that was"
        f" registered with the model (`evidence.json`, model hash `{index.model.hash}`). It is no legal"
        " advice, and no statement that the system is or is not of high risk.",
    ]
    for heading, content in sections.items():
        lines += ["", f"## {heading}", "", *content]
    return "\n".join(lines) + "\n"


def _fill(what: str) -> Iterator[str]:
    yield TO_FILL.format(what)


def _general(model: str, meaning: str, index: EvidenceIndex, signature: str) -> Iterator[str]:
    yield f"- (a) Intended purpose: to predict {meaning}. {TO_FILL.format('who uses it, for what')}"
    yield f"- (a) Provider and version: {TO_FILL.format('the provider')} {model}."
    yield "- (b) Interaction with other systems: answers over the Open Inference Protocol (V2) and V1."
    yield f"- (c) Software: Python {index.environment.python}; packages in `sbom.cdx.json` (CycloneDX)."
    for stage, image in sorted(index.images.items()):
        yield f"    - {stage}: `{image}`"
    yield f"- (c) Code: commit {index.code.commit or 'unknown'}. Signature: {signature}."
    rest = "forms on the market, hardware, user interface, instructions for use"
    yield f"- (d)–(h) {TO_FILL.format(rest)}"


def _development(
    index: EvidenceIndex, verdict: Verdict, splits: Splits, features: Mapping[str, Any]
) -> Iterator[str]:
    yield "- (a), (b) Method and design choices: a supervised model, trained with the settings below."
    for name, value in sorted(index.training.settings.items()):
        yield f"    - {name}: {value}"
    seeds = f"training {index.seeds.training}, gate {index.seeds.gate}"
    yield f"- (c) Seeds: {seeds}. MLflow run `{index.runs.mlflow}`, pipeline run `{index.runs.pipeline}`."
    yield f"- (d) Data: content hash `{index.data.hash}`, split {index.data.split}."
    yield ""
    yield "| part | rows | from | to |"
    yield "| --- | --- | --- | --- |"
    for part, rows in index.data.rows.items():
        start, end = index.data.windows.get(part, ("", ""))
        yield f"| {part} | {rows:,} | {start} | {end} |"
    yield ""
    label = features.get("label", {})
    yield f"- (d) Label: `{label.get('column', '')}`; rule: {_rule(label)}."
    yield f"- (d) Inputs ({len(splits.features)}), each as it was known when the prediction was due:"
    for view in sorted({feature.view for feature in splits.features}):
        names = ", ".join(f"`{f.name}`" for f in splits.features if f.view == view)
        yield f"    - {view}: {names}"
    yield f"- (d) {TO_FILL.format('origin, collection and labelling of the data, and known gaps')}"
    override = verdict.override
    yield "- (e) Human oversight: " + (
        f"the gate was overridden by {override.approver}: {override.reason}."
        if override
        else f"the gate's decision stands as it was made. {TO_FILL.format('measures of Article 14')}"
    )
    yield f"- (f) {TO_FILL.format('changes that are foreseen, such as scheduled retraining')}"
    yield f"- (g) Validation: {len(verdict.rules)} rules on {verdict.test_rows:,} rows of the test part:"
    yield ""
    yield "| rule | outcome | value | threshold |"
    yield "| --- | --- | --- | --- |"
    for rule in verdict.rules:
        numbers = f"{_number(rule.value)} | {_number(rule.threshold)}"
        yield f"| {_cell(rule.name)} | {rule.outcome} | {numbers} |"
    yield ""
    yield "- (h) Cybersecurity: hashes of every file in the evidence, checked before use; see Slipway's"
    yield "  threat model."


def _limits(verdict: Verdict) -> Iterator[str]:
    yield "Groups of rows in which the model was measured, with what the gate says of each:"
    yield ""
    found = [rule for rule in verdict.rules if "[" in rule.name or "=" in rule.name]
    for rule in found:
        yield f"- {_cell(rule.name)}: {_number(rule.value)} on {rule.rows:,} rows, {rule.outcome}"
    if not found:
        yield TO_FILL.format(
            "accuracy for groups that matter: declare gate.slices or gate.fairness"
        )
    yield ""
    yield TO_FILL.format("unintended outcomes that can be foreseen, and needed human oversight")


def _metrics(verdict: Verdict) -> Iterator[str]:
    for name, value in verdict.metrics.items():
        limit = verdict.thresholds.get(name)
        least = "" if limit is None else f" (threshold {_number(limit)})"
        yield f"- {name}: {_number(value)}{least}"
    yield ""
    yield TO_FILL.format("why these metrics and thresholds fit the purpose")


def _changes(index: EvidenceIndex) -> Iterator[str]:
    yield f"- Compared with: {index.verdict.notes.get('champion', 'not compared')}"
    yield "- Earlier versions and their evidence stand in the model registry."


def _after_release() -> Iterator[str]:
    yield "A recurring run watches drift, accuracy, latency, throughput and errors, and alerts; its"
    yield "records are kept by window. " + TO_FILL.format("the plan, and who acts on its alerts")


def _rule(label: Mapping[str, object]) -> str:
    known = ("kind", "above", "positive", "unknown", "known", "classes")
    return ", ".join(f"{key} {label[key]}" for key in known if key in label) or "as it stands"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    """A text that may hold what a value of a stranger's table held."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
