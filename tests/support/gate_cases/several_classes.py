"""Cases of several classes: what is different there."""

from slipway.components.evaluate.measures.measured import Estimate
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from support.gate_cases.evidence import GOOD_CLASSES, Case, class_metrics, estimate, of, with_sets

CLASS_CASES = [
    Case("all good"),
    Case("accuracy just below", gate={"accuracy": 0.8000001}, failed=("accuracy",)),
    Case("macro F1 just below", gate={"f1": 0.6000001}, failed=("f1",)),
    Case("macro F1 at its threshold", gate={"f1": 0.6}),
    Case("mean AUC just below", gate={"auc": 0.9000001}, failed=("auc",)),
    Case("calibration above", gate={"calibration_error": 0.0299}, failed=("calibration_error",)),
    Case(
        "weighted F1 below",
        gate={"metrics": {"weighted_f1": {"min": 0.71}}},
        failed=("weighted_f1",),
    ),
    Case("a class at the minimum", {"class_rows": (3450, 1500, 50)}),
    Case("one row of a class too few", {"class_rows": (3451, 1500, 49)}, {}, ("class cat rows",)),
    Case(
        "two classes too rare",
        {"class_rows": (0, 4951, 49)},
        {},
        ("class ant rows", "class cat rows"),
    ),
    Case(
        "no better than a constant",
        {"baselines": {**GOOD_CLASSES.baselines, "majority class": estimate(0.0)}},
        {},
        ("beats majority class",),
    ),
    Case(
        "worse than the multinomial regression beyond chance",
        {"baselines": {**GOOD_CLASSES.baselines, "logistic regression": estimate(-0.03)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "worse than the champion in log loss",
        {"champion": {"log_loss": estimate(0.02, 0.005), "f1": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01, "f1": 0.01}}},
        ("champion log_loss",),
    ),
    Case(
        "worse than the champion in F1",
        {"champion": {"log_loss": estimate(0.0, 0.005), "f1": estimate(-0.02, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01, "f1": 0.01}}},
        ("champion f1",),
    ),
    Case(
        "the champion has other classes",
        {"champion_problem": "version 3 predicts one of 4 classes, and this model one of 3."},
        {},
        ("champion",),
    ),
    Case(
        "a slice is below in F1",
        of(GOOD_CLASSES, "f1", 0.3),
        {"slices": {"columns": ["colour"], "least": {"f1": {"min": 0.31}}}},
        ("slice colour=blue f1", "slice colour=red f1"),
    ),
    Case("sets that hold what they promise", with_sets(0.88), {"coverage": 0.02}),
    Case("sets that fall just short", with_sets(0.8799), {"coverage": 0.02}, ("coverage",)),
    Case(
        "the lower bound of what sets hold",
        with_sets(0.88),
        {"coverage": 0.0399, "judge": "interval", "accuracy": 0.7},
        ("coverage",),
    ),
    Case("sets from just enough rows", {**with_sets(0.9), "validation_rows": 9}),
    Case(
        "sets from one row too few",
        {**with_sets(0.9), "validation_rows": 8},
        {},
        ("validation rows",),
    ),
    Case("without sets no validation row is asked for", {"validation_rows": 0}),
    Case(
        "more classes than are named are too rare",
        {
            "label": MulticlassLabel(classes=tuple(f"c{place:02}" for place in range(30))),
            "class_rows": (*range(21), *[500] * 9),
        },
        {"min_class_rows": 21},
        ("class rows",),
    ),
    Case(
        "as many classes as are named are too rare",
        {
            "label": MulticlassLabel(classes=tuple(f"c{place:02}" for place in range(30))),
            "class_rows": (*range(21), *[500] * 9),
        },
        {"min_class_rows": 20},
        tuple(f"class c{place:02} rows" for place in range(20)),
    ),
    Case("sets that were not measured", with_sets(None), {}, ("sound measurement", "coverage")),
    Case(
        "sets that are too large",
        with_sets(0.9),
        {"metrics": {"set_size": {"max": 1.39}}},
        ("set_size",),
    ),
    Case(
        "too good to be true",
        class_metrics(auc=estimate(0.98, 0.001)),
        {},
        ("too good to be true",),
    ),
    Case(
        "a feature gives the class away", {"features": {"a": 0.981}}, {}, ("too good to be true",)
    ),
    Case(
        "a feature explains the classes",
        {"explained": {"a": 0.5, "leak": 0.985, "z": 0.7}},
        {},
        ("too good to be true",),
    ),
    Case(
        "a metric is missing",
        class_metrics(auc=Estimate(value=None)),
        {},
        (
            "sound measurement",
            "auc",
            "too good to be true",
        ),
    ),
    Case(
        "shuffled labels are told apart",
        {"shuffled": Estimate(value=0.55, low=0.46, high=0.54)},
        {},
        ("shuffled labels",),
    ),
]
