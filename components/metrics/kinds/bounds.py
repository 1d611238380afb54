"""Bounds of the gate that several kinds of label share."""

from slipway.components.config.gate import Bound, GateConfig, Metric


def bounds_of_classes(gate: GateConfig) -> list[tuple[Metric, Bound]]:
    """What classes must hold, however many there are."""
    return [
        ("accuracy", Bound(min=gate.accuracy)),
        ("f1", Bound(min=gate.f1)),
        ("auc", Bound(min=gate.auc)),
        ("calibration_error", Bound(max=gate.calibration_error)),
    ]
