"""Expressions: each function against a plain reading of its meaning, and what is refused."""

import binascii
import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.support.expressions.evaluate import evaluate, number_column, text_column
from slipway.components.support.expressions.functions import FUNCTIONS, MISSING_TIME, Column
from slipway.components.support.expressions.grams import count_grams
from slipway.components.support.expressions.parse import (
    MAX_DEPTH,
    MAX_LENGTH,
    ExpressionError,
    in_order,
    names,
    parse,
    type_of,
)

LARGEST = float(np.finfo(np.float32).max)
EPOCH = datetime(1970, 1, 1)
TYPES: dict[str, Any] = {
    **dict.fromkeys("abc", "number"),
    **dict.fromkeys("pq", "boolean"),
    **dict.fromkeys("st", "text"),
    **dict.fromkeys("uv", "time"),
}

number = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, LARGEST, -LARGEST, 1e38, 2.0**53, 1e300]),
    st.sampled_from([math.inf, -math.inf, math.nan]),
    st.integers(-50, 50).map(float),
    st.floats(allow_nan=True, allow_infinity=True),
)
text = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "ß", "İ", "Ab\u0301c", "\U0001f600x", "no"]),
    st.text(max_size=6),
)
moment = st.one_of(
    st.none(),
    st.datetimes(datetime(1700, 1, 1), datetime(9998, 12, 31)),
    st.sampled_from([EPOCH, EPOCH - timedelta(microseconds=1), datetime(2024, 2, 29, 23, 59, 59)]),
)  # fmt: skip
row = st.fixed_dictionaries(
    {
        name: {
            "number": number,
            "boolean": st.none() | st.booleans(),
            "text": text,
            "time": moment,
        }[kind]
        for name, kind in TYPES.items()
    }
)


LEAVES: dict[str, list[str]] = {
    "number": ["a", "b", "c", "a", "b", "0", "1", "2.5", "-3", "1e38", "7"],
    "boolean": ["p", "q", "p", "True", "False"],
    "text": ["s", "t", "s", "'a'", "'no'", "'ß'", '"it\'s"'],
    "time": ["u", "v"],
}
_OF_TWO = [(f"({{}} {sign} {{}})", "number", "number") for sign in ("+", "-", "*", "/", "//", "%")]
_ORDER = [
    (f"({{}} {sign} {{}})", "number", "number") for sign in ("<", "<=", ">", ">=", "==", "!=")
]
FORMS: dict[str, list[tuple[str, ...]]] = {
    "number": [
        *_OF_TWO,
        ("(-{})", "number"),
        ("ratio({}, {}, {})", "number", "number", "number"),
        ("min({}, {}, {})", "number", "number", "number"),
        ("max({}, {})", "number", "boolean"),
        ("abs({})", "number"),
        ("floor({})", "number"),
        ("bucket({}, -1, 0, 2.5)", "number"),
        ("({} - {})", "time", "time"),
        *((f"{part}({{}})", "time") for part in ("hour", "minute", "weekday", "day", "month")),
        ("length({})", "text"),
        ("({} if {} else None)", "number", "boolean"),
    ],
    "boolean": [
        *_ORDER,
        ("({} < {})", "time", "time"),
        ("({} == {})", "text", "text"),
        ("({} in ['a', {}])", "text", "text"),
        ("({} not in [1, 2])", "number"),
        ("({} and {})", "boolean", "boolean"),
        ("({} or {})", "boolean", "boolean"),
        ("(not {})", "boolean"),
        *(("is_missing({})", kind) for kind in ("text", "number", "time")),
        ("starts_with({}, {})", "text", "text"),
        ("contains({}, {})", "text", "text"),
        ("({} < {} < {})", "number", "number", "number"),
    ],
    "text": [("prefix({}, 2)", "text"), ("lower({})", "text")],
    "time": [],
}
for _kind, _forms in FORMS.items():
    _forms += [("({} if {} else {})", _kind, "boolean", _kind), ("coalesce({}, {})", _kind, _kind)]


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int = 3) -> str:
    """A text of one type."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(LEAVES[kind]))
    form, *kinds = draw(st.sampled_from(FORMS[kind]))
    return form.format(*(draw(expressions(of, depth - 1)) for of in kinds))


def plain(value: Any) -> Any:
    """A row's value as the definition has it: what no model can take is missing."""
    if isinstance(value, float):
        return value if abs(value) <= LARGEST else None
    return value or None if isinstance(value, str) else value


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def meaning(node: Any, given: dict[str, Any]) -> Any:
    """What the documentation says that an expression is worth for one row."""
    if hasattr(node, "value"):
        return (
            float(node.value)
            if isinstance(node.value, bool)
            else node.value or (0.0 if node.value == 0 else None)
        )
    if hasattr(node, "name"):
        value = given[node.name]
        return float(value) if isinstance(value, bool) else value
    name = node.function
    if name in ("if", "coalesce", "and", "or", "is_missing"):
        parts = [meaning(part, given) for part in node.arguments]
        match name:
            case "if":
                return None if parts[0] is None else parts[1] if parts[0] else parts[2]
            case "coalesce":
                return next((part for part in parts if part is not None), None)
            case "is_missing":
                return float(parts[0] is None)
            case "and":
                return 0.0 if 0.0 in parts else None if None in parts else 1.0
            case _:
                return 1.0 if 1.0 in parts else None if None in parts else 0.0
    parts = [meaning(part, given) for part in node.arguments]
    if name == "ratio" and parts[1] == 0:
        return parts[2] if parts[0] is not None else None
    if name == "bucket":
        return None if parts[0] is None else float(sum(parts[0] >= edge for edge in parts[1:]))
    if name == "ratio" and None not in parts[:2]:
        parts = parts[:2]
    if None in parts:
        return None
    try:
        return of_values(name, parts)
    except (ZeroDivisionError, OverflowError):
        return None


