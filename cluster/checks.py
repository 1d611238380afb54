"""What is checked before anything is sent: rules that the server, the cluster or an auditor has."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import SECRET_NAME, SECRET_TEXT
from slipway.pipelines.package import Package, beyond_mysql, bounds, bytes_of
from slipway.pipelines.pod_values import find_pod_values
from slipway.pipelines.spec import Container, InputSource

MAX_BYTES = 32 << 20
MAX_VERSION_NAME = 127
MAX_DESCRIPTION = 10_000
# What a process takes in one argument (Linux, MAX_ARG_STRLEN): each driver and each task gets its inputs,
# its component and its container in one.
MAX_ARGUMENT = 131_072
# A workflow is one Kubernetes object, and etcd takes 1.5 MiB; the nodes' own inputs come on top.
MAX_WORKFLOW = 1 << 20
SCHEMA_VERSION = "2.1.0"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
KINDS = frozenset({"STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT"})
FLOATING_TAGS = frozenset({"", "latest", "main", "master", "dev", "stable", "edge", "nightly"})
WRAPPERS = ("defaultValue", "constant", "runtimeValue", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a package breaks: which, and what to do."""

    rule: str
    message: str


Rule = Callable[[Package], Iterator[str]]


def _size(package: Package) -> Iterator[str]:
    if package.size > MAX_BYTES:
        yield f"the file has {package.size:,} bytes; the server takes {MAX_BYTES:,}"


def _name(package: Package) -> Iterator[str]:
    if not NAME.fullmatch(package.name):
        yield (
            f"'{package.name}' does not match ^[a-z0-9][a-z0-9-]{{0,127}}$: use lower-case letters,"
            " digits and hyphens"
        )


def _lengths(package: Package) -> Iterator[str]:
    if len(package.version_name) > MAX_VERSION_NAME:
        yield f"version name {package.version_name} is longer than {MAX_VERSION_NAME} characters"
    if len(package.description) > MAX_DESCRIPTION:
        yield f"the description is longer than {MAX_DESCRIPTION:,} characters"


def _schema(package: Package) -> Iterator[str]:
    found = package.spec.get("schemaVersion")
    if found != SCHEMA_VERSION:
        yield f"schema version {found}; the backend takes {SCHEMA_VERSION} only"
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    for what, content, message in (
        ("pipeline spec", package.spec, pipeline_spec_pb2.PipelineSpec()),
        ("platform spec", package.platform, pipeline_spec_pb2.PlatformSpec()),
    ):
        try:
            json_format.ParseDict(content, message)
        except json_format.ParseError as error:
            yield f"the {what} is not valid: {' '.join(str(error).split())}"


def _parameters(package: Package) -> Iterator[str]:
    from slipway.pipelines.package import fits

    for name, declared in package.parameters.items():
        kind = declared.get("parameterType")
        if kind not in KINDS:
            yield f"parameter {name} has type {kind}, which the backend does not know"
        elif "defaultValue" in declared and not fits(str(kind), declared["defaultValue"]):
            yield f"parameter {name} is a {kind}, and its default {declared['defaultValue']!r} is not"
    for task, inputs, known in _task_inputs(package):
        for name, source in inputs.items():
            parameter = source.get("componentInputParameter", "")
            if parameter and parameter not in known:
                yield f"task {task} reads {name} from parameter {parameter}, which is not declared"


def _images(package: Package) -> Iterator[str]:
    for label, container in containers(package).items():
        image = str(container.get("image", ""))
        if "@sha256:" in image or "{{" in image:
            continue
        tag = image.rsplit("/", 1)[-1].partition(":")[2]
        if tag in FLOATING_TAGS:
            yield (
                f"{label} runs {image or 'no image'}: the tag {tag or '(none)'} moves, and cached"
                " results would be stale. Name a version, or better a digest"
            )


def _secrets(package: Package) -> Iterator[str]:
    for where, key, text in _texts([package.spec, package.platform], ""):
        for what, pattern in SECRET_TEXT.items():
            if pattern.search(text):
                yield f"{where} holds {what}. Put it into the namespace's secret, and rotate it"
        if SECRET_NAME.search(key) and text and not where.startswith("[1]"):
            yield f"{where} looks like a secret in the clear. Put it into the namespace's secret"


