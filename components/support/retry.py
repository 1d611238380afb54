"""Retries and waits, each in one place: tenacity with the settings that Slipway uses."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

R = TypeVar("R")


class TimeSource(Protocol):
    """What time is read from, and waited by: the module `time`, or a test's own clock."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Lets them pass."""


def retry(
    call: Callable[[], R],
    *,
    attempts: int = 3,
    within: float | None = None,
    first_wait: float = 0.5,
    longest_wait: float = 4.0,
    when: Callable[[BaseException], bool] = lambda error: isinstance(error, Exception),
    asked_to_wait: Callable[[BaseException], float | None] = lambda error: None,
    clock: TimeSource = time,
) -> R:
    """Calls until it succeeds; the wait doubles from one attempt to the next.

    Args:
        call: what to do; it must be safe to repeat.
        attempts: at most; not counted where `within` is given.
        within: seconds after which no other attempt begins, instead of a number of attempts.
        first_wait: seconds after the first failure.
        longest_wait: seconds; no wait is longer.
        when: whether an error is worth another attempt; others are raised at once.
        asked_to_wait: seconds that an error asks for, in place of ours.
        clock: that `within` and the waits go by.

    Raises:
        Exception: the error of the last attempt, as it was raised.
    """
    from tenacity import (
        RetryCallState,
        Retrying,
        retry_if_exception,
        stop_after_attempt,
        wait_exponential,
    )

    ours = wait_exponential(multiplier=first_wait, max=longest_wait)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        theirs = asked_to_wait(error) if error is not None else None
        return ours(state) if theirs is None else theirs

    begun = clock.monotonic()

    def is_over(state: RetryCallState) -> bool:
        return within is not None and clock.monotonic() - begun + state.upcoming_sleep >= within

    return Retrying(
        sleep=clock.sleep,
        stop=stop_after_attempt(attempts) if within is None else is_over,
        wait=wait,
        retry=retry_if_exception(when),
        reraise=True,
    )(call)


def wait_until(
    is_done: Callable[[], bool], *, timeout: float, every: float = 0.05, clock: TimeSource = time
) -> bool:
    """Asks until the answer is yes.

    Args:
        is_done: the question.
        timeout: seconds to go on asking, the last time when they are over; it is asked at least once.
            Infinity: until the answer is yes.
        every: seconds between two questions.
        clock: that both go by.

    Returns:
        Whether the answer was yes before the time was over.
    """
    deadline = clock.monotonic() + timeout
    while not is_done():
        left = deadline - clock.monotonic()
        if left <= 0:
            return False
        clock.sleep(min(every, left))
    return True