def of_values(name: str, parts: list[Any]) -> Any:
    a, b = parts[0], parts[1] if len(parts) > 1 else None
    match name:
        case "+":
            return finite(a + b)
        case "-":
            return (a - b) / timedelta(hours=1) if isinstance(a, datetime) else finite(a - b)
        case "*":
            return finite(a * b)
        case "/" | "ratio":
            return finite(a / b)
        case "//":
            return float(math.floor(a / b)) if math.isfinite(a / b) else None
        case "%":
            return finite(a % b)
        case "negative":
            return -a
        case "==":
            return float(a == b)
        case "!=":
            return float(a != b)
        case "<":
            return float(a < b)
        case "<=":
            return float(a <= b)
        case ">":
            return float(a > b)
        case ">=":
            return float(a >= b)
        case "not":
            return 1.0 - a
        case "min":
            return min(parts)
        case "max":
            return max(parts)
        case "abs":
            return abs(a)
        case "floor":
            return float(math.floor(a))
        case "hour":
            return float(a.hour)
        case "minute":
            return float(a.minute)
        case "weekday":
            return float(a.isoweekday())
        case "day":
            return float(a.day)
        case "month":
            return float(a.month)
        case "length":
            return float(len(a))
        case "prefix":
            return a[: int(b)]
        case "lower":
            return a.lower()
        case "starts_with":
            return float(a.startswith(b))
        case "contains":
            return float(b in a)
    raise AssertionError(name)  # fmt: skip


def columns_of(rows: list[dict[str, Any]]) -> dict[str, Column]:
    made = {}
    for name, kind in TYPES.items():
        values = [row[name] for row in rows]
        if kind == "text":
            made[name] = text_column(values)
        elif kind == "time":
            micros = [
                MISSING_TIME if v is None else (v - EPOCH) // timedelta(microseconds=1)
                for v in values
            ]
            made[name] = Column("time", np.array(micros, np.int64))
        else:
            made[name] = number_column(
                np.array([math.nan if v is None else v for v in values], float), kind
            )
    return made


