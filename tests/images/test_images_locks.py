"""Each image has what its stage imports, at the versions that the tests ran with, and nothing else."""

import functools
import importlib.metadata
import re
import sys
from pathlib import Path

import grimp
import pytest

from images.plan import ROOT, read_images

IMAGES = sorted(read_images())
# Distributions that several import names, or one of many that share a name, hide.
DISTRIBUTION = {"google": "protobuf", "prometheus_client": "prometheus-client", "yaml": "pyyaml"}
TORCH = {"torch"}
# serving imports Feast only for online features, and says so where the image has none; aiohttp and
# uvicorn are the transformer's, which runs in the image of features.
_TRANSFORMER = {"feast", "aiohttp", "uvicorn"}
OPTIONAL = {"predictor": _TRANSFORMER, "evaluate": _TRANSFORMER}


@functools.cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "components", "serving", include_external_packages=True, exclude_type_checking_imports=True
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
        source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for source in read_images()[image].sources
        if source.startswith(("components/", "serving"))
    ]
    roots = {
        module
        for package in packages
        if package != "components.contracts"
        for module in (package, *inside(graph, package, read_images()[image].sources))
        if not module.endswith(".component")
    }
    modules = roots.union(*(graph.find_upstream_modules(root) for root in roots))
    names = {m for m in modules if m.split(".")[0] not in ("components", "serving")}
    return {distribution(name) for name in names if name not in sys.stdlib_module_names}


def inside(graph: grimp.ImportGraph, package: str, sources: tuple[str, ...]) -> set[str]:
    """The modules below a package that the image has whole; none below one that it has only files of."""
    return graph.find_descendants(package) if package.replace(".", "/") in sources else set()


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
    assert "--hash=sha256:" in (ROOT / "images" / "torch-cuda.lock").read_text()
