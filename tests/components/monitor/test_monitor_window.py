"""The stage as the face calls it, on real flights."""

import dataclasses
import itertools
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fsspec.implementations.local import LocalFileSystem

from slipway.components.config.data import Window
from slipway.components.contracts.monitoring.inference_log import (
    LOCAL_ROLL_SECONDS,
    WHOLE_AFTER,
    whole_after,
)
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.monitor import history, tracking
from slipway.components.monitor.window import wait_until_whole
from slipway.components.support.errors import SlipwayError

WEEK = ("2013-12-09T05:00:00", "2013-12-16T05:00:00")
SEPTEMBER = ("2013-09-16T05:00:00", "2013-09-23T05:00:00")


def names(result: Any) -> list[str]:
    return [alert.name for alert in result.record.alerts]


def test_a_december_week_drifts_and_its_accuracy_is_that_of_the_labels(world: Any) -> None:
    rows = world.between(*WEEK)
    world.write_log(rows)
    result = world.run(*WEEK)
    known = rows.filter(
        pl.col("late").is_not_null()
        & (pl.col("arrival") <= pl.lit(WEEK[1]).str.to_datetime(time_zone="UTC"))
    )
    right = ((known["probability"] >= 0.25).cast(pl.Int8) == known["late"]).mean()
    summary = result.record.summary
    assert summary["total_predictions"] == rows.height
    assert summary["labelled"] == known.height
    assert summary["current_accuracy"] == pytest.approx(right, abs=1e-12)
    assert summary["avg_latency"] == pytest.approx(3.0)
    drifted = {n for n, f in result.record.details["features"].items() if f["drifted"]}
    assert "temp" in drifted
    # One week saw seven days of weather: what visibility differs by, weeks differ by anyway.
    assert not {"leaves_from", "departs", "miles", "visib"} & drifted
    temp = result.record.details["features"]["temp"]["statistics"]
    assert 4 < temp["worth"] < 40
    assert "FEATURE_DRIFT" in names(result)
    assert result.decision == "keep"
    assert all(isinstance(value, float) for value in result.numbers.values())
    assert MonitoringRecord.read(world.root / "record.json") == result.record


