"""Sketches: one feature's values as counts, of bounded size, made in one pass and mergeable.

A numeric sketch counts values in bins whose edges are quantiles of the reference, so every bin
between its ends holds at most 1/BINS of the reference: that bounds the error of the KS statistic. A
value that is frequent by itself (a zero of a count, a default) has a bin of its own. Sketches of two
windows with the same edges merge by adding their counts, so days make weeks without reading data
again.

Rows that were seen together resemble one another: the flights of an hour share the weather, those of a
day the delays. So a numeric sketch also keeps each hour's values, sum and missing values, from which
follows how many independent rows its rows are worth.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.components.contracts.splits import Kind
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

BINS = 512
BLOCK = 1 << 15
CELLS = 1 << 13
DAYS = 5
CATEGORIES = 10_000
HOURS_PER_MICROSECOND = 1 / 3.6e9

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BinFinder:
    """Finds the bins of many values, several times faster than a search of each among the edges.

    A grid of equal cells lies over all but the outermost edges. A value's cell gives a bin that is at
    most a few below its own; two comparisons with edges find it, or else a search does.

    Attributes:
        edges: float64 [E + 1]: the sketch's, and infinity.
        first: int [CELLS], the lowest bin that a value of the cell may have.
        start: where the grid begins. scale: cells a unit.
    """

    edges: Floats
    first: npt.NDArray[np.intp]
    start: float
    scale: float

    @classmethod
    def of(cls, edges: Floats) -> "BinFinder | None":
        """None where a grid cannot tell the edges apart: too few, too near or too far."""
        outermost = len(edges) // 50
        start, stop = float(edges[outermost]), float(edges[-1 - outermost])
        with np.errstate(over="ignore", divide="ignore"):
            width = (np.float64(stop) - start) / CELLS
            scale = 1 / width
        if not 0 < scale < np.inf or width < 8 * np.spacing(max(abs(start), abs(stop))):
            return None
        # Half a cell is more than all rounding: no value is below the first bin of its cell.
        with np.errstate(over="ignore"):
            starts = start + (np.arange(CELLS) - 0.5) * width
        first = np.searchsorted(edges, starts, side="right")
        first[0] = 0
        return cls(np.append(edges, np.inf), first, start, float(scale))

    def find(self, values: Floats) -> npt.NDArray[np.intp]:
        """The bins of float64 [N] finite values."""
        with np.errstate(over="ignore"):
            cells = values - self.start
            cells *= self.scale
        np.clip(cells, 0, CELLS - 1, out=cells)
        bins = self.first.take(cells.astype(np.intp))
        for _ in range(2):
            bins += values >= self.edges.take(bins)
        rest = np.flatnonzero(values >= self.edges.take(bins))
        bins[rest] = np.searchsorted(self.edges[:-1], values[rest], side="right")
        return bins


@dataclass(slots=True)
class NumericSketch:
    """Counts and sums in the bins (-inf, e0), [e0, e1), …, [e_last, inf).

    Attributes:
        edges: float64 [B - 1], ascending.
        counts: int64 [B]. sums: float64 [B], of the values.
        squares: sum of the squared distances from the mean.
        nulls: missing values; what is not a finite number counts as missing.
        low: smallest value; inf where there is none. high: largest; -inf.
        hours: hour since 1970 to its values, their sum, and its missing values; empty where the rows'
            times are not known.
    """

    edges: Floats
    counts: Counts
    sums: Floats
    squares: float = 0.0
    nulls: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    hours: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    _finder: BinFinder | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def empty(cls, edges: Floats) -> "NumericSketch":
        """A sketch of nothing."""
        bins = len(edges) + 1
        return cls(edges=edges, counts=np.zeros(bins, np.int64), sums=np.zeros(bins))

    @property
    def rows(self) -> int:
        """Values that are not missing."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean; 0 of nothing."""
        return float(self.sums.sum()) / max(self.rows, 1)

    @property
    def std(self) -> float:
        """Standard deviation; 0 of nothing."""
        return float(np.sqrt(self.squares / max(self.rows, 1)))

    @property
    def commonest(self) -> int | None:
        """The bin of a value that more than half of the rows have; None where there is none."""
        if not self.rows:
            return None
        bin_ = int(self.counts.argmax())
        alone = 0 < bin_ < len(self.edges) and self.edges[bin_] == np.nextafter(
            self.edges[bin_ - 1], np.inf
        )
        return bin_ if alone and 0.5 < self.counts[bin_] / self.rows < 1 else None

    def without(self, bin_: int) -> "NumericSketch":
        """The sketch of the rows outside one bin, which holds one value; their hours are not known."""
        counts, sums = self.counts.copy(), self.sums.copy()
        counts[bin_], sums[bin_] = 0, 0.0
        rows = int(counts.sum())
        value, mean = self.edges[bin_ - 1], sums.sum() / max(rows, 1)
        squares = self.squares - self.counts[bin_] * (value - self.mean) ** 2
        squares -= rows * (mean - self.mean) ** 2
        return replace(self, counts=counts, sums=sums, squares=max(squares, 0.0), hours={})

    @property
    def worth(self) -> tuple[float, float]:
        """How many independent rows the values are worth, and how many the missing values.

        Kish's design effect: the variance of a mean when whole days are drawn, over its variance when
        rows are. Hours stand for days where there are fewer than `DAYS`. Never more than the rows.
        """
        values, total = float(self.rows), float(self.rows + self.nulls)
        if not self.hours:
            return values, total
        hours = np.array(list(self.hours))
        table = np.array(list(self.hours.values()))
        days, day = np.unique(hours // 24, return_inverse=True)
        if len(days) >= DAYS:
            table = np.column_stack([np.bincount(day, column) for column in table.T])
        known, sums, missing = table.T
        return (
            values / _design_effect(known, sums, self.squares / max(self.rows, 1)),
            total / _design_effect(known + missing, missing),
        )

    def add(self, values: Floats, hours: Counts | None = None) -> None:
        """Counts float64 [N] values; NaN and infinities are missing. A block fits the cache of a core.

        Args:
            values: float64 [N].
            hours: int64 [N], each value's hour since 1970, where it is known.
        """
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            found, total = self._add(block)
            if hours is not None:
                self._add_hours(block, hours[start : start + BLOCK], found, total)

    def _add_hours(self, values: Floats, hours: Counts, found: int, total: float) -> None:
        first = int(hours.min())
        if first == hours.max():  # most blocks of a log, and nothing more to count
            self._add_hour(first, (found, total, len(values) - found))
            return
        known = np.isfinite(values)
        each = (
            np.bincount(hours - first, weights)
            for weights in (known, np.where(known, values, 0.0), None)
        )
        for hour, (n, sums, rows) in enumerate(zip(*each, strict=True), first):
            if rows:
                self._add_hour(hour, (float(n), float(sums), float(rows - n)))

    def _add_hour(self, hour: int, more: tuple[float, float, float]) -> None:
        values, total, nulls = self.hours.get(hour, (0.0, 0.0, 0.0))
        self.hours[hour] = (values + more[0], total + more[1], nulls + more[2])

    def _add(self, values: Floats) -> tuple[int, float]:
        """Counts a block; how many values it had, and their sum."""
        known = np.isfinite(values)
        finite = values if known.all() else values[known]
        self.nulls += len(values) - len(finite)
        if not len(finite):
            return 0, 0.0
        if self._finder is None and len(finite) >= CELLS // 4:
            self._finder = BinFinder.of(self.edges)
        bins = (
            self._finder.find(finite)
            if self._finder
            else np.searchsorted(self.edges, finite, side="right")
        )
        counts = np.bincount(bins, minlength=len(self.counts))
        sums = np.bincount(bins, finite, minlength=len(self.counts)).astype(np.float64)
        total = float(sums.sum())
        away = finite - total / len(finite)
        self._absorb(
            NumericSketch(
                edges=self.edges,
                counts=counts,
                sums=sums,
                squares=float(np.square(away, out=away).sum()),
                low=float(finite.min()),
                high=float(finite.max()),
            )
        )
        return len(finite), total

    def _absorb(self, other: "NumericSketch") -> None:
        n, m = self.rows, other.rows
        if n and m:  # Chan, Golub and LeVeque (1979)
            self.squares += (self.mean - other.mean) ** 2 * n * m / (n + m)
        self.squares += other.squares
        self.counts = self.counts + other.counts
        self.sums = self.sums + other.sums
        self.nulls += other.nulls
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def merge(self, other: "NumericSketch") -> "NumericSketch":
        """The sketch of both.

        Raises:
            SlipwayError: the edges differ: the windows were compared with different references.
        """
        if not np.array_equal(self.edges, other.edges):
            raise SlipwayError(
                "Two sketches with different bin edges cannot be merged: they were made against"
                " different references. Merge windows of one model version."
            )
        both = replace(self, hours=dict(self.hours))
        both._absorb(other)
        for hour, more in other.hours.items():
            both._add_hour(hour, more)
        return both

    def to_dict(self) -> dict[str, object]:
        """The sketch as JSON values."""
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "sums": self.sums.tolist(),
            "squares": self.squares,
            "nulls": self.nulls,
            "range": [self.low, self.high] if self.rows else None,
            "hours": [[hour, *content] for hour, content in self.hours.items()],
        }


