"""Shards: a table's work cut so that several tasks do a part each, and their parts put together.

Whatever a shard does with its rows, it does as one task would do it with the whole table: it has whole
row groups, and whole files where there are enough of them. So the parts of all shards are those of one
task, file by file: the merge copies what one shard made alone, and joins the rest row group by row group.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from slipway.components.contracts.dataset import as_written, writes_to
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 4_194_304
"""Rows of a shard where their number is left to Slipway: some minutes of work, against a pod's start."""
MOST = 64
"""Shards of a table where their number is left to Slipway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Which part of a table a task has, and as of when. It is settled once for all shards of a table.

    Attributes:
        moment: ISO 8601 in UTC: what "now" is in each.
        index, of: the shard has the part from index/of to (index + 1)/of.
    """

    moment: str = ""
    index: int = 0
    of: int = 1

    @property
    def text(self) -> str:
        """What a pipeline hands the shard's task."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `text` gave."""
        return cls(**json.loads(text))

    def share(self, sizes: Sequence[int]) -> range:
        """Its pieces, numbered over all files: whole files, where every shard can have one.

        Args:
            sizes: the pieces (row groups) of each file.
        """
        ends = [0, *accumulate(sizes)]
        if len(sizes) < self.of:
            return range(*(ends[-1] * side // self.of for side in (self.index, self.index + 1)))
        return range(*(ends[len(sizes) * s // self.of] for s in (self.index, self.index + 1)))


def count_shards(asked: int, *, rows: int, pieces: int) -> int:
    """How many shards a table is cut into.

    Args:
        asked: at most; 0: one for every `SHARD_ROWS` rows, up to `MOST`.
        rows: of the table.
        pieces: its row groups; it has no more shards.
    """
    return max(min(asked or min(-(-rows // SHARD_ROWS), MOST), pieces), 1)


def put_in_order(parts: Iterable[tuple[Mapping[str, Any], Path]], work: str) -> list[Path]:
    """The folders of a table's shards in the order of its rows.

    Args:
        parts: each shard's note and folder, in any order. The note has index and of, and beside them what
            all shards of one table have alike.
        work: what it is whose shards they are, for messages, as "scoring".

    Raises:
        SlipwayError: one is missing or there twice, or they are of different work.
    """
    found = sorted(parts, key=lambda each: each[0]["index"])
    if not found:
        raise SlipwayError(f"No shard of the table is there: run the {work} again.")
    first, place = found[0]
    for note, part in found[1:]:
        if {**note, "index": first["index"]} != first:
            raise SlipwayError(f"{place} and {part} are shards of different {work}s.")
    there = [note["index"] for note, _ in found]
    if there != list(range(first["of"])):
        raise SlipwayError(
            f"The shards {there} are there, of {first['of']}. Run the shards again that are missing."
        )
    return [part for _, part in found]


def join_files(
    parts: Sequence[Path],
    pattern: str,
    target: Path,
    disorder: str = "The shards are not in order: run them again.",
) -> None:
    """Puts the parquet files of several folders into one; a file that several have a part of is joined.

    Memory holds one row group.

    Args:
        parts: folders, in the order of their rows.
        pattern: which files, as rglob takes it.
        target: the folder; a file has the place there that it has in its part.
        disorder: what is said where the files are not in the order of the parts.

    Raises:
        SlipwayError: a file of a later part belongs before one of an earlier part; or the disk is full.
    """
    files: dict[Path, list[Path]] = {}
    latest = Path()
    for part in parts:
        for file in sorted(part.rglob(pattern)):
            name = file.relative_to(part)
            if name < latest:
                raise SlipwayError(disorder)
            latest = name
            files.setdefault(name, []).append(file)
    for number, (name, found) in enumerate(files.items()):
        progress(f"{name}", number / len(files))
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with writes_to(target):
            if len(found) == 1:
                shutil.copyfile(found[0], path)
            else:
                _join(found, path)


def _join(files: list[Path], path: Path) -> None:
    import pyarrow.parquet as pq

    schema = as_written(pq.read_schema(files[0]))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for file in files:
            for group in read_groups(file):
                writer.write_table(group.cast(schema))


def read_groups(file: Path) -> Iterator["pa.Table"]:
    """A file's row groups, one at a time."""
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    for group in range(parquet.num_row_groups):
        yield parquet.read_row_group(group, use_threads=False)
