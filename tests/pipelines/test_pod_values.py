"""What the driver writes into a pod comes from parameters of kinds that it can read."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.cluster.checks import find_faults
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.train.process.device import count_devices
from slipway.pipelines.package import Package, arguments_from, read_package
from slipway.pipelines.pod_values import CHANNEL, find_pod_values

ROOT = Path(__file__).resolve().parents[2]
COMPILED = sorted(
    path for path in (ROOT / "compiled").rglob("*.yaml") if path.parent.name != "gitops"
)


@pytest.fixture
def package(compiled: Path) -> Package:
    return read_package(compiled / "flights-training.yaml")


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_every_value_of_a_pod_comes_from_a_parameter_that_the_driver_can_read(path: Path) -> None:
    """The driver takes the text of a value: a number has none, and then asks for nothing."""
    package = read_package(path)
    found = list(find_pod_values(package.spec, package.platform))
    assert [value for value in found if value.kind not in value.read_as] == []
    # Nothing that a parameter decides was overlooked.
    text = repr(package.spec["deploymentSpec"])
    assert {v.parameter for v in found if "resource" in v.field} == {
        name.removeprefix("pipelinechannel--") for name in CHANNEL.findall(text)
    }


def test_training_asks_for_devices_in_text(package: Package) -> None:
    found = {
        v.field: (v.parameter, v.kind) for v in find_pod_values(package.spec, package.platform)
    }
    assert found == {
        "accelerator.resourceCount": ("training_gpus", "STRING"),
        "accelerator.resourceType": ("training_gpu_type", "STRING"),
        "nodeSelector": ("training_gpu_node_selector", "STRUCT"),
        "tolerations": ("training_gpu_tolerations", "LIST"),
    }
    assert package.parameters["training_gpus"]["defaultValue"] == "1"


def resolved(package: Package, arguments: dict[str, Any]) -> dict[str, str]:
    """The limits of train's pod, as the driver of 2.17.0 computes them from a run's parameters.

    initPodSpecPatch and resolvePodSpecInputRuntimeParameter in backend/src/v2/driver: the text of a
    value, empty for one that is no text; a type or a count that is empty asks for nothing.
    """
    values = {n: p.get("defaultValue") for n, p in package.parameters.items()} | arguments
    asked = package.spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    parts = {}
    for key, text in asked["accelerator"].items():
        value = values[CHANNEL.findall(text)[0].removeprefix("pipelinechannel--")]
        parts[key] = value if isinstance(value, str) else ""
    if not parts["resourceType"] or not parts["resourceCount"]:
        return {}
    assert re.fullmatch(r"\d+", parts["resourceCount"]), "the driver ends with an error"
    return {parts["resourceType"]: parts["resourceCount"]}


@pytest.mark.parametrize(
    ("changes", "limits"),
    [
        ([], {"nvidia.com/gpu": "1"}),
        (["training_gpus=4"], {"nvidia.com/gpu": "4"}),
        (["training_gpus=0"], {"nvidia.com/gpu": "0"}),
        (["training_gpus=2", "training_gpu_type=amd.com/gpu"], {"amd.com/gpu": "2"}),
        (["training_gpu_type="], {}),
    ],
)
def test_devices_and_their_type_can_be_changed_when_a_run_starts(
    package: Package, changes: list[str], limits: dict[str, str]
) -> None:
    """A limit of 0 is what the scheduler skips; no type asks for none."""
    assert resolved(package, arguments_from(package, changes)) == limits


@pytest.mark.parametrize("text", ["two", "-1", "1.5", "", "1Gi"])
def test_a_number_of_devices_that_is_none_is_refused_before_a_run_starts(
    package: Package, text: str
) -> None:
    with pytest.raises(ProjectError, match=r"gpus .* a whole number"):
        arguments_from(package, [f"training_gpus={text}"])
    with pytest.raises(SlipwayError, match=r"gpus .* a whole number"):
        count_devices(text)
    assert count_devices("2") == count_devices(2.0) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameter", "kind", "field"),
    [
        ("training_gpus", "NUMBER_INTEGER", "accelerator.resourceCount"),
        ("training_gpu_type", "NUMBER_DOUBLE", "accelerator.resourceType"),
        ("training_gpu_node_selector", "STRING", "nodeSelector"),
        ("training_gpu_tolerations", "STRING", "tolerations"),
    ],
)
def test_what_the_driver_cannot_read_is_refused_before_an_upload(
    package: Package, parameter: str, kind: str, field: str
) -> None:
    spec = deepcopy(package.spec)
    declared = spec["root"]["inputDefinitions"]["parameters"][parameter]
    declared["parameterType"] = kind
    declared.pop("defaultValue")
    faults = [f.message for f in find_faults(replace(package, spec=spec)) if f.rule == "pods"]
    assert any(f"train: {field} is read from {parameter}, a {kind}" in text for text in faults)
