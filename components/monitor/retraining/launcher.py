"""Starts the training that a request asks for, once, through Kubeflow Pipelines' API.

The run is named after the request's key. A retried task, or two at once, find the run by that name and
start no second one; nothing is started while another training of the project runs.
"""

import os
from dataclasses import dataclass
from typing import Any, Protocol

from slipway.components.contracts.monitoring.monitoring_record import RetrainRequest
from slipway.components.monitor.retraining.retrain import find_request, mark, requests, run_name
from slipway.components.monitor.state import Root
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubeflow import PAGE, pod_api
from slipway.components.support.stage import stage

ACTIVE = frozenset({"", "pending", "running", "paused", "canceling"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of the training pipeline: `state` as KFP names it, in lower case."""

    run_id: str
    name: str
    state: str

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE


class Runs(Protocol):
    """The training runs of a project, wherever they run."""

    def newest(self) -> list[Run]:
        """The last runs, the newest first."""

    def start(self, name: str, arguments: dict[str, object]) -> str:
        """Starts a run and returns its id."""

    def cancel(self, run_id: str) -> None:
        """Ends a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What became of a request: the id of its run, or empty, and why."""

    run: str
    why: str

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return self.why


@stage("retrain")
def launch(*, root: Root, model: str, key: str, runs: Runs, arguments: dict[str, Any]) -> Launch:
    """What the task of a pipeline does: `start_once`, with its events."""
    return start_once(root=root, model=model, key=key, runs=runs, arguments=arguments)


@stage("retrain")
def leave(why: str) -> Launch:
    """What the task does where it has nothing to start: it says why."""
    return Launch(run="", why=why)


def start_once(
    *, root: Root, model: str, key: str, runs: Runs, arguments: dict[str, Any]
) -> Launch:
    """Starts the run of a request, or finds that it has one, or that another is under way.

    Args:
        root: where monitoring keeps its files.
        model: the model to retrain.
        key: the request's key.
        runs: the project's runs of the training pipeline.
        arguments: parameters of the pipeline, of which `window_end` is the request's.

    Raises:
        SlipwayError: there is no such request, or the server refuses.
    """
    known = runs.newest()
    follow_up(root, model, known)
    request = find_request(root, model, key)
    name = run_name(request)
    mine = [run for run in known if run.name == name]
    if mine:
        return _noted(root, request, mine[-1], "has been started already")
    busy = [run for run in known if run.active]
    if busy:
        why = f"Nothing was started: {busy[0].name} is still {busy[0].state or 'starting'}."
        return Launch(run="", why=why)
    run_id = runs.start(name, arguments)
    # Of two that looked at the same moment the earlier one stays; both agree on which that is.
    twins = [run for run in runs.newest() if run.name == name and run.active]
    if len(twins) > 1 and twins[-1].run_id != run_id:
        runs.cancel(run_id)
        return _noted(root, request, twins[-1], "was started by another at the same moment")
    return _noted(root, request, Run(run_id=run_id, name=name, state="pending"), "was started")


def follow_up(root: Root, model: str, runs: list[Run]) -> None:
    """Notes how the trainings went that were started earlier."""
    by_id = {run.run_id: run for run in runs}
    for request in requests(root, model):
        run = by_id.get(request.run)
        if request.status == "started" and run and not run.active:
            mark(root, request, "finished" if run.state == "succeeded" else "failed")


def _noted(root: Root, request: RetrainRequest, run: Run, what: str) -> Launch:
    if request.status == "requested":
        mark(root, request, "started", run.run_id)
    why = f"{run.name} ({run.run_id}) {what}: {', '.join(request.reasons)}."
    return Launch(run=run.run_id, why=why)


class KubeflowRuns:
    """The runs of one project on a Kubeflow server.

    Args:
        project: the project: its experiment and, with `-retraining`, its pipeline have that name.
        host: base URL of the server; empty: the service in this pod's cluster.
    """

    def __init__(self, project: str, host: str = "") -> None:
        self._api = pod_api(host)
        self._ask = self._api.ask
        self._retraining = f"{project}-retraining"
        self._experiment = self._experiment_of(project)
        names = (self._retraining, f"{project}-training")
        self._ids = {name: self._pipeline_id(name) for name in names}

    def newest(self) -> list[Run]:
        """The last runs of the project that train, by whatever they were started, the newest first."""
        answer = self._ask(
            "GET",
            "/runs",
            experiment_id=self._experiment,
            page_size=PAGE,
            sort_by="created_at desc",
        )
        return [
            Run(
                run_id=run["run_id"],
                name=run["display_name"],
                state=(run.get("state") or "").lower(),
            )
            for run in answer.get("runs", ())
            if (run.get("pipeline_version_reference") or {}).get("pipeline_id")
            in self._ids.values()
        ]

    def start(self, name: str, arguments: dict[str, object]) -> str:
        """Starts a run of the newest uploaded version, as the account that this pod runs as."""
        pipeline = self._ids[self._retraining]
        path = f"/pipelines/{pipeline}/versions"
        found = (
            self._ask("GET", path, page_size=1, sort_by="created_at desc") if pipeline else {}
        ).get("pipeline_versions")
        if not found:
            raise SlipwayError(
                f"The server has no pipeline {self._retraining}: upload it with `slipway upload`."
            )
        version = found[0]["pipeline_version_id"]
        run = {
            "display_name": name,
            "description": "Asked for by monitoring.",
            "experiment_id": self._experiment,
            "pipeline_version_reference": {
                "pipeline_id": pipeline,
                "pipeline_version_id": version,
            },
            "runtime_config": {"parameters": arguments},
        }
        if account := os.environ.get("SLIPWAY_SERVICE_ACCOUNT"):
            run["service_account"] = account
        return str(self._ask("POST", "/runs", content=run)["run_id"])

    def cancel(self, run_id: str) -> None:
        """Ends a run."""
        self._ask("POST", f"/runs/{run_id}:terminate")

    def _experiment_of(self, name: str) -> str:
        found = next(self._api.named("experiments", name), None)
        if found is None:
            content = {"display_name": name, "namespace": self._api.namespace}
            found = self._ask("POST", "/experiments", content=content)
        return str(found["experiment_id"])

    def _pipeline_id(self, name: str) -> str | None:
        found = next(self._api.named("pipelines", name), None)
        return str(found["pipeline_id"]) if found else None
