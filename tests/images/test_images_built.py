"""Each built image, run as hardened as a cluster would, under an id that has no name."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from support.model_keys import KeyPair, make_keys
from support.serving_bundles import expected, flight_tensors, make_bundle

from slipway.components.config.kinds import LabelKind
from slipway.components.support.images import image
from slipway.images.build import (
    STAND_IN,
    BuildError,
    BuildSettings,
    build,
    build_base,
    find_builder,
)
from slipway.images.plan import ROOT, last_change, read_images
from slipway.images.sbom import pins

IMAGES = sorted(read_images())
HARDENED = {
    "user": "1000660000:0",  # as OpenShift chooses one
    "read_only": True,
    "tmpfs": {"/tmp": "rw,nosuid,nodev"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "network_mode": "none",
    "remove": True,
}
Run = Callable[[str, str], str]


@pytest.fixture
def run(engine: docker.DockerClient, built_images: dict[str, str]) -> Run:
    """Runs Python code in an image and gives what it prints."""

    def run_python(name: str, code: str) -> str:
        command = ["python3", "-c", code]
        output = engine.containers.run(built_images[name], command, stderr=True, **HARDENED)
        return output.decode()

    return run_python


# Rooms that every image has whole: what a stage needs of them, its own modules import.
SHARED = tuple(
    f"slipway.components.{room}." for room in ("contracts", "config", "metrics", "support")
)
IMPORT_ALL = (
    f"""
SHARED = {SHARED!r}
"""
    + """
import importlib, pathlib, sys
failed = []
for path in sorted(pathlib.Path("/app").rglob("*.py")):
    module = ".".join(path.relative_to("/app").with_suffix("").parts)
    if module.endswith(("__main__", ".component")) or module.startswith(SHARED):
        continue
    try:
        importlib.import_module(module.removesuffix(".__init__"))
    except Exception as error:
        failed.append(f"{module}: {type(error).__name__}: {error}")
for name in sys.argv[1:] or NAMES:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
print(failed)
"""
)
# What an import is called where that is not the distribution's name.
IMPORTED_AS = {
    "pyyaml": "yaml", "scikit-learn": "sklearn", "mlflow-skinny": "mlflow", "protobuf": "google.protobuf",
    "rtdl-num-embeddings": "rtdl_num_embeddings", "prometheus-client": "prometheus_client",
    "cyclonedx-python-lib": "cyclonedx", "packageurl-python": "packageurl", "grpcio": "grpc",
    "xgboost-cpu": "xgboost",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_all_that_an_image_holds_can_be_imported(name: str, run: Run) -> None:
    text = (ROOT / "images" / name / "requirements.in").read_text()
    asked = re.findall(r"^([a-z][\w.-]*)", text, re.MULTILINE)
    modules = [IMPORTED_AS.get(package, package) for package in asked if package != "kfp"]
    assert run(name, f"NAMES = {modules!r}\n{IMPORT_ALL}").strip().splitlines()[-1] == "[]"


# Serves what is mounted, asks it once, and tells the answer and the log's columns of it.
SERVE_ONCE = """
import json, pathlib, subprocess, sys, time, urllib.request as net
import pyarrow.parquet as pq
URL = "http://127.0.0.1:8080/v2/"
log = ["--log-uri=/tmp/log", "--log-spool=/tmp/spool"]
process = subprocess.Popen([sys.executable, "-m", "slipway.serving", *log], stdout=sys.stderr)
for _ in range(200):
    try:
        net.urlopen(URL + "health/ready")
        break
    except OSError:
        assert process.poll() is None
        time.sleep(0.1)
