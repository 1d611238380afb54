"""A pipeline that is compiled and run by the local runner, in a folder of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kfp import compiler

from slipway.local.runner.execution import PipelineRun, execute
from slipway.local.runner.request import RunRequest

Watch = Callable[[Any, dict[str, Any]], None]


def request_in(
    folder: Path, pipeline: Path, arguments: Mapping[str, object] | None = None
) -> RunRequest:
    """What the runner is asked for: a compiled pipeline whose outputs, cache and lock lie in a folder."""
    return RunRequest(
        pipeline=str(pipeline),
        arguments=dict(arguments or {}),
        root=str(folder / "outputs"),
        cache=str(folder / "cache"),
        runner="subprocess",
        environment={},
        mounts=[],
        lock=str(folder / ".work"),
    )


def run_in(
    folder: Path,
    pipeline: Any,
    environment: Mapping[str, str],
    watch: Watch = lambda task, event: None,
) -> PipelineRun:
    """Runs a pipeline of kfp's in a new folder, which is its home too.

    Args:
        folder: is made.
        pipeline: as `dsl.pipeline` gives it.
        environment: of its tasks.
        watch: takes what they tell of themselves.
    """
    folder.mkdir()
    compiled = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(compiled))
    settings = {"SLIPWAY_HOME": str(folder), **environment}
    return execute(request_in(folder, compiled), settings, folder / "run.log", watch)
