"""`slipway push`: events of a file or of standard input, to the online store and to their source."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.customers_world import write_project
from support.datasets import write_dataset
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.features.features import build_features
from slipway.components.support.errors import SlipwayError

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=10)
FEATURES: dict[str, Any] = {
    "entities": {"user": "user"},
    "examples": {"table": "orders", "key": "order", "time": "at"},
    "label": {"column": "bought"},
    "split": {"validation": "2d", "test": "2d"},
    "streams": {"clicks": {"key": "event"}},
    "views": [
        {
            "name": "recent", "entity": "user", "table": "clicks", "time": "at",
            "aggregates": {"clicks_1h": {"function": "count", "window": "1h"}},
        }
    ],
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which the features stage ran; its clicks are a folder of jsonl."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    times = pl.Series([START + 2 * timedelta(hours=i) for i in range(120)])
    orders = pl.DataFrame({"order": range(120), "user": [i % 3 for i in range(120)], "at": times})
    orders = orders.with_columns(bought=pl.int_range(120) % 2)
    clicks = orders.select(pl.format("c{}", "order").alias("event"), "user", "at")
    folder = write_project(tmp_path / "project", {"orders": orders}, FEATURES)
    text = (folder / "project.yaml").read_text()
    table = "      format: csv\n    clicks:\n      path: clicks\n      format: jsonl\n"
    window = f"  window:\n    start: {START.isoformat()}\n    end: {END.isoformat()}\nschema:"
    text = text.replace("      format: csv\n", table).replace("schema:", window, 1)
    (folder / "project.yaml").write_text(text)
    (folder / "clicks").mkdir()
    schema = {"tables": {name: {"properties": {}} for name in ("orders", "clicks")}}
    (folder / "schema.json").write_text(json.dumps(schema))
    window = (START.isoformat(), END.isoformat())
    dataset = write_dataset(tmp_path / "dataset", {"orders": orders, "clicks": clicks}, window)
    build_features(dataset, "customers", FEATURES, tmp_path / "splits")
    return folder


def line(name: str, **more: Any) -> str:
    at = (END + timedelta(minutes=5)).isoformat()
    return json.dumps({"event": name, "user": 1, "at": at} | more) + "\n"


def push(project: Path, *arguments: str, given: str | None = None) -> Any:
    command = ["push", *arguments, "--project", str(project), "--out", str(project / "run")]
    return CliRunner().invoke(app, command, input=given)


def served() -> float:
    from feast import FeatureStore, RepoConfig

    from slipway.components.contracts.feature_store import repo_config

    store = FeatureStore(config=RepoConfig(**repo_config("customers")))
    service = store.get_feature_service("customers")
    found = store.get_online_features(features=service, entity_rows=[{"user": 1}]).to_dict()
    return float(found["clicks_1h"][0])


def test_a_file_and_standard_input_are_pushed(project: Path) -> None:
    file = project / "events.jsonl"
    file.write_text(line("a") + "\n" + line("b"))
    done = push(project, str(file), "--table", "clicks")
    assert done.exit_code == 0, done.output
    assert "Pushed 2 events of clicks online" in done.output
    assert "stands for 2024-01-11T00:05:00Z" in done.output
    assert served() == 2.0
    assert push(project, "-", given=line("c") + line("a")).exit_code == 0
    assert served() == 3.0
    assert "No events came" in push(project, "-", given="").output
    assert not list((project / "clicks").iterdir())


def test_of_a_file_with_a_malformed_event_nothing_is_pushed(project: Path) -> None:
    file = project / "events.jsonl"
    file.write_text(line("a") + line("b", user=1.5))
    before = served()
    for to in ("online", "both", "offline"):
        done = push(project, str(file), "--to", to)
        assert isinstance(done.exception, SlipwayError), done.output
        assert "events.jsonl, line 2: field 'user' is 1.5, not a whole number" in str(
            done.exception
        )
    assert served() == before and not list((project / "clicks").iterdir())


def test_events_are_landed_once_where_ingest_reads_them(project: Path) -> None:
    file = project / "events.jsonl"
    file.write_text(line("a") + "\n" + line("b"))
    before = served()
    done = push(project, str(file), "--to", "offline")
    assert done.exit_code == 0 and served() == before, done.output
    for _ in range(2):
        assert push(project, str(file), "--to", "both").exit_code == 0
    (landed,) = (project / "clicks").iterdir()
    assert landed.suffix == ".jsonl" and landed.read_text() == line("a") + line("b")
    assert served() == 2.0
    text = (project / "project.yaml").read_text()
    (project / "project.yaml").write_text(text.replace("format: jsonl", "format: parquet"))
    refused = push(project, str(file), "--to", "both")
    assert "the table clicks is of format parquet" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.jsonl",), "nowhere.jsonl is no file"),
        (("-", "--table", "orders"), "'orders' is no stream of this project (clicks)"),
    ],
)
def test_bad_usage_is_refused(arguments: tuple[str, ...], said: str, project: Path) -> None:
    done = push(project, *arguments, given=line("a"))
    assert said in str(done.exception), done.output


def test_a_project_without_streams_takes_none(repository: Path) -> None:
    done = push(repository / "examples" / "flights", "-", given="")
    assert "flights has no stream: name the table under `features.streams`" in str(done.exception)
