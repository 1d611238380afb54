"""An online store that hangs, that lost what it held, or that is behind; a log's store that hangs."""

import signal
import socket
import time
from pathlib import Path

import httpx
import pyarrow.dataset as ds
import pytest
from support.online_stores import KEYS, RedisServer, fill_store
from support.serving_bundles import Running, expected, flight_tensors, predictor, tensor, wait_for

from slipway.components.deploy.kserve.manifest import GRACE_SECONDS, LINGER_SECONDS
from slipway.serving.server import LOG_SECONDS
from slipway.serving.settings import PredictorSettings
from slipway.serving.supervisor import STOP_SECONDS

NOBODY = [tensor("tailnum", "BYTES", ["unknown"])]


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisServer) -> RedisServer:
    """Redis with three flights, as the features stage writes them."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.setenv("FEAST_REDIS_URL", redis.address)
    fill_store(tmp_path, by_stage=True)
    return redis


def ask(running: Running, tensors: list[dict] = KEYS) -> tuple[int, str, float]:
    """Status, text and seconds of a request with keys alone."""
    begun = time.monotonic()
    url = f"{running.url}/v2/models/flights/infer"
    answer = httpx.post(url, json={"inputs": tensors}, timeout=60)
    return answer.status_code, answer.text, time.monotonic() - begun


def test_a_store_that_hangs_is_503_in_time_and_keeps_neither_requests_nor_the_end(
    tmp_path: Path, filled: RedisServer
) -> None:
    with predictor(tmp_path / "p", "--online") as running:
        assert ask(running)[0] == 200
        filled.process.send_signal(signal.SIGSTOP)
        for _ in range(2):
            status, text, seconds = ask(running)
            assert status == 503 and "The online store d" in text, text
            assert seconds < 6
            # What brings its features waits for nothing.
            assert running.infer(flight_tensors(1)).status_code == 200
        filled.process.send_signal(signal.SIGCONT)
        wait_for(lambda: ask(running)[0] == 200)
        assert running.metric("slipway_online_refused_total{reason=") >= 2
        filled.process.send_signal(signal.SIGSTOP)
        with httpx.Client() as client:
            client.get(f"{running.url}/v2/health/live")
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(15) == 0
    filled.process.send_signal(signal.SIGCONT)
    rows = ds.dataset(tmp_path / "p" / "log", partitioning="hive").to_table().to_pylist()
    assert sorted({row["status"] for row in rows}) == [200, 503]
    assert not list((tmp_path / "p" / "spool").rglob("*.arrows"))


def test_a_store_that_was_restarted_empty_is_refused_or_answered_as_declared(
    tmp_path: Path, filled: RedisServer
) -> None:
    with (
        predictor(tmp_path / "p", "--online") as refusing,
        predictor(tmp_path / "q", "--online", "--online-unfit=answer") as answering,
    ):
        truth = expected(2)
        for running in (refusing, answering):
            # An entity that the store does not know is no fault of the store.
            assert ask(running, NOBODY)[0] == 200
            assert running.infer(KEYS).json()["outputs"][0]["data"][:2] == pytest.approx(
                [truth[1], truth[0]], abs=1e-6
            )
            assert running.metric("slipway_online_view_lost") == 0
        filled.stop()
        # It ended; a connection that is refused costs no time.
        status, text, seconds = ask(refusing)
        assert status == 503 and "online store does not answer" in text and seconds < 6
        filled.start()
        time.sleep(1.1)
        status, text, _ = ask(refusing)
        assert status == 503 and "has lost the view 'schedule'" in text, text
        assert ask(answering)[0] == 200
        for running in (refusing, answering):
            assert running.metric("slipway_online_view_lost") == 1
            assert running.metric('slipway_online_rows_total{found="no"') >= 3
        assert refusing.metric('slipway_online_refused_total{reason="lost"') == 1
        assert refusing.infer(flight_tensors(1)).status_code == 200
        fill_store(tmp_path, by_stage=True)
        time.sleep(1.1)
        for running in (refusing, answering):
            assert running.infer(KEYS).json()["outputs"][0]["data"][:2] == pytest.approx(
                [truth[1], truth[0]], abs=1e-6
            )
            assert ask(running, NOBODY)[0] == 200
            assert running.metric("slipway_online_view_lost") == 0


def test_a_store_that_is_behind_is_refused_where_an_age_is_declared(
    tmp_path: Path, filled: RedisServer
) -> None:
    """It stands for December 2013."""
    for flags, status in (
        (["--online-max-age-seconds=86400"], 503),
        (["--online-max-age-seconds=86400", "--online-unfit=answer"], 200),
    ):
        with predictor(tmp_path / "p", "--online", *flags) as running:
            got, text, _ = ask(running)
            assert got == status, text
            if status == 503:
                assert "older than the 86400 s" in text
                assert running.metric('slipway_online_refused_total{reason="old"') == 1
            assert running.metric("slipway_online_view_age_seconds") > 10 * 365 * 86400


def test_a_log_store_that_never_answers_does_not_keep_the_predictor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections and says nothing. The rows stay in the spool, for the next predictor."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-nobody")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        uri = f"s3://bucket/log?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        with predictor(tmp_path, f"--log-uri={uri}") as running:
            assert running.infer(flight_tensors(3)).status_code == 200
            time.sleep(1.5)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(LOG_SECONDS + 10) == 0
    assert list((tmp_path / "spool").rglob("*.arrows"))


def test_the_end_is_within_what_is_waited_for_it() -> None:
    longest = PredictorSettings().drain_seconds + 1 + LOG_SECONDS
    assert longest < STOP_SECONDS
    assert longest + LINGER_SECONDS < GRACE_SECONDS
