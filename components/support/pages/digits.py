"""Numbers as people read them: as many digits as say something, and no more."""

import math

NONE = "–"
_SIGNIFICANT = 3
_MOST_DECIMALS = 6
_LEAST_SHARE = 0.0005
_SPACE = "\u00a0"
"""One that does not break: a line never begins with the sign."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimals(*values: float | None, significant: int = _SIGNIFICANT) -> int:
    """Decimals with which the largest of some values has so many significant digits."""
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value]
    if not sizes:
        return 0
    place = math.floor(math.log10(max(sizes)))
    return min(max(significant - 1 - place, 0), _MOST_DECIMALS)


def decimals_of(low: float | None, high: float | None, *values: float | None) -> int:
    """Decimals that an interval bears: two digits of its half, and no fewer than two of the values."""
    if low is None or high is None or not high > low:
        return decimals(*values)
    half = decimals((high - low) / 2, significant=2)
    return min(half, decimals(*values, significant=4)) if any(values) else half


def number(value: float | None, places: int | None = None) -> str:
    """A number: `–` for none, whole ones whole, others with three significant digits.

    Args:
        value: the number.
        places: decimals; None: as many as three significant digits have.
    """
    if value is None or not math.isfinite(value):
        return NONE
    if places is None:
        if float(value).is_integer():
            return f"{value + 0:,.0f}"
        if abs(value) < 10 ** -(_MOST_DECIMALS - 1):
            return power(value)
        places = decimals(value)
    # Nothing is called whole that is not: 0.9997 is no 1.000.
    while places < _MOST_DECIMALS and 0 < abs(value) < 1 and round(abs(value), places) == 1:
        places += 1
    shown = f"{value:,.{places}f}"
    # No "-0.00": what rounds to nothing has no sign.
    return shown.replace("-", "", 1) if not any(c in "123456789" for c in shown) else shown


def power(value: float) -> str:
    """A number as a power of ten."""
    if not value:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def span(low: float | None, high: float | None, places: int | None = None) -> str:
    """An interval: `0.72 to 0.77`; `–` where there is none."""
    if low is None or high is None:
        return NONE
    places = decimals_of(low, high, low, high) if places is None else places
    return f"{number(low, places)} to {number(high, places)}"


def share(value: float | None, places: int = 1) -> str:
    """A share in per cent, with a space that does not break."""
    if value is None or not math.isfinite(value):
        return NONE
    if value and abs(value) < _LEAST_SHARE:
        return f"under 0.05{_SPACE}%" if value > 0 else f"over −0.05{_SPACE}%"
    if 1 - _LEAST_SHARE < value < 1:
        return f"over 99.95{_SPACE}%"
    shown = f"{100 * value:.{places}f}"
    return f"{shown.removesuffix('.0') if value in (0, 1) else shown}{_SPACE}%"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return NONE if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """How long something took."""
    if value is None:
        return NONE
    if value < 90:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 90:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def remaining(value: float) -> str:
    """How long something still takes, about: a guess has no tenths."""
    return f"{value:.0f} s" if value < 90 else seconds(value)


def counted(value: int, noun: str, nouns: str = "") -> str:
    """`1 member`, `3 members`."""
    return f"{value:,} {noun if value == 1 else nouns or noun + 's'}"


def stretch(start: str, end: str) -> str:
    """From an instant to another, as people write it: the day once, where it is one."""
    first, last = moment(start), moment(end)
    day, _, clock = last.partition(" ")
    if clock and first.startswith(f"{day} "):
        return f"{first} to {clock}"
    return f"{first} to {last}"


def moment(text: str) -> str:
    """An instant in UTC, ISO 8601, as people write it: without seconds that are zero."""
    date, _, clock = text.partition("T")
    clock = clock.removesuffix("Z").removesuffix("+00:00")
    if not clock or clock.startswith("00:00:00"):
        return date
    clock = clock.split(".")[0]
    return f"{date} {clock.removesuffix(':00') if clock.count(':') == 2 else clock}"
