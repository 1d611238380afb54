"""The runs of a project on a Kubeflow server, as retention asks for them."""

from datetime import UTC, datetime

from slipway.components.monitor.retention.kubeflow import KubeflowRun
from slipway.components.support.kubeflow import Json, KfpApi, KfpApiError

ACTIVE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "PAUSED", "CANCELING"})
# A task that the cache answered is SKIPPED: its driver ran, its container did not.
DONE = frozenset({"SUCCEEDED", "SKIPPED"})


class KubeflowHistory:
    """As `slipway.components.monitor.retention.kubeflow.PipelineRuns`.

    Args:
        api: the server.
        experiments: ids of the experiments of the project's name: none, or one.
    """

    def __init__(self, api: KfpApi, experiments: list[str]) -> None:
        self._api, self._experiments = api, experiments

    def list_runs(self) -> list[KubeflowRun]:
        """As there."""
        query = {"sort_by": "created_at desc"}
        found = [
            _read(run)
            for experiment in self._experiments
            for run in self._api.pages("/runs", "runs", experiment_id=experiment, **query)
        ]
        return sorted(found, key=lambda run: run.created, reverse=True)

    def has_run(self, run_id: str) -> bool:
        """As there."""
        try:
            return self._run(run_id) is not None
        except KfpApiError as error:
            # Of another namespace: it is there, and none of ours.
            if error.status == 403:
                return True
            raise

    def ended_tasks(self, run_id: str) -> set[str]:
        """As there."""
        run = self._run(run_id) or {}
        details = (run.get("run_details") or {}).get("task_details") or ()
        return {task.get("display_name") or "" for task in details if task.get("state") in DONE}

    def delete_run(self, run_id: str) -> None:
        """As there."""
        try:
            self._api.ask("DELETE", f"/runs/{run_id}")
        except KfpApiError as error:
            if error.status != 404:
                raise

    def _run(self, run_id: str) -> Json | None:
        try:
            return self._api.ask("GET", f"/runs/{run_id}")
        except KfpApiError as error:
            if error.status == 404:
                return None
            raise


def _read(run: Json) -> KubeflowRun:
    config = run.get("runtime_config") or {}
    return KubeflowRun(
        run_id=str(run["run_id"]),
        created=datetime.fromisoformat(str(run["created_at"])).astimezone(UTC),
        pipeline=str((run.get("pipeline_version_reference") or {}).get("pipeline_id") or ""),
        finished=_moment(run.get("finished_at")),
        active=str(run.get("state") or "") in ACTIVE,
        parameters=config.get("parameters") or {},
    )


def _moment(text: object) -> datetime | None:
    """When; None where it has not been, which the API also writes as a moment of 1970 or before."""
    found = datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    return found if found and found.year > 1970 else None
