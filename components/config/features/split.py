"""How labelled rows are parted into train, validation and test: by time, or by a draw that stays."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from slipway.components.config.base import (
    Duration,
    Name,
    Section,
    format_duration,
    format_instant,
    parse_duration,
)

SplitMethod = Literal["time", "random", "stratified", "group"]
DRAWN = "{method: random, validation: 0.15, test: 0.2}"
"""A split that fits every table, as a message shows it."""


def _size(declared: object) -> object:
    """A duration such as 31d, or a share of the rows such as 0.15."""
    if isinstance(declared, timedelta):
        return declared
    if isinstance(declared, str):
        return parse_duration(declared)
    if isinstance(declared, int | float) and not isinstance(declared, bool) and 0 < declared < 1:
        return float(declared)
    raise ValueError("give a duration, as in 31d, or a share of the rows, as in 0.15")


def _written(size: timedelta | float) -> str | float:
    return format_duration(size) if isinstance(size, timedelta) else size


Size = Annotated[
    timedelta | float,
    BeforeValidator(_size),
    PlainSerializer(_written, return_type=str | float, when_used="json"),
]


class Split(Section):
    """Which rows are trained on, validated on and tested on."""

    method: SplitMethod | None = Field(
        default=None,
        description="`time`: train, then validation, then test at the window's end. `random`: by a "
        "draw from each row's key, so that a row stays in its part whatever rows come or go. "
        "`stratified`: drawn so that each part has the label's values in equal shares. `group`: all "
        "rows with the same value of `by` in one part. None: `time`, which a project without "
        "`examples.time` cannot have.",
    )
    by: Name | None = Field(
        default=None, description="For `group`: the examples' column that names a row's group."
    )
    seed: int | None = Field(default=None, description="Of the draw; None: 0.")
    validation: Size = Field(
        description="Length of the validation part; where it is drawn, its share of the rows."
    )
    test: Size = Field(
        description="Length of the test part, at the end of the window; where it is drawn, its share."
    )
    gap: Duration = Field(
        default=timedelta(0),
        description="Rows this close before the next part are left out, so that no label of one "
        "part is known only inside the next.",
    )

    @property
    def drawn(self) -> bool:
        """Whether rows or groups are drawn, by shares; else time cuts the parts."""
        return isinstance(self.validation, float)

    @property
    def shares(self) -> tuple[float, float]:
        """Of validation and test, where the parts are drawn."""
        validation, test = self.validation, self.test
        assert isinstance(validation, float) and isinstance(test, float)  # noqa: S101 - `drawn`
        return validation, test

    @property
    def test_length(self) -> timedelta | None:
        """How long the test part is; None where it is drawn."""
        return self.test if isinstance(self.test, timedelta) else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.validation, float) != isinstance(self.test, float):
            raise ValueError("validation and test must both be durations, or both be shares")
        if (self.method == "group") != (self.by is not None):
            raise ValueError(
                f"`by` names the groups of `method: group`, and the method is {self.method or 'time'}"
                if self.by
                else "`method: group` needs `by`, the column that names a row's group"
            )
        if self.drawn:
            return self._check_draw()
        if self.method in ("random", "stratified"):
            raise ValueError(
                f"`method: {self.method}` draws rows: give validation and test as shares of them, as"
                " in `validation: 0.15, test: 0.2`"
            )
        if self.seed is not None:
            raise ValueError("`seed` has no effect where time cuts the parts: leave it out")
        return self

    def _check_draw(self) -> Self:
        if self.method in (None, "time"):
            raise ValueError(
                "shares of the rows are drawn: say how, with `method: random`, `stratified` or `group`;"
                " parts that time cuts are durations, as in `validation: 31d, test: 61d`"
            )
        if self.gap:
            raise ValueError("`gap` has no effect where parts are drawn: leave it out")
        if sum(self.shares) >= 1:
            raise ValueError(
                f"validation {self.shares[0]:g} and test {self.shares[1]:g} leave nothing to train on"
            )
        return self

    def cut(self, start: datetime, end: datetime) -> dict[str, tuple[datetime, datetime]]:
        """The half-open stretch of time of each part: train first, test last, with the gap before each.

        Where the parts are drawn, each has the whole window.

        Raises:
            ValueError: the window is too short for the parts.
        """
        if not (isinstance(self.test, timedelta) and isinstance(self.validation, timedelta)):
            return dict.fromkeys(("train", "validation", "test"), (start, end))
        test = end - self.test
        validation = test - self.validation
        if validation - self.gap <= start or test - self.gap <= validation:
            validate, last, gap = map(format_duration, (self.validation, self.test, self.gap))
            raise ValueError(
                f"{validate} of validation, {last} of test and gaps of {gap} leave nothing to train on"
                f" of the window {format_instant(start)} to {format_instant(end)}. Shorten the parts,"
                " or lengthen data.window"
            )
        return {
            "train": (start, validation - self.gap),
            "validation": (validation, test - self.gap),
            "test": (test, end),
        }
