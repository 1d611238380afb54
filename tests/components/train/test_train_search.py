"""The search before the training: what it tries, what it chooses, and that it goes on after a kill."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import slipway.components.train.search as module
from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import TRAINING
from slipway.components.contracts.splits import read_splits
from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.search import SearchTrial, search
from slipway.components.train.train import TrainingTask, train_model

CONFIG = {
    "network": {"width": 16, "architecture": "mlp", "embedding": 4},
    "members": 1,
    "epochs": 2,
    "batch_size": 128,
    "model": "network",
    "min_steps": 40,
    "learning_rate": 1e-6,
    "search": {
        "trials": 6.0,
        "space": {
            "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
            "network.width": [8.0, 16.0],
            "network.bins": {"low": 4.0, "high": 12.0},
        },
    },
}


@pytest.fixture
def prepared(make_splits: Any) -> Prepared:
    folder = make_splits(rows=600)
    config = TrainingConfig.model_validate(CONFIG)
    return prepare(folder, read_splits(folder), "toy", config, torch.device("cpu"))


def without_seconds(trials: list[SearchTrial]) -> list[SearchTrial]:
    return [replace(trial, seconds=0.0) for trial in trials]


def test_the_best_settings_are_trained_with(prepared: Prepared) -> None:
    chosen, trials = search(prepared, Checkpoint("", "", ""))
    assert [trial.number for trial in trials] == list(range(6))
    assert trials[0].values == {}
    for trial in trials[1:]:
        assert set(trial.values) == {"learning_rate", "network.width", "network.bins"}
        assert 1e-3 <= trial.values["learning_rate"] <= 3e-2
        assert trial.values["network.width"] in (8, 16)
        assert trial.values["network.bins"] in range(4, 13)
    best = max((t for t in trials if t.state == "complete"), key=lambda t: t.value or 0)
    assert best.value is not None
    assert best.value > (trials[0].value or 1) + 0.05
    config = chosen.config
    assert config.learning_rate == best.values["learning_rate"]
    assert config.network.width == best.values["network.width"]
    assert config.network.bins == best.values["network.bins"]
    assert config.network.embedding == 4
    assert chosen.identity != prepared.identity
    width = chosen.make_network().state_dict()["output.weight"].shape[1]
    assert width == best.values["network.width"]


def test_the_given_settings_stay_where_nothing_is_better(prepared: Prepared) -> None:
    space = {"learning_rate": [1e-9]}
    config = prepared.config.model_copy(
        update={
            "learning_rate": 1e-2,
            "search": prepared.config.search.model_copy(update={"trials": 2, "space": space}),
        }
    )
    chosen, trials = search(replace(prepared, config=config), Checkpoint("", "", ""))
    assert trials[1].values == {"learning_rate": 1e-9}
    assert chosen.config.learning_rate == 1e-2


def test_a_search_that_was_killed_goes_on(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_choice, whole = search(prepared, Checkpoint("", "", ""))
    place = Checkpoint(str(tmp_path), "toy", "search")
    try_one: Callable[..., SearchTrial] = module._try
    tried: list[int] = []

    def until(limit: int) -> None:
        def one(prepared: Prepared, trials: list[SearchTrial]) -> SearchTrial:
            if len(trials) == limit:
                raise KeyboardInterrupt
            tried.append(len(trials))
            return try_one(prepared, trials)

        monkeypatch.setattr(module, "_try", one)

    until(3)
    with pytest.raises(KeyboardInterrupt):
        search(prepared, place, run_id=lambda: "run-1")
    assert (place.load() or {})["run_id"] == "run-1"
    until(99)
    choice, trials = search(prepared, place)
    assert tried == list(range(6)), "no trial is tried twice"
    assert without_seconds(trials) == without_seconds(whole)
    assert choice.config == whole_choice.config


def test_it_is_bounded_in_time(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 400.0
        return now

    monkeypatch.setattr(
        module,
        "_try",
        lambda prepared, trials: SearchTrial(
            number=len(trials), values={}, state="complete", value=0.5
        ),
    )
    monkeypatch.setattr(module.time, "monotonic", clock)
    _, trials = search(prepared, Checkpoint("", "", ""))
    assert len(trials) == 5
    assert "no further trial: 30 minutes are over" in capfd.readouterr().out


def test_a_trial_whose_loss_is_not_finite_is_a_failed_trial(prepared: Prepared) -> None:
    space = {"learning_rate": [1e30]}
    config = prepared.config.model_copy(
        update={"search": prepared.config.search.model_copy(update={"trials": 2, "space": space})}
    )
    chosen, trials = search(replace(prepared, config=config), Checkpoint("", "", ""))
    assert [trial.state for trial in trials] == ["complete", "failed"]
    assert chosen.config.learning_rate == 1e-6
    worse = config.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(SlipwayError, match=r"None of the 2 trials .* learning rate first"):
        search(replace(prepared, config=worse), Checkpoint("", "", ""))


REFUSALS = [
    ({"space": {"seed": [1, 2]}}, "cannot vary seed; it can vary learning_rate"),
    ({"space": {"learning_rate": []}}, "a setting without values"),
    ({"space": {"learning_rate": {"low": 1, "high": 1}}}, "low must be below high"),
    ({"space": {"learning_rate": {"low": 0, "high": 1, "log": True}}}, "above 0 where log is set"),
    ({"trials": -1}, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSALS, ids=lambda value: str(value)[:30])
def test_a_search_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate({"search": settings})


def test_a_search_on_several_nodes_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"search with nodes\.count 1"):
        TrainingConfig.model_validate({"search": {"trials": 2}, "nodes": {"count": 2}})


def test_each_trial_is_a_nested_run(make_splits: Any, tmp_path: Path, tracking: str) -> None:
    """The whole stage: nested runs in MLflow, the trials in the log and the report."""
    from mlflow.tracking import MlflowClient

    result = train_model(
        TrainingTask(
            splits=make_splits(rows=600),
            project="toy",
            config=CONFIG | {"search": CONFIG["search"] | {"trials": 3}},  # type: ignore[operator]
            seed=0,
            epochs=2,
            learning_rate=1e-6,
            gpus=0,
            allow_cpu=False,
            bundle=tmp_path / "bundle",
            report=tmp_path / "report.html",
        )
    )
    log = json.loads((tmp_path / "bundle" / TRAINING).read_text())
    assert [trial["number"] for trial in log["search"]] == [0, 1, 2]
    best = max((t for t in log["search"] if t["state"] == "complete"), key=lambda t: t["value"])
    assert log["settings"]["learning_rate"] == best["values"].get("learning_rate", 1e-6)
    text = (tmp_path / "report.html").read_text()
    assert "<h2>Search</h2>" in text
    assert text.count("<td>complete</td>") + text.count("<td>pruned</td>") == 3

    client = MlflowClient(tracking)
    assert result.run_id is not None
    parent = client.get_run(result.run_id)
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{result.run_id}'"
    )
    by_name = {run.info.run_name: run for run in children}
    assert sorted(by_name) == ["trial-1", "trial-2", "trial-3"]
    assert by_name["trial-1"].data.params == {}
    for trial in log["search"]:
        run = by_name[f"trial-{trial['number'] + 1}"]
        assert run.data.params == {name: str(value) for name, value in trial["values"].items()}
        history = client.get_metric_history(run.info.run_id, "auc")
        assert [point.value for point in history] == [e["auc"] for e in trial["history"]]
        assert run.info.status == {"complete": "FINISHED", "pruned": "KILLED"}[trial["state"]]
    assert parent.data.params["learning_rate"] == str(log["settings"]["learning_rate"])
