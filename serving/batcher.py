"""Micro-batching: requests that wait at the same moment share a forward pass.

Nothing ever waits for a batch to fill. Where the predictor is idle a request runs at once; requests
that arrive while a pass runs, or in the same turn of the event loop, form the next batch, so batches
grow with the load and by themselves.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from slipway.serving.errors import RequestError
from slipway.serving.metrics import Metrics
from slipway.serving.model import Model
from slipway.serving.protocol.rows import Rows

# Up to this many rows a pass takes less than handing it to a thread and back.
INLINE_ROWS = 32

_Waiting = tuple[Model, Rows, "asyncio.Future[np.ndarray]"]


class Batcher:
    """The queue before the model, bounded in rows."""

    def __init__(self, *, max_batch: int, max_queue: int, metrics: Metrics) -> None:
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._scheduled = False
        self._thread = ThreadPoolExecutor(1, "forward-pass")
        self._loop = asyncio.get_running_loop()

    async def predict(self, model: Model, rows: Rows) -> np.ndarray:
        """The probabilities of the rows: float32 [N].

        Raises:
            RequestError: 503, too many rows wait already.
        """
        if self._rows and self._rows + rows.count > self._max_queue:
            raise RequestError("The predictor has more requests waiting than it takes.", 503)
        future: asyncio.Future[np.ndarray] = self._loop.create_future()
        self._waiting.append((model, rows, future))
        self._rows += rows.count
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next)
        return await future

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a forward pass."""
        return self._rows

    def close(self) -> None:
        """Ends the thread; nothing may wait any more."""
        self._thread.shutdown()

    def _next(self) -> None:
        batch = self._take()
        if not batch:
            self._scheduled = False
            return
        total = sum(rows.count for _, rows, _ in batch)
        self._metrics.batch_rows.observe(total)
        if total <= INLINE_ROWS:
            self._answer(batch, _run(batch))
            self._loop.call_soon(self._next)
        else:
            job = self._loop.run_in_executor(self._thread, _run, batch)
            job.add_done_callback(lambda done: self._done(batch, done))

    def _done(self, batch: list[_Waiting], job: "asyncio.Future[np.ndarray | Exception]") -> None:
        self._answer(batch, job.result())
        self._next()

    def _take(self) -> list[_Waiting]:
        """The oldest request and those behind it that fit into one pass of the same model."""
        batch: list[_Waiting] = []
        total = 0
        while self._waiting:
            model, rows, future = self._waiting[0]
            if batch and (total + rows.count > self._max_batch or model is not batch[0][0]):
                break
            self._waiting.popleft()
            self._rows -= rows.count
            if not future.cancelled():
                batch.append((model, rows, future))
                total += rows.count
        return batch

    def _answer(self, batch: list[_Waiting], result: np.ndarray | Exception) -> None:
        start = 0
        for _, rows, future in batch:
            end = start + rows.count
            if future.cancelled():
                pass
            elif isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result[start:end])
            start = end


def _run(batch: list[_Waiting]) -> np.ndarray | Exception:
    """One forward pass; an error is the answer to every request of the batch."""
    model, rows, _ = batch[0]
    if len(batch) > 1:
        rows = Rows(
            sum(part.count for _, part, _ in batch),
            np.concatenate([part.numeric for _, part, _ in batch]),
            np.concatenate([part.categorical for _, part, _ in batch]),
            np.concatenate([part.time for _, part, _ in batch]),
        )
    try:
        return model.predict(rows)
    except Exception as error:  # whatever onnxruntime raises is answered with 500 and logged there
        return error
