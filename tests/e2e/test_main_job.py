"""From compiled YAML to a monitored endpoint, on real flights, past both sides of the gate.

The tests of this file run in order: each goes on from what the one before left, as a user would.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
from feast import FeatureStore, RepoConfig

from slipway.components.contracts.feature_store import repo_config
from slipway.components.contracts.rows.requests import DATATYPES
from slipway.components.contracts.splits import read_splits

STAGES = ["ingest", "validate", "features", "train", "evaluate", "register", "deploy", "monitor"]


@pytest.fixture(scope="module")
def first(job: Any) -> tuple[dict[str, Any], str]:
    """The first run: everything from nothing, and the gate lets the model pass."""
    done = job.run("--traffic", "1d")
    return job.summary(), done.stdout


def versions(job: Any) -> dict[str, str]:
    """The registered versions' numbers by alias, and their count."""
    import mlflow

    uri = f"sqlite:///{job.out}/mlflow.db"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    model = client.get_registered_model("flights")
    count = len(client.search_model_versions("name='flights'"))
    return {**{k: str(v) for k, v in model.aliases.items()}, "count": str(count)}


def served_version(endpoint: str) -> str:
    answer = httpx.get(f"{endpoint}/v2/models/flights").json()
    return str(answer["versions"][-1])


def test_the_run_ends_with_a_monitored_endpoint(
    job: Any, first: tuple[dict[str, Any], str]
) -> None:
    summary, _ = first
    assert summary["project"] == "flights"
    assert summary["verdict"] == "pass"
    assert summary["reasons"] == []
    assert summary["thresholds"] == {"accuracy": 0.5, "f1": 0.3, "auc": 0.6}
    for name, value in summary["metrics"].items():
        assert summary["thresholds"][name] <= value <= 1, name
    stages = {stage["name"]: stage for stage in summary["stages"]}
    assert [name for name in stages if name in STAGES] == STAGES
    assert {stage["status"] for stage in stages.values()} == {"succeeded"}
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert summary["model"] == {"name": "flights", "version": "1", "alias": "champion"}
    assert versions(job)["champion"] == "1"
    assert httpx.get(f"{summary['endpoint']}/v2/health/ready").status_code == 200
    assert served_version(summary["endpoint"]) == "1"


def test_monitoring_saw_exactly_the_requests(first: tuple[dict[str, Any], str], job: Any) -> None:
    summary, _ = first
    seen = summary["monitoring"]["summary"]
    assert {"current_accuracy", "avg_latency", "total_predictions", "drift_status"} <= seen.keys()
    log = next((job.out / "logs").glob("*-monitoring.log")).read_text()
    assert f"{seen['total_predictions']:,} predictions" in log
    assert seen["total_predictions"] > 500
    assert 0.5 < seen["current_accuracy"] <= 1
    assert 0 < seen["avg_latency"] < 1000
    assert summary["monitoring"]["drift_status"] == seen["drift_status"]


def test_the_terminal_tells_what_a_person_needs(first: tuple[dict[str, Any], str]) -> None:
    summary, screen = first
    for text in (
        *STAGES,
        "Verdict: PASS",
        "Endpoint: http://127.0.0.1:",
        "mlflow ui",
        "slipway stop",
    ):
        assert text in screen, text
    for name, path in summary["reports"].items():
        assert name in screen
        assert Path(path).stat().st_size > 1000


def test_status_shows_the_endpoint_and_the_monitored_window(
    job: Any, first: tuple[dict[str, Any], str]
) -> None:
    summary, _ = first
    done = job.slipway("status")
    accuracy = summary["monitoring"]["summary"]["current_accuracy"]
    assert f"at {summary['endpoint']}, running" in done.stdout
    assert f"{accuracy:.4f}" in done.stdout


