"""Routes against real HTTP servers: one of this test's own, and Alertmanager."""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.alert_routes import REPORT, config, record

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.monitor.alerting import senders
from slipway.components.monitor.alerting.routes import notify


@dataclass
class Server:
    """Keeps what it was sent; answers with `status`, or fails the first `failures` requests."""

    url: str = ""
    status: int = 200
    failures: int = 0
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if state.failures:
                state.failures -= 1
                self.send_response(503)
            else:
                state.requests.append((self.command, self.path, body))
                self.send_response(state.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = answer

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)


def test_an_alert_notifies_once_and_so_does_its_end(server: Server, tmp_path: Path) -> None:
    settings = config("webhook", server.url + "/hook")
    assert notify(tmp_path, record(2, "DATA_DRIFT"), settings, REPORT) == []
    notify(tmp_path, record(2, "DATA_DRIFT"), settings, REPORT)  # the same window again
    notify(tmp_path, record(3, "DATA_DRIFT"), settings, REPORT)  # it goes on
    assert len(server.requests) == 1
    (first,) = server.bodies()
    assert first["alerts"] == [
        {
            "name": "DATA_DRIFT",
            "severity": "critical",
            "value": 0.4,
            "threshold": 0.3,
            "message": "DATA_DRIFT fires. Act.",
            "status": "firing",
            "since": "2013-12-02T05:00:00Z",
        }
    ]
    assert first["report"] == "https://reports/flights/2013-12-02T05:00:00Z"
    notify(tmp_path, record(4), settings, REPORT)
    over = server.bodies()[1]
    assert [(a["name"], a["status"], a["since"]) for a in over["alerts"]] == [
        ("DATA_DRIFT", "resolved", "2013-12-02T05:00:00Z")
    ]
    notify(tmp_path, record(5), settings, REPORT)
    assert len(server.requests) == 2


def test_a_second_alert_notifies_alone(server: Server, tmp_path: Path) -> None:
    settings = config("webhook", server.url)
    notify(tmp_path, record(2, "DATA_DRIFT"), settings, REPORT)
    notify(tmp_path, record(3, "DATA_DRIFT", "HIGH_LATENCY"), settings, REPORT)
    assert [a["name"] for a in server.bodies()[1]["alerts"]] == ["HIGH_LATENCY"]


def test_what_goes_on_is_repeated_when_it_is_due(server: Server, tmp_path: Path) -> None:
    settings = config("webhook", server.url, repeat="2d")
    for day in (2, 3, 4, 5, 6):
        notify(tmp_path, record(day, "DATA_DRIFT"), settings, REPORT)
    assert [body["window"][1][8:10] for body in server.bodies()] == ["02", "04", "06"]


def test_mild_alerts_are_not_sent(server: Server, tmp_path: Path) -> None:
    settings = config("webhook", server.url, least="critical")
    notify(tmp_path, record(2, "HIGH_LATENCY", severity="warning"), settings, REPORT)
    assert server.requests == []
    notify(tmp_path, record(3, "LOW_ACCURACY"), settings, REPORT)
    assert len(server.requests) == 1


def test_an_alert_that_cannot_be_judged_is_not_over(server: Server, tmp_path: Path) -> None:
    settings = config("webhook", server.url)
    notify(tmp_path, record(2, "LOW_ACCURACY"), settings, REPORT)
    notify(tmp_path, record(3, "NO_DATA", unknown=["LOW_ACCURACY"]), settings, REPORT)
    notify(tmp_path, record(4), settings, REPORT)
    told = [[(a["name"], a["status"]) for a in body["alerts"]] for body in server.bodies()]
    assert told == [
        [("LOW_ACCURACY", "firing")],
        [("NO_DATA", "firing")],
        [("LOW_ACCURACY", "resolved"), ("NO_DATA", "resolved")],
    ]


def test_an_old_window_that_is_run_again_tells_nothing(server: Server, tmp_path: Path) -> None:
    settings = config("webhook", server.url)
    notify(tmp_path, record(5, "DATA_DRIFT"), settings, REPORT)
    notify(tmp_path, record(3), settings, REPORT)
    assert len(server.requests) == 1


def test_a_short_outage_is_outlasted(server: Server, tmp_path: Path) -> None:
    server.failures = 2
    assert notify(tmp_path, record(2, "DATA_DRIFT"), config("webhook", server.url), REPORT) == []
    assert len(server.requests) == 1


