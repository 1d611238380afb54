"""What the features of one version looked like in a window: sketches, and a sample of the rows.

The log is cut into pieces by its files alone (`LogWindow.pieces`). Each is scanned from nothing, and the
scans are added up in the order of the pieces: so the sums are the same to the last digit whether one task
scans all pieces or each of several has some.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX
from slipway.components.contracts.splits import Kind
from slipway.components.monitor.measures.sketch import (
    Sketch,
    add_column,
    hours_since_1970,
    merge,
    new_sketch,
)
from slipway.components.monitor.reference import Reference
from slipway.components.monitor.window import (
    CHUNK,
    LogWindow,
    is_answered,
    keep,
    read_answers,
)
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True, kw_only=True)
class Sample:
    """An even sample of rows: those that drew the smallest numbers.

    Attributes:
        rows: the features that Evidently shows, under their own names, in the order of the log.
        draws: float64 [N], what each of them drew.
    """

    rows: "pa.Table"
    draws: npt.NDArray[np.float64]

    def join(self, later: "Sample", most: int) -> "Sample":
        """The sample of both stretches of the log; each draw depends on its row's place alone."""
        import pyarrow as pa

        rows = pa.concat_tables([self.rows, later.rows])
        draws = np.concatenate([self.draws, later.draws])
        kept = np.sort(np.argsort(draws, kind="stable")[:most])
        return Sample(rows=rows.take(kept), draws=draws[kept])


@dataclass(slots=True, kw_only=True)
class FeatureScan:
    """What the features of one version looked like in a stretch of the log.

    Attributes:
        sketches: feature to its sketch. rows: how many rows were counted.
        seen: features that a file of the log has.
        wrong_types: feature to the type that the log has and that cannot be read as its kind.
        drawn: an even sample of the rows; None: none was asked for, or there is no row.
        most: rows of the sample.
    """

    sketches: dict[str, Sketch]
    rows: int = 0
    seen: set[str] = field(default_factory=set)
    wrong_types: dict[str, str] = field(default_factory=dict)
    drawn: Sample | None = None
    most: int = 0

    @property
    def missing_columns(self) -> list[str]:
        """Features that no file of the log has: a break of the schema."""
        return [name for name in self.sketches if name not in self.seen] if self.rows else []

    @property
    def sample(self) -> "pa.Table | None":
        """The sampled rows."""
        return self.drawn.rows if self.drawn else None

    def add(self, chunk: "pa.Table", kinds: Mapping[str, Kind], draw: np.random.Generator) -> None:
        """Counts rows of the log.

        Args:
            chunk: with their features and `time`.
            kinds: feature to its kind.
            draw: what the rows of the sample are chosen by.
        """
        import pyarrow as pa

        self.rows += chunk.num_rows
        hours = hours_since_1970(chunk["time"])
        for name, kind in kinds.items():
            column = FEATURE_PREFIX + name
            if column not in chunk.column_names or name in self.wrong_types:
                continue
            self.seen.add(name)
            try:
                add_column(self.sketches[name], chunk[column], kind, hours)
            except (pa.ArrowException, TypeError):
                kind_there = chunk[column].type
                # Texts are read as codes.
                self.wrong_types[name] = str(getattr(kind_there, "value_type", kind_there))
        if self.most and chunk.num_rows:
            draws = draw.random(chunk.num_rows)
            kept = np.sort(np.argsort(draws, kind="stable")[: self.most])
            sample = Sample(rows=_shown(chunk.take(kept), kinds), draws=draws[kept])
            self._sample(sample)

    def _sample(self, more: Sample) -> None:
        # Without a feature that Evidently shows there are no columns, and so no rows.
        if more.rows.num_columns:
            self.drawn = self.drawn.join(more, self.most) if self.drawn else more

    def join(self, later: "FeatureScan") -> "FeatureScan":
        """What both stretches of the log, one after the other, looked like."""
        both = FeatureScan(
            sketches={n: merge(sketch, later.sketches[n]) for n, sketch in self.sketches.items()},
            rows=self.rows + later.rows,
            seen=self.seen | later.seen,
            wrong_types={**later.wrong_types, **self.wrong_types},
            drawn=self.drawn,
            most=self.most,
        )
        if later.drawn:
            both._sample(later.drawn)
        return both


