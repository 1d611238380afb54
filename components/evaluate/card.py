"""The model card: one HTML file that needs nothing else, shown by the KFP UI and kept in the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.components.config.gate import GateConfig
from slipway.components.config.kinds import LabelKind, metric_name
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.splits import Splits
from slipway.components.contracts.verdict import Verdict
from slipway.components.evaluate.class_plots import show_classes
from slipway.components.evaluate.evidence import ScoredSample
from slipway.components.evaluate.number_plots import show_numbers
from slipway.components.evaluate.plots import Exhibits, Table, show_binary, slice_plot
from slipway.components.evaluate.rules import Estimate, Evidence
from slipway.components.metrics.kinds.base import LabelTally, LabelType
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.multiclass_tally import MulticlassTally
from slipway.components.metrics.tally import Tally
from slipway.components.support.files import write_text

_TEMPLATE = "card.html.j2"
_NAMED_CLASSES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CardContent:
    """What a card is made from.

    Attributes:
        tallies: by model, the gated one first; empty where nothing could be measured.
        sample: of a number: test rows with labels and answers.
        champion: the champion's own metrics, where it was compared.
    """

    project: str
    verdict: Verdict
    bundle: Bundle
    splits: Splits
    gate: GateConfig
    evidence: Evidence
    tallies: dict[str, LabelTally]
    champion: dict[str, float]
    sample: ScoredSample | None = None


def write_card(path: Path, content: CardContent) -> None:
    """Writes the card, atomically."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    verdict, evidence = content.verdict, content.evidence
    label = evidence.label
    text = environment.get_template(_TEMPLATE).render(
        project=content.project,
        verdict=verdict,
        override=verdict.override,
        advice=verdict.notes.get("advice", []),
        remedies=verdict.notes.get("remedies", []),
        warnings=content.splits.mostly_null,
        window=content.splits.windows.get("test"),
        amounts=_amounts(evidence) if content.tallies else "",
        noun=label.noun,
        facts=_facts(content),
        confidence=f"{content.gate.confidence:.0%}",
        block=content.gate.block,
        compared=evidence.champion is not None,
        metrics=[_metric_row(name, content) for name in label.metrics if evidence.metrics],
        exhibits=_SHOWN[label.kind](content) if content.tallies else None,
        slices=_slices(content) if content.tallies else "",
        fairness=_fairness(content),
        lead=metric_name(label.lead),
        rules=[
            {
                "name": rule.name,
                "outcome": rule.outcome,
                "threshold": _number(rule.threshold),
                "value": _number(rule.value),
                "interval": _interval(Estimate(value=None, low=rule.low, high=rule.high)),
                "rows": f"{rule.rows:,}",
                "reason": rule.reason,
            }
            for rule in verdict.rules
        ],
    )
    write_text(path, text)


def _facts(content: CardContent) -> list[tuple[str, Any]]:
    bundle, splits, notes = content.bundle, content.splits, content.verdict.notes
    training = splits.windows.get("train")
    stretch = f", {training[0]} to {training[1]}" if training else ""
    rule = splits.split
    names = [feature.name for feature in bundle.features]
    return [
        ("Model hash", content.verdict.model_hash),
        ("Data hash", splits.data_hash),
        ("Features", f"{len(names)}: {', '.join(names)}"),
        ("Trained on", f"{splits.rows.get('train', 0):,} rows{stretch}"),
        ("Split", f"{rule.text}. Note: {rule.advice}." if rule.advice else rule.text),
        *_label_facts(content.evidence.label),
        ("Champion", notes.get("champion", "not compared")),
        ("Rehearsal", notes.get("rehearsal", "not held")),
    ]


def _label_facts(label: LabelType) -> list[tuple[str, Any]]:
    if isinstance(label, BinaryLabel):
        said = f"{label.threshold:.4f}: the label is 1 where the probability reaches it"
        return [("Threshold", said)]
    names = label.class_names[:_NAMED_CLASSES]
    more = f" and {len(label.class_names) - len(names):,} more" if names < label.class_names else ""
    return [("Classes", ", ".join(names) + more)] if names else [("Interval", label.noun)]


def _amounts(evidence: Evidence) -> str:
    """How many rows the classes have, in words."""
    names, rows = evidence.label.class_names, evidence.class_rows
    if len(names) == 2:
        return f"{rows[-1]:,} with label {names[-1]}"
    return f"{min(rows):,} to {max(rows):,} of each class" if names else ""


def _show_binary(content: CardContent) -> Exhibits:
    tallies = {name: t for name, t in content.tallies.items() if isinstance(t, Tally)}
    return show_binary(tallies, content.bundle.threshold)


def _show_classes(content: CardContent) -> Exhibits:
    model = next(iter(content.tallies.values()))
    if not isinstance(model, MulticlassTally):
        return Exhibits(title="Classes")
    return show_classes(model, content.evidence.label.class_names)


def _show_numbers(content: CardContent) -> Exhibits:
    sample, label = content.sample, content.evidence.label
    if sample is None or not len(sample.labels):
        return Exhibits(title="Answers against labels")
    return show_numbers(sample.labels, sample.answers, label)


_SHOWN: dict[LabelKind, Callable[[CardContent], Exhibits]] = {
    "binary": _show_binary,
    "multiclass": _show_classes,
    "number": _show_numbers,
}


def _slices(content: CardContent) -> str:
    slices, lead = list(content.evidence.slices), content.evidence.label.lead
    if not any(part.metrics for part in slices):
        return ""
    overall = content.evidence.metrics.get(lead)
    return slice_plot(slices, overall.value if overall else None, lead)


def _fairness(content: CardContent) -> list[Table]:
    """A table for each rule of fairness: its groups, and how far they lie apart."""
    tables = []
    for rule, found in zip(content.gate.fairness, content.evidence.fairness, strict=False):
        of = f" of {rule.positive}" if rule.positive is not None else ""
        shown = [*found.groups.items(), ("largest difference", found.gap)]
        shown += [("smallest by largest", found.ratio)]
        limits = {
            "largest difference": "" if rule.gap is None else f"at most {rule.gap:g}",
            "smallest by largest": "" if rule.ratio is None else f"at least {rule.ratio:g}",
        }
        tables.append(
            Table(
                caption=f"Compared by {rule.by}: {metric_name(rule.measure)}{of}",
                header=(rule.by, "Rows", "Value", "Interval", "Asked for"),
                rows=tuple(
                    (
                        name,
                        f"{estimate.rows:,}",
                        _number(estimate.value),
                        _interval(estimate),
                        limits.get(name, ""),
                    )
                    for name, estimate in shown
                ),
            )
        )
    return tables


def _metric_row(name: str, content: CardContent) -> dict[str, str]:
    evidence = content.evidence
    nothing = Estimate(value=None)
    own = evidence.metrics.get(name, nothing)
    difference = (evidence.champion or {}).get(name, nothing)
    return {
        "name": metric_name(name),
        "value": _number(own.value),
        "interval": _interval(own),
        "champion": _number(content.champion.get(name)),
        "difference": _number(difference.value),
        "difference_interval": _interval(difference),
    }


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 2 else f"{value:.4f}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "–"
    return f"{estimate.low:.4f} to {estimate.high:.4f}"
