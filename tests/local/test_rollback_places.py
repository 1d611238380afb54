"""A roll-back on a cluster takes no place of this machine to it."""

from pathlib import Path
from typing import Any

import pytest

from slipway.components.config.project import load_project
from slipway.components.deploy import rollback as stage
from slipway.components.support.errors import SlipwayError
from slipway.local.rollback import roll_back_project
from slipway.local.workspace import Workspace

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
CLUSTER = {"MLFLOW_TRACKING_URI": "http://mlflow.mlflow", "INFERENCE_LOG_URI": "s3://logs/flights"}
UNFIT = {
    "nothing is set": ({}, "MLFLOW_TRACKING_URI, INFERENCE_LOG_URI: not set"),
    "a local log": (CLUSTER | {"INFERENCE_LOG_URI": "build/log"}, "^INFERENCE_LOG_URI: not set"),
    "a local registry": (
        CLUSTER | {"MLFLOW_TRACKING_URI": "sqlite:///m.db"},
        "^MLFLOW_TRACKING_URI",
    ),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(stage, "roll_back", lambda **about: calls.append(about["config"].target))
    for name in (
        *CLUSTER,
        "FEATURE_STORE_URI",
        "MONITORING_URI",
        "SLIPWAY_HOME",
        "SLIPWAY_TRUST_REQUEST_TIME",
    ):
        monkeypatch.setenv(name, "")
    return calls


def roll_back(target: str, folder: Path) -> Any:
    return roll_back_project(
        load_project(FLIGHTS), Workspace(folder), target=target, version=None, show=print
    )


@pytest.mark.parametrize("case", UNFIT)
def test_places_of_this_machine_are_refused(
    case: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, said = UNFIT[case]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SlipwayError, match=said):
        roll_back("kserve", tmp_path)
    assert asked == []


def test_a_cluster_s_places_are_taken_and_a_local_endpoint_needs_none(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roll_back("local", tmp_path)
    for name, value in CLUSTER.items():
        monkeypatch.setenv(name, value)
    roll_back("kserve", tmp_path)
    assert asked == ["local", "kserve"]
