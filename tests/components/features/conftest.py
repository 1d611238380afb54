"""What the tests of features share: small datasets, a store of their own, a Redis server."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from support.clicks_world import Shop
from support.datasets import write_dataset

MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Writes frames as a dataset and returns its folder."""

    def make(
        tables: dict[str, pl.DataFrame], window: tuple[str, str], name: str = "dataset"
    ) -> Path:
        return write_dataset(tmp_path / name, tables, window)

    return make


@pytest.fixture
def store_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A feature store on files and sqlite."""
    folder = tmp_path / "store"
    monkeypatch.setenv("FEATURE_STORE_URI", str(folder))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    return folder


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server on a port of its own, as host:port."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    server = subprocess.Popen(
        [*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture(params=["sqlite", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose clicks are pushed, with its online store in sqlite or a real Redis."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    if request.param == "redis":
        monkeypatch.setenv("FEAST_REDIS_URL", request.getfixturevalue("redis_server"))
    return Shop(tmp_path)