def test_the_evidence_of_the_champion_holds(job: Any, first: tuple[dict[str, Any], str]) -> None:
    done = job.slipway("evidence", "flights@champion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all match" in done.stdout


def test_batch_scoring_says_what_the_endpoint_said(
    job: Any, first: tuple[dict[str, Any], str]
) -> None:
    """The day of the traffic, scored from the compiled YAML: the same features, answers and drift."""
    published = job.out / "published"
    done = job.batch("score", "--start", "1d", "--publish", str(published))
    (folder,) = published.glob("flights/*/version=*")
    assert (folder / "predictions.json").is_file()
    assert str(folder) in done.stdout
    scored = pl.read_parquet(folder / "flights" / "*" / "*.parquet", hive_partitioning=False)
    served = pl.read_parquet(
        job.out / "inference_log" / "flights" / "**" / "*.parquet", hive_partitioning=False
    )
    # Rows that never got a label were asked for too, and are scored.
    assert scored.height == served.height > 500
    both = served.join(scored, on="key", suffix=" scored", validate="1:1")
    assert both.height == served.height
    assert both["model_version"].to_list() == both["model_version scored"].to_list()
    assert (both["probability"] - both["probability scored"]).abs().max() < 1e-6
    features = [name for name in served.columns if name.startswith("feature.")]
    assert len(features) == 53
    for name in features:
        assert both[name].equals(both[f"{name} scored"], null_equal=True), name
    # The drift has a series of its own, and the endpoint's is as it was.
    assert "flights-scoring" in job.slipway("status").stdout
    assert first[0]["monitoring"]["drift_status"] == "drift"
    assert "Drift: the data drifted" in done.stdout


def test_a_backfill_of_unchanged_sources_leaves_the_store_as_it_was(
    job: Any, first: tuple[dict[str, Any], str]
) -> None:
    """What training wrote of a range and what a backfill computes of it alone are the same rows."""
    tables = sorted((job.out / "feature_store" / "flights" / "tables").glob("*.parquet"))
    before = [pl.read_parquet(path) for path in tables]
    done = job.batch("backfill", "--start", "2013-02-01", "--end", "2013-02-04")
    assert "aircraft_delays" in done.stdout
    for path, rows in zip(tables, before, strict=True):
        # A long table is merged a share of its entities at a time: which share comes first is no promise.
        order = rows.columns[:2]
        assert pl.read_parquet(path).sort(order).equals(rows.sort(order), null_equal=True), (
            path.name
        )


def test_a_refused_model_is_neither_registered_nor_deployed(
    job: Any, first: tuple[dict[str, Any], str]
) -> None:
    endpoint, before = first[0]["endpoint"], versions(job)
    done = job.run("--set", "gate.auc=0.99")
    summary = job.summary()
    assert summary["verdict"] == "fail"
    assert "auc" in " ".join(summary["reasons"]).lower()
    assert "0.99" in " ".join(summary["reasons"])
    assert (summary["model"], summary["endpoint"], summary["monitoring"]) == (None, None, None)
    statuses = {stage["name"]: stage["status"] for stage in summary["stages"]}
    assert statuses["evaluate"] == "refused"
    assert {statuses[name] for name in ("register", "deploy", "monitor")} == {"skipped"}
    # What did not change was not done again.
    assert {statuses[name] for name in ("ingest", "validate", "features", "train")} == {"cached"}
    assert "Verdict: FAIL" in done.stdout
    assert "0.99" in done.stdout
    assert versions(job) == before
    assert httpx.get(f"{endpoint}/v2/health/ready").status_code == 200
    assert served_version(endpoint) == "1"


def test_a_refusal_fails_the_command_only_when_asked(job: Any, first: Any) -> None:
    assert job.run("--set", "gate.auc=0.99", "--fail-on-refusal", check=False).returncode == 3


def test_the_same_again_is_the_same_version_and_the_same_traffic(
    job: Any, first: tuple[dict[str, Any], str]
) -> None:
    job.run("--traffic", "1d")
    assert versions(job)["count"] == "1"
    before, after = first[0]["monitoring"]["summary"], job.summary()["monitoring"]["summary"]
    assert after["total_predictions"] == before["total_predictions"]


def test_a_port_that_is_taken_is_named_and_the_next_run_works(
    make_job: Callable[..., Any], job: Any, first: Any
) -> None:
    """Another program holds the port; the earlier endpoint, on its own port, keeps serving."""
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        done = job.run("--set", f"deployment.port={port}", "--traffic", "0d", check=False)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "deployment.port" in done.stderr
    assert "Traceback" not in done.stderr
    assert httpx.get(f"{first[0]['endpoint']}/v2/health/ready").status_code == 200
    job.run("--traffic", "0d")


def test_ctrl_c_ends_everything_and_the_next_run_works(
    make_job: Callable[..., Any], tmp_path: Path
) -> None:
    job = make_job(tmp_path / "run")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")}
    process = subprocess.Popen(
        job.command("--traffic", "0d"),
        cwd=job.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().startswith("validate"):
            break
    time.sleep(1)  # features is at work
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"]]
    assert not [command for command in left if str(job.out) in " ".join(command)]
    done = job.run("--set", "gate.auc=0.99")
    assert "Verdict: FAIL" in done.stdout
    statuses = {stage["name"]: stage["status"] for stage in job.summary()["stages"]}
    assert statuses["ingest"] == "cached"
    assert statuses["features"] == "succeeded"


def test_a_look_up_by_keys_alone_works_as_the_page_says(job: Any, first: Any) -> None:
    """docs/serving.md: the command and the request, on this job's port and with a flight that it has."""
    page = (job.root / "docs" / "serving.md").read_text()
    section = page.partition("### Key look-ups on a laptop")[2].partition("\n## ")[0]
    (command,) = re.findall(r"^    slipway run (.*)$", section, re.MULTILINE)
    job.run("--traffic", "0d", *shlex.split(command))
    endpoint = job.summary()["endpoint"]
    (request,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    *_, url, flag, body = shlex.split(request)
    assert (flag, url) == ("-d", "http://127.0.0.1:8080/v2/models/flights/infer")
    inputs = json.loads(body)["inputs"]
    assert [tensor["datatype"] for tensor in inputs] == ["BYTES"] * 5

    (splits, *_) = sorted(
        job.out.glob("pipelines/flights-training-*/features/splits"), reverse=True
    )
    last = pl.read_parquet(splits / "test.parquet").tail(1)
    keys = {tensor["name"]: last[tensor["name"]][0] for tensor in inputs}
    for tensor in inputs:
        tensor["data"] = [keys[tensor["name"]]]
    by_keys = ask(endpoint, inputs)
    # What Feast itself has for these keys, asked as docs/features.md does, gives the same answer.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE_URI", str(job.out / "feature_store"))
        patch.delenv("FEAST_REDIS_URL", raising=False)
        store = FeatureStore(config=RepoConfig(**repo_config("flights")))
        service = store.get_feature_service("flights")
        found = store.get_online_features(features=service, entity_rows=[keys]).to_dict()
    assert found["leaves_from"] == [keys["origin"]] and found["miles"] == last["miles"].to_list()
    row = {name: found[name][0] for name in found if name not in keys}
    given = [
        {"name": feature.name, "shape": [1], "datatype": DATATYPES[feature.kind], "data": [value]}
        for feature in read_splits(splits).features
        for value in [row[feature.name]]
    ]
    for tensor in given:
        if isinstance(tensor["data"][0], datetime):
            tensor["data"] = [tensor["data"][0].replace(tzinfo=None).isoformat()]
    assert ask(endpoint, given) == pytest.approx(by_keys, abs=1e-6)


def ask(endpoint: str, inputs: list[dict[str, Any]]) -> float:
    """The probability that the endpoint answers to one row."""
    body = {"inputs": inputs, "parameters": {"log": False}}
    answer = httpx.post(f"{endpoint}/v2/models/flights/infer", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    return float(outputs["probability"][0])
