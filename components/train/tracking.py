"""The MLflow run of a training, kept by a thread of its own.

Training hands over what there is to log and goes on; the thread imports MLflow, opens the run and sends.
It begins with the first thing that was measured, after an epoch or ten seconds: importing MLflow takes as
long as importing torch, and would stand in the way of the first step.
A server that refuses the run ends the training at the next thing that it logs: registering would fail
all the same. A server that does not answer is asked again for as long as training lasts, and after it
only where it has been silent for a few seconds alone. What could not be sent stands in the bundle's
training log, so no result is lost.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slipway.components.support import environment, tracking
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import TimeSource, wait_until
from slipway.components.support.stage import progress
from slipway.components.train.provenance import PLACE

GIVE_UP_SECONDS = 10.0
_WAITS = (0.5, 1, 2, 4, 8, 15)
# A server that answers may take this long for what is left at the end.
_LONGEST_REST_SECONDS = 600.0
Action = Callable[[tracking.TrackingServer, str], object]
"""Takes the server and the run id."""


class Tracker:
    """Sends to one MLflow run, in order, from a thread.

    Args:
        experiment: the project's name.
        run_id: a run to go on with; None opens one, unless the environment names one
            (`MLFLOW_RUN_ID`, as a pipeline backend with an MLflow plugin sets it).
        tags: tags of a new run.
        give_up: seconds of silence after which a server is not waited for any more.
        leave_open: whether somebody else ends the run.
        waits: seconds between two attempts, from the first on.
        clock: that a server's silence and the last attempts go by.
    """

    def __init__(
        self,
        experiment: str,
        run_id: str | None = None,
        tags: dict[str, str] | None = None,
        give_up: float = GIVE_UP_SECONDS,
        leave_open: bool = False,
        waits: Sequence[float] = _WAITS,
        clock: TimeSource = time,
    ) -> None:
        self.experiment = experiment
        injected = environment.plugin_run() or None
        self.run_id = injected or run_id
        self.problem = ""
        self._refusal: SlipwayError | None = None
        self._leave_open = leave_open or injected is not None
        self._tags = tags or {}
        self._uri = environment.tracking_uri()
        self._give_up, self._waits, self._clock = give_up, waits, clock
        self._silent_since: float | None = None
        self._over = threading.Event()
        self._actions: queue.Queue[Action | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._begun = False
        self._beginning = threading.Lock()

    def _begin(self) -> None:
        with self._beginning:
            if not self._begun:
                self._begun = True
                self._thread.start()

    def parameters(self, values: dict[str, object]) -> None:
        """Logs parameters; they wait for the first metrics."""
        self._actions.put(lambda server, run: server.log_parameters(run, values))

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Logs metrics of one step.

        Raises:
            SlipwayError: the server has refused the run.
        """
        self._require_run()
        stamp = int(time.time() * 1000)
        self._actions.put(
            lambda server, run: server.log_metrics(run, values, stamp_ms=stamp, step=step)
        )
        self._begin()

    def child(
        self, name: str, values: Mapping[str, object], history: list[dict[str, float]], status: str
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

        def send(server: tracking.TrackingServer, run: str) -> None:
            if not opened:  # the action is tried again where a later line of it failed
                opened.append(server.open_child(run, name=name))
            server.log_parameters(opened[0], values)
            for epoch, measured in enumerate(history, 1):
                server.log_metrics(opened[0], measured, stamp_ms=stamp, step=epoch)
            server.end_run(opened[0], status)

        self._actions.put(send)
        self._begin()

    def artifacts(self, folder: str, files: list[Path]) -> None:
        """Uploads files into a folder of the run."""
        self._actions.put(lambda server, run: server.log_files(run, files, folder))
        self._begin()

    def page(self, place: str, page: Path) -> None:
        """Uploads an HTML page under a path of the run that ends in `.html`."""
        self._actions.put(lambda server, run: server.log_page(run, page, place))
        self._begin()

    def _require_run(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def finish(self, status: str = "FINISHED") -> None:
        """Sends the rest and ends the run, or gives up a server that has been silent for long.

        A run that the environment named is left open: who opened it ends it.

        Raises:
            SlipwayError: the server has refused the run of a training that went well.
        """
        if not self._leave_open:
            self._actions.put(lambda server, run: server.end_run(run, status))
        self._actions.put(None)
        self._begin()
        self._over.set()
        self._thread.join(_LONGEST_REST_SECONDS)
        if self.problem:
            progress(self.problem)
        if status == "FINISHED":
            self._require_run()

    def wait_for_run(self, seconds: float) -> str | None:
        """The run's id, once it is open; None where that takes longer, or the server does not answer.

        Raises:
            SlipwayError: the server has refused the run.
        """
        self._begin()
        wait_until(
            lambda: bool(self.run_id or self._refusal or self._is_given_up()), timeout=seconds
        )
        self._require_run()
        return self.run_id

    def _work(self) -> None:
        action: Action | None = lambda server, run: None  # noqa: E731
        server: tracking.TrackingServer | None = None
        failures = 0
        while action is not None:
            try:
                # Without patience: this loop asks again, and tells of it.
                server = server or tracking.connect(self._uri, patience=0)
                if self.run_id is None:
                    self.run_id = _open_run(server, self.experiment, self._tags)
                action(server, self.run_id)
            except tracking.NoAnswer as error:
                if failures == 0:
                    progress(f"MLflow does not answer, training goes on: {error}")
                    self._silent_since = self._clock.monotonic()
                failures += 1
                if self._over.is_set() and self._is_given_up():
                    self.problem = f"The run is not whole in MLflow: {error}"
                    return
                self._pause(self._waits[min(failures, len(self._waits)) - 1])
                continue
            except Exception as error:
                if self.run_id is None:
                    self._refusal = (
                        error
                        if isinstance(error, SlipwayError)
                        else SlipwayError(f"The MLflow run cannot be opened: {error!r}")
                    )
                    return
                progress(f"MLflow refused what was to be logged: {error}")
            failures, self._silent_since = 0, None
            action = self._actions.get()

    def _is_given_up(self) -> bool:
        """Whether the server has been silent for too long to wait for it."""
        since = self._silent_since
        return since is not None and self._clock.monotonic() - since >= self._give_up

    def _pause(self, seconds: float) -> None:
        """Waits before the server is asked again: once at the end of the training, and then briefly."""
        if not self._over.is_set():
            self._over.wait(seconds)
        else:
            self._clock.sleep(min(seconds, 1.0))


def _open_run(server: tracking.TrackingServer, experiment: str, tags: Mapping[str, str]) -> str:
    # Monitoring comes last and could not say it before: its experiment is asked for now.
    server.find_experiment(tracking.monitoring_experiment(experiment))
    known = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
    if place := tags.get(PLACE):
        # Nothing else trains in a local folder: what is open there was interrupted.
        server.end_open_runs(experiment, PLACE, place)
    return server.open_run(
        experiment, experiment_id=known, name=tags.get("mlflow.runName"), tags=tags
    )
