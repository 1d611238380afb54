"""Cases of two classes: rehearsal, fairness, ranking, the least of a class, and costs."""

from dataclasses import replace

from slipway.components.evaluate.measures.measured import Estimate
from support.gate_cases.evidence import (
    NAN,
    REHEARSED,
    Case,
    classes,
    costly,
    estimate,
    fair,
    groups,
    metrics,
    ranked,
    ranks,
)

DEMANDS = [
    # Rehearsal.
    Case("not rehearsed", {"rehearsal": None}, {}, ("rehearsal",)),
    Case("rehearsal left out by choice", {"rehearsal": None}, {"rehearsal": {"enabled": False}}),
    Case(
        "predictor answers otherwise",
        {"rehearsal": replace(REHEARSED, difference=1.1e-5)},
        {},
        ("rehearsal difference",),
    ),
    Case("predictor answers within tolerance", {"rehearsal": replace(REHEARSED, difference=1e-5)}),
    Case(
        "predictor is slow",
        {"rehearsal": replace(REHEARSED, p99_ms=100.1)},
        {},
        ("rehearsal p99_ms",),
    ),
    Case("predictor is just fast enough", {"rehearsal": replace(REHEARSED, p99_ms=100.0)}),
    Case(
        "predictor needs too much memory",
        {"rehearsal": replace(REHEARSED, memory_mb=1024.1)},
        {},
        ("rehearsal memory_mb",),
    ),
    Case(
        "predictor's memory is unknown",
        {"rehearsal": replace(REHEARSED, memory_mb=None)},
        {},
        ("rehearsal memory_mb",),
    ),
    Case(
        "predictor's answer is NaN",
        {"rehearsal": replace(REHEARSED, difference=NAN)},
        {},
        ("sound measurement", "rehearsal difference"),
    ),
    Case(
        "predictor has two problems",
        {"rehearsal": replace(REHEARSED, problems=("One.", "Two."))},
        {},
        ("rehearsal",),
    ),
    Case(
        "predictor did not start",
        {"rehearsal": replace(REHEARSED, problems=("no torch",))},
        {},
        ("rehearsal",),
    ),
    # Fairness: the gap and the ratio, at their bounds and beyond; and what cannot be told.
    Case("a gap at its bound", groups(gap=0.1), fair(gap=0.1)),
    Case(
        "a gap just above",
        groups(gap=0.1),
        fair(gap=0.0999),
        ("fairness sex selection_rate gap",),
    ),
    Case("a ratio at its bound", groups(ratio=0.8), fair(ratio=0.8)),
    Case(
        "a ratio just below",
        groups(ratio=0.8),
        fair(ratio=0.8001),
        ("fairness sex selection_rate ratio",),
    ),
    Case(
        "a gap and a ratio",
        groups(),
        fair(gap=0.05, ratio=0.9),
        ("fairness sex selection_rate gap", "fairness sex selection_rate ratio"),
    ),
    Case("a gap's upper bound holds", groups(gap=0.1), fair(gap=0.13, judge="interval")),
    Case(
        "a gap's upper bound does not",
        groups(gap=0.1),
        fair(gap=0.1299, judge="interval"),
        ("fairness sex selection_rate gap",),
    ),
    Case(
        "a ratio's lower bound does not",
        groups(ratio=0.8),
        fair(ratio=0.7501, judge="interval"),
        ("fairness sex selection_rate ratio",),
    ),
    Case(
        "a gap without an interval",
        {"fairness": (replace(groups()["fairness"][0], gap=Estimate(value=0.1, rows=1900)),)},
        fair(gap=0.2, judge="interval"),
        ("fairness sex selection_rate gap",),
    ),
    Case(
        "a ratio that is not defined",
        groups(ratio=None),
        fair(gap=0.2, ratio=0.8),
        ("fairness sex selection_rate ratio",),
    ),
    Case(
        "a gap that is NaN",
        groups(gap=NAN),
        fair(gap=0.2),
        ("sound measurement", "fairness sex selection_rate gap"),
    ),
    Case("a group at the fewest rows", groups(rows=300), fair(gap=0.2, min_rows=300)),
    Case(
        "a group with a row too few",
        groups(rows=299),
        fair(gap=0.2, min_rows=300),
        ("fairness sex selection_rate f rows",),
    ),
    Case(
        "two groups with too few rows",
        groups(gap=0.9),
        fair(gap=0.2, min_rows=2000),
        ("fairness sex selection_rate f rows", "fairness sex selection_rate m rows"),
    ),
    Case(
        "rows of no group",
        groups(problems=("12 test rows have no sex.", "And more.")),
        fair(gap=0.2),
        ("fairness sex selection_rate",),
    ),
    Case(
        "a single group",
        {"fairness": (replace(groups()["fairness"][0], groups={"f": estimate(0.4, rows=900)}),)},
        fair(gap=0.2),
        ("fairness sex selection_rate",),
    ),
    Case("groups that were not measured", {}, fair(gap=0.2), ("fairness sex selection_rate",)),
    Case(
        "groups of another rule",
        groups(measure="error"),
        fair(gap=0.2),
        ("fairness sex selection_rate",),
    ),
    Case(
        "one of two rules",
        {
            "fairness": (
                *groups(gap=0.3)["fairness"],
                *groups(gap=0.01, measure="error", x=0.45)["fairness"],
            )
        },
        {
            "fairness": [
                {"by": "sex", "measure": "selection_rate", "gap": 0.2},
                {"by": "sex", "measure": "error", "gap": 0.2},
            ]
        },
        ("fairness sex selection_rate gap",),
    ),
    Case(
        "a rule that cannot be told, and one that is broken",
        groups(gap=0.3),
        {
            "fairness": [
                {"by": "sex", "measure": "error", "gap": 0.2},
                {"by": "sex", "measure": "selection_rate", "gap": 0.2},
            ]
        },
        ("fairness sex error", "fairness sex selection_rate gap"),
    ),
    Case(
        "a rule with too few rows, and one that is broken",
        {
            "fairness": (
                *groups(rows=9, measure="error")["fairness"],
                *groups(gap=0.3)["fairness"],
            )
        },
        {
            "fairness": [
                {"by": "sex", "measure": "error", "gap": 0.2},
                {"by": "sex", "measure": "selection_rate", "gap": 0.2},
            ]
        },
        ("fairness sex error f rows", "fairness sex selection_rate gap"),
    ),
    # The order of a query's rows.
    Case("ranking at its least", ranked(), ranks(ndcg=0.6, recall=0.7)),
    Case("ndcg just below", ranked(), ranks(ndcg=0.6001, recall=0.7), ("ranking ndcg",)),
    Case("recall just below", ranked(), ranks(ndcg=0.6, recall=0.7001), ("ranking recall",)),
    Case("ndcg alone", ranked(recall=0.1), ranks(ndcg=0.6)),
    Case("recall alone", ranked(ndcg=0.1), ranks(recall=0.7)),
    Case(
        "both orders below",
        ranked(),
        ranks(ndcg=0.7, recall=0.8),
        ("ranking ndcg", "ranking recall"),
    ),
    Case("ranking's worse end", ranked(), ranks(ndcg=0.58, judge="interval")),
    Case(
        "ranking's worse end below",
        ranked(),
        ranks(ndcg=0.59, judge="interval"),
        ("ranking ndcg",),
    ),
    Case(
        "ndcg that is no number",
        ranked(ndcg=NAN),
        ranks(ndcg=0.0),
        ("sound measurement", "ranking ndcg"),
    ),
    Case("ndcg that is not known", ranked(ndcg=None), ranks(ndcg=0.0), ("ranking ndcg",)),
    Case("just enough queries", ranked(queries=100), ranks(ndcg=0.6)),
    Case("too few queries", ranked(queries=99), ranks(ndcg=0.6), ("ranking queries",)),
    Case(
        "too few queries, badly ordered",
        ranked(ndcg=0.1, queries=99),
        ranks(ndcg=0.6, recall=0.7),
        ("ranking queries",),
    ),
    Case("fewer queries asked for", ranked(queries=5), ranks(ndcg=0.6, min_queries=5)),
    Case("ranking that was not measured", {}, ranks(ndcg=0.0), ("ranking",)),
    # A value that rounds to its bound is shown with the digit that tells them apart.
    Case("f1 below in its fourth digit", metrics(f1=estimate(0.59964)), {"f1": 0.6}, ("f1",)),
    # The least of one class.
    Case("a class at its least", classes(), {"classes": {"1": {"recall": 0.6, "f1": 0.55}}}),
    Case(
        "a class's recall just below",
        classes(),
        {"classes": {1: {"recall": 0.6001, "f1": 0.55}}},
        ("class 1 recall",),
    ),
    Case(
        "every class",
        classes(),
        {"classes": {"*": {"f1": 0.6}}},
        ("class 1 f1",),
    ),
    Case(
        "every class but one that has its own",
        classes(),
        {"classes": {"*": {"f1": 0.8}, "1": {"precision": 0.5}}},
        ("class 0 f1",),
    ),
    Case(
        "a class's lower bound",
        classes(),
        {"classes": {"1": {"f1": 0.5301}}, "judge": "interval", "accuracy": 0.7, "auc": 0.7},
        ("class 1 f1",),
    ),
    Case(
        "a class at the fewest rows", classes(), {"classes": {"1": {"f1": 0.5, "min_rows": 1500}}}
    ),
    Case(
        "a class with a row too few",
        classes(),
        {"classes": {"1": {"f1": 0.5, "min_rows": 1501}}},
        ("class 1 enough rows",),
    ),
    Case(
        "a class with fewer rows than all must have",
        {**classes(), "class_rows": (4951, 49)},
        {"classes": {"1": {"f1": 0.5}}},
        ("positives", "class 1 enough rows"),
    ),
    Case(
        "a class that there is not",
        classes(),
        {"classes": {"2": {"f1": 0.5}}},
        ("class 2",),
    ),
    # What mistakes cost: less than a constant answer's, and a bound of the project's.
    Case("cheaper than a constant", costly(0.5)),
    Case("as dear as a constant", costly(0.8), {}, ("costs less than a constant",)),
    Case("just cheaper than a constant", costly(0.7999)),
    Case("dearer than a constant", costly(0.9), {}, ("costs less than a constant",)),
    Case(
        "a constant whose cost is not known",
        {**costly(0.5), "constant_cost": None},
        {},
        ("costs less than a constant",),
    ),
    Case(
        "a constant whose cost is NaN",
        costly(0.5, NAN),
        {},
        ("sound measurement", "costs less than a constant"),
    ),
    Case(
        "a cost that is missing",
        costly(None),
        {},
        ("sound measurement", "costs less than a constant"),
    ),
    Case("a cost at its bound", costly(0.5), {"metrics": {"expected_cost": {"max": 0.5}}}),
    Case(
        "a cost above its bound",
        costly(0.5),
        {"metrics": {"expected_cost": {"max": 0.4999}}},
        ("expected_cost",),
    ),
    Case(
        "dearer than the champion",
        {**costly(0.5), "champion": {"expected_cost": estimate(0.06, 0.001)}},
        {"champion": {"margins": {"expected_cost": 0.05}}},
        ("champion expected_cost",),
    ),
    Case(
        "a class that there is not, and one that is below",
        classes(),
        {"classes": {"-": {"f1": 0.5}, "1": {"f1": 0.9}}},
        ("class -", "class 1 f1"),
    ),
    Case(
        "a class with too few rows, and one that is below",
        classes(),
        {"classes": {"0": {"f1": 0.5, "min_rows": 9000}, "1": {"f1": 0.9}}},
        ("class 0 enough rows", "class 1 f1"),
    ),
    Case(
        "rows of more classes than there are",
        {**classes(), "class_rows": (3500, 1500, 7)},
        {"classes": {"1": {"f1": 0.5}}},
        ("amount of data", "classes"),
    ),
    Case("a class that was not measured", {}, {"classes": {"1": {"f1": 0.5}}}, ("class 1 f1",)),
    Case(
        "a class's recall is NaN",
        classes(recall=NAN),
        {"classes": {"1": {"recall": 0.1}}},
        ("sound measurement", "class 1 recall"),
    ),
]
