"""The schema file: what is wrong in it is named, and its words mean what they say."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pyarrow as pa
import pytest

from slipway.components.contracts.table_schema.schema import RunMoments
from slipway.components.support.errors import SlipwayError
from slipway.components.validate.schema import META_SCHEMA, parse_schema

MOMENTS = RunMoments(
    window_start=datetime(2024, 1, 1, tzinfo=UTC),
    window_end=datetime(2024, 2, 1, tzinfo=UTC),
    now=datetime(2024, 3, 1, tzinfo=UTC),
)
TABLE = pa.table(
    {"n": [1, 2], "s": ["a", "b"], "time": pa.array([0, 1], pa.timestamp("us", "UTC"))}
)

WRONG = [
    ("no tables", {}, ["'tables' is a required property"]),
    ("misspelled word", {"n": {"type": "integer", "minimun": 1}}, ["tables.t.properties.n", "minimun"]),
    ("unknown type", {"n": {"type": "int"}}, ["tables.t.properties.n.type", "'int' is not allowed"]),
    ("two types", {"n": {"type": ["integer", "string"]}}, ["One type, or one type and null"]),
    ("fraction", {"n": {"x-maxFailedFraction": 1.5}}, ["1.5 is greater than the maximum of 1"]),
    ("bad moment", {"time": {"type": "string", "format": "date-time", "formatMaximum": "soon"}},
     ["formatMaximum: 'soon' is not allowed", "ISO 8601"]),
    ("no such day", {"time": {"type": "string", "format": "date", "formatMinimum": "2024-02-31"}},
     ["'2024-02-31' is not a date"]),
    ("range of text", {"s": {"type": "string", "minimum": 1}}, ["minimum goes with type integer or"]),
    ("length of number", {"n": {"type": "integer", "maxLength": 1}}, ["maxLength goes with type"]),
    ("format of number", {"n": {"type": "integer", "format": "date"}}, ["format date goes with type"]),
    ("pattern of time", {"s": {"type": "string", "format": "date", "pattern": "x"}}, ["has no pattern"]),
    ("bad pattern", {"s": {"type": "string", "pattern": "("}}, ["s: the pattern ( is not a regular"]),
    ("bad enum", {"n": {"type": "integer", "enum": ["a"]}}, ["n: its enum holds a value that int64"]),
    ("several at once", {"n": {"minimun": 1}, "s": {"tipe": 1}}, ["minimun", "tipe"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "properties", "says"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_schema_is_refused(
    name: str, properties: dict, says: list, validate, places
) -> None:
    schema = (
        {"tables": {"t": {"properties": properties}}} if properties else {"table": {}, "tables": 1}
    )
    if not properties:
        schema = {"title": "x"}
        with pytest.raises(SlipwayError) as caught:
            parse_schema(schema, MOMENTS)
    else:
        with pytest.raises(SlipwayError) as caught:
            validate(TABLE, schema)
    message = str(caught.value)
    assert message.startswith("The schema file is wrong")
    assert [words for words in says if words not in message] == [], message
    assert not places.good.exists()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("n > ", "cannot be evaluated"),
        ("m > 1", 'unable to find column "m"'),
        ("n + 1", "is no condition: it gives Int64"),
        ("n > s", "cannot be evaluated"),
        ("n <= avg(n)", "looks at more than one row"),
        ("abs(n - min(n)) < 2", "looks at more than one row"),
        ("n > lag(n) OVER (ORDER BY n)", "looks at more than one row"),
        ("n < 9 AND row_number() OVER (ORDER BY n) < 3", "looks at more than one row"),
        ("count(*) > 1", "looks at more than one row"),
    ],
)
def test_a_wrong_rule_is_refused(rule: str, says: str, validate) -> None:
    schema = {"properties": {"n": {}, "s": {}}, "x-rules": {"r": {"rule": rule}}}
    with pytest.raises(SlipwayError) as caught:
        validate(TABLE, schema)
    assert f"tables.t.x-rules.r: '{rule}'" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        "n IN (1, 2, 3) OR n IS NULL",
        "abs(n) >= 0 AND coalesce(n, 0) < 100 AND NOT n < 0",
        "CASE WHEN n > 1 THEN s LIKE '%' ELSE length(upper(s)) >= 0 END",
        "n BETWEEN -100 AND 100 OR s ~ '^x'",
    ],
)
def test_a_rule_about_one_row_is_taken(rule: str, validate) -> None:
    schema = {"properties": {"n": {}, "s": {}}, "x-rules": {"r": {"rule": rule}}}
    validate(TABLE, schema)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("window_start", datetime(2024, 1, 1, tzinfo=UTC)),
        ("window_end+2d", datetime(2024, 2, 3, tzinfo=UTC)),
        ("now-12h", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("2024-01-05", datetime(2024, 1, 5, tzinfo=UTC)),
        ("2024-01-05T01:00:00+01:00", datetime(2024, 1, 5, tzinfo=UTC)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    column = {"type": "string", "format": "date-time", "formatMaximum": text}
    tables = parse_schema({"tables": {"t": {"properties": {"c": column}}}}, MOMENTS)
    assert tables["t"].columns[0].latest == moment


def test_integers_may_travel_as_floats(validate) -> None:
    """A struct parameter of a pipeline has no integers."""
    properties = {
        "n": {"type": "integer", "minimum": 0, "maximum": 9, "enum": [1, 2]},
        "s": {"type": "string", "minLength": 1, "maxLength": 1},
        "time": {},
    }
    schema = {"properties": properties, "x-minRows": 2}
    validation = validate(TABLE, json.loads(json.dumps(schema), parse_int=float))
    assert [c.check for c in validation.checks if c.status != "pass"] == []
    assert "n: minimum 0" in [check.check for check in validation.checks]


def test_the_example_follows_the_meta_schema(repository: Path) -> None:
    file = repository / "examples/flights/schemas/input.json"
    schema, meta = json.loads(file.read_text()), json.loads(META_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(meta)
    jsonschema.validate(schema, meta)
    assert (file.parent / schema["$schema"]).resolve() == META_SCHEMA.resolve()


def test_every_word_of_the_meta_schema_has_a_description_or_is_json_schemas_own() -> None:
    meta = json.loads(META_SCHEMA.read_text())
    for name in ("table", "column"):
        for word, text in meta["$defs"][name]["properties"].items():
            if word.startswith(("x-", "format")) and "$ref" not in text:
                assert text.get("description"), word
