"""A source as it was found once for all shards: what each of them must find again."""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """A file of a source.

    Attributes:
        path: below the table's folder.
        size: in bytes.
        rows: of each of its row groups.
    """

    path: str
    size: int
    rows: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A table's files, and which of them a shard reads.

    Attributes:
        files: all files.
        version: of a Delta table; else None.
        schema: the table's columns.
        pieces: the row groups that the shard reads, numbered over all files.
    """

    files: list[PinnedFile]
    version: int | None
    schema: "pa.Schema"
    pieces: range

    @property
    def wanted(self) -> slice:
        """The files that have a piece of the shard."""
        ends = list(accumulate(len(file.rows) for file in self.files))
        first = sum(end <= self.pieces.start for end in ends)
        return slice(first, max(first, sum(end < self.pieces.stop for end in ends) + 1))

    @property
    def first(self) -> int:
        """The number of the first piece of those files."""
        return sum(len(file.rows) for file in self.files[: self.wanted.start])

    def require(self, found: list[PinnedFile]) -> None:
        """Refuses files that are others than they were.

        Raises:
            SlipwayError: naming the first.
        """
        for file, now in zip(self.files[self.wanted], found, strict=True):
            if file != now:
                raise SlipwayError(
                    f"{file.path} has changed since the shards were planned: it had {file.size:,} bytes"
                    f" and {sum(file.rows):,} rows, and has {now.size:,} and {sum(now.rows):,}. Run the"
                    " pipeline again."
                )
