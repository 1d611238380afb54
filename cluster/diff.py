"""`slipway diff`: what two compiled pipelines do differently, in a reader's terms.

Compiled YAML differs in thousands of lines when one docstring changed. What matters is which stages
there are, what runs in them and with what, which parameters a person can set, and what waits for what.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from slipway.cluster.api import Kubeflow
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.package import Package, meaning, package_of
from slipway.pipelines.spec import ComponentSpec, PipelineSpec, TaskSpec

SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference: `old` or `new` is None where it was not there."""

    kind: str
    where: str
    old: object
    new: object

    def __str__(self) -> str:
        if self.old is None:
            return f"+ {self.where}: {_short(self.new)}"
        if self.new is None:
            return f"- {self.where}: {_short(self.old)}"
        return f"~ {self.where}: {_short(self.old)} → {_short(self.new)}"


def compare(before: Package, after: Package) -> list[Difference]:
    """All differences that matter, grouped by kind; none for the same content."""
    changes = []
    old, new = dict(_facts(before)), dict(_facts(after))
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            changes.append(
                Difference(kind=key[0], where=key[1], old=old.get(key), new=new.get(key))
            )
    return sorted(changes, key=lambda change: KINDS.index(change.kind))


KINDS = ("pipeline", "stages", "images", "parameters", "resources", "platform", "wiring", "code")


def _facts(package: Package) -> Iterator[tuple[tuple[str, str], object]]:
    """What a package does, as facts with a kind and a place."""
    spec, platform = meaning([package.spec, package.platform])
    info = spec["pipelineInfo"]
    for key in ("name", "displayName", "description"):
        yield ("pipeline", key), info.get(key)
    yield ("pipeline", "sdk"), spec.get("sdkVersion")
    for name, declared in (
        spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {}).items()
    ):
        yield ("parameters", name), declared.get("parameterType")
        yield from _flat("parameters", f"{name} default", _unpacked(declared.get("defaultValue")))
    platforms = platform.get("platforms", {}).get("kubernetes", {})
    for key, value in platforms.get("pipelineConfig", {}).items():
        yield from _flat("platform", f"pipeline {key}", value)
    configured = platforms.get("deploymentSpec", {}).get("executors", {})
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    for path, task, component, condition in _tasks(spec, spec.get("root", {}), (), None):
        label = component.get("executorLabel", "")
        container = executors.get(label, {}).get("container", {})
        yield ("stages", path), f"after {_list(task.get('dependentTasks'))}"
        if condition:
            yield ("wiring", f"{path} only if"), condition
        yield ("images", path), container.get("image")
        for key, value in container.get("resources", {}).items():
            if not key.endswith(("Limit", "Request")) or key.startswith("resource"):
                yield from _flat("resources", f"{path} {key.removeprefix('resource')}", value)
        for key in ("retryPolicy", "cachingOptions"):
            yield from _flat("resources", f"{path} {key}", task.get(key))
        for key, value in configured.get(label, {}).items():
            yield from _flat("platform", f"{path} {key}", value)
        inputs = task.get("inputs", {})
        for named in (inputs.get("parameters", {}), inputs.get("artifacts", {})):
            for name, source in named.items():
                yield ("wiring", f"{path} {name}"), json.dumps(source, sort_keys=True)
        code = json.dumps([container.get("command"), container.get("args")])
        yield ("code", path), "sha256:" + hashlib.sha256(code.encode()).hexdigest()[:12]


def _unpacked(value: object) -> object:
    """What a parameter holds: a setting that travels as text, taken apart."""
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _tasks(
    spec: PipelineSpec, component: ComponentSpec, path: tuple[str, ...], condition: str | None
) -> Iterator[tuple[str, TaskSpec, ComponentSpec, str | None]]:
    """The tasks that run something, those inside conditions with what must hold."""
    for name, task in component.get("dag", {}).get("tasks", {}).items():
        inner = spec["components"].get(task.get("componentRef", {}).get("name", ""), {})
        rule = task.get("triggerPolicy", {}).get("condition") or condition
        if "dag" in inner:
            yield from _tasks(spec, inner, (*path, name), rule)
        else:
            yield name, task, inner, rule


def _flat(kind: str, where: str, value: object) -> Iterator[tuple[tuple[str, str], object]]:
    """A nested value as one fact a leaf, so that one changed key shows as one change."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(kind, f"{where}.{key}", part)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for index, part in enumerate(value):
            name = part.get("name", index) if isinstance(part, dict) else index
            yield from _flat(kind, f"{where}[{name}]", part)
    elif value is not None:
        yield (kind, where), value


def show(
    before: Package, after: Package, changes: list[Difference], *, markdown: bool = False
) -> str:
    """The differences as text, or as Markdown for a comment on a change."""
    title = f"{after.name}: {before.version_name} → {after.version_name}"
    if not changes:
        return f"{after.name}: nothing differs ({after.version_name})."
    lines = [f"### {title}" if markdown else title]
    for kind in KINDS:
        mine = [change for change in changes if change.kind == kind]
        if mine:
            lines.append(f"\n**{kind}**\n```diff" if markdown else f"{kind}")
            lines += [f"{change}" if markdown else f"  {change}" for change in mine]
            lines += ["```"] if markdown else []
    return "\n".join(lines)


def newest_on_server(kubeflow: Kubeflow, package: Package) -> Package:
    """The newest version of the same pipeline on the server, as a package.

    Raises:
        SlipwayError: the server has no version of it.
    """
    pipeline = kubeflow.find_pipeline(package.name)
    versions = kubeflow.versions(pipeline.pipeline_id) if pipeline else []
    if not pipeline or not versions:
        raise SlipwayError(
            f"The server has no version of {package.name}: an upload would create its first."
        )
    newest = kubeflow.version(pipeline.pipeline_id, versions[0].pipeline_version_id)
    content = newest.pipeline_spec
    return package_of(
        content.get("pipeline_spec", content),
        content.get("platform_spec", {}),
        published=newest.display_name or newest.name,
    )


def _list(names: list[str] | None) -> str:
    return ", ".join(sorted(names)) if names else "nothing"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
