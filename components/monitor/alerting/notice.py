"""What is sent to an alert route: the alerts of a window, or one alert about a run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slipway.components.config.base import format_instant
from slipway.components.config.monitoring import Severity
from slipway.components.contracts.monitoring.monitoring_record import Alert

SEVERITY_ORDER: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
_SINGLE_ALERT_WINDOW = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one route is to be notified of, for one window.

    Attributes:
        firing: alerts that are new, or that are due to be repeated. going_on: alerts that the route
            was notified of. resolved: alerts that are over, as they were sent.
        since: alert to the end of the window in which it began.
    """

    model: str
    window: tuple[str, str]
    firing: tuple[Alert, ...]
    going_on: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    since: dict[str, str]
    report: str
    numbers: dict[str, float]

    @property
    def title(self) -> str:
        """One line: the model and the alerts."""
        parts = [alert.name for alert in self.firing]
        parts += [f"{alert.name} is over" for alert in self.resolved]
        return f"{self.model}: {', '.join(parts)}"

    @property
    def body(self) -> str:
        """The messages, with what to do, and the report."""
        lines = [f"[{a.severity}] {a.name}: {a.message}" for a in self.firing]
        lines += [f"[resolved] {a.name} since {self.window[1]}" for a in self.resolved]
        return "\n".join([*lines, f"Window {self.window[0]} to {self.window[1]}", self.report])


def single_alert_notice(
    model: str, alert: Alert, *, since: str = "", is_over: bool = False, report: str = ""
) -> Notice:
    """A notice of one alert that belongs to no monitored window.

    Args:
        model: the project's name.
        alert: the alert.
        since: when it began, ISO 8601; empty: now.
        is_over: whether to report it as resolved.
        report: a page to look at.
    """
    now = datetime.now(UTC)
    return Notice(
        model=model,
        window=(format_instant(now - _SINGLE_ALERT_WINDOW), format_instant(now)),
        firing=() if is_over else (alert,),
        going_on=(),
        resolved=(alert,) if is_over else (),
        since={alert.name: since or format_instant(now)},
        report=report,
        numbers={},
    )
