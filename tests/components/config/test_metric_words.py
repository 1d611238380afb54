"""Every metric that a page shows is said in words."""

from typing import get_args

from slipway.components.config.kinds import (
    LOWER_IS_BETTER,
    Metric,
    asked_of,
    explain_metrics,
    metric_name,
    rule_name,
)

METRICS = get_args(Metric)


def test_every_metric_has_a_meaning_that_agrees_with_its_direction() -> None:
    meanings = dict(explain_metrics(METRICS))
    assert list(meanings) == [metric_name(name) for name in METRICS]
    neither = {"interval_width", "set_size"}
    for name in METRICS:
        said = meanings[metric_name(name)]
        assert not said.endswith(".") and len(said) < 120, name
        lower = "lower is better" in said
        if name != "calibration_error":
            assert lower == (name in LOWER_IS_BETTER - neither), name
    assert explain_metrics(["a plugin's own", "auc"]) == [("AUC", meanings["AUC"])]


def test_a_bound_of_nothing_is_said_as_none() -> None:
    """`gate.accuracy: 0` asks for nothing; R² of at least 0 does."""
    assert asked_of("accuracy", 0) == "no bound" and asked_of("accuracy", 0.7) == "at least 0.7"
    assert asked_of("r2", 0) == "at least 0" and asked_of("log_loss", 0.5) == "at most 0.5"


def test_a_rule_s_metrics_have_their_names_and_its_columns_stay() -> None:
    assert rule_name("champion r2") == "champion R²"
    slice_rule = "slice home_region=new_york calibration_error against champion"
    assert rule_name(slice_rule) == "slice home_region=new_york calibration error against champion"
