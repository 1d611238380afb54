"""What is predicted: a column, and which of its values count as positive."""

import math
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from slipway.components.config.base import Name, Section, format_duration, parse_duration


def value_text(value: Any) -> str:
    """A label's value as text, the same for all that are equal: 9 and 9.0 are "9", 9.50 is "9.5".

    A pipeline parameter makes every number a float, and a project file cannot write each type that a
    column may have: so a value is declared, and compared, as its text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def number_text(text: str) -> str:
    """A declared value as the text of the number that it is, where the label's column has numbers."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    return "NaN" if number.is_nan() else value_text(number if number.is_finite() else float(text))


def _values(declared: Any) -> Any:
    """One value or a list of them, as texts."""
    if declared is None:
        return None
    listed = declared if isinstance(declared, list | tuple) else [declared]
    if not all(isinstance(value, str | bool | int | float) for value in listed):
        raise ValueError("give a value or a list of values: texts, numbers, true or false")
    return tuple(dict.fromkeys(value_text(value) for value in listed))


def _threshold(declared: Any) -> Any:
    """A number, or a duration such as 15m."""
    if declared is None or isinstance(declared, timedelta):
        return declared
    if isinstance(declared, int | float) and not isinstance(declared, bool):
        if not math.isfinite(declared):
            raise ValueError("give a finite number")
        return float(declared)
    if isinstance(declared, str):
        return parse_duration(declared)
    raise ValueError("give a number, or for a column of durations one such as 15m")


def _written(threshold: float | timedelta) -> float | str:
    return format_duration(threshold) if isinstance(threshold, timedelta) else threshold


Values = Annotated[tuple[str, ...], BeforeValidator(_values), Field(min_length=1)]
Threshold = Annotated[
    float | timedelta,
    BeforeValidator(_threshold),
    PlainSerializer(_written, return_type=float | str, when_used="json"),
]


class Label(Section):
    """What is predicted: a boolean column or one of 0 and 1 as it is, or what is said of any other."""

    column: Name = Field(description="In the examples' table. A row where it is null has no label.")
    positive: Values | None = Field(
        default=None,
        description="The value, or values, that are positive; all others are negative.",
    )
    unknown: Values | None = Field(
        default=None,
        description="Values that mean that the label is not known: such a row has no label.",
    )
    above: Threshold | None = Field(
        default=None,
        description="Positive is what is greater: a number, or a duration (15m) where the column "
        "is one.",
    )
    known: Name | None = Field(
        default=None,
        description="The column with the time at which the label is known; None: the example's "
        "time.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.positive is not None and self.above is not None:
            raise ValueError("`positive` and `above` say the same thing twice: leave one out")
        both = sorted(set(self.positive or ()) & set(self.unknown or ()))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both `positive` and `unknown`")
        return self
