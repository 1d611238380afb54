"""Rules: since when one holds, and when it fires."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from slipway.components.config.data import Window
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.monitor.alerting.alerts import EarlierWindow, Findings, judge, longest_hold

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SLOW = Findings(predictions=1000, labelled=0, latency_ms=250.0)


def hour(i: int, *names: str, hours: int = 1) -> EarlierWindow:
    """The window that ended i hours before noon, and what held there."""
    end = NOON - timedelta(hours=i)
    return EarlierWindow(window=Window(start=end - timedelta(hours=hours), end=end), holding=names)


def config(**rules: Any) -> MonitoringConfig:
    return MonitoringConfig.model_validate({"rules": rules})


@dataclass
class Case:
    name: str
    lasting: str
    earlier: list[EarlierWindow]
    fires: bool


@pytest.mark.parametrize(
    ("name", "within", "beyond"),
    [
        ("LOW_ACCURACY", {"accuracy": 0.85}, {"accuracy": 0.8499}),
        ("HIGH_LATENCY", {"latency_ms": 100.0}, {"latency_ms": 100.1}),
        ("HIGH_ERROR_RATE", {"error_rate": 0.01}, {"error_rate": 0.0101}),
        ("DATA_DRIFT", {"drift_share": 0.3}, {"drift_share": 0.3001}),
        (
            "ACCURACY_DROP",
            {"accuracy": 0.9, "release_accuracy": 0.9499},
            {"accuracy": 0.9, "release_accuracy": 0.9501},
        ),
        ("NO_DATA", {"predictions": 200}, {"predictions": 199}),
        ("SKEW", {"skew": 0.02}, {"skew": 0.0201}),
    ],
)
def test_the_limits_where_a_project_sets_none(
    name: str, within: dict[str, Any], beyond: dict[str, Any]
) -> None:
    def fired(found: dict[str, Any]) -> list[str]:
        findings = Findings(**{"predictions": 1000, "labelled": 1000, **found})
        window = Window(start=NOON - timedelta(days=1), end=NOON)
        return [alert.name for alert in judge(findings, MonitoringConfig(), window).alerts]

    assert fired(within) == []
    assert fired(beyond) == [name]


@pytest.mark.parametrize(
    ("found", "fires", "unknown"),
    [
        # More than 0.3 of the features, and what those in doubt could add to the others.
        ({"drift_share": 0.31, "unsure_share": 0.6}, True, False),
        ({"drift_share": 0.20, "unsure_share": 0.05}, False, False),
        ({"drift_share": 0.20, "unsure_share": 0.09}, False, False),
        ({"drift_share": 0.20, "unsure_share": 0.11}, False, True),
        ({"drift_share": None, "unsure_share": 1.0}, False, True),
    ],
)
def test_features_in_doubt_do_not_end_an_alert_about_drift(
    found: dict[str, Any], fires: bool, unknown: bool
) -> None:
    names = ("a",) if found["drift_share"] else ()
    findings = Findings(predictions=1000, labelled=1000, drifted=names, **found)
    window = Window(start=NOON - timedelta(days=1), end=NOON)
    told = judge(findings, MonitoringConfig(), window)
    assert ("DATA_DRIFT" in [alert.name for alert in told.alerts]) is fires
    assert ("DATA_DRIFT" in told.unknown) is unknown
    # Of single features it is known as soon as one is seen to have drifted.
    assert ("FEATURE_DRIFT" in told.unknown) is (not names)


HELD = "HIGH_LATENCY"
CASES = [
    Case("at once", "0s", [], True),
    Case("a window is as long as it is", "1h", [], True),
    Case("not yet", "2h", [], False),
    Case("two windows", "2h", [hour(1, HELD)], True),
    Case("one long window", "4h", [hour(1, HELD, hours=3)], True),
    Case("another rule held", "2h", [hour(1, "SKEW")], False),
    Case("it was over in between", "3h", [hour(1), hour(2, HELD), hour(3, HELD)], False),
    Case("nothing is known of a gap", "3h", [hour(2, HELD), hour(3, HELD)], False),
    Case("windows that overlap", "5h", [hour(1, HELD, hours=3), hour(3, HELD, hours=2)], True),
    Case("windows that overlap count once", "6h", [hour(1, HELD, hours=4)], False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rule_fires_once_it_has_held_long_enough(case: Case) -> None:
    settings = config(HIGH_LATENCY={"for": case.lasting})
    found = judge(SLOW, settings, Window(start=NOON - timedelta(hours=1), end=NOON), case.earlier)
    assert ([alert.name for alert in found.alerts] == [HELD]) == case.fires
    assert found.holding == (HELD,), "what holds is kept for the next window, whether it fires"


def test_silence_is_stated_as_a_duration() -> None:
    silent = Findings(predictions=3, labelled=0)
    settings = config(NO_DATA={"for": "3h"})
    window = Window(start=NOON - timedelta(hours=1), end=NOON)
    assert judge(silent, settings, window, [hour(1, "NO_DATA")]).alerts == ()
    (alert,) = judge(silent, settings, window, [hour(1, "NO_DATA"), hour(2, "NO_DATA")]).alerts
    assert (alert.name, alert.severity) == ("NO_DATA", "critical")


def test_how_far_back_the_history_is_read() -> None:
    assert longest_hold(config()) == timedelta(0)
    assert longest_hold(config(SKEW={"for": "2h"}, NO_DATA={"for": "1d"})) == timedelta(days=1)


def test_a_duration_that_is_none_is_named() -> None:
    with pytest.raises(ValidationError, match=r"rules.NO_DATA.for[\s\S]*is not a duration"):
        config(NO_DATA={"for": "two hours"})


def test_the_settings_reach_the_stage_under_the_name_that_people_write() -> None:
    struct = config(NO_DATA={"for": "2h"}).to_struct()
    assert struct["rules"]["NO_DATA"]["for"] == "2h"
    assert MonitoringConfig.model_validate(struct).rules["NO_DATA"].lasting == timedelta(hours=2)


def test_a_share_just_beyond_its_limit_is_not_told_of_as_the_limit() -> None:
    findings = Findings(predictions=1000, labelled=0, drifted=("a",), drift_share=0.304)
    window = Window(start=NOON - timedelta(days=1), end=NOON)
    told = judge(findings, MonitoringConfig(), window)
    [message] = [alert.message for alert in told.alerts if alert.name == "DATA_DRIFT"]
    assert message.startswith("30.4% of the features drifted, more than 30.0%.")
