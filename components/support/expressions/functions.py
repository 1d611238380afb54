"""What each function of an expression takes, gives and means: once, for training, scoring and serving.

Values are columns of N rows. A number is float64, and missing is NaN; so is what no model can take. True
and false are 1 and 0, and count as numbers where one is asked for. A text is a str, missing None; a time
is int64, microseconds since 1970 of the wall clock that it shows, missing the smallest int64. Where a
value is missing the result is, unless the function says otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from slipway.components.support.expressions.grams import MAX_BUCKETS, MAX_SIZE

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Type = Literal["number", "boolean", "text", "time", "missing"]
TYPES: dict[str, Type] = {
    "numeric": "number",
    "boolean": "boolean",
    "categorical": "text",
    "time": "time",
}
"""The type of each kind of feature."""
MISSING_TIME = -(2**63)
LARGEST = 3.4028234663852886e38
"""The largest number of float32: what is beyond it is missing, as in every feature."""
_HOUR, _MINUTE, _DAY = 3_600_000_000, 60_000_000, 86_400_000_000
_SAME, _ANY = "any one type", "anything"


@dataclass(frozen=True, slots=True)
class Column:
    """The values of N rows, of one type."""

    type: Type
    values: "Array"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function or operator.

    Attributes:
        takes: the arguments' types, one tuple a form; the last is repeated where `more` says so.
        gives: each form's type; _SAME: that of the arguments of _SAME.
        means: in words, for the documentation.
        work: the values, of columns of the types that one of the forms has.
        constants: of places that must be constants what they must be.
    """

    takes: tuple[tuple[str, ...], ...]
    gives: tuple[str, ...]
    means: str
    work: Callable[[list[Column]], "Array"]
    more: bool = False
    constants: Literal["", "length", "edges", "grams"] = ""

    def refuse(self, given: Sequence[object]) -> str:
        """What is wrong with constant arguments; Ellipsis stands for what is none."""
        if self.constants == "length" and len(given) == 2:
            length = given[1]
            if not (isinstance(length, float) and length == int(length) and 1 <= length <= 100):
                return "needs a whole number from 1 to 100 as its second argument"
        if self.constants == "grams":
            return _refuse_grams(given[1:])
        if self.constants == "edges":
            edges = [edge for edge in given[1:] if type(edge) is float]
            if len(edges) < len(given) - 1 or edges != sorted(set(edges)):
                return "needs numbers that increase as its edges"
        return ""


def _refuse_grams(given: Sequence[object]) -> str:
    of, *rest = given
    numbers = [number for number in rest if type(number) is float and number == int(number)]
    if of in ("words", "characters") and len(numbers) == len(rest) == 4:
        least, most, buckets, bucket = numbers
        if 1 <= least <= most <= MAX_SIZE and 2 <= buckets <= MAX_BUCKETS and 0 <= bucket < buckets:
            return ""
    return "is what `features.ngrams` writes: declare it there"


@lru_cache(4096)
def resolve(name: str, given: tuple[Type | None, ...]) -> Type | None:
    """The type of a function's result; None where it hangs on a type that is not known.

    Raises:
        TypeError: it does not take these.
    """
    function = FUNCTIONS[name]
    for takes, gives in zip(function.takes, function.gives, strict=True):
        wanted = list(takes)
        if function.more:
            wanted += [takes[-1]] * (len(given) - len(takes))
        if len(wanted) != len(given) or not all(map(_fits, wanted, given)):
            continue
        same = [kind for want, kind in zip(wanted, given, strict=True) if want == _SAME]
        known = {kind for kind in same if kind is not None and kind != "missing"}
        if len(known) > 1 and not known <= {"number", "boolean"}:
            continue
        if gives != _SAME:
            return gives  # type: ignore[return-value]
        if len(known) == 1 and (None not in same):
            return next(iter(known))
        if len(known) > 1:
            return "number"
        return None if None in same else "missing"
    forms = " or ".join(", ".join(form) for form in function.takes)
    raise TypeError(f"{name} takes {forms}{', …' if function.more else ''}")


