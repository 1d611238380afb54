"""Rollouts under load on one machine: three deploys and a rollback while clients ask without a pause.

Everything is the real thing: deploys with an observation window, the supervisor, the predictor and its
log, an MLflow registry on sqlite. What counts is not speed: each request must be answered with 200 and
be in the log once. BENCH_BUNDLE and BENCH_SPLITS name a model and the splits of a run (without them the
flights' model is trained, once), BENCH_SECONDS the length (600), BENCH_PAUSE the seconds between two
requests of a client (0.02).
"""

import asyncio
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.flights import flights_bundle
from benchmarks.harness import Row, report
from benchmarks.serve import _tensors
from benchmarks.serve_peers import free_port
from slipway.components.contracts.bundle import bundle_hash, read_bundle
from slipway.components.contracts.release import Release
from slipway.components.contracts.verdict import RuleResult, Verdict, write_verdict
from slipway.components.deploy.golden import golden_rows

SECONDS = float(os.environ.get("BENCH_SECONDS", "600"))
KEPT, FRESH = 8, 2
PAUSE = float(os.environ.get("BENCH_PAUSE", "0.02"))
ALIKE = {"local_window": f"{max(2, round(SECONDS / 30))}s", "max_latency_ratio": 5}


async def _client(
    number: int, port: int, body: bytes, deadline: float, seen: dict[str, Any]
) -> None:
    """Asks until the deadline: on one connection while the server keeps it, or on a new one each time."""
    kept = number < KEPT
    reader = writer = None
    asked = 0
    while time.time() < deadline:
        asked += 1
        name = f"{number}-{asked}"
        content = body.replace(b'"ID"', json.dumps(name).encode())
        head = b"POST /v2/models/flights/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        began = time.perf_counter()
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head % len(content) + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            headers = answer.lower()
            length = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
            text = await reader.readexactly(length)
            if b" 200 " not in answer[:20]:
                raise RuntimeError(f"{answer[:40]!r} {text[:200]!r}")
            seen["answered"][name] = json.loads(text)["model_version"]
            seen["slowest"] = max(seen["slowest"], time.perf_counter() - began)
            if not kept or b"connection: close" in headers:
                writer.close()
                reader = writer = None
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            seen["failed"].append(f"{name}: {error!r}")
            reader = writer = None
        await asyncio.sleep(PAUSE)


async def _load(port: int, body: bytes, seconds: float, out: Path) -> None:
    seen: dict[str, Any] = {"answered": {}, "failed": [], "slowest": 0.0}
    deadline = time.time() + seconds
    clients = (_client(n, port, body, deadline, seen) for n in range(KEPT + FRESH))
    await asyncio.gather(*clients)
    out.write_text(json.dumps(seen))


def _versions(root: Path, bundle: Path, splits: Path) -> None:
    """Four versions of the model in a registry: the same network, each with another threshold."""
    import mlflow
    import pyarrow as pa
    import pyarrow.parquet as pq

    client = mlflow.MlflowClient()
    client.create_registered_model("flights")
    table = pq.read_table(splits / "test.parquet").slice(0, 2000)
    for version in range(1, 5):
        folder = root / f"bundle-{version}"
        shutil.copytree(bundle, folder)
        made = json.loads((folder / "bundle.json").read_text())
        made["threshold"] += version / 1000
        (folder / "bundle.json").write_text(json.dumps(made))
        kept = root / f"kept-{version}"
        kept.mkdir()
        digest = bundle_hash(folder)
        release = Release(
            name="flights",
            model_version=str(version),
            alias="challenger",
            run_id="0",
            bundle_uri=str(folder),
            model_hash=digest,
        )
        release.write(root / f"release-{version}.json")
        rule = RuleResult(
            name="auc", metric="auc", outcome="pass", reason="", threshold=0.5, value=0.8
        )
        verdict = Verdict(
            outcome="pass",
            rules=(rule,),
            metrics={"auc": 0.8},
            thresholds={"auc": 0.5},
            model_hash=digest,
            data_hash="0" * 64,
            test_rows=table.num_rows,
        )
        write_verdict(kept / "verdict.json", verdict)
        part = pa.array(["test"] * table.num_rows)
        pq.write_table(table.append_column("part", part), kept / "reference.parquet")
        tags = {"model_hash": digest, "bundle_uri": str(folder)}
        tags |= {"reference_uri": str(kept), "evidence_uri": str(kept)}
        named = {f"slipway.{name}": value for name, value in tags.items()}
        client.create_model_version("flights", source=str(folder), tags=named)