def _pods(package: Package) -> Iterator[str]:
    if not package.spec.get("root", {}).get("dag"):
        return
    for value in find_pod_values(package.spec, package.platform):
        if value.kind not in value.read_as:
            kinds = " or ".join(sorted(value.read_as))
            yield (
                f"{value.task}: {value.field} is read from {value.parameter}, a {value.kind}, which the"
                f" driver cannot read there and leaves out: make it a {kinds}"
            )


def _limits(package: Package) -> Iterator[str]:
    defaults = {
        name: declared["defaultValue"]
        for name, declared in package.parameters.items()
        if "defaultValue" in declared
    }
    yield from bounds(defaults)
    spec = package.spec
    parts = {
        "all parameters together": defaults,
        **{f"component {name}": part for name, part in spec.get("components", {}).items()},
        **containers(package),
    }
    for what, part in parts.items():
        if (size := bytes_of(part)) > MAX_ARGUMENT:
            yield f"{what} has {size:,} bytes; a process takes {MAX_ARGUMENT:,} in one argument"
    if (size := bytes_of([spec, package.platform])) > MAX_WORKFLOW:
        yield f"the pipeline has {size:,} bytes; a workflow in the cluster has room for {MAX_WORKFLOW:,}"


def _characters(package: Package) -> Iterator[str]:
    found = {
        f"parameter {name}": beyond_mysql(json.dumps(declared, ensure_ascii=False))
        for name, declared in package.parameters.items()
    }
    if not any(found.values()):
        everything = json.dumps([package.spec, package.platform], ensure_ascii=False)
        found = {"the pipeline": beyond_mysql(everything)}
    for what, character in found.items():
        if character:
            yield f"{what} holds {character!a}, and Kubeflow's MySQL stores none beyond U+FFFF"


RULES: dict[str, Rule] = {
    "size": _size,
    "name": _name,
    "length": _lengths,
    "schema": _schema,
    "parameters": _parameters,
    "pods": _pods,
    "limits": _limits,
    "characters": _characters,
    "images": _images,
    "secrets": _secrets,
}


def find_faults(package: Package) -> list[Finding]:
    """All rules that a package breaks, not the first alone."""
    return [
        Finding(rule=name, message=message)
        for name, rule in RULES.items()
        for message in dict.fromkeys(rule(package))
    ]


def refuse_faults(package: Package) -> None:
    """Stops before anything is sent.

    Raises:
        SlipwayError: the package breaks a rule; the message lists every one.
    """
    if findings := find_faults(package):
        lines = "\n".join(f"  {finding.rule}: {finding.message}." for finding in findings)
        raise SlipwayError(f"{package.path} was not sent:\n{lines}")


def containers(package: Package) -> dict[str, Container]:
    """The containers of a package by executor label."""
    executors = package.spec.get("deploymentSpec", {}).get("executors", {})
    return {label: e["container"] for label, e in executors.items() if "container" in e}


def _task_inputs(package: Package) -> Iterator[tuple[str, dict[str, InputSource], set[str]]]:
    """Every task of every DAG: its name, its inputs, and the parameters that its DAG declares."""
    components = [package.spec.get("root", {}), *package.spec.get("components", {}).values()]
    for component in components:
        known = set(component.get("inputDefinitions", {}).get("parameters", {}))
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            yield name, task.get("inputs", {}).get("parameters", {}), known


def _texts(value: object, where: str, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text with its place and the nearest key; a parameter's default counts as its own value."""
    if isinstance(value, dict):
        variable = str(value["name"]) if value.keys() == {"name", "value"} else key
        for name, part in value.items():
            nearest = variable if name in WRAPPERS else str(name)
            yield from _texts(part, f"{where}.{name}", nearest)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, f"{where}[{index}]", key)
    elif isinstance(value, str):
        yield where.lstrip("."), key, value
