"""The gate in real runs of the compiled pipeline: what is wrong is refused, and nothing else changes.

A small project with a truth that is known runs from its table to an endpoint. Each proof then spoils one
thing between two stages, runs `slipway run` again (what was not spoilt comes from the cache), and looks
at the registry, the endpoint and the screen.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import helper

SLIPWAY = Path(sys.executable).parent / "slipway"
ROWS, DAYS = 9000, 90

PROJECT = """
project_name: parcels
cloud_provider: onprem
experiment_tracker: mlflow
model_registry: mlflow
feature_store: feast
orchestrator: kubeflow
monitoring_tool: evidently
ci_cd_platform: github-actions
data:
  root: lake
  window: {start: 2025-01-01T00:00:00Z, end: 2025-04-01T00:00:00Z}
  tables: {parcels: {path: parcels, time: sent}}
schema: schema.json
features:
  entities: {parcel: id}
  examples: {table: parcels, key: id, time: sent, lead: 1h}
  label: {column: late, known: arrived}
  split: {validation: 15d, test: 30d}
  views:
    - name: parcel
      entity: parcel
      table: parcels
      time: sent
      available: 2d
      fields: {weight: weight, distance: distance, carrier: carrier}
training: {epochs: 3, members: 1, min_steps: 200, network: {architecture: mlp}}
gate:
  accuracy: 0.6
  f1: 0.5
  auc: 0.7
  baseline: {linear: false}
  slices: {columns: [carrier], least: {auc: {min: 0.6}}, automatic: false}
  rehearsal: {rows: 30, p99_ms: 2000}  # a busy machine must not decide these proofs
deployment: {target: local, max_latency_ms: 2000}
monitoring:
  routes: [{name: ops, kind: webhook, url: "${OPS_URL}"}]
"""
SCHEMA = {
    "tables": {
        "parcels": {
            "properties": {
                "id": {"type": "string"},
                "sent": {"type": "string", "format": "date-time"},
                "arrived": {"type": "string", "format": "date-time"},
                "weight": {"type": "number"},
                "distance": {"type": "number"},
                "carrier": {"type": "string"},
                "late": {"type": "boolean"},
            }
        }
    }
}


def free_port() -> int:
    """A loopback port that nobody uses."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_table(folder: Path, *, shuffled: bool = False) -> None:
    """Parcels that are late the more, the heavier and the farther; by one carrier less often.

    Args:
        folder: of the table.
        shuffled: give the labels of the training part to other rows.
    """
    rng = np.random.default_rng(5)
    moment = np.sort(rng.integers(0, DAYS * 86_400, ROWS)) * 1_000_000
    sent = moment + np.datetime64("2025-01-01", "us").astype(np.int64)
    weight, distance = rng.normal(size=ROWS), rng.normal(size=ROWS)
    carrier = rng.integers(0, 3, ROWS)
    odds = 1.8 * weight + 1.2 * distance - 0.7 * (carrier == 0)
    late = rng.random(ROWS) < 1 / (1 + np.exp(-odds))
    if shuffled:
        train = moment < (DAYS - 30) * 86_400_000_000
        late[train] = rng.permutation(late[train])
    kind = pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "id": [f"p{i}" for i in range(ROWS)],
            "sent": pa.array(sent, kind),
            "arrived": pa.array(sent + 7_200_000_000, kind),
            "weight": weight,
            "distance": distance,
            "carrier": [("blue", "red", "green")[i] for i in carrier],
            "late": late,
        }
    )
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part.parquet")


