"""Redis behind the faulty proxy: a request with keys is answered or refused in time, and never 500."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.fault_points import SCALE, SEED, count
from support.fault_proxy import faulty
from support.online_stores import KEYS, RedisServer, fill_store
from support.serving_bundles import expected, predictor, wait_for

FAULTS = ("500", "reset", "truncated", "pause", "silent")
LONGEST = 8.0
"""Seconds: two tries of a store that says nothing, and what two busy cores add."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def test_the_predictor_asks_a_faulty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisServer
) -> None:
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.setenv("FEAST_REDIS_URL", redis.address)
    fill_store(tmp_path, by_stage=True)
    tally = count("predictor, online", f"Redis: {', '.join(FAULTS)}")
    truth = expected(2)
    port = int(redis.address.split(",")[0].rsplit(":", 1)[1])
    with faulty(port, seed=SEED, share=0.0, faults=FAULTS, pause=0.5) as proxy:
        behind = redis.address.replace(f":{port}", f":{proxy.port}", 1)
        monkeypatch.setenv("FEAST_REDIS_URL", behind)
        with predictor(tmp_path / "p", "--online") as running:
            url = f"{running.url}/v2/models/flights/infer"
            for number in range(4 * SCALE):
                proxy.share = (number % 4 + 1) / 4
                proxy.cut()
                begun = time.monotonic()
                answer = httpx.post(url, json={"inputs": KEYS}, timeout=60)
                assert time.monotonic() - begun < LONGEST
                if answer.status_code == 200:
                    data = answer.json()["outputs"][0]["data"]
                    assert data[:2] == pytest.approx([truth[1], truth[0]], abs=1e-6)
                    tally.outcomes["answered as ever"] += 1
                else:
                    assert answer.status_code == 503, answer.text
                    assert "online store" in answer.text, answer.text
                    tally.outcomes["503 that names the store, in time"] += 1
            proxy.share = 0.0
            proxy.cut()
            wait_for(lambda: httpx.post(url, json={"inputs": KEYS}).status_code == 200)
            assert running.stop() == 0
    assert sum(proxy.count.values()) > proxy.count["none"], "there were faults"
