"""The runs of a project on a Kubeflow server, as retention asks for them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from slipway.components.monitor.retention.kubeflow import KubeflowRun
from slipway.components.support.errors import SlipwayError

Ask = Callable[..., dict[str, Any]]
"""`ask(method, path, **query)`: the answer of the v2beta1 API; an error has the `status` of HTTP."""
PAGE = 100
ACTIVE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "PAUSED", "CANCELING"})
# A task that the cache answered is SKIPPED: its driver ran, its container did not.
DONE = frozenset({"SUCCEEDED", "SKIPPED"})


class KubeflowHistory:
    """As `slipway.components.monitor.retention.kubeflow.PipelineRuns`.

    Args:
        ask: of the server.
        experiments: ids of the experiments of the project's name: none, or one.
    """

    def __init__(self, ask: Ask, experiments: list[str]) -> None:
        self._ask, self._experiments = ask, experiments

    def list_runs(self) -> list[KubeflowRun]:
        """As there."""
        found = []
        for experiment in self._experiments:
            query = {
                "experiment_id": experiment,
                "page_size": PAGE,
                "sort_by": "created_at desc",
            }
            token = ""
            while True:
                page = self._ask("GET", "/runs", page_token=token, **query)
                found += [_read(run) for run in page.get("runs") or ()]
                if not (token := page.get("next_page_token") or ""):
                    break
        return sorted(found, key=lambda run: run.created, reverse=True)

    def has_run(self, run_id: str) -> bool:
        """As there."""
        try:
            return self._run(run_id) is not None
        except SlipwayError as error:
            # Of another namespace: it is there, and none of ours.
            if getattr(error, "status", 0) == 403:
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
            self._ask("DELETE", f"/runs/{run_id}")
        except SlipwayError as error:
            if getattr(error, "status", 0) != 404:
                raise

    def _run(self, run_id: str) -> dict[str, Any] | None:
        try:
            return self._ask("GET", f"/runs/{run_id}")
        except SlipwayError as error:
            if getattr(error, "status", 0) == 404:
                return None
            raise


def _read(run: dict[str, Any]) -> KubeflowRun:
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
