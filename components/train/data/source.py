"""Where the rows of a step come from: one buffer after another, each lying on the device as tensors.

A table that fits lies on the device whole: one buffer an epoch. A larger one waits on the disk in
chunks of consecutive rows. Its epoch takes the chunks in random order, several make a buffer, and the
rows of a buffer are shuffled again, so that a batch mixes rows from all over the table; while one buffer
is trained on, a thread brings the next. To the loop both are the same.
"""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from slipway.components.train.data.tables import TrainingRows

_DEVICE_SHARE = 0.4
_HOST_SHARE = 0.2  # while a table is read, it is there in several forms
_BUFFER_SHARE = 0.3  # of what a whole table may take: up to three buffers are there at once
_CHUNKS_PER_BUFFER = 32
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class RowSource(Protocol):
    """The training rows as the loop takes them.

    Attributes:
        rows: the whole table, wherever it lies.
    """

    @property
    def rows(self) -> TrainingRows:
        """See the class."""
        ...

    def __len__(self) -> int:
        """Rows of the table."""
        ...

    def steps(self, passes: int, batch: int) -> int:
        """Steps of an epoch of so many passes over the table."""
        ...

    def epoch(
        self, generator: torch.Generator, passes: int, batch: int, done: int
    ) -> Iterator[tuple[TrainingRows, Tensor]]:
        """Buffers of one epoch: rows on the device, and the order to take them in.

        Args:
            generator: decides the order, and nothing else does.
            passes: over the table.
            batch: rows a step.
            done: steps that were already taken: the first buffer begins after them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A table that lies on the device whole."""

    rows: TrainingRows

    def __len__(self) -> int:
        return len(self.rows)

    def steps(self, passes: int, batch: int) -> int:
        """See `RowSource`; only the last step of an epoch may be short of rows."""
        return math.ceil(passes * len(self.rows) / batch)

    def epoch(
        self, generator: torch.Generator, passes: int, batch: int, done: int
    ) -> Iterator[tuple[TrainingRows, Tensor]]:
        """See `RowSource`."""
        orders = [torch.randperm(len(self.rows), generator=generator) for _ in range(passes)]
        order = torch.cat(orders)[done * batch :]
        if len(order):
            yield self.rows, order.to(self.rows.labels.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A table on the disk.

    Attributes:
        rows: memory-mapped tensors.
        buffer_rows: rows on the device at once; twice as many while the next are on their way.
        device: of the buffers.
    """

    rows: TrainingRows
    buffer_rows: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    def _chunk_rows(self, batch: int) -> int:
        # Whole batches, so that a buffer's last step is a full one.
        return max(1, self.buffer_rows // _CHUNKS_PER_BUFFER // batch) * batch

    def steps(self, passes: int, batch: int) -> int:
        """See `RowSource`; the last step of a pass's shortest chunk may be short of rows."""
        return passes * math.ceil(len(self.rows) / batch)

    def epoch(
        self, generator: torch.Generator, passes: int, batch: int, done: int
    ) -> Iterator[tuple[TrainingRows, Tensor]]:
        """See `RowSource`."""
        plan = self._plan(generator, passes, batch)
        with ThreadPoolExecutor(1, thread_name_prefix="buffer") as pool:
            waiting = None
            for chunks, order in plan:
                steps = math.ceil(len(order) / batch)
                if done >= steps:
                    done -= steps
                    continue
                coming = pool.submit(self._load, chunks), order[done * batch :]
                done = 0
                if waiting is not None:
                    yield waiting[0].result(), waiting[1].to(self.device)
                waiting = coming
            if waiting is not None:
                yield waiting[0].result(), waiting[1].to(self.device)

    def _plan(
        self, generator: torch.Generator, passes: int, batch: int
    ) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        """For each buffer the chunks in it, as from and to, and the order of its rows."""
        size = self._chunk_rows(batch)
        bounds = list(pairwise([*range(0, len(self.rows), size), len(self.rows)]))
        each = max(1, self.buffer_rows // size)
        for _ in range(passes):
            order = torch.randperm(len(bounds), generator=generator).tolist()
            for start in range(0, len(order), each):
                # Read in the order of the disk; the rows are shuffled anyway.
                chunks = [bounds[i] for i in sorted(order[start : start + each])]
                count = sum(end - begin for begin, end in chunks)
                yield chunks, torch.randperm(count, generator=generator)

    def _load(self, chunks: list[tuple[int, int]]) -> TrainingRows:
        parts = {
            name: torch.cat([getattr(self.rows, name)[begin:end] for begin, end in chunks])
            for name in TrainingRows.__slots__
        }
        if self.device.type != "cuda":
            return TrainingRows(**parts)
        # From pinned memory and on a stream of its own, the copy runs beside the kernels.
        stream = torch.cuda.Stream(self.device)
        with torch.cuda.stream(stream):
            copied = {
                name: part.pin_memory().to(self.device, non_blocking=True)
                for name, part in parts.items()
            }
        stream.synchronize()
        for part in copied.values():
            part.record_stream(torch.cuda.default_stream(self.device))
        return TrainingRows(**copied)


def choose_buffer(setting: int | str, rows: int, row_bytes: int, device: torch.device) -> int:
    """Rows on the device at once; 0 is all of them.

    Args:
        setting: `training.buffer_rows`.
        rows: of the training part.
        row_bytes: of one preprocessed row.
        device: to train on. Its whole memory counts, and not what is free of it just now, so that a
            task that goes on comes to the same answer.
    """
    if not isinstance(setting, str):
        return 0 if setting >= rows else setting
    room = _HOST_SHARE * memory_limit()
    if device.type == "cuda":
        room = min(room, _DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory)
    if rows * row_bytes <= room:
        return 0
    return max(1, int(_BUFFER_SHARE * room / row_bytes))


def memory_limit() -> int:
    """Bytes of memory that this container, or else the machine, has."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return memory
