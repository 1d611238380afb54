"""Answers of HTTP servers, read within bounds: so many bytes, in so many seconds.

httpx bounds the wait for each next byte and nothing else: a server that sends one every few seconds, or
sends without end, or compressed zeros, held a task for as long as it liked and filled its memory.
"""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

# Others grow too far from one piece: 64 KiB of gzip are 64 MiB at most.
_ENCODINGS = ("", "identity", "gzip", "deflate")


def read_answer(answer: "httpx.Response", *, most: int, seconds: float) -> bytes:
    """The body of an answer whose head was read (`stream=True`).

    Args:
        answer: the answer; the caller closes it.
        most: bytes that are taken.
        seconds: until it must be whole.

    Raises:
        httpx.DecodingError: it has more bytes, or is encoded in a way that was not asked for.
        httpx.ReadTimeout: it takes longer.
        httpx.HTTPError: as httpx says.
    """
    import httpx

    if answer.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
        raise httpx.DecodingError("the answer is encoded in a way that was not asked for")
    deadline = time.monotonic() + seconds
    parts, size = [], 0
    for part in answer.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > most:
            raise httpx.DecodingError(f"the answer has more than {most:,} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout(f"the answer was not whole after {seconds:g} s")
    return b"".join(parts)
