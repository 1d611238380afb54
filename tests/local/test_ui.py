"""`slipway ui`: what its pages show, and that they show it to this machine's reader alone."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from slipway.components.contracts.monitoring.monitoring_record import (
    Alert,
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.contracts.verdict import RuleResult, Verdict, write_verdict
from slipway.components.monitor import history
from slipway.local.ui import app as module
from slipway.local.ui.app import make_app
from slipway.local.ui.found import find_refusals, find_report, find_runs
from slipway.local.workspace import Workspace

TRAINED, WATCHED = (
    f"shop-{name}-2026-11-27-13-31-01-069586" for name in ("training", "monitoring")
)
SECRET = "hunter2"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refused() -> Verdict:
    return Verdict(
        outcome="fail",
        rules=(RuleResult(name="auc", metric="auc", outcome="fail", reason="below"),),
        metrics={"auc": 0.70541},
        thresholds={"auc": 0.75},
        model_hash="a",
        data_hash="b",
        test_rows=1,
    )


def watched(end: str, accuracy: float | None, *alerts: str, features: str = "") -> MonitoringRecord:
    """A window; `features` has a letter each: c(hanged), u(nsure), anything else did not change."""
    return MonitoringRecord(
        model="shop",
        window=("2026-11-01T00:00:00Z", end),
        metrics=MLSystemMetrics(
            timestamp=end, model_version="3", model_accuracy=accuracy, prediction_latency_ms=1.84,
            throughput_rps=1.0, error_rate=0.0, data_drift_score=None, feature_drift_score=None,
        ),
        drift_status="no_data",
        summary={"current_accuracy": accuracy, "avg_latency": 1.84, "total_predictions": 1400},
        alerts=tuple(
            Alert(name=name, severity="warning", value=None, threshold=None, message="<b>look</b>")
            for name in alerts
        ),
        retrain=False,
        details={
            "features": {
                f"{place}": {"drifted": one == "c", "doubt": "few" if one == "u" else ""}
                for place, one in enumerate(features)
            }
        },
    )  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("MLFLOW_TRACKING_URI", "SLIPWAY_HOME", "MONITORING_URI", "INFERENCE_LOG_URI"):
        monkeypatch.delenv(name, raising=False)
    made = Workspace.at(tmp_path / "run")
    (made.outputs / TRAINED / "evaluate").mkdir(parents=True)
    write_verdict(made.outputs / TRAINED / "evaluate" / "verdict", refused())
    write(made.outputs / TRAINED / "evaluate" / "card", "<h1>the card</h1>")
    write(made.outputs / TRAINED / "features" / "splits", "rows")
    write(made.outputs / WATCHED / "monitor" / "report", "<script>1</script>")
    write(made.root / "home" / "token", SECRET)
    history.append(made.settings()["MONITORING_URI"], watched("2026-11-08T00:00:00Z", 0.8131))
    history.append(
        made.settings()["MONITORING_URI"], watched("2026-11-15T00:00:00Z", None, "NO_LABELS")
    )
    return made


@pytest.fixture
def page(workspace: Workspace) -> TestClient:
    return TestClient(make_app(workspace), base_url="http://127.0.0.1:8765")


def text_of(answer: Any) -> str:
    body = answer.text.partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_overview_has_runs_verdicts_and_windows(page: TestClient, workspace: Workspace) -> None:
    answer = page.get("/")
    text = text_of(answer)
    assert "2026-11-27 13:31:01 shop training refused AUC 0.705 model card" in text
    assert "shop monitoring monitoring" in text
    assert "shop version 3 2026-11-01 to 2026-11-15 1,400 no data NO_LABELS" in text
    assert f"mlflow ui --backend-store-uri {workspace.tracking_uri}" in text
    for link in re.findall(r'href="(/[^"]*)"', answer.text):
        if not link.startswith("/versions/"):
            assert page.get(link).status_code == 200, link
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text), "nothing is loaded"


def test_the_history_has_every_window(page: TestClient) -> None:
    text = text_of(page.get("/monitoring/shop"))
    assert text.index("2026-11-15") < text.index("2026-11-08"), "the newest first"
    assert "3 1,400 0.813 1.8 no data none" in text and "3 1,400 – 1.8 no data NO_LABELS" in text
    assert page.get("/monitoring/other").status_code == 404


@pytest.mark.parametrize(
    ("features", "said", "state"),
    [
        ("cunn", "1 of 4 changed 1 cannot be told", "warn"),
        ("nnnn", "0 of 4 changed", "good"),
        ("nnun", "0 of 4 changed 1 cannot be told", "unknown"),
        ("uuuu", "cannot tell", "unknown"),
        ("", "no data", "unknown"),
    ],
)
def test_no_change_seen_is_not_no_change(
    page: TestClient, workspace: Workspace, features: str, said: str, state: str
) -> None:
    record = replace(watched("2026-11-22T00:00:00Z", 0.8, features=features), drift_status="stable")
    history.append(workspace.settings()["MONITORING_URI"], record)
    for address in ("/", "/monitoring/shop"):
        answer = page.get(address)
        cell = answer.text.partition('data-name="Drift">')[2].partition("</td>")[0]
        assert " ".join(re.sub(r"<[^>]*>", " ", cell).split()) == said
        assert f'class="tag {state}"' in cell


def test_a_refused_training_is_told_until_one_passes(
    page: TestClient, workspace: Workspace
) -> None:
    told = "shop: refused by the gate. The training of"
    assert told in text_of(page.get("/"))
    assert "is not good enough. Nothing serves. below" in text_of(page.get("/"))
    (refusal,) = find_refusals(workspace)
    assert refusal.headline("3").endswith(
        " UTC. below Version 3 serves on; `slipway open card` says what to do."
    )
    assert "Nothing serves;" in refusal.headline("")
    two = replace(refusal, reasons=["one.", "two", "three"])
    assert "UTC. one. 2 more rules failed. Nothing" in two.headline("")
    later = TRAINED.replace("13-31-01", "13-32-01").replace("training", "retraining")
    (rule,) = refused().rules
    passed = replace(refused(), outcome="pass", rules=(replace(rule, outcome="pass", value=0.8),))
    (workspace.outputs / later / "evaluate").mkdir(parents=True)
    write_verdict(workspace.outputs / later / "evaluate" / "verdict", passed)
    assert find_refusals(workspace) == [] and told not in text_of(page.get("/"))


def test_an_empty_folder_says_what_to_do(tmp_path: Path, workspace: Workspace) -> None:
    empty = Workspace.at(tmp_path / "empty")
    page = TestClient(make_app(empty), base_url="http://localhost:1")
    assert "No run has left anything here yet: slipway run does." in text_of(page.get("/"))
    assert page.get("/versions/shop").status_code == 404
    assert not empty.root.exists(), "a page that is read writes nothing, and no registry either"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_a_name_that_was_made_to_lead_here_gets_nothing(page: TestClient, host: str) -> None:
    answer = page.get("/", headers={"Host": host})
    assert answer.status_code == 400 and "shop" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(page: TestClient, method: str) -> None:
    for path in ("/", "/monitoring/shop", f"/reports/{TRAINED}/evaluate/card"):
        assert page.request(method, path).status_code == 405


def test_what_a_browser_may_do_with_a_page(page: TestClient) -> None:
    own = page.get("/").headers
    report = page.get(f"/reports/{WATCHED}/monitor/report")
    assert report.text == "<script>1</script>"
    assert own["content-security-policy"].startswith("default-src 'none'; style-src")
    assert "script-src" not in own["content-security-policy"]
    # Without allow-same-origin its scripts have an origin of their own, which no other page is of.
    sandbox = report.headers["content-security-policy"].partition(";")[0]
    assert sandbox == "sandbox allow-scripts"
    assert "connect-src" not in report.headers["content-security-policy"]
    for headers in (own, report.headers, page.get("/none").headers):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_a_training_leads_to_the_page_of_its_whole_run(
    page: TestClient, workspace: Workspace
) -> None:
    began = datetime.strptime("2026-11-27-13-31-01", "%Y-%m-%d-%H-%M-%S").astimezone(UTC)
    before, own, next_one = (
        f"shop-{began + timedelta(minutes=minutes):%Y-%m-%d-%H-%M-%S}-000001"
        for minutes in (-5, 3, 90)
    )
    for name in (before, own, next_one, f"other-{own.removeprefix('shop-')}"):
        write(workspace.reports / name / "report.html", f'<a href="card.html">of {name}</a>')
        write(workspace.reports / name / "card.html", "the card")
        write(workspace.reports / name / "secret.html", SECRET)
    (run,) = [run for run in find_runs(workspace) if run.name == TRAINED]
    assert run.page == own
    assert {run.page for run in find_runs(workspace) if run.pipeline == "monitoring"} == {""}
    assert f'href="/runs/{own}/report.html"' in page.get("/").text
    answer = page.get(f"/runs/{own}/report.html")
    assert f"of {own}" in answer.text
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert page.get(f"/runs/{own}/card.html").text == "the card"
    for elsewhere in (
        f"{own}/secret.html",
        f"{own}/summary.json",
        "../card.html",
        "shop/card.html",
    ):
        answer = page.get(f"/runs/{elsewhere}")
        assert answer.status_code == 404 and SECRET not in answer.text


ELSEWHERE = [
    (TRAINED, "features", "splits"),
    (TRAINED, "evaluate", "verdict"),
    (TRAINED, "..", "card"),
    ("..", "evaluate", "card"),
    ("%2e%2e", "home", "token"),
    (f"..%2f..%2f{TRAINED}", "evaluate", "card"),
    (f"{TRAINED}%00", "evaluate", "card"),
    ("shop", "evaluate", "card"),
]


@pytest.mark.parametrize(("run", "stage", "artifact"), ELSEWHERE)
def test_only_reports_of_runs_are_served(
    page: TestClient, run: str, stage: str, artifact: str
) -> None:
    answer = page.get(f"/reports/{run}/{stage}/{artifact}")
    assert answer.status_code == 404 and SECRET not in answer.text


def test_a_link_out_of_the_workspace_is_not_followed(
    page: TestClient, workspace: Workspace, tmp_path: Path
) -> None:
    write(tmp_path / "secret", SECRET)
    card = workspace.outputs / TRAINED / "evaluate" / "card"
    card.unlink()
    card.symlink_to(tmp_path / "secret")
    assert find_report(workspace, TRAINED, "evaluate", "card") is None
    assert page.get(f"/reports/{TRAINED}/evaluate/card").status_code == 404
    (run,) = [run for run in find_runs(workspace) if run.name == TRAINED]
    assert run.reports == ()
    card.unlink()
    card.symlink_to(workspace.outputs / WATCHED / "monitor" / "report")
    assert page.get(f"/reports/{TRAINED}/evaluate/card").status_code == 200, "inside it is fine"


def test_no_page_shows_a_password(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{SECRET}@127.0.0.1:9/")
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    page = TestClient(make_app(workspace), base_url="http://127.0.0.1")
    assert SECRET not in page.get("/").text
    broken = page.get("/versions/shop")
    assert broken.status_code == 500 and SECRET not in broken.text
    assert "That cannot be shown" in broken.text


def test_a_name_in_a_page_is_text(workspace: Workspace) -> None:
    page = TestClient(make_app(workspace), base_url="http://127.0.0.1")
    answer = page.get("/monitoring/<script>alert(1)</script>")
    assert answer.status_code == 404 and "<script>alert" not in answer.text


def test_a_verdict_that_cannot_be_read_does_not_hide_the_run(workspace: Workspace) -> None:
    write(workspace.outputs / TRAINED / "evaluate" / "verdict", "{")
    (run,) = [run for run in find_runs(workspace) if run.name == TRAINED]
    assert run.verdict is None and run.reports == (("evaluate", "card", "model card"),)