@dataclass(slots=True)
class CategorySketch:
    """How often each value occurs.

    Attributes:
        counts: value to rows. nulls: missing values.
        other: rows of values that were dropped because there were too many different ones.
    """

    counts: dict[str, int] = field(default_factory=dict)
    nulls: int = 0
    other: int = 0

    @property
    def rows(self) -> int:
        """Values that are not missing."""
        return sum(self.counts.values()) + self.other

    def add(self, values: "pa.Array | pa.ChunkedArray") -> None:
        """Counts the values of an Arrow string, dictionary or bool column.

        Raises:
            TypeError: it is of another type: what a sketch is kept as would make texts of its values.
        """
        import pyarrow as pa

        for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
            if not pa.types.is_dictionary(chunk.type):
                chunk = chunk.dictionary_encode()
            if not _is_category(chunk.type.value_type):
                raise TypeError(f"{chunk.type.value_type} is no category")
            codes = chunk.indices
            if codes.null_count:
                self.nulls += codes.null_count
                codes = codes.drop_null()
            found = np.bincount(codes.to_numpy(), minlength=len(chunk.dictionary))
            used = np.flatnonzero(found)
            names = chunk.dictionary.take(pa.array(used)).to_pylist()
            for value, count in zip(names, found[used].tolist(), strict=True):
                # An empty text is a missing value, as it is to ingest and to the predictor.
                if value is None or value == "":
                    self.nulls += count
                else:
                    name = _category(value)
                    self.counts[name] = self.counts.get(name, 0) + count
            if len(self.counts) > 2 * CATEGORIES:
                self._shrink()

    def _shrink(self) -> None:
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        self.other += sum(count for _, count in ordered[CATEGORIES:])
        self.counts = dict(ordered[:CATEGORIES])

    def merge(self, other: "CategorySketch") -> "CategorySketch":
        """The sketch of both."""
        counts = dict(self.counts)
        for value, count in other.counts.items():
            counts[value] = counts.get(value, 0) + count
        both = CategorySketch(counts, self.nulls + other.nulls, self.other + other.other)
        if len(counts) > 2 * CATEGORIES:
            both._shrink()
        return both

    def to_dict(self) -> dict[str, object]:
        """The sketch as JSON values."""
        return {"counts": self.counts, "nulls": self.nulls, "other": self.other}


