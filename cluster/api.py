"""What Slipway asks of the v2beta1 API, each as one typed call."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import kfp_server_api as kfp

from slipway.cluster.connection import Connection
from slipway.cluster.transport import BACKOFF, KfpApiError, connect, ensure, explained, is_unknown
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import retry

PAGE = 100


class Kubeflow:
    """One Kubeflow Pipelines server, as one user in one namespace.

    Args:
        connection: where it is and how to get in.
        backoff: seconds before the first repetition of a request.
    """

    def __init__(self, connection: Connection, *, backoff: float = BACKOFF) -> None:
        client = connect(connection, backoff=backoff)
        self.connection = connection
        self.namespace = connection.namespace
        self.calls = 0
        self._backoff = backoff
        self._host = client.configuration.host
        self._client = client
        self._health = kfp.HealthzServiceApi(client)
        self._pipelines = kfp.PipelineServiceApi(client)
        self._uploads = kfp.PipelineUploadServiceApi(client)
        self._experiments = kfp.ExperimentServiceApi(client)
        self._runs = kfp.RunServiceApi(client)
        self._recurring = kfp.RecurringRunServiceApi(client)

    def link(self, kind: str, identity: str) -> str:
        """The page of the user interface; empty where only the API server's proxy is known."""
        if not self.connection.host:
            return ""
        return f"{self._host}/#/{kind}/details/{identity}"

    def health(self) -> kfp.V2beta1GetHealthzResponse:
        """Answers where the server is up; says whether it serves several users."""
        return self._call(
            "Asking for the server's health", self._health.healthz_service_get_healthz
        )

    # Pipelines and versions

    def find_pipeline(self, name: str) -> kfp.V2beta1Pipeline | None:
        """The pipeline of that name in the namespace."""
        return self._or_none(
            f"Looking for pipeline {name}",
            self._pipelines.pipeline_service_get_pipeline_by_name,
            name,
            **self._in_namespace(),
        )

    def find_version(self, pipeline_id: str, name: str) -> kfp.V2beta1PipelineVersion | None:
        """The version of that name of a pipeline."""
        found = self._pages(
            f"Looking for version {name}",
            self._pipelines.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            pipeline_id,
            filter=_equals("display_name", name),
        )
        return next((version for version in found if version.display_name == name), None)

    def versions(self, pipeline_id: str) -> list[kfp.V2beta1PipelineVersion]:
        """All versions of a pipeline, the newest first."""
        return list(
            self._pages(
                "Listing the versions",
                self._pipelines.pipeline_service_list_pipeline_versions,
                "pipeline_versions",
                pipeline_id,
                sort_by="created_at desc",
            )
        )

    def version(self, pipeline_id: str, version_id: str) -> kfp.V2beta1PipelineVersion:
        """One version with its pipeline spec."""
        return self._call(
            f"Reading version {version_id}",
            self._pipelines.pipeline_service_get_pipeline_version,
            pipeline_id,
            version_id,
        )

    def create_pipeline(self, name: str, description: str) -> kfp.V2beta1Pipeline:
        """A pipeline without a version, or the one that another made at the same moment."""
        body = kfp.V2beta1Pipeline(
            name=name,
            display_name=name,
            description=description,
            namespace=self.namespace or None,
        )
        return ensure(
            lambda: self._call(
                f"Creating pipeline {name}", self._pipelines.pipeline_service_create_pipeline, body
            ),
            lambda: self.find_pipeline(name),
            backoff=self._backoff,
        )

    def upload_version(
        self, pipeline_id: str, file: Path, name: str, description: str
    ) -> kfp.V2beta1PipelineVersion:
        """Uploads a file as a version; where that name is there already, takes that one."""
        return ensure(
            lambda: self._call(
                f"Uploading {file}",
                self._uploads.upload_pipeline_version,
                str(file),
                pipelineid=pipeline_id,
                name=name,
                display_name=name,
                description=description,
            ),
            lambda: self.find_version(pipeline_id, name),
            backoff=self._backoff,
        )

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
            lambda: self._call(
                f"Creating experiment {name}",
                self._experiments.experiment_service_create_experiment,
                body,
            ),
            lambda: self.find_experiment(name),
            backoff=self._backoff,
        )

    def find_experiment(self, name: str) -> kfp.V2beta1Experiment | None:
        """The experiment of that name in the namespace."""
        found = self._pages(
            f"Looking for experiment {name}",
            self._experiments.experiment_service_list_experiments,
            "experiments",
            filter=_equals("display_name", name),
            **self._in_namespace(),
        )
        return next((e for e in found if e.display_name == name), None)

    def create_run(self, run: kfp.V2beta1Run) -> kfp.V2beta1Run:
        """Starts a run, once: its display name must be unique in its experiment."""
        return ensure(
            lambda: self._call(
                f"Starting run {run.display_name}",
                self._runs.run_service_create_run,
                run,
                experiment_id=run.experiment_id,
            ),
            lambda: next(
                iter(
                    self.runs(run.experiment_id, filter=_equals("display_name", run.display_name))
                ),
                None,
            ),
            backoff=self._backoff,
        )

    def run(self, run_id: str) -> kfp.V2beta1Run:
        """One run with the details of its tasks."""
        return self._call(f"Reading run {run_id}", self._runs.run_service_get_run, run_id)

    def runs(self, experiment_id: str, **options: object) -> Iterator[kfp.V2beta1Run]:
        """The runs of an experiment, the newest first."""
        return self._pages(
            "Listing the runs",
            self._runs.run_service_list_runs,
            "runs",
            experiment_id=experiment_id,
            sort_by="created_at desc",
            **options,
        )

    def terminate(self, run_id: str) -> None:
        """Ends a run; one that has ended already stays as it is."""
        self._call(f"Cancelling run {run_id}", self._runs.run_service_terminate_run, run_id)

    # Recurring runs

    def recurring_runs(self, experiment_id: str) -> list[kfp.V2beta1RecurringRun]:
        """All recurring runs of an experiment."""
        return list(
            self._pages(
                "Listing the recurring runs",
                self._recurring.recurring_run_service_list_recurring_runs,
                "recurring_runs",
                experiment_id=experiment_id,
            )
        )

    def create_recurring_run(self, body: kfp.V2beta1RecurringRun) -> kfp.V2beta1RecurringRun:
        """Creates a recurring run. Where the outcome is unknown the caller looks: names repeat."""
        return self._call(
            f"Creating recurring run {body.display_name}",
            self._recurring.recurring_run_service_create_recurring_run,
            body,
        )

    def delete_recurring_run(self, identity: str) -> None:
        """Deletes a recurring run; the runs that it started stay."""
        try:
            self._call(
                f"Deleting recurring run {identity}",
                self._recurring.recurring_run_service_delete_recurring_run,
                identity,
            )
        except KfpApiError as error:
            if error.status != 404:
                raise

    def switch_recurring_run(self, identity: str, *, on: bool) -> None:
        """Lets a recurring run start runs, or pauses it."""
        service = self._recurring
        self._again(
            f"{'Enabling' if on else 'Pausing'} recurring run {identity}",
            service.recurring_run_service_enable_recurring_run
            if on
            else service.recurring_run_service_disable_recurring_run,
            identity,
        )

    # Requests

    def ask(self, method: str, path: str, **query: object) -> dict[str, object]:
        """The answer to one request as JSON, below /apis/v2beta1; an empty value is left out."""
        found: dict[str, object] = self._call(
            f"{method} {path}",
            self._client.call_api,
            f"/apis/v2beta1{path}",
            method,
            query_params=[(name, value) for name, value in query.items() if value != ""],
            header_params={"Accept": "application/json"},
            response_type="object",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
        )
        return found or {}

    def _call(
        self, what: str, function: Callable[..., object], *args: object, **options: object
    ) -> Any:
        self.calls += 1
        with explained(what):
            return function(*args, **options)

    def _again(self, what: str, function: Callable[..., object], *args: object) -> object:
        """A POST that changes nothing when it is repeated."""
        return retry(
            lambda: self._call(what, function, *args), first_wait=self._backoff, when=is_unknown
        )

    def _or_none(
        self, what: str, function: Callable[..., object], *args: object, **options: object
    ) -> object:
        try:
            return self._call(what, function, *args, **options)
        except KfpApiError as error:
            if error.status == 404:
                return None
            raise

    def _pages(
        self,
        what: str,
        function: Callable[..., object],
        field: str,
        *args: object,
        **options: object,
    ) -> Iterator[Any]:
        token = ""
        while True:
            page = self._call(what, function, *args, page_size=PAGE, page_token=token, **options)
            yield from getattr(page, field) or ()
            token = page.next_page_token
            if not token:
                return

    def _in_namespace(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}


def _equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})


def instant(value: datetime | None) -> str:
    """A server's time for a person: UTC, to the minute."""
    return value.strftime("%Y-%m-%d %H:%M") if value and value.year > 1970 else ""
