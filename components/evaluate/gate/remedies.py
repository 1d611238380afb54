"""What to do about a refusal: the setting of each rule that failed, and its one or two likely causes.

It decides nothing. What can be told from what was measured (how far a bound is, what the baseline has)
is told; the rest is what such a rule has most often failed for.
"""

from collections.abc import Callable
from dataclasses import dataclass

from slipway.components.config.gate import GateConfig
from slipway.components.config.kinds import (
    LOWER_IS_BETTER,
    METRICS,
    LabelKind,
    metric_name,
    rule_name,
)
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.gate.thresholds import show_beside
from slipway.components.evaluate.measures.measured import Evidence

MOST = 4
_ALWAYS = "no setting, it must hold"
_NAMES = {name for names in METRICS.values() for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do about a rule that failed: its setting, and the likely causes, the likeliest first."""

    rule: RuleResult
    setting: str
    causes: tuple[str, ...]

    @property
    def advice(self) -> str:
        """The causes in words."""
        first, *others = self.causes
        return f"Most likely {first}." + (f" Or {others[0]}." if others else "")

    @property
    def place(self) -> str:
        """Where the rule is set, or that it always holds, as a sentence."""
        return f"No{_ALWAYS[2:]}." if self.setting == _ALWAYS else f"The setting: {self.setting}."

    @property
    def text(self) -> str:
        """The whole of it, where the rule's own reason does not stand beside it."""
        rule = self.rule
        return f"{rule_name(rule.name)}: {_shortfall(rule)} ({self.setting}). {self.advice}"


def _shortfall(rule: RuleResult) -> str:
    """A value beside what was asked for, on which side of it, so that nobody takes it for a pass."""
    value, limit = rule.value, rule.threshold
    if value is None or limit is None:
        shown = "not measured" if value is None else f"{value:.4g}"
        return shown if limit is None else f"{shown}, and {limit:,g} is asked for"
    is_lead = rule.name.startswith(("champion ", "beats "))
    told = f"{'a lead of ' if is_lead else ''}{show_beside(value, limit)}"
    asked, allowed = f"less than the {limit:,g} asked for", f"more than the {limit:,g} allowed"
    if value == limit:
        return f"{told}, and more than that is asked for"
    at_most = not is_lead and rule.metric in LOWER_IS_BETTER
    at_least = is_lead or (rule.metric in _NAMES and not at_most)
    # Where an interval is judged, the value alone may be on the right side.
    if at_least and rule.low is not None and rule.low < limit < value:
        return f"{told}, whose lower bound {show_beside(rule.low, limit)} is {asked}"
    if at_most and rule.high is not None and value < limit < rule.high:
        return f"{told}, whose upper bound {show_beside(rule.high, limit)} is {allowed}"
    return f"{told}, {asked if value < limit else allowed}"


def explain_failures(
    results: tuple[RuleResult, ...], evidence: Evidence, gate: GateConfig
) -> list[Remedy]:
    """A remedy for each rule that failed, in the rules' order.

    Args:
        results: of all rules.
        evidence: what they looked at.
        gate: the project's `gate` section.
    """
    return [_remedy(result, evidence, gate) for result in results if result.outcome != "pass"]


def find_remedies(
    results: tuple[RuleResult, ...], evidence: Evidence, gate: GateConfig
) -> list[str]:
    """One sentence or two for each rule that failed, at most four rules."""
    remedies = explain_failures(results, evidence, gate)
    told = [remedy.text for remedy in remedies[:MOST]]
    if len(remedies) > MOST:
        told.append(f"{len(remedies) - MOST} more rules failed: the model card lists them.")
    return told


def _remedy(result: RuleResult, evidence: Evidence, gate: GateConfig) -> Remedy:
    setting, causes = _explain(result, evidence, gate)
    return Remedy(rule=result, setting=setting, causes=tuple(causes))


def _explain(result: RuleResult, evidence: Evidence, gate: GateConfig) -> tuple[str, list[str]]:
    """The setting of a rule, and its likely causes, the likeliest first."""
    name = result.name
    unknown = result.value is None or name == "sound measurement"
    if unknown and _has_one_label(evidence):
        return "features.split.test", [
            "the test rows all have one label: make features.split.test longer, or check the label at the"
            " source",
        ]
    if name in _FIXED:
        return _FIXED[name]
    if name.startswith("beats "):
        return "gate.baseline", _lead_over_baseline(result, gate)
    if name.startswith("class "):
        return _class(result, evidence.label.kind)
    for beginning, explained in _BEGINNINGS.items():
        if name.startswith(beginning):
            return explained(result)
    return _setting_of(result, gate), _of_bound(result, evidence)


def _has_one_label(evidence: Evidence) -> bool:
    """Whether the test rows' labels are all alike: what compares them then has no value."""
    if evidence.class_rows:
        return sum(rows > 0 for rows in evidence.class_rows) == 1
    known = {name: one.value is not None for name, one in evidence.metrics.items()}
    return known.get("rmse", False) and not known.get("r2", True)


def _setting_of(result: RuleResult, gate: GateConfig) -> str:
    direct = ("accuracy", "f1", "auc", "calibration_error", "coverage")
    if result.metric in gate.metrics and result.threshold in (
        gate.metrics[result.metric].min,
        gate.metrics[result.metric].max,
    ):
        return f"gate.metrics.{result.metric}"
    return f"gate.{result.metric}" if result.metric in direct else f"gate.metrics.{result.metric}"


def _of_bound(result: RuleResult, evidence: Evidence) -> list[str]:
    """Why a metric does not hold its bound: chance, the features, or the bound itself."""
    metric, lower = result.metric, result.metric in LOWER_IS_BETTER
    causes = []
    better = result.low if lower else result.high
    if better is not None and result.threshold is not None:
        reaches = better <= result.threshold if lower else better >= result.threshold
        if reaches:
            causes.append(
                f"chance: on {result.rows:,} test rows the interval is {result.low:.4g} to"
                f" {result.high:.4g}, which reaches the bound; a longer test part (features.split.test)"
                " tells"
            )
    if metric == "calibration_error":
        causes.append(
            "the validation part, by which the probabilities are calibrated, is small or unlike the test"
            " part: make features.split.validation longer"
        )
    if metric == "coverage":
        causes.append(
            "the labels vary more in the test part than in the validation part, from which the intervals"
            " (or sets) are made: make features.split.validation longer, or train more often"
        )
    leads = {name: lead.value for name, lead in evidence.baselines.items() if "regression" in name}
    own = evidence.metrics.get(evidence.label.lead)
    for name, lead in leads.items():
        if lead is not None and own is not None and own.value is not None:
            causes.append(
                f"these features say too little of the label: a {name} on them has"
                f" {metric_name(evidence.label.lead)} {own.value - lead:.4f}, this model"
                f" {own.value:.4f}. Add features that are known at"
                " the prediction (features.views)"
            )
    causes.append(
        f"the bound is higher than these data allow: set it between what a constant answer has and"
        f" {metric_name(metric)} of the model card"
    )
    return causes[:2]


def _few(result: RuleResult) -> tuple[str, list[str]]:
    setting = "gate.min_rows" if result.name == "test rows" else "gate.min_class_rows"
    return setting, [
        "the test part is too small for this table: make features.split.test longer",
        f"there are no more data yet: set {setting} to what there is, and read the intervals in the card",
    ]


def _promised(result: RuleResult) -> tuple[str, list[str]]:
    return "features.split.validation", [
        "the validation part is too small for what the intervals (or sets) promise: make"
        " features.split.validation longer",
        "ask for less: a lower training.interval (of classes training.sets)",
    ]


def _light(result: RuleResult) -> tuple[str, list[str]]:
    return "gate.min_rows", [
        "a few rows of the test part weigh far more than the others (gate.weights): cap the weights at"
        " the source",
        "the test part is too small for weights as unequal: make features.split.test longer",
    ]


def _champion(result: RuleResult) -> tuple[str, list[str]]:
    return "gate.champion.margins", [
        "the served model has seen the test rows, or learnt from more data: train on as long a window",
        "the two are as good and the rows are few: `judge: point` looks at the difference alone",
    ]


def _slice(result: RuleResult) -> tuple[str, list[str]]:
    return "gate.slices", [
        "this group has few training rows: more of them, or a feature that tells it apart",
        "the group is too small to judge: raise gate.slices.min_rows",
    ]


def _class(result: RuleResult, kind: LabelKind) -> tuple[str, list[str]]:
    """Of a class: too few rows of it, or too low a value."""
    weights = "positive_weight" if kind == "binary" else "class_weights"
    if result.name.endswith(" enough rows"):
        return "gate.classes min_rows", [
            "the class is rare and the test part short: make features.split.test longer",
            "there are no more data yet: lower min_rows, and read the class's interval",
        ]
    if result.metric == "rows":
        return _few(result)
    return "gate.classes", [
        f"the class has few training rows: more of them, or another weight (training.{weights})",
        "it looks like another class: see in the card what it is taken for, and add a feature that tells"
        " the two apart",
    ]


def _fairness(result: RuleResult) -> tuple[str, list[str]]:
    if result.metric == "rows":
        return "gate.fairness min_rows", [
            "the group is small and the test part short: make features.split.test longer",
            "the group is too small to judge: join it to another one at the source, or leave_out",
        ]
    if result.value is None:
        return "gate.fairness", [
            "the test rows do not have the groups that the rule compares: one alone, one that is not"
            " declared, or rows without. Name them in `groups`, and in `leave_out` what is not compared",
            "the column says nothing of the rows: check it at the source, or compare by another one",
        ]
    return "gate.fairness", [
        "a group has few training rows, or features that say less of it: more of them, or a weight"
        " (training.sample_weight)",
        "a feature stands for the group: take it out, and see what the model loses",
    ]


def _ranking(result: RuleResult) -> tuple[str, list[str]]:
    if result.name == "ranking queries":
        return "gate.ranking min_queries", [
            "the test part is short: make features.split.test longer",
            "rows of one query have different values of gate.ranking by: check the column",
        ]
    return "gate.ranking", [
        "features say the same of all candidates of a query: add some of the item, and of the user with"
        " the item's group",
        "what counts is what was done a moment ago: a window of hours, pushed (docs/streams.md)",
    ]


def _lead_over_baseline(result: RuleResult, gate: GateConfig) -> list[str]:
    """Why a model is not ahead; only a setting that can still change the verdict is named."""
    if "regression" not in result.name:
        return [
            "the features say nothing of the label: check that they are known at the prediction and not"
            " all null (the validation report counts them)",
            "the training rows are too few",
        ]
    if gate.baseline.margin > 0:
        way = "a lower gate.baseline.margin asks for less"
    elif gate.baseline.judge != "tie":
        way = "gate.baseline.judge: tie lets an equal model pass"
    else:
        way = (
            "where a model that is a little worse will do, gate.baseline.linear: false leaves the"
            " comparison out"
        )
    return [
        "the training rows are few and the network learnt them by heart: a longer window, or a smaller"
        " network (training.network.width)",
        f"the truth is nearly linear: {way}",
    ]


def _rehearsal(result: RuleResult) -> tuple[str, list[str]]:
    return "gate.rehearsal", [
        "this machine was busy while the predictor answered: run it again",
        "the model is too large for the budget: fewer members or a smaller network",
    ]


_FIXED: dict[str, tuple[str, list[str]]] = {
    "sound measurement": (
        _ALWAYS,
        ["the bundle or the splits were changed after training: run the training again"],
    ),
    "shuffled labels": (
        _ALWAYS,
        ["the measuring itself leaks: rows of one entity lie in several blocks, see gate.block"],
    ),
    "too good to be true": (
        "gate.leak",
        [
            "a feature is made of the label, or known only after it: take it out of features.views, or"
            " give its view the time when it is known",
            "the label is easy to tell: write why into gate.leak.acknowledged",
        ],
    ),
    "costs less than a constant": (
        "features.label.costs",
        [
            "the features say too little for what a mistake costs: always giving the one answer is as"
            " cheap. Add features that are known at the prediction (features.views)",
            "the costs are far apart: check features.label.costs",
        ],
    ),
    "champion": (
        "gate.champion",
        [
            "the champion cannot be loaded, takes other features, or predicts another label: promote one"
            " by an override"
        ],
    ),
}
_BEGINNINGS: dict[str, Callable[[RuleResult], tuple[str, list[str]]]] = {
    "test rows": _few,
    "effective rows": _light,
    "validation rows": _promised,
    "positives": _few,
    "negatives": _few,
    "fairness ": _fairness,
    "ranking": _ranking,
    "champion ": _champion,
    "slice ": _slice,
    "rehearsal": _rehearsal,
}