Sketch = NumericSketch | CategorySketch


def merge(first: Sketch, second: Sketch) -> Sketch:
    """The sketch of both windows of one feature.

    Raises:
        SlipwayError: they are of different kinds, or their bin edges differ.
    """
    if isinstance(first, NumericSketch) and isinstance(second, NumericSketch):
        return first.merge(second)
    if isinstance(first, CategorySketch) and isinstance(second, CategorySketch):
        return first.merge(second)
    raise SlipwayError("A numeric and a categorical sketch cannot be merged.")


def sketch_from_dict(content: dict[str, Any]) -> Sketch:
    """Reads what `to_dict` wrote."""
    if "edges" not in content:
        return CategorySketch(**content)
    low, high = content["range"] or (float("inf"), float("-inf"))
    return NumericSketch(
        edges=np.asarray(content["edges"], np.float64),
        counts=np.asarray(content["counts"], np.int64),
        sums=np.asarray(content["sums"], np.float64),
        squares=content["squares"],
        nulls=content["nulls"],
        low=low,
        high=high,
        hours={int(hour): (n, total, nulls) for hour, n, total, nulls in content.get("hours", ())},
    )


def _design_effect(rows: Floats, sums: Floats, variance: float | None = None) -> float:
    """How many times larger a mean's variance is because rows come in clusters; at least 1.

    Args:
        rows: float64 [C], rows of each cluster.
        sums: float64 [C], of their values.
        variance: of a value; None: the values are 0 and 1.
    """
    total = rows.sum()
    if len(rows) < 2 or not total:
        return 1.0
    mean = sums.sum() / total
    if variance is None:
        variance = mean * (1 - mean)
    clustered = np.square(sums - rows * mean).sum() / total * len(rows) / (len(rows) - 1)
    return max(1.0, float(clustered / variance)) if variance > 0 else 1.0


