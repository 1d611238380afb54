"""A push is seen whole or not at all, refuses what is no event, and meets Feast's own readers."""

import json
import threading
from datetime import timedelta

import pytest
from support.clicks_world import CONFIG, END, HOUR, Shop, click

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.features.streams.lines import Malformed
from slipway.components.features.streams.push import Pusher
from slipway.components.support.errors import SlipwayError


def test_values_are_fresh_and_leave_their_windows_by_themselves(shop: Shop) -> None:
    before = shop.read([1])
    shop.now = END + HOUR
    # Nothing was pushed: the store stands for the run's end, however late it is.
    assert shop.read([1]) == before
    done = shop.pusher.push("clicks", [click("a", 30), click("b", 59), click("a", 30)])
    assert (done.events, done.entities["recent"], done.capped) == (3, 1, {})
    assert done.stands_for == "2024-01-11T00:59:00Z"
    fresh = shop.read([1, 2, None])
    # The last click of user 1 in the dataset was at 21:57 of the day before, for 0.5.
    assert fresh["clicks_1h"][:1] == [2.0] and fresh["last_item"][0] == "i1"
    assert fresh["spent_1d"][0] == before["spent_1d"][0] + 4.0
    assert fresh["last_big"] == [None, fresh["last_big"][1], None]
    # Of another entity time passes as well; and a row without one has nothing.
    assert fresh["clicks_1h"][1:] in ([0.0, None], [None, None])
    # 30 minutes on, the first of the two is more than an hour old.
    shop.now += timedelta(minutes=31)
    assert shop.read([1])["clicks_1h"] == [1.0]
    assert shop.read([1])["item_clicks_1h"] == [1.0]
    shop.now += timedelta(days=2)
    assert shop.read([1])["clicks_1h"] in ([0.0], [None])
    assert shop.read([1])["last_item"] == ["i1"]


def test_feasts_own_reader_sees_what_was_pushed(shop: Shop) -> None:
    shop.now = END + HOUR
    shop.pusher.push("clicks", [click("a", 59)])
    theirs, ours = shop.feast(1), shop.read([1])
    assert theirs["clicks_1h"] == ours["clicks_1h"][0] == 1.0
    assert theirs["last_item"] == "i1"
    assert theirs["last_at"].timestamp() * 1e6 == ours["last_at"][0]


def test_rows_that_feast_pushes_are_served(shop: Shop) -> None:
    """Feast's push takes a view's rows, not events; the newest of both is served."""
    import pandas as pd
    from feast.data_source import PushMode

    shop.now = END + HOUR
    shop.pusher.push("clicks", [click("a", 10)])
    row = {"user": [1], "clicks_1h": [77.0], "spent_1d": [5.5]}
    for minutes, expected in ((5, 1.0), (20, 77.0)):
        frame = pd.DataFrame(row | {"event_timestamp": [END + timedelta(minutes=minutes)]})
        shop.store.push("recent_push", frame, to=PushMode.ONLINE)
        assert shop.read([1])["clicks_1h"] == [expected]
    # As with pushed events, all of them leave the window.
    shop.now += timedelta(days=2)
    assert shop.read([1])["clicks_1h"] == [0.0]


MALFORMED = [
    (b"{", "line 2: not JSON"),
    (b"[1]", "line 2: an event is a JSON object"),
    (b'{"event": "x"}', "line 2: has no field 'user'"),
    (b'{"price": NaN}', "line 2: not JSON: NaN"),
    (b'{"price": 1, "price": 2}', "the key 'price' stands in it more than once"),
    (json.dumps(click("x", 1, user="1a")).encode(), "field 'user' is \"1a\", not a whole"),
    (json.dumps(click("x", 1, user=2**63)).encode(), "field 'user' is 92233"),
    (json.dumps(click("x", 1, user=True)).encode(), "field 'user' is true"),
    (
        json.dumps(click("x", 1, at="soon")).encode(),
        "field 'at' is \"soon\", not a time in ISO",
    ),
    (json.dumps(click("x", 1, at=None)).encode(), "field 'at' is empty"),
    (json.dumps(click("", 1)).encode(), "field 'event' is empty"),
    (json.dumps(click("x", 1, price="2")).encode(), "field 'price' is \"2\", not a number"),
    (json.dumps(click("x", 1, price=10**400)).encode(), "not a number that a double holds"),
    (json.dumps(click("x", 1, big=1)).encode(), "field 'big' is 1, not true or false"),
    (json.dumps(click("x", 1, item=7)).encode(), "field 'item' is 7, not a text"),
    (json.dumps(click("x", 1, item="\ud800")).encode(), "half a surrogate"),
    (b" " * 2_000_000, "longer than"),
]


def test_what_is_no_event_is_refused_by_line_and_field(shop: Shop) -> None:
    shop.now = END + HOUR
    before = shop.read([0, 1, 2])
    good = json.dumps(click("good", 50)).encode()
    for line, words in MALFORMED:
        with pytest.raises(Malformed) as refusal:
            shop.pusher.push_lines("clicks", [good, line, good], name="clicks.jsonl")
        assert words in str(refusal.value) and "clicks.jsonl" in str(refusal.value)
    assert shop.read([0, 1, 2]) == before


def test_two_pushers_lose_nothing(shop: Shop) -> None:
    shop.now = END + HOUR

    def work(number: int) -> None:
        own = Pusher(shop.name, now=lambda: shop.now.timestamp())
        for turn in range(8):
            own.push("clicks", [click(f"{number}-{turn}", 30 + turn)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.read([1])["clicks_1h"] == [16.0]


def test_so_many_events_of_an_entity_are_kept(shop: Shop) -> None:
    shop.now = END + HOUR
    events = [click(f"e{i}", 10 + i / 2) for i in range(80)]
    done = shop.pusher.push("clicks", events)
    assert done.capped == {"recent": 1, "popular": 1}
    assert shop.read([1])["clicks_1h"] == [50.0]


def test_redis_forgets_what_has_left_all_windows(shop: Shop) -> None:
    if shop.store.config.online_store.type != "redis":
        return
    shop.now = END + HOUR
    shop.pusher.push("clicks", [click("a", 59)])
    client = shop.source()._client
    project = shop.store.project
    day = 24 * 3600
    for key in client.scan_iter(f"slipway:*:{project}:recent:*"):
        assert 0 < client.ttl(key) <= 3 * day
    lasting = list(client.scan_iter(f"slipway:rows:{project}:newest:*"))
    assert lasting and all(client.ttl(key) == -1 for key in lasting)


def test_a_stream_needs_a_run_and_a_view_in_order(shop: Shop) -> None:
    with pytest.raises(SlipwayError, match="takes no pushes yet"):
        Pusher("nobody")
    with pytest.raises(SlipwayError, match=r"'visits' is no stream of this project \(clicks\)"):
        shop.pusher.push("visits", [])
    timeless = {**CONFIG, "views": [{**CONFIG["views"][2], "time": None}]}
    for config, words in (
        (timeless, "its view newest has no `time`"),
        ({**CONFIG, "streams": {"visits": {"key": "x"}}}, "no view of it is kept online"),
    ):
        with pytest.raises(SlipwayError, match=words):
            FeaturesConfig.parse(config, "features")
