"""Cases of two classes: thresholds of metrics, and how much was measured."""

from dataclasses import replace

from slipway.components.evaluate.measures.measured import Estimate
from support.gate_cases.evidence import INF, METRICS, NAN, REHEARSED, Case, metrics, slices

THRESHOLDS = [
    Case("all good"),
    # Absolute thresholds: at, above, below; the point and the interval.
    Case("accuracy at its threshold", gate={"accuracy": 0.8}),
    Case("accuracy just below", gate={"accuracy": 0.8000001}, failed=("accuracy",)),
    Case("f1 at its threshold", gate={"f1": 0.6}),
    Case("f1 just below", gate={"f1": 0.6000001}, failed=("f1",)),
    Case("auc at its threshold", gate={"auc": 0.77}),
    Case("auc just below", gate={"auc": 0.7700001}, failed=("auc",)),
    Case(
        "all three below",
        gate={"accuracy": 0.9, "f1": 0.9, "auc": 0.9},
        failed=("accuracy", "f1", "auc"),
    ),
    Case("lower bounds hold", gate={"judge": "interval", "auc": 0.7499}),
    Case("a lower bound does not", gate={"judge": "interval", "auc": 0.7501}, failed=("auc",)),
    Case(
        "accuracy's lower bound",
        gate={"judge": "interval", "accuracy": 0.79},
        failed=("accuracy",),
    ),
    Case("calibration at its bound", gate={"calibration_error": 0.03}),
    Case("calibration above", gate={"calibration_error": 0.0299}, failed=("calibration_error",)),
    Case(
        "calibration's upper bound above",
        gate={"judge": "interval", "auc": 0.7, "calibration_error": 0.035},
        failed=("calibration_error",),
    ),
    # Any other metric.
    Case("log loss below its max", gate={"metrics": {"log_loss": {"max": 0.46}}}),
    Case("log loss above", gate={"metrics": {"log_loss": {"max": 0.44}}}, failed=("log_loss",)),
    Case("brier above", gate={"metrics": {"brier": {"max": 0.1}}}, failed=("brier",)),
    Case("recall below", gate={"metrics": {"recall": {"min": 0.7}}}, failed=("recall",)),
    Case("precision within both", gate={"metrics": {"precision": {"min": 0.5, "max": 0.6}}}),
    Case(
        "precision above its max",
        gate={"metrics": {"precision": {"min": 0.5, "max": 0.54}}},
        failed=("precision max",),
    ),
    Case(
        "precision below its min",
        gate={"metrics": {"precision": {"min": 0.56, "max": 0.6}}},
        failed=("precision min",),
    ),
    Case(
        "a second bound on accuracy",
        gate={"metrics": {"accuracy": {"max": 0.7}}},
        failed=("accuracy",),
    ),
    # What is not finite or not there.
    *(
        Case(f"{metric} is {value}", metrics(**{metric: Estimate(value=value)}), {}, failed)
        for value in (NAN, INF, -INF, None)
        for metric, failed in (
            ("accuracy", ("sound measurement", "accuracy")),
            ("f1", ("sound measurement", "f1")),
            ("auc", ("sound measurement", "auc", "too good to be true")),
            ("calibration_error", ("sound measurement", "calibration_error")),
            ("recall", ("sound measurement",)),
        )
    ),
    Case(
        "an interval that is not finite",
        metrics(accuracy=Estimate(value=0.8, low=NAN, high=0.9)),
        failed=("sound measurement", "accuracy"),
    ),
    Case(
        "the other end of the interval is not finite",
        metrics(accuracy=Estimate(value=0.8, low=0.7, high=INF)),
        {},
        ("sound measurement", "accuracy"),
    ),
    Case(
        "the judged end is not finite",
        metrics(accuracy=Estimate(value=0.8, low=-INF, high=0.9)),
        {"judge": "interval", "auc": 0.7},
        ("sound measurement", "accuracy"),
    ),
    Case(
        "an interval without its value",
        metrics(accuracy=Estimate(value=None, low=0.8, high=0.9)),
        {"judge": "interval", "auc": 0.7},
        ("sound measurement", "accuracy"),
    ),
    Case(
        "not finite where no rule looks: the interval of a metric without a bound",
        metrics(recall=Estimate(value=0.65, low=NAN, high=0.7)),
        {},
        ("sound measurement",),
    ),
    Case(
        "not finite where no rule looks: a slice that is only shown",
        {"slices": slices(auc=INF)},
        {},
        ("sound measurement",),
    ),
    Case(
        "not finite where no rule looks: the rehearsal left out",
        {"rehearsal": replace(REHEARSED, p99_ms=NAN)},
        {"rehearsal": {"enabled": False}},
        ("sound measurement",),
    ),
    Case(
        "shuffling has one end only",
        {"shuffled": Estimate(value=0.5, low=0.4)},
        {},
        ("shuffled labels",),
    ),
    Case("no interval, point judged", metrics(accuracy=Estimate(value=0.8))),
    Case(
        "no interval, interval judged",
        metrics(accuracy=Estimate(value=0.8)),
        {"judge": "interval", "auc": 0.7},
        ("accuracy",),
    ),
    Case(
        "a metric is missing",
        {"metrics": {k: v for k, v in METRICS.items() if k != "f1"}},
        {},
        ("f1",),
    ),
    Case(
        "every metric is missing",
        {"metrics": {}},
        {},
        ("accuracy", "f1", "auc", "calibration_error", "too good to be true"),
    ),
    # The amount of data.
    Case("rows at the minimum", gate={"min_rows": 5000}),
    Case("one row too few", gate={"min_rows": 5001}, failed=("test rows",)),
    # Weighed rows are worth fewer of equal weight.
    Case("weighed rows worth enough", {"effective_rows": 1000.9}, {"weights": "exposure"}),
    Case(
        "weighed rows worth one too few",
        {"effective_rows": 999.9},
        {"weights": "exposure"},
        ("effective rows",),
    ),
    Case(
        "weighed rows whose worth was not measured",
        {},
        {"weights": "exposure"},
        ("effective rows",),
    ),
    *(
        Case(
            f"weighed rows whose worth is {value}",
            {"effective_rows": value},
            {"weights": "exposure"},
            ("sound measurement", "effective rows"),
        )
        for value in (NAN, INF)
    ),
    Case("rows that nothing weighs have no worth", {"effective_rows": 1.0}),
    Case(
        "no rows",
        {"rows": 0, "expected_rows": 0, "class_rows": (0, 0)},
        {},
        ("test rows", "positives", "negatives"),
    ),
    Case("positives at the minimum", {"class_rows": (4950, 50)}),
    Case("one positive too few", {"class_rows": (4951, 49)}, {}, ("positives",)),
    Case("negatives at the minimum", {"class_rows": (50, 4950)}),
    Case("one negative too few", {"class_rows": (49, 4951)}, {}, ("negatives",)),
    Case("a class is missing", {"class_rows": (5000, 0)}, {}, ("positives",)),
    Case(
        "the test table is truncated",
        {"rows": 4999, "class_rows": (3499, 1500)},
        {},
        ("sound measurement",),
    ),
    Case(
        "the test table is longer",
        {"rows": 5001, "class_rows": (3501, 1500)},
        {},
        ("sound measurement",),
    ),
    Case(
        "measuring was unsound",
        {"problems": ("3 rows got no probability.",)},
        {},
        ("sound measurement",),
    ),
    Case("measuring was unsound twice", {"problems": ("One.", "Two.")}, {}, ("sound measurement",)),
]
