"""A run as a person reads it: its stages in order, what failed, and why though the API does not say."""

import base64
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kfp_server_api as kfp
import pytest
from support.http_answers import serve_answers, write_kubeconfig
from support.kfp_double import Double
from typer.testing import CliRunner, Result

from slipway.cluster.api import Kubeflow
from slipway.cluster.connection import Connection
from slipway.cluster.runs import RunState, follow, state_of, submit
from slipway.cluster.upload import upload
from slipway.commands.cli import app
from slipway.pipelines.package import read_package

STAGES = [
    *("ingest", "validate", "features", "train", "evaluate"),
    *("register", "report-verdict", "deploy", "report-end"),
]


def slipway(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ran(double: Double, compiled: Path, name: str = "flights-training") -> RunState:
    kubeflow = Kubeflow(Connection.of(host=double.url), backoff=0.01)
    package = read_package(compiled / f"{name}.yaml")
    uploaded = upload(kubeflow, package)
    started = submit(kubeflow, package, uploaded, experiment="flights", arguments={})
    return follow(kubeflow, started.run_id, lambda task: None, every=0.0)


def states(end: RunState) -> list[tuple[str, str]]:
    return [(task.name, task.state) for task in end.tasks]


@pytest.mark.parametrize("seed", range(8))
def test_stages_stand_in_order_whatever_order_the_server_has(
    seed: int, kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow_server.seed = seed
    end = ran(kubeflow_server, compiled)
    assert states(end) == [(stage, "succeeded") for stage in STAGES]
    assert all(task.seconds == 60 for task in end.tasks)
    assert (end.verdict, end.cancelled) == ("pass", False)


@pytest.mark.parametrize("failed", STAGES)
@pytest.mark.parametrize("driver", [False, True])
def test_what_failed_is_named_and_what_waited_for_it_did_not_run(
    failed: str, driver: bool, kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow_server.seed, kubeflow_server.fail_task = len(failed), failed
    kubeflow_server.fail_driver = driver
    end = ran(kubeflow_server, compiled)
    place = STAGES.index(failed)
    expected = [(stage, "succeeded") for stage in STAGES[:place]] + [(failed, "failed")]
    expected += [(stage, "not run") for stage in STAGES[place + 1 :]]
    # What the gate decided is told beside the release: neither waits for the other.
    beside = STAGES.index("report-verdict")
    if failed == "register":
        expected[beside] = ("report-verdict", "succeeded")
    if failed == "report-verdict":
        expected[STAGES.index("deploy")] = ("deploy", "succeeded")
    # The exit handler runs all the same, and its own failure is not the pipeline's.
    expected[-1] = (expected[-1][0], "failed" if failed == "report-end" else "succeeded")
    assert states(end) == expected
    assert end.state == ("succeeded" if failed == "report-end" else "failed")
    assert end.verdict == ("pass" if place >= STAGES.index("register") else None)


@pytest.mark.parametrize("never", [datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)])
def test_a_stage_that_works_counts_its_seconds_until_now(
    never: datetime, kubeflow_server: Double
) -> None:
    """The server's end of what has not ended is the year 1, or 1970."""
    began = datetime.now(UTC) - timedelta(minutes=5)
    detail = kfp.V2beta1PipelineTaskDetail(
        display_name="train", state="RUNNING", start_time=began, end_time=never
    )
    run = kfp.V2beta1Run(
        run_id="r",
        display_name="x",
        state="RUNNING",
        run_details=kfp.V2beta1RunDetails(task_details=[detail]),
    )
    kubeflow = Kubeflow(Connection.of(host=kubeflow_server.url))
    (task,) = state_of(kubeflow, run, ["train"]).tasks
    assert task.state == "running" and 300 <= task.seconds < 400


def test_a_refused_model_leaves_what_is_behind_the_gate_without_a_node(
    kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow_server.refuse_model = True
    end = ran(kubeflow_server, compiled)
    assert dict(states(end)) | {"register": "not run", "deploy": "not run"} == dict(states(end))
    assert (end.state, end.verdict) == ("succeeded", "fail")


def test_nodes_of_one_name_are_not_one(kubeflow_server: Double, compiled: Path) -> None:
    """A task that ran twice (a loop, a retried run) is shown twice."""
    end = ran(kubeflow_server, compiled)
    details = kubeflow_server.runs[end.run_id]["run_details"]["task_details"]
    (train,) = [node for node in details if node["display_name"] == "train"]
    details.append({**train, "state": "FAILED", "start_time": "2026-01-01T00:00:01Z"})
    shown = slipway("runs", end.run_id)
    lines = [line for line in shown.output.splitlines() if "train " in line]
    assert ["succeeded" in line for line in lines] == [True, False]
    assert "failed" in lines[1]


def test_a_run_of_a_version_that_is_gone_shows_what_the_nodes_say(
    kubeflow_server: Double, compiled: Path
) -> None:
    end = ran(kubeflow_server, compiled)
    kubeflow_server.versions.clear()
    shown = slipway("runs", end.run_id).output
    assert all(stage in shown for stage in STAGES)
    for noise in ("driver", "executor", "exit-handler", "condition", "onExit", "root"):
        assert noise not in shown


ERROR = '[slipway] {"event": "error", "message": "labels of one class only"}'


def pod(name: str, phase: str, *, labels: dict[str, str] | None = None, **status: Any) -> Any:
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": labels or {},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": phase, **status},
    }


def ended(reason: str, code: int = 1) -> dict[str, Any]:
    state = {"terminated": {"reason": reason, "exitCode": code}}
    return {"containerStatuses": [container(state)]}


def container(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "main", "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state
    }  # fmt: skip


class Cluster:
    """The pods and the workflow of a run."""

    def __init__(self) -> None:
        self.pods: list[Any] = []
        self.logs: dict[str, str] = {}
        self.status: dict[str, Any] = {}
        self.refuses = False

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if self.refuses:
            return 403, {"message": "pods is forbidden"}
        name = path.split("/")[-2]
        if path.endswith("/log"):
            return (200, self.logs[name]) if name in self.logs else (404, {"message": "gone"})
        assert query["labelSelector"].startswith("pipeline/runid=")
        if path.endswith("/workflows"):
            return 200, {"items": [{"status": self.status}]}
        assert path == "/api/v1/namespaces/team/pods"
        return 200, {"items": self.pods}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster()
    with serve_answers(cluster.answer) as address:
        path = str(write_kubeconfig(tmp_path / "kubeconfig", address))
        monkeypatch.setenv("KUBECONFIG", path)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
        yield cluster


TRAIN = {"slipway.dev/stage": "train"}
POD_CASES = [
    ("its own error", pod("w-train-1", "Failed", labels=TRAIN, **ended("Error")),
     f"start\n{ERROR}\nTraceback", "labels of one class only"),
    ("its last line", pod("w-train-1", "Failed", labels=TRAIN, **ended("Error")),
     "loading\nSegmentation fault", "Segmentation fault"),
    ("no log", pod("w-train-1", "Failed", labels=TRAIN, **ended("Error", 137)), None, "exit code 137"),
    ("memory", pod("w-train-1", "Failed", labels=TRAIN, **ended("OOMKilled")), "x", "OOMKilled"),
    ("timeout", pod("w-train-1", "Failed", labels=TRAIN, reason="DeadlineExceeded"), "x",
     "DeadlineExceeded"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "log", "why"),
    [case[1:] for case in POD_CASES],
    ids=[case[0] for case in POD_CASES],
)
def test_why_comes_from_the_pod(
    found: Any, log: str | None, why: str, kubeflow_server: Double, compiled: Path, cluster: Cluster
) -> None:
    kubeflow_server.fail_task = "train"
    cluster.pods = [found, pod("w-ingest-1", "Succeeded", labels={"slipway.dev/stage": "ingest"})]
    if log is not None:
        cluster.logs["w-train-1"] = log
    end = ran(kubeflow_server, compiled)
    shown = slipway("runs", end.run_id)
    assert shown.exit_code == 0, shown.output
    (line,) = [line for line in shown.output.splitlines() if line.startswith("│ train ")]
    assert why in line


NODES = {
    "a": {"displayName": "train", "type": "DAG", "phase": "Failed"},
    "b": {"displayName": "executor", "type": "Retry", "phase": "Failed", "boundaryID": "a",
          "message": "No more retries left"},
    "c": {"displayName": "executor(0)", "type": "Pod", "phase": "Failed", "boundaryID": "a",
          "message": "Error (exit code 1)"},
    "d": {"displayName": "evaluate-driver", "type": "Pod", "phase": "Error", "boundaryID": "x",
          "message": "failed to resolve inputs"},
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("stage", "driver", "why"),
    [
        ("train", False, "Error (exit code 1)"),
        ("evaluate", True, "its driver failed: failed to resolve inputs"),
    ],
)
def test_once_the_pods_are_gone_why_comes_from_the_workflow(
    packed: bool,
    stage: str,
    driver: bool,
    why: str,
    kubeflow_server: Double,
    compiled: Path,
    cluster: Cluster,
) -> None:
    kubeflow_server.fail_task, kubeflow_server.fail_driver = stage, driver
    content = base64.b64encode(gzip.compress(json.dumps(NODES).encode())).decode()
    cluster.status = {"compressedNodes": content} if packed else {"nodes": NODES}
    end = ran(kubeflow_server, compiled)
    shown = slipway("runs", end.run_id, "--wait")
    assert shown.exit_code == 1
    assert f"{stage} failed: {why}" in shown.output


def test_a_pod_that_cannot_start_is_told_while_the_run_goes_on(
    kubeflow_server: Double, compiled: Path, cluster: Cluster
) -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such manifest"}}
    cluster.pods = [
        pod("w-1", "Pending", labels={"slipway.dev/stage": "ingest"},
            containerStatuses=[container(waiting)]),
    ]  # fmt: skip
    slipway("submit", compiled / "flights-training.yaml")
    (run_id,) = kubeflow_server.runs
    for _ in range(6):
        shown = slipway("runs", run_id).output
        if "running" in shown:
            break
    assert "ImagePullBackOff: no such manifest" in shown


@pytest.mark.parametrize("reachable", [True, False])
def test_without_the_cluster_the_person_is_told_where_to_look(
    reachable: bool,
    kubeflow_server: Double,
    compiled: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    kubeflow_server.fail_task = "train"
    cluster.refuses = True
    if not reachable:
        path = str(write_kubeconfig(tmp_path / "other", "http://127.0.0.1:9"))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
    end = ran(kubeflow_server, compiled)
    shown = slipway("runs", end.run_id, "--wait")
    assert f"slipway logs {end.run_id} --task train" in shown.output
