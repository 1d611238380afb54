"""Deploy, supervisor and predictor, ended at seeded moments while clients ask without a pause."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support import deploy_world
from support.deploy_world import champion
from support.fault_points import FULL, SCALE, SEED, Start, count, undisturbed
from support.fault_stages import deploy_flights
from support.serving_bundles import flight_tensors, free_port

from slipway.components.contracts.endpoint import endpoint_folder, read_state
from slipway.components.contracts.release import Deployment
from slipway.components.deploy.local import target as local
from slipway.components.support.retry import wait_until

VERSIONS = 9


@dataclass
class Site:
    """A project whose version 1 serves."""

    root: Path
    port: int
    environment: dict[str, str]

    @property
    def folder(self) -> Path:
        return endpoint_folder(self.root / "home", "flights")

    def given(self, version: int) -> str:
        return f"{version} {self.port}"

    def answers(self) -> str:
        """The version that answers; empty: none."""
        with suppress(httpx.HTTPError, KeyError, ValueError):
            found = httpx.get(f"http://127.0.0.1:{self.port}/v2/models/flights", timeout=5)
            return str(found.json()["versions"][0])
        return ""

    def check_one_serves(self, version: int) -> None:
        """One endpoint, one predictor, the alias on what it serves, and nothing else left at work."""
        assert self.answers() == str(version) == champion()
        (endpoint,) = local.status(self.root / "home")
        assert (endpoint.state, endpoint.model_version) == ("running", str(version))
        assert read_state(self.folder)["candidate"] is None
        record = Deployment.read(self.root / "deployment.json")
        assert record.model_version == str(version)
        predictors = [pid for pid in _processes(self.root) if "--log-roll-seconds" in _line(pid)]
        assert len(predictors) == 1, [_line(pid) for pid in predictors]


class Clients:
    """One client that asks rows without a pause, and notes what is no answer."""

    def __init__(self, port: int) -> None:
        self.sent, self.failed = 0, list[str]()
        self._url = f"http://127.0.0.1:{port}/v2/models/flights/infer"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Clients":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        body = {"inputs": flight_tensors(1)}
        while not self._ended.is_set():
            self.sent += 1
            try:
                answer = httpx.post(self._url, json=body, timeout=20)
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
            time.sleep(0.02)


def _line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def _processes(root: Path) -> list[int]:
    """Living processes that name the site's folder."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if str(root) in _line(pid)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    return deploy_world.make_registry(tmp_path_factory.mktemp("flights"))


@pytest.fixture
def site(
    registry: str, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    folder = tmp_path / "site"
    deploy_world.make_splits(folder / "splits")
    environment = {
        "MLFLOW_TRACKING_URI": registry,
        "SLIPWAY_HOME": str(folder / "home"),
        "INFERENCE_LOG_URI": str(folder / "log"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    site = Site(folder, free_port(), environment)
    undisturbed(start, deploy_flights, folder, site.given(1), environment)
    yield site
    local.stop(folder / "home")
    assert wait_until(lambda: _processes(folder) == [], timeout=30), "something is left at work"


@pytest.mark.parametrize("sign", [signal.SIGKILL, *([signal.SIGTERM] if FULL else [])])
def test_deploy_is_ended_while_clients_ask(sign: signal.Signals, start: Start, site: Site) -> None:
    chance, tally = random.Random(SEED + sign), count("deploy", sign.name)
    seconds = undisturbed(start, deploy_flights, site.root, site.given(2), site.environment)
    serving = 2
    for number in range((SCALE + 1) // 2):
        version = (number + 2) % VERSIONS + 1
        with Clients(site.port) as clients:
            process = start(deploy_flights, site.root, site.given(version), site.environment)
            process.join(chance.uniform(0, seconds))
            if process.is_alive():
                os.kill(process.pid or 0, sign)
            process.join(60)
            assert champion() in (str(serving), str(version))
            now = "new" if site.answers() == str(version) else "old"
            undisturbed(start, deploy_flights, site.root, site.given(version), site.environment)
        assert clients.failed == [] and clients.sent > 3
        site.check_one_serves(version)
        tally.outcomes[f"the {now} version served, no request failed"] += 1
        serving = version


def test_two_deploys_at_one_time(start: Start, site: Site, tmp_path: Path) -> None:
    chance, tally = random.Random(SEED), count("deploy", "two versions at one time")
    for number in range((SCALE + 1) // 2):
        versions = (2 * number % VERSIONS + 1, (2 * number + 1) % VERSIONS + 1)
        with Clients(site.port) as clients:
            given = [(site.root, site.given(version), site.environment) for version in versions]
            first = start(deploy_flights, *given[0])
            first.join(chance.uniform(0, 0.3))
            second = start(deploy_flights, *given[1])
            for process in (first, second):
                process.join(120)
            assert (first.exitcode, second.exitcode) == (0, 0), (tmp_path / "output").read_text()
        assert clients.failed == [] and clients.sent > 3
        site.check_one_serves(int(site.answers()))
        tally.outcomes["one after the other; the later one serves and is champion"] += 1


@pytest.mark.parametrize("sign", [signal.SIGKILL, *([signal.SIGTERM] if FULL else [])])
def test_the_predictor_is_ended_and_comes_back(
    sign: signal.Signals, start: Start, site: Site
) -> None:
    chance, tally = random.Random(SEED + sign), count("predictor", sign.name)
    for _ in range((SCALE + 1) // 2):
        with Clients(site.port) as clients:
            time.sleep(chance.uniform(0, 1))
            before = read_state(site.folder)["stable"]["pid"]
            os.kill(before, sign)
            came_back = wait_until(
                lambda before=before: (
                    read_state(site.folder)["stable"]["pid"] not in (before, 0)
                    and site.answers() == "1"
                ),
                timeout=60,
            )
            assert came_back
            failed = len(clients.failed)
            time.sleep(0.5)
            assert len(clients.failed) <= failed + 1, "it serves again"
        site.check_one_serves(1)
        tally.outcomes["the supervisor started another, which served the same version"] += 1


@pytest.mark.parametrize("sign", [signal.SIGKILL, *([signal.SIGTERM] if FULL else [])])
def test_the_supervisor_is_ended_and_the_next_deploy_serves_again(
    sign: signal.Signals, start: Start, site: Site
) -> None:
    chance, tally = random.Random(SEED + sign), count("supervisor", sign.name)
    for number in range((SCALE + 1) // 2):
        time.sleep(chance.uniform(0, 1))
        os.kill(read_state(site.folder)["pid"], sign)
        time.sleep(chance.uniform(0, 3))
        now = "the predictor served on" if site.answers() else "nothing served"
        version = number % VERSIONS + 1
        undisturbed(start, deploy_flights, site.root, site.given(version), site.environment)
        site.check_one_serves(version)
        tally.outcomes[f"{now}; the next deploy served"] += 1
