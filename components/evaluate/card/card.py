"""The model card: one HTML file that needs nothing else, shown by the KFP UI and kept in the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.components.config.gate import Bound, GateConfig
from slipway.components.config.kinds import (
    LOWER_IS_BETTER,
    LabelKind,
    Metric,
    asked_bound,
    explain_metrics,
    metric_name,
)
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.splits import Splits
from slipway.components.contracts.verdict import RuleResult, Verdict
from slipway.components.evaluate.card.class_plots import show_classes
from slipway.components.evaluate.card.number_plots import show_numbers
from slipway.components.evaluate.card.plots import CardTable, Exhibits, show_binary
from slipway.components.evaluate.card.slice_tables import show_slices
from slipway.components.evaluate.evidence import ScoredSample
from slipway.components.evaluate.gate.remedies import explain_failures
from slipway.components.evaluate.gate.rules import bounds_of
from slipway.components.evaluate.gate.thresholds import capitalised
from slipway.components.evaluate.measures.measured import Estimate, Evidence
from slipway.components.metrics.kinds.base import LabelTally, LabelType
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.multiclass_tally import MulticlassTally
from slipway.components.metrics.tally import Tally
from slipway.components.support.pages import digits
from slipway.components.support.pages.pages import write_page

TEMPLATE = Path(__file__).with_name("card.html.j2")
_NAMED_CLASSES = 20
_NOTHING = Estimate(value=None)
_FLOAT32 = 2**-20
"""Of a value, what two models that answer alike may differ by: a few units of its last digit."""


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
    verdict, evidence = content.verdict, content.evidence
    label = evidence.label
    rows = _metric_rows(content) if evidence.metrics else []
    write_page(
        path,
        TEMPLATE,
        project=content.project,
        verdict=verdict,
        override=verdict.override,
        failures=explain_failures(verdict.rules, evidence, content.gate),
        advice=verdict.notes.get("advice", []),
        warnings=content.splits.mostly_null,
        doubt=_doubt(evidence),
        window=content.splits.windows.get("test"),
        amounts=_amounts(evidence) if content.tallies else "",
        weights=content.gate.weights,
        predicts=content.splits.predicts or label.noun,
        facts=_facts(content),
        hashes=[("Model", verdict.model_hash), ("Data", verdict.data_hash)],
        confidence=digits.share(content.gate.confidence, 0),
        block=content.gate.block,
        compared=evidence.champion is not None,
        champion=verdict.notes.get("champion", ""),
        key=[row for row in rows if row["key"]],
        metrics=rows,
        meanings=explain_metrics(label.metrics) if rows else [],
        leads=_leads(evidence),
        versions=[_version_row(name, content) for name in label.metrics if evidence.champion],
        exhibits=_SHOWN[label.kind](content) if content.tallies else None,
        slices=show_slices(evidence, content.gate) if content.tallies else [],
        fairness=_fairness(content),
        ranking=_ranking(content),
        lead=metric_name(label.lead),
        rules=[_rule_row(r) for r in sorted(verdict.rules, key=lambda r: r.outcome == "pass")],
    )


def _doubt(evidence: Evidence) -> str:
    """Why the intervals, or sets, may not hold what they promise; empty: they do."""
    promise, rows = evidence.label.promise, evidence.validation_rows
    return "" if promise is None or rows is None else capitalised(promise.doubt(rows))


def _facts(content: CardContent) -> list[tuple[str, object]]:
    bundle, splits, notes = content.bundle, content.splits, content.verdict.notes
    training = splits.windows.get("train")
    moments = [digits.moment(moment) for moment in training or ()]
    stretch = f", {moments[0]} to {moments[1]}" if training else ""
    rule = splits.split
    names = [feature.name for feature in bundle.features]
    return [
        ("Answer", content.evidence.label.noun),
        ("Trained on", f"{splits.rows.get('train', 0):,} rows{stretch}"),
        ("Split", f"{rule.text}. Note: {rule.advice}." if rule.advice else rule.text),
        *_label_facts(content.evidence.label),
        *_weight_facts(content),
        ("Champion", notes.get("champion", "not compared")),
        ("Rehearsal", notes.get("rehearsal", "not held")),
        (digits.counted(len(names), "feature"), ", ".join(names)),
    ]


def _weight_facts(content: CardContent) -> list[tuple[str, object]]:
    worth = content.evidence.effective_rows
    if worth is None:
        return []
    said = (
        f"{content.gate.weights}: metrics count each row by it. The test rows are worth {worth:,.0f} rows"
        " of equal weight. Numbers of rows, the ranking, and the search for leaks count each row once"
    )
    return [("Weights", said)]


def _label_facts(label: LabelType) -> list[tuple[str, object]]:
    if isinstance(label, BinaryLabel):
        said = f"{digits.number(label.threshold)}: the answer is 1 where the probability reaches it"
        return [("Threshold", said)]
    names = label.class_names[:_NAMED_CLASSES]
    more = f" and {len(label.class_names) - len(names):,} more" if names < label.class_names else ""
    return [("Classes", ", ".join(names) + more)] if names else []


def _amounts(evidence: Evidence) -> str:
    """How many rows the classes have, in words."""
    names, rows = evidence.label.class_names, evidence.class_rows
    if len(names) == 2:
        share = digits.share(rows[-1] / max(sum(rows), 1))
        return f"{rows[-1]:,} of them ({share}) with label {names[-1]}"
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


def _metric_rows(content: CardContent) -> list[dict[str, object]]:
    """The metrics with what is asked of them, those that a bound is on first."""
    evidence, gate = content.evidence, content.gate
    bounds: dict[str, Bound] = dict((*bounds_of(evidence.label, gate), *gate.metrics.items()))
    names = sorted(evidence.label.metrics, key=lambda name: name not in bounds)
    headline = {*bounds, *evidence.label.headline, evidence.label.lead}
    return [
        _metric_row(name, content, bounds.get(name)) | {"key": name in headline} for name in names
    ]


def _fairness(content: CardContent) -> list[CardTable]:
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
            CardTable(
                caption=f"Compared by {rule.by}: {metric_name(rule.measure)}{of}",
                header=(rule.by, "Rows", "Value", "Interval", "Asked for"),
                rows=tuple(
                    (
                        name,
                        f"{estimate.rows:,}",
                        digits.number(estimate.value),
                        digits.span(estimate.low, estimate.high),
                        limits.get(name, ""),
                    )
                    for name, estimate in shown
                ),
            )
        )
    return tables


def _ranking(content: CardContent) -> list[CardTable]:
    """A table of how well queries are ordered."""
    rule, found = content.gate.ranking, content.evidence.ranking
    if rule is None or found is None:
        return []
    asked = {"ndcg": rule.ndcg, "recall": rule.recall}
    return [
        CardTable(
            caption=f"Ranked by {rule.by}: the first {rule.at} of {found.queries:,} queries",
            header=("Metric", "Value", "Interval", "Random order", "Asked for"),
            rows=tuple(
                (
                    f"{'NDCG' if name == 'ndcg' else name} at {rule.at}",
                    digits.number(estimate.value),
                    digits.span(estimate.low, estimate.high),
                    digits.number(found.chance[name]),
                    "" if asked[name] is None else f"at least {asked[name]:g}",
                )
                for name, estimate in found.values.items()
            ),
        )
    ]


def _metric_row(name: Metric, content: CardContent, bound: Bound | None) -> dict[str, object]:
    own = content.evidence.metrics.get(name, _NOTHING)
    champion = content.champion.get(name)
    limit = None if bound is None else (bound.min or bound.max)
    results = [r for r in content.verdict.rules if r.name in (name, f"{name} min", f"{name} max")]
    places = digits.decimals_of(own.low, own.high, own.value)
    return {
        "name": metric_name(name),
        "value": digits.number(own.value, places),
        "interval": digits.span(own.low, own.high, places),
        "asked": _asked(bound),
        "failed": any(result.outcome != "pass" for result in results),
        "champion": digits.number(champion, places),
        "drawn": _drawn(own, limit, champion),
    }


def _leads(evidence: Evidence) -> list[str]:
    """How far it is ahead of each simple answer, or behind it."""
    said = []
    for name, lead in evidence.baselines.items():
        if lead.value is not None:
            places = digits.decimals_of(lead.low, lead.high, lead.value)
            side = "behind" if lead.value < 0 else "ahead of"
            span = digits.span(lead.low, lead.high, places)
            said.append(
                f"{digits.number(abs(lead.value), places)} {side} the {name}"
                + (f" ({span})" if span != digits.NONE else "")
            )
    return said


def _asked(bound: Bound | None) -> str:
    """What the gate asks for, in words; empty: nothing."""
    if bound is None:
        return ""
    # A least value of 0 asks for nothing, on purpose.
    asked = [f"at least {bound.min:g}"] if bound.min else []
    return " and ".join([*asked, *([f"at most {bound.max:g}"] if bound.max is not None else [])])


def _drawn(own: Estimate, limit: float | None, mark: float | None) -> dict[str, object] | None:
    """Where the value, its interval, the limit and the champion lie between two ends; None: nowhere."""
    shown = [v for v in (own.value, own.low, own.high, limit, mark) if v is not None]
    if own.value is None or max(shown) <= min(shown):
        return None
    room = (max(shown) - min(shown)) * 0.08
    ends = [min(shown) - room, max(shown) + room]
    return {
        "ends": ends, "value": own.value, "low": own.low, "high": own.high,
        "limit": limit, "mark": mark,
    }  # fmt: skip


def _version_row(name: Metric, content: CardContent) -> dict[str, object]:
    """A metric of this version against the champion's, on the same rows; to the right is better."""
    own = content.evidence.metrics.get(name, _NOTHING).value
    difference = _told((content.evidence.champion or {}).get(name, _NOTHING), own)
    sign = -1 if name in LOWER_IS_BETTER else 1
    ends = [
        sign * end for end in (difference.low, difference.value, difference.high) if end is not None
    ]
    finding, state = "no difference shown", ""
    if difference.low is None or difference.high is None:
        finding, state = "cannot tell: no interval", "unknown"
    if len(ends) == 3 and min(ends) > 0:
        finding, state = "better", "good"
    elif len(ends) == 3 and max(ends) < 0:
        finding, state = "worse", "bad"
    if len(ends) == 3 and not any(ends):
        finding = "the same"
    most = max((abs(end) for end in ends), default=0.0) * 1.1
    # Two versions that answer alike differ by nothing, which says nothing of their own digits.
    places = digits.decimals_of(difference.low, difference.high, difference.value or own)
    return {
        "name": metric_name(name),
        "own": digits.number(own, places),
        "champion": digits.number(content.champion.get(name), places),
        "difference": digits.number(difference.value, places),
        "interval": digits.span(difference.low, difference.high, places),
        "finding": finding,
        "state": state,
        "drawn": {
            "ends": [-most, most], "value": sign * (difference.value or 0.0),
            "low": min(ends), "high": max(ends), "limit": 0.0,
        }
        # A point alone has no scale on which it could lie anywhere but at an end.
        if most and len(ends) == 3
        else None,
    }  # fmt: skip


