"""Which head a table's kind of label has."""

import numpy as np

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.splits import Splits
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.heads.multiclass import MulticlassHead
from slipway.components.train.heads.number import NumberHead


def make_head(splits: Splits, labels: np.ndarray, config: TrainingConfig) -> Head:
    """The head for a table's kind of label.

    Args:
        splits: what the tables hold.
        labels: of the training part, float64 [N].
        config: the `training` section.
    """
    if splits.label_kind == "multiclass":
        return MulticlassHead(classes=splits.classes, costs=splits.costs)
    if splits.label_kind == "number":
        std = float(labels.std())
        return NumberHead(level=config.interval, mean=float(labels.mean()), std=std or 1.0)
    return BinaryHead(costs=splits.costs)
