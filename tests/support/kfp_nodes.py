"""The nodes of the Argo workflow that Kubeflow Pipelines makes of a pipeline, as its API tells them.

From kubeflow/pipelines 2.17.0: backend/src/v2/compiler/argocompiler/dag.go and container.go lay them out,
backend/src/common/util/workflow.go (NodeStatuses) and backend/src/apiserver/server/api_converter.go
(toApiPipelineTaskDetail) say what of them the API gives: a name and a state, no error and no parent.
"""

import uuid
from typing import Any

YEAR_ONE = "0001-01-01T00:00:00Z"


class Nodes:
    """The nodes of the workflow that KFP's compiler makes of a pipeline, as they stand at one moment.

    Args:
        spec: the pipeline spec.
        fail_task: the task that fails; empty: none.
        fail_driver: whether it is its driver that fails, not its container.
        refuse: whether conditions do not hold.
        ended: whether the workflow has ended; else its first task runs.
        stopped: whether it ended because it was stopped while its first task ran.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        *,
        fail_task: str = "",
        fail_driver: bool = False,
        refuse: bool = False,
        ended: bool = True,
        stopped: bool = False,
    ) -> None:
        self.spec = spec
        self.fail_task = fail_task
        self.fail_driver = fail_driver
        self.refuse = refuse
        self.ended = ended
        self.stopped = stopped
        self.failed = False
        self.nodes: list[tuple[str, str]] = []

    def add_run(self, name: str) -> None:
        """The whole workflow."""
        self._add("root-driver", "SUCCEEDED")
        state = self._add_dag(self.spec["root"])
        self.failed = state == "FAILED"
        self._add("root", state)
        self._add(name, state)

    def details(self, run_id: str) -> list[dict[str, Any]]:
        """As the API gives them."""
        details = []
        for number, (name, state) in enumerate(self.nodes):
            known = {"state": state} if state else {}
            ended = state not in ("RUNNING", "PENDING")
            details.append(
                {
                    "run_id": run_id,
                    "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id} {number} {name}")),
                    "display_name": name,
                    "create_time": "2026-01-01T00:00:00Z",
                    "start_time": "2026-01-01T00:00:00Z",
                    "end_time": "2026-01-01T00:01:00Z" if ended else YEAR_ONE,
                    **known,
                    "state_history": [{"update_time": "2026-01-01T00:00:00Z", **known}],
                    "child_tasks": [{"pod_name": f"workflow-{number:010d}"}],
                }
            )
        return details

    def _add(self, name: str, state: str) -> None:
        self.nodes.append((name, state))

    def _add_dag(self, component: dict[str, Any]) -> str:
        """The tasks of a group; says how the group stands."""
        tasks = component["dag"]["tasks"]
        handlers = {
            name: task
            for name, task in tasks.items()
            if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        }
        needs = {n: set(t.get("dependentTasks", ())) for n, t in tasks.items() if n not in handlers}
        states: dict[str, str] = {}
        while needs:
            name = next(n for n, before in needs.items() if before <= states.keys())
            before = [states[other] for other in needs.pop(name)]
            if any(state in ("FAILED", "") for state in before):
                # Argo: "omitted: depends condition not met", a phase that KFP has no word for.
                self._add(f"{name}-driver", "")
                self._add(name, "")
                states[name] = ""
            elif any(state == "RUNNING" for state in before):
                states[name] = "RUNNING"  # there is no node yet
            else:
                states[name] = self._add_task(name, tasks[name])
        for name, task in handlers.items():
            (group,) = task["dependentTasks"]
            if states[group] != "RUNNING" and not self.stopped:
                self._add(f"{group}.onExit", self._add_task(name, task))
        if "FAILED" in states.values():
            return "FAILED"
        return "RUNNING" if "RUNNING" in states.values() else "SUCCEEDED"

    def _add_task(self, name: str, task: dict[str, Any]) -> str:
        component = self.spec["components"][task["componentRef"]["name"]]
        if "parameterIterator" in task:
            return self._add_loop(name, component)
        broken = self.ended and name == self.fail_task
        if broken and self.fail_driver:
            self._add(f"{name}-driver", "FAILED")
            self._add(name, "")
            return "FAILED"
        self._add(f"{name}-driver", "SUCCEEDED")
        if "dag" in component:
            if task.get("triggerPolicy", {}).get("condition") and self.refuse:
                self._add(name, "SKIPPED")
                return "SKIPPED"
            state = self._add_dag(component)
            self._add(name, state)
            return state
        state = "SUCCEEDED"
        if not self.ended:
            state = "RUNNING"
        elif broken or self.stopped:
            state = "FAILED"
        self._add(name, state)
        self._add("executor", state)
        tries = 1 + task.get("retryPolicy", {}).get("maxRetryCount", 0) if broken else 1
        for number in range(tries):
            self._add(f"executor({number})", state)
        return state

    def _add_loop(self, name: str, component: dict[str, Any]) -> str:
        """A loop of two rounds, each a group of its own below nodes that all loops call alike."""
        self._add("iteration-driver", "SUCCEEDED")
        states = []
        for number in range(2):
            self._add("iteration-item-driver", "SUCCEEDED")
            states.append(self._add_dag(component))
            self._add("iteration-item", states[-1])
            self._add(f"iteration-iterations({number}:{number})", states[-1])
        state = next((s for s in ("FAILED", "RUNNING") if s in states), "SUCCEEDED")
        for group in ("iteration-iterations", name):
            self._add(group, state)
        return state
