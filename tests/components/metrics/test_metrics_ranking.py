"""NDCG and recall at k: scikit-learn's value of each query, and a random order's mean."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from slipway.components.metrics.ranking import measure_queries


@pytest.mark.parametrize("at", [1, 3, 10])
@pytest.mark.parametrize("ties", [False, True])
def test_every_query_is_scikit_learns(at: int, ties: bool) -> None:
    draw = np.random.default_rng(at)
    query = draw.integers(0, 60, 500) * 7919 - 100
    label = (draw.random(500) < 0.2).astype(int)
    score = draw.random(500).round(1 if ties else 9)
    found = measure_queries(query, label, score, at)
    assert len(set(query[found.first])) == len(found.first) > 40
    for first, ndcg, recall in zip(found.first, found.ndcg, found.recall, strict=True):
        own = query == query[first]
        assert ndcg == pytest.approx(ndcg_score([label[own]], [score[own]], k=at))
        if not ties:
            top = np.argsort(-score[own])[:at]
            assert recall == pytest.approx(label[own][top].sum() / label[own].sum())
    left_out = set(query) - set(query[found.first])
    for name in left_out:
        own = query == name
        assert own.sum() == 1 or not label[own].any()


def test_chance_is_the_mean_of_random_orders() -> None:
    draw = np.random.default_rng(0)
    query, label = np.repeat([1, 2], [12, 5]), (np.arange(17) % 4 == 0).astype(int)
    orders = [measure_queries(query, label, draw.random(17), 4) for _ in range(4000)]
    assert np.mean([o.ndcg for o in orders], 0) == pytest.approx(orders[0].chance_ndcg, abs=0.02)
    assert np.mean([o.recall for o in orders], 0) == pytest.approx(
        orders[0].chance_recall, abs=0.02
    )
    # All rows tied are one random order.
    same = measure_queries(query, label, np.zeros(17), 4)
    assert same.ndcg == pytest.approx(same.chance_ndcg)
    assert same.recall == pytest.approx(same.chance_recall)


def test_no_rows_are_no_queries() -> None:
    found = measure_queries(np.array([], int), np.array([], int), np.array([]), 3)
    assert len(found.first) == len(found.ndcg) == 0
