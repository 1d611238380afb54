"""What monitoring keeps, in a folder and in a real object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.monitor import state
from slipway.components.monitor.retraining.retrain import mark, request_training, requests
from slipway.components.support.errors import SlipwayError

WINDOW = ("2013-12-01T05:00:00Z", "2013-12-08T05:00:00Z")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 of its own."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "k")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("monitoring")
        yield "s3://monitoring/state"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the files lie."""
    if request.param == "folder":
        return str(tmp_path)
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def test_a_file_is_written_read_replaced_and_listed(root: str) -> None:
    path = f"{state.folder(root, 'flights')}/routes/ops.json"
    assert state.read(path) is None
    assert state.names(f"{root}/flights/routes") == []
    state.write(path, b"one")
    state.write(path, b"two")
    assert state.read(path) == b"two"
    assert state.names(f"{root}/flights/routes") == ["ops.json"]
    assert state.names(root) == ["flights"]


def test_a_request_outlasts_the_run_that_made_it(root: str) -> None:
    config = MonitoringConfig.model_validate({"retrain": True})
    asked = request_training(root, "flights", "1", WINDOW, ("LOW_ACCURACY",), config).request
    assert asked is not None
    mark(root, asked, "started", "run-1")
    (kept,) = requests(root, "flights")
    assert (kept.key, kept.status, kept.run) == (asked.key, "started", "run-1")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "flights").write_text("a file where a folder should be")
    with pytest.raises(SlipwayError, match=r"flights/routes/ops\.json cannot be written"):
        state.write(f"{tmp_path}/flights/routes/ops.json", b"x")
