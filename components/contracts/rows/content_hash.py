"""A hash of a table's rows that does not depend on their order or on how files were cut.

Each row gets a 64-bit hash of its cells; each cell's hash depends on its column's name and type, so the
order of columns does not matter either. The table's hash is the sum of all row hashes, in two
independent lanes of 64 bits: a multiset hash (Clarke et al., "Incremental Multiset Hash Functions",
2003), which can be added to and subtracted from. It guards against accidents, not against an
attacker who constructs collisions. The values are defined here and nowhere else, so they are the same
with every release of every library.
"""

import hashlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_WORD = 0xFFFF_FFFF_FFFF_FFFF
_M1, _M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_LANES = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
_NULL = 0x5851F42D4C957F2D


class ContentHash:
    """The running hash of a table."""

    def __init__(self, lanes: tuple[int, int] = (0, 0)):
        self._lanes = lanes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `hex` wrote."""
        return cls((int(text[:16], 16), int(text[16:], 16)))

    @property
    def hex(self) -> str:
        """32 hexadecimal digits; all zero for a table without rows."""
        return f"{self._lanes[0]:016x}{self._lanes[1]:016x}"

    def merge(self, other: Self) -> None:
        """Counts in all rows that another hash counted."""
        first, second = (
            (mine + theirs) & _WORD for mine, theirs in zip(self._lanes, other._lanes, strict=True)
        )
        self._lanes = (first, second)

    def add(self, batch: "pa.RecordBatch") -> None:
        """Counts the rows of a batch in."""
        self._lanes = self._combined(batch, 1)

    def subtract(self, batch: "pa.RecordBatch") -> None:
        """Takes the rows of a batch, which were counted in before, out again."""
        self._lanes = self._combined(batch, -1)

    def _combined(self, batch: "pa.RecordBatch", sign: int) -> tuple[int, int]:
        import numpy as np

        rows = row_hashes(batch)
        first, second = (
            (lane + sign * int(np.sum(_mixed(rows ^ np.uint64(key)), dtype=np.uint64))) & _WORD
            for lane, key in zip(self._lanes, _LANES, strict=True)
        )
        return first, second


def combined(hashes: dict[str, str]) -> str:
    """One hash, 64 hexadecimal digits, of several tables' hashes by name."""
    text = "".join(f"{name}\0{value}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def row_hashes(batch: "pa.RecordBatch") -> "np.ndarray":
    """A hash of each row: uint64, shape [rows]."""
    import numpy as np

    total = np.zeros(batch.num_rows, np.uint64)
    for field, column in zip(batch.schema, batch.columns, strict=True):
        seed = hashlib.sha256(f"{field.name}\0{field.type}".encode()).digest()
        key = np.uint64(int.from_bytes(seed[:8], "little"))
        hashes = _cell_hashes(column)
        hashes += key
        hashes *= np.uint64(_M1)
        hashes ^= hashes >> np.uint64(32)
        hashes *= np.uint64(_M2)
        if column.null_count:
            nulls = column.is_null().to_numpy(zero_copy_only=False)
            hashes[nulls] = _mixed(np.array([key ^ np.uint64(_NULL)]))[0]
        total += hashes
    return total


def _mixed(values: "np.ndarray") -> "np.ndarray":
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every bit depends on every bit."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(_M1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_M2)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _cell_hashes(column: "pa.Array") -> "np.ndarray":
    """A fresh uint64 array with one word a cell; that of a null cell has no meaning."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _bytes_hashes(column)
    if pa.types.is_boolean(kind):
        words: np.ndarray = column.fill_null(False).to_numpy(zero_copy_only=False)
        return words.astype(np.uint64)
    width = kind.bit_width if pa.types.is_primitive(kind) else 0
    if width in (8, 16, 32, 64):
        buffer = column.buffers()[1]
        if buffer is None:
            return np.zeros(len(column), np.uint64)
        cells = np.frombuffer(buffer, f"<u{width // 8}", len(column), column.offset * width // 8)
        return cells.astype(np.uint64)
    # Decimals, lists, structs: rare, so the slow way, through their text.
    return _bytes_hashes(pa.array([repr(value) for value in column.to_pylist()], pa.string()))


def _bytes_hashes(column: "pa.Array") -> "np.ndarray":
    """Hashes of strings, eight bytes at a time over all rows at once."""
    import numpy as np

    _, offset_buffer, data_buffer = column.buffers()
    rows = len(column)
    if rows == 0:
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(offset_buffer, "<i4", rows + 1, column.offset * 4)
    start, end = int(offsets[0]), int(offsets[-1])
    data = np.zeros(end - start + 8, np.uint8)
    if end > start:
        data[:-8] = np.frombuffer(data_buffer, np.uint8, end - start, start)
    # One overlapping word at each byte, so that a gather reads eight bytes from anywhere.
    words = np.ndarray((end - start + 1,), "<u8", data, strides=(1,))
    keep = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)
    lengths = np.diff(offsets).astype(np.int64)
    starts = offsets[:-1].astype(np.int64) - start
    hashes = lengths.astype(np.uint64)
    done, longest, shortest = 0, int(lengths.max()), int(lengths.min())
    while done < longest:
        active = slice(None) if shortest > done else np.flatnonzero(lengths > done)
        left = lengths[active] - done
        word = words[starts[active] + done] & keep[np.minimum(left, 8)]
        hashes[active] = _mixed(hashes[active] ^ (word + np.uint64(_LANES[0])))
        done += 8
    return hashes
