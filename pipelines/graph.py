"""The order of a compiled pipeline's tasks, read from its YAML."""

from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from slipway.components.support.errors import SlipwayError
from slipway.pipelines.package import read_package
from slipway.pipelines.spec import PipelineSpec, TaskSpec


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
    return order_tasks(read_package(path).spec, str(path))


def order_tasks(spec: PipelineSpec, where: str) -> list[Task]:
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


def _collect(
    spec: PipelineSpec,
    tasks: dict[str, TaskSpec],
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
    for name, collected in list(found.items()):
        expanded = {inner for need in collected.needs for inner in members.get(need, [need])}
        found[name] = replace(collected, needs=tuple(sorted(expanded)))
    return [inner for names in members.values() for inner in names]
