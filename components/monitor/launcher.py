"""Starts the training that a request asks for, once, through the KFP client.

The run is named after the request's key. A retried task, or two at once, find the run by that name and
start no second one; nothing is started while another training of the project runs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.contracts.errors import SlipwayError
from components.contracts.monitoring_record import RetrainRequest
from components.contracts.stage import progress, stage
from components.monitor.retrain import find_request, mark, requests, run_name
from components.monitor.state import Root

POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
ACTIVE = frozenset({"", "pending", "running", "paused", "canceling"})
PAGE = 100


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the training pipeline: `state` as KFP names it, in lower case."""

    run_id: str
    name: str
    state: str

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE


def in_pod() -> bool:
    """Whether this process runs in a cluster."""
    return POD.is_file()


class Runs(Protocol):
    """The training runs of a project, wherever they run."""

    def newest(self) -> list[Run]:
        """The last runs, the newest first."""

    def start(self, name: str, arguments: dict[str, Any]) -> str:
        """Starts a run and returns its id."""

    def cancel(self, run_id: str) -> None:
        """Ends a run."""


@dataclass(frozen=True, slots=True)
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
    """Starts the run of a request, or finds that it has one, or that another is under way.

    Args:
        root: where monitoring keeps its files.
        model: the model that is to be trained anew.
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
        progress(why)
        return Launch("", why)
    run_id = runs.start(name, arguments)
    # Of two that looked at the same moment the earlier one stays; both agree on which that is.
    twins = [run for run in runs.newest() if run.name == name and run.active]
    if len(twins) > 1 and twins[-1].run_id != run_id:
        runs.cancel(run_id)
        return _noted(root, request, twins[-1], "was started by another at the same moment")
    return _noted(root, request, Run(run_id, name, "pending"), "was started")


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
    progress(why)
    return Launch(run.run_id, why)


class KubeflowRuns:
    """The runs of one pipeline on a Kubeflow server.

    Args:
        client: a `kfp.Client`; inside a pod it reads the token that Kubeflow puts there.
        project: the project: its experiment and, with `-retraining`, its pipeline have that name.
    """

    def __init__(self, client: Any, project: str) -> None:
        self._client = client
        self._pipeline = f"{project}-retraining"
        self._experiment = self._asked(client.create_experiment, project).experiment_id
        names = (self._pipeline, f"{project}-training")
        self._ids = {name: self._pipeline_id(name) for name in names}

    def _pipeline_id(self, name: str) -> str | None:
        # Not `get_pipeline_id`, which does not look into a user's namespace.
        where = {"operation": "EQUALS", "key": "display_name", "string_value": name}
        found = self._asked(
            self._client.list_pipelines,
            filter=json.dumps({"predicates": [where]}),
            namespace=self._client.get_user_namespace() or None,
        ).pipelines
        return str(found[0].pipeline_id) if found else None

    def newest(self) -> list[Run]:
        """The last runs of the project that train, whoever started them, the newest first."""
        answer = self._asked(
            self._client.list_runs,
            page_size=PAGE,
            sort_by="created_at desc",
            experiment_id=self._experiment,
        )
        return [
            Run(run.run_id, run.display_name, (run.state or "").lower())
            for run in answer.runs or ()
            if run.pipeline_version_reference
            and run.pipeline_version_reference.pipeline_id in self._ids.values()
        ]

    def start(self, name: str, arguments: dict[str, Any]) -> str:
        """Starts a run of the newest uploaded version."""
        pipeline = self._ids[self._pipeline]
        if pipeline is None:
            raise SlipwayError(
                f"The server has no pipeline {self._pipeline}: upload it with `slipway upload`."
            )
        versions = self._asked(
            self._client.list_pipeline_versions,
            pipeline,
            page_size=1,
            sort_by="created_at desc",
        ).pipeline_versions
        if not versions:
            raise SlipwayError(f"The pipeline {self._pipeline} has no version on the server.")
        run = self._asked(
            self._client.run_pipeline,
            self._experiment,
            name,
            pipeline_id=pipeline,
            version_id=versions[0].pipeline_version_id,
            params=arguments,
        )
        return str(run.run_id)

    def cancel(self, run_id: str) -> None:
        """Ends a run."""
        self._asked(self._client.terminate_run, run_id)

    def _asked(self, call: Any, *arguments: Any, **options: Any) -> Any:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(*arguments, **options)
        except ApiException as error:
            raise SlipwayError(
                f"Kubeflow Pipelines answered {error.status}: {_message(error.body)}. Is the pod's"
                " service account allowed to start runs (see docs/monitoring.md)?"
            ) from error
        except HTTPError as error:
            raise SlipwayError(f"Kubeflow Pipelines does not answer: {error}.") from error


def _message(body: Any) -> str:
    try:
        content = json.loads(body)
        return str(content.get("message") or content.get("error") or body)
    except (TypeError, ValueError, AttributeError):
        return str(body or "nothing")[:300]
