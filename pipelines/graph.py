"""The order of a compiled pipeline's tasks, read from its YAML."""

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from slipway.components.support.documents import UnfitDocument, load_yaml, read_document
from slipway.components.support.errors import SlipwayError


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a compiled pipeline.

    Attributes:
        name: of the task.
        needs: the tasks that must end before, sorted.
        image: the container image that it runs in.
        condition: the condition that it runs under, if any.
    """

    name: str
    needs: tuple[str, ...]
    image: str
    condition: str | None = None


def read_tasks(path: Path) -> list[Task]:
    """Reads a compiled pipeline's tasks in an order that they can run in.

    Raises:
        SlipwayError: the file is no compiled pipeline, a task depends on one that is not there, or
            tasks depend on each other in a circle.
    """
    return order_tasks(_pipeline_spec(path), str(path))


def order_tasks(spec: dict[str, Any], where: str) -> list[Task]:
    """A pipeline spec's tasks in an order that they can run in.

    Args:
        spec: the pipeline spec.
        where: it comes from, for messages.

    Raises:
        SlipwayError: as `read_tasks`.
    """
    found: dict[str, Task] = {}
    try:
        _collect(spec, spec["root"]["dag"]["tasks"], frozenset(), None, found)
    except (KeyError, TypeError) as error:
        raise SlipwayError(f"{where} is not a compiled pipeline: it lacks {error}.") from error
    for task in found.values():
        if unknown := sorted(set(task.needs) - found.keys()):
            raise SlipwayError(
                f"{where}: task {task.name} depends on {', '.join(unknown)}, which the pipeline"
                " does not have. Compile it again."
            )
    try:
        order = list(TopologicalSorter({t.name: t.needs for t in found.values()}).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise SlipwayError(f"{where}: tasks wait for each other in a circle: {circle}.") from error
    return [found[name] for name in order]


def _pipeline_spec(path: Path) -> dict[str, Any]:
    try:
        documents = load_yaml(read_document(path))
    except FileNotFoundError as error:
        raise SlipwayError(f"There is no {path}. Run `slipway compile` first.") from error
    except (OSError, UnfitDocument) as error:
        raise SlipwayError(f"{path} cannot be read as YAML: {error}.") from error
    for document in documents:
        if isinstance(document, dict) and "pipelineInfo" in document:
            return document
    raise SlipwayError(f"{path} is not a compiled pipeline: it has no pipelineInfo.")


def _collect(
    spec: dict[str, Any],
    tasks: dict[str, Any],
    upstream: frozenset[str],
    condition: str | None,
    found: dict[str, Task],
) -> list[str]:
    """Adds the tasks of one DAG and returns their names, those of inner DAGs in the place of these.

    What is inside a condition or an exit handler also needs what that needs.
    """
    members: dict[str, list[str]] = {}
    for name, task in tasks.items():
        component = spec["components"][task["componentRef"]["name"]]
        needs = upstream | frozenset(task.get("dependentTasks", ()))
        if "dag" in component:
            rule = task.get("triggerPolicy", {}).get("condition", condition)
            members[name] = _collect(spec, component["dag"]["tasks"], needs, rule, found)
        else:
            executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
            image = executor["container"]["image"]
            found[name] = Task(name, tuple(sorted(needs)), image, condition)
            members[name] = [name]
    for name, task in list(found.items()):
        expanded = {inner for need in task.needs for inner in members.get(need, [need])}
        found[name] = Task(name, tuple(sorted(expanded)), task.image, task.condition)
    return [inner for names in members.values() for inner in names]
