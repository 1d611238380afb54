"""What is predicted: a column, what kind of value it is, and which of its values mean what."""

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from slipway.components.config.base import (
    Name,
    Section,
    format_duration,
    parse_duration,
    require_bounds,
)
from slipway.components.config.kinds import LabelKind

_EXACT = 2**53
"""From here on not every whole number is a double."""
_DIGITS = 80
_LARGEST = 400
"""No number that a column can have has its first digit as far from the point."""


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
    if isinstance(value, Decimal):
        # Not `normalize`, which rounds to the digits of Python's context.
        return f"{value:f}".rstrip("0").rstrip(".") if value.is_finite() else str(value)
    return str(value)


def number_text(text: str) -> str:
    """A declared value as the text of the number that it is, where the label's column has numbers."""
    number = as_number(text)
    if number is not None:
        return value_text(number)
    try:
        return value_text(float(text))
    except ValueError:
        return text


def as_number(text: str) -> Decimal | None:
    """The finite number that a text is; None: it is none."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= _LARGEST else None


def _values(declared: object) -> object:
    """One value or a list of them, as texts."""
    if declared is None:
        return None
    listed = declared if isinstance(declared, list | tuple) else [declared]
    if not all(isinstance(value, str | bool | int | float) for value in listed):
        raise ValueError("give a value or a list of values: texts, numbers, true or false")
    for value in listed:
        if isinstance(value, float) and math.isfinite(value):
            _number(value)
    return tuple(dict.fromkeys(value_text(value) for value in listed))


def _number(declared: object) -> object:
    """A finite number, exact: a whole one, a decimal, or the text of one."""
    if isinstance(declared, str):
        text = declared.strip()
        if len(text) > _DIGITS or not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text):
            raise ValueError(f"'{text[:_DIGITS]}' is not a number of plain digits, as in 12.5")
        return Decimal(text)
    if isinstance(declared, Decimal) or (
        isinstance(declared, int) and not isinstance(declared, bool)
    ):
        number = Decimal(declared)
    elif isinstance(declared, float):
        # As it is written: 0.1 is a tenth.
        number = Decimal(repr(declared))
        if number.is_finite() and abs(number) >= _EXACT:
            raise ValueError(
                f"{declared} may not be the number that was written, which has more digits than such a"
                " number holds: write it in quotes, or without a point"
            )
    else:
        raise ValueError("give a number")
    if not number.is_finite():
        raise ValueError("give a finite number")
    return number


def _threshold(declared: object) -> object:
    """A number, or a duration such as 15m."""
    if isinstance(declared, timedelta):
        return require_bounds(declared)
    if isinstance(declared, str):
        return _number(declared) if _is_like_number(declared) else parse_duration(declared)
    if isinstance(declared, Decimal | int | float) and not isinstance(declared, bool):
        return _number(declared)
    raise ValueError("give a number, or for a column of durations one such as 15m")


def _is_like_number(text: str) -> bool:
    return re.fullmatch(r"[\s\d.+-]*", text) is not None


def _written(threshold: Decimal | timedelta) -> str:
    return format_duration(threshold) if isinstance(threshold, timedelta) else value_text(threshold)


Unit = Literal["s", "m", "h", "d"]
MAX_CLASSES = 1000
MIN_CLASS_ROWS = 10
_VALUE_SCHEMA = {"type": ["string", "number", "boolean"]}
Values = Annotated[
    tuple[str, ...],
    BeforeValidator(_values),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_VALUE_SCHEMA, {"type": "array", "items": _VALUE_SCHEMA}]}),
]
Number = Annotated[
    Decimal,
    BeforeValidator(_number),
    PlainSerializer(value_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["number", "string"]}),
]
"""A number that is compared with a column's values. It travels as text, which keeps all its digits."""
Threshold = Annotated[
    Decimal | timedelta,
    BeforeValidator(_threshold),
    PlainSerializer(_written, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["number", "string"]}),
]


def _cost_table(declared: object) -> object:
    """Classes that YAML reads as numbers or booleans, as the texts that they are."""
    if not isinstance(declared, dict):
        return declared
    return {
        value_text(true): {value_text(name): cost for name, cost in answers.items()}
        if isinstance(answers, dict)
        else answers
        for true, answers in declared.items()
    }


CostTable = Annotated[
    dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]],
    BeforeValidator(_cost_table),
    Field(min_length=1),
]


