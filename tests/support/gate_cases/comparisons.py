"""Cases of two classes: against the champion and baselines, in slices, and leaks."""

from slipway.components.evaluate.measures.measured import Estimate
from support.gate_cases.evidence import (
    CHAMPION,
    GOOD,
    INF,
    MARGINED,
    NAN,
    REQUIRED,
    SLICED,
    Case,
    estimate,
    metrics,
    slices,
)

COMPARISONS = [
    # The champion.
    Case("equal to the champion", CHAMPION),
    Case(
        "worse by just the margin, point",
        {"champion": {"auc": estimate(-0.01)}},
        {"champion": {"judge": "point"}},
    ),
    Case(
        "worse by more than the margin, point",
        {"champion": {"auc": estimate(-0.0101)}},
        {"champion": {"judge": "point"}},
        ("champion auc",),
    ),
    Case(
        "better, but not surely no worse",
        {"champion": {"auc": estimate(0.005)}},
        {},
        ("champion auc",),
    ),
    Case("surely no worse", {"champion": {"auc": estimate(0.0101)}}),
    Case("champion could not be read", {"champion_problem": "hash differs"}, {}, ("champion",)),
    Case(
        "champion could not be read, though numbers are there",
        {**CHAMPION, "champion_problem": "hash differs"},
        {},
        ("champion",),
    ),
    Case("a compared metric is missing", {"champion": {}}, {}, ("champion auc",)),
    Case(
        "the difference is NaN",
        {"champion": {"auc": Estimate(value=NAN)}},
        {},
        ("sound measurement", "champion auc"),
    ),
    Case(
        "log loss no worse than the champion's",
        {"champion": {"log_loss": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01}}},
    ),
    Case(
        "log loss worse than the champion's",
        {"champion": {"log_loss": estimate(0.02, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01}}},
        ("champion log_loss",),
    ),
    Case(
        "worse in the first of two metrics",
        {"champion": {"auc": estimate(-0.1), "f1": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"auc": 0.01, "f1": 0.02}}},
        ("champion auc",),
    ),
    Case(
        "Brier score worse than the champion's",
        {"champion": {"brier": estimate(0.02, 0.005)}},
        {"champion": {"margins": {"brier": 0.01}}},
        ("champion brier",),
    ),
    # Slices.
    Case("slices hold", {"slices": slices()}, SLICED),
    Case(
        "a slice's lower bound is below",
        {"slices": slices(auc=0.71)},
        {"slices": {**SLICED["slices"], "judge": "interval"}},
        ("slice colour=red auc",),
    ),
    Case(
        "a slice's lower bound is below the champion's",
        {**CHAMPION, "slices": slices(lead=-0.02)},
        {"slices": {**MARGINED["slices"], "judge": "interval"}},
        ("slice colour=red auc against champion",),
    ),
    Case("a slice is below", {"slices": slices(auc=0.69)}, SLICED, ("slice colour=red auc",)),
    Case("a small slice is not judged", {"slices": slices(rows=499, auc=0.6)}, SLICED),
    Case(
        "a slice at the minimum of rows is",
        {"slices": slices(rows=500, auc=0.6)},
        SLICED,
        ("slice colour=red auc",),
    ),
    Case(
        "a slice's metric is missing",
        {"slices": slices(auc=None)},
        SLICED,
        ("slice colour=red auc",),
    ),
    Case("a declared column has no slice", {}, SLICED, ("slice colour",)),
    Case(
        "a required value is missing", {"slices": slices()}, REQUIRED, ("slice colour=green rows",)
    ),
    Case(
        "a required value has too few rows",
        {"slices": slices(rows=499)},
        REQUIRED,
        ("slice colour=green rows", "slice colour=red rows"),
    ),
    Case(
        "a slice worse than the champion's",
        {**CHAMPION, "slices": slices(lead=-0.04)},
        MARGINED,
        ("slice colour=red auc against champion",),
    ),
    Case(
        "a slice no worse than the champion's", {**CHAMPION, "slices": slices(lead=-0.03)}, MARGINED
    ),
    Case("slice margins without a champion", {"slices": slices(lead=None)}, MARGINED),
    Case("an undeclared slice is only shown", {"slices": slices(auc=0.1)}),
    # Baselines.
    Case(
        "no better than the majority class",
        {"baselines": {**GOOD.baselines, "majority class": estimate(-0.001)}},
        {},
        ("beats majority class",),
    ),
    Case(
        "as good as the logistic regression",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.0)}},
        {},
    ),
    Case(
        "a constant answer, whose lead is exactly nothing",
        {"baselines": {**GOOD.baselines, "majority class": Estimate(value=0.0, low=0.0, high=0.0)}},
        {},
        ("beats majority class",),
    ),
    Case(
        "a constant answer is beaten by no tie",
        {"baselines": {**GOOD.baselines, "majority class": estimate(-0.001, 0.1)}},
        {"baseline": {"judge": "tie"}},
        ("beats majority class",),
    ),
    Case(
        "just better than the logistic regression",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(1e-6)}},
        {},
    ),
    Case(
        "a tie with the logistic regression",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.0015, 0.004)}},
        {},
    ),
    Case(
        "a tie whose interval just reaches the margin",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.02, 0.02)}},
        {},
    ),
    Case(
        "worse than the logistic regression beyond chance",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.02001, 0.02)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "a tie with the margin asked for",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.015, 0.01)}},
        {"baseline": {"margin": 0.02}},
    ),
    Case(
        "surely below the margin asked for",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.005, 0.01)}},
        {"baseline": {"margin": 0.02}},
        ("beats logistic regression",),
    ),
    Case(
        "worse, and too few blocks to know by how much",
        {"baselines": {**GOOD.baselines, "logistic regression": Estimate(value=-0.001, rows=5000)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "better, with too few blocks",
        {"baselines": {**GOOD.baselines, "logistic regression": Estimate(value=0.001, rows=5000)}},
        {},
    ),
    Case(
        "a tie where the measured lead decides",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.0015, 0.004)}},
        {"baseline": {"judge": "point"}},
        ("beats logistic regression",),
    ),
    Case(
        "exactly as good where the measured lead decides",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.0)}},
        {"baseline": {"judge": "point"}},
        ("beats logistic regression",),
    ),
    Case(
        "the lead's upper bound is infinite",
        {
            "baselines": {
                **GOOD.baselines,
                "logistic regression": Estimate(value=-0.001, low=-0.01, high=INF),
            }
        },
        {},
        ("sound measurement", "beats logistic regression"),
    ),
    Case(
        "not surely better",
        {},
        {"baseline": {"margin": 0.02, "judge": "interval"}},
        ("beats logistic regression",),
    ),
    Case(
        "the logistic regression is missing",
        {"baselines": {"majority class": estimate(0.2)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "the logistic regression is not asked",
        {"baselines": {"majority class": estimate(0.2)}},
        {"baseline": {"linear": False}},
    ),
    Case(
        "the majority class is always asked",
        {"baselines": {}},
        {"baseline": {"linear": False}},
        ("beats majority class",),
    ),
    # Leaks.
    Case(
        "shuffled labels are told apart",
        {"shuffled": Estimate(value=0.55, low=0.46, high=0.54)},
        {},
        ("shuffled labels",),
    ),
    Case("shuffled labels at the edge", {"shuffled": Estimate(value=0.54, low=0.46, high=0.54)}),
    Case(
        "shuffled labels at the lower edge", {"shuffled": Estimate(value=0.46, low=0.46, high=0.54)}
    ),
    Case(
        "shuffled labels told apart the other way",
        {"shuffled": Estimate(value=0.45, low=0.46, high=0.54)},
        {},
        ("shuffled labels",),
    ),
    Case("shuffling was not done", {"shuffled": None}, {}, ("shuffled labels",)),
    Case(
        "shuffling gave NaN",
        {"shuffled": Estimate(value=NAN, low=0.4, high=0.6)},
        {},
        ("sound measurement", "shuffled labels"),
    ),
    Case("too good to be true", metrics(auc=estimate(0.98, 0.001)), {}, ("too good to be true",)),
    Case("just not too good", metrics(auc=estimate(0.9799, 0.001))),
    Case(
        "a feature gives the label away",
        {"features": {"a": 0.7, "leak": 0.999}},
        {},
        ("too good to be true",),
    ),
    Case(
        "a feature's AUC is NaN",
        {"features": {"a": NAN}},
        {},
        ("sound measurement", "too good to be true"),
    ),
    Case(
        "too good and acknowledged",
        metrics(auc=estimate(0.99, 0.001)),
        {"leak": {"acknowledged": "the label is a physical law"}},
    ),
    Case(
        "a blank acknowledgement",
        metrics(auc=estimate(0.99, 0.001)),
        {"leak": {"acknowledged": "  "}},
        ("too good to be true",),
    ),
]
