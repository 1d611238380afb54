"""The model card: one HTML file that needs nothing else, shown by the KFP UI and kept in the registry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.splits import Splits
from slipway.components.contracts.verdict import Verdict
from slipway.components.evaluate.plots import all_plots
from slipway.components.evaluate.rules import Estimate, Evidence, label_of
from slipway.components.metrics.binary import METRICS
from slipway.components.metrics.tally import Tally
from slipway.components.support.files import write_text

_TEMPLATE = "card.html.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardContent:
    """What a card is made from.

    Attributes:
        tallies: by model, the gated one first; empty where nothing could be measured.
        champion: the champion's own metrics, where it was compared.
    """

    project: str
    verdict: Verdict
    bundle: Bundle
    splits: Splits
    gate: GateConfig
    evidence: Evidence
    tallies: dict[str, Tally]
    champion: dict[str, float]


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
    auc = evidence.metrics.get("auc")
    plots = (
        all_plots(
            content.tallies,
            content.bundle.threshold,
            list(evidence.slices),
            auc.value if auc else None,
        )
        if content.tallies
        else {}
    )
    text = environment.get_template(_TEMPLATE).render(
        project=content.project,
        verdict=verdict,
        override=verdict.override,
        advice=verdict.notes.get("advice", []),
        remedies=verdict.notes.get("remedies", []),
        warnings=content.splits.mostly_null,
        window=content.splits.windows.get("test"),
        positives=evidence.positives if content.tallies else None,
        facts=_facts(content),
        confidence=f"{content.gate.confidence:.0%}",
        block=content.gate.block,
        compared=evidence.champion is not None,
        metrics=[_metric_row(name, content) for name in METRICS if evidence.metrics],
        plots=plots,
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
        ("Threshold", f"{bundle.threshold:.4f}: the label is 1 where the probability reaches it"),
        ("Champion", notes.get("champion", "not compared")),
        ("Rehearsal", notes.get("rehearsal", "not held")),
    ]


def _metric_row(name: str, content: CardContent) -> dict[str, str]:
    evidence = content.evidence
    nothing = Estimate(value=None)
    own = evidence.metrics.get(name, nothing)
    difference = (evidence.champion or {}).get(name, nothing)
    return {
        "name": label_of(name),
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
