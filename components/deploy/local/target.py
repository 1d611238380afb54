"""Target `local`: the predictor as a supervised process on this machine's loopback.

State below SLIPWAY_HOME/endpoints/<project>/: state.json (pids, port, versions), supervisor.log,
predictor.log, versions/<hash>/ (the bundles), spool/ (of the inference log).
"""

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.bundle import bundle_hash
from slipway.components.contracts.release import Release
from slipway.components.deploy.golden import Golden, ask
from slipway.components.deploy.kserve.canary import observe
from slipway.components.deploy.local.supervisor import LOCK, OUTPUT, STATE, control_path
from slipway.components.deploy.rollout import judge_answers, observe_rollout
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.retry import wait_until
from slipway.components.support.stage import progress

HOST = "127.0.0.1"
_READY_SECONDS = 60.0
_LOG_ROLL_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEndpoint:
    """What runs for one project: `state` is running, orphaned (no supervisor) or stopped."""

    project: str
    state: str
    url: str
    model_version: str
    pid: int
    restarts: int

    @property
    def headline(self) -> str:
        """What `slipway stop` and `slipway status` say of it."""
        if self.state == "stopped":
            return f"{self.project}: not running"
        return f"{self.project}: version {self.model_version} at {self.url}, {self.state}"


def roll_out(
    *,
    folder: Path,
    release: Release,
    golden: Golden,
    project: str,
    config: DeploymentConfig,
) -> str:
    """Starts the new model beside the old one, asks it, and only then lets it take the port.

    Args:
        folder: the downloaded bundle.
        release: the registered version.
        golden: rows to ask.
        project: the served model's name.
        config: the `deployment` section.

    Returns:
        The endpoint's base URL, the same for every version.

    Raises:
        SlipwayError: the new model does not start, answers wrongly or is too slow (the old one
            keeps serving), or the port belongs to another program.
    """
    home = endpoint_folder(environment.home().absolute(), project)
    home.mkdir(parents=True, exist_ok=True)
    _end_orphan(home)
    _ensure_supervisor(home, project, config.port)
    model = _keep_bundle(home, folder, release.model_hash)
    url = f"http://{HOST}:{config.port}"
    member = _member(home, model, release, project, config)
    stable = _call(home, "status").get("stable")
    if stable and {**stable, **member, "environment": None} == {**stable, "environment": None}:
        ask(golden, url, project, release.model_version)
        return url
    try:
        candidate = _call(home, "start", **member)["candidate"]
        _wait_ready(home, candidate["private_url"])
        judge_answers(ask(golden, candidate["private_url"], project, release.model_version), config)
        if stable:
            _share(home, candidate, stable, golden, project, config)
        _call(home, "promote")
    except (SlipwayError, OSError, KeyboardInterrupt):
        with contextlib.suppress(SlipwayError):
            _call(home, "discard")
        raise
    ask(golden, url, project, release.model_version)
    _forget_bundles(home, keep={model, Path(stable["bundle"])} if stable else {model})
    return url


def _share(
    home: Path,
    candidate: dict[str, Any],
    stable: dict[str, Any],
    golden: Golden,
    project: str,
    config: DeploymentConfig,
) -> None:
    """The observation window: both predictors accept on the port, and the kernel shares between them."""
    seconds, version = config.canary.local_window.total_seconds(), candidate["model_version"]
    if not seconds:
        return
    progress(f"version {version} answers beside {stable['model_version']} for {seconds:.0f} s")
    _call(home, "join")
    observe_rollout(
        version=version,
        seconds=seconds,
        new=lambda: observe([candidate["private_url"]]),
        stable=lambda: observe([url] if (url := stable["private_url"]) else []),
        ask=lambda: ask(golden, candidate["private_url"], project, version),
        config=config.canary,
    )


def require_port(home: Path, project: str, port: int) -> None:
    """Asks, before anything is trained, whether the endpoint can have its port.

    Args:
        home: SLIPWAY_HOME.
        project: whose endpoint; its own predictor may hold the port already.
        port: the loopback port.

    Raises:
        SlipwayError: another program has it.
    """
    folder = endpoint_folder(home.absolute(), project)
    own = _describe(folder)
    if own.state == "stopped" or not own.url.endswith(f":{port}"):
        _bind(folder, port).close()


