"""What the driver writes into a task's pod: which parameter each value comes from, and of what kind.

Kubeflow's driver reads them in two ways (kubeflow/pipelines 2.17.0, backend/src/v2/driver/resolve.go).
Image, cores, memory and accelerators go through `resolvePodSpecInputRuntimeParameter`, which takes the
text of a value: of a number it gets an empty one, and asks for nothing without a word. Node selectors,
tolerations and affinities are structs or lists, names of secrets and config maps texts (`k8s.go`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from slipway.pipelines.spec import ComponentSpec, InputSource, PipelineSpec, Platform

CHANNEL = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
TEXT, STRUCT = frozenset({"STRING"}), frozenset({"STRUCT"})
COUNT = "accelerator.resourceCount"


@dataclass(frozen=True, slots=True)
class PodValue:
    """A value of a pod that a parameter decides.

    Attributes:
        task: whose pod.
        field: of the container or the executor's configuration.
        parameter: of the pipeline; where a task's output decides, its name.
        kind: of the parameter, as the spec names it.
        read_as: the kinds that the driver can read there.
    """

    task: str
    field: str
    parameter: str
    kind: str
    read_as: frozenset[str]


Known = dict[str, tuple[str, str]]
"""Input of a group or a task to the pipeline parameter it comes from, and its kind."""


def find_pod_values(spec: PipelineSpec, platform: Platform) -> Iterator[PodValue]:
    """Every value of a pod that is not written down in the pipeline itself."""
    root = spec["root"]
    declared = root.get("inputDefinitions", {}).get("parameters", {})
    known = {name: (name, str(part.get("parameterType"))) for name, part in declared.items()}
    kubernetes = platform.get("platforms", {}).get("kubernetes", {})
    executors = kubernetes.get("deploymentSpec", {}).get("executors", {})
    yield from _in_group(spec, executors, root, known)


def _in_group(
    spec: PipelineSpec, executors: Platform, group: ComponentSpec, known: Known
) -> Iterator[PodValue]:
    for name, task in group["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        given = task.get("inputs", {}).get("parameters", {})
        inner = {key: _origin(spec, group, source, known) for key, source in given.items()}
        if "dag" in component:
            yield from _in_group(spec, executors, component, inner)
            continue
        label = component["executorLabel"]
        container = spec["deploymentSpec"]["executors"][label].get("container", {})
        asked = {"image": container.get("image"), **container.get("resources", {})}
        for field, text in _leaves(asked, ""):
            for channel in CHANNEL.findall(text) if isinstance(text, str) else ():
                yield PodValue(name, field, *inner[channel], read_as=TEXT)
        for field, source, read_as in _configured(executors.get(label, {})):
            if "runtimeValue" not in source:
                yield PodValue(name, field, *_origin(spec, group, source, known), read_as=read_as)


def _origin(
    spec: PipelineSpec, group: ComponentSpec, source: InputSource, known: Known
) -> tuple[str, str]:
    """The parameter that an input comes from, and its kind."""
    if parameter := source.get("componentInputParameter"):
        return known.get(parameter, (parameter, ""))  # an undeclared one is for another rule
    if output := source.get("taskOutputParameter"):
        producer = group["dag"]["tasks"][output["producerTask"]]["componentRef"]["name"]
        outputs = spec["components"][producer]["outputDefinitions"]["parameters"]
        key = output["outputParameterKey"]
        return f"{output['producerTask']}.{key}", str(outputs[key]["parameterType"])
    return "", ""


def _leaves(value: object, where: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{where}.{key}".lstrip("."))
    else:
        yield where, value


def _configured(executor: Platform) -> Iterator[tuple[str, InputSource, frozenset[str]]]:
    """The sources in an executor's configuration, with the kinds that the driver takes there."""
    if source := executor.get("nodeSelector", {}).get("nodeSelectorJson"):
        yield "nodeSelector", source, STRUCT
    for entry in executor.get("tolerations", ()):
        if source := entry.get("tolerationJson"):
            yield "tolerations", source, STRUCT | {"LIST"}
    for entry in executor.get("nodeAffinity", ()):
        if source := entry.get("nodeAffinityJson"):
            yield "nodeAffinity", source, STRUCT
    for key, entries in executor.items():
        for entry in entries if isinstance(entries, list) else ():
            for field, source in entry.items() if isinstance(entry, dict) else ():
                if field.endswith("NameParameter"):
                    yield f"{key}.{field}", source, TEXT
