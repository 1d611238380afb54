"""What a wrong answer costs: the matrix, and the answer that is expected to cost least.

`costs` are as `features.label.costs` has them: true class to answered class to cost. A pair that is not
named costs 1, a right answer nothing. The predictor reads this too: numpy is all that is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Costs = Mapping[str, Mapping[str, float]]


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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CostRule:
    """The costs as they differ from 1 for a mistake and 0 for a right answer: few do.

    So the cheapest answer takes as many steps as there are classes and named pairs, not classes squared.

    Attributes:
        true, answered: int64 [P], places of the pairs' classes.
        more: float64 [P], how much more (or less) than usual each pair costs.
        most: the most that one answer's costs differ from the usual, summed over the true classes.
    """

    true: "np.ndarray"
    answered: "np.ndarray"
    more: "np.ndarray"
    most: float


def cost_rule(costs: Costs, classes: tuple[str, ...]) -> CostRule:
    """The rule that some costs make; they may be empty."""
    import numpy as np

    differs = cost_matrix(costs, classes) - cost_matrix({}, classes)
    true, answered = np.nonzero(differs)
    most = float(np.abs(differs).sum(0).max(initial=0.0))
    return CostRule(true=true, answered=answered, more=differs[true, answered], most=most)


def expected_costs(answers: "np.ndarray", rule: CostRule) -> "np.ndarray":
    """What each answer is expected to cost, less what is the same of all: float64 [N, K].

    Args:
        answers: float32 [N, K], probabilities.
        rule: of the costs.
    """
    import numpy as np

    exact = answers.astype(np.float64)
    expected = -exact
    np.add.at(expected.T, rule.answered, (exact[:, rule.true] * rule.more).T)
    return expected


def cheapest(answers: "np.ndarray", rule: CostRule) -> "np.ndarray":
    """The class that is expected to cost least, int64 [N]; of equally cheap ones the first."""
    places: np.ndarray = expected_costs(answers, rule).argmin(1)
    return places


def best_constant(rows: "np.ndarray", matrix: "np.ndarray") -> tuple[int, float]:
    """The one answer to every row that costs least, and its cost a row; `rows` [K] are of each class."""
    each = rows / rows.sum() @ matrix
    place = int(each.argmin())
    return place, float(each[place])