def _fits(wanted: str, given: Type | None) -> bool:
    if given is None or given == "missing" or wanted in (_SAME, _ANY):
        return True
    return wanted == given or (wanted == "number" and given == "boolean")


def missing_of(column: Column) -> "Array":
    """Where a column has no value: bool [N]."""
    import numpy as np

    if column.type == "text":
        return np.array([value is None for value in column.values], dtype=bool)
    if column.type == "time":
        return np.equal(column.values, MISSING_TIME)
    return np.isnan(column.values)


def as_type(column: Column, wanted: Type) -> Column:
    """A column that is missing throughout, or true and false, as one of another type."""
    import numpy as np

    rows = len(column.values)
    if column.type == wanted or column.type != "missing":
        return Column(wanted, column.values)
    if wanted == "text":
        return Column(wanted, np.full(rows, None, object))
    if wanted == "time":
        return Column(wanted, np.full(rows, MISSING_TIME, np.int64))
    return Column(wanted, np.full(rows, np.nan))


def _numbers(
    work: Callable[..., object],
) -> Callable[[list[Column]], "Array"]:
    """A function of numbers: what is not finite is missing."""

    def done(columns: list[Column]) -> "Array":
        import numpy as np

        made = np.asarray(work(np, *(as_type(c, "number").values for c in columns)), np.float64)
        return np.where(np.isfinite(made), made, np.nan)

    return done


def _difference(columns: list[Column]) -> "Array":
    import numpy as np

    if "time" not in [column.type for column in columns]:
        return _numbers(lambda _, a, b: a - b)(columns)
    late, early = (as_type(column, "time") for column in columns)
    gone = missing_of(late) | missing_of(early)
    # In float64, so that no two times are too far apart.
    hours = (late.values.astype(np.float64) - early.values.astype(np.float64)) / _HOUR
    return np.where(gone, np.nan, hours)


def _compared(
    of_values: Callable[[Any, object], Any],
) -> Callable[[list[Column]], "Array"]:
    """A comparison of two columns of one type."""

    def done(columns: list[Column]) -> "Array":
        import numpy as np

        kind = _common(columns)
        left, right = (as_type(column, kind) for column in columns)
        gone = missing_of(left) | missing_of(right)
        if kind == "text":
            pairs = zip(left.values, right.values, strict=True)
            found = np.array([of_values(a, b) for a, b in pairs], dtype=np.float64)
        else:
            found = of_values(left.values, right.values).astype(np.float64)
        return np.where(gone, np.nan, found)

    return done


def _common(columns: Sequence[Column]) -> Type:
    kinds = {column.type for column in columns} - {"missing"}
    if len(kinds) == 1:
        return kinds.pop()
    return "number"


def _and(columns: list[Column]) -> "Array":
    import numpy as np

    a, b = (as_type(column, "boolean").values for column in columns)
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def _or(columns: list[Column]) -> "Array":
    import numpy as np

    a, b = (as_type(column, "boolean").values for column in columns)
    return np.where((a == 1) | (b == 1), 1.0, a + b)


def _chosen(columns: list[Column]) -> "Array":
    import numpy as np

    kind = _common(columns[1:])
    condition = as_type(columns[0], "boolean").values
    yes, no = (as_type(column, kind) for column in columns[1:])
    nothing = as_type(Column("missing", np.full(len(condition), np.nan)), kind)
    found = np.where(condition == 1, yes.values, no.values)
    return np.where(np.isnan(condition), nothing.values, found)


def _coalesce(columns: list[Column]) -> "Array":
    import numpy as np

    kind = _common(columns)
    same = [as_type(column, kind) for column in columns]

    def first(found: Column, other: Column) -> Column:
        return Column(kind, np.where(missing_of(found), other.values, found.values))

    return reduce(first, same).values


def _is_missing(columns: list[Column]) -> "Array":
    gone = missing_of(columns[0])
    return gone.astype(float)


def _ratio(np: ModuleType, above: "Array", below: "Array", zero: "Array") -> object:
    return np.where(below == 0, np.where(np.isnan(above), np.nan, zero), above / below)


