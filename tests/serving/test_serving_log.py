"""The inference log and the life of the process: SIGKILL, SIGTERM, a full store, reloads, overload."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from support.serving_bundles import (
    Running,
    expected,
    flight_tensors,
    make_bundle,
    predictor,
    tensor,
    wait_for,
)

from slipway.components.contracts.monitoring.inference_log import log_schema
from slipway.components.metrics.kinds.choose import label_type


def logged(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def test_log_has_what_the_model_saw(tmp_path: Path) -> None:
    with predictor(tmp_path) as running:
        tensors = flight_tensors(2)
        tensors[0]["data"] = [39.02, None]
        tensors[3]["data"] = [None, "UA"]
        tensors[2]["data"] = [None, True]
        running.infer(tensors, id="one")
        running.infer([tensor("miles", "FP64", [1.0])], id="refused")
        running.infer(flight_tensors(1), parameters={"log": False})
        assert running.stop() == 0
    rows = logged(tmp_path / "log")
    assert [(r["request_id"], r["row"], r["status"], r["key"]) for r in rows] == [
        ("one", 0, 200, "flight-0"),
        ("one", 1, 200, "flight-1"),
        ("refused", -1, 400, None),
    ]
    # The double that came in, not what float32 makes of it: ties with the reference stay ties.
    assert rows[0]["feature.miles"] == 39.02 and rows[1]["feature.miles"] is None
    assert rows[0]["feature.carrier"] is None and rows[1]["feature.carrier"] == "UA"
    assert rows[0]["feature.weekend"] is None and rows[1]["feature.weekend"] is True
    assert rows[0]["feature.departs"].isoformat() == "2013-12-01T00:15:00"
    assert rows[2]["probability"] is None and rows[2]["feature.miles"] is None
    assert rows[0]["label"] == int(rows[0]["probability"] >= 0.5)
    assert 0 < rows[0]["latency_ms"] < 10_000 and rows[0]["model_version"] == "7"
    file = next((tmp_path / "log").rglob("*.parquet"))
    from slipway.components.contracts.bundle import read_bundle

    features = read_bundle(running.bundle).features
    assert pq.read_schema(file).equals(log_schema(features, label_type("binary").columns()))
    assert not list((tmp_path / "spool").glob("*")), "the spool is empty after a good end"


def test_sigkill_loses_at_most_a_second(tmp_path: Path) -> None:
    with predictor(tmp_path, "--log-roll-seconds=3600") as running:
        for number in range(50):
            running.infer(flight_tensors(1), id=f"early-{number}")
        time.sleep(1.0)
        running.infer(flight_tensors(1), id="late")
        running.process.kill()
        running.process.wait()
    assert not logged(tmp_path / "log")
    segment = next((tmp_path / "spool").rglob("*.arrows"))
    with segment.open("ab") as file:
        file.write(b"\x00torn")
    # The next predictor finds the spool and ships it.
    with predictor(tmp_path) as running:
        wait_for(lambda: len(logged(tmp_path / "log")) >= 50)
    ids = [row["request_id"] for row in logged(tmp_path / "log")]
    assert {f"early-{number}" for number in range(50)} <= set(ids) and len(ids) == len(set(ids))


def test_a_store_that_fails_keeps_rows_and_serves_on(tmp_path: Path) -> None:
    blocked = tmp_path / "log"
    blocked.write_text("a file where the folder should be")
    with predictor(tmp_path) as running:
        running.infer(flight_tensors(3))
        wait_for(lambda: running.metric('slipway_log_rows_total{state="spooled"}') == 3)
        assert running.infer(flight_tensors(1)).status_code == 200
        assert running.stop() == 0
        assert list((tmp_path / "spool").rglob("*.arrows"))
    blocked.unlink()
    with predictor(tmp_path):
        wait_for(lambda: len(logged(tmp_path / "log")) == 4)


def test_drops_are_counted_when_the_spool_is_full(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    with predictor(tmp_path, "--log-spool-mb=1", "--log-roll-seconds=0.1") as running:

        def dropped() -> bool:
            running.infer(flight_tensors(2000))
            try:
                return running.metric('slipway_log_dropped_rows_total{reason="spool_full"}') > 0
            except StopIteration:
                return False

        wait_for(dropped)
        accepted = running.metric('slipway_log_rows_total{state="accepted"}')
        time.sleep(1.2)
        lost = running.metric('slipway_log_dropped_rows_total{reason="spool_full"}')
        assert running.metric('slipway_log_rows_total{state="spooled"}') + lost == accepted
        assert running.infer(flight_tensors(1)).status_code == 200
        (tmp_path / "log").unlink()


def test_sampling_keeps_a_share_and_counts_the_rest(tmp_path: Path) -> None:
    with predictor(tmp_path, "--log-sample=0.25") as running:
        with httpx.Client() as client:
            body = {"inputs": flight_tensors(1)}
            for _ in range(200):
                client.post(f"{running.url}/v2/models/flights/infer", json=body)
        skipped = running.metric('slipway_log_skipped_rows_total{reason="sampling"}')
        running.stop()
    kept = len(logged(tmp_path / "log"))
    assert kept + skipped == 200 and 20 < kept < 85


def test_replay_time_goes_to_its_hour(tmp_path: Path) -> None:
    with predictor(tmp_path, "--trust-request-time") as running:
        for moment in ("2013-12-20T17:30:00-05:00", "2013-12-20T22:59:59.5Z"):
            running.infer(flight_tensors(1), parameters={"time": moment})
        bad = running.infer(flight_tensors(1), parameters={"time": "soon"})
        assert bad.status_code == 400 and "'time'" in bad.text
        running.stop()
    hour = tmp_path / "log/flights/date=2013-12-20/hour=22"
    assert [row["time"].minute for row in logged(hour)] == [30, 59]


def test_sigterm_answers_what_is_under_way(tmp_path: Path) -> None:
    with predictor(tmp_path, "--linger-seconds=6") as running:
        statuses: list[int] = []
        errors: list[str] = []
        end = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=20) as client:
                while not end.is_set():
                    try:
                        body = {"inputs": flight_tensors(20)}
                        url = f"{running.url}/v2/models/flights/infer"
                        statuses.append(client.post(url, json=body).status_code)
                    except httpx.ConnectError:
                        return
                    except httpx.HTTPError as error:
                        errors.append(repr(error))
                        return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        going = httpx.get(f"{running.url}/v2/health/ready")
        assert going.status_code == 503 and going.headers["retry-after"] == "1"
        assert httpx.get(f"{running.url}/v2/health/live").status_code == 200
        code = running.process.wait(30)
        end.set()
        for thread in threads:
            thread.join()
    assert code == 0 and errors == [] and set(statuses) == {200}
    assert len(logged(tmp_path / "log")) == 20 * len(statuses)


def test_reload_takes_a_new_bundle_and_refuses_a_bad_one(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    with predictor(tmp_path) as running:
        answer = lambda: running.infer(flight_tensors(1)).json()["outputs"][0]["data"]  # noqa: E731
        assert answer() == pytest.approx(expected(1), abs=1e-6)
        end, statuses = threading.Event(), []

        def ask() -> None:
            with httpx.Client(timeout=20) as client:
                url, body = f"{running.url}/v2/models/flights/infer", {"inputs": flight_tensors(3)}
                while not end.is_set():
                    statuses.append(client.post(url, json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        make_bundle(tmp_path / "bundle", bias=1.0)
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "took over" in running.output.read_text())
        assert answer() == pytest.approx(expected(1, bias=1.0), abs=1e-6)
        (tmp_path / "bundle" / "model.onnx").write_bytes(b"not a model")
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the old one serves on" in running.output.read_text())
        assert answer() == pytest.approx(expected(1, bias=1.0), abs=1e-6)
        end.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200} and len(statuses) > 10, "no request was dropped"


def test_past_the_queue_is_503_with_retry_after(tmp_path: Path) -> None:
    """Requests that came while the process was stopped are all there when it goes on."""
    with predictor(tmp_path, "--max-queue=200", "--max-batch=100") as running:
        host, port = running.url.removeprefix("http://").split(":")
        body = json.dumps({"inputs": flight_tensors(150)}).encode()
        head = (
            b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        with contextlib.ExitStack() as stack:
            connections = []
            for _ in range(20):
                connection = http.client.HTTPConnection(host, int(port), timeout=30)
                stack.callback(connection.close)
                connection.request("GET", "/v2/health/live")
                connection.getresponse().read()
                connections.append(connection)
            running.process.send_signal(signal.SIGSTOP)
            for connection in connections:
                connection.sock.sendall(head + body)
            time.sleep(0.2)
            running.process.send_signal(signal.SIGCONT)
            answers = []
            for connection in connections:
                answer = http.client.HTTPResponse(connection.sock)
                answer.begin()
                answers.append((answer.status, answer.getheader("retry-after"), answer.read()))
            refused = [answer for answer in answers if answer[0] == 503]
            assert {answer[:2] for answer in answers} == {(200, None), (503, "1")}
            assert all(b"more requests waiting than it takes" in body for _, _, body in refused)
            assert running.metric('slipway_requests_total{code="503"') == len(refused)
            # The same connections are served again, and what was refused is in the log.
            for connection in connections:
                connection.sock.sendall(head + body)
                answer = http.client.HTTPResponse(connection.sock)
                answer.begin()
                assert answer.status == 200 and len(answer.read()) > 150
        running.stop()
    assert [row["status"] for row in logged(tmp_path / "log")].count(503) == len(refused)


def test_port_in_use_and_bad_bundles_are_told(tmp_path: Path, served: Running) -> None:
    import subprocess
    import sys

    def run(*flags: str, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "slipway.serving", "--host=127.0.0.1", *flags],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environ},
        )
        return done.returncode, done.stderr

    make_bundle(tmp_path / "good")
    port = served.url.rsplit(":", 1)[1]
    code, text = run(f"--model-dir={tmp_path / 'good'}", f"--port={port}")
    assert code == 1 and f"Port {port} on 127.0.0.1 cannot be listened on" in text
    code, text = run(f"--model-dir={tmp_path / 'nothing'}")
    assert code == 1 and "is not a model bundle" in text and "Traceback" not in text
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    (tmp_path / "bad" / "model.onnx").write_bytes(b"x")
    code, text = run(f"--model-dir={tmp_path / 'bad'}")
    assert code == 1 and "model.onnx cannot be loaded" in text
    code, text = run("--log-sample=2")
    assert code == 1 and "--log-sample is a share" in text