def shown(column: Column) -> list[Any]:
    if column.type == "text":
        return list(column.values)
    if column.type == "time":
        return [
            None if v == MISSING_TIME else EPOCH + timedelta(microseconds=int(v))
            for v in column.values
        ]
    return [None if v != v else v for v in column.values.tolist()]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["number", "boolean", "text", "time"]).flatmap(expressions),
    st.lists(row, min_size=1, max_size=5),
)
def test_an_expression_is_worth_what_its_parts_say(text: str, rows: list[dict[str, Any]]) -> None:
    try:
        tree = parse(text)
    except ExpressionError as error:
        assert "characters" in str(error) or "parts" in str(error)
        return
    kind = type_of(tree, TYPES)
    found = evaluate({"x": text}, columns_of(rows), len(rows))["x"]
    assert found.type == kind
    values = [meaning(tree, {name: plain(value) for name, value in row.items()}) for row in rows]
    assert shown(found) == [plain(value) for value in values]
    # A row is worth the same alone as among others.
    for place, one in enumerate(rows):
        alone = evaluate({"x": text}, columns_of([one]), 1)["x"]
        assert shown(alone) == [shown(found)[place]]


def test_every_function_is_among_the_random_ones() -> None:
    def functions(node: Any) -> set[str]:
        arguments = getattr(node, "arguments", ())
        own = {node.function} if arguments else set()
        return own.union(*(functions(argument) for argument in arguments))

    seen = set()
    for form, *kinds in [form for forms in FORMS.values() for form in forms]:
        seen |= functions(parse(form.format(*(LEAVES[kind][0] for kind in kinds))))
    assert seen == set(FUNCTIONS) - {"grams"}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=40) | st.just("Ein Haus, ein  HAUS.\nİ 😀"), max_size=5),
    st.sampled_from(["words", "characters"]),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(2, 40),
)
def test_ngrams_are_those_that_scikit_learn_finds(
    texts: list[str | None], of: str, least: int, more: int, buckets: int
) -> None:
    """Its analyzer is the oracle of the grams; each counts in the bucket of its CRC-32."""
    from sklearn.feature_extraction.text import CountVectorizer

    kind = {"words": "word", "characters": "char"}[of]
    oracle = CountVectorizer(
        analyzer=kind, ngram_range=(least, least + more), token_pattern=r"(?u)\w+"
    ).build_analyzer()
    wanted = np.zeros((len(texts), buckets))
    for place, value in enumerate(texts):
        # It leaves a lone line break among the characters; here any space is one.
        for gram in oracle(" ".join(value.split())) if value else ():
            wanted[place, binascii.crc32(gram.encode("utf-8", "replace")) % buckets] += 1
    counted = f"s, '{of}', {least}, {least + more}, {buckets}"
    specs = {f"g{i}": f"grams({counted}, {i})" for i in range(buckets)}
    made = evaluate(specs, {"s": text_column(texts)}, len(texts))
    found = np.array([made[f"g{i}"].values for i in range(buckets)]).T
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_a_long_text_counts_as_far_as_2000_characters() -> None:
    made = count_grams(["a" * 5000], "characters", 1, 1, 2)
    assert made.sum() == 2000


def test_expressions_read_each_other_in_any_order() -> None:
    columns = columns_of([dict.fromkeys(TYPES) | {"a": 3.0, "s": "Zürich"}])
    made = evaluate({"z": "y + 1", "y": "a * 2", "where": "prefix(s, 2)"}, columns, 1)
    assert {name: shown(column) for name, column in made.items()} == {
        "z": [7.0], "y": [6.0], "where": ["Zü"],
    }  # fmt: skip
    assert in_order({"z": "y + 1", "y": "a * 2"}) == ["y", "z"]
    assert names(parse("a + b * a")) == ["a", "b"]


