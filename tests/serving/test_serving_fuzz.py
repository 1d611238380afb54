"""That the fuzz targets of the predictor can find something; their bounded runs are in `faults/`."""

import pytest

from fuzz.harness import judge
from fuzz.targets import TARGETS, fuzz
from slipway.serving.http.connection import HttpConnection
from slipway.serving.protocol import rows


@pytest.mark.parametrize(
    "name",
    ["a lost byte", "a lost target", "a lost length", "a body that is held", "a raised error"],
)
def test_a_fault_of_the_connection_would_be_seen(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Five faults of the kind that the connection is held against uvicorn and h11 for."""
    body, url, done = (
        HttpConnection.on_body,
        HttpConnection.on_url,
        HttpConnection.on_message_complete,
    )
    faults = {
        "a lost byte": ("on_body", lambda self, part: body(self, part[:-1])),
        "a lost target": ("on_url", lambda self, part: url(self, part[:1])),
        "a lost length": ("on_message_complete", lambda self: None),
        "a body that is held": ("_drop_arriving", lambda self: None),
        "a raised error": ("_write", lambda self, *_: 1 / 0),
    }
    assert done
    monkeypatch.setattr(HttpConnection, *faults[name])
    assert fuzz("http", seed=19, seconds=40, most=2_000).wrong


def test_h11_is_asked_too() -> None:
    """What uvicorn's parser and ours agree about is held against another one."""
    import fuzz.connection as connection

    smuggled = (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
        b"abcGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    theirs, ended = connection._ask_h11(smuggled)
    assert theirs == [("POST", "/", b"abc"), ("GET", "/b", b"")] and not ended
    assert connection._differs_from_h11(theirs, smuggled, False) == ""
    assert "h11" in connection._differs_from_h11([("POST", "/", b"ab")], smuggled, False)
    assert "refused nothing" in connection._differs_from_h11(theirs[:1], smuggled, False)
    assert "only 2" in connection._differs_from_h11([*theirs, theirs[0]], smuggled, False)


def test_a_reader_that_raises_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(name: str, text: str) -> int:
        raise OverflowError("a date")

    monkeypatch.setattr(rows, "parse_time", parse)
    assert fuzz("v2", seed=19, seconds=40, most=400).wrong
    assert judge(TARGETS["v1"], b" {").wrong == ""
