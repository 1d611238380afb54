"""Prometheus rules and the Grafana dashboard: valid, firing and not firing, on metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.components.config.monitoring import AlertThresholds


@pytest.fixture
def manifests(repository: Path) -> Path:
    return repository / "manifests" / "monitoring"


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if not program:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    return program


def groups(manifests: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((manifests / "rules.yaml").read_text())["spec"][
        "groups"
    ]
    return found


def expressions(manifests: Path) -> list[str]:
    rules = [rule["expr"] for group in groups(manifests) for rule in group["rules"]]
    dashboard = json.loads((manifests / "dashboard.json").read_text())
    return rules + [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]


WINDOW_NUMBERS = (
    "current_accuracy",
    "expected_accuracy",
    "data_drift_score",
    "feature_drift_score",
)

# What the series do, by the minute, and the alerts after 20 minutes.
OK = "0+600x90"
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "healthy": (
        {
            'slipway_requests_total{model_name="m",code="200"}': OK,
            'slipway_request_seconds_sum{model_name="m"}': "0+6x90",
            'slipway_request_seconds_count{model_name="m"}': OK,
            'slipway_log_dropped_rows_total{pod="p",reason="full"}': "0x90",
            'slipway_model_info{model_name="m"}': "1x90",
        },
        [],
    ),
    "errors": (
        {
            'slipway_requests_total{model_name="m",code="200"}': OK,
            'slipway_requests_total{model_name="m",code="500"}': "0+12x90",
        },
        ["SlipwayHighErrorRate"],
    ),
    "few errors": (
        {
            'slipway_requests_total{model_name="m",code="200"}': OK,
            'slipway_requests_total{model_name="m",code="500"}': "0+3x90",
        },
        [],
    ),
    "refusals are the caller's": (
        {
            'slipway_requests_total{model_name="m",code="200"}': OK,
            'slipway_requests_total{model_name="m",code="400"}': OK,
        },
        [],
    ),
    "slow": (
        {
            'slipway_request_seconds_sum{model_name="m"}': "0+90x90",
            'slipway_request_seconds_count{model_name="m"}': OK,
        },
        ["SlipwayHighLatency"],
    ),
    "gone": ({'slipway_model_info{model_name="m"}': "1x60 _x30"}, ["SlipwayPredictorGone"]),
    "log lost": (
        {'slipway_log_dropped_rows_total{pod="p",reason="full"}': "0x80 0+5x10"},
        ["SlipwayInferenceLogLost"],
    ),
    "the online store was emptied": (
        {
            'slipway_online_view_lost{view="v",pod="a"}': "0x60 1x30",
            'slipway_online_view_lost{view="v",pod="b"}': "0x90",
        },
        ["SlipwayOnlineStoreLost"],
    ),
    "the online store hangs": (
        {'slipway_online_refused_total{reason="timeout"}': "0x60 0+3x30"},
        ["SlipwayOnlineLookUpsFail"],
    ),
    "the online store was slow for a moment": (
        {
            'slipway_online_refused_total{reason="timeout"}': "0x60 9x30",
            'slipway_online_view_lost{view="v"}': "0x90",
        },
        [],
    ),
    "the monitor's alert": (
        {'slipway_alert{model="m",alert="DATA_DRIFT",severity="critical"}': "1x90"},
        ["SlipwayModelAlert"],
    ),
    "a mild alert of the monitor": (
        {'slipway_alert{model="m",alert="FEATURE_DRIFT",severity="info"}': "1x90"},
        [],
    ),
    # promtool's clock begins in 1970: a window that ended three days before is negative.
    "stale": ({'slipway_window_end_seconds{model="m"}': "-259200x90"}, ["SlipwayMonitorStale"]),
    "fresh": ({'slipway_window_end_seconds{model="m"}': "-3600x90"}, []),
}


def test_prometheus_accepts_the_rules_and_they_fire_as_said(
    manifests: Path, promtool: str, tmp_path: Path
) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(manifests)}))
    alerts = [r["alert"] for g in groups(manifests) for r in g["rules"] if "alert" in r]
    tests = []
    for name, (series, firing) in CASES.items():
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                        "eval_time": "85m",
                        "exp_samples": [{"labels": "{}", "value": float(alert in firing)}],
                    }
                    for alert in alerts
                ],
            }
        )
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert {a for _, firing in CASES.values() for a in firing} == set(alerts)


def test_prometheus_can_read_what_the_dashboard_asks_for(
    manifests: Path, promtool: str, tmp_path: Path
) -> None:
    rules = [{"record": f"asked:{i}", "expr": e} for i, e in enumerate(expressions(manifests))]
    group = {"name": "asked", "rules": rules}
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    done = subprocess.run(
        [promtool, "check", "rules", "asked.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_thresholds_are_those_of_the_project_file(manifests: Path) -> None:
    rules = {r.get("alert"): r["expr"] for g in groups(manifests) for r in g["rules"]}
    default = AlertThresholds()
    assert rules["SlipwayHighErrorRate"].endswith(f"> {default.error_rate:g}")
    assert rules["SlipwayHighLatency"].endswith(f"> {default.latency_ms / 1000:g}")


def test_every_metric_is_one_that_the_predictor_or_the_monitor_has(manifests: Path) -> None:
    from prometheus_client import generate_latest

    from slipway.components.monitor.alerting.notice import Notice
    from slipway.components.monitor.alerting.senders import window_gauges
    from slipway.serving.metrics import Metrics
    from slipway.serving.online.features import OnlineMetrics

    metrics = Metrics("m")
    metrics.count_request(200)
    OnlineMetrics(metrics.registry)
    served = metrics.render().decode()
    recorded = {r.get("record") for g in groups(manifests) for r in g["rules"]}
    notice = Notice(
        model="m",
        window=("2013-12-01T00:00:00Z", "2013-12-02T00:00:00Z"),
        firing=(),
        going_on=(),
        resolved=(),
        since={},
        report="",
        numbers=dict.fromkeys(WINDOW_NUMBERS, 1.0),
    )
    pushed = generate_latest(window_gauges(notice)).decode()
    for expression in expressions(manifests):
        for name in re.findall(r"\bslipway[a-z0-9_:]+", expression):
            known = name in recorded or re.search(rf"^{name}\b", served + pushed, re.M)
            base = name.removesuffix("_total").removesuffix("_bucket")
            assert known or f"# TYPE {base}" in served + pushed, name


def test_the_dashboard_has_panels_that_do_not_overlap(manifests: Path) -> None:
    dashboard = json.loads((manifests / "dashboard.json").read_text())
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells and place["x"] + place["w"] <= 24
        cells |= mine
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
