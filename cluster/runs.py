"""Runs on the cluster: started, followed to their end, listed, cancelled."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import kfp_server_api as kfp

from slipway.cluster.api import Kubeflow
from slipway.cluster.upload import Uploaded
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.package import Package, check_arguments

ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
GATE = "gate-passed"
AFTER_GATE = "register"
BEFORE_GATE = "evaluate"


@dataclass(slots=True)
class TaskState:
    """How a task of a run stands: `state` as KFP names it, in lower case."""

    name: str
    state: str
    seconds: float = 0.0
    error: str = ""


@dataclass(slots=True)
class RunState:
    """How a run stands.

    Attributes:
        state: as KFP names it, in lower case: pending, running, succeeded, failed, canceled …
        verdict: "pass" or "fail"; None where the pipeline has no gate, or has not reached it.
    """

    run_id: str
    name: str
    state: str
    tasks: dict[str, TaskState] = field(default_factory=dict)
    verdict: str | None = None
    error: str = ""
    link: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state.upper() in ENDED


def submit(
    kubeflow: Kubeflow,
    package: Package,
    uploaded: Uploaded,
    *,
    experiment: str,
    arguments: dict[str, Any],
    service_account: str = "",
    pipeline_root: str = "",
) -> RunState:
    """Starts one run of an uploaded version.

    Args:
        kubeflow: the server.
        package: what was uploaded: its parameters are checked against.
        uploaded: the version.
        experiment: that the run belongs to.
        arguments: parameters that differ from the version's defaults.
        service_account: that the pods run as; empty: the server's default.
        pipeline_root: where artifacts are kept; empty: the server's default.
    """
    check_arguments(package, arguments)
    moment = datetime.now(UTC).strftime("%Y%m%dt%H%M%S")
    name = f"{package.name}-{moment}-{uuid.uuid4().hex[:6]}"
    body = kfp.V2beta1Run(
        display_name=name,
        description=f"{package.name} {uploaded.version}, submitted with slipway.",
        experiment_id=kubeflow.experiment(experiment).experiment_id,
        pipeline_version_reference=kfp.V2beta1PipelineVersionReference(
            pipeline_id=uploaded.pipeline_id, pipeline_version_id=uploaded.version_id
        ),
        runtime_config=kfp.V2beta1RuntimeConfig(
            parameters=arguments, pipeline_root=pipeline_root or None
        ),
        service_account=service_account or None,
    )
    return state_of(kubeflow, kubeflow.create_run(body))


def follow(
    kubeflow: Kubeflow,
    run_id: str,
    watch: Callable[[TaskState], None],
    *,
    names: set[str] | None = None,
    every: float = 5.0,
    limit: float = 0.0,
) -> RunState:
    """Waits for the end of a run and calls `watch` whenever a task starts or ends.

    Args:
        kubeflow: the server.
        run_id: the run.
        watch: is called with each task whose state changed.
        names: the tasks that a person knows; others (drivers, conditions) are left out.
        every: seconds between two looks.
        limit: seconds after which waiting ends; 0: none. The run goes on.

    Raises:
        SlipwayError: the limit was reached, or the server stayed away.
    """
    seen: dict[str, str] = {}
    started = time.monotonic()
    while True:
        state = state_of(kubeflow, kubeflow.run(run_id), names)
        for task in state.tasks.values():
            if seen.get(task.name) != task.state:
                seen[task.name] = task.state
                watch(task)
        if state.ended:
            return state
        if limit and time.monotonic() - started > limit:
            raise SlipwayError(
                f"Run {run_id} is still {state.state} after {limit:.0f} s. It goes on:"
                f" `slipway runs {run_id} --wait` waits again, `slipway cancel {run_id}` ends it."
            )
        time.sleep(every)


def state_of(kubeflow: Kubeflow, run: kfp.V2beta1Run, names: set[str] | None = None) -> RunState:
    """Reads a run's answer."""
    tasks: dict[str, TaskState] = {}
    everything: dict[str, str] = {}
    details = run.run_details.task_details if run.run_details else None
    for detail in details or ():
        name, state = detail.display_name or "", (detail.state or "PENDING").lower()
        everything[name] = state
        if names is not None and name not in names:
            continue
        tasks[name] = TaskState(
            name, state, _seconds(detail.start_time, detail.end_time), _message(detail.error)
        )
    state = (run.state or "PENDING").lower()
    return RunState(
        run_id=run.run_id,
        name=run.display_name,
        state=state,
        tasks=tasks,
        verdict=_verdict(state, everything),
        error=_message(run.error),
        link=kubeflow.link("runs", run.run_id),
    )


def _verdict(run: str, tasks: dict[str, str]) -> str | None:
    """What the gate said, from what ran after it: only a pass lets `register` start."""
    if tasks.get(BEFORE_GATE) not in ("succeeded", "skipped"):
        return None
    after = tasks.get(AFTER_GATE)
    if after in ("running", "succeeded", "failed"):
        return "pass"
    return "fail" if run == "succeeded" else None


def listed(kubeflow: Kubeflow, experiment: str, limit: int) -> Iterator[kfp.V2beta1Run]:
    """The newest runs of a project."""
    found = kubeflow.find_experiment(experiment)
    if found is None:
        return
    for number, run in enumerate(kubeflow.runs(found.experiment_id), start=1):
        yield run
        if number == limit:
            return


def _seconds(start: datetime | None, end: datetime | None) -> float:
    if not start or start.year <= 1970:
        return 0.0
    last = end if end and end.year > 1970 else datetime.now(start.tzinfo)
    return max(0.0, (last - start).total_seconds())


def _message(error: Any) -> str:
    return str(getattr(error, "message", "") or "") if error else ""
