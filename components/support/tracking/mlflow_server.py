"""An MLflow server, or a sqlite file: experiments, runs, registered versions and their files."""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries.imports import without
from slipway.components.support.retry import retry
from slipway.components.support.secrets import redact
from slipway.components.support.tracking.errors import (
    NoAnswer,
    Refused,
    asking,
    comes_from_server,
    describe,
    is_absent,
    is_refusal,
    silence,
)
from slipway.components.support.tracking.records import (
    LoggedDataset,
    LoggedModel,
    RegisteredVersion,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

R = TypeVar("R")
# MLflow waits two minutes for an answer and asks eight times, and obeys a server that says "in an hour".
# A variable that is set already stays as it is.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, to connect and between two bytes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what may be asked again is, by `_ask`
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a bar for each download is noise in a log
    # It would replace os.environ's methods for all threads while it logs a model, fail where another
    # thread reads a variable meanwhile, and write down names of variables that our model does not read.
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "PGCONNECT_TIMEOUT": "5",  # a database in a server's place, asked five times: libpq waits without end
}
_LONGEST_PARAMETER = 6000


def _set_defaults() -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def _bound_database_tries() -> None:
    """MLflow tries ten times to open a database, with waits that double: 101 s. Five take 3."""
    import mlflow.store.db.utils

    mlflow.store.db.utils.MAX_RETRY_COUNT = 5


def import_client(uri: str) -> None:
    """Imports what asking this server takes, and asks nothing: for processes that are forked afterwards.

    MLflow imports Polars where it is installed, for data that nobody logs here; and Polars, once
    imported, does not survive a fork.
    """
    _set_defaults()
    with without("polars"):
        import mlflow
    if uri.startswith("sqlite:"):
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