def _told(difference: Estimate, own: float | None) -> Estimate:
    """A difference; none where all of it is beyond the digits in which a float32 answers."""
    ends = (difference.low, difference.value, difference.high)
    least = _FLOAT32 * abs(own or 0.0)
    if any(end is None or abs(end) > least for end in ends):
        return difference
    return Estimate(value=0.0, low=0.0, high=0.0)


_RULES = {
    "rehearsal p99_ms": "rehearsal: 99th percentile (ms)",
    "rehearsal memory_mb": "rehearsal: memory (MB)",
    "rehearsal difference": "rehearsal: difference",
}


def _as_set(threshold: float | None) -> str:
    """A threshold with the digits that the project gave it."""
    if threshold is None:
        return digits.NONE
    small = 0 < abs(threshold) < 0.001
    return digits.power(threshold) if small else f"{threshold:,.12g}"


def _rule_row(rule: RuleResult) -> dict[str, object]:
    places = digits.decimals_of(rule.low, rule.high, rule.value)
    # A bound of 0 asks for nothing: it is no rule that the model held.
    asks = rule.name != rule.metric or asked_bound(rule.name, rule.threshold) is not None
    return {
        "name": _RULES.get(rule.name) or " ".join(map(metric_name, rule.name.split())),
        "outcome": rule.outcome,
        "threshold": _as_set(rule.threshold) if asks else digits.NONE,
        "value": digits.number(rule.value, None if rule.low is None else places),
        "interval": digits.span(rule.low, rule.high, places),
        "rows": f"{rule.rows:,}",
        "reason": rule.reason if asks or rule.outcome != "pass" else "No bound is set.",
    }
