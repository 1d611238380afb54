"""That the fuzz targets of the predictor can find something; their bounded runs are in `faults/`."""

import pytest

from fuzz import connection
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
    body, url = HttpConnection.on_body, HttpConnection.on_url
    faults = {
        "a lost byte": ("on_body", lambda self, part: body(self, part[:-1])),
        "a lost target": ("on_url", lambda self, part: url(self, part[:1])),
        "a lost length": ("on_message_complete", lambda self: None),
        "a body that is held": ("_drop_arriving", lambda self: None),
        "a raised error": ("_write", lambda self, *_: 1 / 0),
    }
    monkeypatch.setattr(HttpConnection, *faults[name])
    assert fuzz("http", seed=19, seconds=40, most=2_000).wrong


def test_h11_is_asked_too() -> None:
    """What uvicorn's parser and ours agree about is held against another one."""
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


GET, CHUNKED = b"GET / HTTP/1.%d\r\n%b\r\n", b"Transfer-Encoding: chunked\r\n"
STRICTER = {
    # What uvicorn takes and RFC 9112 does not, or without a bound: the fuzzing cannot tell of these.
    "one host": (GET % (1, b"Host: a:80\r\n"), 200),
    "no host": (GET % (1, b""), 400),
    "two hosts": (GET % (1, b"Host: a\r\nHost: a\r\n"), 400),
    "a host that is none": (GET % (1, b"Host: a/b\r\n"), 400),
    "no host in 1.0": (GET % (0, b""), 200),
    "two hosts in 1.0": (GET % (0, b"Host: a\r\nHost: a\r\n"), 400),
    "chunks in 1.0": (GET % (0, CHUNKED) + b"0\r\n\r\n", 400),
    "chunks": (GET % (1, b"Host: a\r\n" + CHUNKED) + b"0\r\n\r\n", 200),
    "chunks twice": (GET % (1, b"Host: a\r\n" + CHUNKED * 2) + b"0\r\n\r\n", 400),
    "another coding": (
        GET % (1, b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n") + b"0\r\n\r\n",
        400,
    ),
    "another version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    "a long target in one piece": (
        b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 100_000),
        414,
    ),
    "a long head in one piece": (GET % (1, b"Host: a\r\nX: %b\r\n" % (b"a" * 100_000)), 431),
    "many headers in one piece": (GET % (1, b"Host: a\r\n" + b"X: y\r\n" * 2_000), 431),
}


@pytest.mark.parametrize(("sent", "status"), STRICTER.values(), ids=STRICTER)
def test_what_is_stricter_than_uvicorn(sent: bytes, status: int) -> None:
    rivals = connection.Rivals()
    behind = GET % (1, b"Host: a\r\n")
    statuses = rivals.ask_ours([sent + behind])
    assert statuses[0] == status
    # Behind a refusal nothing is read, or what follows could be taken for a request.
    seen = len(rivals.ours.seen)
    assert (seen, len(statuses)) == ((2, 2) if status == 200 and b"1.0" not in sent else (seen, 1))
    assert status == 200 or seen == 0
    rivals.ours.admission.close()


@pytest.mark.parametrize(
    "target", ["/a", "/a#b", "/a#b?c", "/a?b#c", "/a?b", "http://h/a#b", "/a%#0b"]
)
def test_the_path_of_a_target_is_uvicorn_s(target: str) -> None:
    rivals = connection.Rivals()
    assert rivals.run([b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode()])[0] == ""
    assert [path.rstrip("%") for _, path, _ in rivals.ours.seen] == ["/a"]
    rivals.ours.admission.close()
