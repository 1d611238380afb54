"""A stage that dies in any way fails the run, and says why."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import EVENT_PREFIX
from slipway.local.runner.containers import Containers
from slipway.local.runner.request import RunRequest


def make(folder: Path, pipeline: str = "none") -> Containers:
    return Containers(
        RunRequest(
            pipeline=pipeline, arguments={}, root=str(folder / "run" / "pipelines"), cache="none",
            runner="docker", environment={}, mounts=[], lock="none",
        )
    )  # fmt: skip


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return make(tmp_path)


def errors(output: str) -> list[str]:
    """Messages of the error events in what was printed."""
    events = [
        line.split(EVENT_PREFIX, 1)[1] for line in output.splitlines() if EVENT_PREFIX in line
    ]
    return [event["message"] for event in map(json.loads, events) if event["event"] == "error"]


def run(
    containers: Containers, engine: docker.DockerClient, image: str, script: str, **options: Any
) -> int:
    return containers.run(engine, image, ["/bin/sh", "-c", script], {}, **options)


@pytest.mark.slow
def test_a_container_that_fails_at_once_is_never_a_success(
    containers: Containers, engine: docker.DockerClient, tiny: str
) -> None:
    assert [run(containers, engine, tiny, "exit 1") for _ in range(50)] == [1] * 50


@dataclass(frozen=True)
class Case:
    name: str
    script: str
    code: int
    says: str
    options: dict[str, Any]


CASES = [
    Case(
        "last lines",
        "for i in 1 2 3; do echo line $i; done; exit 7",
        7,
        "exit code 7. Its last lines:\nline 1\nline 2\nline 3",
        {},
    ),
    Case("no output", "exit 3", 3, "exit code 3", {}),
    Case("out of memory", "tail /dev/zero", 137, "for lack of memory", {"mem_limit": "16m"}),
    Case("no such program", "/bin/nothing", 127, "exit code 127", {}),
    Case("bytes that are no text", "printf '\\377\\376 broken'; echo; exit 2", 2, "broken", {}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_how_a_stage_dies(
    case: Case,
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(containers, engine, tiny, case.script, **case.options) == case.code
    [message] = errors(capfd.readouterr().out)
    assert case.says in message


def test_a_container_that_is_killed_from_outside_fails_the_stage(
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def kill() -> None:
        engine.containers.get("slipway-test-kill").kill()

    threading.Timer(1.5, kill).start()
    script = "echo before; sleep 60"
    assert run(containers, engine, tiny, script, name="slipway-test-kill") == 137
    [message] = errors(capfd.readouterr().out)
    assert "137 (it was killed, most often for lack of memory). Its last lines:\nbefore" in message


def test_success_says_nothing_of_an_error(
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(containers, engine, tiny, "echo fine") == 0
    output = capfd.readouterr().out
    assert "fine" in output
    assert errors(output) == []


def test_a_stage_that_said_its_error_is_not_explained_again(
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    event = EVENT_PREFIX + json.dumps({"event": "error", "stage": "train", "message": "no rows"})
    assert run(containers, engine, tiny, f"echo '{event}'; exit 1") == 1
    assert errors(capfd.readouterr().out) == ["no rows"]


def test_no_container_is_left_behind(
    containers: Containers, engine: docker.DockerClient, tiny: str
) -> None:
    run(containers, engine, tiny, "exit 1")
    run(containers, engine, tiny, "exit 0")
    # Of this image: other tests' containers come and go beside these.
    assert engine.containers.list(all=True, filters={"ancestor": tiny}, sparse=True) == []


def test_a_missing_image_is_named(
    containers: Containers, engine: docker.DockerClient, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(containers, engine, "slipway-test/never-built:1", "exit 0") == 1
    assert errors(capfd.readouterr().out) == [
        "The image slipway-test/never-built:1 is not here. Run `make images`."
    ]


def test_images_that_others_remove_meanwhile_disturb_no_check(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("x:\n  image: slipway-test/never-built:1\n")
    containers = make(tmp_path, str(pipeline))
    ended = threading.Event()

    def come_and_go() -> None:
        client = docker.from_env()
        while not ended.is_set():
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w") as tar:
                member = tarfile.TarInfo(str(time.monotonic_ns()))
                tar.addfile(member, io.BytesIO())
            client.api.import_image_from_data(
                archive.getvalue(), repository="slipway-test/passing", tag="1"
            )
            client.images.remove("slipway-test/passing:1")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(100):
            with pytest.raises(SlipwayError, match="These images are not here: slipway-test/never"):
                containers.check()
    finally:
        ended.set()
        thread.join()


def test_a_program_that_the_image_lacks_is_an_error(
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert containers.run(engine, tiny, ["/no/such/program"], {}) == 1
    assert "/no/such/program" in errors(capfd.readouterr().out)[0]


@contextlib.contextmanager
def relay(target: str, folder: Path) -> Iterator[tuple[str, threading.Event]]:
    """A socket in front of the engine's; the event cuts every connection, as a dying daemon does."""
    path, cut = folder / "engine.sock", threading.Event()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    open_sockets: list[socket.socket] = [server]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(target)
                open_sockets.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    def watch() -> None:
        cut.wait()
        path.unlink(missing_ok=True)
        for opened in open_sockets:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    for work in (accept, watch):
        threading.Thread(target=work, daemon=True).start()
    try:
        yield f"unix://{path}", cut
    finally:
        cut.set()