def _bucket(columns: list[Column]) -> "Array":
    import numpy as np

    values = as_type(columns[0], "number").values
    reached = sum((values >= column.values).astype(np.float64) for column in columns[1:])
    return np.where(np.isnan(values), np.nan, reached)


def _part_of_time(
    part: Callable[[ModuleType, "Array"], object],
) -> Callable[[list[Column]], "Array"]:
    def done(columns: list[Column]) -> "Array":
        import numpy as np

        times = as_type(columns[0], "time")
        gone = missing_of(times)
        moments = np.where(gone, 0, times.values)
        return np.where(gone, np.nan, np.asarray(part(np, moments), np.float64))

    return done


def _calendar(np: object, moments: "Array", unit: str) -> "Array":
    return moments.astype("datetime64[us]").astype(f"datetime64[{unit}]")


def _of_text(
    work: Callable[..., str | float | None], *, text: bool = False
) -> Callable[[list[Column]], "Array"]:
    """A function of texts, and constants beside them."""

    def done(columns: list[Column]) -> "Array":
        import numpy as np

        # A place that asks for a number has a constant.
        same = [c if c.type == "number" else as_type(c, "text") for c in columns]
        rows = zip(*(column.values.tolist() for column in same), strict=True)
        found = [None if None in row else work(*row) for row in rows]
        if text:
            made = np.empty(len(found), object)
            made[:] = [value or None for value in found]
            return made
        return np.array([np.nan if value is None else float(value) for value in found])

    return done


_TWO_NUMBERS = (("number", "number"),)
_ORDERED = (("number", "number"), ("time", "time"))
OPERATORS: dict[str, Function] = {
    "+": Function(
        takes=_TWO_NUMBERS, gives=("number",), means="sum", work=_numbers(lambda _, a, b: a + b)
    ),
    "-": Function(
        takes=_ORDERED,
        gives=("number", "number"),
        means="difference; of two times the hours between them",
        work=_difference,
    ),
    "*": Function(
        takes=_TWO_NUMBERS, gives=("number",), means="product", work=_numbers(lambda _, a, b: a * b)
    ),
    "/": Function(
        takes=_TWO_NUMBERS,
        gives=("number",),
        means="quotient, missing where the divisor is 0 (`ratio` has a rule for it)",
        work=_numbers(lambda _, a, b: a / b),
    ),
    "//": Function(
        takes=_TWO_NUMBERS,
        gives=("number",),
        means="quotient rounded down, missing where the divisor is 0",
        work=_numbers(lambda np, a, b: np.where(b == 0, np.nan, np.floor(a / b))),
    ),
    "%": Function(
        takes=_TWO_NUMBERS,
        gives=("number",),
        means="remainder, with the divisor's sign; missing where it is 0",
        work=_numbers(lambda np, a, b: np.mod(a, np.where(b == 0, np.nan, b))),
    ),
    "negative": Function(
        takes=(("number",),), gives=("number",), means="-a", work=_numbers(lambda _, a: -a)
    ),
    "==": Function(
        takes=((_SAME, _SAME),),
        gives=("boolean",),
        means="equal; `in [a, b]` is equal to one of them",
        work=_compared(lambda a, b: a == b),
    ),
    "!=": Function(
        takes=((_SAME, _SAME),),
        gives=("boolean",),
        means="not equal",
        work=_compared(lambda a, b: a != b),
    ),
    "<": Function(
        takes=_ORDERED, gives=("boolean",) * 2, means="less", work=_compared(lambda a, b: a < b)
    ),
    "<=": Function(
        takes=_ORDERED,
        gives=("boolean",) * 2,
        means="less or equal",
        work=_compared(lambda a, b: a <= b),
    ),
    ">": Function(
        takes=_ORDERED, gives=("boolean",) * 2, means="greater", work=_compared(lambda a, b: a > b)
    ),
    ">=": Function(
        takes=_ORDERED,
        gives=("boolean",) * 2,
        means="greater or equal",
        work=_compared(lambda a, b: a >= b),
    ),
    "and": Function(
        takes=(("boolean", "boolean"),),
        gives=("boolean",),
        means="both; false where one is false, whatever the other",
        work=_and,
    ),
    "or": Function(
        takes=(("boolean", "boolean"),),
        gives=("boolean",),
        means="one or both; true where one is true, whatever the other",
        work=_or,
    ),
    "not": Function(
        takes=(("boolean",),),
        gives=("boolean",),
        means="the opposite",
        work=lambda columns: 1.0 - as_type(columns[0], "boolean").values,
    ),
    "if": Function(
        takes=(("boolean", _SAME, _SAME),),
        gives=(_SAME,),
        means="written `a if c else b`: a where c is true, b where it is false",
        work=_chosen,
    ),
}


