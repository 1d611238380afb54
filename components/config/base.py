"""What all sections of a project file share: strictness, durations, column names."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)

from slipway.components.support.errors import SlipwayError

DURATION_PATTERN = r"^\s*\d+\s*[smhdw]\s*$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FORM = "a whole number and s, m, h, d or w, as in 2h"
LONGEST = timedelta(days=24_855)
"""68 years: Kubernetes counts seconds in 32 bits, and no sum of settings so long leaves the times that
Python or a store can hold."""
EARLIEST = datetime(1700, 1, 1, tzinfo=UTC)
"""The first moment that an example or a value can be of; a database's "always" counts as it."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""From here on a time says that something never becomes known."""


class Section(BaseModel):
    """A part of the project file. Unknown keys are refused; values cannot change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)

    def to_struct(self) -> dict[str, Any]:
        """The section as JSON values: what travels to a stage as its struct parameter.

        Keys without a value are left out: a pipeline parameter cannot hold a null.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def parse(
        cls, struct: Mapping[str, object], name: str, parameters: Mapping[str, object] | None = None
    ) -> Self:
        """Reads the section where it enters a stage.

        Args:
            struct: as the pipeline's struct parameter has it.
            name: the section's name in the project file.
            parameters: what of the section is a pipeline parameter of its own, by parameter.

        Raises:
            SlipwayError: a setting is wrong, or stands in the struct and in a parameter with two values;
                the message names each such setting, shows its value and says what it must be.
        """
        from slipway.components.config.checks.messages import settings_problems
        from slipway.components.config.parameters import with_parameters

        given = with_parameters(struct, name, parameters or {})
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            found = settings_problems(error, given, cls, name)
            raise SlipwayError(f"The {name} settings are wrong: {found}") from error


def named_twice(names: Iterable[str]) -> list[str]:
    """The names that stand more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def parse_duration(value: object) -> timedelta:
    """Reads "90s", "30m", "2h", "7d" or "1w"; a duration stays as it is.

    Raises:
        ValueError: the value is none, or is longer than LONGEST.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit: write {_FORM}")
    text = value if isinstance(value, str) else ""
    match = re.fullmatch(r"\s*(\d+)\s*([smhdw])\s*", text)
    if not match:
        said = f"'{value}' is not a duration: write" if isinstance(value, str) else "a duration is"
        raise ValueError(f"{said} {_FORM}")
    number, most = match[1].lstrip("0") or "0", LONGEST // timedelta(seconds=1)
    # By its digits first: so long a number is none that Python would read.
    if len(number) > len(str(most)) or int(number) * _UNITS[match[2]] > most:
        raise ValueError(_too_long(text))
    return timedelta(seconds=int(number) * _UNITS[match[2]])


def require_bounds(value: timedelta) -> timedelta:
    """The duration, which is not below zero and not above LONGEST.

    Raises:
        ValueError: it is.
    """
    if value > LONGEST:
        raise ValueError(_too_long(format_duration(value)))
    if value < timedelta(0):
        raise ValueError(f"{format_duration(value)} is less than nothing: a duration is {_FORM}")
    return value


def _too_long(given: str) -> str:
    shown = given.strip() if len(given) <= 20 else f"{given.strip()[:20]}…"
    return f"'{shown}' is longer than the longest duration, {format_duration(LONGEST)} (68 years)"


def format_duration(value: timedelta) -> str:
    """Writes a duration in the largest unit that divides it: 7200 s is "2h"."""
    seconds = int(value.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(require_bounds),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["2h", "7d"]}),
]


def _as_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _date_as_datetime(value: object) -> object:
    if hasattr(value, "isoformat") and not isinstance(value, datetime):
        return value.isoformat() + "T00:00:00Z"
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return value + "T00:00:00Z"
    return value


def format_instant(value: datetime) -> str:
    """Writes an instant as ISO 8601 in UTC, for example 2013-01-01T00:00:00Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def next_second(value: datetime) -> datetime:
    """The first whole second after an instant.

    A window that ends now ends there: it reads well in names and reports, and holds what came until now.
    """
    return value.replace(microsecond=0) + timedelta(seconds=1)


Instant = Annotated[
    datetime,
    BeforeValidator(_date_as_datetime),
    AfterValidator(_as_utc),
    PlainSerializer(format_instant, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["2024-01-31", "2024-01-31T06:00:00Z"]}),
]
"""A moment in UTC. A date means its midnight; a time without a zone is taken as UTC."""


def parse_instant(text: str) -> datetime:
    """Reads an ISO date or time as an instant in UTC.

    Raises:
        ValueError: the text is neither.
    """
    value = _date_as_datetime(text.strip())
    return _as_utc(datetime.fromisoformat(str(value)))


def _is_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(f"'{value}' is not a name: use letters, digits and _ (not first a digit)")
    return value


Name = Annotated[str, AfterValidator(_is_name)]
