"""The page of a run, its parts beside it, and the command that opens them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.commands.open import NAMES, RunPage, find_page
from slipway.components.contracts.monitoring.monitoring_record import (
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.contracts.verdict import RuleResult, Verdict
from slipway.components.support.errors import SlipwayError
from slipway.local.job import RunResult, add_report, as_html
from slipway.local.run_page import FILES, RUN, publish
from slipway.local.runner.execution import TaskRun


def verdict(outcome: str) -> Verdict:
    rules = tuple(
        RuleResult(
            name=name, metric=name, outcome=found, reason=f"{name} it is.", value=0.7, rows=9
        )
        for name, found in (("accuracy", "pass"), ("auc", outcome))
    )
    return Verdict(
        outcome=outcome, rules=rules, metrics={"accuracy": 0.7123, "auc": 0.7},
        thresholds={"auc": 0.65, "accuracy": 0.6}, model_hash="m", data_hash="d", test_rows=9,
        notes={
            "intervals": {"auc": [0.66, 0.74]},
            "weakest": [{"name": "region = <west>", "metric": "auc", "rows": 71, "value": 0.6123}],
        },
    )  # fmt: skip


def result(tmp_path: Path, outcome: str = "pass") -> RunResult:
    """A run as the stages leave it: artifacts without a suffix, results beside them."""
    out = tmp_path / "pipelines/p/validate"
    out.mkdir(parents=True)
    (out / "results").write_text(
        json.dumps({"tables": {"orders": {"rows": 1234, "good": 1230, "quarantine": 4}}})
    )
    (out / "report").write_text("<!doctype html><title>validation</title>")
    tasks = [
        TaskRun(name="validate", status="cached", seconds=0.1, headline="4 set apart",
                outputs={"results": str(out / "results"), "report": str(out / "report")}),
        TaskRun(name="train", status="failed", seconds=125),
        TaskRun(name="deploy", status="skipped"),
    ]  # fmt: skip
    made = RunResult(project="orders", verdict=verdict(outcome), tasks=tasks)
    add_report(made, "validation report", str(out / "report"))
    return made


def test_a_page_ends_in_html_also_where_the_runner_gave_none(tmp_path: Path) -> None:
    made = result(tmp_path)
    path = Path(made.reports["validation report"])
    assert path.name == "report.html" and "validation" in path.read_text()
    bare = path.with_name("report")
    bare.write_text("again")
    assert as_html(bare) == path and path.read_text() == "again"
    assert sorted(p.name for p in path.parent.iterdir()) == ["report", "report.html", "results"]


@pytest.mark.parametrize(
    ("outcome", "error", "said"),
    [
        ("pass", "", "Passed the gate."),
        ("fail", "", "1 of 2 rules failed; what served before, if anything did, serves on."),
        ("pass", "Stage deploy failed. <port>\nmore", "Stage deploy failed. &lt;port&gt;"),
    ],
)
def test_one_page_holds_the_run_and_leads_to_its_parts(
    tmp_path: Path, outcome: str, error: str, said: str
) -> None:
    made = result(tmp_path, outcome)
    made.error = error
    folder = tmp_path / "reports/orders-1"
    publish(folder, made, "mlflow ui")
    assert made.reports == {
        RUN: str(folder / "report.html"),
        "validation report": str(folder / "validation.html"),
    }
    page = (folder / "report.html").read_text()
    assert said in page and "more" not in page.split("</section>")[0].split("Verdict")[-1][:80]
    links = re.findall(r'href="([^"]+)"', page)
    assert links and all((folder / link).is_file() for link in links)
    for words in (
        "1,234",
        "1,230",
        "2 min 5 s",
        "0.700",
        "0.660 to 0.740",
        "The weakest groups of test rows by AUC: region = &lt;west&gt;, 0.612 (71 rows).",
    ):
        assert words in page, words


def test_a_refusal_shows_the_rule_that_failed_and_what_to_do(tmp_path: Path) -> None:
    """Every metric holds its bound, and the run is refused: the rule that did it stands first."""
    made = result(tmp_path)
    against = RuleResult(
        name="champion r2", metric="r2", outcome="fail", reason="Below.", value=0.0251,
        threshold=-0.01, low=-0.0289, high=0.0499, rows=9,
    )  # fmt: skip
    found = made.verdict
    assert found is not None
    made.verdict = replace(
        found, outcome="fail", rules=(*found.rules, against),
        notes={**found.notes, "remedies": ["Most likely `so` <it> is."]},
    )  # fmt: skip
    publish(tmp_path / "reports/orders-1", made, "mlflow ui")
    page = (tmp_path / "reports/orders-1/report.html").read_text()
    table = page.split("<h2>Verdict</h2>")[1].split("</table>")[0]
    rows = re.findall(r'<tr[^>]*><th scope="row">([^<]*)<', table)
    assert rows == ["champion R²", "accuracy", "AUC"]
    assert (
        "-0.029 to 0.050" in table and table.count(">failed<") == 1 and table.count(">holds<") == 2
    )
    box = page.split("</section>")[0]
    assert "What to do" in box and "Most likely <code>so</code> &lt;it&gt; is." in box


def test_the_first_screen_says_what_monitoring_found(tmp_path: Path) -> None:
    """Not only the names of alerts: a metric that is worse than at release, in words."""
    made = result(tmp_path)
    nothing = dict.fromkeys(("prediction_latency_ms", "throughput_rps", "error_rate"))
    made.record = MonitoringRecord(
        model="orders", window=("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        metrics=MLSystemMetrics(
            timestamp="2026-01-02T00:00:00Z", model_version="1", model_accuracy=0.6,
            data_drift_score=0.5, feature_drift_score=0.2, **nothing,
        ),
        drift_status="stable", summary={}, alerts=(), retrain=False,
        details={
            "performance": {"accuracy": 0.6, "intervals": {"accuracy": [0.55, 0.65]}},
            "label": {"kind": "binary"}, "release": {"accuracy": 0.71}, "thresholds": {},
            "features": {
                name: {"drifted": name < "c", "doubt": ""} for name in "abcdefghijklmnop"
            },
            "decision": "Keep the model.",
        },
    )  # fmt: skip
    publish(tmp_path / "reports/orders-1", made, "mlflow ui")
    page = (tmp_path / "reports/orders-1/report.html").read_text()
    box = page.split("</section>")[0]
    assert '<span class="tag warn">Look</span>' in box
    assert "Accuracy is worse than at release; 2 of 16 features changed; no alert" in box
    assert "Keep the model." in page.split("<h2>Monitoring</h2>")[1]


def test_the_stages_are_drawn_with_what_each_waited_for(tmp_path: Path) -> None:
    made = result(tmp_path)
    made.tasks[1].status = "refused"
    needs = {"train": ["validate", "elsewhere"], "deploy": ["validate", "train"]}
    publish(tmp_path / "reports/orders-1", made, "mlflow ui", needs)
    page = (tmp_path / "reports/orders-1/report.html").read_text()
    # Once for a wide page and once for a narrow one; what is not shown is not read out either.
    for place in ("wide-only", "narrow-only"):
        (svg,) = re.findall(rf'class="flow {place}[^>]*>(<svg.*?</svg>)', page, re.DOTALL)
        assert svg.count("<rect") == 3 and svg.count("<polygon") == 2
        assert re.findall(r"<text[^>]*>([^<]*)</text>", svg) == [
            "validate", "cached", "train", "2 min 5 s", "deploy", "skipped",
        ]  # fmt: skip
        assert "train refused, 2 min 5 s" in svg
    assert '<span class="tag bad">refused</span>' in page


def test_open_finds_the_last_runs_pages_and_says_what_is_missing(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    with pytest.raises(SlipwayError, match="There is no run in"):
        find_page(summary, RunPage.run)
    summary.write_text("{}")
    with pytest.raises(SlipwayError, match="cannot be read"):
        find_page(summary, RunPage.run)
    made = result(tmp_path)
    publish(tmp_path / "reports/orders-1", made, "mlflow ui")
    summary.write_text(json.dumps({"reports": made.reports}))
    assert find_page(summary, RunPage.run).name == "report.html"
    assert find_page(summary, RunPage.validate).name == "validation.html"
    with pytest.raises(SlipwayError, match="no model card; it has: run, validate"):
        find_page(summary, RunPage.card)
    Path(made.reports[RUN]).unlink()
    with pytest.raises(SlipwayError, match="is gone"):
        find_page(summary, RunPage.run)


def test_every_part_has_a_word_and_a_file() -> None:
    assert set(NAMES.values()) == {RUN, *FILES}
    assert all(file.endswith(".html") for file in FILES.values())
