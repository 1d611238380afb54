"""Which kind of label a model has: the one place that asks."""

from typing import TYPE_CHECKING

from slipway.components.config.label import LabelKind
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.kinds.number import NumberLabel

if TYPE_CHECKING:
    from slipway.components.contracts.bundle import Bundle


def label_type_of(bundle: "Bundle") -> LabelType:
    """The kind of label of a trained model."""
    return label_type(
        bundle.label_kind,
        threshold=bundle.threshold,
        classes=bundle.classes,
        level=bundle.level,
    )


def label_type(
    kind: LabelKind, *, threshold: float = 0.5, classes: tuple[str, ...] = (), level: float = 0.9
) -> LabelType:
    """The kind of label, with what one model says of it.

    Args:
        kind: its name.
        threshold: of a binary label, the probability from which on it is 1.
        classes: of several, in the order of the answers.
        level: of a number, the share of labels that the intervals are to hold.
    """
    if kind == "multiclass":
        return MulticlassLabel(classes=classes)
    if kind == "number":
        return NumberLabel(level=level)
    return BinaryLabel(threshold=threshold)
