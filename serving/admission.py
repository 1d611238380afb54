"""What a predictor takes on at one time, over every protocol: bytes held, and long bodies in turn."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from slipway.serving.errors import RequestError

_Result = TypeVar("_Result")


class Admission:
    """Bounds the bytes that are held of requests, and lets long bodies be read one after another.

    Attributes:
        most: bytes that are taken.
        held: bytes that are held now.
        turn: held by the long body that is being read, so that memory has one of them parsed.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self.turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "long-bodies")

    def hold(self, size: int) -> bool:
        """Counts bytes that are held more (below 0: less); False where they are more than is taken."""
        self.held += size
        return self.held <= self.most

    async def off_loop(self, step: Callable[..., _Result], *arguments: object) -> _Result:
        """The result of a step of reading the long body whose turn it is, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, step, *arguments)

    def close(self) -> None:
        """Ends the thread after its step."""
        self._thread.shutdown(wait=False)


def too_much() -> RequestError:
    """The refusal of what is more than is taken at one time."""
    return RequestError("The predictor holds as many bytes as it takes.", 503, close=True)
