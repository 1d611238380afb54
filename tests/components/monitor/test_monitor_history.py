"""The history of windows: what is read of it, and which window is the last."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.components.contracts.monitoring.monitoring_record import (
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.monitor import history, state
from slipway.components.support.errors import SlipwayError

START = datetime(2025, 1, 1, tzinfo=UTC)
HOURS = 8_760


def record(hour: int, **details: object) -> MonitoringRecord:
    """A window of one hour whose accuracy is the hour / 10,000."""
    ends = tuple(f"{START + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ}" for h in (hour, hour + 1))
    metrics = MLSystemMetrics(
        timestamp=ends[1],
        model_version="3",
        model_accuracy=hour / 10_000,
        prediction_latency_ms=1.0,
        throughput_rps=None,
        error_rate=0.0,
        data_drift_score=None,
        feature_drift_score=None,
    )
    return MonitoringRecord(
        model="shop",
        window=(ends[0], ends[1]),
        metrics=metrics,
        drift_status="no_data",
        summary={"total_predictions": hour},
        alerts=(),
        retrain=False,
        details=details,
    )


def hours(shown: history.LatestWindow) -> list[int]:
    return [window["total_predictions"] for window in shown["trend"]]


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year of hourly windows; those before its last weeks are damaged, for none may be read."""
    root = tmp_path_factory.mktemp("year")
    for hour in range(HOURS - 300, HOURS):
        history.append(root, record(hour))
    windows = root / "shop" / "windows"
    (root / "damaged").write_bytes(b"damaged")
    for hour in range(HOURS - 300):
        name = history.window_name(record(hour).window)
        os.link(root / "damaged", windows / f"{name}.parquet")
    (root / "damaged").unlink()
    return root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of the store."""
    seen: list[str] = []
    read = state.read

    def noted(path: str) -> bytes | None:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(state, "read", noted)
    return seen


def test_status_of_a_year_reads_what_it_shows(year: Path, reads: list[str]) -> None:
    (shown,) = history.latest(year)
    assert len(reads) == history.TREND + 1  # and the note
    assert shown["summary"]["total_predictions"] == HOURS - 1
    assert hours(shown) == list(range(HOURS - 30, HOURS))


def test_the_page_of_a_year_reads_what_it_shows(
    year: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from starlette.testclient import TestClient

    from slipway.local.ui.app import SHOWN_WINDOWS, make_app
    from slipway.local.workspace import Workspace

    monkeypatch.setenv("MONITORING_URI", str(year))
    page = TestClient(make_app(Workspace.at(tmp_path)), base_url="http://127.0.0.1:8765")
    answer = page.get("/monitoring/shop")
    assert answer.status_code == 200
    assert "The last 200 of 8,760 windows, the newest first" in answer.text
    assert answer.text.count('<th scope="row"') == SHOWN_WINDOWS
    assert len(reads) == history.TREND + 1 + SHOWN_WINDOWS


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({"newest": 1}, [HOURS - 1]),
        ({"newest": 2, "before": START + timedelta(hours=HOURS - 9)}, [HOURS - 12, HOURS - 11]),
        ({"after": START + timedelta(hours=HOURS - 1)}, [HOURS - 2, HOURS - 1]),
    ],
)
def test_only_what_is_asked_for_is_read(
    year: Path, reads: list[str], asked: dict[str, object], read: list[int]
) -> None:
    found = history.records(year, "shop", **asked)  # type: ignore[arg-type]
    assert [entry.summary["total_predictions"] for entry in found] == read
    assert len(reads) == len(read)


def test_an_old_window_that_was_measured_again_is_the_last(tmp_path: Path) -> None:
    for hour in range(40):
        history.append(tmp_path, record(hour))
    history.append(tmp_path, record(2))
    (shown,) = history.latest(tmp_path)
    assert shown["summary"]["total_predictions"] == 2
    assert hours(shown) == list(range(10, 40))
    history.append(tmp_path, record(40))
    assert history.latest(tmp_path)[0]["summary"]["total_predictions"] == 40


def test_without_the_note_it_is_the_last_of_those_that_are_shown(tmp_path: Path) -> None:
    """A run that was killed between the two files, or an earlier release."""
    for hour in (*range(40), 30, 2):
        history.append(tmp_path, record(hour))
    note = tmp_path / "shop" / history.LATEST
    note.unlink()
    assert history.latest(tmp_path)[0]["summary"]["total_predictions"] == 30
    note.write_text('{"window": "19990101T000000Z_19990101T010000Z.parquet"}')  # it was removed
    assert history.latest(tmp_path)[0]["summary"]["total_predictions"] == 30


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"window": 3}', '{"window": "../../x"}', "[" * 2_000]
)
def test_a_damaged_note_is_named(tmp_path: Path, content: str) -> None:
    history.append(tmp_path, record(1))
    (tmp_path / "shop" / history.LATEST).write_text(content)
    with pytest.raises(SlipwayError, match=r"latest.json does not name a window.*Delete it"):
        history.latest(tmp_path)
    history.append(tmp_path, record(1))
    assert history.latest(tmp_path)[0]["summary"]["total_predictions"] == 1


def test_labels_that_came_late_are_in_the_trend(tmp_path: Path) -> None:
    for hour in range(40):
        history.append(tmp_path, record(hour))
    told = {"window": list(record(12).window), "accuracy": 0.75}
    history.append(tmp_path, record(40, late=[told]))
    (shown,) = history.latest(tmp_path)
    quality = {w["total_predictions"]: w["quality"] for w in shown["trend"]}
    assert quality[12] == 0.75 and quality[13] == 0.0013
