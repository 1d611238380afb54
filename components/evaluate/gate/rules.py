"""The gate's decision: measurements in, rule results out. Nothing here reads a file or a clock.

It fails closed. A rule passes only where its value is finite and on the right side of its threshold;
what could not be measured, and what raised, is a fail with its reason. The mutation tests of this
module (`make mutation`) show that each comparison matters.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace

from slipway.components.config.gate import EVERY_CLASS, Bound, GateConfig, Judge, LeakAlarm
from slipway.components.config.kinds import LOWER_IS_BETTER, Metric, metric_name
from slipway.components.contracts.verdict import Outcome, Override, RuleResult, override_holds
from slipway.components.evaluate.gate.thresholds import (
    Threshold,
    capitalised,
    check,
    check_count,
    check_limit,
    is_finite,
    number_or_nan,
    show_beside,
)
from slipway.components.evaluate.measures.measured import Estimate, Evidence, GroupEvidence
from slipway.components.metrics.kinds.base import LabelType

_LEAST_GROUPS = 2


def judge(evidence: Evidence, config: GateConfig) -> tuple[RuleResult, ...]:
    """Applies every rule. A rule that raises is a failed rule."""
    results: list[RuleResult] = []
    for name, rule in _RULES.items():
        try:
            results.extend(rule(evidence, config))
        except Exception as error:
            # Whatever went wrong, a rule without an answer is a refusal, and says so.
            reason = f"The rule {name} could not be applied: {type(error).__name__}: {error}."
            results.append(RuleResult(name=name, metric=name, outcome="fail", reason=reason))
    return tuple(results)


def decide(results: Iterable[RuleResult]) -> Outcome:
    """`pass` only if there are rules and every one passed."""
    outcomes = [result.outcome for result in results]
    return "pass" if outcomes and all(outcome == "pass" for outcome in outcomes) else "fail"


def override_for(
    results: tuple[RuleResult, ...], approver: str, reason: str
) -> tuple[Override | None, str]:
    """Whether a person's decision lets a refused model pass.

    Args:
        results: of all rules.
        approver: who decides; empty: nobody does.
        reason: why.

    Returns:
        The override where it turns a fail into a pass, else None; and what became of the wish, in
        words (empty where there was none).
    """
    if not approver.strip() and not reason.strip():
        return None, ""
    if decide(results) == "pass":
        return None, "An override was given, but the model passed without it."
    override = Override(approver=approver.strip(), reason=reason.strip())
    if override_holds(results, override):
        return override, f"{override.approver} overrode the gate: {override.reason}"
    if not override.approver or not override.reason:
        return None, "An override needs both a named approver and a reason: it was not applied."
    fixed = [r.name for r in results if r.outcome != "pass" and not r.overridable]
    return None, f"An override cannot cover these rules, so it was not applied: {', '.join(fixed)}."


def _soundness(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    reasons = list(evidence.problems)
    reasons += [
        f"{capitalised(metric_name(metric))} could not be measured."
        for metric, estimate in sorted(evidence.metrics.items())
        if estimate.value is None
    ]
    reasons += _not_finite(evidence, "evidence")
    if evidence.rows != evidence.expected_rows:
        reasons.append(
            f"The test table has {evidence.rows:,} rows, but splits.json says"
            f" {evidence.expected_rows:,}."
        )
    return [
        RuleResult(
            name="sound measurement",
            metric="problems",
            outcome="fail" if reasons else "pass",
            reason=" ".join(reasons) or "Every test row was read, scored and counted.",
            threshold=0.0,
            value=float(len(reasons)),
            rows=evidence.rows,
        )
    ]


def _not_finite(part: object, where: str) -> list[str]:
    """Every NaN and infinity within the evidence, with its place, whether a rule looks at it or not."""
    if isinstance(part, float) and not math.isfinite(part):
        return [f"{where} is {part}."]
    if is_dataclass(part):
        inner: Iterable[tuple[object, object]] = [
            (f.name, getattr(part, f.name)) for f in fields(part)
        ]
    elif isinstance(part, dict):
        inner = sorted(part.items())
    elif isinstance(part, tuple):
        inner = enumerate(part)
    else:
        return []
    return [found for name, value in inner for found in _not_finite(value, f"{where}.{name}")]


def _amount(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    least = config.min_class_rows
    return [
        check_count("test rows", "Test rows", evidence.rows, config.min_rows),
        *_effective(evidence, config),
        *_promise(evidence, config),
        *(
            check_count(count.rule, count.what, count.rows, least)
            for count in evidence.label.count_classes(evidence.class_rows, least)
        ),
    ]


def _effective(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    """A few rows of great weight decide alone: what the rows are worth must be enough too."""
    if config.weights is None:
        return []
    name, worth = "effective rows", evidence.effective_rows
    if worth is None or not math.isfinite(worth):
        reason = f"What the test rows are worth by {config.weights} was not measured."
        return [RuleResult(name=name, metric="rows", outcome="fail", reason=reason)]
    what = f"Rows of equal weight that the test rows are worth by {config.weights}"
    return [check_count(name, what, int(worth), config.min_rows)]


def _promise(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    """Where coverage is asked for, intervals and sets must come from enough rows to promise it."""
    promise = evidence.label.promise
    asked = {limit.metric for limit in evidence.label.limits(config) if limit.value > 0}
    asked |= config.metrics.keys() | config.slices.least.keys()
    if promise is None or "coverage" not in asked:
        return []
    name = "validation rows"
    if evidence.validation_rows is None:
        reason = f"How many validation rows the {promise.what} are made from is not known."
        return [RuleResult(name=name, metric="rows", outcome="fail", reason=reason)]
    what = f"Validation rows for {promise.what} that are to hold {promise.level:.10g} of the labels"
    return [check_count(name, what, evidence.validation_rows, promise.least_rows)]


def bounds_of(label: LabelType, config: GateConfig) -> list[tuple[Metric, Bound]]:
    """The gate's own bounds on a kind of label, besides `gate.metrics`."""
    return [
        (
            limit.metric,
            Bound(min=limit.value) if limit.side == "min" else Bound(max=limit.value),
        )
        for limit in label.limits(config)
    ]


