"""Retraining, on this machine or on a cluster, for a request that monitor or a person made."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant, next_second
from slipway.components.config.model import Project
from slipway.components.contracts.monitoring.monitoring_record import (
    MonitoringRecord,
    RetrainRequest,
)
from slipway.components.monitor import history
from slipway.components.monitor.retraining.launcher import Run
from slipway.components.monitor.retraining.retrain import (
    Decision,
    arguments_for,
    find_request,
    mark,
    request_training,
    requests,
    run_name,
)
from slipway.components.monitor.state import Root
from slipway.components.support.errors import SlipwayError
from slipway.local.job import Job, RunResult, see_what_serves, train

if TYPE_CHECKING:
    from slipway.cluster.api import Kubeflow
    from slipway.local.workspace import Workspace


def serve_if_asked(job: Job, record: MonitoringRecord | None) -> RunResult | None:
    """Retrains here, where the record of a window asks for it and no run has served it yet."""
    if record is None or not record.retrain:
        return None
    root = job.workspace.settings()["MONITORING_URI"]
    request = find_request(root, record.model, record.details["request"])
    return serve(job, request) if request.status == "requested" else None


def serve(job: Job, request: RetrainRequest) -> RunResult:
    """Runs the training that a request asks for, in this process, past the same gate.

    Raises:
        SlipwayError: a stage failed; the request is marked so, and no endpoint is changed.
    """
    project, root = job.loaded.project, job.workspace.settings()["MONITORING_URI"]
    request = mark(root, request, "started", run_name(request))
    start, _ = project.data.window_texts
    try:
        _, result = train(job, arguments_for(request, start, project.monitoring))
    except BaseException:
        mark(root, request, "failed")
        raise
    mark(root, request, "finished")
    see_what_serves(job, result)
    return result


def close_lost(workspace: "Workspace", model: str) -> None:
    """Notes as failed what was asked for in a workspace whose process is gone.

    Nothing else can run in a workspace that is locked, so a training that is open there was killed. A
    state folder elsewhere is left alone: others may train by it.

    Args:
        workspace: where local runs are kept, locked.
        model: the registered model's name.
    """
    root = Path(workspace.settings()["MONITORING_URI"])
    if not root.is_relative_to(workspace.root):
        return
    for request in requests(root, model):
        if request.status in ("requested", "started"):
            mark(root, request, "failed")


def ask_by_hand(root: Root, project: Project, why: str, until: datetime | None) -> Decision:
    """A person's request, in their words, for the model that was monitored last.

    Args:
        root: where monitoring keeps its files.
        project: the project.
        why: the person's words.
        until: end of the data; None: of the last monitored window, or else of the project's data; or
            now, where those have no window.
    """
    name = project.project_name
    last = next(iter(history.records(root, name, newest=1)), None)
    now = format_instant(next_second(datetime.now(UTC)))
    window = (
        last.window if last else project.data.window.texts if project.data.window else (now, now)
    )
    start, end = window[0], format_instant(until) if until else window[1]
    version = last.metrics.model_version if last else ""
    return request_training(
        root, name, version, (start, end), (why,), project.monitoring, by_hand=True
    )


class ClusterRuns:
    """The training runs of a project on a cluster, with the ways in that the other commands have."""

    def __init__(self, kubeflow: "Kubeflow", project: str) -> None:
        self._kubeflow = kubeflow
        self._project = project
        self._experiment = kubeflow.experiment(project).experiment_id
        names = (f"{project}-retraining", f"{project}-training")
        self._pipelines = {name: kubeflow.find_pipeline(name) for name in names}

    def newest(self) -> list[Run]:
        """The last runs that train, the newest first."""
        ids = {pipeline.pipeline_id for pipeline in self._pipelines.values() if pipeline}
        return [
            Run(run_id=run.run_id, name=run.display_name, state=(run.state or "").lower())
            for run in self._kubeflow.runs(self._experiment)
            if run.pipeline_version_reference and run.pipeline_version_reference.pipeline_id in ids
        ]

    def start(self, name: str, arguments: dict[str, object]) -> str:
        """Starts a run of the newest uploaded version."""
        import kfp_server_api as kfp

        pipeline = self._pipelines[f"{self._project}-retraining"]
        versions = self._kubeflow.versions(pipeline.pipeline_id) if pipeline else []
        if not versions:
            raise SlipwayError(
                f"The server has no pipeline {self._project}-retraining: upload it with"
                " `slipway upload`."
            )
        body = kfp.V2beta1Run(
            display_name=name,
            experiment_id=self._experiment,
            pipeline_version_reference=kfp.V2beta1PipelineVersionReference(
                pipeline_id=versions[0].pipeline_id,
                pipeline_version_id=versions[0].pipeline_version_id,
            ),
            runtime_config=kfp.V2beta1RuntimeConfig(parameters=arguments),
        )
        return str(self._kubeflow.create_run(body).run_id)

    def cancel(self, run_id: str) -> None:
        """Ends a run."""
        self._kubeflow.terminate(run_id)
