"""The object store, a real one over HTTP: the bundle comes from it, the inference log goes to it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pytest
from support.fault_proxy import faulty
from support.serving_bundles import expected, flight_tensors, make_bundle, predictor, wait_for

from slipway.components.support.errors import SlipwayError
from slipway.serving import object_store
from slipway.serving.fetch import bundle_folder
from slipway.serving.log.store import LogStore
from slipway.serving.settings import PredictorSettings


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(s3: str, monkeypatch: pytest.MonkeyPatch) -> pafs.S3FileSystem:
    """An empty bucket `models`, and the environment that a pod would have."""
    httpx.post(f"{s3}/moto-api/reset")
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    for name, value in {**environ, "AWS_ENDPOINT_URL": s3}.items():
        monkeypatch.setenv(name, value)
    system = pafs.S3FileSystem(endpoint_override=s3.removeprefix("http://"), scheme="http")
    httpx.put(f"{s3}/models")
    return system


def test_bundle_from_and_log_to_an_object_store(store: pafs.S3FileSystem, tmp_path: Path) -> None:
    bundle = tmp_path / "made"
    make_bundle(bundle, bias=0.4)
    pafs.copy_files(
        str(bundle), "models/flights", pafs.LocalFileSystem(), destination_filesystem=store
    )
    flags = ["--model-uri=s3://models/flights", "--log-uri=s3://models/log"]
    with predictor(tmp_path / "p", *flags, bundle=tmp_path / "nothing") as running:
        answer = running.infer(flight_tensors(3)).json()["outputs"][0]["data"]
        assert answer == pytest.approx(expected(3, bias=0.4), abs=1e-6)
        wait_for(lambda: running.metric('slipway_log_rows_total{state="stored"}') == 3)
        assert running.stop() == 0
    table = ds.dataset("models/log/flights", filesystem=store, format="parquet").to_table()
    assert table["key"].to_pylist() == ["flight-0", "flight-1", "flight-2"]
    assert table["probability"].to_pylist() == pytest.approx(expected(3, bias=0.4), abs=1e-6)


def test_a_silent_store_is_given_up_and_named(
    store: pafs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow by itself asks thirty times, three seconds each."""
    monkeypatch.setattr(object_store, "READ_SECONDS", 1.0)
    with faulty(1, faults=("silent",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        settings = PredictorSettings(model_dir=tmp_path, model_uri="s3://models/flights")
        started = time.monotonic()
        with (
            pytest.raises(SlipwayError, match="s3://models/flights cannot be fetched"),
            bundle_folder(settings),
        ):
            pass
        assert time.monotonic() - started < 20
        assert proxy.count["silent"] <= 3
        folder = tmp_path / "spool"
        folder.mkdir()
        log = LogStore("s3://models/log")
        row = pa.record_batch({"time": pa.array([0], pa.timestamp("us", "UTC"))})
        with pytest.raises(OSError, match="Timeout was reached"):
            log.write("flights", "a", [row], folder)
        assert list(folder.iterdir()) == []


def test_a_library_that_hangs_is_left_behind() -> None:
    """Arrow's clients of Google's and Azure's stores take no bounds."""
    never = threading.Event()
    with pytest.raises(OSError, match="no answer within 0 seconds"):
        object_store.within(0.05, never.wait)
    never.set()

    def fails() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        object_store.within(9, fails)
    assert object_store.transfer(1, lambda: 7) == 7


def test_a_process_ends_beside_a_library_that_hangs() -> None:
    program = (
        "import threading\nfrom slipway.serving import object_store\n"
        "try:\n    object_store.within(0.05, threading.Event().wait)\nexcept OSError:\n"
        "    import atexit, time; atexit.register(time.sleep, 99)\n"
        "    print('left', end='')\n    object_store.exit_beside_hanging(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (7, b"left")


def test_a_bundle_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    make_bundle(tmp_path / "there")
    settings = PredictorSettings(model_dir=tmp_path / "there", model_uri="s3://nowhere/at/all")
    with bundle_folder(settings) as folder:
        assert folder == tmp_path / "there"


def test_a_uri_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "none"), f"file://{tmp_path}/none", "ftp://x/y"):
        settings = PredictorSettings(model_dir=tmp_path, model_uri=uri)
        with (
            pytest.raises(SlipwayError, match=f"STORAGE_URI={uri} cannot be fetched"),
            bundle_folder(settings),
        ):
            pass