class MlflowServer:
    """What Slipway asks of MLflow.

    Whatever the method, a server that cannot be reached costs seconds: an answer is waited for ten
    seconds, and what may be asked twice is asked again for the time of `patience`.

    Args:
        uri: of the server, or `sqlite:///PATH`.
        patience: seconds.

    Raises:
        NoAnswer: by every method, where the server does not answer.
        Refused: by every method, where it answers that it will not.
    """

    def __init__(self, uri: str, *, patience: float) -> None:
        _set_defaults()
        self.uri, self._patience = uri, patience
        with asking(uri, "open its database"):
            import mlflow

            if not uri.startswith(("http:", "https:")):
                _bound_database_tries()
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            self._client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    # Registered models.

    def list_versions(self, model: str) -> tuple[RegisteredVersion, ...]:
        """Every version of a model, oldest first; none where there is no such model."""
        found = self._ask(
            f"name the versions of {model}",
            lambda: list(self._client.search_model_versions(f"name = '{model}'")),
        )
        # A search leaves the aliases out, of a server and of a database alike.
        names = self._aliases(model) if found else {}
        return tuple(
            replace(version, aliases=tuple(names.get(version.version, ())))
            for version in sorted(map(_read_version, found), key=lambda v: int(v.version))
        )

    def _aliases(self, model: str) -> dict[str, list[str]]:
        """The aliases of a model's versions, by number."""
        found = self._ask(
            f"name the aliases of {model}", lambda: self._client.get_registered_model(model).aliases
        )
        names: dict[str, list[str]] = {}
        for alias, version in sorted(found.items()):
            names.setdefault(str(version), []).append(alias)
        return names

    def find_version(self, model: str, wanted: str) -> RegisteredVersion | None:
        """The version that an alias or a number names; None: the registry says that there is none."""
        from mlflow.exceptions import MlflowException

        def find() -> "ModelVersion | None":
            try:
                if wanted.isdigit():
                    return self._client.get_model_version(model, wanted)
                return self._client.get_model_version_by_alias(model, wanted)
            except MlflowException as error:
                if is_absent(error):
                    return None
                raise

        what = f"name the {wanted}" if not wanted.isdigit() else f"name version {wanted}"
        found = self._ask(f"{what} of {model}", find)
        return None if found is None else _read_version(found)

    def require_version(self, model: str, wanted: str) -> RegisteredVersion:
        """The version that an alias or a number names.

        Raises:
            SlipwayError: there is none.
        """
        found = self.find_version(model, wanted)
        if found is None:
            raise SlipwayError(
                f"The registry has no version '{wanted}' of {model}. Give an alias, such as champion or"
                " challenger, or a version's number."
            )
        return found

    def create_version(
        self,
        model: str,
        *,
        source: LoggedModel,
        run_id: str,
        tags: Mapping[str, str],
        description: str = "",
    ) -> RegisteredVersion:
        """Registers a logged model as the next version of a model, which is made where there is none."""
        from mlflow.exceptions import MlflowException

        with asking(self.uri, f"register a version of {model}"):
            try:
                self._client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            return _read_version(
                self._client.create_model_version(
                    model,
                    source=source.uri,
                    run_id=run_id,
                    tags={str(name): value for name, value in tags.items()},
                    model_id=source.model_id,
                    description=description or None,
                )
            )

    def describe_model(self, model: str, description: str) -> None:
        """Says what a registered model is for."""
        self._ask(
            f"describe the model {model}",
            lambda: self._client.update_registered_model(model, description),
        )

    def delete_version(self, version: RegisteredVersion) -> None:
        """Takes a version out of the registry; one that is gone is no error."""
        self._ask(
            f"delete version {version.version} of {version.name}",
            lambda: _unless_gone(
                lambda: self._client.delete_model_version(version.name, version.version)
            ),
        )

    def tag_version(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""

        def tag() -> None:
            for name, value in tags.items():
                self._client.set_model_version_tag(model, version, str(name), value)

        self._ask(f"tag version {version} of {model}", tag)

    def point_alias(self, model: str, alias: str, version: str) -> None:
        """Points an alias to a version, also where another task makes it at the same moment."""
        # MLflow looks whether the alias exists and then inserts it: of two tasks that both found none,
        # one is refused by the table's key. Then it exists, and the same call moves it.
        what = f"give version {version} of {model} the alias {alias}"
        retry(
            lambda: self._ask(
                what, lambda: self._client.set_registered_model_alias(model, alias, version)
            ),
            attempts=2,
            first_wait=0,
            when=lambda error: isinstance(error, Refused),
        )

    # Experiments and runs.

    def find_experiment(self, name: str) -> str | None:
        """The id of the experiment of this name, or None where there is none.

        Raises:
            SlipwayError: somebody deleted it: MLflow keeps it, and its name, until it is restored or
                purged.
        """
        found = self._ask(
            f"name the experiment '{name}'", lambda: self._client.get_experiment_by_name(name)
        )
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            identity = str(found.experiment_id)
            command = ["mlflow", "experiments", "restore", "--experiment-id", identity]
            raise SlipwayError(
                f"The MLflow experiment '{name}' was deleted, and MLflow keeps its name. Restore it"
                f" with `MLFLOW_TRACKING_URI={shlex.quote(redact(self.uri))} {shlex.join(command)}`, or"
                " give the project another project_name."
            )
        return str(found.experiment_id)

    def open_experiment(self, name: str) -> str:
        """The id of the experiment of this name, made where there is none.

        On sqlite MLflow would put the files into `mlruns` below whatever folder the process runs in.
        Here they lie beside the database, where every later stage finds them.

        Raises:
            SlipwayError: somebody deleted it.
        """
        found = self.find_experiment(name)
        if found is not None:
            return found
        try:
            with asking(self.uri, f"make the experiment '{name}'"):
                location = self._artifact_location(name)
                return str(self._client.create_experiment(name, artifact_location=location))
        except Refused:
            # Another task made it in the meantime; if not, the refusal says what is wrong.
            found = self.find_experiment(name)
            if found is None:
                raise
            return found

    def has_run(self, run_id: str) -> bool:
        """Whether there is such a run and it takes more: a deleted one is still told of."""
        from mlflow.exceptions import MlflowException

        def find() -> bool:
            try:
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise

        return self._ask(f"name the run {run_id}", find)

    def find_run(self, experiment: str, tag: str, value: str) -> str | None:
        """The id of an experiment's latest run with this tag, or None."""
        identity = self.find_experiment(experiment)
        if identity is None:
            return None
        found = self._ask(
            f"name the runs of the experiment '{experiment}'",
            lambda: self._client.search_runs(
                [identity], f"tags.`{tag}` = '{value}'", max_results=1
            ),
        )
        return str(found[0].info.run_id) if found else None

    def open_run(
        self,
        experiment: str,
        *,
        experiment_id: str = "",
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Opens a run and returns its id.

        Args:
            experiment: the name of its experiment, made where there is none.
            experiment_id: where it is known; the name is then only for the error.
            name: of the run.
            tags: of the run.
        """
        identity = experiment_id or self.open_experiment(experiment)
        with asking(self.uri, f"open a run of the experiment '{experiment}'"):
            made = self._client.create_run(identity, tags=dict(tags or {}), run_name=name)
            return str(made.info.run_id)

    def open_child(self, parent: str, *, name: str) -> str:
        """Opens a run that is shown below another, and returns its id."""
        found = self._ask(f"name the run {parent}", lambda: self._client.get_run(parent))
        tags = {"mlflow.parentRunId": parent}
        with asking(self.uri, f"open a run below the run {parent}"):
            made = self._client.create_run(found.info.experiment_id, tags=tags, run_name=name)
            return str(made.info.run_id)

    def describe_run(self, run_id: str, description: str) -> None:
        """Says what a run is, or what became of it."""
        self._ask(
            f"describe the run {run_id}",
            lambda: self._client.set_tag(run_id, "mlflow.note.content", description),
        )

    def end_run(self, run_id: str, status: str = "FINISHED") -> None:
        """Ends a run: FINISHED, KILLED or FAILED."""
        self._ask(f"end the run {run_id}", lambda: self._client.set_terminated(run_id, status))

    def end_open_runs(self, experiment: str, tag: str, value: str) -> int:
        """Ends as KILLED every run of an experiment that has this tag and is still open.

        Returns:
            How many there were.
        """
        identity = self.find_experiment(experiment)
        if identity is None:
            return 0
        found = self._ask(
            f"name the open runs of the experiment '{experiment}'",
            lambda: self._client.search_runs(
                [identity], f"attributes.status = 'RUNNING' and tags.`{tag}` = '{value}'"
            ),
        )
        for run in found:
            self.end_run(str(run.info.run_id), "KILLED")
        return len(found)

    def list_ended_runs(self, experiment: str, *, before: datetime) -> list[str]:
        """The ids of an experiment's runs that ended before a moment; none without the experiment."""
        identity = self.find_experiment(experiment)
        if identity is None:
            return []
        stamp = int(before.timestamp() * 1000)
        query = f"attributes.status != 'RUNNING' and attributes.end_time < {stamp}"
        found: list[str] = []
        token: str | None = None
        while True:
            page = self._ask(
                f"name the runs of the experiment '{experiment}'",
                partial(self._client.search_runs, [identity], query, page_token=token),
            )
            found += [str(run.info.run_id) for run in page]
            token = page.token
            if not token:
                return found

    def delete_run(self, run_id: str) -> None:
        """Deletes a run: MLflow hides it, and `mlflow gc` removes it and its files for good.

        One that is gone is no error.
        """
        self._ask(
            f"delete the run {run_id}",
            lambda: _unless_gone(lambda: self._client.delete_run(run_id)),
        )

    def log_parameters(self, run_id: str, values: Mapping[str, object]) -> None:
        """Logs what a run was set to."""
        from mlflow.entities import Param

        parameters = [
            Param(name, str(value)[:_LONGEST_PARAMETER]) for name, value in values.items()
        ]
        self._ask(
            f"log parameters of the run {run_id}",
            lambda: self._client.log_batch(run_id, params=parameters),
        )

    def log_metrics(
        self, run_id: str, values: Mapping[str, float], *, stamp_ms: int, step: int = 0
    ) -> None:
        """Logs numbers of one step; the same stamp and step again is the same point.

        Args:
            run_id: of the run.
            values: by metric.
            stamp_ms: milliseconds since 1970.
            step: the place on the axis.
        """
        from mlflow.entities import Metric

        metrics = [Metric(name, float(value), stamp_ms, step) for name, value in values.items()]
        self._ask(
            f"log metrics of the run {run_id}",
            lambda: self._client.log_batch(run_id, metrics=metrics),
        )

    def log_datasets(self, run_id: str, datasets: Sequence[LoggedDataset]) -> None:
        """Notes which data a run used; MLflow shows them beside it. The same again adds nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=one.name,
                    digest=one.digest,
                    source_type="slipway",
                    source=json.dumps({"data_hash": one.data_hash}),
                    profile=json.dumps({"num_rows": one.rows}),
                ),
                tags=[InputTag("mlflow.data.context", one.context)],
            )
            for one in datasets
        ]
        # MLflow looks which data the experiment knows and then inserts the rest: of two tasks that found
        # none, one is refused by the table's key. Then they are known, and the same call finds them.
        retry(
            lambda: self._ask(
                f"note the data of the run {run_id}",
                lambda: self._client.log_inputs(run_id, datasets=inputs),
            ),
            attempts=3,
            first_wait=0.1,
            when=lambda error: isinstance(error, Refused),
        )

    def log_files(self, run_id: str, paths: Sequence[Path], place: str) -> str:
        """Uploads files, and what lies in folders, into a folder of the run; returns its URI."""

        def upload() -> None:
            for path in paths:
                if path.is_dir():
                    self._client.log_artifacts(run_id, str(path), place)
                else:
                    self._client.log_artifact(run_id, str(path), place)

        self._ask(f"take the files of {place}", upload)
        return f"runs:/{run_id}/{place}"

    def log_page(self, run_id: str, page: Path, place: str) -> None:
        """Uploads a page under a name that ends in `.html`, by which MLflow shows it as one.

        Args:
            run_id: of the run.
            page: an HTML file; KFP gives its path no ending.
            place: its path in the run.
        """
        text = page.read_text(encoding="utf-8")
        self._ask(f"take the page {place}", lambda: self._client.log_text(run_id, text, place))

    # Files.

    def list_folders(self, run_id: str, place: str) -> list[str]:
        """The names of the folders in a folder of a run, sorted; none where there is no such folder."""
        found = self._ask(
            f"name the files of {place}", lambda: self._client.list_artifacts(run_id, place)
        )
        return sorted(one.path.rpartition("/")[2] for one in found if one.is_dir)

    def fetch(self, uri: str, into: Path, *, what: str) -> Path:
        """Downloads a file or a folder of a run, or of any address that MLflow reads.

        Args:
            uri: where it lies: `runs:/…`, `models:/…`, an object store's, or a path.
            into: an empty folder, made where there is none.
            what: it is, for the error: "The bundle of flights version 3".

        Returns:
            The file or folder, below `into` (a path of this machine stays where it is).

        Raises:
            SlipwayError: there is nothing, or it may not be read.
        """
        import mlflow

        def download() -> Path:
            try:
                return Path(
                    mlflow.artifacts.download_artifacts(
                        artifact_uri=uri,
                        dst_path=str(into),
                        tracking_uri=self.uri,
                        registry_uri=self.uri,
                    )
                )
            except Exception as error:
                if not (comes_from_server(error) or isinstance(error, OSError)):
                    raise
                if not is_refusal(error) and (reason := silence(error)):
                    raise NoAnswer(
                        f"{what} cannot be fetched from {redact(uri)}: MLflow at"
                        f" {redact(self.uri)}, or the store behind it, does not answer. Check"
                        f" MLFLOW_TRACKING_URI, and that both are up. ({reason})"
                    ) from error
                raise SlipwayError(
                    f"{what} cannot be fetched from {redact(uri)}: {describe(error)}"
                ) from error

        return self._again(download)

    def delete_files(self, uri: str) -> None:
        """Deletes a folder of a run, or of a logged model; one that is gone is no error."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        place = self.resolve(uri)

        def delete() -> None:
            files: Any = get_artifact_repository(place, tracking_uri=self.uri)
            files.delete_artifacts()

        self._ask(f"delete the files at {redact(place)}", lambda: _unless_gone(delete))

    def resolve(self, uri: str) -> str:
        """A `runs:/` or `models:/` URI as the place that it stands for; others as they are."""
        from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
        from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

        def find() -> str:
            if uri.startswith("runs:/"):
                return str(RunsArtifactRepository.get_underlying_uri(uri))
            if uri.startswith("models:/"):
                return str(ModelsArtifactRepository.get_underlying_uri(uri))  # type: ignore[no-untyped-call]
            return uri

        return self._ask(f"say where {redact(uri)} lies", find)

    def _artifact_location(self, experiment: str) -> str | None:
        """Where an experiment's files go: beside a sqlite database, else as the server decides."""
        if not self.uri.startswith("sqlite:///"):
            return None
        database = Path(self.uri.removeprefix("sqlite:///")).resolve()
        return (database.parent / "mlflow-artifacts" / quote(experiment, safe="")).as_uri()

    def _ask(self, what: str, call: Callable[[], R]) -> R:
        """Asks what may be asked twice."""

        def once() -> R:
            with asking(self.uri, what):
                return call()

        return self._again(once)

    def _again(self, call: Callable[[], R]) -> R:
        return retry(
            call,
            within=self._patience,
            when=lambda error: isinstance(error, NoAnswer),
        )


def _unless_gone(delete: Callable[[], None]) -> None:
    """Deletes; another who did so before, or at the same time, is no error."""
    from mlflow.exceptions import MlflowException

    try:
        delete()
    except FileNotFoundError:
        return
    except MlflowException as error:
        if not is_absent(error):
            raise


def _read_version(found: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(
        name=str(found.name),
        version=str(found.version),
        run_id=str(found.run_id or ""),
        tags=dict(found.tags),
        aliases=tuple(found.aliases),
    )