def _shown(rows: "pa.Table", kinds: Mapping[str, Kind]) -> "pa.Table":
    """The features that Evidently shows, each of its kind's type; what cannot be of it is null.

    A moment moves on by itself, and Evidently would call that drift.
    """
    import pyarrow as pa

    types = {"numeric": pa.float64(), "categorical": pa.string(), "boolean": pa.bool_()}
    columns = {}
    for name, kind in kinds.items():
        if kind in types:
            columns[name] = pa.nulls(rows.num_rows, types[kind])
            if FEATURE_PREFIX + name in rows.column_names:
                try:
                    columns[name] = rows[FEATURE_PREFIX + name].cast(types[kind])
                except pa.ArrowException:
                    continue
    return pa.table(columns)


def _answered_chunks(
    window: LogWindow, logged_version: str, features: list[str]
) -> "Iterator[pa.Table]":
    """The answered rows of one version with these features, in pieces of about `CHUNK` rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["time", "model_version", "row", *(FEATURE_PREFIX + name for name in features)]
    waiting: list[pa.Table] = []
    for table in window.batches(columns):
        answered = pc.and_(pc.equal(table["model_version"], logged_version), is_answered(table))
        table = keep(table.drop_columns(["model_version", "row"]), answered)
        if waiting and waiting[0].schema != table.schema:
            yield pa.concat_tables(waiting)
            waiting = []
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= CHUNK:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def new_scan(reference: Reference, sample_rows: int = 0) -> FeatureScan:
    """A scan of nothing."""
    sketches = {
        name: new_sketch(kind, reference.edges.get(name)) for name, kind in reference.kinds.items()
    }
    return FeatureScan(sketches=sketches, most=sample_rows)


def scan_pieces(
    window: LogWindow,
    logged_version: str,
    reference: Reference,
    sample_rows: int = 0,
    pieces: range | None = None,
    total: int = 0,
) -> Iterator[FeatureScan]:
    """Scans pieces of the log, each by itself. Memory is bounded by a chunk of rows and the sketches.

    Args:
        window: the log.
        logged_version: whose rows.
        reference: of that version.
        sample_rows: of the sample; 0: none is drawn.
        pieces: which of the log's; None: all.
        total: how many rows the version has in them, for the progress; 0: unknown.
    """
    cut = window.pieces()
    done = 0
    for number in range(len(cut)) if pieces is None else pieces:
        scan = new_scan(reference, sample_rows)
        draw = np.random.default_rng(number)
        for chunk in _answered_chunks(window.of(cut[number]), logged_version, list(scan.sketches)):
            scan.add(chunk, reference.kinds, draw)
            rows = done + scan.rows
            progress(f"{rows:,} rows compared", min(1.0, rows / total) if total else None)
        done += scan.rows
        yield scan


def join_scans(
    scans: Iterable[FeatureScan], reference: Reference, sample_rows: int = 0
) -> FeatureScan:
    """What a window looked like, from the scans of its pieces in their order."""
    whole: FeatureScan | None = None
    for scan in scans:
        whole = whole.join(scan) if whole else scan
    return whole or new_scan(reference, sample_rows)


class WindowReader(Protocol):
    """What a window's measures are made of: read from its log, or by shards before."""

    @property
    def log(self) -> LogWindow:
        """The window's log."""
        ...

    def answers(self, kind: LabelKind, features: Sequence[str] = ()) -> "pa.Table":
        """As `read_answers`."""
        ...

    def scan(
        self, logged_version: str, reference: Reference, sample_rows: int, total: int
    ) -> FeatureScan:
        """What the features of one version looked like; the arguments are those of `scan_pieces`."""
        ...


@dataclass(frozen=True, slots=True)
class LogReader:
    """Reads all from the log."""

    log: LogWindow

    def answers(self, kind: LabelKind, features: Sequence[str] = ()) -> "pa.Table":
        """As `WindowReader`."""
        return read_answers(self.log, kind, features)

    def scan(
        self, logged_version: str, reference: Reference, sample_rows: int, total: int
    ) -> FeatureScan:
        """As `WindowReader`."""
        scans = scan_pieces(self.log, logged_version, reference, sample_rows, total=total)
        return join_scans(scans, reference, sample_rows)
