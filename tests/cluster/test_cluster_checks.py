"""The pre-upload check: each rule refuses what it is for, and passes what the compiler makes."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.kfp_double import Double

from slipway.cluster import checks
from slipway.cluster.api import Kubeflow
from slipway.cluster.checks import find_faults
from slipway.cluster.connection import Connection
from slipway.cluster.upload import upload
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.package import Package, read_package


@pytest.fixture
def package(compiled: Path) -> Package:
    return read_package(compiled / "flights-training.yaml")


def test_what_the_compiler_makes_breaks_no_rule(compiled: Path) -> None:
    for path in compiled.glob("*.yaml"):
        assert find_faults(read_package(path)) == []


def _container(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["deploymentSpec"]["executors"]["exec-train"]["container"]


def _image(image: str) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        _container(spec)["image"] = image

    return change


def _default(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"] = value

    return change


def _environment(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        _container(spec)["env"] = [{"name": name, "value": value}]

    return change


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        spec[key] = value

    return change


def _read_unknown(spec: dict[str, Any]) -> None:
    task = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]["ingest"]
    task["inputs"]["parameters"]["data_root"] = {"componentInputParameter": "lake"}


def _kind(spec: dict[str, Any]) -> None:
    spec["root"]["inputDefinitions"]["parameters"]["training_seed"]["parameterType"] = "WORD"


@dataclass(frozen=True)
class Case:
    name: str
    change: Callable[[dict[str, Any]], None]
    rule: str
    message: str


CASES = [
    Case("old schema", _set("schemaVersion", "2.0.0"), "schema", "schema version 2.0.0"),
    Case("unknown field", _set("pipelineInfos", {}), "schema", "no field named"),
    Case("unknown type", _kind, "parameters", "seed has type WORD"),
    Case(
        "wrong default", _default("training_epochs", "many"), "parameters", "default 'many' is not"
    ),
    Case("undeclared", _read_unknown, "parameters", "from parameter lake, which is not declared"),
    Case("no tag", _image("ghcr.io/x/train"), "images", "(none) moves"),
    Case("latest", _image("ghcr.io/x/train:latest"), "images", "tag latest moves"),
    Case("port, no tag", _image("registry:5000/train"), "images", "(none) moves"),
    Case("no image", _image(""), "images", "runs no image"),
    Case(
        "AWS key",
        _default("data_root", "AKIA" + "ABCDEFGHIJKLMNOP"),
        "secrets",
        "an AWS access key",
    ),
    Case(
        "password in an address",
        _default("data_root", "postgres://user:hunter2@db/x"),
        "secrets",
        "a password in an address",
    ),
    Case("GitHub token", _default("data_root", "ghp_" + "a1" * 18), "secrets", "a GitHub token"),
    Case(
        "private key",
        _default("data_root", "-----BEGIN RSA PRIVATE " + "KEY-----\nx"),
        "secrets",
        "a private key",
    ),
    Case(
        "secret by its name",
        _default("data", {"root": "x", "s3_secret": "abc"}),
        "secrets",
        "looks like a secret in the clear",
    ),
    Case(
        "a parameter of 10,001 bytes",
        _default("project", "x" * 9_999),
        "limits",
        "parameter project has 10,001 bytes; Kubeflow's API takes 10,000",
    ),
    Case(
        "a container beyond an argument",
        _environment("NOTES", "x" * 131_072),
        "limits",
        "exec-train has 13",
    ),
    Case(
        "an emoji",
        _default("data_version", "\N{ROCKET}"),
        "characters",
        "parameter data_version holds '\\U0001f680'",
    ),
    Case(
        "an emoji in a key",
        _environment("\N{ROCKET}", "x"),
        "characters",
        "the pipeline holds '\\U0001f680'",
    ),
    Case("environment", _environment("DB_PASSWORD", "hunter2"), "secrets", "looks like a secret"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_rule_refuses(case: Case, package: Package) -> None:
    spec = deepcopy(package.spec)
    case.change(spec)
    faults = find_faults(replace(package, spec=spec))
    mine = [fault.message for fault in faults if fault.rule == case.rule]
    assert any(case.message in message for message in mine), faults
    # The spec's own schema may refuse the same thing in other words; no other rule does.
    assert {fault.rule for fault in faults} <= {case.rule, "schema"}, faults


@pytest.mark.parametrize(
    "image",
    [
        "ghcr.io/x/train:1.2.0",
        "registry:5000/train:1.2.0",
        "ghcr.io/x/train@sha256:" + "0" * 64,
        "ghcr.io/x/train:latest@sha256:" + "0" * 64,
    ],
)
def test_images_that_stay_what_they_are(image: str, package: Package) -> None:
    spec = deepcopy(package.spec)
    _image(image)(spec)
    assert find_faults(replace(package, spec=spec)) == []


@pytest.mark.parametrize("name", ["", "Flights", "-flights", "flüge", "a" * 129, "a.b", "a_b"])
def test_names_that_the_server_refuses(name: str, package: Package) -> None:
    assert [f.rule for f in find_faults(replace(package, name=name))] == ["name"]


@pytest.mark.parametrize("name", ["a", "flights-training", "0-x", "a" * 128])
def test_names_that_it_takes(name: str, package: Package) -> None:
    assert find_faults(replace(package, name=name)) == []


def test_size_and_length(package: Package) -> None:
    assert find_faults(replace(package, size=checks.MAX_BYTES)) == []
    assert [f.rule for f in find_faults(replace(package, size=checks.MAX_BYTES + 1))] == ["size"]
    long = replace(package, description="x" * (checks.MAX_DESCRIPTION + 1))
    assert [f.rule for f in find_faults(long)] == ["length"]


def test_nothing_is_sent_and_all_faults_are_named(
    package: Package, kubeflow_server: Double
) -> None:
    spec = deepcopy(package.spec)
    _image("x/train:latest")(spec)
    _set("schemaVersion", "2.0.0")(spec)
    kubeflow = Kubeflow(Connection.of(host=kubeflow_server.url))
    with pytest.raises(SlipwayError) as caught:
        upload(kubeflow, replace(package, spec=spec))
    assert "images: " in str(caught.value)
    assert "schema: " in str(caught.value)
    assert kubeflow_server.requests == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("a: 1", "is not a compiled pipeline"),
        ("pipelineInfo: {name: a}\n---\npipelineInfo: {name: b}", "is not a compiled pipeline"),
        ("pipelineInfo: {name: a}\n---\nother: 1", "is not a compiled pipeline"),
        ("", "is not a compiled pipeline"),
    ],
)
def test_files_that_are_no_pipeline(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(SlipwayError, match=message):
        read_package(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match="slipway compile"):
        read_package(tmp_path / "none.yaml")
