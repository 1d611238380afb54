"""Limits of the gate that several kinds of label share."""

from typing import TYPE_CHECKING

from slipway.components.metrics.kinds.base import Limit

if TYPE_CHECKING:
    from slipway.components.config.gate import GateConfig


def limits_of_classes(gate: "GateConfig") -> list[Limit]:
    """What classes must hold, however many there are."""
    return [
        Limit(metric="accuracy", side="min", value=gate.accuracy),
        Limit(metric="f1", side="min", value=gate.f1),
        Limit(metric="auc", side="min", value=gate.auc),
        Limit(metric="calibration_error", side="max", value=gate.calibration_error),
    ]
