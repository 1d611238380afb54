"""Runs one compiled pipeline with `kfp.local`, in a process of its own.

`slipway run` (the process PID) starts it, reads the lines that it prints, and ends it with all its
children on Ctrl-C; where that process is killed, it ends by itself:

    python -m slipway.local.local_run REQUEST.json PID

Beyond what `kfp.local` does by itself it records each task's status, seconds and outputs (cached ones
too), does not retry (a retry helps against a cluster's hiccups, on a laptop it only delays the error),
and believes a task's success only if its outputs are there: the Docker runner of kfp 2.17 can report
success for a container that failed at once.
"""

import logging
import os
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.components.support import stage
from slipway.components.support.errors import SlipwayError
from slipway.local.forked import RUNTIME, ForkedStages
from slipway.local.lifetime import end_session_on_sigterm, held_by_child
from slipway.local.request import RunRequest, read_request


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
    execute = task_executor.execute_single_task

    def execute_and_record(
        task_name: str, task_spec: Any, **rest: Any
    ) -> tuple[dict[str, Any], Any]:
        # `execute_single_task` is where kfp 2.17 runs every kind of task; it has no public hook.
        task_spec.retry_policy.Clear()
        _fill_in_schedule_time(task_spec)
        started = time.monotonic()
        stage.emit("task_start", task=task_name)
        outputs, status = execute(task_name=task_name, task_spec=task_spec, **rest)
        component = rest["components"][task_spec.component_ref.name]
        succeeded = status == status.SUCCESS and _outputs_exist(outputs, component)
        if not succeeded:
            failed.append(task_name)
            status = status.FAILURE
        stage.emit(
            "task_end",
            task=task_name,
            status="succeeded" if succeeded else "failed",
            seconds=round(time.monotonic() - started, 3),
            outputs={name: getattr(value, "uri", value) for name, value in outputs.items()},
        )
        return outputs, status

    run_process = subprocess_task_handler.run_local_subprocess
    task_executor.execute_single_task = execute_and_record
    stages = {name.removeprefix("comp-") for name in pipeline.pipeline_spec.components}
    subprocess_task_handler.run_local_subprocess = ForkedStages(run_process, stages)
    try:
        pipeline(**request.arguments)
    finally:
        task_executor.execute_single_task = execute
        subprocess_task_handler.run_local_subprocess = run_process
    if failed:
        sys.exit(1)


def _import_kfp() -> None:
    """Imports kfp as it is in a task: without its client of a cluster, which is nine tenths of it."""
    os.environ[RUNTIME] = "true"
    try:
        import kfp  # noqa: F401
    finally:
        del os.environ[RUNTIME]


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


def _runner(request: RunRequest) -> Any:
    from kfp import local

    if request.runner == "subprocess":
        end_session_on_sigterm()
        return local.SubprocessRunner(use_venv=False)
    from slipway.local.containers import Containers

    containers = Containers(request)
    containers.check()
    containers.install()
    return local.DockerRunner(environment=request.environment)


if __name__ == "__main__":
    main()
