"""What a replay notes of each window and of each released model, whatever kind of label it has."""

from dataclasses import dataclass

Values = dict[str, float | None]
"""The kind's headline metrics by name; None: not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How one window went.

    Attributes:
        metrics: of what was served, on the labels known by the window's end.
        intervals: metric to its 95 % interval.
        release: of the served version on its test part.
        kept: of the first model on the same rows.
        drift: share of the features that drifted.
        alerts: those of warning and above.
        retrained: None: nothing was asked for; else "pass" or "fail", as the gate said.
    """

    window: tuple[str, str]
    requests: int
    version: str
    metrics: Values
    intervals: dict[str, tuple[float, float]]
    release: Values
    kept: Values
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
    metrics: Values
    thresholds: Values
