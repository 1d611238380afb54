"""The window of a run, from its parameters and from when it was scheduled."""

from dataclasses import dataclass

import pytest

from slipway.components.config.data import resolve_window, widen
from slipway.components.support.errors import SlipwayError

DUE = "2026-03-02T06:00:00Z"


@dataclass(frozen=True)
class Case:
    name: str
    start: str
    end: str
    due: str
    expected: tuple[str, str] | None
    error: str = ""


CASES = [
    Case(
        "two instants",
        "2013-01-01",
        "2013-02-01",
        "",
        ("2013-01-01T00:00:00Z", "2013-02-01T00:00:00Z"),
    ),
    Case("a day before it is due", "1d", "", DUE, ("2026-03-01T06:00:00Z", DUE)),
    Case(
        "a day before an end",
        "1d",
        "2013-02-01",
        DUE,
        ("2013-01-31T00:00:00Z", "2013-02-01T00:00:00Z"),
    ),
    Case("from an instant until it is due", "2026-01-01", "", DUE, ("2026-01-01T00:00:00Z", DUE)),
    Case("nobody says when", "1d", "", "", None, "window_end is empty"),
    Case(
        "a server that fills nothing in",
        "1d",
        "",
        "{{$.pipeline_job_schedule_time_utc}}",
        None,
        "window_end is empty",
    ),
    Case("a macro", "1d", "[[ScheduledTime]]", DUE, None, "is not an ISO 8601 time"),
    Case("no time", "yesterday", "2013-01-01", "", None, "neither an ISO 8601 time nor a duration"),
    Case("empty", "2013-01-02", "2013-01-01", "", None, "The window is empty"),
    Case("no length", "0d", "", DUE, None, "The window is empty"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_window(case: Case) -> None:
    if case.expected is None:
        with pytest.raises(SlipwayError, match=case.error):
            resolve_window(case.start, case.end, case.due)
    else:
        window = resolve_window(case.start, case.end, case.due).to_struct()
        assert (window["start"], window["end"]) == case.expected


def test_a_margin_around_the_window() -> None:
    asked = resolve_window("1d", "", DUE)
    wide = widen(asked, "30d", " 2h ").to_struct()
    assert wide == {"start": "2026-01-30T06:00:00Z", "end": "2026-03-02T08:00:00Z"}
    assert widen(asked, "", "") == asked
    with pytest.raises(SlipwayError, match="after: 'soon' is not a duration"):
        widen(asked, "1d", "soon")
