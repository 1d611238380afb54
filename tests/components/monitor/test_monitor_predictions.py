"""A scored table is watched as an endpoint's log is, and keeps a history of its own."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.events import shares

from slipway.components.monitor import history

DAYS = ("2013-12-09T05:00:00", "2013-12-11T05:00:00")

SECTION: dict[str, Any] = {
    "entities": {"flight": "flight_id"},
    "examples": {"table": "flights", "key": "flight_id", "time": "departure", "lead": "2h"},
    "label": {"column": "arr_delay", "above": 15, "known": "arrival"},
    "split": {"validation": "31d", "test": "61d"},
    "views": [
        {
            "name": "flights",
            "entity": "flight",
            "table": "flights",
            "time": "departure",
            "available": "30d",
            "fields": {"miles": "distance"},
        }
    ],
}


def _as_scored_table(world: Any) -> Path:
    """The log's rows as score writes them: one file a day, no latency."""
    folder: Path = world.root / "predictions"
    for day in sorted((world.log / "flights").iterdir()):
        rows = pa.concat_tables(pq.read_table(p) for p in sorted(day.rglob("*.parquet")))
        place = rows.column_names.index("latency_ms")
        rows = rows.set_column(place, "latency_ms", pa.nulls(rows.num_rows, pa.float64()))
        (folder / "flights" / day.name).mkdir(parents=True)
        pq.write_table(rows, folder / "flights" / day.name / "part-00000.parquet")
    return folder


def test_a_scored_table_gets_the_record_that_its_requests_would_get(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slipway.components.config.data import parse_window
    from slipway.components.monitor.monitor import MonitoringTask, monitor_window

    world.write_log(world.between(*DAYS))
    served = world.run(*DAYS).record
    scored_table = _as_scored_table(world)
    monkeypatch.setenv("INFERENCE_LOG_URI", str(world.root / "nothing"))
    capsys.readouterr()
    scored = monitor_window(
        MonitoringTask(
            labels_path=world.root / "labels",
            project="flights",
            config={**world.config, "retrain": False},
            features=SECTION,
            window=parse_window(*DAYS),
            endpoint="",
            record_path=world.root / "scored.json",
            report_path=world.root / "scored.html",
            log_uri=str(scored_table),
            series="flights-scoring",
        )
    ).record
    told = shares(capsys.readouterr().out)
    assert told == sorted(told) and told[0] == 0 and told[-1] > 0.9 and len(set(told)) >= 8
    assert scored.model == "flights-scoring"
    assert scored.summary["total_predictions"] == served.summary["total_predictions"] > 1000
    assert scored.summary["current_accuracy"] == served.summary["current_accuracy"]
    assert scored.details["features"] == served.details["features"]
    assert scored.metrics.model_version == served.metrics.model_version
    assert scored.summary["avg_latency"] is None
    asked, of_table = ((world.root / name).read_text() for name in ("report", "scored.html"))
    for words in ("answer time", "requests failed", "<h2>System</h2>"):
        assert words in asked and words not in of_table, words
    assert "features changed" in of_table and "<h2>Drift</h2>" in of_table
    root = str(world.root / "home")
    assert len(history.records(root, "flights-scoring")) == 1
    assert len(history.records(root, "flights")) == 1
