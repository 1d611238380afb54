"""The supervisor in a container of its own: it listens itself, and what it says goes to a file."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.components.contracts.endpoint import (
    LOG,
    ask_supervisor,
    control_path,
    is_supervised,
    last_lines,
    read_state,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until
from slipway.serving import supervisor

# What the predictor's image does not have.
ABSENT = ("torch", "mlflow", "kfp", "pandas", "pydantic", "slipway.components.deploy")
START = (
    f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r}));"
    f"runpy.run_module({supervisor.__name__!r}, run_name='__main__', alter_sys=True)"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", START, str(folder), "--port", str(port)],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )


def test_it_listens_on_a_port_and_answers_in_its_folder(tmp_path: Path) -> None:
    port = free_port()
    with start(tmp_path, port) as process:
        try:
            assert wait_until(lambda: bool(read_state(tmp_path)), timeout=30)
            assert is_supervised(tmp_path)
            state = ask_supervisor(tmp_path, "status")
            assert (state["port"], state["pid"], state["stable"]) == (port, process.pid, None)
            with pytest.raises(SlipwayError, match=r"cannot promote: .* no living candidate"):
                ask_supervisor(tmp_path, "promote")
            ask_supervisor(tmp_path, "stop")
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not is_supervised(tmp_path)
    with pytest.raises(SlipwayError, match=r"does not answer .*slipway stop"):
        ask_supervisor(tmp_path, "status")


@pytest.mark.parametrize("length", [10, 70_000, 1_000_000])
def test_an_environment_of_any_length_reaches_the_predictor(tmp_path: Path, length: int) -> None:
    """Kubernetes and CI systems hand on many variables: 64 KiB in all are soon there."""
    values = {
        f"LONG_{number}": "x" * min(length, 100_000) for number in range(length // 100_000 + 1)
    }
    member = {
        "model_version": "1",
        "model_hash": "0" * 64,
        "bundle": str(tmp_path),
        "arguments": ["--help"],
        "environment": {**os.environ, **values},
    }
    with start(tmp_path, free_port()) as process:
        try:
            assert wait_until(lambda: bool(read_state(tmp_path)), timeout=30)
            state = ask_supervisor(tmp_path, "start", **member)
            assert state["candidate"]["model_version"] == "1"
            assert wait_until(lambda: read_state(tmp_path)["candidate"]["pid"] == 0, timeout=30)
            assert "ended with 0" in read_state(tmp_path)["notes"][-1]
            ask_supervisor(tmp_path, "stop")
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_why_it_did_not_start_is_in_its_log(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        start(tmp_path, other.getsockname()[1]) as process,
    ):
        assert process.wait(30) != 0
    assert "Address already in use" in last_lines(tmp_path / LOG)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_state_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path) == {}


def test_a_long_folder_has_its_control_socket_elsewhere() -> None:
    assert control_path(Path("/short")) == Path("/short/control.sock")
    assert len(os.fsencode(control_path(Path("/" + "x" * 200)))) < 108
