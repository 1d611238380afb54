"""Odd answers of what a route leads to: what is said of each, and that no secret is in it."""

import base64
import logging
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from support.alert_routes import REPORT, config, record
from support.http_answers import talking

from slipway.components.monitor.alerting import senders
from slipway.components.monitor.alerting.routes import notify
from slipway.components.support.secrets import redact

CANARY = "cAnary/9+x=Q' \"%&<z@7ü"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    monkeypatch.setattr(senders, "TIMEOUT_S", 0.5)


def http(answer: bytes | None) -> Callable[[socket.socket], None]:
    """Takes a request whole and answers; None: never."""

    def talk(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65_536)
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = head.partition(b"\r\n\r\n")[2]
        while len(body) < length:
            body += connection.recv(65_536)
        if answer is None:
            connection.recv(1)  # until the client goes
        else:
            connection.sendall(answer)

    return talk


EMPTY = b"Content-Length: 0\r\n\r\n"
WORDS = b"pushed metrics are invalid:\n a collision"
TAKEN = {
    "202 and nothing": b"HTTP/1.1 202 Accepted\r\n" + EMPTY,
    "202 to the end": b"HTTP/1.1 202 Accepted\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\n" + EMPTY,
}
REFUSED = {
    "400 with words": (
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(WORDS), WORDS),
        "it answered 400: pushed metrics are invalid: a collision",
    ),
    "400 without": (b"HTTP/1.1 400 Bad Request\r\n" + EMPTY, "it answered 400"),
    "400 of bytes": (
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        "it answered 400",
    ),
    "401": (b"HTTP/1.1 401 Unauthorized\r\n" + EMPTY, "it answered 401: check the user, password"),
    "404": (b"HTTP/1.1 404 Not Found\r\n" + EMPTY, "it answered 404: check the path of its url"),
    "a redirect": (
        b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\n" + EMPTY,
        "it answered 301, which leads elsewhere, where no alert follows: give the url",
    ),
    "a redirect to nowhere": (b"HTTP/1.1 302 Found\r\n" + EMPTY, "it answered 302, which leads"),
}
FAILED = {
    "500": (
        b"HTTP/1.1 500 Broken\r\n" + EMPTY,
        "it answered 500: read its server's log (3 times)",
    ),
    "silence": (None, "it did not answer within 0.5 s: is its server up? (ReadTimeout) (3 times)"),
    "no HTTP": (b"\x00\xff\r\n\r\n", "what answers at its url is no HTTP server"),
    "an end": (b"", "or broke the connection off (RemoteProtocolError) (3 times)"),
    "half an answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "broke the connection"),
}
KINDS = ("webhook", "alertmanager", "pushgateway")


def failure_of(kind: str, url: str, home: Path) -> str:
    """What is said of one route that is to be notified; empty: it was."""
    return "".join(notify(home, record(2, "DATA_DRIFT"), config(kind, url), REPORT))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", TAKEN.values(), ids=TAKEN)
