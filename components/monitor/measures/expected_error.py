"""How wrong a number's answers will be, before any label: direct estimation of the loss.

The ends of an answer's interval lie as far apart as the model is unsure. What rows of each width were
wrong by on the test part is what rows of that width are expected to be wrong by now (the idea of direct
loss estimation, with the model's own doubt in the place of a second model). As all that is estimated
without labels, it cannot see that the relation between features and label changed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_BINS = 10
_LEAST_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorByWidth:
    """Errors of the test part by the width of the interval.

    Attributes:
        edges: float64 [B - 1], inner edges of the widths' bins, ascending.
        absolute: float64 [B], mean absolute error in each. squared: mean squared error.
    """

    edges: Floats
    absolute: Floats
    squared: Floats

    def expect(self, answers: Floats) -> dict[str, float]:
        """The errors that answers [N, 3] let expect: `mae` and `rmse`; empty without rows."""
        if not len(answers):
            return {}
        place = np.searchsorted(self.edges, answers[:, 2] - answers[:, 1], side="right")
        return {
            "mae": float(self.absolute[place].mean()),
            "rmse": float(np.sqrt(self.squared[place].mean())),
        }


def fit_errors(labels: Floats, answers: Floats) -> ErrorByWidth | None:
    """Measures the test part; None where it has too few rows.

    Args:
        labels: float64 [N].
        answers: float [N, 3], value and ends.
    """
    if len(labels) < _LEAST_ROWS:
        return None
    exact = answers.astype(np.float64)
    width, errors = exact[:, 2] - exact[:, 1], np.abs(labels - exact[:, 0])
    edges = np.unique(np.quantile(width, np.arange(1, _BINS) / _BINS))
    place = np.searchsorted(edges, width, side="right")
    bins = len(edges) + 1
    rows = np.bincount(place, minlength=bins)
    known = rows > 0
    filled = np.maximum(rows, 1)

    def means(values: Floats) -> Floats:
        each = np.bincount(place, values, bins) / filled
        return np.where(known, each, values.mean())

    return ErrorByWidth(edges=edges, absolute=means(errors), squared=means(errors**2))
