"""A compiled pipeline: what it is called, what it takes, and what names exactly this content."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from slipway.components.config.gate import blank_threshold
from slipway.components.config.kinds import UNBOUNDED
from slipway.components.config.model import check_label
from slipway.components.config.parameters import find, repeated
from slipway.components.support.documents import UnfitDocument, load_yaml, read_document
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.settings import reference_in
from slipway.pipelines.pod_values import COUNT, find_pod_values
from slipway.pipelines.spec import ParameterSpec, PipelineSpec, Platform

# Kubeflow's own bound for the parameters of a run (MAX_PARAMETER_BYTES of its server).
MAX_PARAMETER = 10_000
_COMPILED = {"training": ("accelerator.affinity",), "monitoring": ("schedule",)}
"""Keys of structs that no task reads: the compiled pipeline has what they say."""
_TASKS = {"monitoring": ("retention.online", "retention.pipeline_runs")}
"""Keys of structs that a pipeline has a task or a permission for, if it was compiled with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A compiled pipeline as read from its file.

    Attributes:
        path: the file.
        name: of the pipeline. description: what a person reads of it.
        spec: the pipeline spec. platform: the platform spec, empty where there is none.
        digest: SHA-256 of what it means, in hexadecimal; comments, layout and whether a whole number is
            written 2 or 2.0 do not count.
        size: bytes of the file.
        published: the version's name on the server that it was read from; empty for a file.
    """

    path: Path
    name: str
    description: str
    spec: PipelineSpec
    platform: Platform
    digest: str
    size: int
    published: str = ""

    @property
    def version_name(self) -> str:
        """Names this content on the server: Slipway's version and the digest's first digits."""
        if self.published:
            return self.published
        from importlib.metadata import version

        # Under GitOps it is part of a Kubernetes name: a local version's + has no place there.
        release = re.sub(r"[^a-z0-9]+", "-", version("kfp-slipway").lower())
        return f"v{release}-{self.digest[:12]}"

    @property
    def parameters(self) -> dict[str, ParameterSpec]:
        """The pipeline's parameters by name, as the spec declares them."""
        inputs = self.spec.get("root", {}).get("inputDefinitions", {})
        return dict(inputs.get("parameters", {}))


def read_package(path: Path) -> Package:
    """Reads a compiled pipeline.

    Raises:
        SlipwayError: there is no such file, or it is no compiled pipeline.
    """
    try:
        text = read_document(path)
        documents = [d for d in load_yaml(text) if d]
    except FileNotFoundError as error:
        raise SlipwayError(f"There is no {path}. Run `slipway compile` first.") from error
    except (OSError, UnfitDocument) as error:
        raise SlipwayError(
            f"{path} cannot be read as YAML: {' '.join(str(error).split())}."
        ) from error
    specs = [d for d in documents if isinstance(d, dict) and "pipelineInfo" in d]
    platforms = [d for d in documents if isinstance(d, dict) and "platforms" in d]
    if len(specs) != 1 or len(platforms) > 1 or len(documents) != len(specs) + len(platforms):
        raise SlipwayError(
            f"{path} is not a compiled pipeline: it needs one pipeline spec and at most one platform"
            " spec, and nothing else. Run `slipway compile`."
        )
    return package_of(
        cast(PipelineSpec, specs[0]),
        platforms[0] if platforms else {},
        path=path,
        size=len(text.encode()),
    )


def package_of(
    spec: PipelineSpec,
    platform: Platform,
    *,
    path: Path = Path(),
    size: int = 0,
    published: str = "",
) -> Package:
    """A package of a spec that was read already."""
    info = spec["pipelineInfo"]
    canonical = json.dumps(meaning([spec, platform]), sort_keys=True, separators=(",", ":"))
    return Package(
        path=path,
        name=str(info.get("name", "")),
        description=str(info.get("description", "")),
        spec=spec,
        platform=platform,
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        size=size,
        published=published,
    )


