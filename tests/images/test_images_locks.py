"""Each image has what its stage imports, at the versions that the tests ran with, and nothing else."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import grimp
import pytest

from slipway.images.plan import ROOT, read_images

IMAGES = sorted(read_images())
# In every image whole; what a stage uses of it is reached from the stage.
SHARED = {f"slipway.components.{name}" for name in ("contracts", "config", "metrics", "support")}
# Distributions that several import names, or one of many that share a name, hide.
DISTRIBUTION = {
    "google": "protobuf",
    "pydantic_core": "pydantic",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
}
TORCH = {"torch"}
# serving imports Feast (with typeguard, which it loads), and the client of its Redis, only for online
# features, and says so where the image has none; aiohttp and uvicorn are the transformer's, which runs in
# the image of features.
_TRANSFORMER = {"feast", "typeguard", "redis", "aiohttp", "uvicorn"}
# Of register, `slipway sign` and `slipway evidence` alone check or make signatures without a key.
OPTIONAL = {"predictor": _TRANSFORMER, "evaluate": _TRANSFORMER, "register": {"sigstore"}}


@functools.cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "slipway.components",
        "slipway.serving",
        include_external_packages=True,
        exclude_type_checking_imports=True,
    )


@functools.cache
def distributions() -> dict[str, list[str]]:
    return {
        name: sorted(set(found))
        for name, found in importlib.metadata.packages_distributions().items()
    }


def imported(image: str) -> set[str]:
    """Distributions that the code in an image imports, directly or inside a function, faces left out."""
    graph = import_graph()
    packages = [
        "slipway." + source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for source in read_images()[image].sources
        if source.startswith(("components/", "serving"))
    ]
    roots = {
        module
        for package in packages
        if package not in SHARED
        for module in (package, *inside(graph, package, read_images()[image].sources))
        if not module.endswith(".component")
    }
    modules = roots.union(*(graph.find_upstream_modules(root) for root in roots))
    names = {m for m in modules if m.split(".")[0] != "slipway"}
    return {distribution(name) for name in names if name not in sys.stdlib_module_names}


def inside(graph: grimp.ImportGraph, package: str, sources: tuple[str, ...]) -> set[str]:
    """The modules below a package that the image has whole; none below one that it has only files of."""
    folder = package.removeprefix("slipway.").replace(".", "/")
    return graph.find_descendants(package) if folder in sources else set()


def distribution(name: str) -> str:
    if name in DISTRIBUTION:
        return DISTRIBUTION[name]
    found = distributions().get(name, [name])
    # mlflow-skinny has the whole of `import mlflow` but the server.
    return "mlflow-skinny" if "mlflow-skinny" in found else normal(found[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(folder: str) -> tuple[set[str], set[str]]:
    """What a requirements.in asks for: imported by code, or loaded by what the comment above says."""
    plain: set[str] = set()
    loaded: set[str] = set()
    reason = False
    for line in (ROOT / "images" / folder / "requirements.in").read_text().splitlines():
        if not line.strip():
            reason = False
        elif line.startswith("#"):
            reason = True
        else:
            (loaded if reason else plain).add(normal(line.split("[")[0].strip()))
    return plain, loaded


def locked(path: Path) -> dict[str, str]:
    """Name to version of a lock's packages."""
    return dict(
        re.findall(
            r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;\\\n]+)", path.read_text(), re.MULTILINE
        )
    )


@pytest.mark.parametrize("image", IMAGES)
def test_the_image_asks_for_what_its_code_imports_and_for_nothing_else(image: str) -> None:
    plain, loaded = asked(image)
    base = set().union(*asked("base"))
    runs_as_task = {"kfp"} if image != "predictor" else set()
    needed = (imported(image) | runs_as_task) - OPTIONAL.get(image, set())
    assert needed - base - loaded - plain == set(), "imported, but not in requirements.in"
    assert plain - needed == set(), "in requirements.in without a reason, but never imported"


@pytest.mark.parametrize("image", IMAGES)
def test_the_lock_has_what_is_asked_for_with_hashes(image: str) -> None:
    path = ROOT / "images" / image / "requirements.lock"
    packages = {normal(name) for name in locked(path)}
    assert set().union(*asked(image)) - TORCH <= packages
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", path.read_text())[1:]
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("image", [*IMAGES, "base"])
def test_locked_versions_are_those_that_the_tests_run_with(image: str) -> None:
    tested = locked(ROOT / "requirements" / "run.lock")
    found = locked(ROOT / "images" / image / "requirements.lock")
    assert {name: version for name, version in found.items() if tested.get(name) != version} == {}


def test_no_image_holds_a_package_of_the_base_again() -> None:
    base = locked(ROOT / "images" / "base" / "requirements.lock").keys()
    for image in IMAGES:
        assert not base & locked(ROOT / "images" / image / "requirements.lock").keys()


