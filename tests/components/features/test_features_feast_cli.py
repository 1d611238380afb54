"""The `feast` command in the folder that the stage leaves, on sqlite and on a real Redis server."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.trips_world import CONFIG, WINDOW, trips_table, world

from slipway.components.contracts.feature_store import locate
from slipway.components.features.features import build_features

MakeDataset = Callable[..., Path]
Feast = Callable[..., str]


@pytest.fixture(params=["sqlite", "redis"])
def feast(
    request: pytest.FixtureRequest,
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Feast:
    """Runs the stage, and gives a `feast` command in its folder that returns what it prints."""
    if request.param == "redis":
        monkeypatch.setenv("FEAST_REDIS_URL", request.getfixturevalue("redis_server") + ",db=5")
    dataset = make_dataset(world(), WINDOW)
    build_features(dataset, f"cli-{request.param}", CONFIG, tmp_path / "splits")
    folder = locate(f"cli-{request.param}").folder
    assert folder is not None
    assert (folder / "online.db").exists() == (request.param == "sqlite")
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> str:
        from feast.cli.cli import cli

        result = CliRunner().invoke(cli, ["--log-level", "error", *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    return run


def test_it_lists_and_describes_what_the_project_declares(feast: Feast) -> None:
    views = feast("feature-views", "list")
    assert all(name in views for name in ("plan", "person", "sky", "driver_delays"))
    entities = feast("entities", "list")
    assert all(name in entities for name in ("trip", "driver", "zone"))
    assert "cli_" in feast("feature-services", "list")
    described = feast("feature-views", "describe", "driver_delays")
    assert "driver_delay" in described and "tables/driver_delays.parquet" in described


def test_it_reads_online_and_goes_on_filling_the_online_store(feast: Feast) -> None:
    asked = (
        "get-online-features", "--entities", "driver=4",
        "--features", "driver_delays:driver_last", "--features", "driver_delays:driver_trips",
    )  # fmt: skip
    found = json.loads(feast(*asked))
    assert found["driver_last"] == [trips_table()["delay"][234]]
    assert found["driver_trips"][0] > 0
    # Feast's own materialisation goes on where the stage stopped, by the same offline store. Three
    # days later the driver's last trip has left every window.
    feast("materialize-incremental", "2024-01-14T00:00:00")
    found = json.loads(feast(*asked))
    assert (found["driver_last"], found["driver_trips"]) == ([None], [0.0])
