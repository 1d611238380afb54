"""Cases of a number: what is different there."""

from dataclasses import replace

from slipway.components.evaluate.measures.measured import Estimate
from slipway.components.metrics.kinds.number import NumberLabel
from support.gate_cases.evidence import (
    GOOD_NUMBERS,
    NAN,
    NUMBER_METRICS,
    REHEARSED,
    Case,
    estimate,
    number_metrics,
    of,
)

NUMBER_CASES = [
    Case("all good"),
    Case("coverage at its bound", gate={"coverage": 0.01}),
    Case("coverage just below", gate={"coverage": 0.0099}, failed=("coverage",)),
    Case(
        "coverage's lower bound",
        gate={"coverage": 0.0199, "judge": "interval"},
        failed=("coverage",),
    ),
    Case("intervals from just enough rows", {"validation_rows": 9}),
    Case("intervals from one row too few", {"validation_rows": 8}, {}, ("validation rows",)),
    Case(
        "intervals from rows that nobody counted",
        {"validation_rows": None},
        {},
        ("validation rows",),
    ),
    Case(
        "intervals of few rows without a rule of coverage",
        {"validation_rows": 8},
        {"coverage": 0.9},
    ),
    Case(
        "intervals of few rows with a rule among the metrics",
        {"validation_rows": 8},
        {"coverage": 0.9, "metrics": {"coverage": {"min": 0.5}}},
        ("validation rows",),
    ),
    Case(
        "intervals of few rows with a rule of slices",
        {"validation_rows": 8, **of(GOOD_NUMBERS, "coverage", 0.9)},
        {"coverage": 0.9, "slices": {"columns": ["colour"], "least": {"coverage": {"min": 0.8}}}},
        ("validation rows",),
    ),
    Case(
        "intervals that promise more need more rows",
        {
            "validation_rows": 98,
            "label": NumberLabel(level=0.99),
            **number_metrics(coverage=estimate(0.98)),
        },
        {},
        ("validation rows",),
    ),
    Case("coverage may be above", number_metrics(coverage=estimate(1.0, 0.0))),
    Case("R² at its bound", gate={"metrics": {"r2": {"min": 0.6}}}),
    Case("R² just below", gate={"metrics": {"r2": {"min": 0.6000001}}}, failed=("r2",)),
    Case("RMSE above its max", gate={"metrics": {"rmse": {"max": 11.9}}}, failed=("rmse",)),
    Case("MAE above its max", gate={"metrics": {"mae": {"max": 8.9}}}, failed=("mae",)),
    Case(
        "pinball above its max",
        gate={"metrics": {"pinball": {"max": 1.9}}},
        failed=("pinball",),
    ),
    Case(
        "intervals too wide",
        gate={"metrics": {"interval_width": {"max": 39.0}}},
        failed=("interval_width",),
    ),
    Case(
        "coverage is NaN",
        number_metrics(coverage=Estimate(value=NAN)),
        {},
        (
            "sound measurement",
            "coverage",
        ),
    ),
    Case(
        "coverage is missing",
        {"metrics": {name: value for name, value in NUMBER_METRICS.items() if name != "coverage"}},
        {},
        ("coverage",),
    ),
    Case("one row too few", gate={"min_rows": 5001}, failed=("test rows",)),
    Case("rows of a class are not asked", gate={"min_class_rows": 4000}),
    Case(
        "no better than the mean",
        {"baselines": {**GOOD_NUMBERS.baselines, "mean": estimate(0.0)}},
        {},
        ("beats mean",),
    ),
    Case(
        "a tie with the linear regression",
        {"baselines": {**GOOD_NUMBERS.baselines, "linear regression": estimate(-0.01)}},
    ),
    Case(
        "worse than the linear regression beyond chance",
        {"baselines": {**GOOD_NUMBERS.baselines, "linear regression": estimate(-0.03)}},
        {},
        ("beats linear regression",),
    ),
    Case(
        "the linear regression is missing",
        {"baselines": {"mean": estimate(0.6)}},
        {},
        ("beats linear regression",),
    ),
    Case(
        "the linear regression is not asked",
        {"baselines": {"mean": estimate(0.6)}},
        {"baseline": {"linear": False}},
    ),
    Case(
        "RMSE no worse than the champion's",
        {"champion": {"rmse": estimate(0.0, 0.1), "r2": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"rmse": 0.1, "r2": 0.01}}},
    ),
    Case(
        "RMSE worse than the champion's",
        {"champion": {"rmse": estimate(0.2, 0.05), "r2": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"rmse": 0.1, "r2": 0.01}}},
        ("champion rmse",),
    ),
    Case(
        "R² worse than the champion's",
        {"champion": {"rmse": estimate(0.0, 0.05), "r2": estimate(-0.02, 0.005)}},
        {"champion": {"margins": {"rmse": 0.1, "r2": 0.01}}},
        ("champion r2",),
    ),
    Case(
        "a slice's RMSE is above",
        of(GOOD_NUMBERS, "rmse", 14.0),
        {"slices": {"columns": ["colour"], "least": {"rmse": {"max": 13.9}}}},
        ("slice colour=blue rmse", "slice colour=red rmse"),
    ),
    Case("shuffled labels at the edge", {"shuffled": Estimate(value=-0.07, low=-0.07, high=0.07)}),
    Case(
        "shuffled labels are told",
        {"shuffled": Estimate(value=0.0701, low=-0.07, high=0.07)},
        {},
        ("shuffled labels",),
    ),
    Case("too good to be true", {"told": 0.98}, {}, ("too good to be true",)),
    Case("just not too good", {"told": 0.9799}),
    Case("not looked at for a leak", {"told": None}, {}, ("too good to be true",)),
    Case("told is NaN", {"told": NAN}, {}, ("sound measurement", "too good to be true")),
    Case(
        "a feature gives the number away", {"features": {"a": 0.99}}, {}, ("too good to be true",)
    ),
    Case(
        "a feature explains the number",
        {"explained": {"a": 0.5, "leak": 0.98, "z": 0.7}},
        {},
        ("too good to be true",),
    ),
    Case("no feature explains the number", {"explained": {"a": 0.5, "b": 0.9799}}),
    Case(
        "the model tells as much as a feature explains",
        {"told": 0.98, "explained": {"a": 0.99}},
        {},
        ("too good to be true",),
    ),
    Case(
        "acknowledged",
        {"told": 0.99},
        {"leak": {"acknowledged": "the label is a physical law"}},
    ),
    Case(
        "predictor answers otherwise",
        {"rehearsal": replace(REHEARSED, difference=1.1e-5)},
        {},
        ("rehearsal difference",),
    ),
]
