"""The decision to retrain: once, not too often, not while one runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.monitoring_record import Alert
from slipway.components.monitor.retraining.retrain import decide, mark, request_training, requests
from slipway.components.support.errors import SlipwayError

DECAYED = (Alert(name="LOW_ACCURACY", severity="critical", value=0.5, threshold=0.7, message=""),)
HARMLESS = (Alert(name="FEATURE_DRIFT", severity="info", value=1, threshold=0, message=""),)


def window(day: int) -> tuple[str, str]:
    return f"2013-12-{day - 1:02d}T00:00:00Z", f"2013-12-{day:02d}T00:00:00Z"


def config(**retraining: Any) -> MonitoringConfig:
    return MonitoringConfig.model_validate({"retrain": True, "retraining": retraining})


def ask(
    home: Path, day: int, settings: MonitoringConfig, alerts: Any = DECAYED, version: str = "1"
) -> Any:
    return decide(home, "flights", version, window(day), alerts, settings)


def test_decay_asks_once_and_a_repeated_window_gets_the_same_request(tmp_path: Path) -> None:
    first = ask(tmp_path, 2, config())
    again = ask(tmp_path, 2, config())
    assert first.retrain and again.request == first.request
    assert first.request.reasons == ("LOW_ACCURACY",)
    assert first.request.data_end == "2013-12-02T00:00:00Z"
    assert requests(tmp_path, "flights") == [first.request]


def test_harmless_alerts_keep_the_model(tmp_path: Path) -> None:
    decision = ask(tmp_path, 2, config(), HARMLESS)
    assert not decision.retrain and "Keep the model" in decision.why
    assert not ask(tmp_path, 2, config(), ()).retrain
    assert requests(tmp_path, "flights") == []


def test_nothing_is_asked_for_where_it_is_not_allowed(tmp_path: Path) -> None:
    decision = ask(tmp_path, 2, MonitoringConfig())
    assert not decision.retrain and "monitoring.retrain is off" in decision.why


@dataclass
class Case:
    name: str
    settings: dict[str, Any]
    day: int
    expected: bool
    why: str = ""
    status: Any = "finished"
    version: str = "2"
    more: tuple[int, ...] = field(default=())


CASES = [
    Case("cooldown holds", {"budget": 9}, 4, False, "too short a time ago"),
    Case("cooldown is over", {"budget": 9}, 5, True),
    Case("budget is used up", {"cooldown": "1d"}, 8, False, "budget of 1 is used up"),
    Case("a week later", {"cooldown": "1d"}, 9, True),
    Case("a budget of two", {"cooldown": "1d", "budget": 2}, 4, True),
    Case("two of two", {"cooldown": "1d", "budget": 2}, 5, False, "used up", more=(4,)),
    Case("no budget", {"budget": 0}, 30, False, "budget of 0"),
    Case(
        "one runs",
        {"cooldown": "1h", "budget": 9, "patience": "5d"},
        4, False, "still under way", status="started", version="1",
    ),
    Case(
        "one is lost",
        {"cooldown": "1h", "budget": 9, "patience": "1d"},
        4, True, status="started", version="1",
    ),
    Case(
        "the one that ran has replaced the model",
        {"cooldown": "1h", "budget": 9, "patience": "5d"},
        4, True, status="started", version="2",
    ),
    Case("one failed", {"cooldown": "1h", "budget": 9}, 4, True, status="failed", version="1"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_request(tmp_path: Path, case: Case) -> None:
    first = ask(tmp_path, 2, config(cooldown="1h", budget=9)).request
    mark(tmp_path, first, case.status, run="run-1")
    for day in case.more:
        done = ask(tmp_path, day, config(cooldown="1h", budget=9), version="2").request
        mark(tmp_path, done, "finished")
    decision = ask(tmp_path, case.day, config(**case.settings), version=case.version)
    assert decision.retrain is case.expected, decision.why
    assert case.why in decision.why


def test_a_window_of_the_past_is_not_held_up_by_later_requests(tmp_path: Path) -> None:
    ask(tmp_path, 20, config())
    assert ask(tmp_path, 5, config()).retrain


def test_a_person_asks_in_their_own_words(tmp_path: Path) -> None:
    decision = request_training(
        tmp_path, "flights", "1", window(2), ("new airline joined",), MonitoringConfig()
    )
    assert decision.request is not None
    assert decision.request.reasons == ("new airline joined",)


def test_how_it_went_is_kept(tmp_path: Path) -> None:
    request = ask(tmp_path, 2, config()).request
    mark(tmp_path, request, "started", run="abc")
    mark(tmp_path, requests(tmp_path, "flights")[0], "finished")
    (kept,) = requests(tmp_path, "flights")
    assert (kept.status, kept.run) == ("finished", "abc")


def test_a_damaged_request_is_named(tmp_path: Path) -> None:
    ask(tmp_path, 2, config())
    path = next(tmp_path.rglob("*.json"))
    path.write_text("{}")
    with pytest.raises(SlipwayError, match=path.name):
        ask(tmp_path, 9, config())
