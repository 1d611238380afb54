"""Bounded runs of what `make fuzz` runs for long; and that it can find something."""

import asyncio

import pytest
from support import http_fuzz, payload_fuzz

from slipway.serving.http.connection import HttpConnection
from slipway.serving.protocol import rows


def test_the_connection_is_as_uvicorn_or_stricter() -> None:
    tried, wrong = asyncio.run(http_fuzz.fuzz(seed=19, seconds=40, most=4000))
    assert not wrong and tried > 400


def test_no_payload_raises_anything_but_a_refusal() -> None:
    tried, wrong = payload_fuzz.fuzz(seed=19, seconds=40, most=4000)
    assert not wrong and tried > 400


def test_a_lost_byte_and_a_lost_target_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run above can fail: two faults of the kind that it looks for."""
    whole = HttpConnection.on_body
    monkeypatch.setattr(HttpConnection, "on_body", lambda self, body: whole(self, body[:-1]))
    assert asyncio.run(http_fuzz.fuzz(seed=19, seconds=40, most=200))[1]
    monkeypatch.setattr(HttpConnection, "on_body", whole)
    target = HttpConnection.on_url
    monkeypatch.setattr(HttpConnection, "on_url", lambda self, url: target(self, url[:1]))
    assert asyncio.run(http_fuzz.fuzz(seed=19, seconds=40, most=200))[1]


def test_a_reader_that_raises_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(name: str, text: str) -> int:
        raise OverflowError("a date")

    monkeypatch.setattr(rows, "parse_time", parse)
    assert payload_fuzz.fuzz(seed=19, seconds=40, most=400)[1]
