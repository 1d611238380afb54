"""The comparison with other systems goes on where it ended, and keeps to the minutes it is given."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import train_quality
from benchmarks.quality import kept, peers, standings

SETTINGS: dict[str, Any] = {"threads": 2, "rows": {"train": 6}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept, "RESULTS", tmp_path)
    return tmp_path


def result(auc: float = 0.7) -> kept.Result:
    answers = np.array([0.25, 0.5])
    return kept.Result(
        settings=SETTINGS, metrics={"auc": auc}, cpu_s=2.0, wall_s=1.0, answers=answers
    )


def test_a_result_is_measured_once_and_again_with_other_settings() -> None:
    measured: list[float] = []

    def measure(auc: float) -> kept.Result:
        measured.append(auc)
        return result(auc)

    def find(settings: dict[str, Any], auc: float) -> kept.Result:
        return kept.find_or("adult", "AutoGluon good", 1, settings, lambda: measure(auc))

    assert find(SETTINGS, 0.7).metrics == {"auc": 0.7}
    again = find(SETTINGS, 0.8)
    assert (again.metrics, again.wall_s, list(again.answers)) == ({"auc": 0.7}, 1.0, [0.25, 0.5])
    find({**SETTINGS, "threads": 1}, 0.9)
    assert measured == [0.7, 0.9]
    assert kept.load("adult", "AutoGluon good", 2, SETTINGS) is None


def test_answers_without_their_result_count_as_none(folder: Path) -> None:
    kept.keep("adult", "XGBoost", 0, result())
    (folder / "adult" / "xgboost-0.json").unlink()
    assert kept.load("adult", "XGBoost", 0, SETTINGS) is None


def test_the_budget_of_autogluon_is_what_ours_took(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, float]] = []

    def train_peer(table: Any, name: str, seed: int, seconds: float) -> kept.Result:
        asked.append((name, seed, seconds))
        return result()

    def train_ours(table: Any, seed: int) -> kept.Result:
        return kept.Result(
            settings=SETTINGS, metrics={"auc": 0.7}, cpu_s=1.0, wall_s=50.0 + 20 * seed
        )

    table: Any = SimpleNamespace(name="adult")
    monkeypatch.setattr(train_quality, "train_ours", train_ours)
    monkeypatch.setattr(train_quality, "train_peer", train_peer)
    monkeypatch.setattr(train_quality, "ours_settings", lambda table: SETTINGS)
    monkeypatch.setattr(train_quality, "peer_settings", lambda table, name: SETTINGS)
    monkeypatch.setattr(train_quality, "SEEDS", range(2))
    systems = ["Slipway", "AutoGluon medium", "AutoGluon good"]
    over = train_quality.compare(table, systems, ends=time.monotonic() - 1)
    assert over is None
    assert asked == []
    found = train_quality.compare(table, systems, ends=time.monotonic() + 60)
    assert found is not None
    assert {name: len(results) for name, results in found.items()} == dict.fromkeys(systems, 2)
    good = [("AutoGluon good", 0, 60.0), ("AutoGluon good", 1, 70.0)]
    assert asked == [("AutoGluon medium", 0, 60.0), *good]
    # All of it is kept: nothing is left to do, whatever time there is.
    assert train_quality.compare(table, systems, ends=time.monotonic() - 1) is not None


def test_a_category_that_training_has_not_seen_is_missing(tmp_path: Path) -> None:
    for part, colours in (
        ("train", ["red", "blue"]),
        ("validation", ["blue", "green"]),
        ("test", ["red", None]),
    ):
        frame = pd.DataFrame({"size": [1.0, 2.0], "colour": colours, peers.LABEL: [0, 1]})
        frame.to_parquet(tmp_path / f"{part}.parquet")
    data = peers.read(tmp_path)
    colours = {part: frame["colour"] for part, (frame, _) in data.items()}
    assert all(list(c.cat.categories) == ["blue", "red"] for c in colours.values())
    assert list(colours["validation"].cat.codes) == [0, -1]
    assert list(colours["test"].cat.codes) == [1, -1]
    assert list(data["test"][1]) == [0, 1]


def test_a_win_is_one_that_resampling_does_not_undo() -> None:
    random = np.random.default_rng(0)
    labels = (random.random(600) < 0.5).astype(float)
    good = np.clip(labels * 0.6 + random.random(600) * 0.4, 0, 1)
    poor = random.random(600)
    losses = standings.resampled(
        "binary", labels, {"Slipway": [poor], "good": [good], "same": [poor]}
    )
    lines = {name: (rank, counts) for name, rank, counts in standings.standings({"t": losses})}
    assert lines == {"good": (1.0, "1, 0, 0"), "Slipway": (2.0, "–"), "same": (2.0, "0, 1, 0")}
    ahead, error = standings.gap(losses["Slipway"], losses["good"])
    assert ahead < -3 * error < 0
