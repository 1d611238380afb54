"""What Slipway asks of the v2beta1 API, each as one typed call.

The requests are those of `components/support/kubeflow.py`; of the generated client only the records of
the API are used.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar
from urllib.parse import quote

import kfp_server_api as kfp

from slipway.cluster.connection import Connection, find_access
from slipway.cluster.transport import advise, ensure, is_unknown
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubeflow import BACKOFF, KfpApi, KfpApiError, name_filter
from slipway.components.support.retry import retry

R = TypeVar("R")


class Kubeflow:
    """One Kubeflow Pipelines server, as one user in one namespace.

    Args:
        connection: where it is and how to get in.
        backoff: seconds before the first repetition of a request.

    Attributes:
        api: its requests.
    """

    def __init__(self, connection: Connection, *, backoff: float = BACKOFF) -> None:
        access = find_access(connection)
        self.connection = connection
        self.namespace = connection.namespace
        self.api = KfpApi(access, namespace=self.namespace, backoff=backoff, advise=advise)
        self._backoff = backoff
        self._host = access.host

    def link(self, kind: str, identity: str) -> str:
        """The page of the user interface; empty where only the API server's proxy is known."""
        if not self.connection.host:
            return ""
        return f"{self._host}/#/{kind}/details/{identity}"

    def health(self) -> kfp.V2beta1GetHealthzResponse:
        """Answers where the server is up; says whether it serves several users."""
        answer = self.api.ask("GET", "/healthz", what="Asking for the server's health")
        return record(kfp.V2beta1GetHealthzResponse, answer)

    # Pipelines and versions

    def find_pipeline(self, name: str) -> kfp.V2beta1Pipeline | None:
        """The pipeline of that name in the namespace."""
        try:
            answer = self.api.ask(
                "GET",
                f"/pipelines/names/{_part(name)}",
                what=f"Looking for pipeline {name}",
                namespace=self.namespace,
            )
        except KfpApiError as error:
            if error.status == 404:
                return None
            raise
        return record(kfp.V2beta1Pipeline, answer)

    def find_version(self, pipeline_id: str, name: str) -> kfp.V2beta1PipelineVersion | None:
        """The version of that name of a pipeline."""
        found = self.api.named(
            "pipeline_versions",
            name,
            what=f"Looking for version {name}",
            path=f"/pipelines/{_part(pipeline_id)}/versions",
        )
        return next((record(kfp.V2beta1PipelineVersion, version) for version in found), None)

    def versions(self, pipeline_id: str) -> list[kfp.V2beta1PipelineVersion]:
        """All versions of a pipeline, the newest first."""
        found = self.api.pages(
            f"/pipelines/{_part(pipeline_id)}/versions",
            "pipeline_versions",
            what="Listing the versions",
            sort_by="created_at desc",
        )
        return [record(kfp.V2beta1PipelineVersion, version) for version in found]

    def version(self, pipeline_id: str, version_id: str) -> kfp.V2beta1PipelineVersion:
        """One version with its pipeline spec."""
        path = f"/pipelines/{_part(pipeline_id)}/versions/{_part(version_id)}"
        answer = self.api.ask("GET", path, what=f"Reading version {version_id}")
        return record(kfp.V2beta1PipelineVersion, answer)

    def create_pipeline(self, name: str, description: str) -> kfp.V2beta1Pipeline:
        """A pipeline without a version, or the one that another made at the same moment."""
        body = kfp.V2beta1Pipeline(
            name=name,
            display_name=name,
            description=description,
            namespace=self.namespace or None,
        )
        return ensure(
            lambda: self._create(f"Creating pipeline {name}", "/pipelines", body),
            lambda: self.find_pipeline(name),
            backoff=self._backoff,
        )

    def upload_version(
        self, pipeline_id: str, file: Path, name: str, description: str
    ) -> kfp.V2beta1PipelineVersion:
        """Uploads a file as a version; where that name is there already, takes that one."""

        def upload() -> kfp.V2beta1PipelineVersion:
            answer = self.api.ask(
                "POST",
                "/pipelines/upload_version",
                what=f"Uploading {file}",
                file=file,
                pipelineid=pipeline_id,
                name=name,
                display_name=name,
                description=description,
            )
            return record(kfp.V2beta1PipelineVersion, answer)

        return ensure(upload, lambda: self.find_version(pipeline_id, name), backoff=self._backoff)

    # Experiments and runs

    def experiment(self, name: str) -> kfp.V2beta1Experiment:
        """The experiment of that name in the namespace, made where it is missing.

        Raises:
            SlipwayError: it is archived. The server takes runs in it all the same, and shows them nowhere
                that a person looks; archiving has also paused its recurring runs.
        """
        found = self.find_experiment(name)
        if found is not None:
            if found.storage_state == "ARCHIVED":
                raise SlipwayError(
                    f"Experiment {name} is archived, so its runs would not be seen. Restore it in the"
                    " Kubeflow UI (Experiments, Archived), then run this again."
                )
            return found
        body = kfp.V2beta1Experiment(display_name=name, namespace=self.namespace or None)
        return ensure(
            lambda: self._create(f"Creating experiment {name}", "/experiments", body),
            lambda: self.find_experiment(name),
            backoff=self._backoff,
        )

    def find_experiment(self, name: str) -> kfp.V2beta1Experiment | None:
        """The experiment of that name in the namespace."""
        found = self.api.named("experiments", name, what=f"Looking for experiment {name}")
        return next((record(kfp.V2beta1Experiment, entry) for entry in found), None)

    def create_run(self, run: kfp.V2beta1Run) -> kfp.V2beta1Run:
        """Starts a run, once: its display name must be unique in its experiment."""
        name, experiment = run.display_name, run.experiment_id
        return ensure(
            lambda: self._create(f"Starting run {name}", "/runs", run, experiment_id=experiment),
            lambda: next(self.runs(experiment, filter=name_filter(name)), None),
            backoff=self._backoff,
        )

    def run(self, run_id: str) -> kfp.V2beta1Run:
        """One run with the details of its tasks."""
        answer = self.api.ask("GET", f"/runs/{_part(run_id)}", what=f"Reading run {run_id}")
        return record(kfp.V2beta1Run, answer)

    def runs(self, experiment_id: str, **options: object) -> Iterator[kfp.V2beta1Run]:
        """The runs of an experiment, the newest first."""
        found = self.api.pages(
            "/runs",
            "runs",
            what="Listing the runs",
            experiment_id=experiment_id,
            sort_by="created_at desc",
            **options,
        )
        return (record(kfp.V2beta1Run, run) for run in found)

    def terminate(self, run_id: str) -> None:
        """Ends a run; one that has ended already stays as it is."""
        self.api.ask("POST", f"/runs/{_part(run_id)}:terminate", what=f"Cancelling run {run_id}")

    # Recurring runs

    def recurring_runs(self, experiment_id: str) -> list[kfp.V2beta1RecurringRun]:
        """All recurring runs of an experiment."""
        found = self.api.pages(
            "/recurringruns",
            "recurringRuns",
            what="Listing the recurring runs",
            experiment_id=experiment_id,
        )
        return [record(kfp.V2beta1RecurringRun, run) for run in found]

    def create_recurring_run(self, body: kfp.V2beta1RecurringRun) -> kfp.V2beta1RecurringRun:
        """Creates a recurring run. Where the outcome is unknown the caller looks: names repeat."""
        return self._create(f"Creating recurring run {body.display_name}", "/recurringruns", body)

    def delete_recurring_run(self, identity: str) -> None:
        """Deletes a recurring run; the runs that it started stay."""
        try:
            self.api.ask(
                "DELETE",
                f"/recurringruns/{_part(identity)}",
                what=f"Deleting recurring run {identity}",
            )
        except KfpApiError as error:
            if error.status != 404:
                raise

    def switch_recurring_run(self, identity: str, *, on: bool) -> None:
        """Lets a recurring run start runs, or pauses it; it changes nothing when it is repeated."""
        path = f"/recurringruns/{_part(identity)}:{'enable' if on else 'disable'}"
        what = f"{'Enabling' if on else 'Pausing'} recurring run {identity}"
        retry(
            lambda: self.api.ask("POST", path, what=what),
            first_wait=self._backoff,
            when=is_unknown,
        )

    def _create(self, what: str, path: str, body: R, *, experiment_id: str = "") -> R:
        content = _RECORDS.sanitize_for_serialization(body)
        answer = self.api.ask("POST", path, what=what, content=content, experiment_id=experiment_id)
        return record(type(body), answer)


_RECORDS = kfp.ApiClient()  # converts; it sends nothing


def record(kind: type[R], answer: object) -> R:
    """An answer of the API as the generated client's record of it."""
    found: R = _RECORDS.deserialize(SimpleNamespace(data=json.dumps(answer)), kind)
    return found


def _part(text: str) -> str:
    """A name or an id as a part of a path."""
    return quote(text, safe="")


def instant(value: datetime | None) -> str:
    """A server's time for a person: UTC, to the minute."""
    return value.strftime("%Y-%m-%d %H:%M") if value and value.year > 1970 else ""