def test_a_route_that_is_down_is_notified_later_and_does_not_stop_the_others(
    server: Server, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/secret-token"
    both = {"routes": [
        {"name": "down", "kind": "webhook", "url": dead},
        {"name": "up", "kind": "webhook", "url": server.url},
    ]}  # fmt: skip
    settings = MonitoringConfig.model_validate(both)
    (failure,) = notify(tmp_path, record(2, "DATA_DRIFT"), settings, REPORT)
    assert "route down could not be notified" in failure and "ConnectError" in failure
    assert "secret-token" not in failure
    assert len(server.requests) == 1
    both["routes"][0]["url"] = server.url
    repaired = MonitoringConfig.model_validate(both)
    assert notify(tmp_path, record(3, "DATA_DRIFT"), repaired, REPORT) == []
    assert server.bodies()[1]["alerts"][0]["status"] == "firing"


def test_an_answer_that_is_an_error_counts_as_down(server: Server, tmp_path: Path) -> None:
    server.status = 404
    (failure,) = notify(tmp_path, record(2, "A"), config("webhook", server.url), REPORT)
    assert "answered 404" in failure


def test_a_secret_in_the_url_comes_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("webhook", "${OPS_URL}/x")
    (failure,) = notify(tmp_path, record(2, "A"), settings, REPORT)
    assert "OPS_URL" in failure
    monkeypatch.setenv("OPS_URL", server.url)
    assert notify(tmp_path, record(2, "A"), settings, REPORT) == []
    assert server.requests[0][1] == "/x"


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI", "SLIPWAY_TRACKING_URI", "FEAST_REDIS_URL"],
)
def test_a_run_s_parameters_cannot_send_our_own_secrets_away(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "a-canary-of-a-secret")
    settings = config("webhook", f"{server.url}/?stolen=${{{name}}}")
    (failure,) = notify(tmp_path, record(2, "A"), settings, REPORT)
    assert f"names {name}, which is a setting of Slipway's own" in failure
    assert server.requests == []


def test_no_alert_goes_to_a_metadata_service(tmp_path: Path) -> None:
    settings = config("webhook", "http://169.254.169.254/latest/")
    (failure,) = notify(tmp_path, record(2, "A"), settings, REPORT)
    assert "The url of the route ops: 169.254.169.254 is a cloud's metadata service" in failure


def test_apprise_sends_the_message(server: Server, tmp_path: Path) -> None:
    settings = config("apprise", server.url.replace("http://", "json://") + "/chat")
    assert notify(tmp_path, record(2, "DATA_DRIFT"), settings, REPORT) == []
    ((_, path, body),) = server.requests
    content = json.loads(body)
    assert path == "/chat"
    assert content["title"] == "flights: DATA_DRIFT"
    assert content["type"] == "failure"
    assert "DATA_DRIFT fires. Act." in content["message"]
    notify(tmp_path, record(3), settings, REPORT)
    assert json.loads(server.requests[1][2])["type"] == "success"


def test_apprise_names_a_url_that_it_does_not_know(tmp_path: Path) -> None:
    (failure,) = notify(tmp_path, record(2, "A"), config("apprise", "nothing://x"), REPORT)
    assert "Apprise does not know" in failure


def test_the_pushgateway_gets_gauges_each_window(server: Server, tmp_path: Path) -> None:
    settings = config("pushgateway", server.url)
    notify(tmp_path, record(2, "DATA_DRIFT"), settings, REPORT)
    notify(tmp_path, record(3), settings, REPORT)
    (method, path, body), (_, _, later) = server.requests
    assert (method, path) == ("PUT", "/metrics/job/slipway-monitor/model/flights")
    assert 'slipway_alert{alert="DATA_DRIFT",severity="critical"} 1.0' in body.decode()
    assert "slipway_window_data_drift_score 0.4" in body.decode()
    assert "DATA_DRIFT" not in later.decode()


def test_the_log_has_a_line_an_alert_that_begins_or_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("log", "")
    for day, names in ((2, ("A", "B")), (3, ("A", "B")), (4, ("B",))):
        assert notify(tmp_path, record(day, *names), settings, REPORT) == []
    lines = [json.loads(x.removeprefix("[slipway] ")) for x in capsys.readouterr().out.splitlines()]
    assert [(x["name"], x["status"], x["since"][8:10], x["window"][1][8:10]) for x in lines] == [
        ("A", "firing", "02", "02"), ("B", "firing", "02", "02"), ("A", "resolved", "02", "04"),
    ]  # fmt: skip
    assert lines[0]["event"] == "alert" and lines[0]["severity"] == "critical"
    assert lines[0]["message"] == "A fires. Act." and lines[0]["model"] == "flights"
    assert lines[0]["report"] == "https://reports/flights/2013-12-02T05:00:00Z"