def status(home: Path) -> list[LocalEndpoint]:
    """The local endpoints below a SLIPWAY_HOME, those that were stopped too."""
    return [_describe(folder) for folder in sorted((home / "endpoints").glob("*/"))]


def stop(home: Path, project: str | None = None) -> list[str]:
    """Ends the local endpoint of a project, or of all; requests in flight are answered first.

    Returns:
        One line an endpoint: what was done.
    """
    lines = []
    for folder in sorted((home / "endpoints").glob("*/")):
        if project is not None and folder.name != project:
            continue
        before = _describe(folder)
        if before.state == "running":
            _call(folder, "stop")
            wait_until(partial(_is_unsupervised, folder), timeout=60)
        elif before.state == "orphaned":
            _end_orphan(folder)
        if before.state == "stopped":
            lines.append(f"{folder.name}: was not running")
        else:
            lines.append(
                f"{folder.name}: stopped version {before.model_version} (pid {before.pid}) at"
                f" {before.url}"
            )
    return lines or [f"{project or home}: no local endpoint was ever started"]


def endpoint_folder(home: Path, project: str) -> Path:
    """Where one project's local endpoint keeps its state."""
    return home / "endpoints" / project


def _member(
    home: Path, model: Path, release: Release, project: str, config: DeploymentConfig
) -> dict[str, Any]:
    """What the supervisor is asked to start."""
    trusted = config.trust_request_time or os.environ.get("SLIPWAY_TRUST_REQUEST_TIME") == "1"
    return {
        "model_version": release.model_version,
        "model_hash": release.model_hash,
        "bundle": str(model),
        "arguments": [
            f"--model-dir={model}",
            f"--model-name={project}",
            f"--model-version={release.model_version}",
            f"--log-uri={_absolute(environment.inference_log_uri())}",
            f"--log-spool={home / 'spool'}",
            f"--log-roll-seconds={_LOG_ROLL_SECONDS}",
            f"--log-sample={config.log_sample}",
            "--trust-request-time" if trusted else "--no-trust-request-time",
            # On one machine there is nothing to split: the predictor looks features up itself.
            *([f"--feature-project={project}", "--online"] if config.online != "none" else []),
        ],
        "environment": _environment(),
    }


def _absolute(uri: str) -> str:
    """A folder as the predictor finds it, which does not run in this process's folder."""
    return uri if "://" in uri else str(Path(uri).absolute())


