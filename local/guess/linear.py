"""A linear model of numbers, and how well one column alone tells either."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.splits import LABEL, Splits, read_part
from slipway.components.evaluate.baselines import (
    FIT_ROWS,
    LEAK_ROWS,
    design_matrix,
    sample_part,
)
from slipway.components.evaluate.measure import Scorer
from slipway.components.metrics.kinds.number import NumberLabel

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_PIECES = 100


def fit_numbers(folder: Path, splits: Splits, kind: NumberLabel) -> Scorer:
    """A ridge regression; its intervals are as wide as its errors on the validation part."""
    import numpy as np
    from sklearn.linear_model import Ridge

    names = [feature.name for feature in splits.features]
    train = sample_part(folder, splits, "train", FIT_ROWS, [*names, LABEL])
    model = Ridge()
    model.fit(design_matrix(train, splits), train[LABEL].to_numpy())
    validation = read_part(folder, "validation")
    predicted = model.predict(design_matrix(validation, splits))
    half = float(np.quantile(np.abs(validation[LABEL].to_numpy() - predicted), kind.level))

    def score(table: "pa.Table") -> "np.ndarray":
        value = model.predict(design_matrix(table, splits))
        return np.stack([value, value - half, value + half], axis=1).astype(np.float32)

    return Scorer(name="linear regression", score=score, label=kind, columns=tuple(names))


def alone_of_classes(folder: Path, splits: Splits) -> dict[str, float]:
    """By feature, how often the commonest class of its value, seen in training, is right on test."""
    import numpy as np

    told = {}
    for name, train, test in _columns(folder, splits):
        called = np.full(len(test.label), np.bincount(train.label).argmax())
        for piece in np.unique(train.piece):
            called[test.piece == piece] = np.bincount(train.label[train.piece == piece]).argmax()
        told[name] = float((called == test.label).mean())
    return told


def alone_of_numbers(folder: Path, splits: Splits) -> dict[str, float]:
    """By feature, the R² on test of the mean label of its value, or of a line through it."""
    import numpy as np

    told = {}
    for name, train, test in _columns(folder, splits):
        predicted = np.full(len(test.label), train.label.mean())
        for piece in np.unique(train.piece):
            predicted[test.piece == piece] = train.label[train.piece == piece].mean()
        told[name] = _explained(test.label, predicted)
        inside, known = np.isfinite(test.number), np.isfinite(train.number)
        if inside.all() and known.all() and np.ptp(train.number) > 0:
            line = np.polynomial.Polynomial.fit(train.number, train.label, 1)
            told[name] = max(told[name], _explained(test.label, line(test.number)))
    return told


def _explained(label: "np.ndarray", predicted: "np.ndarray") -> float:
    spread = float(((label - label.mean()) ** 2).sum())
    return 1 - float(((label - predicted) ** 2).sum()) / spread if spread else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A feature of a part's rows: its numbers (NaN: none), the piece that each is in, and the labels."""

    number: "np.ndarray"
    piece: "np.ndarray"
    label: "np.ndarray"


def _columns(folder: Path, splits: Splits) -> "Iterator[tuple[str, _Column, _Column]]":
    """Each feature with its rows of the training and of the test part.

    A number is in one of a hundred pieces with as many training rows each, or in one of its own where
    there are fewer values; a category is its own piece, and so is what is missing.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [feature.name for feature in splits.features]
    parts = [
        sample_part(folder, splits, part, LEAK_ROWS, [*names, LABEL]) for part in ("train", "test")
    ]
    for feature in splits.features:
        numbers, pieces = [], []
        values = [part[feature.name] for part in parts]
        if feature.kind == "categorical":
            known = pc.unique(values[0].combine_chunks())
            for column in values:
                pieces.append(pc.index_in(column, known).fill_null(-1).to_numpy())
                numbers.append(np.full(len(column), np.nan))
        else:
            for column in values:
                if feature.kind == "time":
                    column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
                numbers.append(column.cast(pa.float64()).fill_null(np.nan).to_numpy())
            finite = numbers[0][np.isfinite(numbers[0])]
            shares = np.linspace(0, 1, _PIECES)
            edges = np.unique(np.quantile(finite, shares)) if len(finite) else finite
            for number in numbers:
                pieces.append(np.where(np.isnan(number), -1, np.searchsorted(edges, number)))
        train, test = (
            _Column(number=number, piece=piece, label=part[LABEL].to_numpy())
            for number, piece, part in zip(numbers, pieces, parts, strict=True)
        )
        yield feature.name, train, test
