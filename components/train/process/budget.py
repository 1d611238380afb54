"""The time that training may take (`training.minutes`): who is at work asks how much of it is left."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Budget:
    """Seconds of the wall clock, from when it is made.

    Attributes:
        seconds: of all models together; infinite where `training.minutes` is not set.
        earlier: that an interrupted try had spent.
        clock: seconds, never going back.
    """

    seconds: float = math.inf
    earlier: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def spent(self) -> float:
        """Seconds, with those of earlier tries."""
        return self.earlier + self.clock() - self._started

    @property
    def left(self) -> float:
        """Seconds; below 0 where it is overdrawn."""
        return self.seconds - self.spent

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return math.isfinite(self.seconds)

    def resume(self, spent: float) -> None:
        """Counts what an earlier try had spent, where that is not counted yet."""
        self.earlier += max(0.0, spent - self.spent)

    def portion(self, share: float) -> "Budget":
        """A budget of a share of what is left, from now on."""
        return Budget(seconds=self.left * share, clock=self.clock)
