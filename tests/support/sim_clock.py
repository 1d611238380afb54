"""Simulated time: what is to happen later stands in a queue, and sleeping lets it happen."""

import heapq
import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_BEGIN = datetime(2026, 11, 27, tzinfo=UTC)


class SimClock:
    """Stands where a module uses `time`: `sleep` and `monotonic` of a world of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lock = threading.RLock()
        self.watchers: list[Callable[[], None]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Lets something happen later."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._count), do))

    def sleep(self, seconds: float) -> None:
        """Lets everything happen that is due meanwhile, each at its moment and in order."""
        with self.lock:
            end = self.now + seconds
            while self._queue and self._queue[0][0] <= end:
                self.now, _, do = heapq.heappop(self._queue)
                do()
                for watch in self.watchers:
                    watch()
            self.now = end

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.now

    def stamp(self) -> str:
        """The present moment as Kubernetes writes it: whole seconds."""
        return (_BEGIN + timedelta(seconds=self.now)).strftime("%Y-%m-%dT%H:%M:%SZ")
