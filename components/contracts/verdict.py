"""Verdict: whether a model may be registered, rule by rule. Written by evaluate, one JSON file.

Everything after the gate reads it again and refuses a model that it does not name (`model_hash`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from slipway.components.config.kinds import metric_name
from slipway.components.contracts.record import Record
from slipway.components.support.errors import SlipwayError

Outcome = Literal["pass", "fail"]
UNTOUCHED = "what served before, if anything did, serves on"
"""What a refusal leaves as it was, where nobody has asked what serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule: what was asked, what was measured, and what follows.

    Attributes:
        value: None where it could not be measured or was not finite: such a rule fails.
        overridable: whether a person may let a fail of this rule pass.
    """

    name: str
    metric: str
    outcome: Outcome
    reason: str
    threshold: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    overridable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's decision to let a model pass that the rules refuse."""

    approver: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Record):
    """The gate's decision about the model whose bundle has `model_hash`.

    Attributes:
        override: set only where a person let failed rules pass; the rules still say `fail`.
    """

    ABSENT: ClassVar[str] = "holds no verdict"
    REMEDY: ClassVar[str] = "Evaluate the model again."

    outcome: Outcome
    rules: tuple[RuleResult, ...]
    metrics: dict[str, float | None]
    thresholds: dict[str, float]
    model_hash: str
    data_hash: str
    test_rows: int
    override: Override | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        """Why the model was refused: the reasons of all rules that failed."""
        return [rule.reason for rule in self.rules if rule.outcome != "pass"]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        shown = ", ".join(
            f"{metric_name(name)} {'—' if value is None else f'{value:.4f}'}"
            for name, value in self.metrics.items()
            if name in self.thresholds
        )
        by = f" (overridden by {self.override.approver})" if self.override else ""
        return f"{self.outcome}{by}: {shown}"


def override_holds(rules: tuple[RuleResult, ...], override: Override) -> bool:
    """Whether a person's decision covers every rule that failed, and says who and why."""
    failed = [rule for rule in rules if rule.outcome != "pass"]
    named = bool(override.approver.strip()) and bool(override.reason.strip())
    return named and bool(failed) and all(rule.overridable is True for rule in failed)


def write_verdict(path: Path, verdict: Verdict) -> None:
    """Writes the verdict, atomically."""
    verdict.write(path)


def read_verdict(path: Path) -> Verdict:
    """Reads a verdict.

    Raises:
        SlipwayError: it is missing, damaged, of another version, or contradicts itself (an overall
            pass with a failed rule and no override, without rules, or with a number that is not
            finite).
    """
    verdict = Verdict.read(path)
    if verdict.outcome == "pass" and not _is_sound(verdict):
        raise SlipwayError(f"{path} says pass, but its rules do not. The model is refused.")
    return verdict


def _is_sound(verdict: Verdict) -> bool:
    """Whether the parts of a verdict bear out its overall pass."""
    passed = [rule for rule in verdict.rules if rule.outcome == "pass"]
    # A number that is not finite is not even read.
    measured = all(rule.value is not None for rule in passed)
    measured = measured and all(value is not None for value in verdict.metrics.values())
    if verdict.override is not None:
        return measured and override_holds(verdict.rules, verdict.override)
    return measured and bool(passed) and len(passed) == len(verdict.rules)


def check_verdict(verdict: Verdict, model_hash: str, data_hash: str) -> None:
    """Holds a verdict against what is to be registered or served: every stage after the gate asks.

    Args:
        verdict: from `read_verdict`.
        model_hash: `bundle_hash` of the bundle at hand, computed now.
        data_hash: of the splits at hand.

    Raises:
        SlipwayError: it is no pass, or it is about another model or other data.
    """
    if verdict.outcome != "pass":
        raise SlipwayError("The gate refused this model: " + " ".join(verdict.reasons))
    if verdict.model_hash != model_hash:
        raise SlipwayError(
            f"The verdict is about a model with the hash {verdict.model_hash[:12]}, but this bundle"
            f" has {model_hash[:12]}: it was changed after it was evaluated, or it is another one."
            " Evaluate this bundle."
        )
    if verdict.data_hash != data_hash:
        raise SlipwayError(
            f"The verdict was reached on data with the hash {verdict.data_hash[:12]}, but these"
            f" splits have {data_hash[:12]}. Evaluate the bundle on them."
        )