@dataclass(frozen=True, slots=True)
class Case:
    """A project, the folder of its runs, and what its alert route was told."""

    project: Path
    out: Path
    told: list[dict[str, Any]]
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        folders = ["--project", str(self.project), "--out", str(self.out)]
        return [str(SLIPWAY), "run", *folders, "--traffic", "0d", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`slipway run`, from the project's folder."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.project,
            capture_output=True,
            text=True,
            env=self.environment,
        )

    def slipway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SLIPWAY), *arguments, "--out", str(self.out)],
            capture_output=True,
            text=True,
            env=self.environment,
        )

    def summary(self) -> dict[str, Any]:
        return json.loads((self.out / "summary.json").read_text())

    def output(self, stage: str, name: str) -> Path:
        """An output of the first run, which the cache hands to later ones on the same data."""
        found = (self.out / "pipelines").glob(f"parcels-training-*/{stage}/{name}")
        return min(found)  # the folders' names hold the time

    def world(self) -> dict[str, Any]:
        """What a refused model must not change: versions, aliases, and who answers a request."""
        import mlflow

        uri = f"sqlite:///{self.out}/mlflow.db"
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        model = client.get_registered_model("parcels")
        endpoint = self.endpoint()
        ready = httpx.get(f"{endpoint}/v2/health/ready").status_code
        return {
            "versions": sorted(
                (str(v.version), v.tags["slipway.model_hash"])
                for v in client.search_model_versions("name = 'parcels'")
            ),
            "aliases": {name: str(version) for name, version in model.aliases.items()},
            "serves": httpx.get(f"{endpoint}/v2/models/parcels").json()["versions"],
            "ready": ready,
        }

    def endpoint(self) -> str:
        (line,) = [x for x in self.slipway("status").stdout.splitlines() if " at http" in x]
        return line.split(" at ")[1].split(",")[0]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The project after a first run that passed: version 1 is champion and serves."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    root = tmp_path_factory.mktemp("gate-proofs")
    project = root / "project"
    write_table(project / "lake" / "parcels")
    write_table(root / "shuffled" / "parcels", shuffled=True)
    (project / "schema.json").write_text(json.dumps(SCHEMA))
    (project / "project.yaml").write_text(
        PROJECT.replace("target: local,", f"target: local, port: {free_port()},")
    )
    ours = ("MLFLOW_", "FEAST_", "FEATURE_", "SLIPWAY_", "INFERENCE_", "MONITORING_")
    environment = {name: v for name, v in os.environ.items() if not name.startswith(ours)}
    environment["OPS_URL"] = f"http://127.0.0.1:{server.server_port}"
    case = Case(project, root / "run", told, environment)
    try:
        done = case.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Verdict: PASS" in done.stdout, done.stdout
        yield case
    finally:
        case.slipway("stop")
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def before(case: Case) -> dict[str, Any]:
    """The world after the first run."""
    world = case.world()
    assert world["aliases"] == {"challenger": "1", "champion": "1"}
    assert (len(world["versions"]), world["serves"], world["ready"]) == (1, ["1"], 200)
    return world


@contextmanager
def spoilt(path: Path, change: Callable[[Path], None]) -> Iterator[None]:
    """Changes a file or folder for the time of a run."""
    kept = path.with_name(f"{path.name}.kept")
    shutil.move(path, kept)
    if kept.is_dir():
        shutil.copytree(kept, path)
    else:
        shutil.copy2(kept, path)
    try:
        change(path)
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        shutil.move(kept, path)


