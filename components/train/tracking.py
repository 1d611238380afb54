"""The MLflow run of a training, kept by a thread of its own.

Training hands over what there is to log and goes on; the thread imports MLflow, opens the run and sends.
It begins with the first thing that was measured, after an epoch or ten seconds: importing MLflow takes as
long as importing torch, and would stand in the way of the first step.
A server that refuses the run ends the training at the next thing that it logs: registering would fail
all the same. A server that does not answer is tried again for some minutes. What could not be sent by
then is written into the bundle's training log, so no result is lost.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway.components.support import environment, tracking
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until
from slipway.components.support.stage import progress

_GIVE_UP_SECONDS = 300.0
_WAITS = (0.5, 1, 2, 4, 8, 15)
Action = Callable[[Any, str], None]
"""Takes the MLflow client and the run id."""


class Tracker:
    """Sends to one MLflow run, in order, from a thread.

    Args:
        experiment: the project's name.
        run_id: a run to go on with; None opens one, unless the environment names one
            (`MLFLOW_RUN_ID`, as a pipeline backend with an MLflow plugin sets it).
        tags: tags of a new run.
        give_up: seconds after which a server that does not answer is given up at the end.
        leave_open: whether somebody else ends the run.
    """

    def __init__(
        self,
        experiment: str,
        run_id: str | None = None,
        tags: dict[str, str] | None = None,
        give_up: float | None = None,
        leave_open: bool = False,
    ) -> None:
        self.experiment = experiment
        injected = environment.plugin_run() or None
        self.run_id = injected or run_id
        self.problem = ""
        self._refusal: SlipwayError | None = None
        self._leave_open = leave_open or injected is not None
        self._tags = tags or {}
        self._uri = environment.tracking_uri()
        self._give_up = _GIVE_UP_SECONDS if give_up is None else give_up
        self._deadline = float("inf")
        self._actions: queue.Queue[Action | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._begun = False
        self._beginning = threading.Lock()

    def _begin(self) -> None:
        with self._beginning:
            if not self._begun:
                self._begun = True
                self._thread.start()

    def parameters(self, values: dict[str, Any]) -> None:
        """Logs parameters; they wait for the first metrics."""
        self._actions.put(lambda client, run: _log_parameters(client, run, values))

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Logs metrics of one step.

        Raises:
            SlipwayError: the server has refused the run.
        """
        self._require_run()
        stamp = int(time.time() * 1000)
        self._actions.put(lambda client, run: _log_metrics(client, run, values, stamp, step))
        self._begin()

    def child(
        self, name: str, values: dict[str, Any], history: list[dict[str, float]], status: str
    ) -> None:
        """Logs a nested run that has ended.

        Args:
            name: of the run.
            values: its parameters.
            history: what each of its epochs measured.
            status: FINISHED, KILLED or FAILED.
        """
        stamp = int(time.time() * 1000)
        opened: list[str] = []

        def send(client: Any, run: str) -> None:
            if not opened:  # the action is tried again where a later line of it failed
                parent = client.get_run(run)
                tags = {"mlflow.parentRunId": run}
                made = client.create_run(parent.info.experiment_id, tags=tags, run_name=name)
                opened.append(str(made.info.run_id))
            _log_parameters(client, opened[0], values)
            for epoch, measured in enumerate(history, 1):
                _log_metrics(client, opened[0], measured, stamp, epoch)
            client.set_terminated(opened[0], status)

        self._actions.put(send)
        self._begin()

    def artifacts(self, folder: str, files: list[Path]) -> None:
        """Uploads files into a folder of the run."""

        def send(client: Any, run: str) -> None:
            for file in files:
                client.log_artifact(run, str(file), folder)

        self._actions.put(send)
        self._begin()

    def _require_run(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def finish(self, status: str = "FINISHED", give_up: float | None = None) -> None:
        """Sends the rest and ends the run, or gives up after a while.

        A run that the environment named is left open: who opened it ends it.

        Raises:
            SlipwayError: the server has refused the run of a training that went well.
        """
        if not self._leave_open:
            self._actions.put(lambda client, run: client.set_terminated(run, status))
        wait = self._give_up if give_up is None else give_up
        self._deadline = time.monotonic() + wait
        self._actions.put(None)
        self._begin()
        self._thread.join(wait + 60)
        if self.problem:
            progress(self.problem)
        if status == "FINISHED":
            self._require_run()

    def wait_for_run(self, seconds: float) -> str | None:
        """The run's id, once it is open; None if that takes longer.

        Raises:
            SlipwayError: the server has refused the run.
        """
        self._begin()
        wait_until(lambda: bool(self.run_id or self.problem or self._refusal), timeout=seconds)
        self._require_run()
        return self.run_id

    def _work(self) -> None:
        # The client's own retries would block for minutes without a word.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        action: Action | None = lambda client, run: None  # noqa: E731
        client: Any = None
        waits = 0
        while action is not None:
            try:
                client = client or _connect(self._uri)
                if self.run_id is None:
                    self.run_id = _open_run(client, self.experiment, self._tags)
                action(client, self.run_id)
            except Exception as error:  # a failure of the server is tried again until the deadline
                told = tracking.describe(error)
                if self.run_id is None and (refusal := _refusal(error, self.experiment)):
                    self._refusal = refusal
                    return
                if self.run_id is not None and tracking.is_refusal(error):
                    progress(f"MLflow refused what was to be logged: {told}")
                    waits, action = 0, self._actions.get()
                    continue
                if time.monotonic() > self._deadline:
                    self.problem = f"MLflow at {self._uri} did not take the run: {told}"
                    return
                if waits == 0:
                    progress(f"MLflow does not answer, training goes on: {told}")
                time.sleep(_WAITS[min(waits, len(_WAITS) - 1)])
                waits += 1
                continue
            waits = 0
            action = self._actions.get()


def _refusal(error: Exception, experiment: str) -> SlipwayError | None:
    """What to tell where a run cannot be opened, now or later; None: another try may do it."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, SlipwayError):
        return error
    if isinstance(error, MlflowException) and tracking.is_refusal(error):
        return tracking.failure(error, f"open a run of the experiment '{experiment}'")
    return None


def _connect(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _open_run(client: Any, experiment: str, tags: dict[str, str]) -> str:
    # Monitoring comes last and could not say it before: its experiment is asked for now.
    tracking.find_experiment(client, tracking.monitoring_experiment(experiment))
    known = os.environ.get("MLFLOW_EXPERIMENT_ID")
    identity = known or tracking.open_experiment(client, experiment)
    run = client.create_run(identity, tags=tags, run_name=tags.get("mlflow.runName"))
    return str(run.info.run_id)


def _log_parameters(client: Any, run: str, values: dict[str, Any]) -> None:
    from mlflow.entities import Param

    client.log_batch(run, params=[Param(k, str(v)[:6000]) for k, v in values.items()])


def _log_metrics(client: Any, run: str, values: dict[str, float], stamp: int, step: int) -> None:
    from mlflow.entities import Metric

    client.log_batch(run, metrics=[Metric(k, float(v), stamp, step) for k, v in values.items()])
