"""Ranking through the whole stage: scikit-learn's NDCG, a gate that holds it, and its table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score
from support import gate_world

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import part_file, read_part, read_splits, write_splits
from slipway.components.evaluate.evaluate import Evaluation, EvaluationTask, evaluate_model

GATE: dict[str, Any] = {
    "accuracy": 0.5,
    "f1": 0.1,
    "auc": 0.5,
    "resamples": 200,
    "rehearsal": {"enabled": False},
    "slices": {"automatic": False},
    "baseline": {"linear": False},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test rows of visits of about ten rows, which lie apart."""
    folder = tmp_path_factory.mktemp("visits")
    gate_world.make_splits(folder / "splits", test_rows=3000)
    gate_world.make_bundle(folder / "bundle")
    for part in ("train", "validation", "test"):
        table = read_part(folder / "splits", part)  # type: ignore[arg-type]
        visit = np.random.default_rng(3).integers(0, table.num_rows // 10, table.num_rows)
        names = pa.array([f"v{number}" for number in visit])
        pq.write_table(
            table.append_column("visit", names),
            part_file(folder / "splits", part),  # type: ignore[arg-type]
        )
    splits = read_splits(folder / "splits")
    write_splits(folder / "splits", replace(splits, beside={"visit": "string"}))
    return folder


def run(folder: Path, out: Path, ranking: dict[str, Any] | None) -> Evaluation:
    return evaluate_model(
        EvaluationTask(
            bundle_path=folder / "bundle",
            splits_path=folder / "splits",
            project="toy",
            config=GATE | ({"ranking": ranking} if ranking else {}),
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
        )
    )


def by_hand(folder: Path, at: int) -> tuple[float, float, int]:
    """Mean NDCG and recall over the visits, the slow way."""
    bundle, table = read_bundle(folder / "bundle"), read_part(folder / "splits", "test")
    scores = predict(open_model(folder / "bundle"), bundle, table)
    labels, visits = table["label"].to_numpy(), np.array(table["visit"].to_pylist())
    ndcg, recall = [], []
    for visit in sorted(set(visits)):
        own = visits == visit
        if own.sum() < 2 or not labels[own].any():
            continue
        ndcg.append(ndcg_score([labels[own]], [scores[own]], k=at))
        top = np.argsort(-scores[own], kind="stable")[:at]
        recall.append(labels[own][top].sum() / labels[own].sum())
    return float(np.mean(ndcg)), float(np.mean(recall)), len(ndcg)


def test_the_gate_holds_the_order_of_a_visits_rows(
    world: Path, tmp_path: Path, registry: str
) -> None:
    ndcg, recall, queries = by_hand(world, 3)
    rule = {"by": "visit", "at": 3, "ndcg": ndcg - 0.01, "recall": recall - 0.01}
    result = run(world, tmp_path, rule)
    found = {one.name: one for one in result.verdict.rules}
    assert found["ranking ndcg"].value == pytest.approx(ndcg, abs=1e-6)
    assert found["ranking recall"].value == pytest.approx(recall, abs=1e-3)
    assert found["ranking queries"].value == queries
    assert {one.outcome for name, one in found.items() if "ranking" in name} == {"pass"}
    notes = result.verdict.notes["ranking"]
    low, high = notes["values"]["ndcg"][1:]
    assert low < ndcg < high and notes["chance"]["ndcg"] < ndcg
    card = (tmp_path / "card.html").read_text()
    assert "Ranked by visit: the first 3 of" in card and "Random order" in card


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ({"ndcg": 0.999}, "ranking ndcg"),
        ({"recall": 0.999}, "ranking recall"),
        ({"ndcg": 0.0, "min_queries": 2000}, "ranking queries"),
    ],
)
def test_a_model_that_orders_badly_is_refused(
    rule: dict[str, Any], name: str, world: Path, tmp_path: Path, registry: str
) -> None:
    result = run(world, tmp_path, {"by": "visit", "at": 3, **rule})
    failed = [one for one in result.verdict.rules if one.outcome == "fail"]
    assert [one.name for one in failed] == [name]
    assert failed[0].reason and result.verdict.outcome == "fail"
    assert result.verdict.notes["advice"]


def test_without_the_setting_nothing_is_asked(world: Path, tmp_path: Path, registry: str) -> None:
    result = run(world, tmp_path, None)
    assert not [one for one in result.verdict.rules if "ranking" in one.name]
    assert "ranking" not in result.verdict.notes
    with pytest.raises(ValueError, match="give the least `ndcg`"):
        GateConfig.model_validate({"ranking": {"by": "visit"}})
