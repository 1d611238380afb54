"""Runs one compiled pipeline with `kfp.local`, in a process of its own.

`slipway run` (the process PID) starts it, reads the lines that it prints, and ends it with all its
children on Ctrl-C; where that process is killed, it ends by itself:

    python -m slipway.local.runner.local_run REQUEST.json PID

Beyond what `kfp.local` does by itself it records each task's status, seconds and outputs (cached ones
too), does not retry (a retry helps against a cluster's hiccups, on a laptop it only delays the error),
and believes a task's success only if its outputs are there: the Docker runner of kfp 2.17 can report
success for a container that failed at once. The rounds of a loop run one after another: a stage uses all
cores itself, and a laptop has the memory for one of them.
"""

import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.components.support import stage
from slipway.components.support.errors import SlipwayError
from slipway.local.runner.forked import RUNTIME, ForkedStages
from slipway.local.runner.lifetime import end_session_on_sigterm, held_by_child
from slipway.local.runner.request import RunRequest, read_request


def main() -> None:
    """Runs the request that the first argument names, for the process that the second one names.

    Exits with 1 where a task failed.
    """
    request = read_request(Path(sys.argv[1]))
    try:
        with held_by_child(Path(request.lock), int(sys.argv[2])):
            run(request)
    except SlipwayError as error:
        stage.emit("error", message=str(error))
        sys.exit(1)
    except Exception as error:
        stage.emit("error", message=f"{type(error).__name__}: {error}")
        raise


def run(request: RunRequest) -> None:
    """Runs a compiled pipeline and prints an event for each task that ends."""
    _import_kfp()
    from kfp import components, local
    from kfp.local import subprocess_task_handler
    from kfp.local.orchestrator import task_executor
    from kfp.local.orchestrator.enhanced_dag_orchestrator import ParallelExecutor

    # Every stage reads its settings by these models, and is forked with them.
    from slipway.components.config import project  # noqa: F401

    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.INFO)
    pipeline = components.load_component_from_file(request.pipeline)
    # kfp would make one in the system's temporary folder, and leave it there.
    workspace = Path(request.root).parent / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    local.init(
        runner=_runner(request),
        pipeline_root=request.root,
        workspace_root=str(workspace),
        cache_root=request.cache,
        enable_caching=True,
        raise_on_error=False,
    )
    failed: list[str] = []
    stages = {name.removeprefix("comp-") for name in pipeline.pipeline_spec.components}
    with (
        _replaced(
            task_executor,
            "execute_single_task",
            _recording(task_executor.execute_single_task, failed),
        ),
        _replaced(ParallelExecutor, "execute_parallel_tasks", _one_by_one),
        _replaced(
            subprocess_task_handler,
            "run_local_subprocess",
            ForkedStages(subprocess_task_handler.run_local_subprocess, stages),
        ),
    ):
        pipeline(**request.arguments)
    if failed:
        sys.exit(1)


def _recording(execute: Callable[..., Any], failed: list[str]) -> Callable[..., object]:
    """What runs a task, printing an event as it starts and ends; one that fails is added to `failed`."""

    def execute_and_record(
        task_name: str, task_spec: Any, **rest: Any
    ) -> tuple[dict[str, object], object]:
        # `execute_single_task` is where kfp 2.17 runs every kind of task.
        task_spec.retry_policy.Clear()
        _fill_in_schedule_time(task_spec)
        started = time.monotonic()
        shown = _with_round(task_name, rest["pipeline_resource_name"])
        stage.emit("task_start", task=shown)
        outputs, status = execute(task_name=task_name, task_spec=task_spec, **rest)
        component = rest["components"][task_spec.component_ref.name]
        succeeded = status == status.SUCCESS and _outputs_exist(outputs, component)
        if not succeeded:
            failed.append(shown)
            status = status.FAILURE
        stage.emit(
            "task_end",
            task=shown,
            status="succeeded" if succeeded else "failed",
            seconds=round(time.monotonic() - started, 3),
            outputs={name: getattr(value, "uri", value) for name, value in outputs.items()},
        )
        return outputs, status

    return execute_and_record


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Gives kfp a function of ours while the block runs: it has no public hook for any of these."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _import_kfp() -> None:
    """Imports kfp as it is in a task: without its client of a cluster, which is nine tenths of it."""
    os.environ[RUNTIME] = "true"
    try:
        import kfp  # noqa: F401
    finally:
        del os.environ[RUNTIME]


def _with_round(task: str, resource: str) -> str:
    """A task's name; inside a loop with the number of the round, which kfp has in the folder's name."""
    round_ = re.search(r"-iteration-(\d+)$", resource)
    return f"{task}-{round_[1]}" if round_ else task


def _one_by_one(
    _: object, tasks: list[tuple[str, object]], **shared: Any
) -> tuple[dict[str, object], object]:
    """Runs a loop's rounds in the order of their numbers up to the first that fails, without threads."""
    from kfp.local.orchestrator import enhanced_dag_orchestrator
    from kfp.local.status import Status

    del shared["parallelism_limit"]
    found = {}
    for name, spec in tasks:
        outputs, status = enhanced_dag_orchestrator.execute_task(
            task_name=name, task_spec=spec, **shared
        )
        if status == Status.FAILURE:
            shared["fail_stack"].append(name)
            return {}, status
        found[name] = outputs
    return found, Status.SUCCESS


def _fill_in_schedule_time(task_spec: Any) -> None:
    """Does what the backend does and kfp 2.17 forgets: a run that was not scheduled is due now."""
    from kfp import dsl

    now = datetime.now(UTC).replace(microsecond=0).isoformat()
    for value in task_spec.inputs.parameters.values():
        constant = value.runtime_value.constant
        if constant.string_value == dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER:
            constant.string_value = now


def _outputs_exist(outputs: dict[str, Any], component: Any) -> bool:
    """Whether every output that the component declares was really made."""
    declared = component.output_definitions
    names = [*declared.parameters, *declared.artifacts]
    if any(outputs.get(name) is None for name in names):
        return False
    for name in declared.artifacts:
        path = Path(outputs[name].path)
        if "Metrics" in outputs[name].schema_title:
            # Metrics travel as metadata and kfp makes no file for them; its cache, though, takes an
            # artifact without a file for lost and would do the task again.
            path.touch()
        elif not path.exists():
            return False
    return True


def _runner(request: RunRequest) -> object:
    from kfp import local

    if request.runner == "subprocess":
        end_session_on_sigterm()
        return local.SubprocessRunner(use_venv=False)
    from slipway.local.runner.containers import Containers

    containers = Containers(request)
    containers.check()
    containers.install()
    return local.DockerRunner(environment=request.environment)


if __name__ == "__main__":
    main()
