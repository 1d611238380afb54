"""What must not be shown: passwords and tokens, in whatever a person or a file is told.

`redact` is the one place that knows them. It is applied where a text leaves a process: every
`SlipwayError`, every event of a stage, everything that a stage, the predictor or the `slipway` command
prints, each line of a run's log, each notice. Three kinds are found:

- what stands in an address: user and password, and the values of keys such as `token` or `sig`;
- what looks like a secret wherever it stands: keys of clouds, private keys, signed web tokens;
- what this process was given: variables whose names say so, the passwords inside the addresses of
  others, and what was handed to `remember`; also as a URL, JSON or a Basic header writes them.
"""

import base64
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

SHOWN = "***"
# A shorter value stands in too many words that are no secret.
SHORTEST = 6
SECRET_NAME = re.compile(
    r"(^|_|-)(password|passwd|secret|token|api_?key|access_?key(_?id)?|private_?key|credentials?)$",
    re.I,
)
SECRET_TEXT = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
    "a GitHub token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,})\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a signed web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password in an address": re.compile(
        r"\b[a-z][a-z0-9+.-]*://[^\s/:@{}$]*:[^\s/@{}$]+@", re.I
    ),
}
_KEYS = (
    r"(?:[\w-]*(?:password|passwd|secret|token|api_?key|access_?key|private_?key|signature|credential)"
    r"|x-amz-[\w-]+|sig|pwd)"
)
# The last @ before the path ends the user: a password may hold one, as it was typed.
_USER = re.compile(
    r"""(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/'"<>`]{1,1000}?@(?=[\w.\[-]+(?:[:/?#\s'"<>`,;).\]]|$))""",
    re.I,
)
_CONTAINER_SCHEMES = ("abfs://", "abfss://", "wasb://", "wasbs://")
_PAIR = re.compile(rf"""((?<![\w.-]){_KEYS}=)[^&;,\s'"<>`)]+""", re.I)
_HEADER = re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/-]{16,}=*", re.I)
# In a variable a password may hold a slash that somebody forgot to quote; what follows a port is a path.
_GIVEN_USER = re.compile(r"""[a-z][a-z0-9+.-]*://([^\s/:'"<>]*(?::(?!\d+/)[^\s'"<>]*)?)@""", re.I)
_remembered: set[str] = set()


def redact(text: str) -> str:
    """The text with every secret in it as `***`; addresses are without the user too."""
    known = _known(tuple(os.environ.items()), frozenset(_remembered))
    if known is not None:
        text = known.sub(SHOWN, text)
    if "@" in text:
        text = _USER.sub(_without_user, text)
    for pattern in (_PAIR, _HEADER):
        text = pattern.sub(rf"\g<1>{SHOWN}", text)
    for pattern in SECRET_TEXT.values():
        text = pattern.sub(SHOWN, text)
    return text


def _without_user(address: re.Match[str]) -> str:
    """An address without its user; what stands there in an address of Azure's storage is a container."""
    scheme, whole = address.group(1), address.group(0)
    is_container = scheme.lower() in _CONTAINER_SCHEMES and ":" not in whole.removeprefix(scheme)
    return whole if is_container else scheme


def redact_values(value: object) -> Any:
    """A JSON value with every text in it redacted; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_values(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(part) for part in value]
    return value


def remember(value: str) -> str:
    """Counts a value as secret from now on, whatever its name; returns it."""
    _remembered.add(value)
    return value


@contextmanager
def guarded_output() -> Iterator[None]:
    """Redacts what is printed inside the block, by whichever library."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Guarded:
    """A stream that redacts each text that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _guarded(stream: TextIO) -> object:
    return stream if stream is None or isinstance(stream, _Guarded) else _Guarded(stream)


@lru_cache(maxsize=8)
def _known(
    variables: tuple[tuple[str, str], ...], remembered: frozenset[str]
) -> re.Pattern[str] | None:
    """What finds the secrets of these variables, in every form; None: there are none."""
    values = set(remembered)
    for name, value in variables:
        # GOOGLE_APPLICATION_CREDENTIALS and its kin name a file.
        if SECRET_NAME.search(name) and not (value.startswith("/") and Path(value).is_file()):
            values.add(value.strip())
        values |= set(_inside(value))
    forms = {form for value in values for form in _forms(value)}
    ordered = sorted((f for f in forms if len(f) >= SHORTEST), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _inside(value: str) -> Iterator[str]:
    """The passwords and tokens inside an address or a connection string."""
    for found in _GIVEN_USER.finditer(value):
        user, separator, password = found[1].partition(":")
        if separator:
            yield password
            yield _basic(unquote(user), unquote(password))
        else:
            yield user
    for found in re.finditer(rf"(?<![\w.-]){_KEYS}=([^&;,\s]+)", value, re.I):
        yield found[1]


def _forms(value: str) -> Iterator[str]:
    for text in {value, unquote(value)}:
        yield text
        yield quote(text, safe="")
        yield quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield repr(text)[1:-1]
        yield base64.b64encode(text.encode()).decode()


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
