"""Micro-batching: who shares a forward pass, what waits, and what is refused."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from slipway.serving.batcher import INLINE_ROWS, Batcher
from slipway.serving.errors import RequestError
from slipway.serving.metrics import Metrics
from slipway.serving.protocol.rows import Rows


class Slow:
    """A model that answers each row with its own number, and notes the size of each pass."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def predict(self, rows: Rows) -> np.ndarray:
        self.passes.append(rows.count)
        assert self.go.wait(20)
        return rows.numeric[:, 0].astype(np.float32)


def rows(count: int, first: float = 0.0) -> Rows:
    numbers = (first + np.arange(count, dtype=float)).reshape(-1, 1)
    return Rows(count, numbers, np.empty((count, 0), object), np.empty((count, 0), np.int64))


def batcher(**limits: int) -> Batcher:
    return Batcher(**{"max_batch": 256, "max_queue": 4096, **limits}, metrics=Metrics("m"))


def test_requests_of_one_moment_share_a_pass_and_get_their_own_rows() -> None:
    async def ask() -> tuple[Any, Slow]:
        queue, model = batcher(), Slow()
        answers = await asyncio.gather(
            *(queue.predict(model, rows(2, first=10.0 * i)) for i in range(5))  # type: ignore[arg-type]
        )
        queue.close()
        return answers, model

    answers, model = asyncio.run(ask())
    assert model.passes == [10]
    assert [list(a) for a in answers] == [[10.0 * i, 10.0 * i + 1] for i in range(5)]


def test_a_lone_request_does_not_wait_for_others() -> None:
    async def ask() -> Slow:
        queue, model = batcher(), Slow()
        for i in range(3):
            await asyncio.wait_for(queue.predict(model, rows(1, first=i)), 1)  # type: ignore[arg-type]
        queue.close()
        return model

    assert asyncio.run(ask()).passes == [1, 1, 1]


def test_batches_grow_while_a_pass_runs_up_to_their_bound() -> None:
    async def ask() -> Slow:
        queue, model = batcher(max_batch=100), Slow()
        model.go.clear()
        first = asyncio.ensure_future(queue.predict(model, rows(INLINE_ROWS + 1)))  # type: ignore[arg-type]
        while not model.passes:
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(queue.predict(model, rows(40))) for _ in range(5)]  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert queue.waiting_rows == 200
        model.go.set()
        await asyncio.gather(first, *others)
        queue.close()
        return model

    assert asyncio.run(ask()).passes == [INLINE_ROWS + 1, 80, 80, 40]


def test_past_the_bound_is_503_and_what_waits_is_answered() -> None:
    async def ask() -> None:
        queue, model = batcher(max_queue=100), Slow()
        model.go.clear()
        first = asyncio.ensure_future(queue.predict(model, rows(60)))  # type: ignore[arg-type]
        while not model.passes:
            await asyncio.sleep(0.001)
        waiting = asyncio.ensure_future(queue.predict(model, rows(80)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as error:
            await queue.predict(model, rows(30))  # type: ignore[arg-type]
        assert error.value.status == 503
        model.go.set()
        assert len(await waiting) == 80 and len(await first) == 60
        assert len(await queue.predict(model, rows(30))) == 30  # type: ignore[arg-type]
        queue.close()

    asyncio.run(ask())


def test_an_error_of_a_pass_is_the_answer_to_each_of_its_requests_only() -> None:
    class Broken(Slow):
        def predict(self, rows: Rows) -> np.ndarray:
            raise RuntimeError("no")

    async def ask() -> None:
        queue = batcher()
        given = await asyncio.gather(
            *(queue.predict(model, rows(1)) for model in (Broken(), Slow())),  # type: ignore[arg-type]
            return_exceptions=True,
        )
        assert isinstance(given[0], RuntimeError) and list(given[1]) == [0.0]
        queue.close()

    asyncio.run(ask())