@pytest.mark.parametrize(("kind", "url"), [("webhook", ""), ("log", "http://x")])
def test_a_log_alone_has_no_url(kind: str, url: str) -> None:
    with pytest.raises(ValueError, match=f"the route ops, a {kind}, "):
        config(kind, url)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"window_end": 3, "alerts": {}}', '{"window_end": "", "alerts": {"A": 1}}'],
)
def test_damaged_state_is_named_and_hides_nothing(
    server: Server, tmp_path: Path, content: str
) -> None:
    settings = config("webhook", server.url)
    path = tmp_path / "flights" / "routes" / "ops.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    failures = notify(tmp_path, record(2, "A"), settings, REPORT)
    if content == "{}":  # told of nothing yet
        assert failures == [] and len(server.requests) == 1
        return
    (failure,) = failures
    assert str(path) in failure


def test_two_routes_of_one_name_are_refused() -> None:
    route = {"name": "ops", "kind": "webhook", "url": "http://x"}
    with pytest.raises(ValueError, match="two routes are named ops"):
        MonitoringConfig.model_validate({"routes": [route, route]})


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """Debian's prometheus-alertmanager on a free port."""
    program = shutil.which("prometheus-alertmanager")
    if not program:
        pytest.skip("prometheus-alertmanager is not installed (apt-get install it)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path / "alertmanager.yml"
    settings.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    process = subprocess.Popen(
        [
            program,
            f"--config.file={settings}",
            f"--storage.path={tmp_path / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if httpx.get(url + "/-/ready").status_code == 200:
                    break
            except httpx.HTTPError:
                threading.Event().wait(0.1)
        else:
            pytest.fail("Alertmanager did not start")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def test_alertmanager_shows_an_alert_while_it_fires(alertmanager: str, tmp_path: Path) -> None:
    def active() -> dict[str, Any]:
        answer = httpx.get(alertmanager + "/api/v2/alerts").json()
        return {entry["labels"]["alertname"]: entry for entry in answer}

    settings = config("alertmanager", alertmanager)
    assert notify(tmp_path, record(2, "DATA_DRIFT", "NO_DATA"), settings, REPORT) == []
    assert set(active()) == {"DATA_DRIFT", "NO_DATA"}
    assert active()["DATA_DRIFT"]["labels"]["severity"] == "critical"
    assert active()["DATA_DRIFT"]["annotations"]["summary"] == "DATA_DRIFT fires. Act."
    notify(tmp_path, record(3, "NO_DATA"), settings, REPORT)
    assert set(active()) == {"NO_DATA"}


def test_every_kind_of_route_has_a_sender() -> None:
    from typing import get_args

    from slipway.components.config.monitoring import Route

    assert set(senders.SENDERS) == set(get_args(Route.model_fields["kind"].annotation))


def test_a_failed_pipeline_notifies_once_and_so_does_its_recovery(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slipway.components.monitor.alerting.failure import report_end, report_pipeline

    monkeypatch.setenv("MONITORING_URI", str(tmp_path))
    section = config("webhook", server.url).to_struct()

    def ended(run: str, state: str) -> list[str]:
        return report_pipeline(
            project="flights",
            config=section,
            pipeline="flights-training",
            run=run,
            state=state,
            error="train: no GPU.",
            link="https://kubeflow/run",
        )

    assert ended("run-1", "SUCCEEDED") == []
    assert server.requests == []
    ended("run-2", "FAILED")
    ended("run-2", "FAILED")
    (told,) = server.bodies()
    assert told["alerts"][0]["name"] == "PIPELINE_FAILED"
    assert "train: no GPU." in told["text"] and told["report"] == "https://kubeflow/run"
    ended("run-3", "SUCCEEDED")
    ended("run-4", "SUCCEEDED")
    assert [a["status"] for a in server.bodies()[-1]["alerts"]] == ["resolved"]
    assert len(server.requests) == 2
    server.status = 500
    (failure,) = ended("run-5", "FAILED")
    assert "could not be notified that flights-training failed" in failure
    # The task itself says so, and does not fail.
    told = report_end(
        project="flights", config=section, pipeline="flights-training", run="run-6", state="FAILED"
    )
    assert told.headline == "flights-training ended as FAILED; routes that were not notified: 1"
    assert failure.replace("run-5", "run-6") in told.failures


@pytest.mark.parametrize("well", ["COMPLETE", "CACHED", "SUCCEEDED"])
@pytest.mark.parametrize("badly", ["FAILED", "RUNNING", "CANCELED", "UNKNOWN", "NEW"])
def test_the_states_are_the_backend_s_which_are_mlmd_s_and_those_of_kfp_local(
    well: str, badly: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose pod was killed is RUNNING for ever: nobody was left to say otherwise."""
    from slipway.components.monitor.alerting.failure import report_pipeline

    monkeypatch.setenv("MONITORING_URI", str(tmp_path))
    section = config("webhook", server.url).to_struct()
    for run, state, told in (("1", well, 0), ("2", badly, 1), ("3", well, 2), ("4", well, 2)):
        report_pipeline(project="flights", config=section, pipeline="p", run=run, state=state)
        assert len(server.requests) == told, (run, state)


def test_a_run_that_passes_when_it_is_retried_is_over(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was told that it failed is told that it is over, by whichever run; nobody else is."""
    from slipway.components.monitor.alerting.failure import report_pipeline

    monkeypatch.setenv("MONITORING_URI", str(tmp_path))
    section = config("webhook", server.url).to_struct()

    def ended(run: str, state: str) -> list[str]:
        report_pipeline(project="flights", config=section, pipeline="p", run=run, state=state)
        return [alert["status"] for body in server.bodies() for alert in body["alerts"]]

    assert ended("run-1", "SUCCEEDED") == []
    assert ended("run-2", "FAILED") == ["firing"]
    assert ended("run-2", "SUCCEEDED") == ["firing", "resolved"]
    assert ended("run-2", "SUCCEEDED") == ["firing", "resolved"]
    assert ended("run-2", "FAILED") == ["firing", "resolved", "firing"]
    assert ended("run-3", "FAILED") == ["firing", "resolved", "firing", "firing"]
    assert ended("run-4", "SUCCEEDED")[4:] == ["resolved"]


def test_what_the_gate_decided_notifies_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slipway.components.contracts.verdict import Override, RuleResult, Verdict
    from slipway.components.monitor.alerting.gate import notify_of_verdict

    monkeypatch.setenv("MONITORING_URI", str(tmp_path))
    section = config("webhook", server.url, least="critical").to_struct()

    def notify_once(approver: str, model: str = "a" * 64, outcome: str = "") -> list[str]:
        failed = RuleResult(
            name="auc",
            metric="auc",
            outcome=outcome or ("fail" if approver else "pass"),
            reason="AUC is below 0.9: 0.8.",
            threshold=0.9,
            value=0.8,
            overridable=True,
        )
        verdict = Verdict(
            outcome=outcome or "pass",
            rules=(failed,),
            metrics={"auc": 0.8},
            thresholds={"auc": 0.9},
            model_hash=model,
            data_hash="d" * 64,
            test_rows=5000,
            override=Override(approver=approver, reason="pilot") if approver else None,
        )
        return notify_of_verdict(project="flights", config=section, verdict=verdict)

    assert notify_once("") == []
    assert server.requests == []
    assert notify_once("Ada") == notify_once("Ada") == []  # a retried task
    (notice,) = server.bodies()
    (alert,) = notice["alerts"]
    assert (alert["name"], alert["severity"]) == ("GATE_OVERRIDDEN", "critical")
    assert "Ada let the model aaaaaaaaaaaa pass" in alert["message"]
    assert "“pilot”" in alert["message"] and "AUC is below 0.9: 0.8." in alert["message"]
    notify_once("Ada", model="b" * 64)
    assert len(server.requests) == 2
    server.status = 500
    (failure,) = notify_once("Grace")
    assert "ops could not be notified that the gate was overridden" in failure
    server.status = 200
    assert notify_once("Grace") == []
    assert "Grace let the model" in server.bodies()[-1]["text"]
    # A refusal is a warning: a route that takes critical alerts alone is not told.
    assert notify_once("", outcome="fail") == []
    assert "Grace let the model" in server.bodies()[-1]["text"]
    section = config("webhook", server.url, least="warning").to_struct()
    assert notify_once("", outcome="fail") == notify_once("", outcome="fail") == []
    (alert,) = server.bodies()[-1]["alerts"]
    assert (alert["name"], alert["severity"]) == ("GATE_REFUSED", "warning")
    told = len(server.requests)
    assert notify_once("") == [] and len(server.requests) == told, "a plain pass is told nobody"
    assert notify_once("", outcome="fail") == [] and len(server.requests) == told + 1
    assert (
        "refused the model aaaaaaaaaaaa; what serves goes on. AUC is below 0.9" in alert["message"]
    )
