"""Whether a column of text is one of numbers: every value must stand as its number is written.

`01234`, `+49`, `1e5`, `0x1F`, `inf`, whole numbers that a double cannot tell apart, and columns in which
one number stands in two ways (1.1 and 1.10) stay text: as numbers they would lose what they say.
"""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = r"^(0|-?[1-9]\d{0,15})$"
LENIENT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""What other parsers take for a number."""
PLAIN_NUMBER = r"^(0|-?[1-9]\d*|-?(0|[1-9]\d*)\.\d+)$"
# A double's own text in Python or JavaScript, where plain digits would be many.
_SHORT = r"^-?[1-9](\.\d*[1-9])?e(-0[5-9]|-[5-9]|-[1-9]\d{1,2}|\+(1[6-9]|[2-9]\d|[1-3]\d\d))$"
WITH_COMMA = r"^-?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"
"""A number with a decimal comma, points between thousands or none."""
_EXACT = 2**53


def is_whole_number(text: str) -> bool:
    """Whether a text is how a whole number is written, of a size that every number type holds."""
    return re.fullmatch(WHOLE, text) is not None and abs(int(text)) <= _EXACT


def is_plain(text: str) -> bool:
    """Whether a text is a number in plain digits."""
    return re.fullmatch(PLAIN_NUMBER, text) is not None


def odd_number(values: "pa.Array") -> str | None:
    """The first text that is no number as numbers are written, or has more digits than one holds."""
    import pyarrow.compute as pc

    strange = values.filter(pc.invert(pc.match_substring_regex(values, f"{PLAIN_NUMBER}|{_SHORT}")))
    if not len(strange):
        strange = values.filter(pc.greater(pc.binary_length(values), 15))
    return strange[0].as_py() if len(strange) else None


def is_with_comma(values: "pa.Array") -> bool:
    """Whether all texts are numbers with a decimal comma, points between thousands or none."""
    return all_match(values, WITH_COMMA)


def not_with_comma(values: "pa.Array") -> "pa.Array":
    """Which texts are none: bool [N], false where a value is missing."""
    import pyarrow.compute as pc

    strange = pc.invert(pc.match_substring_regex(values, WITH_COMMA))
    return pc.fill_null(strange, False)


def with_point(values: "pa.Array") -> "pa.Array":
    """Numbers with a decimal comma as they are written with a point."""
    import pyarrow.compute as pc

    return pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")


class NumberStyle:
    """In which ways a column's numbers are written, over all its batches."""

    def __init__(self) -> None:
        self._digits: set[int] = set()
        self._trailing_zeros = self._point_zero = self._exponents = False

    def takes(self, values: "pa.Array") -> Literal["integer", "number"] | None:
        """Looks at texts without nulls: "integer" or "number" where each is one, else None."""
        import pyarrow.compute as pc

        if all_match(values, WHOLE):
            if not _all_exact(values):
                return None
            self._digits.add(0)
            return "integer"
        plain = pc.match_substring_regex(values, PLAIN_NUMBER)
        rest = values.filter(pc.invert(plain))
        if len(rest) and not all_match(rest, _SHORT):
            return None
        self._exponents = self._exponents or len(rest) > 0
        values = values.filter(plain) if len(rest) else values
        if not _own_texts(values):
            return None
        points = pc.find_substring(values, ".")
        sizes = pc.if_else(
            pc.less(points, 0), 0, pc.subtract(pc.subtract(pc.binary_length(values), points), 1)
        )
        self._digits |= set(pc.unique(sizes).to_pylist())
        self._point_zero = self._point_zero or any_match(values, r"\.0$")
        self._trailing_zeros = self._trailing_zeros or any_match(values, r"\.\d+0$")
        return "number"

    def is_one(self) -> bool:
        """Whether each number can stand in one way only, so that as numbers all keep what they say.

        Either all have the same number of digits after the point (12.50), or each has as many as it
        needs, whole numbers always with the point (Python) or never. Exponents stand only among
        numbers with a point.
        """
        if self._exponents and not self._digits - {0}:
            return False
        if len(self._digits) == 1:
            return not self._exponents or not self._trailing_zeros
        return not self._trailing_zeros and not (self._point_zero and 0 in self._digits)


def _all_exact(values: "pa.Array") -> bool:
    """Whether a double tells these whole numbers, of at most 16 digits, apart."""
    import pyarrow as pa
    import pyarrow.compute as pc

    span = pc.min_max(values.cast(pa.int64())).as_py()
    return bool(span["min"] >= -_EXACT and span["max"] <= _EXACT)


def _own_texts(values: "pa.Array") -> bool:
    """Whether each plain decimal has the digits that its double has, up to zeros at the end."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # A double keeps any 15 digits, so only longer ones are looked at.
    long = values.filter(pc.greater(pc.binary_length(values), 15))
    if not len(long):
        return True
    shortest = long.cast(pa.float64()).cast(pa.string())
    unlike = long.filter(pc.not_equal(shortest, long))
    return all(
        Decimal(repr(float(text))) == Decimal(text) and ("." in text or abs(int(text)) <= _EXACT)
        for text in unlike.to_pylist()
    ) and not any_match(long, r"^-?\d{17,}$")


def all_match(values: "pa.Array", pattern: str) -> bool:
    """Whether all texts match."""
    import pyarrow.compute as pc

    # The first value decides for nearly every column, so the rest is rarely looked at.
    first = pc.match_substring_regex(values.slice(0, 1), pattern)[0].as_py()
    return bool(first and pc.all(pc.match_substring_regex(values, pattern)).as_py())


def any_match(values: "pa.Array", pattern: str) -> bool:
    """Whether any text matches."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(values, pattern)).as_py())
