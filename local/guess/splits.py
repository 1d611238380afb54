"""How the rows are parted, and the window that they lie in."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from slipway.components.config.base import format_duration, format_instant
from slipway.local.guess.guess import Guess
from slipway.local.guess.labels import LabelGuess
from slipway.local.guess.moments import Moments, instants
from slipway.local.guess.relations import returning

if TYPE_CHECKING:
    import polars as pl

VALIDATION, TEST = 0.15, 0.2
_DAYS = timedelta(days=14)
_RARE = 0.1
Settings = dict[str, str | float | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitGuess:
    """The split's settings as the project file has them, and the window; None: no time."""

    split: Guess[Settings]
    window: Guess[tuple[datetime, datetime] | None]


def guess_split(label: LabelGuess, moments: Moments, labels: "pl.Series") -> SplitGuess:
    """By time where there is one, else by a draw.

    Args:
        label: what is predicted.
        moments: the examples' times.
        labels: of the examples' rows, null where there is none.
    """
    if moments.time.value is None:
        return SplitGuess(split=_drawn(label, labels), window=Guess(value=None, reason=""))
    times = instants(label.table.columns[moments.time.value].values)
    labelled = times.filter(labels.is_not_null()).drop_nulls().sort()
    everything = times.drop_nulls()
    low, high = everything.min(), everything.max()
    assert isinstance(low, datetime) and isinstance(high, datetime)  # noqa: S101
    whole = high - low >= _DAYS
    start = _floor(low, whole)
    end = _floor(high, whole) + (timedelta(days=1) if whole else timedelta(hours=1))
    unit = timedelta(days=1) if whole else timedelta(hours=1)
    cuts = [labelled.quantile(share, "nearest") for share in (1 - TEST - VALIDATION, 1 - TEST)]
    first, second = (_floor(cut, whole) for cut in cuts)  # type: ignore[arg-type]
    test = max(end - second, unit)
    validation = max(second - first, unit)
    gap = min(moments.lag, validation - unit)
    settings: Settings = {
        "validation": format_duration(validation), "test": format_duration(test),
    }  # fmt: skip
    if gap > timedelta(0):
        settings["gap"] = format_duration(gap)
    use = {
        "binary": "choose its threshold",
        "multiclass": "calibrate it",
        "number": "make its intervals",
    }[label.kind.value]
    reason = (
        f"the last {TEST:.0%} of the labelled rows test the model, the {VALIDATION:.0%} before them"
        f" {use}; a split by time tells how it does on days it has not seen"
    )
    window = f"{moments.time.value} is from {format_instant(low)} to {format_instant(high)}"
    return SplitGuess(
        split=Guess(value=settings, reason=reason, change="Change: longer or shorter, in d or h"),
        window=Guess(value=(start, end), reason=window, change="Move the end as new data come"),
    )


def _floor(moment: datetime, whole: bool) -> datetime:
    if whole:
        return datetime.combine(moment.date(), time(), UTC)
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _drawn(label: LabelGuess, labels: "pl.Series") -> Guess[Settings]:
    settings: Settings = {"method": "random", "validation": VALIDATION, "test": TEST}
    change = "Change: method random, stratified, or group with by: COLUMN"
    # The features stage refuses a row of no group: nobody knows which others it belongs to.
    again = [c for c in returning(label.table, (), label.column) if not c.nulls]
    if again:
        column = max(again, key=lambda c: c.distinct)
        settings = {"method": "group", "by": column.name, "validation": VALIDATION, "test": TEST}
        reason = (
            f"a {column.source} has several rows, and all of them go into one part: else the model would"
            " be tested on what it has seen"
        )
        return Guess(value=settings, reason=reason, change=change)
    if label.kind.value == "number":
        reason = "no row has a time, so rows are drawn"
        return Guess(value=settings, reason=reason, change=change)
    counts = labels.drop_nulls().value_counts()["count"]
    if counts.min() < _RARE * counts.sum():  # type: ignore[operator]
        settings["method"] = "stratified"
        reason = "no row has a time and a class is rare, so each part gets its share of it"
    else:
        reason = (
            "no row has a time, so rows are drawn; a split by time tells more where there is one"
        )
    return Guess(value=settings, reason=reason, change=change)
