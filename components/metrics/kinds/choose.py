"""Which kind of label a model has: the one place that asks."""

from typing import TYPE_CHECKING, NotRequired, TypedDict

from slipway.components.config.kinds import LabelKind

# A stage knows one kind: the others' metrics stay where they are.
if TYPE_CHECKING:
    from slipway.components.contracts.bundle import Bundle
    from slipway.components.metrics.kinds.base import LabelType


def label_type_of(bundle: "Bundle") -> "LabelType":
    """The kind of label of a trained model."""
    return label_type(
        bundle.label_kind,
        threshold=bundle.threshold,
        classes=bundle.classes,
        level=bundle.level,
        centre=bundle.centre,
        scale=bundle.scale,
        costs=bundle.costs,
        set_threshold=bundle.set_threshold,
    )


def label_type(
    kind: LabelKind,
    *,
    threshold: float = 0.5,
    classes: tuple[str, ...] = (),
    level: float = 0.9,
    centre: float = 0.0,
    scale: float = 1.0,
    costs: "dict[str, dict[str, float]] | None" = None,
    set_threshold: float | None = None,
) -> "LabelType":
    """The kind of label, with what one model says of it.

    Args:
        kind: its name.
        threshold: of a binary label, the probability from which on it is 1.
        classes: of several, in the order of the answers.
        level: of a number, the share of labels that the intervals are to hold; of several classes, that
            the sets are to hold.
        centre: of a number, the mean of the training labels.
        scale: of a number, about their standard deviation.
        costs: of classes, what an answer costs by the true class.
        set_threshold: of several classes, the probability from which on a class is in the set; None:
            there are no sets.
    """
    if kind == "multiclass":
        from slipway.components.metrics.kinds.multiclass import MulticlassLabel

        return MulticlassLabel(
            classes=classes,
            costs=costs or {},
            level=0.0 if set_threshold is None else level,
            set_threshold=set_threshold,
        )
    if kind == "number":
        from slipway.components.metrics.kinds.number import NumberLabel

        return NumberLabel(level=level, centre=centre, scale=scale)
    from slipway.components.metrics.kinds.binary import BinaryLabel

    return BinaryLabel(threshold=threshold, costs=costs or {})


class LabelFacts(TypedDict):
    """What a monitoring record keeps of a version's kind of label, to read its answers later."""

    kind: LabelKind
    classes: list[str]
    level: float
    costs: NotRequired[dict[str, dict[str, float]]]
    set_threshold: NotRequired[float]


def to_facts(label: "LabelType") -> LabelFacts:
    """What is needed to read a version's answers again."""
    from slipway.components.metrics.kinds.multiclass import MulticlassLabel
    from slipway.components.metrics.kinds.number import NumberLabel

    facts: LabelFacts = {
        "kind": label.kind,
        "classes": list(label.class_names) if label.kind == "multiclass" else [],
        "level": label.level if isinstance(label, NumberLabel) else 0.0,
    }
    if isinstance(label, MulticlassLabel) and label.costs:
        facts["costs"] = label.costs
    if isinstance(label, MulticlassLabel) and label.set_threshold is not None:
        facts["level"], facts["set_threshold"] = label.level, label.set_threshold
    return facts


def from_facts(facts: LabelFacts | None) -> "LabelType":
    """The kind of label; without facts a binary one, as records had it before."""
    if facts is None:
        return label_type("binary")
    return label_type(
        facts["kind"],
        classes=tuple(facts["classes"]),
        level=facts["level"],
        costs=facts.get("costs"),
        set_threshold=facts.get("set_threshold"),
    )