def _environment() -> dict[str, str]:
    """The predictor's: this process's, with one thread a library."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _ensure_supervisor(home: Path, project: str, port: int) -> None:
    """Starts the supervisor on the port, or ends one that holds another port."""
    supervised = _is_supervised(home)
    if supervised and _call(home, "status")["port"] == port:
        return
    # The new port first: where it cannot be had, the endpoint on the old one keeps serving.
    public = _bind(home, port)
    if supervised:
        stop(home.parent.parent, project)
    # The state of an earlier supervisor says nothing about this one.
    (home / STATE).unlink(missing_ok=True)
    with public, (home / "supervisor.log").open("ab") as sink:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "slipway.components.deploy.local.supervisor",
                str(home),
                str(public.fileno()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=_environment(),
            cwd="/",
            pass_fds=[public.fileno()],
            start_new_session=True,
        )
        if not wait_until(
            lambda: process.poll() is not None or (home / STATE).exists(), timeout=_READY_SECONDS
        ):
            process.kill()
    if process.poll() is not None or not _is_supervised(home):
        raise SlipwayError(
            f"The supervisor of the local endpoint did not start: {_tail(home / 'supervisor.log')}"
        )


def _bind(home: Path, port: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        holder = _holder(home, port)
        raise SlipwayError(
            f"Port {port} on {HOST} cannot be used for the local endpoint: {error.strerror}{holder}."
            " Stop that program, or set deployment.port in project.yaml"
            " (or --set deployment.port=8081)."
        ) from error
    return sock


def _holder(home: Path, port: int) -> str:
    """Who listens on the port, as far as this user may see."""
    for other in status(home.parent.parent):
        if other.state != "stopped" and other.url.endswith(f":{port}"):
            return f" (the local endpoint of project {other.project} has it)"
    inode = next(
        (
            fields[9]
            for line in _lines(Path("/proc/net/tcp")) + _lines(Path("/proc/net/tcp6"))
            if len(fields := line.split()) > 9
            and fields[3] == "0A"
            and fields[1].endswith(f":{port:04X}")
        ),
        None,
    )
    if inode is None:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    return f" (process {process.name} has it: {command.decode()[:80].strip()})"
    return " (a process of another user has it)"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _wait_ready(home: Path, url: str) -> None:
    import httpx

    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200:
                return
        # The supervisor says whether it lives: its processes may be in another container.
        candidate = json.loads((home / STATE).read_text())["candidate"]
        if not candidate or not candidate["pid"]:
            break
        time.sleep(0.05)
    raise SlipwayError(
        f"The new predictor did not become ready within {_READY_SECONDS:.0f} s; the old one, if any,"
        f" keeps serving. Its last words: {_tail(home / OUTPUT)}"
    )


def _has_ended(member: dict[str, Any] | None) -> bool:
    return not _alive(member)


def _alive(member: dict[str, Any] | None) -> bool:
    """Whether the member's process runs and is a predictor of ours (a pid is used again)."""
    if not member or not member["pid"]:
        return False
    try:
        os.kill(member["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    command = Path(f"/proc/{member['pid']}/cmdline")
    try:
        return member["bundle"].encode() in command.read_bytes()
    except OSError:
        return not Path("/proc/self").exists()


def _is_unsupervised(folder: Path) -> bool:
    return not _is_supervised(folder)


def _is_supervised(folder: Path) -> bool:
    """Whether a living supervisor holds the folder's lock; a stale pid file does not count."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return (folder / STATE).exists()
    return False


def _describe(folder: Path) -> LocalEndpoint:
    try:
        state = json.loads((folder / STATE).read_text())
        stable = state["stable"] or {}
        url = f"http://{state['host']}:{state['port']}"
    except (OSError, ValueError, KeyError):
        state, stable, url = {}, {}, ""
    if _is_supervised(folder):
        condition = "running"
    elif _alive(stable):
        condition = "orphaned"
    else:
        condition = "stopped"
    return LocalEndpoint(
        project=folder.name,
        state=condition,
        url=url,
        model_version=stable.get("model_version", "none"),
        pid=stable.get("pid", 0),
        restarts=stable.get("restarts", 0),
    )


def _end_orphan(folder: Path) -> None:
    """Ends predictors whose supervisor was killed: nobody could restart or replace them."""
    if _is_supervised(folder):
        return
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return
    for member in (state.get("stable"), state.get("candidate")):
        if _alive(member):
            os.kill(member["pid"], signal.SIGTERM)
            if not wait_until(partial(_has_ended, member), timeout=40):
                os.kill(member["pid"], signal.SIGKILL)


def _call(folder: Path, do: str, **request: Any) -> dict[str, Any]:
    """Asks the supervisor one thing."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(90)
            sock.connect(str(control_path(folder)))
            sock.sendall(json.dumps({"do": do, **request}).encode() + b"\n")
            with sock.makefile("rb") as file:
                answer: dict[str, Any] = json.loads(file.readline())
    except (OSError, ValueError) as error:
        home = shlex.quote(str(folder.parent.parent))
        raise SlipwayError(
            f"The supervisor of the local endpoint in {folder} does not answer ({error})."
            f" Its log is {folder / 'supervisor.log'}; `SLIPWAY_HOME={home} slipway stop` ends it."
        ) from error
    if "error" in answer:
        raise SlipwayError(
            f"The local endpoint cannot {do}: {answer['error']}. {_tail(folder / OUTPUT)}"
        )
    return answer


def _keep_bundle(home: Path, folder: Path, model_hash: str) -> Path:
    target = home / "versions" / model_hash[:16]
    if not target.is_dir() or bundle_hash(target) != model_hash:
        with new_directory(target) as scratch:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
    return target


def _forget_bundles(home: Path, keep: set[Path]) -> None:
    """Removes bundles that neither serve nor would be the first to roll back to."""
    for folder in (home / "versions").iterdir():
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _tail(path: Path, lines: int = 5) -> str:
    text = " | ".join(_lines(path)[-lines:])
    return text[-600:] or f"{path} is empty"