def test_an_engine_that_dies_in_the_middle_fails_the_stage(
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        pytest.skip("needs an engine on a Unix socket")
    with relay(host.removeprefix("unix://"), tmp_path) as (url, cut):
        client = docker.DockerClient(base_url=url)
        threading.Timer(2.0, cut.set).start()
        assert run(containers, client, tiny, "echo working; sleep 60", name="slipway-test-cut") != 0
    [message] = errors(capfd.readouterr().out)
    assert "does not answer" in message or "last lines" in message
    engine.containers.get("slipway-test-cut").remove(force=True)


def test_a_stage_is_hardened(
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    containers._stages[tiny] = "train"  # a stage that needs no network
    script = """
    while read name value rest; do
        case $name in Uid:|CapEff:|CapBnd:|NoNewPrivs:) echo $name $value;; esac
    done < /proc/self/status
    echo x > /file || echo root is read-only
    echo x > /tmp/file && echo tmp is writable
    while read line; do case $line in *:*) echo device ${line%%:*};; esac; done < /proc/net/dev
    """
    assert run(containers, engine, tiny, script) == 0
    said = [line.strip() for line in capfd.readouterr().out.splitlines()]
    user = os.getuid() or 10001
    assert f"Uid: {user}" in said
    assert {"CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1"} <= {*said}
    assert {"root is read-only", "tmp is writable"} <= {*said}
    assert [line for line in said if line.startswith("device")] == ["device lo"]


@pytest.mark.parametrize(("stage", "signs"), [("register", True), ("train", False), ("", False)])
def test_only_register_gets_the_key_that_signs(
    stage: str,
    signs: bool,
    containers: Containers,
    engine: docker.DockerClient,
    tiny: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No name: the image of somebody's own stage."""
    containers._stages[tiny] = stage
    keys = {"MODEL_PRIVATE_KEY": "k", "MODEL_PRIVATE_KEY_PASSWORD": "p", "MODEL_PUBLIC_KEYS": "v"}
    script = 'echo "has:$MODEL_PRIVATE_KEY$MODEL_PRIVATE_KEY_PASSWORD$MODEL_PUBLIC_KEYS"'
    assert run(containers, engine, tiny, script, environment=keys) == 0
    assert ("has:kpv" if signs else "has:v") in capfd.readouterr().out.splitlines()


def test_terminating_a_run_ends_its_container(
    engine: docker.DockerClient, tiny: str, tmp_path: Path
) -> None:
    program = f"""
import docker
from slipway.local.runner.containers import Containers
from slipway.local.runner.request import RunRequest
root = {str(tmp_path / "run" / "pipelines")!r}
c = Containers(RunRequest(pipeline="none", arguments={{}}, root=root, cache="none", runner="docker",
    environment={{}}, mounts=[], lock="none"))
c.install()
c.run(docker.from_env(), {tiny!r}, ["/bin/sh", "-c", "echo up; sleep 60"], {{}}, name="slipway-test-term")
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "up"
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=30) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while engine.containers.list(all=True, filters={"name": "slipway-test-term"}, sparse=True):
        assert time.monotonic() < deadline
        time.sleep(0.2)
