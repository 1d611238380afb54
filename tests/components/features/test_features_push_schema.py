"""A pushed event is held against its table's schema, by what validate holds the table's rows against."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.clicks_world import CONFIG, END, HOUR, START, Shop, click
from support.datasets import write_dataset

from slipway.components.features.streams.lines import Malformed
from slipway.components.features.streams.schema import CLOCKS_DIFFER, Landing
from slipway.components.support.errors import SlipwayError
from slipway.components.validate.validate import validate_dataset

CLICKS: dict[str, Any] = {
    "additionalProperties": False,
    "required": ["event", "user", "item", "at", "price", "big", "page"],
    "properties": {
        "event": {"type": "string", "pattern": "^[a-z]", "maxLength": 12},
        "user": {"type": "integer", "minimum": 0, "maximum": 99},
        "item": {"type": "string", "minLength": 2},
        "at": {
            "type": "string", "format": "date-time",
            "formatMinimum": "window_start-1d", "formatMaximum": "now",
        },
        "price": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 99.5},
        "big": {"type": ["boolean", "null"], "enum": [True, False, None]},
        "page": {"type": "string", "enum": ["home", "list"], "x-maxFailedFraction": 0.5},
    },
    "x-unique": [["event"]],
    "x-rules": {
        "seven_pays": {"rule": '"user" <> 7 OR price IS NOT NULL'},
        "big_is_dear": {"rule": "NOT big OR price > 1", "x-level": "warn"},
    },
}  # fmt: skip
SCHEMA = json.dumps({"tables": {"orders": {"properties": {}}, "clicks": CLICKS}})
BAD: dict[str, dict[str, Any]] = {
    "event: pattern ^[a-z]": {"event": "1x"},
    "event: maxLength 12": {"event": "x" * 13},
    "user: minimum 0": {"user": -1},
    "user: maximum 99": {"user": 100},
    "item: null": {"item": None},
    "item: minLength 2": {"item": "i"},
    "at: earlier than 2023-12-31T00:00:00Z": {"at": (START - timedelta(days=2)).isoformat()},
    "price: minimum 0": {"price": -0.01},
    "price: exclusiveMaximum 99.5": {"price": 99.5},
    "page: enum": {"page": "Home"},
    "page: null": {"page": None},
    "rule seven_pays": {"user": 7, "price": None},
}


@pytest.fixture
def shop(store_uri: Path, tmp_path: Path) -> Shop:
    """A shop of which a run went through validate, and an hour later."""
    made = Shop(tmp_path, schema=SCHEMA)
    made.now = END + HOUR
    return made


def event(name: str, **more: Any) -> dict[str, Any]:
    return click(name, 30, big=False, page="home") | more


def push(shop: Shop, *events: dict[str, Any]) -> Any:
    lines = [json.dumps(each).encode() for each in events]
    return shop.pusher.push_lines("clicks", lines, name="clicks.jsonl")


def test_what_validate_sets_apart_is_refused_by_line_field_and_check(
    shop: Shop, tmp_path: Path
) -> None:
    """The reasons are those that the same rows get in quarantine."""
    before = shop.read([0, 1, 2, 7])
    rows = []
    for number, (check, more) in enumerate(BAD.items()):
        bad = event(f"x{number}", **more)
        with pytest.raises(Malformed) as refusal:
            push(shop, event("good"), bad)
        field = next(iter(more))
        said = f"clicks.jsonl, line 2: field '{field}' is {json.dumps(more[field])}"
        assert said in str(refusal.value) and f"({check})" in str(refusal.value)
        rows.append(bad)
    assert shop.read([0, 1, 2, 7]) == before
    frame = pl.DataFrame(rows).with_columns(pl.col("at").str.to_datetime(time_zone="UTC"))
    window = (START.isoformat(), (END + HOUR).isoformat())
    dataset = write_dataset(tmp_path / "again", {"clicks": frame}, window)
    places = {n: tmp_path / n for n in ("good", "quarantine", "report", "results")}
    with pytest.raises(SlipwayError):
        validate_dataset(
            dataset=dataset, schema=json.dumps({"tables": {"clicks": CLICKS}}), **places
        )
    apart = pl.read_parquet(tmp_path / "quarantine" / "clicks" / "*.parquet").sort("_row")
    assert apart["_reasons"].to_list() == list(BAD)


def test_good_events_are_pushed_and_a_level_of_warn_is_counted(shop: Shop) -> None:
    again = event("a")
    done = push(shop, again, again, event("b", big=True, price=0.5), event("c", price=99.25))
    assert done.events == 4 and done.warned == {"rule big_is_dear": 1}
    assert shop.read([1])["clicks_1h"] == [3.0]
    assert push(shop, event("d", big=True, price=2.0)).warned == {}


def test_all_bad_events_of_a_batch_are_said_at_once(shop: Shop) -> None:
    bad = [event(f"x{number}", price=-1.0, user=-1) for number in range(7)]
    with pytest.raises(Malformed) as refusal:
        push(shop, *bad)
    said = str(refusal.value)
    assert all(f"line {line}: " in said for line in range(1, 6)) and "line 6" not in said
    assert "and 2 more events" in said


def test_now_is_the_moment_of_the_push(shop: Shop) -> None:
    """However long ago the pusher was opened; clocks differ a little."""
    ahead = shop.now + CLOCKS_DIFFER
    push(shop, event("a", at=ahead.isoformat()))
    late = (ahead + timedelta(seconds=1)).isoformat()
    with pytest.raises(Malformed, match=r"at: later than 2024-01-11T01:01:00Z"):
        push(shop, event("b", at=late))
    shop.now += timedelta(seconds=1)
    push(shop, event("b", at=late))


def test_what_no_view_reads_may_be_left_out_online_and_not_in_the_source(shop: Shop) -> None:
    slim = event("a")
    del slim["page"]
    push(shop, slim)
    lines = [json.dumps(slim).encode()]
    with pytest.raises(Malformed, match=r"field 'page' is null \(page: null\)"):
        shop.pusher.check_lines(
            "clicks", lines, name="clicks.jsonl", landing=Landing(all_fields=True)
        )
    other = [json.dumps(event("b", colour="red")).encode()]
    push(shop, event("b", colour="red"))
    shop.pusher.check_lines("clicks", other, name="x", landing=Landing(all_fields=False))
    with pytest.raises(Malformed, match=r"line 1: field \"colour\" is none of the table's"):
        shop.pusher.check_lines("clicks", other, name="x", landing=Landing(all_fields=True))


def test_the_record_of_an_older_version_asks_for_a_run(shop: Shop, store_uri: Path) -> None:
    (file,) = store_uri.rglob("streams.json")
    file.write_text(file.read_text().replace('"version": 2', '"version": 1'))
    from slipway.components.features.streams.push import Pusher

    with pytest.raises(SlipwayError, match="Run the features stage"):
        Pusher(shop.name)


def test_columns_that_no_event_can_bring_are_left_to_validate(
    store_uri: Path, tmp_path: Path
) -> None:
    """A rule, or bounds, of a list: the events of the table are taken as they are."""
    from slipway.components.features.streams.record import StreamRecord
    from slipway.components.features.streams.schema import EventSchema

    text = {
        "properties": {"tags": {}, "price": {"type": "number", "minimum": 0}},
        "x-rules": {"tagged": {"rule": "tags IS NOT NULL AND price > 1"}},
    }
    record = StreamRecord(
        features=CONFIG, keys={}, schema=json.dumps({"tables": {"clicks": text}}),
        tables={"clicks": {"tags": "list<item: string>", "price": "float"}},
    )  # fmt: skip
    assert EventSchema("clicks", record).columns(END) == {"price": "float"}
