"""What a replay notes of each window and of each released model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How one window went.

    Attributes:
        accuracy, interval, auc, f1: of what was served, on the labels known by the window's end.
        release_accuracy: of the served version on its test part.
        kept: accuracy, f1 and auc of the first model on the same rows.
        drift: share of the features that drifted.
        alerts: those of warning and above.
        retrained: None: nothing was asked for; else "pass" or "fail", as the gate said.
    """

    window: tuple[str, str]
    requests: int
    version: str
    accuracy: float | None
    interval: tuple[float, float] | None
    auc: float | None
    f1: float | None
    release_accuracy: float | None
    kept: dict[str, float | None]
    drift: float | None
    alerts: tuple[str, ...]
    decision: str
    retrained: str | None
    report: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A model that passed the gate: its version, when it began to serve, and what it was tested on."""

    version: str
    at: str
    parts: dict[str, tuple[str, str]]
    metrics: dict[str, float | None]
    thresholds: dict[str, float | None]
