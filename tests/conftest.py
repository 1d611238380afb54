"""What all tests share."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from slipway.components.config.project import LoadedProject, load_project

ROOT = Path(__file__).resolve().parents[1]
# Files of these run whole jobs: few tests, and minutes each.
LONG = tuple(f"tests/{room}/" for room in ("e2e", "faults"))
# Of the others those that take more than about fifteen CPU seconds, whatever their number of tests.
HEAVY = tuple(
    f"tests/{name}.py"
    for name in (
        "test_package", "images/test_images_built", "images/test_images_containers",
        "components/train/test_train_resume", "local/test_retraining", "local/test_wide_tables",
        "components/monitor/test_monitor_window", "components/deploy/test_deploy_rollouts",
        "components/train/test_train_kinds", "local/guess/test_guess_cases", "commands/test_screens",
        "components/register/test_register_stage", "components/deploy/test_deploy_kserve",
        "components/evaluate/test_evaluate_stage", "components/train/test_train_parity",
        "components/evaluate/test_evaluate_groups", "serving/test_serving_hostile",
        "components/features/test_features_brute_force", "components/deploy/test_deploy_manifest",
    )
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of the tests that need a real cluster."""
    config.addinivalue_line("markers", "cluster: needs a real cluster (SLIPWAY_E2E_KUBECONFIG)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first: last, one of them would run while the other core waits.

    Each file stays whole. After the long and the heavy ones come those with the most tests, as xdist has
    it by itself.
    """
    files = [item.nodeid.partition("::")[0] for item in items]
    tests = Counter(files)
    order = {
        name: (not name.startswith(LONG), name not in HEAVY, -tests[name], i)
        for i, name in enumerate(tests)
    }
    items.sort(key=lambda item: order[item.nodeid.partition("::")[0]])


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def forgotten_stores() -> Iterator[None]:
    """No client of an object store outlives its test: fsspec keeps the first, with its keys."""
    yield
    if s3fs := sys.modules.get("s3fs"):
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def lake() -> Path:
    """The flights lake, as `make test` lays it out."""
    path = ROOT / "build" / "lake"
    if not (path / ".complete").exists():
        pytest.fail("There is no flights lake: run the tests with `make test`.")
    return path


@pytest.fixture(scope="session")
def flights(repository: Path) -> LoadedProject:
    """The flights project."""
    return load_project(repository / "examples" / "flights")


@pytest.fixture(scope="session")
def compiled(flights: LoadedProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights project's compiled pipelines."""
    from slipway.pipelines.compiler import compile_project

    folder = tmp_path_factory.mktemp("compiled")
    compile_project(flights, folder)
    return folder


@pytest.fixture
def kubeflow_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running double of the KFP API, and an environment without any other way in."""
    from support import kfp_double

    from slipway.cluster.connection import WAYS

    for names in WAYS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SLIPWAY_NAMESPACE", raising=False)
    with kfp_double.serve(kfp_double.Double()) as double:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", double.url)
        yield double


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the container engine that answers: the machine's, or that of `make engine`."""
    settings = subprocess.run(
        [ROOT / "images" / "engine.sh", "env"], capture_output=True, text=True, check=False
    )
    if settings.returncode:
        _lacking("no container engine answers: `make engine`")
    before = os.environ.get("DOCKER_HOST")
    for line in settings.stdout.splitlines():
        if line.startswith("export DOCKER_HOST="):
            os.environ["DOCKER_HOST"] = line.partition("=")[2]
    client = docker.from_env()
    try:
        yield client
    finally:
        client.close()
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = before


@pytest.fixture(scope="session")
def built_images(engine: docker.DockerClient) -> dict[str, str]:
    """Image name to reference: all nine, built from the code as it is."""
    from slipway.components.support.images import image
    from slipway.images.plan import SOURCES_LABEL, content_hash, read_images

    for name, source in read_images().items():
        try:
            label = engine.images.get(image(name)).labels.get(SOURCES_LABEL)
        except docker.errors.ImageNotFound:
            _lacking(f"{image(name)} is not built: `make images`")
        if label != content_hash(source):
            _lacking(f"{image(name)} was built from other code: `make images`")
    return {name: image(name) for name in read_images()}


def _lacking(what: str) -> None:
    """Skips, with a reason; in CI, which makes the engine and the images itself, that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