def test_what_a_model_cannot_take_is_missing_in_the_result() -> None:
    columns = {"a": number_column(np.array([1e38, 3.0]))}
    made = evaluate({"x": "a * 100", "y": "a * 100 / 100"}, columns, 2)
    assert shown(made["x"]) == [None, 300.0]
    assert shown(made["y"]) == [1e38, 3.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a +", "is not an expression: invalid syntax"),
        ("", "is not an expression"),
        ("a; b", "is not an expression"),
        ("a.b", "`a.b` is a form that no expression has"),
        ("a[0]", "is a form that no expression has"),
        ("[x for x in a]", "is a form that no expression has"),
        ("lambda: 1", "is a form that no expression has"),
        ("f'{a}'", "is a form that no expression has"),
        ("(b := 1)", "is a form that no expression has"),
        ("a ** 2", "is a form that no expression has"),
        ("b'x'", "is no number, text, True, False or None"),
        ("9" * 400, "is no number"),
        ("__import__('os').system('x')", "is no function"),
        (
            "lenght(s)",
            "there is no lenght (did you mean length?); there are abs, bucket",
        ),
        ("ratio(a, b, zero=1)", "takes its arguments in order"),
        ("max(*a)", "takes its arguments in order"),
        ("a in b", "`in` needs a list of constants"),
        ("a is None", "write == or is_missing(…)"),
        ("a == None", "nothing is == None, not even None: write is_missing(…)"),
        ("None < a", "nothing is < None"),
        ("a in [1, None]", "nothing is == None"),
        ("s == ''", "an empty text counts as missing: write is_missing(…), or None"),
        ("coalesce(s, '')", "an empty text counts as missing"),
        ("prefix(s, a)", "needs a whole number from 1 to 100"),
        ("prefix(s, 0)", "needs a whole number from 1 to 100"),
        ("bucket(a, 2, 1)", "needs numbers that increase"),
        ("grams(s, 'words', 1, 2, 64, 64)", "is what `features.ngrams` writes"),
        ("grams(s, 'words', 1, 2, a, 0)", "is what `features.ngrams` writes"),
        ("a + b" * MAX_LENGTH, "characters, and may have 500"),
        ("(" * (MAX_DEPTH + 300) + "a", "is not an expression"),
        ("-" * (MAX_DEPTH + 2) + "a", "more than 20 deep"),
        ("+".join("a" * 60), "more than 20 deep"),
        ("max(" + ",".join("a" * 120) + ")", "more than 100 parts"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_expression_is_refused(text: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a + s", "+ takes number, number, and is given number, text in `(a + s)`"),
        ("u + v", "+ takes number, number, and is given time, time"),
        ("hour(a)", "hour takes time, and is given number"),
        ("a and p", "and takes boolean, boolean, and is given number, boolean"),
        ("a == s", "== takes any one type, any one type, and is given number, text"),
        ("s < t", "< takes number, number or time, time, and is given text, text"),
        ("coalesce(a, s)", "coalesce takes any one type, any one type, …"),
        ("a if b else c", "if takes boolean"),
        ("ratio(a, b)", "ratio takes number, number, number, and is given number, number"),
        ("usual + 1", "there is no usual; there are a, b, c"),
        ("aa + 1", "(did you mean a?)"),
    ],
)
def test_types_and_names_are_checked(text: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        type_of(parse(text), TYPES)
    assert words in str(caught.value)


def test_of_a_type_that_is_not_known_nothing_is_said() -> None:
    assert type_of(parse("a + unknown"), {"a": "number", "unknown": None}) == "number"
    assert type_of(parse("coalesce(unknown, 1)"), {"unknown": None}) is None
    with pytest.raises(ExpressionError, match="hour takes time"):
        type_of(parse("hour(a) + unknown"), {"a": "number", "unknown": None})


def test_a_circle_is_named() -> None:
    with pytest.raises(
        ExpressionError, match="x reads y reads z reads x: an expression cannot read"
    ):
        in_order({"x": "y", "y": "z + 1", "z": "x"})
