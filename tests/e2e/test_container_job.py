"""The main job with every stage in its own image, hardened, beside the same job as processes."""

import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
import yaml
from support.model_keys import make_keys

STAGES = ["ingest", "validate", "features", "train", "evaluate", "register", "deploy", "monitor"]
NETWORKED = {"deploy", "monitor", "predictor"}
NAMELESS = "1000660000:0"  # a user as OpenShift chooses one
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@dataclass
class Watch:
    """What the engine says of the containers that a job starts; may kill one at its start."""

    folder: Path
    kill: str = ""
    seen: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Looks at each container that mounts the job's folder as it is created."""
        client = docker.from_env()
        events = client.events(decode=True, filters={"type": "container"})

        def look() -> None:
            for event in events:
                if event["Action"] == "create":
                    found = client.api.inspect_container(event["id"])
                    if any(str(self.folder) in m["Source"] for m in found["Mounts"]):
                        name = found["Config"]["Image"].partition(":")[0].removeprefix("slipway/")
                        self.seen.setdefault(name, []).append(found)
                elif event["Action"] == "start" and event["id"] in self._doomed():
                    client.containers.get(event["id"]).kill()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            events.close()
            thread.join(10)
            client.close()

    def _doomed(self) -> list[str]:
        return [found["Id"] for found in self.seen.get(self.kill, ())]


@dataclass(frozen=True)
class Finished:
    """A job that ran to its end, and what is compared of it."""

    job: Any
    watch: Watch
    summary: dict[str, Any]
    screen: str

    def output(self, pipeline: str, task: str, name: str) -> Path:
        """An output of a task of the only run of a pipeline."""
        [run] = (self.job.out / "pipelines").glob(f"*{pipeline}*")
        return run / task / name

    def facts(self) -> dict[str, Any]:
        """Data hashes, every metric, the verdict, and what monitoring counted."""
        manifest = self.output("training", "ingest", "dataset") / "manifest.json"
        verdict = json.loads(self.output("training", "evaluate", "verdict").read_text())
        seen = self.summary["monitoring"]["summary"]
        return {
            "data": json.loads(manifest.read_text())["content_hash"],
            "splits": verdict["data_hash"],
            "metrics": verdict["metrics"],
            "verdict": self.summary["verdict"],
            "thresholds": self.summary["thresholds"],
            "model": self.summary["model"],
            "predictions": seen["total_predictions"],
            "accuracy": seen["current_accuracy"],
            "drift": seen["drift_status"],
        }


@pytest.fixture(scope="module")
def finish(
    make_job: Callable[..., Any],
    built_images: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Finished]]:
    """Runs the job on the slice in a folder of its own, and stops its predictor at the end."""
    jobs = []
    keys = make_keys()
    # A file of the caller, which no container sees.
    key = tmp_path_factory.mktemp("keys") / "model.key"
    key.write_text(keys.private)
    signing = {"MODEL_PRIVATE_KEY": str(key), "MODEL_PUBLIC_KEYS": keys.public}

    def run(*arguments: str, user: str = "") -> Finished:
        job = make_job(tmp_path_factory.mktemp("job") / "run")
        jobs.append(job)
        with Watch(job.out).watching() as watch:
            done = subprocess.run(
                job.command("--traffic", "1d", *arguments),
                cwd=job.root,
                capture_output=True,
                text=True,
                env=settings(SLIPWAY_CONTAINER_USER=user, **signing),
            )
        assert done.returncode == 0, done.stdout + done.stderr
        return Finished(job, watch, job.summary(), done.stdout)

    yield run
    for job in jobs:
        job.stop()