def _thresholds(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    results = []
    for metric, bound in (*bounds_of(evidence.label, config), *sorted(config.metrics.items())):
        results += check(
            metric, metric, metric_name(metric), evidence.metrics.get(metric), bound, config.judge
        )
    return results


def _champion(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    if evidence.champion_problem:
        reason = f"The champion could not be compared: {evidence.champion_problem}"
        return [
            RuleResult(
                name="champion",
                metric="champion",
                outcome="fail",
                reason=reason,
                overridable=True,
            )
        ]
    if evidence.champion is None:
        return []
    results: list[RuleResult] = []
    for metric, margin in sorted(config.champion.margins.items()):
        results += no_worse(
            f"champion {metric}",
            metric,
            f"the difference to the champion in {metric_name(metric)}",
            evidence.champion.get(metric),
            margin,
            config.champion.judge,
        )
    return results


def no_worse(
    name: str, metric: str, what: str, difference: Estimate | None, margin: float, mode: Judge
) -> list[RuleResult]:
    """The difference (model − other) must not be worse than zero by more than the margin."""
    bound = Bound(max=margin) if metric in LOWER_IS_BETTER else Bound(min=-margin)
    return check(name, metric, what, difference, bound, mode)


def _slices(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    rule = config.slices
    found = {(part.column, part.value): part for part in evidence.slices}
    results = []
    for column, values in sorted(rule.required.items()):
        for value in values:
            part = found.get((column, value))
            name = f"{column}={value}"
            rows = part.rows if part else 0
            results.append(
                check_count(
                    f"slice {name} rows", f"Required slice {name}, rows", rows, rule.min_rows
                )
            )
    judged = [
        part
        for part in evidence.slices
        if part.column in rule.columns and part.rows >= rule.min_rows
    ]
    for part in judged:
        name = f"slice {part.column}={part.value}"
        for metric, bound in sorted(rule.least.items()):
            what = f"{metric_name(metric)} of the {name}"
            results += check(
                f"{name} {metric}", metric, what, part.metrics.get(metric), bound, rule.judge
            )
        if evidence.champion is None:
            continue
        for metric, margin in sorted(rule.margins.items()):
            results += no_worse(
                f"{name} {metric} against champion",
                metric,
                f"the difference to the champion in {metric_name(metric)} of the {name}",
                part.differences.get(metric),
                margin,
                rule.judge,
            )
    missing = [column for column in rule.columns if column not in {p.column for p in judged}]
    for column in missing:
        reason = f"No value of the declared slice column {column} has {rule.min_rows:,} rows."
        results.append(
            RuleResult(name=f"slice {column}", metric="rows", outcome="fail", reason=reason)
        )
    return results


def _fairness(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    found = {part.rule: part for part in evidence.fairness}
    results = []
    for rule in config.fairness:
        part = found.get(rule.name)
        problems = list(part.problems) if part else ["The groups were not measured."]
        if part and not problems and len(part.groups) < _LEAST_GROUPS:
            problems.append(f"There are no two groups of {rule.by} to compare.")
        if part is None or problems:
            reason = f"{capitalised(rule.name)}: {' '.join(problems)}"
            results.append(
                RuleResult(name=rule.name, metric=rule.measure, outcome="fail", reason=reason)
            )
            continue
        few = {name: one.rows for name, one in part.groups.items() if one.rows < rule.min_rows}
        for name, rows in sorted(few.items()):
            what = f"Rows of {rule.by}={name} for the {metric_name(rule.measure)}"
            results.append(check_count(f"{rule.name} {name} rows", what, rows, rule.min_rows))
        if few:
            continue
        for side, estimate, bound in (
            ("gap", part.gap, rule.gap is not None and Bound(max=rule.gap)),
            ("ratio", part.ratio, rule.ratio is not None and Bound(min=rule.ratio)),
        ):
            if bound:
                what = f"the {side} in {metric_name(rule.measure)} between {_extremes(part)}"
                results += check(
                    f"{rule.name} {side}", rule.measure, what, estimate, bound, rule.judge
                )
    return results


def _ranking(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    rule, found = config.ranking, evidence.ranking
    if rule is None:
        return []
    if found is None:
        reason = f"Ranking by {rule.by}: it was not measured."
        return [RuleResult(name="ranking", metric="ndcg", outcome="fail", reason=reason)]
    what = f"Queries (by {rule.by}) of two rows or more with a relevant one"
    results = [check_count("ranking queries", what, found.queries, rule.min_queries)]
    if results[0].outcome == "fail":
        return results
    for metric, least in (("ndcg", rule.ndcg), ("recall", rule.recall)):
        if least is not None:
            shown = {"ndcg": "NDCG", "recall": "recall"}[metric]
            results += check(
                f"ranking {metric}",
                metric,
                f"{shown} at {rule.at} of a {rule.by} (a random order: {found.chance[metric]:.4g})",
                found.values.get(metric),
                Bound(min=least),
                rule.judge,
            )
    return results


def _extremes(part: GroupEvidence) -> str:
    """The two groups that lie farthest apart, each with its value."""
    known = [(number_or_nan(one.value), name) for name, one in part.groups.items()]
    least, most = min(known), max(known)
    return f"{least[1]} ({least[0]:.4g}) and {most[1]} ({most[0]:.4g})"


def _classes(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    names = evidence.label.class_names
    rows = dict(zip(names, evidence.class_rows, strict=True))
    bounds = dict(config.classes)
    every = bounds.pop(EVERY_CLASS, None)
    if every is not None:
        bounds = {**{name: every for name in names if name not in bounds}, **bounds}
    results = []
    for name, bound in sorted(bounds.items()):
        if name not in rows:
            reason = f"The model has no class {name}, of which gate.classes asks for something."
            results.append(
                RuleResult(name=f"class {name}", metric="rows", outcome="fail", reason=reason)
            )
            continue
        least = bound.min_rows or config.min_class_rows
        if rows[name] < least:
            what = f"Test rows of the class {name} for its least values"
            results.append(check_count(f"class {name} enough rows", what, rows[name], least))
            continue
        measured = evidence.classes.get(name, {})
        for metric, value in sorted(bound.least.items()):
            what = f"{metric_name(metric)} of the class {name}"
            results += check(
                f"class {name} {metric}",
                metric,
                what,
                measured.get(metric),
                Bound(min=value),
                config.judge,
            )
    return results


def _costs(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    """Where wrong answers have a cost, one answer to every row must cost more than the model's do."""
    if "expected_cost" not in evidence.label.metrics:
        return []
    name, metric = "costs less than a constant", "expected_cost"
    if evidence.constant_cost is None or not math.isfinite(evidence.constant_cost[0]):
        reason = "What a constant answer costs could not be measured."
        return [RuleResult(name=name, metric=metric, outcome="fail", reason=reason)]
    threshold, answer = evidence.constant_cost
    what = f"the expected cost of a row ({answer} has {threshold:.5g})"
    limit = Threshold(threshold=threshold, at_least=False, strict=True)
    return [check_limit(name, metric, what, evidence.metrics.get(metric), limit)]


def _baselines(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    rule, label = config.baseline, evidence.label
    constant, fitted = label.baselines
    names = [constant, *([fitted] if rule.linear else [])]
    results = []
    for name in names:
        # Who is only as good as a constant has not beaten it.
        result = check_limit(
            f"beats {name}",
            label.lead,
            f"the lead in {metric_name(label.lead)} over the {name}",
            evidence.baselines.get(name),
            Threshold(threshold=rule.margin, mode=rule.judge, strict=True),
        )
        if rule.judge == "tie" and name == fitted:
            result = _let_tie_pass(result, rule.margin)
        if result.outcome == "fail" and result.overridable:
            result = replace(result, reason=f"{result.reason} The setting is gate.baseline.")
        results.append(result)
    return results


def _let_tie_pass(lead: RuleResult, margin: float) -> RuleResult:
    """The result where only a model that is worse beyond chance is refused, not one that is as good.

    Without an interval a tie cannot be distinguished from a loss, and the measured lead decides.
    """
    if lead.outcome == "pass" or not lead.overridable:
        return lead
    if lead.high is None:
        reason = (
            f"{lead.reason} There are too few blocks to tell a tie from a loss: see gate.block."
        )
        return replace(lead, reason=reason)
    upper = f"the upper bound of its interval is {show_beside(lead.high, margin)}"
    if lead.high >= margin:
        return replace(lead, outcome="pass", reason=f"{lead.reason} But it is a tie: {upper}.")
    return replace(lead, reason=f"{lead.reason} That is no chance: {upper}.")


def _leak(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    return [_judge_shuffled(evidence), _judge_suspects(evidence, config.leak)]


def _judge_shuffled(evidence: Evidence) -> RuleResult:
    """Against shuffled labels nothing but chance is left, unless the measuring itself leaks."""
    shuffled, metric = evidence.shuffled or Estimate(value=None), evidence.label.chance
    numbers = (shuffled.value, shuffled.low, shuffled.high)
    told, low, high = (number_or_nan(number) for number in numbers)
    outcome: Outcome = "fail"
    if not is_finite(*numbers):
        numbers = (None, None, None)
        reason = "The model was not measured against shuffled labels."
    else:
        if low <= told <= high:
            outcome = "pass"
        reason = (
            f"Against shuffled labels the {metric_name(metric)} is {told:.4f};"
            f" chance gives {low:.4f} to {high:.4f}."
        )
    return RuleResult(
        name="shuffled labels",
        metric=metric,
        outcome=outcome,
        reason=reason,
        threshold=evidence.label.no_skill,
        value=numbers[0],
        low=numbers[1],
        high=numbers[2],
        rows=shuffled.rows,
    )


def _judge_suspects(evidence: Evidence, rule: LeakAlarm) -> RuleResult:
    """A model, or a single feature, that is too good to be true has seen the label."""
    outcome: Outcome
    alarm, value, worst = _find_suspect(evidence, rule)
    if value is None or not math.isfinite(value):
        outcome, reason = (
            "fail",
            f"{capitalised(worst)} has no {metric_name(alarm)} that could be measured.",
        )
        value = None
    elif value < rule.auc:
        outcome, reason = (
            "pass",
            f"The highest {metric_name(alarm)} is {value:.4f}, below {rule.auc:g}: no leak seen.",
        )
    elif rule.acknowledged.strip():
        outcome = "pass"
        reason = (
            f"{capitalised(worst)} has {metric_name(alarm)} {value:.4f};"
            f" acknowledged: {rule.acknowledged.strip()}"
        )
    else:
        outcome = "fail"
        reason = (
            f"{capitalised(worst)} has {metric_name(alarm)} {value:.4f}, which is too good to be true:"
            " look for a leak of the label. If it is right, say why in gate.leak.acknowledged."
        )
    return RuleResult(
        name="too good to be true",
        metric=alarm,
        outcome=outcome,
        reason=reason,
        threshold=rule.auc,
        value=value,
        rows=evidence.rows,
        overridable=value is not None,
    )


def _find_suspect(evidence: Evidence, rule: LeakAlarm) -> tuple[str, float | None, str]:
    """What tells most of the label: the metric, its value, and of whom.

    A copy of a number with a little noise puts few pairs in the wrong order, yet more than the alarm
    asks for: so what a feature alone explains, as `slipway init` measures it, counts as well.
    """
    alarm, told = evidence.label.alarm, evidence.explained
    measured = evidence.metrics.get(alarm) or Estimate(value=evidence.told)
    suspects = {"the model": measured.value}
    suspects.update({f"the feature {name} alone": told for name, told in evidence.features.items()})
    worst = max(suspects, key=lambda name: _suspicion(suspects[name]))
    most = max(told, key=lambda name: told[name], default=None)
    if most is not None and told[most] >= rule.auc and _suspicion(suspects[worst]) < rule.auc:
        metric = "r2" if evidence.label.kind == "number" else "accuracy"
        return metric, told[most], f"the feature {most} alone"
    return alarm, suspects[worst], worst


def _suspicion(told: float | None) -> float:
    """Orders suspects: the more is told the worse, and what cannot be measured is worst."""
    return told if told is not None and math.isfinite(told) else math.inf


def _rehearsal(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
    rule = config.rehearsal
    if not rule.enabled:
        return []
    seen = evidence.rehearsal
    if seen is None:
        reason = "The predictor was not rehearsed."
        return [RuleResult(name="rehearsal", metric="problems", outcome="fail", reason=reason)]
    results = [
        RuleResult(
            name="rehearsal",
            metric="problems",
            outcome="fail" if seen.problems else "pass",
            reason=" ".join(seen.problems) or "The predictor started and answered every request.",
            threshold=0.0,
            value=float(len(seen.problems)),
            rows=seen.rows,
        )
    ]
    for name, what, value, most in (
        ("p99_ms", "the 99th percentile of latency (ms)", seen.p99_ms, rule.p99_ms),
        ("memory_mb", "the predictor's memory (MB)", seen.memory_mb, rule.memory_mb),
    ):
        estimate = Estimate(value=value, rows=seen.rows)
        results += check(f"rehearsal {name}", name, what, estimate, Bound(max=most))
    (difference,) = check(
        "rehearsal difference",
        "difference",
        f"the largest difference of {evidence.label.served}",
        Estimate(value=seen.difference, rows=seen.rows),
        Bound(max=rule.tolerance),
    )
    # Nobody may serve a predictor whose answers are not those that were measured.
    results.append(replace(difference, overridable=False))
    return results


_RULES: dict[str, Callable[[Evidence, GateConfig], list[RuleResult]]] = {
    "sound measurement": _soundness,
    "amount of data": _amount,
    "thresholds": _thresholds,
    "champion": _champion,
    "slices": _slices,
    "fairness": _fairness,
    "ranking": _ranking,
    "classes": _classes,
    "costs": _costs,
    "baselines": _baselines,
    "leak": _leak,
    "rehearsal": _rehearsal,
}