def test_the_report_stands_alone_and_names_what_was_found(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    result = world.run(*WEEK, report_rows=500)
    page = (world.root / "report").read_text()
    assert "temp" in page and "How well it does" in page and "<iframe" not in page
    assert len(page) < 400_000 < (world.root / "evidently.html").stat().st_size
    assert "Evidently's page calls" in page.replace("&#39;", "'")
    for outside in ('src="http', "src='http", 'href="http', "@import url"):
        assert outside not in page
    assert result.record.details["sampled_rows"] == 500
    # What the gate asked for stands beside what was measured.
    assert result.record.details["thresholds"] == {"accuracy": 0.7}
    (row,) = re.findall(r'<tr[^>]*><th scope="row">accuracy</th>.*?</tr>', page)
    assert 'data-name="Gate\'s bound">0.7</td>' in row and "beyond the bound" in row


def test_a_repeated_window_gives_the_same_record_and_one_row(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    first = world.run(*WEEK)
    text = (world.root / "record.json").read_text()
    second = world.run(*WEEK)
    assert (world.root / "record.json").read_text() == text
    assert first.record == second.record
    assert history.records(world.root / "home", "flights") == [first.record]


@dataclass
class Case:
    name: str
    log: dict[str, Any]
    config: dict[str, Any]
    fires: str
    rows: int | None = None


CASES = [
    Case("slow", {"latency_ms": 150.0}, {}, "HIGH_LATENCY"),
    Case("errors", {"failed": 200}, {}, "HIGH_ERROR_RATE"),
    Case("inaccurate", {}, {"alerts": {"accuracy": 0.99}}, "LOW_ACCURACY"),
    Case("few rows", {}, {}, "NO_DATA", rows=199),
    Case("drift", {}, {"alerts": {"accuracy": 0.6, "drift": 0.05}}, "DATA_DRIFT"),
    Case("aged", {}, {"alerts": {"accuracy": 0.6, "accuracy_drop": 0.001}}, "ACCURACY_DROP"),
    Case("a feature is gone", {"drop": ("temp",)}, {}, "SCHEMA_BREAK"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_default_alert_fires(world: Any, case: Case) -> None:
    rows = world.between(*WEEK)
    world.write_log(rows[: case.rows] if case.rows else rows, **case.log)
    result = world.run(*WEEK, **case.config)
    assert case.fires in names(result)


def test_a_quiet_window_raises_nothing_but_names_of_drifted_features(world: Any) -> None:
    world.write_log(world.between(*SEPTEMBER))
    result = world.run(*SEPTEMBER, alerts={"accuracy": 0.5, "accuracy_drop": 0.2, "drift": 0.5})
    assert set(names(result)) <= {"FEATURE_DRIFT", "PREDICTION_DRIFT"}
    assert result.record.drift_status == "stable"


def test_no_log_at_all_is_no_data_and_never_no_drift(world: Any) -> None:
    result = world.run(*WEEK)
    assert result.record.drift_status == "no_data"
    assert names(result) == ["NO_DATA"]
    assert result.record.metrics.data_drift_score is None
    assert result.record.summary["current_accuracy"] is None
    assert 'not "no drift"' in (world.root / "report").read_text().replace("&#34;", '"')


def test_labels_that_are_not_known_yet_do_not_count(world: Any) -> None:
    start, end = "2013-12-09T12:00:00", "2013-12-09T18:00:00"
    world.write_log(world.between(start, end))
    early = world.run(start, end, min_rows=1).record.summary
    late = world.run(start, end, min_rows=1, label_wait="2d").record.summary
    assert 0 < early["labelled"] < late["labelled"] < early["total_predictions"]
    assert late["unlabelled_share"] < 0.2


def test_accuracy_is_unknown_below_the_least_number_of_labels(world: Any) -> None:
    start, end = "2013-12-09T12:00:00", "2013-12-09T18:00:00"
    world.write_log(world.between(start, end))
    summary = world.run(start, end, min_rows=200).record.summary
    assert 0 < summary["labelled"] < 200 < summary["total_predictions"]
    assert "No alert looks at so few" in (world.root / "report").read_text()
    assert summary["current_accuracy"] is None
    assert summary["expected_accuracy"] is not None


def test_retraining_is_asked_for_only_where_it_is_allowed(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    bad = {"alerts": {"accuracy": 0.99}}
    assert world.run(*WEEK, **bad, retrain=True).decision == "retrain"
    kept = world.run(*WEEK, **bad, retrain=False)
    assert kept.decision == "keep"
    assert "monitoring.retrain is off" in kept.record.details["decision"]
    assert world.run(*WEEK, retrain=True, alerts={"accuracy": 0.1, "drift": 0.9}).decision == "keep"


def test_the_version_with_most_rows_is_watched_and_the_others_are_counted(world: Any) -> None:
    rows = world.between(*WEEK)
    world.write_log(rows[:-500])
    world.write_log(rows[-500:], version="99")
    record = world.run(*WEEK).record
    assert record.metrics.model_version == world.version
    assert record.details["versions"] == {world.version: rows.height - 500, "99": 500}
    assert record.details["performance"]["predictions"] == rows.height - 500


def test_a_version_named_by_the_models_hash_is_found(world: Any) -> None:
    world.write_log(world.between(*WEEK), version=("c0ffee" * 10)[:12])
    assert world.run(*WEEK).record.metrics.model_version == world.version


def test_a_version_that_the_registry_does_not_have_is_an_error(world: Any) -> None:
    world.write_log(world.between(*WEEK), version="77")
    with pytest.raises(SlipwayError, match=r"version 77 of flights.*MLFLOW_TRACKING_URI"):
        world.run(*WEEK)


def test_the_window_is_cut_to_the_microsecond(world: Any) -> None:
    world.write_log(world.between("2013-12-09T05:00:00", "2013-12-10T05:00:00"))
    start, end = "2013-12-09T12:30:00", "2013-12-09T13:30:00"
    result = world.run(start, end)
    assert result.record.summary["total_predictions"] == world.between(start, end).height


def test_a_damaged_log_file_is_named(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    damaged = next((world.root / "log").rglob("*.parquet"))
    damaged.write_bytes(b"PAR1 not parquet")
    with pytest.raises(SlipwayError, match=damaged.name):
        world.run(*WEEK)


def test_files_that_are_still_being_written_are_left_alone(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    folder = next((world.root / "log").rglob("*.parquet")).parent
    (folder / ".half.parquet").write_bytes(b"PAR1")
    (folder / "half.parquet.partial").write_bytes(b"PAR1")
    assert world.run(*WEEK).record.summary["total_predictions"] == world.between(*WEEK).height


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2013-12-02", "2013-12-01", "not before"),
        ("2013-12-02", "2013-12-02", "not before"),
        ("soon", "2013-12-02", "ISO 8601"),
    ],
)
def test_a_window_that_is_none_is_refused(world: Any, start: str, end: str, message: str) -> None:
    with pytest.raises(SlipwayError, match=message):
        world.run(start, end)


def test_labels_without_the_examples_table_are_refused(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    folder: Path = world.write_labels()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tables"]["planes"] = manifest["tables"].pop("flights")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SlipwayError, match="no table 'flights'"):
        world.run(*WEEK)


def test_mlflow_has_one_point_a_window(world: Any) -> None:
    import mlflow

    world.write_log(world.between(*WEEK))
    for _ in range(2):
        result = world.run(*WEEK)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("flights-monitoring")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 and runs[0].info.status == "FINISHED"
    end = 1387170000000
    points = [
        p for p in client.get_metric_history(runs[0].info.run_id, "total_predictions")
        if p.timestamp == end and p.value == result.numbers["total_predictions"]
    ]  # fmt: skip
    assert len(points) == 1
    # No number has two names; counts may be alike by chance.
    last = client.get_run(runs[0].info.run_id).data.metrics
    measured = [last[name] for name in result.numbers if not last[name].is_integer()]
    assert len(measured) == len(set(measured)) > 5, result.numbers
    assert {"current_accuracy", "avg_latency"} <= result.numbers.keys()
    assert not {"model_accuracy", "prediction_latency_ms"} & result.numbers.keys()


def test_mlflow_shows_the_report_of_each_of_the_newest_windows(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setattr(tracking, "KEPT_REPORTS", 2)
    world.write_log(world.between("2013-12-02T05:00:00", WEEK[1]))
    ends = ("2013-12-11T05:00:00", "2013-12-13T05:00:00", WEEK[1], WEEK[1])
    for end in ends:
        result = world.run("2013-12-02T05:00:00", end)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("flights-monitoring")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    folders = [one.path for one in client.list_artifacts(run.info.run_id, "reports")]
    assert [folder.removeprefix("reports/2013-12-") for folder in sorted(folders)] == [
        "13T050000Z",
        "16T050000Z",
    ]
    newest = f"{max(folders)}/report.html"
    assert [one.path for one in client.list_artifacts(run.info.run_id, max(folders))] == [newest]
    page = Path(client.download_artifacts(run.info.run_id, newest)).read_text()
    assert page == (world.root / "report").read_text()
    assert f"{result.record.summary['total_predictions']:,}" in page


def test_a_tracker_that_lets_nobody_delete_keeps_no_window_from_its_end(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slipway.components.support.tracking import MlflowServer

    def refuse(self: MlflowServer, uri: str) -> None:
        raise SlipwayError("MLflow answered 403 to a deletion.")

    monkeypatch.setattr(tracking, "KEPT_REPORTS", 1)
    monkeypatch.setattr(MlflowServer, "delete_files", refuse)
    world.write_log(world.between("2013-12-02T05:00:00", WEEK[1]))
    for end in ("2013-12-11T05:00:00", WEEK[1]):
        assert world.run("2013-12-02T05:00:00", end).record.summary["total_predictions"] > 0
    assert "the reports of old windows stay: MLflow answered 403" in capsys.readouterr().out


def test_status_shows_the_last_window_and_the_trend(world: Any) -> None:
    world.write_log(world.between("2013-12-02T05:00:00", WEEK[1]))
    world.run("2013-12-02T05:00:00", WEEK[0])
    world.run(*WEEK)
    (shown,) = history.latest(world.root / "home")
    assert shown["model"] == "flights"
    assert shown["window"] == ("2013-12-09T05:00:00Z", "2013-12-16T05:00:00Z")
    assert shown["summary"]["total_predictions"] == world.between(*WEEK).height
    assert [t["window_end"] for t in shown["trend"]] == [
        "2013-12-09T05:00:00Z",
        "2013-12-16T05:00:00Z",
    ]
    assert history.latest(world.root / "nowhere") == []
    # Of two windows that end at once, or on other data, the one that was measured last.
    for window in (("2013-12-12T05:00:00", WEEK[1]), WEEK, ("2013-12-02T05:00:00", WEEK[0])):
        again = world.run(*window)
        (shown,) = history.latest(world.root / "home")
        assert shown["window"] == again.record.window
        assert shown["trend"][-1]["window_end"] == "2013-12-16T05:00:00Z"


def test_a_rule_may_have_to_hold_for_a_while(world: Any) -> None:
    days = [f"2013-12-{day:02d}T05:00:00" for day in (9, 10, 11, 12)]
    world.write_log(world.between(days[0], days[-1]), latency_ms=150.0)
    patient = {"rules": {"HIGH_LATENCY": {"for": "2d", "severity": "critical"}}}
    fired = [
        [
            a.severity
            for a in world.run(start, end, **patient).record.alerts
            if a.name == "HIGH_LATENCY"
        ]
        for start, end in itertools.pairwise(days)
    ]
    assert fired == [[], ["critical"], ["critical"]]


def test_a_rule_that_is_off_is_silent(world: Any) -> None:
    off = {"rules": {"NO_DATA": {"enabled": False}}}
    assert names(world.run(*WEEK, **off)) == []


def test_earlier_windows_can_be_the_reference(world: Any) -> None:
    days = [f"2013-12-{day:02d}T05:00:00" for day in (2, 3, 4, 9, 10)]
    world.write_log(world.between(days[0], days[-1]))
    rolling = {"drift": {"reference": "rolling"}}
    compared = []
    for start, end in ((0, 1), (1, 2), (3, 4)):
        record = world.run(days[start], days[end], **rolling).record
        compared.append(record.details["reference"])
    assert "no earlier windows" in compared[0]["name"]
    first = world.between(days[0], days[1]).height
    assert compared[1] == {"name": "1 earlier windows (rolling)", "rows": first}
    assert compared[2]["name"] == "2 earlier windows (rolling)"
    season = {"drift": {"reference": "season"}}
    monday = world.run(days[3], days[4], **season).record.details["reference"]
    assert monday == {"name": "1 earlier windows (season)", "rows": first}


def test_a_route_that_is_down_does_not_hide_the_run(world: Any, capsys: Any) -> None:
    world.write_log(world.between(*WEEK))
    route = {"name": "ops", "kind": "webhook", "url": "http://127.0.0.1:9/secret"}
    result = world.run(*WEEK, routes=[route], alerts={"accuracy": 0.99})
    assert "LOW_ACCURACY" in names(result)
    assert history.records(world.root / "home", "flights") == [result.record]
    told = capsys.readouterr().out
    assert "route ops could not be notified" in told and "secret" not in told


def test_a_predictor_that_is_down_does_not_hide_what_its_log_says(world: Any) -> None:
    world.write_log(world.between(*WEEK))
    record = world.run(*WEEK, endpoint="http://127.0.0.1:9").record
    assert "cannot be read" in record.details["endpoint"]["error"]
    assert "cannot be read" in (world.root / "report").read_text()
    assert record.summary["current_accuracy"] is not None


def test_a_predictor_that_answers_is_in_the_record(world: Any, page: dict[str, Any]) -> None:
    world.write_log(world.between(*WEEK))
    page["text"] = '# TYPE slipway_requests counter\nslipway_requests_total{code="200"} 5\n'
    record = world.run(*WEEK, endpoint=page["url"]).record
    assert record.details["endpoint"]["metrics"]["requests"] == 5
    assert "cannot be read" not in (world.root / "report").read_text()


def test_a_window_of_which_no_example_is_known_yet(world: Any) -> None:
    """Requests and an empty table of labels: measured, without an accuracy and without an error."""
    world.write_labels(world.flights.clear())
    world.write_log(world.between(*WEEK))
    summary = world.run(*WEEK).record.summary
    assert summary["total_predictions"] == world.between(*WEEK).height
    assert (summary["labelled"], summary["current_accuracy"]) == (0, None)
    # Neither requests nor labels, as of an endpoint that nobody asked.
    assert names(world.run("2013-08-01", "2013-08-02")) == ["NO_DATA"]


WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    ("after_end", "waits", "says"),
    [
        (timedelta(seconds=5), [WHOLE_AFTER.total_seconds() - 5], ""),
        (WHOLE_AFTER - timedelta(seconds=1), [1.0], ""),
        (WHOLE_AFTER, [], ""),
        (timedelta(days=400), [], ""),
        (timedelta(hours=-1), [], "the window ends at 2024-01-02T00:00:00Z, which is yet to come"),
    ],
)
def test_a_window_that_has_just_ended_is_read_once_its_log_is_whole(
    after_end: timedelta, waits: list[float], says: str
) -> None:
    slept: list[float] = []
    told = wait_until_whole(WINDOW, now=lambda: WINDOW.end + after_end, sleep=slept.append)
    assert slept == waits
    assert told.startswith(says) and bool(told) == bool(says)


def test_the_rows_of_the_last_roll_are_in_the_window(
    world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the predictor ships while the stage waits is measured; what is missing is said."""

    def ship(window: Window) -> str:
        world.write_log(world.between(*WEEK))
        return "the window ends later"

    record = world.run(*WEEK, wait=ship).record
    assert record.summary["total_predictions"] == world.between(*WEEK).height
    assert "WARNING: the window ends later" in capsys.readouterr().out


def test_a_predictor_rolls_as_often_as_monitoring_takes_it_to() -> None:
    from slipway.serving.settings import PredictorSettings

    fields = {f.name: f.default for f in dataclasses.fields(PredictorSettings)}
    assert timedelta(seconds=2 * fields["log_roll_seconds"]) == WHOLE_AFTER
    assert whole_after("s3://bucket/log") == WHOLE_AFTER
    assert whole_after("build/run/inference_log") == timedelta(seconds=2 * LOCAL_ROLL_SECONDS)


def test_a_run_lets_go_of_what_the_project_keeps_no_longer(
    world: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for start, end in (("2013-11-20", "2013-11-21"), ("2013-12-06", "2013-12-08")):
        world.write_log(world.between(start, end))
    days = world.log / "flights"
    world.run("2013-12-07", "2013-12-08")
    assert (days / "date=2013-11-20").is_dir(), "nothing is deleted where nothing is set"
    with monkeypatch.context() as broken:
        broken.setattr(LocalFileSystem, "rm", refuse)
        record = world.run("2013-12-07", "2013-12-08", retention={"log": "10d"}).record
    assert record.summary["total_predictions"] > 0, "a store that refuses fails no run"
    assert (
        "WARNING: not all that is past its time was deleted: The log of" in capsys.readouterr().out
    )
    assert (days / "date=2013-11-20").is_dir()
    world.run("2013-12-07", "2013-12-08", retention={"log": "10d"})
    assert sorted(path.name for path in days.iterdir()) == ["date=2013-12-06", "date=2013-12-07"]


def refuse(*_: Any, **__: Any) -> None:
    raise PermissionError("Access Denied")
