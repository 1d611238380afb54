"""Every metric that a page shows is said in words."""

from typing import get_args

from slipway.components.config.kinds import LOWER_IS_BETTER, Metric, explain_metrics, metric_name

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