class Label(Section):
    """What is predicted: one of two classes, one of several, or a number.

    Of two classes, a boolean column or one of 0 and 1 is read as it is; of any other, `positive` or
    `above` says which rows are positive.
    """

    column: Name = Field(description="In the examples' table. A row where it is null has no label.")
    kind: LabelKind = Field(
        default="binary",
        description="`binary`: one of two classes; `multiclass`: one of several; `number`: a number.",
    )
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
    classes: Values | None = Field(
        default=None,
        description="Of `multiclass`: the classes, in the order of the model's answers; any other "
        "value is refused. None: those that the data have, in order.",
    )
    min_class_rows: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Of `multiclass`: the fewest rows of a class; None: 10. A rarer one is refused by "
        "name, or merged where `merge_rare` is set.",
    )
    merge_rare: str | None = Field(
        default=None,
        min_length=1,
        description="Of `multiclass`: the class that rows of rarer classes, and of classes that "
        "appear only after the training, are counted as.",
    )
    costs: CostTable | None = Field(
        default=None,
        description="Of classes: true class to answered class to what that answer costs a row; a pair "
        "that is not named costs 1, a right answer 0. The model then answers with what is expected to "
        "cost least. Of two classes the names are 0 and 1.",
    )
    unit: Unit | None = Field(
        default=None,
        description="Of `number`, where the column is a duration: the unit that the model predicts "
        "(s, m, h or d).",
    )
    known: Name | None = Field(
        default=None,
        description="The column with the time at which the label is known; None: the example's "
        "time.",
    )
    meaning: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="What is predicted, in words that go on from *It predicts*: `whether a flight "
        "arrives more than 15 minutes late`. Reports and the registry show it; None: they name the "
        "column.",
    )

    @property
    def words(self) -> str:
        """What is predicted, in words that go on from "It predicts"."""
        if self.meaning is not None:
            return self.meaning
        if self.kind == "multiclass":
            return f"which {self.column} it is"
        if self.kind == "number":
            return self.column + (f" in {_UNITS[self.unit]}" if self.unit else "")
        if self.above is not None:
            return f"whether {self.column} is above {_written(self.above)}"
        if self.positive is not None:
            return f"whether {self.column} is {' or '.join(self.positive)}"
        return f"whether {self.column} is true"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, kind in _OF_KIND.items():
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"`{name}` is for `kind: {kind}`, and this label is {self.kind}")
        if self.positive is not None and self.above is not None:
            raise ValueError("`positive` and `above` say the same thing twice: leave one out")
        for name in ("positive", "classes"):
            both = sorted(set(getattr(self, name) or ()) & set(self.unknown or ()))
            if both:
                raise ValueError(f"{', '.join(both)} cannot be both `{name}` and `unknown`")
        if self.merge_rare is not None and self.merge_rare in (self.unknown or ()):
            raise ValueError(f"{self.merge_rare} cannot be both `merge_rare` and `unknown`")
        self._check_costs()
        if self.classes is not None and not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"give 2 to {MAX_CLASSES:,} `classes`, not {len(self.classes)}")
        return self

    def _check_costs(self) -> None:
        if self.costs is None:
            return
        if self.kind == "number":
            raise ValueError("`costs` are of classes, and this label is a number")
        known = ("0", "1") if self.kind == "binary" else self.classes
        merged = (self.merge_rare,) if self.merge_rare is not None else ()
        named = {*self.costs, *(name for answers in self.costs.values() for name in answers)}
        strange = sorted(named - {*known, *merged}) if known else []
        if strange:
            raise ValueError(
                f"`costs` name {', '.join(strange)}; the classes are {', '.join(known or ())}"
            )
        for true, answers in self.costs.items():
            right = answers.get(true, 0.0)
            # Of classes that only the data name there is one more at least, whose cost is 1.
            others = dict.fromkeys((*known, *merged) if known else (*answers, *merged, _ANY))
            wrong = {name: answers.get(name, 1.0) for name in others if name != true}
            cheap = min(wrong, key=wrong.__getitem__, default=None)
            if cheap is not None and wrong[cheap] < right:
                raise ValueError(
                    f"`costs`: answering {cheap} where {true} is true costs {wrong[cheap]:g}, less than"
                    f" the right answer ({right:g}): nothing would speak for being right"
                )


_ANY = "any other class"
_UNITS: dict[Unit, str] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OF_KIND: dict[str, LabelKind] = {
    "positive": "binary",
    "above": "binary",
    "classes": "multiclass",
    "min_class_rows": "multiclass",
    "merge_rare": "multiclass",
    "unit": "number",
}
"""Settings that only one kind of label has."""
