"""A model of an installed package, as docs/your-own-code.md shows it, and what it may not be."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.own_code import CODE, install

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import TRAINING
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries import plugins
from slipway.components.train.train import TrainingTask, TrainResult, train_model


def test_what_the_page_shows_is_under_thirty_lines() -> None:
    lines = {name: len([line for line in code.splitlines() if line]) for name, code in CODE.items()}
    assert set(lines) == {"wide", "iban"}
    assert max(lines.values()) < 30


def train(splits: Path, folder: Path, **network: Any) -> TrainResult:
    return train_model(
        TrainingTask(
            splits=splits, project="toy", seed=3, epochs=2, learning_rate=5e-3, gpus=0,
            config={
                "network": network, "members": 1, "batch_size": 128, "min_steps": 100, "model": "blend",
            },
            allow_cpu=False, bundle=folder / "bundle", report=folder / "report.html",
        )
    )  # fmt: skip


def test_the_model_is_trained_exported_and_named(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch)
    # With trees: its graph, which torch's exporter writes, takes them in as any other's does.
    result = train(make_splits(rows=700), tmp_path, architecture="wide")
    log = json.loads((tmp_path / "bundle" / TRAINING).read_text())
    assert result.metrics["auc"] > 0.7
    assert log["architecture"] == "wide"
    assert log["packages"]["shop-slipway"] == "0.1.0"
    assert log["export_difference"] <= 1e-5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("self.direct(row) + self.deep(row)", "self.direct(row)[:, 0]"), r"answers float32 \[3\]"),
        (("n in shape.cardinalities", "n in shape.sizes"), "AttributeError"),
        (("import torch\n", "import torchh\n"), "cannot be imported from shop.wide:build"),
        (("def build(", "def built("), "cannot be imported"),
        (("def build(", "build = 1\n\n\ndef built("), "is no function"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_the_training(
    change: tuple[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    make_splits: Any,
    tmp_path: Path,
    tracking: str,
) -> None:
    assert change[0] in CODE["wide"]
    install(tmp_path / "site", monkeypatch, wide=CODE["wide"].replace(*change))
    with pytest.raises(SlipwayError, match=said):
        train(make_splits(rows=300), tmp_path, architecture="wide")
    assert not (tmp_path / "bundle").exists()


def test_a_name_that_no_package_offers_is_refused_when_the_project_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SlipwayError, match="'wide' is none of auto, mlp, tabm, and no installed"):
        TrainingConfig.parse({"network": {"architecture": "wide"}}, "training")
    install(tmp_path / "site", monkeypatch)
    config = TrainingConfig.parse({"network": {"architecture": "wide"}}, "training")
    assert config.network.architecture == "wide"
    with pytest.raises(SlipwayError, match=r"'wider' .*Installed packages offer: wide\."):
        TrainingConfig.parse({"network": {"architecture": "wider"}}, "training")
    install(tmp_path / "other", monkeypatch, "stall-slipway")
    with pytest.raises(SlipwayError, match=r"several packages \(shop-slipway 0\.1\.0, stall-slip"):
        plugins.load(plugins.MODELS, "wide")