@pytest.mark.parametrize(
    ("image", "absent"),
    [
        ("features", {"torch", "mlflow-skinny"}),
        ("deploy", {"torch", "pandas", "scikit-learn", "polars", "feast"}),
        ("predictor", {"torch", "kfp", "pandas", "mlflow-skinny", "pydantic", "polars"}),
        ("evaluate", {"torch", "torchmetrics", "pandas"}),
        ("ingest", {"torch", "pandas", "mlflow-skinny"}),
        ("validate", {"torch", "pandas", "mlflow-skinny"}),
    ],
)
def test_heavy_packages_stay_out_of_images_that_do_not_need_them(
    image: str, absent: set[str]
) -> None:
    packages = set(locked(ROOT / "images" / image / "requirements.lock"))
    copies_torch = (
        "torch" if "torch-" in (ROOT / "images" / image / "Dockerfile").read_text() else ""
    )
    assert not absent & {*packages, copies_torch}


def test_torch_is_the_version_of_the_project() -> None:
    wanted = re.search(r'"torch==([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert wanted is not None
    assert locked(ROOT / "images" / "torch-cpu.lock") == {"torch": f"{wanted[1]}+cpu"}
    assert locked(ROOT / "images" / "torch-cuda.lock")["torch"] == wanted[1]


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_every_package_of_torch_has_a_hash(build: str) -> None:
    text = (ROOT / "images" / f"torch-{build}.lock").read_text()
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_cuda_build_brings_what_only_it_needs() -> None:
    packages = locked(ROOT / "images" / "torch-cuda.lock").keys()
    assert {"triton", "nvidia-cudnn-cu13", "nvidia-nccl-cu13", "nvidia-ml-py"} <= packages
    others = locked(ROOT / "images" / "train" / "requirements.lock").keys()
    assert not packages & others
    assert not [name for name in others if name.startswith(("nvidia-", "cuda-"))]


@pytest.fixture
def locker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """requirements/lock.py on a machine that the index of torch does not answer."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "requirements" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def silent(*arguments: str, **options: str) -> None:
        raise subprocess.CalledProcessError(1, "uv")

    monkeypatch.setattr(module, "compile_lock", silent)
    return module


def test_without_the_index_of_torch_a_lock_of_the_same_version_stays(
    locker: ModuleType, tmp_path: Path
) -> None:
    lock = ROOT / "images" / "torch-cpu.lock"
    requirement = f"torch=={locked(lock)['torch']}"
    copy = tmp_path / "torch-cpu.lock"
    locker.ROOT = tmp_path
    locker.write(copy, locker.IMAGE_HEADING, locker.lock_cpu_torch(requirement, lock.read_text()))
    assert copy.read_bytes() == lock.read_bytes()


def test_without_the_index_of_torch_a_new_version_gets_the_hash_of_the_wheel_at_hand(
    locker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "torch-9.9.9+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "torch-9.9.9+cpu.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9+cpu\n",
        )
        archive.writestr("torch-9.9.9+cpu.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    before = (ROOT / "images" / "torch-cpu.lock").read_text()
    found = locker.lock_cpu_torch("torch==9.9.9+cpu", before)
    expected = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert found == {"torch": f"torch==9.9.9+cpu \\\n    --hash=sha256:{expected}"}
    with pytest.raises(SystemExit, match=r"torch==9\.9\.8\+cpu is not to be had"):
        locker.lock_cpu_torch("torch==9.9.8+cpu", before)


def test_locks_of_images_alone_keep_what_only_the_cuda_build_has(
    locker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is renewed on the way would be what the tests ran."""
    asked: dict[str, tuple[str, ...]] = {}

    def compiled(source: Path | str, *options: str, text: str = "") -> dict[str, str]:
        asked[text or str(source)] = options
        return {name: f"{name}==9.9.9 \\" for name in ("torch", "kfp", "mlflow")}

    monkeypatch.setattr(locker, "compile_lock", compiled)
    monkeypatch.setattr(locker, "write", lambda *_: None)
    locker.main("images")
    held = ("--constraint", str(ROOT / "images" / "torch-cuda.lock"))
    assert set(held) <= set(asked["nvidia-ml-py"])
    locker.main()
    assert asked["nvidia-ml-py"] == ()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"])
def test_every_lock_has_wheels_for_each_platform_that_images_are_built_for(
    target: str, tmp_path: Path
) -> None:
    # One package is in many locks, with the same hashes.
    blocks = {
        block
        for name in ("base", *IMAGES)
        for block in re.split(
            r"\n(?=[a-zA-Z0-9])",
            (ROOT / "images" / name / "requirements.lock").read_text().rstrip(),
        )[1:]
    }
    together = tmp_path / "together.lock"
    together.write_text("\n".join(sorted(blocks)) + "\n")
    command = [
        str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--no-deps",
        "--only-binary", ":all:", "--require-hashes", "--python-version", "3.11",
        "--python-platform", target, "--target", str(tmp_path / "site"), "-r", str(together),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
