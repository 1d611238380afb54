"""Permutation importance: what a feature is worth to the trained model."""

from dataclasses import replace

import numpy as np

from slipway.components.contracts.bundle import Bundle
from slipway.components.train.model.preprocess import RawArrays
from slipway.components.train.model.trained import TrainedModel, forward_in_chunks
from slipway.components.train.report import FeatureImportance

_ROWS = 4000


def permutation_importance(
    model: TrainedModel, bundle: Bundle, raw: RawArrays, labels: np.ndarray, seed: int
) -> list[FeatureImportance]:
    """What is lost when one feature's values are shuffled among the rows (Breiman, 2001).

    Args:
        model: takes the arrays of `RawArrays`.
        bundle: names the columns.
        raw: feature values of held-out rows; a sample of at most 4,000 is used.
        labels: their labels.
        seed: of the sample and the shuffles.

    Returns:
        By how much the head's quality (AUC, R2) falls, the most important feature first.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(labels))[:_ROWS]
    sample = RawArrays(numeric=raw.numeric[chosen], codes=raw.codes[chosen], time=raw.time[chosen])
    truth = labels[chosen]
    if truth.min() == truth.max():
        return []

    def measure(rows: RawArrays) -> float:
        return model.quality(truth, forward_in_chunks(model, rows))

    base = measure(sample)
    drops: list[FeatureImportance] = []
    for kind, names in (
        ("numeric", bundle.numeric),
        ("codes", bundle.categorical),
        ("time", bundle.time),
    ):
        for i, name in enumerate(names):
            shuffled = getattr(sample, kind).copy()
            shuffled[:, i] = random.permutation(shuffled[:, i])
            lost = base - measure(replace(sample, **{kind: shuffled}))
            drops.append({"feature": name, "drop": lost})
    return sorted(drops, key=lambda drop: (-drop["drop"], drop["feature"]))