def _time_part(means: str, part: Callable[[ModuleType, "Array"], object]) -> Function:
    return Function(takes=(("time",),), gives=("number",), means=means, work=_part_of_time(part))


FUNCTIONS: dict[str, Function] = OPERATORS | {
    "abs": Function(
        takes=(("number",),), gives=("number",), means="without its sign",
        work=_numbers(lambda np, a: np.abs(a)),
    ),
    "floor": Function(
        takes=(("number",),), gives=("number",), means="rounded down",
        work=_numbers(lambda np, a: np.floor(a)),
    ),
    "min": Function(
        takes=_TWO_NUMBERS, gives=("number",), means="the smallest", more=True,
        work=_numbers(lambda np, *a: reduce(np.minimum, a)),
    ),
    "max": Function(
        takes=_TWO_NUMBERS, gives=("number",), means="the largest", more=True,
        work=_numbers(lambda np, *a: reduce(np.maximum, a)),
    ),
    "ratio": Function(
        takes=(("number", "number", "number"),), gives=("number",),
        means="a / b, and the third where b is 0", work=_numbers(_ratio),
    ),
    "bucket": Function(
        takes=_TWO_NUMBERS, gives=("number",), more=True, constants="edges",
        means="how many of the edges behind it a number has reached: 0 below the first", work=_bucket,
    ),
    "coalesce": Function(
        takes=((_SAME, _SAME),), gives=(_SAME,), more=True,
        means="the first that is not missing", work=_coalesce,
    ),
    "is_missing": Function(
        takes=((_ANY,),), gives=("boolean",), means="whether there is no value; never missing itself",
        work=_is_missing,
    ),
    "hour": _time_part("hour of the day, 0 to 23", lambda _, t: t % _DAY // _HOUR),
    "minute": _time_part("minute of the hour, 0 to 59", lambda _, t: t % _HOUR // _MINUTE),
    # 1 January 1970 was a Thursday.
    "weekday": _time_part("1 (Monday) to 7 (Sunday)", lambda _, t: (t // _DAY + 3) % 7 + 1),
    "day": _time_part(
        "day of the month, 1 to 31",
        lambda np, t: (_calendar(np, t, "D") - _calendar(np, t, "M")).astype(np.int64) + 1,
    ),
    "month": _time_part(
        "month of the year, 1 to 12", lambda np, t: _calendar(np, t, "M").astype(np.int64) % 12 + 1
    ),
    "length": Function(
        takes=(("text",),), gives=("number",), means="how many characters", work=_of_text(len)
    ),
    "prefix": Function(
        takes=(("text", "number"),), gives=("text",), constants="length",
        means="the first so many characters, or as many as there are",
        work=_of_text(lambda a, n: a[: int(n)], text=True),
    ),
    "lower": Function(
        takes=(("text",),), gives=("text",), means="in small letters",
        work=_of_text(lambda a: a.lower(), text=True),
    ),
    "starts_with": Function(
        takes=(("text", "text"),), gives=("boolean",), means="whether a text begins with another",
        work=_of_text(lambda a, b: a.startswith(b)),
    ),
    "grams": Function(
        takes=(("text", "text", "number", "number", "number", "number"),), gives=("number",),
        constants="grams", means="one bucket of `features.ngrams`, which writes it",
        work=lambda _: NotImplemented,  # `evaluate` counts all buckets of a text at once
    ),
    "contains": Function(
        takes=(("text", "text"),), gives=("boolean",), means="whether a text holds another",
        work=_of_text(lambda a, b: b in a),
    ),
}  # fmt: skip
