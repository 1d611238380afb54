"""What Kubeflow tells the exit handler of a run, counted as its own client of MLMD counts it.

Read from kubeflow/pipelines 2.17: `v2/component/launcher_v2.go` (`Execute`), `v2/metadata/client.go`
(`UpdateDAGExecutionsState`) and `v2/driver/dag.go`. A group begins as RUNNING, and only a container that
ends counts the tasks of its group, and where the group is whole, of the group above. A driver counts
nothing: neither of a condition that does not hold, nor of a task that the cache answers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ENDED = ("COMPLETE", "CACHED", "CANCELED")


@dataclass
class Group:
    """A group of tasks in MLMD: its state, and those of the tasks that have begun."""

    expected: int
    above: "Group | None" = None
    name: str = ""
    state: str = "RUNNING"
    tasks: dict[str, str] = field(default_factory=dict)

    def count(self) -> None:
        if sum(state in ENDED for state in self.tasks.values()) == self.expected:
            self.state = "COMPLETE"
        elif "FAILED" in self.tasks.values():
            self.state = "FAILED"
        else:
            return
        if self.above is not None:
            self.above.tasks[self.name] = self.state
            self.above.count()


@dataclass(frozen=True)
class Backend:
    """Runs a compiled pipeline's groups as the backend would, each task once those before it are done.

    Attributes:
        holds: whether a condition does.
        cache: whether the cache answers each task that may be cached.
        fate: how a container's tries end: COMPLETE, FAILED, or None for a pod that is killed.
    """

    spec: dict[str, Any]
    holds: bool = True
    cache: bool = False
    fate: Callable[[str], tuple[str | None, ...]] = lambda name: ("COMPLETE",)

    def run(self, name: str, above: Group | None = None, component: str = "") -> Group:
        dag = self.spec["components"][component or f"comp-{name}"]["dag"]
        group = Group(expected=len(dag["tasks"]), above=above, name=name)
        waiting = dict(dag["tasks"])
        while True:
            ready = [
                key
                for key, task in waiting.items()
                if all(
                    group.tasks.get(one) in ("COMPLETE", "CACHED")
                    for one in task.get("dependentTasks", [])
                )
            ]
            if not ready:
                return group
            # Drivers of conditions write into MLMD before a container beside them ends.
            ready.sort(key=lambda key: "condition" not in str(waiting[key].get("triggerPolicy")))
            key = ready[0]
            self._do(key, waiting.pop(key), group)

    def _do(self, key: str, task: dict[str, Any], group: Group) -> None:
        component = task["componentRef"]["name"]
        if "condition" in task.get("triggerPolicy", {}) and not self.holds:
            group.tasks[key] = "CANCELED"
        elif "dag" in self.spec["components"][component]:
            group.tasks[key] = "RUNNING"
            done = self.run(key, group, component)
            group.tasks[key] = done.state
        elif self.cache and task.get("cachingOptions", {}).get("enableCache"):
            group.tasks[key] = "CACHED"
        else:
            for end in self.fate(key):
                group.tasks[key] = end or "RUNNING"
                if end is not None:
                    group.count()


NAMES = ("training", "retraining", "monitoring", "backfill", "scoring")


def pipeline(compiled: Path, name: str) -> tuple[dict[str, Any], str]:
    """A compiled pipeline and the group that its exit handler waits for."""
    spec = next(yaml.safe_load_all((compiled / f"flights-{name}.yaml").read_text()))
    (group,) = [
        task["dependentTasks"][0]
        for task in spec["root"]["dag"]["tasks"].values()
        if "strategy" in task.get("triggerPolicy", {})
    ]
    return spec, spec["root"]["dag"]["tasks"][group]["componentRef"]["name"].removeprefix("comp-")


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_ended_well_is_told_as_complete(
    name: str, holds: bool, cache: bool, compiled: Path
) -> None:
    spec, group = pipeline(compiled, name)
    assert Backend(spec, holds=holds, cache=cache).run(group).state == "COMPLETE"


@pytest.mark.parametrize("name", NAMES)
def test_every_task_that_fails_or_is_killed_is_told(name: str, compiled: Path) -> None:
    spec, group = pipeline(compiled, name)
    tried: list[str] = []
    Backend(spec, fate=lambda key: (tried.append(key), ("COMPLETE",))[1]).run(group)
    assert len(tried) >= 2
    for bad in tried:
        failed = Backend(spec, fate=lambda key, bad=bad: ("FAILED" if key == bad else "COMPLETE",))  # type: ignore[misc]
        assert failed.run(group).state == "FAILED", bad
        killed = Backend(spec, fate=lambda key, bad=bad: (None if key == bad else "COMPLETE",))  # type: ignore[misc]
        assert killed.run(group).state == "RUNNING", bad
        again = Backend(
            spec,
            fate=lambda key, bad=bad: ("FAILED", "COMPLETE") if key == bad else ("COMPLETE",),  # type: ignore[misc]
        )
        assert again.run(group).state == "COMPLETE", bad