def test_each_answer_that_takes_it_is_enough(kind: str, answer: bytes, tmp_path: Path) -> None:
    with talking(http(answer)) as port:
        assert failure_of(kind, f"http://127.0.0.1:{port}", tmp_path) == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "said"), {**REFUSED, **FAILED}.values(), ids={**REFUSED, **FAILED}
)
def test_each_other_answer_is_said_with_what_to_do(
    kind: str, answer: bytes | None, said: str, tmp_path: Path
) -> None:
    with talking(http(answer)) as port:
        told = failure_of(kind, f"http://127.0.0.1:{port}/hidden", tmp_path)
    assert told.startswith("The route ops could not be notified; the next run tries again: ")
    assert said in told
    assert "hidden" not in told
    # What the server said it would say again: once is enough.
    assert ("times)" in told) == (answer in [answer for answer, _ in FAILED.values()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:abc/hidden", "http://[::1/hidden", "http:///hidden"]
)
def test_a_url_that_is_none_is_said(kind: str, url: str, tmp_path: Path) -> None:
    told = failure_of(kind, url, tmp_path)
    assert "url" in told and "hidden" not in told


def test_a_library_s_own_mistake_is_said_in_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It once read `TypeError`, and nothing else."""

    def fail(url: str, notice: object) -> None:
        raise TypeError(f"'NoneType' is no number, at {url}")

    monkeypatch.setitem(senders.SENDERS, "pushgateway", fail)
    told = failure_of("pushgateway", "http://127.0.0.1:1/hidden", tmp_path)
    assert "The route ops could not" in told
    assert told.endswith("TypeError: 'NoneType' is no number, at its url (3 times)")


def test_the_gateway_is_asked_as_the_user_of_its_url(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        seen.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + EMPTY)

    with talking(talk) as port:
        url = f"http://slipway:{quote(CANARY, safe='')}@127.0.0.1:{port}"
        assert failure_of("pushgateway", url, tmp_path) == ""
    header = base64.b64encode(f"slipway:{CANARY}".encode())
    assert b"Basic " + header in seen[0]
    assert seen[0].startswith(b"PUT /metrics/job/slipway-monitor/model/flights HTTP/1.1")


def smtp(greeting: bytes, replies: dict[bytes, bytes]) -> Callable[[socket.socket], None]:
    """A mail server that, as some do, says again what it was sent."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(greeting)
        lines = connection.makefile("rb")
        while line := lines.readline():
            word = line.split()[0].upper() if line.split() else b""
            reply = replies.get(word, b"250 OK")
            reply = reply.replace(b"{line}", line.strip()).replace(b"{password}", PASSWORD.encode())
            connection.sendall(reply + b"\r\n")

    return talk


PASSWORD = CANARY.replace("ü", "u")
"""Python's client of mail servers takes no others."""
HELLO = {b"EHLO": b"250-mail\r\n250 AUTH PLAIN LOGIN"}
MAIL: dict[str, tuple[Callable[[socket.socket], None] | None, str]] = {
    "nothing listens": (None, "Connection refused"),
    "it closes": (smtp(b"", {}), "Connection unexpectedly closed"),
    "it is busy": (smtp(b"421 too busy\r\n", {}), "too busy"),
    "no mail server": (smtp(b"HTTP/1.1 400 Bad Request\r\n\r\n", {}), "Connection error"),
    "a wrong password": (
        smtp(b"220 mail\r\n", {**HELLO, b"AUTH": b"535 5.7.8 {password} is not accepted: {line}"}),
        "5.7.8 *** is not accepted: AUTH LOGIN",
    ),
    "a refused sender": (
        smtp(
            b"220 mail\r\n",
            {**HELLO, b"AUTH": b"235 welcome", b"MAIL": b"550 5.7.1 {password} may not send"},
        ),
        "5.7.1 *** may not send",
    ),
    "a refused message": (
        smtp(b"220 mail\r\n", {**HELLO, b"AUTH": b"235 ok", b"DATA": b"554 no {password}"}),
        "no ***",
    ),
}


@pytest.mark.parametrize(("talk", "said"), MAIL.values(), ids=MAIL)
def test_no_password_of_a_mail_server_is_shown(
    talk: Callable[[socket.socket], None] | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with talking(talk or (lambda connection: None)) as port:
        if talk is None:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
        monkeypatch.setenv(
            "OPS_MAIL",
            f"mailto://slipway:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/"
            "?smtp=127.0.0.1&mode=insecure&to=ops@example.org&from=slipway@example.org",
        )
        told = failure_of("apprise", "${OPS_MAIL}", tmp_path)
    assert "The route ops could not be notified" in told
    assert "Apprise could not deliver the message: " in told
    assert said in told
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (told, *capfd.readouterr(), *files):
        assert not shows(text), text
    # What a stage prints of a library's log passes the one place that redacts.
    assert not shows(redact(caplog.text))


def shows(text: str) -> bool:
    """Whether a text has the canary, plain or inside base64."""
    forms = ["cAnary", quote(PASSWORD, safe="")]
    for begins in range(3):
        encoded = base64.b64encode(bytes(begins) + PASSWORD.encode()).decode()
        forms.append(encoded[4:-4])
    return any(form in text for form in forms)


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """A server that goes on and on once it was asked."""

    def talk(connection: socket.socket) -> None:
        http(head)(connection)
        for _ in range(4_000):
            connection.sendall(piece)
            threading.Event().wait(pause)  # time.sleep does nothing here

    return talk


OK = b"HTTP/1.1 200 OK\r\n"
LONG = b"Content-Length: 1073741824\r\n\r\n"


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_read_as_far_as_it_is_of_use(kind: str, tmp_path: Path) -> None:
    """A gigabyte, or a megabyte that grows to one: both were kept whole."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packed.compress(bytes(256 << 20)) + packed.flush()
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with talking(endless(OK + LONG, b" " * 65_536)) as port:
        assert failure_of(kind, f"http://127.0.0.1:{port}", tmp_path) == ""
    with talking(http(head % len(bomb) + bomb)) as port:
        assert failure_of(kind, f"http://127.0.0.1:{port}", tmp_path / "b").endswith("answered 400")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("kind", [*KINDS, "apprise"])
@pytest.mark.parametrize(
    ("head", "piece"), [(OK + LONG, b" "), (OK, b"X-More: x\r\n")], ids=["body", "head"]
)
def test_an_answer_that_drips_ends(
    kind: str, head: bytes, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "LONGEST_S", 0.7)
    scheme = "json" if kind == "apprise" else "http"
    begun = time.monotonic()
    with talking(endless(head, piece, pause=0.05)) as port:
        told = failure_of(kind, f"{scheme}://127.0.0.1:{port}/hidden", tmp_path)
    assert time.monotonic() - begun < 10
    assert "not answered to the end after 0.7 s" in told or "did not answer within 0.5 s" in told
    assert "hidden" not in told and "3 times" not in told.replace("ReadTimeout) (3 times)", "")


@pytest.mark.parametrize("wish", ["", "?redirect=yes"])
def test_apprise_follows_to_no_other_place(wish: str, tmp_path: Path) -> None:
    """Where it leads nobody has looked: a cloud's metadata service is refused by address."""
    asked: list[bytes] = []

    def other(connection: socket.socket) -> None:
        asked.append(connection.recv(65_536))
        connection.sendall(OK + EMPTY)

    with talking(other) as inside:
        leads = b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:%d/\r\n" % inside + EMPTY
        with talking(http(leads)) as port:
            told = failure_of("apprise", f"json://127.0.0.1:{port}/{wish}", tmp_path)
    assert asked == [] and "Apprise could not deliver the message" in told


@pytest.mark.parametrize("way", [b"PLAIN", b"CRAM-MD5"])
def test_a_password_that_a_mail_server_cannot_be_sent_is_said(way: bytes, tmp_path: Path) -> None:
    hello = {b"EHLO": b"250-mail\r\n250 AUTH " + way, b"AUTH": b"334 PDE+"}
    with talking(smtp(b"220 mail\r\n", hello)) as port:
        url = f"mailto://user:p%C3%A4sswort@127.0.0.1:{port}?from=a@b.de&to=c@d.de&smtp=127.0.0.1"
        told = failure_of("apprise", url, tmp_path)
    assert "cannot carry: give it a password of ASCII" in told
    assert not any(word in told for word in ("codec", "xe4", "sswort"))
