"""Preprocessing that lives inside the model: statistics of the training part as constant tensors.

A numeric value goes through its training quantiles to a standard normal, so that skew and outliers do
not matter; a null becomes 0 and raises a flag. A time gives its minute of the day, once as a numeric
value and once on a circle, and its weekday as a category. Month and year are left out on purpose: a
split by time asks for values of them that training never saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.contracts.bundle import MISSING_TIME
from slipway.components.support.errors import SlipwayError

_KNOTS = 64
_FARTHEST = 1e30  # of a knot: between farther ones float32 has neither the width nor the slope
_TAIL = 3.2  # standard deviations of the outermost inner knot: one row in 1,500 lies beyond it
DAY = 86_400_000_000
MINUTE = 60_000_000
WEEKDAYS = 8  # seven, and 0 for a missing time


@dataclass(frozen=True, slots=True, kw_only=True)
class RawArrays:
    """Feature values as the torch model takes them, for N rows.

    Attributes:
        numeric: float32 [N, n], missing is NaN.
        codes: int64 [N, m], 0 is unknown or missing.
        time: int64 [N, t], microseconds since 1970 of the wall clock.
    """

    numeric: np.ndarray
    codes: np.ndarray
    time: np.ndarray

    def take(self, rows: slice) -> "RawArrays":
        """Some of the rows, as a copy."""
        return RawArrays(**{name: getattr(self, name)[rows].copy() for name in RawArrays.__slots__})


class Preprocessor(nn.Module):
    """Raw feature values to what the network reads.

    Args:
        knots: float32 [p, K], increasing values of each numeric column (minute-of-day columns
            last), padded by repeating the last.
        targets: float32 [p, K], where each knot lies on the standard normal.
        varying: columns (of the p) with more than one value: those that are embedded.
        flagged: columns that are missing somewhere in training: each gives a flag.
        times: number of time features.
    """

    knots: Tensor
    segments: Tensor
    varying: Tensor
    flagged: Tensor

    def __init__(
        self,
        knots: Tensor,
        targets: Tensor,
        varying: Sequence[int],
        flagged: Sequence[int],
        times: int,
    ) -> None:
        super().__init__()
        self.times = times
        self.varying_columns = list(varying)
        self.flagged_columns = list(flagged)
        # One row a segment: where it begins and ends, and what these two map to. Together, since a look
        # into a table costs onnxruntime more than all the arithmetic that follows it.
        ends = (knots[:, :-1], knots[:, 1:], targets[:, :-1], targets[:, 1:])
        buffers = {
            "knots": knots,
            "segments": torch.stack(ends, dim=2).flatten(0, 1),
            "varying": torch.tensor(self.varying_columns, dtype=torch.int64),
            "flagged": torch.tensor(self.flagged_columns, dtype=torch.int64),
        }
        for name, buffer in buffers.items():
            # torch.export.save cannot write several empty tensors.
            self.register_buffer(name, buffer if buffer.numel() else None)

    @property
    def plain_width(self) -> int:
        """Columns of `plain`."""
        return len(self.flagged_columns) + 2 * self.times

    def forward(self, numeric: Tensor, codes: Tensor, time: Tensor) -> tuple[Tensor, ...]:
        """Preprocesses N rows, in the precision of `numeric` and of this module's own tensors.

        Returns:
            scaled: [N, len(varying)]: about standard normal, 0 where missing.
            plain: [N, plain_width]: flags of missing values, then sine and cosine.
            codes: int64 [N, m + t]: the categories' codes, then weekdays.
        """
        dtype = numeric.dtype
        columns = [numeric] if numeric.shape[1] else []
        all_codes = [codes] if codes.shape[1] else []
        plain: list[Tensor] = []
        if self.times:
            missing = time == MISSING_TIME
            within = torch.remainder(time, DAY)
            # In float64, since the ONNX exporter turns an integer division into one in float32.
            minute = torch.floor(within.to(torch.float64) / MINUTE).to(dtype)
            minute = torch.where(missing, torch.nan, minute)
            angle = torch.where(missing, 0.0, minute) * (2 * np.pi / 1440)
            known = (~missing).to(dtype)
            plain = [torch.sin(angle) * known, torch.cos(angle) * known]
            # 1 January 1970 was a Thursday; Monday is 1.
            days = torch.round((time - within).to(torch.float64) / DAY).to(torch.int64)
            weekday = torch.remainder(days + 3, 7) + 1
            all_codes.append(torch.where(missing, 0, weekday))
            columns.append(minute)
        scaled = codes.new_zeros((codes.shape[0], 0), dtype=dtype)
        if columns:
            values = torch.cat(columns, dim=1)
            absent = torch.isnan(values)
            if self.flagged_columns:
                plain.insert(0, absent.index_select(1, self.flagged).to(dtype))
            if self.varying_columns:
                normal = self._to_normal(torch.where(absent, 0.0, values))
                scaled = torch.where(absent, 0.0, normal)
                if len(self.varying_columns) < scaled.shape[1]:
                    scaled = scaled.index_select(1, self.varying)
        none = codes.new_zeros((codes.shape[0], 0))
        return (
            scaled,
            torch.cat(plain, dim=1) if plain else none.to(dtype),
            torch.cat(all_codes, dim=1) if all_codes else none,
        )

    def _to_normal(self, values: Tensor) -> Tensor:
        """Interpolates each column between its knots; values beyond the ends stay at the ends."""
        segments = self.knots.shape[1] - 1
        # Counted in float32 (exact below 2**24): onnxruntime sums integers an element at a time.
        reached = (values.unsqueeze(2) >= self.knots[:, :-1]).to(torch.float32)
        left = reached.sum(2).to(torch.int64).sub(1).clamp(min=0)
        at = left + torch.arange(self.knots.shape[0], device=values.device) * segments
        found = self.segments.index_select(0, at.flatten()).unflatten(0, at.shape)
        low, high, start, end = found.unbind(2)
        width = high - low
        share = ((values - low) / torch.where(width > 0, width, 1.0)).clamp(0.0, 1.0)
        return start + share * (end - start)


def refuse_infinite(raw: RawArrays, names: Sequence[str]) -> None:
    """Refuses infinite values.

    Args:
        raw: training rows.
        names: names of the numeric columns.

    Raises:
        SlipwayError: a numeric feature has an infinite value.
    """
    infinite = np.isinf(raw.numeric).any(axis=0)
    if infinite.any():
        named = ", ".join(name for name, bad in zip(names, infinite, strict=True) if bad)
        raise SlipwayError(
            f"The training table has infinite values in {named}. Correct the feature's definition"
            " (a division by zero is the usual cause), or let the schema refuse such rows."
        )


def missing_columns(raw: RawArrays) -> np.ndarray:
    """Whether a value is missing in each numeric column, then in each time column: bool [n + t]."""
    return np.concatenate(
        [np.isnan(raw.numeric).any(axis=0), (raw.time == MISSING_TIME).any(axis=0)]
    )


def fit_preprocessor(raw: RawArrays, missing: np.ndarray) -> Preprocessor:
    """Takes the statistics of the training rows.

    Args:
        raw: the training rows, or a sample of them.
        missing: `missing_columns` of all training rows.
    """
    minutes = np.where(raw.time == MISSING_TIME, np.nan, np.mod(raw.time, DAY) // MINUTE).astype(
        np.float32
    )
    columns = [*raw.numeric.T, *minutes.T]
    knots, targets, varying = [], [], []
    flagged = np.flatnonzero(missing).tolist()
    for i, column in enumerate(columns):
        # As far out lies what stands for no value, as -3.4e38: it is one value like any other.
        present = np.clip(column[~np.isnan(column)], -_FARTHEST, _FARTHEST)
        points, normal = _quantile_knots(present)
        if len(points) > 1:
            varying.append(i)
        knots.append(np.pad(points, (0, _KNOTS + 1 - len(points)), mode="edge"))
        targets.append(np.pad(normal, (0, _KNOTS + 1 - len(points)), mode="edge"))
    shape = (len(columns), _KNOTS + 1)
    return Preprocessor(
        torch.from_numpy(np.array(knots, np.float32).reshape(shape)),
        torch.from_numpy(np.array(targets, np.float32).reshape(shape)),
        varying,
        flagged,
        raw.time.shape[1],
    )


def _quantile_knots(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots at levels that are evenly spaced on the normal scale, and where each lies on it.

    A value that many rows share takes the middle of the levels that it spans, as in a quantile
    transform with averaged ranks.
    """
    from statistics import NormalDist

    if len(values) == 0:
        return np.zeros(1, np.float32), np.zeros(1, np.float32)
    normal = NormalDist()
    levels = np.array([normal.cdf(z) for z in np.linspace(-_TAIL, _TAIL, _KNOTS - 1)])
    ordered = np.sort(values)
    inner = ordered[np.minimum((levels * len(ordered)).astype(np.int64), len(ordered) - 1)]
    points = np.unique(np.concatenate([ordered[:1], inner, ordered[-1:]]))
    low = np.searchsorted(ordered, points, side="left") / len(ordered)
    high = np.searchsorted(ordered, points, side="right") / len(ordered)
    edge = normal.cdf(-_TAIL - 0.5)
    shares = np.clip((low + high) / 2, edge, 1 - edge)
    return points, np.array([normal.inv_cdf(share) for share in shares], np.float32)


def encode(
    preprocessor: Preprocessor, raw: RawArrays, chunk: int = 1024
) -> tuple[Tensor, Tensor, Tensor]:
    """Preprocesses a table chunk by chunk, so that scratch memory stays small.

    Returns:
        scaled, plain and codes, as `Preprocessor.forward`, with codes as int32 to save memory.
    """
    rows = len(raw.numeric)
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for start in range(0, rows, chunk):
            cut = slice(start, start + chunk)
            parts.append(
                preprocessor(
                    torch.from_numpy(raw.numeric[cut]),
                    torch.from_numpy(raw.codes[cut]),
                    torch.from_numpy(raw.time[cut]),
                )
            )
    scaled, plain, codes = (torch.cat(column) for column in zip(*parts, strict=True))
    return scaled, plain, codes.to(torch.int32)


def vocabulary(counts: Mapping[str, int], *, least: int, most: int) -> list[str]:
    """The values of a categorical column that the model knows, the most frequent first.

    Args:
        counts: rows of the training part with each value.
        least: a value with fewer rows is left out.
        most: at most so many values are kept.
    """
    kept = [(-count, value) for value, count in counts.items() if value and count >= least]
    return [value for _, value in sorted(kept)[:most]]
