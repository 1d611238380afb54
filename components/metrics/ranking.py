"""Ranking metrics of queries: what of the relevant rows stands among the first of its query.

NDCG is scikit-learn's `ndcg_score` (Järvelin, Kekäläinen, 2002), with the mean over the orders of tied
scores (McSherry, Najork, 2008); recall at k the share of the relevant rows that are among the first k.
Queries with one row, or without a relevant one, have no order to measure and are left out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class QueryMetrics:
    """What each query came to, of those that can be measured.

    Attributes:
        first: int64 [Q], a row of each query.
        ndcg, recall: float64 [Q].
        chance_ndcg, chance_recall: float64 [Q], of a random order.
    """

    first: "np.ndarray"
    ndcg: "np.ndarray"
    recall: "np.ndarray"
    chance_ndcg: "np.ndarray"
    chance_recall: "np.ndarray"


def measure_queries(
    query: "np.ndarray", label: "np.ndarray", score: "np.ndarray", at: int
) -> QueryMetrics:
    """NDCG and recall of the first `at` rows of each query.

    Args:
        query: [N], what names a row's query.
        label: [N], 0 or 1: whether the row is relevant.
        score: float [N], the higher the earlier.
        at: how many rows of a query are looked at.
    """
    import numpy as np

    order = np.lexsort((-score, query))
    query, label, score = query[order], label[order].astype(np.float64), score[order]
    starts = np.flatnonzero(np.r_[True, query[1:] != query[:-1]]) if len(query) else order
    sizes = np.diff(np.r_[starts, len(query)])
    number = np.repeat(np.arange(len(starts)), sizes)
    place = np.arange(len(query)) - starts[number]
    shown = place < at
    worth = np.where(shown, 1 / np.log2(place + 2), 0.0)

    def total(values: "np.ndarray") -> "np.ndarray":
        return np.bincount(number, values, len(starts))

    relevant = total(label)
    # Of rows with one score each may stand at each of their places: all have the mean label.
    tied = np.cumsum(np.r_[True, (query[1:] != query[:-1]) | (score[1:] != score[:-1])]) - 1
    mean = (np.bincount(tied, label) / np.bincount(tied))[tied] if len(query) else label
    ideal = np.cumsum(1 / np.log2(np.arange(at) + 2))
    most = np.minimum(relevant, at).astype(np.int64)
    good = (sizes > 1) & (relevant > 0)
    best = ideal[most[good] - 1]
    share = (relevant / np.maximum(sizes, 1))[good]
    return QueryMetrics(
        first=order[starts[good]],
        ndcg=total(mean * worth)[good] / best,
        recall=total(mean * shown)[good] / relevant[good],
        chance_ndcg=share * total(worth)[good] / best,
        chance_recall=share * total(shown.astype(float))[good] / relevant[good],
    )
