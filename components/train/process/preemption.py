"""The end of a training from outside: SIGTERM, as a spot node or a scheduler sends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from slipway.components.support.errors import SlipwayError


class Preempted(SlipwayError):
    """The process received SIGTERM and saved its state; the next try resumes from it."""


@contextmanager
def stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets; the earlier handler is put back at the end.

    Outside the main thread, which alone may handle signals, the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
