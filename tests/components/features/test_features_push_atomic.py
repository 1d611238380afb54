"""A push is there as a whole or not at all: between any two of its statements, and cut anywhere."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from support.clicks_world import END, HOUR, Shop, click

from slipway.components.features.streams import keepers
from slipway.components.features.streams.push import Pusher

USERS = [0, 1, 2, 7, 8]
READS = {"HMGET", "ZREVRANGEBYSCORE"}
WRITES = {"SET", "DEL", "ZADD", "HSET", "HMSET", "PEXPIRE"}


def batch(turn: int) -> list[dict[str, Any]]:
    """A click of each user; three views are changed by it."""
    return [click(f"{turn}-{user}", 59, user=user) for user in USERS]


def only(shop: Shop, kind: str) -> None:
    if shop.store.config.online_store.type != kind:
        pytest.skip(f"of {kind} alone")


def connection_of(shop: Shop) -> sqlite3.Connection:
    online: Any = shop.store._get_provider().online_store
    found: sqlite3.Connection = online._get_conn(shop.store.config)
    return found


def test_between_any_two_statements_a_reader_sees_what_was(shop: Shop) -> None:
    only(shop, "sqlite")
    shop.now = END + HOUR
    shop.pusher.push("clicks", batch(0))
    before, source, seen = shop.read(USERS), shop.source(), []

    def look(statement: str) -> None:
        seen.append((statement, shop.read(USERS, source)))

    connection_of(shop).set_trace_callback(look)
    shop.pusher.push("clicks", batch(1))
    connection_of(shop).set_trace_callback(None)
    written = [statement for statement, _ in seen if statement.startswith(("INSERT", "DELETE"))]
    assert len(written) > 3 * len(USERS) and "COMMIT" in seen[-1][0]
    assert [statement for statement, values in seen if values != before] == []
    assert shop.read(USERS)["clicks_1h"] == [count + 1 for count in before["clicks_1h"]]


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_push_that_fails_midway_leaves_nothing(
    shop: Shop, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many of its three views were written; the last: before it is committed."""
    shop.now = END + HOUR
    shop.pusher.push("clicks", batch(0))
    before = shop.read(USERS)
    keeper = type(keepers.open_keeper(shop.store, shop.store.list_feature_views()))
    whole, done = keeper._write, []

    def write(*arguments: Any) -> None:
        if len(done) == written:
            raise OSError("no space left on device")
        whole(*arguments)
        done.append(arguments)
        if len(done) == written == 3:
            raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_write", write)
        with pytest.raises(OSError, match="no space"):
            shop.pusher.push("clicks", batch(1))
    assert len(done) == written and shop.read(USERS) == before
    shop.pusher.push("clicks", batch(1))
    assert shop.read(USERS)["clicks_1h"] == [count + 1 for count in before["clicks_1h"]]


@contextmanager
def cut(share: float, seen: list[Any], shop: Shop) -> Iterator[None]:
    """The first transaction that is sent breaks off after a share of its bytes."""
    whole = AbstractConnection.send_packed_command

    def send(self: Any, command: Any, check_health: bool = True) -> None:
        text = b"".join(command) if isinstance(command, list) else command
        if b"MULTI" not in text or b"ZADD" not in text or seen:
            whole(self, command, check_health)
            return
        seen.append(None)
        self._sock.sendall(text[: int(len(text) * share)])
        self.disconnect()
        seen.append(shop.read(USERS))
        raise RedisConnectionError("the line is cut")

    AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
    try:
        yield
    finally:
        AbstractConnection.send_packed_command = whole  # type: ignore[method-assign]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999, 1.0])
def test_a_cut_line_leaves_nothing_or_all_and_the_push_is_made_good(
    shop: Shop, share: float
) -> None:
    only(shop, "redis")
    shop.now = END + HOUR
    shop.pusher.push("clicks", batch(0))
    before, seen = shop.read(USERS), []
    with cut(share, seen, shop):
        shop.pusher.push("clicks", batch(1))
    after = shop.read(USERS)
    assert after["clicks_1h"] == [count + 1 for count in before["clicks_1h"]]
    # Where all was sent and the answer was lost, the server may have done it by now, or not yet.
    assert seen[1] == before if share < 1 else seen[1] in (before, after)


def transactions(monitored: list[tuple[str, list[str]]]) -> list[list[list[str]]]:
    """The transactions that Redis ran, each with its commands; what ran in none stands alone."""
    found: list[list[list[str]]] = []
    inside: dict[str, list[list[str]]] = {}
    for client, words in monitored:
        if words[0] == "MULTI":
            inside[client] = []
        elif words[0] == "EXEC":
            found.append(inside.pop(client))
        elif client in inside:
            inside[client].append(words)
        else:
            found.append([words])
    return found


def test_redis_runs_a_push_as_one_transaction_and_a_read_as_one(shop: Shop) -> None:
    only(shop, "redis")
    shop.now = END + HOUR
    shop.pusher.push("clicks", batch(0))
    client, monitored = shop.source()._client, []
    with client.monitor() as monitor:
        shop.pusher.push("clicks", batch(1))
        shop.read(USERS)
        client.echo("the end")
        for command in monitor.listen():
            words = command["command"].split(" ")
            if words[0] == "ECHO":
                break
            address = f"{command['client_address']}:{command['client_port']}"
            monitored.append((address, [words[0].upper(), *words[1:]]))
    ran = transactions(monitored)
    writing = [run for run in ran if WRITES & {words[0] for words in run}]
    reading = [run for run in ran if READS & {words[0] for words in run}]
    assert len(writing) == 1 and len(reading) == 1, (writing, reading)
    # All three views, each user's events, rows and the hash of Feast; and both clocks' members.
    assert sum(words[0] == "SET" for words in writing[0]) == 2 * len(USERS) + 1
    assert sum(words[0] in ("HSET", "HMSET") for words in writing[0]) == 2 * len(USERS) + 1
    # What was read to compute them was watched before, so that another push in between is not lost.
    watched = next(n for n, run in enumerate(ran) if run[0][0] == "WATCH")
    read = next(n for n, run in enumerate(ran) if run[0][0] == "MGET")
    assert watched < read < ran.index(writing[0])
    assert ran[watched][0][1:] == ran[read][0][1:]


def test_a_push_that_another_came_before_is_made_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what it read and what it writes, another pushes an event of the same user."""
    only(shop, "redis")
    shop.now = END + HOUR
    other, turns = Pusher(shop.name, now=lambda: shop.now.timestamp()), []
    whole = keepers.RedisKeeper._write

    def write(self: Any, *arguments: Any) -> None:
        turns.append(1)
        if len(turns) == 1:
            other.push("clicks", [click("theirs", 30)])
        whole(self, *arguments)

    monkeypatch.setattr(keepers.RedisKeeper, "_write", write)
    shop.pusher.push("clicks", [click("ours", 31)])
    assert shop.read([1])["clicks_1h"] == [2.0] and len(turns) == 3 + 3 + 3
