"""A clock that jumps beside a predictor: what is waited for, kept and closed goes by another one."""

import random
import shutil
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pyarrow.dataset as ds
import pytest
from support.fault_points import SCALE, SEED, count
from support.serving_bundles import flight_tensors, predictor

DAY = 86_400
JUMPS = (-400 * DAY, -DAY, -3600, 3600, DAY, 400 * DAY)
REQUESTS = 5


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says by how many seconds the clock of a process that is started now is wrong."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    assert shutil.which("faketime"), "faketime is not installed (Debian: apt-get install faketime)"
    file = tmp_path / "clock"
    file.write_text("+0")
    settings = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        # Only the wall clock jumps; the other one cannot.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # glibc waits by it; libfaketime would take Python's locks for waits by the wall clock.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return file


def test_the_clock_jumps_beside_a_predictor(clock: Path, tmp_path: Path) -> None:
    chance, tally = random.Random(SEED), count("predictor", "clock jumps")
    asked = 0
    with predictor(tmp_path / "p") as running, httpx.Client(timeout=10) as kept:
        url, body = f"{running.url}/v2/models/flights/infer", {"inputs": flight_tensors(1)}
        local = kept.post(url, json=body).extensions["network_stream"].get_extra_info("client_addr")
        asked += 1
        for _ in range(2 * SCALE):
            jump = chance.choice(JUMPS)
            clock.write_text(f"{jump:+d}")
            time.sleep(1.2)  # the date is renewed once a second
            begun = time.monotonic()
            for _ in range(REQUESTS):
                answer = kept.post(url, json=body)
                asked += 1
                assert answer.status_code == 200, answer.text
                stream = answer.extensions["network_stream"]
                assert stream.get_extra_info("client_addr") == local, "the connection was closed"
            assert time.monotonic() - begun < 5
            away = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
            assert abs(away - jump) < 10, "the clock of the predictor did jump"
            tally.outcomes["each request answered, the connection kept, each row stored"] += 1
        assert running.stop() == 0
    rows = ds.dataset(tmp_path / "p" / "log", partitioning="hive").to_table()
    assert rows.num_rows == asked
    assert rows["latency_ms"].to_numpy().min() >= 0 and rows["latency_ms"].to_numpy().max() < 5000
    assert not list((tmp_path / "p" / "spool").rglob("*.arrows"))