def meaning(value: Any) -> Any:
    """A JSON value with its numbers as the backend keeps them: doubles, whole ones without a fraction.

    So 2.0 and the 2 that the server gives back are one.
    """
    if isinstance(value, dict):
        return {key: meaning(part) for key, part in value.items()}
    if isinstance(value, list):
        return [meaning(part) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


def arguments_from(package: Package, overrides: list[str]) -> dict[str, Any]:
    """Reads `--set name=value` with the types that the pipeline declares.

    A dotted name changes one key inside a struct's default: `training.batch_size=512`.

    Raises:
        ProjectError: an unknown parameter, or a value of another type; the message names both.
    """
    values: dict[str, object] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        name, *path = key.strip().split(".")
        if not separator or not name:
            raise ProjectError(f"--set {text}: write NAME=VALUE, for example training_epochs=3.")
        declared = package.parameters.get(name)
        if declared is None:
            raise ProjectError(_unknown(package, name))
        if path:
            if declared.get("parameterType") != "STRUCT":
                raise ProjectError(f"--set {text}: {name} is no struct: it has no keys.")
            if reference_in(declared.get("defaultValue")):
                raise ProjectError(
                    f"--set {text}: {name} is too large for a parameter, so it lies in a file, of which"
                    " no key can be changed here. Change the project file and compile again."
                )
            default = json.loads(json.dumps(declared.get("defaultValue", {})))
            struct = cast(dict[str, Any], values.setdefault(name, default))
            for part in path[:-1]:
                struct = struct.setdefault(part, {})
                if not isinstance(struct, dict):
                    raise ProjectError(f"--set {text}: {part} is no section.")
            struct[path[-1]] = _value(text, value)
        elif declared.get("parameterType") == "STRING":
            values[name] = value
        else:
            values[name] = _value(text, value)
    check_arguments(package, values)
    return values


def _value(override: str, text: str) -> Any:
    try:
        documents = load_yaml(text)
    except UnfitDocument as error:
        raise ProjectError(
            f"--set {override[:200]}: the value is not valid YAML: {error}."
        ) from error
    return documents[0] if documents else None


def read_anew(package: Package, values: dict[str, object]) -> dict[str, object]:
    """Gives a run a data version of its own, where the pipeline has one and the caller did not.

    Kubeflow's cache knows a source by its address: without this, a lake that was written to since the
    last run would be answered from the cache, with yesterday's rows.
    """
    if "data_version" not in package.parameters or values.get("data_version"):
        return values
    return {**values, "data_version": datetime.now(UTC).isoformat(timespec="seconds")}


def check_arguments(package: Package, values: dict[str, object]) -> None:
    """Refuses arguments that the server would refuse, by the pipeline's own declarations.

    Raises:
        ProjectError: an unknown parameter, one of another type, or one that is missing.
    """
    for name, value in values.items():
        declared = package.parameters.get(name)
        if declared is None:
            raise ProjectError(_unknown(package, name))
        kind = declared.get("parameterType", "")
        if not fits(kind, value):
            quoted = f" Put it into quotes: '{value}'." if kind == "STRING" else ""
            raise ProjectError(
                f"Parameter {name} of {package.name} is a {kind}, and {value!r} is not.{quoted}"
            )
    if "project" in values:
        try:
            check_label(str(values["project"]))
        except ValueError as error:
            raise ProjectError(f"Parameter project of {package.name}: {error}.") from error
    for section, struct in values.items():
        for parameter, key, _ in repeated(struct, section) if isinstance(struct, dict) else ():
            if parameter in package.parameters:
                raise ProjectError(
                    f"{key} is no key of the struct '{section}' of {package.name}: it travels as the"
                    f" parameter {parameter}. Set {parameter} instead."
                )
    for problem in (*bounds(values), *_blanks(package, values), *_settled(package, values)):
        raise ProjectError(f"{package.name}: {problem}.")
    for name, value in values.items():
        if beyond := beyond_mysql(json.dumps(value, ensure_ascii=False)):
            raise ProjectError(
                f"Parameter {name} of {package.name} holds {beyond!a}, and Kubeflow's MySQL stores no"
                " character beyond U+FFFF."
            )
    for found in find_pod_values(package.spec, package.platform):
        value = values.get(found.parameter)
        if value is not None and found.field == COUNT and not re.fullmatch(r"\d+", str(value)):
            raise ProjectError(
                f"Parameter {found.parameter} of {package.name} is a number of devices, and {value!r} is"
                f" not: {found.parameter} takes a whole number, as 0 or 2."
            )
    for name, declared in package.parameters.items():
        optional = declared.get("isOptional") or "defaultValue" in declared
        if name not in values and not optional:
            raise ProjectError(
                f"Parameter {name} of {package.name} has no default: give it a value."
            )


def _blanks(package: Package, values: dict[str, object]) -> Iterator[str]:
    """The gate's thresholds that a run would set to 0 although the project does not."""
    declared = package.parameters.get("gate", {}).get("defaultValue")
    gate = {
        key: value
        for struct in (declared, values.get("gate"))
        for key, value in (struct if isinstance(struct, dict) else {}).items()
    }
    for name in UNBOUNDED:
        if values.get(f"gate_{name}") == 0 and name not in gate.get("unbounded", ()):
            yield blank_threshold(name)


def _settled(package: Package, values: dict[str, object]) -> Iterator[str]:
    """The keys of structs that say otherwise than what the compiled pipeline consists of."""
    for section, struct in values.items():
        compiled = package.parameters[section].get("defaultValue")
        # Of a struct that is too large only a file's name is here.
        if not isinstance(struct, dict) or not isinstance(compiled, dict) or reference_in(compiled):
            continue
        for key in (*_COMPILED.get(section, ()), *_TASKS.get(section, ())):
            there, asked = (find(each, key) for each in (compiled, struct))
            if not asked or asked == there:
                continue
            if not there or key in _COMPILED.get(section, ()):
                has = "does without" if not there else f"has {there!r}"
                yield (
                    f"{section}.{key} is settled when the pipeline is compiled, which {has}: change the"
                    " project file, compile and upload it again"
                )


def _unknown(package: Package, name: str) -> str:
    import difflib

    near = [known for known in package.parameters if known.endswith(f"_{name}")]
    near += difflib.get_close_matches(name, package.parameters, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else f" It has: {', '.join(package.parameters)}."
    return f"{package.name} has no parameter {name}.{hint}"


def bounds(values: dict[str, object]) -> Iterator[str]:
    """What Kubeflow's API would not take of a run's parameters: too many bytes, the largest named."""
    for name, value in values.items():
        if (size := bytes_of(value)) > MAX_PARAMETER:
            yield (
                f"parameter {name} has {size:,} bytes; Kubeflow's API takes {MAX_PARAMETER:,}:"
                " shorten it"
            )


def bytes_of(value: object) -> int:
    """Bytes of a JSON value as it is sent."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def beyond_mysql(text: str) -> str:
    """The first character that a connection of MySQL's `utf8`, as Kubeflow opens it, has no place for."""
    return next((character for character in text if ord(character) > 0xFFFF), "")


def fits(kind: str, value: object) -> bool:
    """Whether a value is of a parameter type, as the backend would judge."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    match kind:
        case "STRING":
            return isinstance(value, str)
        case "NUMBER_INTEGER":
            return number.is_integer()
        case "NUMBER_DOUBLE":
            return math.isfinite(number)
        case "BOOLEAN":
            return isinstance(value, bool)
        case "LIST":
            return isinstance(value, list)
        case "STRUCT":
            return isinstance(value, dict)
    return False
