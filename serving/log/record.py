"""What the inference log takes, apart from what writes it: that needs Arrow, a fifth of a start."""

from dataclasses import dataclass

import numpy as np

from slipway.serving.protocol.rows import Rows

SHIPPER = "log-ship"
"""Name of the thread that takes the log to its store."""
# Of a record beside its rows.
_RECORD_BYTES = 1024


@dataclass(slots=True, kw_only=True)
class LogRecord:
    """One answered or refused request. `time` and `served_at` are microseconds since 1970, UTC.

    `rows` and `answers` (float32 [N] or [N, W]) are None where the request was refused.
    """

    request_id: str
    time: int
    served_at: int
    model_version: str
    status: int
    latency_ms: float
    rows: Rows | None = None
    answers: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Log rows that the record makes."""
        return self.rows.count if self.rows is not None else 1

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory it takes."""
        return _RECORD_BYTES + (self.rows.nbytes if self.rows is not None else 0)