def refused(case: Case, before: dict[str, Any], done: Any, *reasons: str) -> None:
    """The run ended well, said no with its reasons on the screen, and changed nothing."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict: FAIL" in done.stdout
    assert "Nothing was registered and nothing deployed" in done.stdout
    for reason in reasons:
        assert reason in done.stdout, done.stdout
        assert any(reason in given for given in case.summary()["reasons"])
    statuses = {stage["name"]: stage["status"] for stage in case.summary()["stages"]}
    assert statuses["evaluate"] == "refused"
    assert (statuses["register"], statuses["deploy"]) == ("skipped", "skipped")
    assert case.world() == before


def test_the_kubeflow_ui_is_given_metrics_confusion_matrix_and_roc(
    case: Case, before: dict[str, Any]
) -> None:
    """What the task that ran wrote for the UI agrees with the verdict, row by row."""
    verdict = json.loads(case.output("evaluate", "verdict").read_text())
    written = json.loads(case.output("evaluate", "executor_output.json").read_text())
    assert written["parameterValues"] == {"Output": "pass"}
    shown = {
        name: found["artifacts"][0]["metadata"] for name, found in written["artifacts"].items()
    }
    assert shown["metrics"] == verdict["metrics"]
    assert shown["verdict"]["outcome"] == "pass"
    (no, yes) = (entry["row"] for entry in shown["curves"]["confusionMatrix"]["rows"])
    assert sum(no) + sum(yes) == verdict["test_rows"]
    accuracy = (no[0] + yes[1]) / verdict["test_rows"]
    assert accuracy == pytest.approx(verdict["metrics"]["accuracy"], abs=1e-6)
    assert yes[1] / sum(yes) == pytest.approx(verdict["metrics"]["recall"], abs=1e-6)
    points = shown["curves"]["confidenceMetrics"]
    area = np.trapezoid(
        [point["recall"] for point in points], [point["falsePositiveRate"] for point in points]
    )
    assert area == pytest.approx(verdict["metrics"]["auc"], abs=1e-3)


def test_a_truncated_test_table_is_refused(case: Case, before: dict[str, Any]) -> None:
    def cut(path: Path) -> None:
        pq.write_table(pq.read_table(path).slice(0, 2000), path)

    with spoilt(case.output("features", "splits") / "test.parquet", cut):
        done = case.run()
    refused(case, before, done, "The test table has 2,000 rows, but splits.json says")


def test_a_test_table_cut_off_in_the_middle_of_its_bytes_is_refused(
    case: Case, before: dict[str, Any]
) -> None:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with spoilt(case.output("features", "splits") / "test.parquet", cut):
        done = case.run()
    refused(case, before, done, "The model could not be measured")


def test_a_champion_that_cannot_be_loaded_refuses_the_challenger(
    case: Case, before: dict[str, Any]
) -> None:
    (bundle,) = (case.out / "mlflow-artifacts").glob("**/release-*/bundle")
    with spoilt(bundle / "model.onnx", lambda path: path.write_bytes(b"not a model")):
        done = case.run()
    refused(
        case, before, done, "The champion could not be compared: version 1 has the alias champion"
    )


def test_a_predictor_that_answers_wrongly_is_refused(case: Case, before: dict[str, Any]) -> None:
    """The export is spoilt so that a row's answer depends on the rows beside it.

    Every metric is fine, since evaluate asks thousands of rows at once. A request with one row is
    answered otherwise: only the rehearsal can see it.
    """

    def spoil(path: Path) -> None:
        model = onnx.load(path)
        graph = model.graph
        for node in graph.node:
            node.output[:] = ["clean" if name == "probability" else name for name in node.output]
            node.input[:] = ["clean" if name == "probability" else name for name in node.input]
        constant = helper.make_tensor("tenth", onnx.TensorProto.FLOAT, [], [0.1])
        graph.node.extend(
            [
                helper.make_node("Constant", [], ["tenth"], value=constant),
                helper.make_node("ReduceMean", ["clean"], ["company"], keepdims=1),
                helper.make_node("Sub", ["clean", "company"], ["apart"]),
                helper.make_node("Mul", ["apart", "tenth"], ["shift"]),
                helper.make_node("Sub", ["clean", "shift"], ["probability"]),
            ]
        )
        onnx.save(model, path)

    with spoilt(case.output("train", "bundle") / "model.onnx", spoil):
        done = case.run()
    refused(case, before, done, "The largest difference of a served probability is above 1e-05")
    assert len(case.summary()["reasons"]) == 1


def test_a_model_trained_on_shuffled_labels_is_refused(case: Case, before: dict[str, Any]) -> None:
    done = case.run("--set", f"data.root={case.project.parent / 'shuffled'}")
    refused(case, before, done, "AUC is below 0.7", "the difference to the champion in AUC")
    statuses = {stage["name"]: stage["status"] for stage in case.summary()["stages"]}
    assert statuses["train"] == "succeeded"  # it was really trained, on those labels


def test_a_bundle_that_changes_after_its_evaluation_is_not_registered(
    case: Case, before: dict[str, Any]
) -> None:
    """One byte of the model is changed once the verdict is there and before register begins."""
    bundle = case.output("train", "bundle")
    earlier = set((case.out / "pipelines").glob("*/evaluate/verdict"))
    threshold = json.loads((bundle / "bundle.json").read_text())["threshold"]

    def other_model(path: Path) -> None:
        # Another hash than version 1's, so that register has something new to register.
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "threshold": threshold + 1e-6}))

    with (
        spoilt(bundle / "bundle.json", other_model),
        spoilt(bundle / "model.onnx", lambda _: None),
        subprocess.Popen(
            case.command(),
            cwd=case.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=case.environment,
        ) as process,
    ):
        deadline = time.monotonic() + 300
        while not set((case.out / "pipelines").glob("*/evaluate/verdict")) - earlier:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        content = bytearray((bundle / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (bundle / "model.onnx").write_bytes(content)
        out, errors = process.communicate()
    assert process.returncode == 1
    assert "it was changed after it was evaluated" in errors, out + errors
    assert "Traceback" not in errors
    assert case.world() == before


def test_an_override_is_loud_everywhere(case: Case, before: dict[str, Any]) -> None:
    """Last: it moves the aliases. The name holds an apostrophe, which kfp's conditions break at."""
    told = len(case.told)
    gate = ("--set", "gate.auc=0.99", "--set", "training.seed=1")
    who = ("--override-approver", "Ada O'Hara", "--override-reason", "pilot for one week")
    unnamed = case.run(*gate, "--override-reason", "because")
    refused(case, before, unnamed, "AUC is below 0.99")
    assert "An override needs both a named approver and a reason" in unnamed.stdout

    done = case.run(*gate, *who)
    assert done.returncode == 0, done.stdout + done.stderr
    # The screen, the summary.
    assert "Verdict: PASS" in done.stdout
    assert "OVERRIDDEN by Ada O'Hara: pilot for one week" in done.stdout
    assert case.summary()["override"] == {"approver": "Ada O'Hara", "reason": "pilot for one week"}
    # The card.
    card = Path(case.summary()["reports"]["model card"]).read_text()
    assert "Let through by a person." in card and "pilot for one week" in card
    # The registry.
    evidence = case.slipway("evidence", "parcels@champion")
    assert evidence.returncode == 0, evidence.stdout + evidence.stderr
    assert "override       Ada O'Hara: pilot for one week" in evidence.stdout
    assert "all match" in evidence.stdout
    assert re.search(r"packages: register \d+, train \d+", evidence.stdout)
    assert re.search(r"pipeline run   \d+\n", evidence.stdout)  # kfp.local draws a number
    # The alert channel.
    alerts = [alert for notice in case.told[told:] for alert in notice["alerts"]]
    # What a test before this one broke is over with the first run that ends, if it was told.
    failed = [a["status"] for notice in case.told[:told] for a in notice["alerts"]
              if a["name"] == "PIPELINE_FAILED"]  # fmt: skip
    over = [alert for alert in alerts if alert["status"] == "resolved"]
    assert [alert["name"] for alert in over] == ["PIPELINE_FAILED"] * (failed[-1:] == ["firing"])
    refusal, alert = (alert for alert in alerts if alert not in over)
    assert (refusal["name"], refusal["severity"]) == ("GATE_REFUSED", "warning")
    assert "AUC is below 0.99" in refusal["message"]
    assert (alert["name"], alert["severity"]) == ("GATE_OVERRIDDEN", "critical")
    assert "Ada O'Hara let the model" in alert["message"]
    assert "AUC is below 0.99" in alert["message"]
    # A version of its own, which serves.
    world = case.world()
    assert world["aliases"] == {"challenger": "2", "champion": "2"}
    assert world["serves"] == ["2"]