class _Memory:
    """The serving process's memory over time: MB by process id."""

    def __init__(self, home: Path) -> None:
        self._state = home / "endpoints" / "flights" / "state.json"
        self.samples: dict[int, list[float]] = collections.defaultdict(list)

    def look(self) -> None:
        stable = json.loads(self._state.read_text())["stable"]
        if stable and psutil.pid_exists(stable["pid"]):
            memory = psutil.Process(stable["pid"]).memory_full_info()
            self.samples[stable["pid"]].append(memory.pss / 1e6)

    def wait(self, until: float) -> None:
        while time.time() < until:
            self.look()
            time.sleep(min(5.0, max(0.0, until - time.time())))


def main() -> None:
    bundle, splits = (path.absolute() for path in flights_bundle())
    with tempfile.TemporaryDirectory() as name:
        _run(Path(name), bundle, splits)


def _run(root: Path, bundle: Path, splits: Path) -> None:
    from slipway.components.config.deployment import DeploymentConfig
    from slipway.components.deploy.deploy import deploy_model
    from slipway.components.deploy.local import target as local
    from slipway.components.deploy.rollback import roll_back

    port = free_port()
    os.environ |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "SLIPWAY_HOME": str(root / "home"),
        "INFERENCE_LOG_URI": str(root / "log"),
    }
    from slipway.components.support import tracking

    tracking.connect()
    _versions(root, bundle, splits)
    section: dict[str, Any] = {"target": "local", "port": port, "max_latency_ms": 1000}

    def deploy(version: int) -> None:
        deploy_model(
            release=root / f"release-{version}.json",
            verdict=root / f"kept-{version}" / "verdict.json",
            splits=splits,
            project="flights",
            config={**section, "canary": ALIKE},
            deployment=root / "deployment.json",
        )

    golden = golden_rows(bundle, read_bundle(bundle), splits)
    body = {"id": "ID", "inputs": _tensors(golden, 1)}
    (root / "body.json").write_text(json.dumps(body))
    try:
        deploy(1)
        started, memory = time.time(), _Memory(root / "home")
        command = [sys.executable, "-m", "benchmarks.serve_rollouts", str(port)]
        command += [str(root / "body.json"), str(SECONDS), str(root / "seen.json")]
        load = subprocess.Popen(command)
        for version in (2, 3, 4):
            memory.wait(started + SECONDS * (version - 1) / 5)
            deploy(version)
        memory.wait(started + SECONDS * 4 / 5)
        record = roll_back(project="flights", config=DeploymentConfig.model_validate(section))
        if record.model_version != "3":
            raise RuntimeError(f"rolled back to {record.model_version}, not to 3")
        memory.wait(started + SECONDS)
        if load.wait(60):
            raise RuntimeError("the load ended with an error")
    finally:
        local.stop(root / "home")
    _judge(root, memory)


def _judge(root: Path, memory: _Memory) -> None:
    import pyarrow.dataset as ds

    seen = json.loads((root / "seen.json").read_text())
    for failure in seen["failed"][:10]:
        print(failure)
    columns = ["request_id", "model_version"]
    table = ds.dataset(root / "log", format="parquet").to_table(columns=columns)
    logged = collections.Counter(
        zip(table["request_id"].to_pylist(), table["model_version"].to_pylist(), strict=True)
    )
    lost = sum(logged[pair] != 1 for pair in seen["answered"].items())
    by_version = collections.Counter(seen["answered"].values())
    # The first samples of a process are its warming up.
    growth = [kept[-1] - kept[3] for kept in memory.samples.values() if len(kept) > 6]
    peak = max(max(kept) for kept in memory.samples.values())
    what = f"{SECONDS:.0f} s of load, three rollouts, one rollback"
    report(
        "serve_rollouts",
        [
            Row(what, "–", "requests", [len(seen["answered"])], extra={"by_version": by_version}),
            Row(what, "–", "failed requests", [len(seen["failed"])], reach="≤ 0"),
            Row(what, "–", "log rows lost or doubled", [lost], reach="≤ 0"),
            Row(what, "–", "log rows without a request", [len(logged) - len(seen["answered"])]),
            Row(what, "–", "slowest answer, ms", [seen["slowest"] * 1000]),
            Row(what, "–", "MB that a predictor grew", growth or [0.0], reach="≤ 5"),
            Row(what, "–", "MB at most", [peak], reach="≤ 150"),
        ],
    )


if __name__ == "__main__":
    asyncio.run(
        _load(
            int(sys.argv[1]), Path(sys.argv[2]).read_bytes(), float(sys.argv[3]), Path(sys.argv[4])
        )
    )
