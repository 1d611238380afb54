"""Target `local`: the predictor as a supervised process on this machine's loopback.

State below SLIPWAY_HOME/endpoints/<project>/: state.json (pids, port, versions), supervisor.log,
predictor.log, versions/<hash>/ (the bundles), spool/ (of the inference log).
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.bundle import SIGNATURE, bundle_hash
from slipway.components.contracts.endpoint import (
    LOG,
    OUTPUT,
    STATE,
    PredictorState,
    ask_supervisor,
    endpoint_folder,
    is_supervised,
    last_lines,
    lasting_temporary,
    read_state,
)
from slipway.components.contracts.monitoring.inference_log import LOCAL_ROLL_SECONDS
from slipway.components.contracts.release import Release
from slipway.components.contracts.signing.policy import Vouched
from slipway.components.deploy.golden import Golden, ask
from slipway.components.deploy.kserve.canary import observe
from slipway.components.deploy.rollout import judge_answers, observe_rollout
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory, write_json
from slipway.components.support.retry import wait_until
from slipway.components.support.stage import progress

HOST = "127.0.0.1"
_READY_SECONDS = 60.0
_ROLLOUT_SECONDS = 600.0


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
        """What `slipway start` and `slipway status` say of it."""
        if self.state == "stopped":
            last = (
                ""
                if self.model_version == "none"
                else f"; version {self.model_version} served last"
            )
            return f"{self.project}: not running{last}"
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
    stable = ask_supervisor(home, "status").get("stable")
    if stable and {**stable, **member, "environment": None} == {**stable, "environment": None}:
        ask(golden, url, project, release.model_version)
        return url
    try:
        candidate = ask_supervisor(home, "start", **member)["candidate"]
        assert candidate is not None  # noqa: S101 - it was started
        _wait_ready(home, candidate["private_url"])
        judge_answers(ask(golden, candidate["private_url"], project, release.model_version), config)
        if stable:
            _share(home, candidate, stable, golden, project, config)
        ask_supervisor(home, "promote")
    except (SlipwayError, OSError, KeyboardInterrupt):
        with contextlib.suppress(SlipwayError):
            ask_supervisor(home, "discard")
        raise
    ask(golden, url, project, release.model_version)
    _forget_bundles(home, keep={model, Path(stable["bundle"])} if stable else {model})
    return url


def _share(
    home: Path,
    candidate: PredictorState,
    stable: PredictorState,
    golden: Golden,
    project: str,
    config: DeploymentConfig,
) -> None:
    """The observation window: both predictors accept on the port, and the kernel shares between them."""
    seconds, version = config.canary.local_window.total_seconds(), candidate["model_version"]
    if not seconds:
        return
    progress(f"version {version} answers beside {stable['model_version']} for {seconds:.0f} s")
    ask_supervisor(home, "join")
    observe_rollout(
        version=version,
        seconds=seconds,
        new=lambda: observe([candidate["private_url"]]),
        stable=lambda: observe([url] if (url := stable["private_url"]) else []),
        ask=lambda: ask(golden, candidate["private_url"], project, version),
        config=config.canary,
    )


@contextlib.contextmanager
def alone_at(home: Path, project: str) -> Iterator[None]:
    """Keeps other rollouts to an endpoint out, up to `champion`: they would end each other's candidate.

    Args:
        home: SLIPWAY_HOME.
        project: whose endpoint.

    Raises:
        SlipwayError: another one is at work, and goes on.
    """
    folder = endpoint_folder(home.absolute(), project)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rollout.lock").open("ab") as lock:

        def take() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not wait_until(take, timeout=_ROLLOUT_SECONDS):
            raise SlipwayError(
                f"Another version of {project} is being rolled out since {_ROLLOUT_SECONDS:.0f} s. Run"
                " this again when it is done; `slipway status` says what serves."
            )
        yield


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


def served_port(home: Path, project: str) -> int | None:
    """The port on which a project's endpoint serves now; None: it does not."""
    folder = endpoint_folder(home.absolute(), project)
    if _describe(folder).state == "stopped":
        return None
    return read_state(folder).get("port")


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
            ask_supervisor(folder, "stop")
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
    of = f" of {project}" if project else ""
    return lines or [f"Nothing to stop: no endpoint{of} was ever started below {home}."]


