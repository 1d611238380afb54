"""Runs on the cluster: started, followed to their end, listed, cancelled."""

import math
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import kfp_server_api as kfp

from slipway.cluster.api import Kubeflow
from slipway.cluster.upload import Uploaded
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import TimeSource, wait_until
from slipway.pipelines.graph import order_tasks
from slipway.pipelines.package import Package, check_arguments

PENDING, NOT_RUN = "pending", "not run"
ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
AFTER_GATE = "register"
BEFORE_GATE = "evaluate"
# Argo's nodes that are no stage: drivers, containers, groups and exit hooks.
DRIVER = "-driver"
INNER = re.compile(
    r"executor(\(\d+\))?|root|(condition|condition-branches|exit-handler|for-loop)-\d+.*|.*\.onExit"
    r"|iteration(-item|-iterations(\(\d+:\d+\))?)?"
)


@dataclass(slots=True, kw_only=True)
class TaskState:
    """How a task of a run stands.

    Attributes:
        state: as KFP names it, in lower case; "not run" where the run ended without it.
        error: why it failed, where the server says so.
        in_driver: whether it failed before its container began, in Kubeflow's own driver.
    """

    name: str
    state: str
    seconds: float = 0.0
    error: str = ""
    in_driver: bool = False


@dataclass(slots=True, kw_only=True)
class RunState:
    """How a run stands.

    Attributes:
        state: as KFP names it, in lower case: pending, running, succeeded, failed, canceling …
        tasks: the stages in the pipeline's order.
        cancelled: whether somebody ended it; KFP then calls it failed.
        verdict: "pass" or "fail"; None where the pipeline has no gate, or has not reached it.
    """

    run_id: str
    name: str
    state: str
    tasks: list[TaskState] = field(default_factory=list)
    verdict: str | None = None
    error: str = ""
    link: str = ""
    cancelled: bool = False

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
    arguments: dict[str, object],
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
    return state_of(kubeflow, kubeflow.create_run(body), ())


def follow(
    kubeflow: Kubeflow,
    run_id: str,
    watch: Callable[[TaskState], None],
    *,
    every: float = 5.0,
    limit: float = 0.0,
    options: str = "",
    clock: TimeSource = time,
) -> RunState:
    """Waits for the end of a run and calls `watch` whenever a task starts or ends.

    Args:
        kubeflow: the server.
        run_id: the run.
        watch: is called with each task whose state changed.
        every: seconds between two looks.
        limit: seconds after which waiting ends; 0: none. The run goes on.
        options: of a command line, that lead another command to the same server.
        clock: that both go by.

    Raises:
        SlipwayError: the limit was reached, or the server stayed away.
    """
    seen: dict[int, str] = {}
    stages: Sequence[str] | None = None
    state: RunState | None = None

    def has_ended() -> bool:
        nonlocal stages, state
        run = kubeflow.run(run_id)
        stages = find_stages(kubeflow, run) if stages is None else stages
        state = state_of(kubeflow, run, stages)
        for number, task in enumerate(state.tasks):
            if task.state not in (PENDING, NOT_RUN) and seen.get(number) != task.state:
                seen[number] = task.state
                watch(task)
        return state.ended

    in_time = wait_until(has_ended, timeout=limit or math.inf, every=every, clock=clock)
    assert state is not None  # noqa: S101 - it was asked at least once
    if in_time:
        return state
    more = f" {options}" if options else ""
    raise SlipwayError(
        f"Run {run_id} is still {state.state} after {limit:.0f} s. It goes on:"
        f" `slipway runs {run_id} --wait{more}` waits again, `slipway cancel {run_id}{more}`"
        " ends it."
    )


def find_stages(kubeflow: Kubeflow, run: kfp.V2beta1Run) -> list[str]:
    """The names of a run's stages in the order in which they run; empty where its pipeline is gone."""
    content = run.pipeline_spec
    reference = run.pipeline_version_reference
    try:
        if not content and reference:
            version = kubeflow.version(reference.pipeline_id, reference.pipeline_version_id)
            content = version.pipeline_spec
        spec = (content or {}).get("pipeline_spec", content or {})
        return [task.name for task in order_tasks(spec, f"The pipeline of run {run.run_id}")]
    except SlipwayError:
        return []


def state_of(
    kubeflow: Kubeflow, run: kfp.V2beta1Run, stages: Sequence[str] | None = None
) -> RunState:
    """Reads a run's answer.

    Args:
        kubeflow: the server.
        run: the answer.
        stages: the run's stages in order; None asks the server for its pipeline.
    """
    if stages is None:
        stages = find_stages(kubeflow, run)
    state = (run.state or "PENDING").lower()
    nodes: dict[str, list[object]] = {}
    details = run.run_details.task_details if run.run_details else None
    for detail in sorted(details or (), key=lambda detail: str(detail.start_time)):
        nodes.setdefault(detail.display_name or "", []).append(detail)
    tasks = _tasks(nodes, stages, ended=state.upper() in ENDED)
    return RunState(
        run_id=run.run_id,
        name=run.display_name,
        state=state,
        tasks=tasks,
        verdict=_verdict(state, {task.name: task.state for task in tasks}),
        error=_message(run.error),
        link=kubeflow.link("runs", run.run_id),
        cancelled=state == "canceled"
        or any(past.state == "CANCELING" for past in run.state_history or ()),
    )


def _tasks(
    nodes: dict[str, list[kfp.V2beta1PipelineTaskDetail]], stages: Sequence[str], *, ended: bool
) -> list[TaskState]:
    """The stages in order, each node of a stage apart; then what failed and belongs to none."""
    left_over = {name for name in nodes if not name.endswith(DRIVER) and not INNER.fullmatch(name)}
    names = [*stages] or sorted(left_over, key=lambda name: str(nodes[name][0].start_time))
    absent = NOT_RUN if ended else PENDING
    tasks = []
    for name in names:
        driver = nodes.get(f"{name}{DRIVER}", [])
        broken = any(node.state == "FAILED" for node in driver)
        for node in nodes.get(name) or [None]:
            # A phase of Argo's that KFP has no word for is "omitted": what it waits for failed.
            known = node is not None and node.state
            state = node.state.lower() if known else "failed" if broken else absent
            seconds = _seconds(node.start_time, node.end_time) if known else 0.0
            error = _message(node.error) if node is not None else ""
            tasks.append(
                TaskState(name=name, state=state, seconds=seconds, error=error, in_driver=broken)
            )
    for name, found in nodes.items():
        stage = name.removesuffix(DRIVER)
        if name != stage and stage not in names and any(n.state == "FAILED" for n in found):
            tasks.append(TaskState(name=name, state="failed", error=_message(found[0].error)))
    return tasks


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


def _message(error: object) -> str:
    return str(getattr(error, "message", "") or "") if error else ""
