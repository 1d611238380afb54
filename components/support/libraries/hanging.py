"""Calls of libraries that bound each read and not the whole, or nothing: left behind where they hang."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

R = TypeVar("R")


def within(seconds: float, call: Callable[[], R], *, name: str = "within") -> R:
    """Calls, and waits no longer than that for the end.

    What hangs goes on in a thread of its own, which nobody waits for and which ends with the process at
    the latest.

    Args:
        seconds: to wait.
        call: what to do.
        name: of the thread.

    Raises:
        TimeoutError: the call has not ended.
        BaseException: what the call raised.
    """
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name=name).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from error
