"""Texts as counts of their n-grams, hashed into buckets: of a fixed width whatever texts come."""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Of = Literal["words", "characters"]
MAX_BUCKETS, MAX_SIZE, MAX_TEXT = 256, 8, 2000
"""Of a longer text the first so many characters count."""
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")


def grams_of(text: str, of: Of, least: int, most: int) -> Iterator[str]:
    """The n-grams of a text in small letters: n words, or n characters, in a row.

    Args:
        text: the text.
        of: what is counted.
        least: the smallest n.
        most: the largest n.
    """
    small = text[:MAX_TEXT].lower()
    parts: Sequence[str] = _WORD.findall(small) if of == "words" else _SPACE.sub(" ", small.strip())
    between = " " if of == "words" else ""
    for size in range(least, most + 1):
        for start in range(len(parts) - size + 1):
            yield between.join(parts[start : start + size])


def count_grams(
    texts: Iterable[str | None], of: Of, least: int, most: int, buckets: int
) -> "npt.NDArray[np.float32]":
    """How many n-grams of each text fall into each bucket: float32 [N, buckets].

    The bucket is the CRC-32 of the gram's UTF-8 modulo `buckets`: the same on every machine and in every
    release. A missing text has none.
    """
    import numpy as np

    rows = []
    for text in texts:
        counts = [0.0] * buckets
        for gram in grams_of(text, of, least, most) if text else ():
            counts[zlib.crc32(gram.encode("utf-8", "replace")) % buckets] += 1.0
        rows.append(counts)
    return np.array(rows, np.float32).reshape(len(rows), buckets)
