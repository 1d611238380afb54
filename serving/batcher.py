"""Micro-batching: requests that wait at the same moment share a forward pass.

Nothing ever waits for a batch to fill. Where the predictor is idle a request runs at once; requests
that arrive while a pass runs, or in the same turn of the event loop, form the next batch, so batches
grow with the load and by themselves.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from slipway.serving.errors import RequestError
from slipway.serving.metrics import Metrics
from slipway.serving.model import Model
from slipway.serving.protocol.rows import Rows

# Up to this many rows a pass takes less than handing it to a thread and back.
INLINE_ROWS = 32


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request's rows before the model; `taken` of them are in passes that ran or run."""

    model: Model
    rows: Rows
    future: "asyncio.Future[np.ndarray]"
    taken: int = 0
    answers: list[np.ndarray] = field(default_factory=list)


_Part = tuple[_Waiting, Rows]


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
        """The answers of the rows: float32 [N] or [N, W].

        Raises:
            RequestError: 503, too many rows wait already.
        """
        if self._rows and self._rows + rows.count > self._max_queue:
            raise RequestError("The predictor has more requests waiting than it takes.", 503)
        future: asyncio.Future[np.ndarray] = self._loop.create_future()
        self._waiting.append(_Waiting(model, rows, future))
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
        total = sum(rows.count for _, rows in batch)
        self._metrics.batch_rows.observe(total)
        if total <= INLINE_ROWS:
            self._answer(batch, _run(batch))
            self._loop.call_soon(self._next)
        else:
            job = self._loop.run_in_executor(self._thread, _run, batch)
            job.add_done_callback(lambda done: self._done(batch, done))

    def _done(self, batch: list[_Part], job: "asyncio.Future[np.ndarray | Exception]") -> None:
        self._answer(batch, job.result())
        self._next()

    def _take(self) -> list[_Part]:
        """What waits longest and fits into one pass of the same model.

        Of a request with more rows than a pass takes, a part; the others' turn is before its next.
        """
        batch: list[_Part] = []
        total = 0
        while self._waiting:
            first = self._waiting[0]
            left = first.rows.count - first.taken
            if batch and (
                total + min(left, self._max_batch) > self._max_batch
                or first.model is not batch[0][0].model
            ):
                break
            self._waiting.popleft()
            if first.future.done():  # its client went, or an earlier part failed
                self._rows -= left
                continue
            if left <= self._max_batch and not first.taken:
                part = first.rows
            else:
                part = _rows(first.rows, first.taken, first.taken + self._max_batch)
            first.taken += part.count
            self._rows -= part.count
            batch.append((first, part))
            total += part.count
            if first.taken < first.rows.count:
                self._waiting.append(first)
        return batch

    def _answer(self, batch: list[_Part], result: np.ndarray | Exception) -> None:
        start = 0
        for request, rows in batch:
            end = start + rows.count
            if request.future.done():
                pass
            elif isinstance(result, Exception):
                request.future.set_exception(result)
            elif rows is request.rows:
                request.future.set_result(result[start:end])
            else:
                request.answers.append(result[start:end])
                if sum(map(len, request.answers)) == request.rows.count:
                    request.future.set_result(np.concatenate(request.answers))
            start = end


def _rows(rows: Rows, start: int, end: int) -> Rows:
    """Some of the rows, for the model alone."""
    numeric = rows.numeric[start:end]
    return Rows(len(numeric), numeric, rows.categorical[start:end], rows.time[start:end])


def _run(batch: list[_Part]) -> np.ndarray | Exception:
    """One forward pass; an error is the answer to every request of the batch."""
    model, rows = batch[0][0].model, batch[0][1]
    if len(batch) > 1:
        rows = Rows(
            sum(part.count for _, part in batch),
            np.concatenate([part.numeric for _, part in batch]),
            np.concatenate([part.categorical for _, part in batch]),
            np.concatenate([part.time for _, part in batch]),
        )
    try:
        return model.predict(rows)
    except Exception as error:  # whatever onnxruntime raises is answered with 500 and logged there
        return error