def start(home: Path, project: str | None = None) -> list[LocalEndpoint]:
    """Lets the endpoint of a project, or each that does not run, serve again what it served last.

    It takes neither the registry nor the project file: the endpoint's folder holds the bundle, which is
    checked, and how it was started. A predictor that lost its supervisor ends first.

    Returns:
        What runs now.

    Raises:
        SlipwayError: nothing served here, its bundle is gone or changed, or it does not start.
    """
    found = [f for f in sorted((home / "endpoints").glob("*/")) if project in (None, f.name)]
    of = f" of {project}" if project else ""
    if not found:
        raise SlipwayError(
            f"No endpoint{of} was ever started below {home}: `slipway run` starts one."
        )
    for folder in found:
        with alone_at(home, folder.name):
            if _describe(folder).state != "running":
                _start_again(folder)
    return [_describe(folder) for folder in found]


def _start_again(folder: Path) -> None:
    state = read_state(folder)
    stable, name = state.get("stable"), folder.name
    if not stable:
        raise SlipwayError(
            f"{name}: nothing says which version served last. `slipway rollback VERSION` serves one that"
            " is registered, and `slipway run` makes one."
        )
    bundle = Path(stable["bundle"])
    if not bundle.is_dir() or bundle_hash(bundle) != stable["model_hash"]:
        raise SlipwayError(
            f"{name}: the model of version {stable['model_version']} in {bundle} is gone, or was changed."
            f" `slipway rollback {stable['model_version']}` takes it from the registry."
        )
    _end_orphan(folder)
    _ensure_supervisor(folder, name, state["port"])
    keys = ("model_version", "model_hash", "bundle", "arguments")
    member = {key: value for key, value in stable.items() if key in keys}
    try:
        candidate = ask_supervisor(folder, "start", **member, environment=_environment())[
            "candidate"
        ]
        assert candidate is not None  # noqa: S101 - it was started
        _wait_ready(folder, candidate["private_url"])
        ask_supervisor(folder, "promote")
    except (SlipwayError, OSError, KeyboardInterrupt):
        stop(folder.parent.parent, name)
        write_json(folder / STATE, state)  # the next try knows it too
        raise


def _member(
    home: Path, model: Path, release: Release, project: str, config: DeploymentConfig
) -> dict[str, object]:
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
            f"--log-roll-seconds={LOCAL_ROLL_SECONDS}",
            f"--log-sample={config.log_sample}",
            "--trust-request-time" if trusted else "--no-trust-request-time",
            *Vouched.flags(model, release.model_hash),
            # On one machine there is nothing to split: the predictor looks features up itself.
            *(_online(project, config) if config.online != "none" else []),
        ],
        "environment": _environment(),
    }


def _online(project: str, config: DeploymentConfig) -> list[str]:
    flags = [f"--{n.replace('_', '-')}={v}" for n, v in config.online_flags().items()]
    return [f"--feature-project={project}", "--online", *flags]


def _absolute(uri: str) -> str:
    """A folder as the predictor finds it, which does not run in this process's folder."""
    return uri if "://" in uri else str(Path(uri).absolute())


def _environment() -> dict[str, str]:
    """The predictor's: this process's, with one thread a library."""
    own = environment.without_signers(os.environ)
    for name in environment.TRUST:
        value = own.get(name, "").strip()
        # A file's name, as it was given here: the predictor runs in another folder.
        if value and not any(mark in value for mark in ("\n", "://", "-----", "{")):
            own[name] = str(Path(value).absolute())
    # It outlives the run, whose temporary folder goes with it.
    return {**own, "OMP_NUM_THREADS": "1", "TMPDIR": lasting_temporary()}


