"""What a wrong answer costs: the matrix, and the answer that is expected to cost least.

`costs` are as `features.label.costs` has them: true class to answered class to cost. A pair that is not
named costs 1, a right answer nothing. The predictor reads this too: numpy is all that is imported.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Costs = Mapping[str, Mapping[str, float]]
_DIGITS = 9


def cost_matrix(costs: Costs, classes: tuple[str, ...]) -> "np.ndarray":
    """Cost of an answer by the true class: float64 [K true, K answered]."""
    import numpy as np

    places = {name: place for place, name in enumerate(classes)}
    matrix = 1 - np.eye(len(classes))
    for true, answers in costs.items():
        for answered, cost in answers.items():
            matrix[places[true], places[answered]] = cost
    return matrix


def named_pairs(costs: Costs) -> int:
    """How many pairs of classes have a cost of their own."""
    return sum(len(answers) for answers in costs.values())


def cheapest(answers: "np.ndarray", matrix: "np.ndarray") -> "np.ndarray":
    """The class that is expected to cost least, int64 [N]; of equally cheap ones the first.

    Args:
        answers: float32 [N, K], probabilities.
        matrix: as `cost_matrix` gives it.
    """
    import numpy as np

    scale = np.abs(matrix).max() or 1.0
    expected = answers.astype(np.float64) @ (matrix / scale)
    # A sum's last digits depend on how many rows are summed at once: a tie must fall the same way always.
    places: np.ndarray = np.round(expected, _DIGITS).argmin(1)
    return places


def best_constant(rows: "np.ndarray", matrix: "np.ndarray") -> tuple[int, float]:
    """The one answer to every row that costs least, and its cost a row; `rows` [K] are of each class."""
    each = rows / rows.sum() @ matrix
    place = int(each.argmin())
    return place, float(each[place])