def hours_since_1970(column: "pa.ChunkedArray") -> Counts:
    """A timestamp column without nulls as int64 [N] hours."""
    import pyarrow as pa

    stamps = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)))
    hours: Counts = stamps.cast(pa.int64()).to_numpy() // 3_600_000_000
    return hours


def bin_edges(values: Floats, bins: int = BINS) -> Floats:
    """Edges for the sketches that are compared with these reference values.

    Args:
        values: float64 [N] of the reference; what is not finite is left out.
        bins: bins of equal mass, at most.

    Returns:
        float64, ascending: the quantiles, both ends of each value that is frequent by itself, and
        the two ends of the range, so that values outside it have bins of their own.
    """
    ordered = np.sort(values[np.isfinite(values)])
    if not len(ordered):
        return np.zeros(1)
    distinct = ordered[np.flatnonzero(np.diff(ordered, prepend=-np.inf))]
    if len(distinct) <= bins // 2:
        starts = atoms = distinct
    else:
        quantiles = ordered[np.arange(bins) * len(ordered) // bins]
        starts, repeats = np.unique(quantiles, return_counts=True)
        atoms = starts[repeats > 1]
    ends = np.nextafter(np.append(atoms, ordered[-1]), np.inf)
    return np.unique(np.concatenate([starts, ends]))


def numbers(column: "pa.ChunkedArray", kind: Kind) -> Floats:
    """A numeric or time column as float64 [N], missing as NaN.

    Time moves on by itself, so a moment is compared by its time of day: hours after midnight of the
    wall clock that the value shows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind == "time":
        if getattr(column.type, "tz", None):
            column = pc.local_timestamp(column)
        ticks = column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64())
        moments: Floats = ticks.fill_null(float("nan")).to_numpy()
        return (moments * HOURS_PER_MICROSECOND) % 24
    values: Floats = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return values


def _is_category(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_one(kind) for is_one in (*texts, pa.types.is_boolean, pa.types.is_null))


def _category(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def new_sketch(kind: Kind, edges: Floats | None) -> Sketch:
    """An empty sketch for a feature of this kind."""
    return NumericSketch.empty(edges) if edges is not None else CategorySketch()


def add_column(
    sketch: Sketch, column: "pa.ChunkedArray", kind: Kind, hours: Counts | None = None
) -> None:
    """Counts an Arrow column of a feature.

    Args:
        sketch: counts it.
        column: its values.
        kind: of the feature. A time of day is what an hour is, so it does not count by hours.
        hours: int64 [N], each row's hour since 1970, where it is known.
    """
    if isinstance(sketch, NumericSketch):
        sketch.add(numbers(column, kind), hours if kind == "numeric" else None)
    else:
        sketch.add(column)