body = json.dumps({"inputs": TENSORS}).encode()
answer = json.load(net.urlopen(net.Request(URL + "models/flights/infer", body)))
process.terminate()
assert process.wait(30) == 0
[path] = pathlib.Path("/tmp/log").rglob("*.parquet")
found = {o["name"]: o["data"] for o in answer["outputs"]}
print(json.dumps([found, pq.read_table(path).column_names]))
"""
ANSWERED = {
    "binary": {"probability", "label"},
    "multiclass": {"probabilities", "probability", "label"},
    "number": {"value", "low", "high"},
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_the_predictor_answers_and_logs_each_kind_of_label(
    kind: LabelKind, engine: docker.DockerClient, built_images: dict[str, str], tmp_path: Path
) -> None:
    """Alone with what its image holds: no library for tables, settings or statistics."""
    make_bundle(tmp_path, kind=kind)
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    code = f"TENSORS = {flight_tensors(2)!r}\n{SERVE_ONCE}"
    mounts = {str(tmp_path): {"bind": "/mnt/models", "mode": "ro"}}
    command = ["python3", "-c", code]
    output = engine.containers.run(built_images["predictor"], command, volumes=mounts, **HARDENED)
    answer, columns = json.loads(output.decode().splitlines()[-1])
    assert answer.keys() == ANSWERED[kind]
    odds = [math.log(share / (1 - share)) for share in expected(2)]
    if kind == "multiclass":
        assert answer["label"] == ["ant" if odd > 0 else "cat" for odd in odds]
    elif kind == "number":
        assert answer["value"] == pytest.approx([10 * odd for odd in odds], rel=1e-5)
    else:
        assert answer["probability"] == pytest.approx(expected(2), rel=1e-5)
    assert ANSWERED[kind] <= {*columns}


def sign_in_register(
    engine: docker.DockerClient, image: str, keys: KeyPair, volumes: dict[str, dict[str, str]]
) -> None:
    """Signs the mounted bundle with what the register image holds; its key comes as a task's does."""
    code = """
import os, pathlib
from slipway.components.contracts.signing.signature import sign_bundle
folder = pathlib.Path("/mnt/models")
sign_bundle(folder, os.environ["MODEL_PRIVATE_KEY"], "", folder / "model.sig")
"""
    settings = {"environment": {"MODEL_PRIVATE_KEY": keys.private}, "volumes": volumes, **HARDENED}
    engine.containers.run(image, ["python3", "-c", code], **settings)


