"""Ranking candidates of the recommender example, and how fresh a pushed click is.

The example is run once (build/bench/rank), its endpoint looks up users and items in the sqlite online
store. A request has one user, one device and 500 items; clicks of the day after are pushed meanwhile.
Percentiles of one client that asks again as soon as it has the answer, and beside it the part that
the look-up takes, with Feast's own reader in its place.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.harness import FOLDER, Row, report

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "recommendation-engine"
CANDIDATES, REQUESTS, SECONDS = 500, 300, 0.25
PORT = 8097


def main() -> None:
    """Prints the load of the machine, percentiles, and freshness."""
    folder = (FOLDER / "rank").resolve()
    run = folder / "run"
    if not (run / "summary.json").is_file():
        _run_example(folder, run)
    os.environ["FEATURE_STORE_URI"] = str(run / "feature_store")
    os.environ.pop("FEAST_REDIS_URL", None)
    (bundle,) = sorted((run / "pipelines").glob("recommendation-engine-training-*/train/bundle"))[
        -1:
    ]
    with _predictor(bundle, folder) as predictor:
        _measure(predictor, folder)


def _run_example(folder: Path, run: Path) -> None:
    shop = folder / "shop"
    subprocess.run([sys.executable, EXAMPLE / "lay_out.py", shop], check=True)
    project = yaml.safe_load((EXAMPLE / "project.yaml").read_text())
    project["data"]["root"] = str(shop)
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    (folder / "project.yaml").write_text(yaml.safe_dump(project))
    (folder / "schemas" / "input.json").write_text((EXAMPLE / "schemas/input.json").read_text())
    settings = ["training.epochs=2", "training.members=1", f"deployment.port={PORT}"]
    command = [str(Path(sys.executable).parent / "slipway"), "run", "--project", str(folder)]
    command += ["--out", str(run), "--traffic", "0d"]
    command += [part for setting in settings for part in ("--set", setting)]
    subprocess.run(command, check=True)
    stop = [command[0], "stop", "--out", str(run)]
    subprocess.run(stop, check=True)


class _predictor:
    """A predictor of its own, so that nothing else asks it."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        command = [sys.executable, "-m", "slipway.serving", "--model-dir", str(bundle)]
        command += ["--host=127.0.0.1", f"--port={PORT}", "--online", "--model-version=1"]
        command += [f"--log-uri={folder / 'log'}", f"--log-spool={folder / 'spool'}"]
        self._process = subprocess.Popen(command)

    def cpu(self) -> float:
        """CPU milliseconds that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> "_predictor":
        url = self.url = f"http://127.0.0.1:{PORT}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/v2/health/ready", timeout=1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("The predictor does not answer.")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _measure(predictor: _predictor, folder: Path) -> None:
    from slipway.components.features.streams.push import Pusher

    lines = (folder / "shop" / "clicks-to-come.jsonl").read_bytes().splitlines()
    pushed: list[float] = []
    stop = threading.Event()

    def push() -> None:
        pusher, place = Pusher("recommendation-engine"), 0
        while not stop.wait(SECONDS):
            began = time.perf_counter()
            pusher.push_lines("clicks", lines[place : place + 5], name="clicks")
            pushed.append(time.perf_counter() - began)
            place = (place + 5) % max(len(lines) - 5, 1)

    _ask(predictor.url)
    before = predictor.cpu()
    quiet = _ask(predictor.url)
    cpu = (predictor.cpu() - before) / len(quiet)
    thread = threading.Thread(target=push)
    thread.start()
    try:
        busy = _ask(predictor.url)
    finally:
        stop.set()
        thread.join()
    load = os.getloadavg()[0]
    print(f"load {load:.1f} on {os.cpu_count()} cores; {len(pushed)} pushes of 5 clicks")
    rows = []
    for what, times in (("ranked", quiet), ("ranked, clicks pushed", busy)):
        p50, p99 = (float(np.percentile(times, q)) for q in (50, 99))
        extra = {"p50_ms": p50, "load": load}
        what = f"{CANDIDATES} candidates {what}, p99 (p50 {p50:.1f})"
        rows.append(Row(what, "", "ms", [p99], reach="≤ 50", extra=extra))
    rows.append(Row("the predictor's CPU for one such request", "", "ms", [cpu]))
    fresh = [1000 * seconds for seconds in pushed]
    rows.append(Row("a push of 5 clicks, until they are served", "", "ms", fresh))
    report("rank", rows)


def _ask(url: str) -> list[float]:
    """Milliseconds of each request."""
    draw = np.random.default_rng(0)
    times = []
    for number in range(REQUESTS):
        items = draw.choice(600, CANDIDATES, replace=False)
        body: dict[str, Any] = {
            "parameters": {"rank": 10},
            "inputs": [
                {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [number % 150]},
                {"name": "device", "datatype": "BYTES", "shape": [1], "data": ["phone"]},
                {
                    "name": "item_id",
                    "datatype": "BYTES",
                    "shape": [CANDIDATES],
                    "data": [f"i{item}" for item in items],
                },
            ],
        }
        request = urllib.request.Request(
            f"{url}/v2/models/recommendation-engine/infer",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=30) as answer:
            ranked = json.loads(answer.read())
        times.append(1000 * (time.perf_counter() - began))
        assert len(ranked["outputs"][-1]["data"]) == 10
    return times
