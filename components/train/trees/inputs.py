"""What trees read: the raw feature values as one matrix of numbers, without any scaling."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from slipway.components.contracts.bundle import MISSING_TIME, Bundle
from slipway.components.train.model.preprocess import DAY, MINUTE, RawArrays

_THURSDAY = 3  # 1 January 1970, counted from Monday


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeColumn:
    """A column of the matrix.

    Attributes:
        feature: that it is made of.
        kind: `c` is a category: a code, 0 for unknown and missing; `q` a number, NaN where it is missing.
    """

    feature: str
    kind: Literal["q", "c"]


def tree_columns(bundle: Bundle) -> list[TreeColumn]:
    """The columns that `tree_matrix` gives: numbers, minutes of the day, categories, weekdays."""
    numbers = [*bundle.numeric, *bundle.time]
    categories = [*bundle.categorical, *bundle.time]
    return [
        *(TreeColumn(feature=name, kind="q") for name in numbers),
        *(TreeColumn(feature=name, kind="c") for name in categories),
    ]


def tree_matrix(numeric: Tensor, codes: Tensor, time: Tensor) -> Tensor:
    """The matrix of N rows; see `RawArrays` for the inputs.

    Returns:
        float32 [N, n + t + m + t], with columns as `tree_columns` says. All whole numbers in it are
        exact, so that every runtime sees the same.
    """
    missing = time == MISSING_TIME
    within = torch.remainder(time, DAY)
    minute = torch.floor(within.to(torch.float64) / MINUTE).to(torch.float32)
    days = torch.round((time - within).to(torch.float64) / DAY).to(torch.int64)
    weekday = torch.remainder(days + _THURSDAY, 7) + 1
    parts = [
        numeric,
        torch.where(missing, torch.nan, minute),
        codes.to(torch.float32),
        torch.where(missing, 0, weekday).to(torch.float32),
    ]
    return torch.cat([part for part in parts if part.shape[1]], dim=1)


def matrix_of(raw: RawArrays) -> np.ndarray:
    """`tree_matrix` of a table."""
    arrays = (torch.from_numpy(getattr(raw, name)) for name in RawArrays.__slots__)
    return tree_matrix(*arrays).numpy()


def matrix_batches(raws: Iterator[RawArrays], every: int) -> Iterator[np.ndarray]:
    """The matrices of a table's batches, of each `every`-th row of the whole table."""
    start = 0
    for raw in raws:
        yield matrix_of(raw.take(slice(-start % every, None, every)))
        start += len(raw.numeric)