def _ensure_supervisor(home: Path, project: str, port: int) -> None:
    """Starts the supervisor on the port, or ends one that holds another port."""
    supervised = is_supervised(home)
    if supervised and ask_supervisor(home, "status")["port"] == port:
        return
    supervisor = _supervisor_module(port)
    # The new port first: where it cannot be had, the endpoint on the old one keeps serving.
    public = _bind(home, port)
    if supervised:
        stop(home.parent.parent, project)
    # The state of an earlier supervisor says nothing about this one.
    (home / STATE).unlink(missing_ok=True)
    with public, (home / LOG).open("ab") as sink:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                supervisor,
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
    if process.poll() is not None or not is_supervised(home):
        raise SlipwayError(
            f"The supervisor of the local endpoint did not start: {last_lines(home / LOG)}"
        )


def _supervisor_module(port: int) -> str:
    """The module that is started as the supervisor: it is the predictor's, which a stage's image lacks.

    Raises:
        SlipwayError: it is not installed here.
    """
    try:
        from slipway.serving import supervisor
    except ModuleNotFoundError as error:
        raise SlipwayError(
            f"This environment has no predictor to start on port {port}. Where one runs in a container"
            " on another port, end it with `slipway stop`, then run again."
        ) from error
    return supervisor.__name__


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

    ready = False

    def is_over() -> bool:
        nonlocal ready
        with contextlib.suppress(httpx.TransportError):
            ready = httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
        # The supervisor says whether it lives: its processes may be in another container.
        candidate = read_state(home).get("candidate")
        return ready or not candidate or not candidate["pid"]

    wait_until(is_over, timeout=_READY_SECONDS)
    if ready:
        return
    raise SlipwayError(
        f"The new predictor did not become ready within {_READY_SECONDS:.0f} s; the old one, if any,"
        f" keeps serving. Its last words: {last_lines(home / OUTPUT)}"
    )


def _has_ended(member: PredictorState | None) -> bool:
    return not _alive(member)


def _alive(member: PredictorState | None) -> bool:
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
    return not is_supervised(folder)


def _describe(folder: Path) -> LocalEndpoint:
    state = read_state(folder)
    stable = state.get("stable")
    url = f"http://{state['host']}:{state['port']}" if {"host", "port"} <= state.keys() else ""
    if is_supervised(folder):
        condition = "running"
    elif _alive(stable):
        condition = "orphaned"
    else:
        condition = "stopped"
    return LocalEndpoint(
        project=folder.name,
        state=condition,
        url=url,
        model_version=stable.get("model_version", "none") if stable else "none",
        pid=stable.get("pid", 0) if stable else 0,
        restarts=stable.get("restarts", 0) if stable else 0,
    )


def _end_orphan(folder: Path) -> None:
    """Ends predictors whose supervisor was killed: nobody could restart or replace them."""
    if is_supervised(folder):
        return
    state = read_state(folder)
    for member in (state.get("stable"), state.get("candidate")):
        if member and _alive(member):
            os.kill(member["pid"], signal.SIGTERM)
            if not wait_until(partial(_has_ended, member), timeout=40):
                os.kill(member["pid"], signal.SIGKILL)


def _keep_bundle(home: Path, folder: Path, model_hash: str) -> Path:
    target = home / "versions" / model_hash[:16]
    is_kept = target.is_dir() and bundle_hash(target) == model_hash
    if not (is_kept and _signature(target) == _signature(folder)):
        with new_directory(target) as scratch:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
    return target


def _signature(folder: Path) -> bytes:
    """A bundle's signature, which is no part of its hash: another key may have signed it since."""
    file = folder / SIGNATURE
    return file.read_bytes() if file.is_file() else b""


def _forget_bundles(home: Path, keep: set[Path]) -> None:
    """Removes bundles that neither serve nor would be the first to roll back to."""
    for folder in (home / "versions").iterdir():
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)