def settings(**more: str) -> dict[str, str]:
    """The environment without settings that would lead a run elsewhere, with some of its own."""
    ours = ("MLFLOW_", "FEAST_", "FEATURE_", "SLIPWAY_", "INFERENCE_", "MONITORING_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | more


@pytest.fixture(scope="module")
def processes(finish: Callable[..., Finished]) -> Finished:
    """The job as processes of this environment."""
    return finish()


@pytest.fixture(scope="module", params=["", NAMELESS], ids=["own user", "a nameless user"])
def contained(request: pytest.FixtureRequest, finish: Callable[..., Finished]) -> Finished:
    """The job with each stage in its image."""
    return finish("--runner", "docker", user=request.param)


def test_every_stage_ran_in_its_own_image(contained: Finished) -> None:
    assert {stage["status"] for stage in contained.summary["stages"]} == {"succeeded"}
    assert sorted(contained.watch.seen) == sorted([*STAGES, "predictor"])
    counts = {name: len(found) for name, found in contained.watch.seen.items()}
    # Monitoring ingests too. From monitor's image are the stage, what tells of the gate's decision, what
    # looks whether to retrain, and the report at the end of each of the two pipelines.
    assert counts == dict.fromkeys([*STAGES, "predictor"], 1) | {"ingest": 2, "monitor": 5}


def test_every_container_was_hardened(contained: Finished, request: pytest.FixtureRequest) -> None:
    for name, found in contained.watch.seen.items():
        for container in found:
            host, config = container["HostConfig"], container["Config"]
            user, _, group = config["User"].partition(":")
            assert int(user) > 0, name
            if os.getuid() == 0:
                nameless = "nameless" in request.node.name
                assert f"{user}:{group}" == (NAMELESS if nameless else "10001:0")
            assert host["ReadonlyRootfs"], name
            assert host["CapDrop"] == ["ALL"], name
            assert not host["CapAdd"], name
            assert not host["Privileged"], name
            assert host["SecurityOpt"] == ["no-new-privileges"], name
            assert list(host["Tmpfs"]) == ["/tmp"], name
            assert host["PidMode"] != "host", name
            assert host["NetworkMode"] == ("host" if name in NETWORKED else "none"), name
            binds = [mount for mount in container["Mounts"] if mount["Type"] == "bind"]
            writable = [mount["Source"] for mount in binds if mount["RW"]]
            out = str(contained.job.out)
            assert all(path == out or path.startswith(f"{out}/") for path in writable), name


def test_register_alone_had_the_key_that_signs(contained: Finished) -> None:
    has = {
        name: {variable.partition("=")[0] for variable in container["Config"]["Env"]}
        for name, found in contained.watch.seen.items()
        for container in found
    }
    assert [name for name, found in has.items() if "MODEL_PRIVATE_KEY" in found] == ["register"]
    assert "MODEL_PUBLIC_KEYS" in has["deploy"] & has["predictor"]
    # What serves is what it signed: deploy and predictor had the public key, and let nothing else in.
    assert [*contained.job.out.glob("home/endpoints/flights/versions/*/model.sig")]


def test_containers_are_as_right_as_processes(processes: Finished, contained: Finished) -> None:
    ours, theirs = contained.facts(), processes.facts()
    metrics, expected = ours.pop("metrics"), theirs.pop("metrics")
    accuracy, wanted = ours.pop("accuracy"), theirs.pop("accuracy")
    assert ours == theirs
    assert ours["verdict"] == "pass"
    assert metrics.keys() == expected.keys()
    for name, value in metrics.items():
        assert math.isclose(value, expected[name], abs_tol=1e-6), name
    assert math.isclose(accuracy, wanted, abs_tol=1e-6)


def test_the_predictor_serves_from_its_container_until_it_is_stopped(
    engine: docker.DockerClient, contained: Finished
) -> None:
    url = contained.summary["endpoint"]
    [predictor] = contained.watch.seen["predictor"]
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
    assert httpx.get(f"{url}/v2/models/flights").json()["versions"][-1] == "1"
    assert engine.containers.get(predictor["Id"]).status == "running"
    contained.job.stop()
    deadline = time.monotonic() + 30
    # Sparse: else each that is listed is inspected, and one that went in between is an error.
    while engine.containers.list(all=True, filters={"id": predictor["Id"]}, sparse=True):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/v2/health/ready")


def fail(
    job: Any, lock: Path | None = None, kill: str = ""
) -> tuple[subprocess.CompletedProcess[str], Watch]:
    """A run in containers that must not succeed."""
    more = {"SLIPWAY_IMAGES": str(lock)} if lock else {}
    with Watch(job.out, kill).watching() as watch:
        done = subprocess.run(
            job.command("--runner", "docker"),
            cwd=job.root,
            capture_output=True,
            text=True,
            env=settings(**more),
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # Where a run that failed before its verdict leaves a summary, that says so and names nothing made.
    summary = job.out / "summary.json"
    told = json.loads(summary.read_text()) if summary.exists() else {"error": done.stderr}
    assert told["error"]
    assert (told.get("verdict"), told.get("model"), told.get("endpoint")) == (None, None, None)
    return done, watch


def other_images(folder: Path, images: dict[str, str]) -> Path:
    """A lock with other images."""
    path = folder / "images.lock.yaml"
    path.write_text(yaml.safe_dump({"images": images}))
    return path


def test_a_stage_that_dies_at_once_fails_the_run_with_its_last_lines(
    make_job: Callable[..., Any], built_images: dict[str, str], tmp_path: Path
) -> None:
    base = built_images["ingest"].replace("/ingest:", "/base:")
    lock = other_images(tmp_path, {**built_images, "ingest": base})
    done, watch = fail(make_job(tmp_path / "run"), lock)
    assert "Stage ingest failed" in done.stderr
    assert "No module named" in done.stderr
    assert list(watch.seen) == ["base", "monitor"], "only the report at the end was started"


def test_a_stage_that_is_killed_fails_the_run(
    make_job: Callable[..., Any], built_images: dict[str, str], tmp_path: Path
) -> None:
    done, watch = fail(make_job(tmp_path / "run"), kill="validate")
    assert "Stage validate failed" in done.stderr
    assert "exit code 137" in done.stderr
    assert list(watch.seen) == ["ingest", "validate", "monitor"]


def test_a_missing_image_is_named_before_anything_runs(
    make_job: Callable[..., Any], built_images: dict[str, str], tmp_path: Path
) -> None:
    missing = {"train": "slipway/train:none", "predictor": "slipway/predictor:none"}
    done, watch = fail(
        make_job(tmp_path / "run"), other_images(tmp_path, {**built_images, **missing})
    )
    assert "not here: slipway/predictor:none, slipway/train:none" in " ".join(done.stderr.split())
    assert "make images" in done.stderr
    assert watch.seen == {}


def test_an_engine_that_does_not_answer_is_said(
    make_job: Callable[..., Any], tmp_path: Path
) -> None:
    job = make_job(tmp_path / "run")
    done = subprocess.run(
        job.command("--runner", "docker"),
        cwd=job.root,
        capture_output=True,
        text=True,
        env=settings(DOCKER_HOST=f"unix://{tmp_path}/none.sock"),
    )
    assert done.returncode == 1
    assert "No container engine answers" in done.stderr
    assert "make engine" in done.stderr