def test_the_predictor_serves_only_what_the_register_image_signed(
    engine: docker.DockerClient, built_images: dict[str, str], tmp_path: Path
) -> None:
    make_bundle(tmp_path)
    # The containers' user is no one of this machine's; register writes the signature beside the model.
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o777)
    ours, theirs = make_keys(), make_keys()

    def mount(mode: str) -> dict[str, dict[str, str]]:
        return {str(tmp_path): {"bind": "/mnt/models", "mode": mode}}

    policy = {"environment": {"MODEL_PUBLIC_KEYS": ours.public}, "volumes": mount("ro"), **HARDENED}

    def refusal() -> str:
        # One that serves all the same is ended, and then says nothing of a signature.
        serve = "runpy.run_module('slipway.serving', run_name='__main__')"
        command = ["python3", "-c", f"import runpy, signal; signal.alarm(30); {serve}"]
        with pytest.raises(docker.errors.ContainerError) as refused:
            engine.containers.run(built_images["predictor"], command, **policy)
        return refused.value.stderr.decode()

    assert "is not signed: it has no model.sig" in refusal()
    sign_in_register(engine, built_images["register"], theirs, mount("rw"))
    assert "fits none of the keys that MODEL_PUBLIC_KEYS trusts" in refusal()
    sign_in_register(engine, built_images["register"], ours, mount("rw"))
    command = ["python3", "-c", f"TENSORS = {flight_tensors(2)!r}\n{SERVE_ONCE}"]
    output = engine.containers.run(built_images["predictor"], command, **policy)
    answer, _ = json.loads(output.decode().splitlines()[-1])
    assert answer["probability"] == pytest.approx(expected(2), rel=1e-5)
    with (tmp_path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert "model.onnx was changed" in refusal()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_what_its_bill_says(name: str, run: Run) -> None:
    code = """
import importlib.metadata, json
installed = importlib.metadata.distributions(path=["/opt/slipway/lib/python3.11/site-packages"])
print(json.dumps([[found.name, found.version] for found in installed]))
"""
    found = {(re.sub(r"[-_.]+", "-", n).lower(), v) for n, v in json.loads(run(name, code))}
    assert found == set(pins(name))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_plain_and_labelled(name: str, run: Run, engine: docker.DockerClient) -> None:
    run(name, "pass")
    config = engine.images.get(image(name)).attrs["Config"]
    assert config["User"] == "10001:0"
    assert not config["Entrypoint"]
    labels = {k.removeprefix("org.opencontainers.image."): v for k, v in config["Labels"].items()}
    assert labels["licenses"] == "Apache-2.0"
    assert labels["title"] == f"slipway/{name}"
    assert labels["version"] == "0.1.0"
    if last_change(read_images()[name])[0]:
        assert re.fullmatch(r"[0-9a-f]{40}", labels["revision"])


@pytest.mark.parametrize("name", ["train", "register"])
def test_what_writes_evidence_knows_its_code(
    name: str, run: Run, engine: docker.DockerClient, built_images: dict[str, str]
) -> None:
    labels = engine.images.get(built_images[name]).labels
    commit = run(name, "import os; print(os.environ['GIT_COMMIT'])").strip()
    assert commit == labels["org.opencontainers.image.revision"]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_no_compiler_no_cache_and_one_place_to_write(name: str, run: Run) -> None:
    code = """
import os, pathlib, shutil
print([c for c in ("gcc", "cc", "g++", "make", "uv", "git", "curl") if shutil.which(c)])
print([str(p) for p in pathlib.Path("/").glob("*/.cache/*")])
writable = []
for folder in ("/", "/app", "/opt/slipway", "/tmp", "/var/tmp", os.path.expanduser("~")):
    try:
        (pathlib.Path(folder) / "probe").write_text("")
        writable.append(folder)
    except OSError:
        pass
print(writable)
"""
    assert run(name, code).splitlines() == ["[]", "[]", "['/tmp', '/tmp']"]


def test_the_predictor_holds_what_it_uses_and_says_what_it_stands_on(
    engine: docker.DockerClient, built_images: dict[str, str], run: Run
) -> None:
    """No shell and no package manager; the label of a stand-in base, which a copy does not inherit."""
    programs = ("sh", "bash", "apt", "dpkg", "perl", "pip")
    code = f"import shutil; print([name for name in {programs} if shutil.which(name)])"
    assert run("predictor", code).strip() == "[]"
    # Whom to trust, and a name for localhost: the rest of the system that a server asks for.
    code = """
import socket, ssl
print(len(ssl.create_default_context().get_ca_certs()) > 100, socket.gethostbyname("localhost"))
"""
    assert run("predictor", code).split() == ["True", "127.0.0.1"]
    found = engine.images.get(built_images["predictor"])
    base = engine.images.get("slipway/base:0.1.0")
    assert found.labels.get(STAND_IN) == base.labels.get(STAND_IN)
    assert found.attrs["Size"] <= 300e6


def test_the_python_is_the_one_that_the_project_is_tested_with(run: Run) -> None:
    version = run("predictor", "import sys; print(*sys.version_info[:2])").split()
    assert version == [str(part) for part in sys.version_info[:2]]


@pytest.mark.slow
def test_a_rebuild_without_a_cache_gives_the_same_layers(
    engine: docker.DockerClient, built_images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/usr/bin/docker").exists():  # the client that `make images` builds with
        monkeypatch.setenv("PATH", f"/usr/bin:{os.environ['PATH']}")
    for name in ("base", "builder"):
        engine.images.get(f"slipway/{name}:0.1.0").tag(f"slipway/{name}", "again")
    again = read_images()["predictor"]
    build(again, BuildSettings(tag="again", no_cache=True), find_builder())
    first, second = (engine.images.get(f"slipway/predictor:{tag}") for tag in ("0.1.0", "again"))
    assert first.attrs["RootFS"]["Layers"] == second.attrs["RootFS"]["Layers"]
    for name in ("predictor", "base", "builder"):
        engine.images.remove(f"slipway/{name}:again")


@pytest.mark.slow
def test_a_build_without_a_network_takes_the_wheelhouse_and_says_what_it_lacks(
    engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/usr/bin/docker").exists():
        monkeypatch.setenv("PATH", f"/usr/bin:{os.environ['PATH']}")
    settings = BuildSettings(tag="offline", offline=True, wheelhouse=tmp_path, no_cache=True)
    with pytest.raises(BuildError, match=r"(?s)slipway/builder:offline was not built.*uv"):
        build_base(settings, find_builder())
    lock = ROOT / "images" / "base" / "uv.lock"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(tmp_path), "-r", str(lock)], check=True)
    # uv is there, so its image is built; what the base has on top is not, and is not fetched either.
    with pytest.raises(BuildError, match=r"(?s)slipway/base:offline was not built.*numpy"):
        build_base(settings, find_builder())
    engine.images.remove("slipway/builder:offline")
