"""What training uses of the machine, as MLflow's system metrics: CPU, memory, disk, network, GPUs.

MLflow has monitors for these, and a thread that sends what they read; but that thread ends at the first
answer that the server does not give. Here the readings go the way of all other metrics.
"""

import threading
from collections.abc import Callable

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress
from slipway.components.support.tracking.monitors import system_monitors

_SECONDS = 10.0
_PREFIX = "system/"


class SystemMetricsSampler:
    """Reads MLflow's monitors at an interval, from a thread, between entering and leaving.

    Args:
        log: takes metrics by name, and the step.
        seconds: between two readings.
    """

    def __init__(self, log: Callable[[dict[str, float], int], None], seconds: float = 10.0) -> None:
        self._log, self._seconds = log, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)

    def __enter__(self) -> "SystemMetricsSampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(self._seconds)

    def _work(self) -> None:
        # The first reading is of the training itself: the start imports enough already.
        if self._over.wait(self._seconds):
            return
        try:
            monitors = system_monitors()
        except ImportError as error:
            progress(f"no system metrics: {error}")
            return
        step = 0
        while True:
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            try:
                self._log({_PREFIX + name: float(value) for name, value in values.items()}, step)
            except SlipwayError:  # the training hears of it too, and ends with it
                return
            step += 1
            if self._over.wait(self._seconds):
                return
