"""Ranking: what candidates share comes once and the best come back, also by entity keys."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support.online_stores import fill_store
from support.serving_bundles import Running, flight_tensors, make_bundle, predictor, tensor

from slipway.serving.protocol.ranking import best, spread

CANDIDATES = [0.0, 250.0, -40.0, 90.0, 250.0]


def shared(**more: list[Any]) -> list[dict[str, Any]]:
    """One flight's inputs, with five values of `delay`."""
    inputs = [t for t in flight_tensors(1) if t["name"] != "delay"]
    return [*inputs, tensor("delay", "FP64", CANDIDATES)]


def ask(running: Running, inputs: Any, **parameters: Any) -> httpx.Response:
    body = {"inputs": inputs, "parameters": parameters}
    return httpx.post(f"{running.url}/v2/models/flights/infer", json=body, timeout=30)


def outputs(response: httpx.Response) -> dict[str, list[Any]]:
    assert response.status_code == 200, response.text
    return {o["name"]: o["data"] for o in response.json()["outputs"]}


def test_the_best_candidates_come_first(served: Running) -> None:
    repeated = [
        {**t, "data": t["data"] * 5, "shape": [5]} if t["shape"] == [1] else t for t in shared()
    ]
    plain = outputs(ask(served, repeated))["probability"]
    order = sorted(range(5), key=lambda place: -plain[place])
    ranked = outputs(ask(served, shared(), rank=3))
    assert ranked["candidate"] == order[:3]
    assert ranked["probability"] == [plain[place] for place in order[:3]]
    # Of equal scores the first candidate; and no more than there are.
    assert order.index(1) < order.index(4)
    assert outputs(ask(served, shared(), rank=99))["candidate"] == order
    assert outputs(ask(served, flight_tensors(1), rank=1))["candidate"] == [0]


def test_without_rank_rows_must_agree(served: Running) -> None:
    refused = ask(served, shared())
    assert refused.status_code == 400 and "rows" in refused.json()["error"]
    two = [*flight_tensors(2)[:-1], tensor("delay", "FP64", CANDIDATES)]
    names = {t["name"] for t in two}
    uneven = [*(t for t in flight_tensors(2) if t["name"] not in names or t["name"] != "delay")]
    refused = ask(served, [*(t for t in uneven if t["name"] != "delay"), two[-1]], rank=2)
    assert refused.status_code == 400 and "rows" in refused.json()["error"]


@pytest.mark.parametrize("rank", [0, -1, 1.5, "3", True, [2]])
def test_a_rank_is_how_many(served: Running, rank: Any) -> None:
    refused = ask(served, shared(), rank=rank)
    assert refused.status_code == 400 and "'rank' must be a whole number" in refused.text


def test_several_classes_have_no_order_and_a_number_has(tmp_path: Path) -> None:
    for kind in ("multiclass", "number"):
        make_bundle(tmp_path / kind / "bundle", kind=kind)
        with predictor(tmp_path / kind) as running:
            answer = ask(running, shared(), rank=2)
            if kind == "number":
                values = outputs(answer)["value"]
                assert len(values) == 2 and values[0] >= values[1]
            else:
                assert answer.status_code == 400 and "no one order" in answer.text


def test_candidates_are_looked_up_by_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    fill_store(tmp_path)
    with predictor(tmp_path / "p", "--online") as running:
        ids = ["flight-2", "flight-0", "flight-1"]
        one = [tensor("tailnum", "BYTES", ids), tensor("carrier", "BYTES", ["AA"])]
        same = [tensor("tailnum", "BYTES", ids), tensor("carrier", "BYTES", ["AA"] * 3)]
        plain = outputs(ask(running, same))["probability"]
        ranked = outputs(ask(running, one, rank=2))
        assert ranked["probability"] == sorted(plain, reverse=True)[:2]
        assert [plain[place] for place in ranked["candidate"]] == ranked["probability"]


def test_inputs_are_spread_as_lists_and_as_arrays() -> None:
    inputs = [
        {"name": "a", "shape": [1], "data": np.array([2.5])},
        {"name": "b", "shape": [3], "data": [1, 2, 3]},
        {"name": "c", "shape": [1, 1], "data": [7]},
    ]
    a, b, c = spread(inputs, 3)
    assert a["data"].tolist() == [2.5] * 3 and a["shape"] == [3]
    # A shape that is none of a column is left for the reader to refuse.
    assert b is inputs[1] and c["shape"] == [1, 1]
    assert spread(inputs, 2) is inputs and spread("x", 3) == "x"
    assert best(np.array([0.1, 0.7, 0.7, 0.2], np.float32), 3).tolist() == [1, 2, 3]
