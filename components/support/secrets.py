"""What must not be shown: passwords and tokens, in whatever a person or a file is told.

`redact` is the one place that knows them. It is applied where a text leaves a process: every
`SlipwayError`, every event of a stage, everything that a stage, the predictor or the `slipway` command
prints, each line of a run's log, each notice. Three kinds are found:

- what stands in an address: user and password, and the values of keys such as `token` or `sig`;
- what looks like a secret wherever it stands: keys of clouds, private keys, signed web tokens;
- what this process was given: variables whose names say so, the passwords inside the addresses of
  others, and what was handed to `remember`; also as a URL, HTML, JSON, `repr` or base64 writes them,
  alone or in a longer text.
"""

import base64
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

SHOWN = "***"
# A shorter value stands in too many words that are no secret.
SHORTEST = 6
SECRET_NAME = re.compile(
    r"((^|_|-)(password|passwd|passphrase|secret|token|credentials?|dsn|webhook(_?ur[il])?"
    r"|(api|access|account|private|secret|shared|storage)_?key|access_?key_?id|connection_?string)"
    r"|[_-](pass|pwd))$",  # PWD is the folder
    re.I,
)
SECRET_TEXT = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
    "a GitHub token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,})\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a signed web token": re.compile(r"\beyJ[\w-]{10,4000}\.eyJ[\w-]{10,4000}\.[\w-]{10,}"),
    "a password in an address": re.compile(
        r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@{}$]{0,1000}:[^\s/@{}$]{1,1000}@", re.I
    ),
    "a signature in an address": re.compile(
        r"(?<=[?&])(sig|x-amz-signature|x-goog-signature)=[^&\s'\"{}$*]{8,}", re.I
    ),
}
_KEYS = (
    r"(?:[\w-]*(?:password|passwd|passphrase|secret|token|signature|credential"
    r"|(?:api|access|account|private)_?key)|x-amz-[\w-]+|sig|pwd)"
)
# The last @ before the path ends the user: a password may hold one, as it was typed.
_USER = re.compile(
    r"""(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/'"<>`]{1,1000}?@(?=[\w.\[-]+(?:[:/?#\s'"<>`,;).\]]|$))""",
    re.I,
)
# The same inside another address.
_QUOTED_USER = re.compile(
    r"""(\b[a-z][a-z0-9+.-]{0,30}%3A%2F%2F)(?:(?!%2F)[^\s/'"<>&]){1,1000}?%40(?=[\w.%\[-])""", re.I
)
_CONTAINER_SCHEMES = ("abfs://", "abfss://", "wasb://", "wasbs://")
_PAIR = re.compile(
    rf"""((?:(?<![\w.-])|(?<=%3B)|(?<=%26)){_KEYS}(?:=|%3D))"""
    r"""(?:"[^"\n]+"|'[^'\n]+'|[^&;,\s'"<>`)]+)""",
    re.I,
)
# As a dict or JSON has it; a secret's name may stand there for itself, so only what is none.
_MEMBER = re.compile(
    r"""((["'])[\w-]*(?:password|passwd|(?:access|refresh|id|session)_?token|client_?secret"""
    r"""|(?:account|api|private|secret_?access)_?key)\2\s*:\s*b?)(["'])[^"'\n]+\3""",
    re.I,
)
_HEADER = re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/-]{16,}=*", re.I)
# So many characters at most: else a long word is read again from each place where one may begin.
# In a variable a password may hold a slash that somebody forgot to quote; what follows a port is a path.
_GIVEN_USER = re.compile(
    r"""[a-z][a-z0-9+.-]{0,30}://([^\s/:'"<>]{0,1000}(?::(?!\d+/)[^\s'"<>]{0,1000})?)@""", re.I
)
# And quotes, where the variable is the address and nothing else.
_WHOLE_USER = re.compile(r"[a-z][a-z0-9+.-]*://([^\s/:]*:(?!\d+/).*)@", re.I)
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_LINE = 16
"""A line of a secret of several is one of its own, where it has so many characters."""
_remembered: set[str] = set()


def redact(text: str) -> str:
    """The text with every secret in it as `***`; addresses are without the user too."""
    known, encoded = _known(tuple(os.environ.items()), frozenset(_remembered))
    if known is not None and encoded is not None:
        text = _hide_runs(known.sub(SHOWN, text), encoded)
    if "@" in text:
        text = _USER.sub(_without_user, text)
    if "%40" in text:
        text = _QUOTED_USER.sub(r"\g<1>", text)
    for pattern in (_PAIR, _HEADER):
        text = pattern.sub(rf"\g<1>{SHOWN}", text)
    text = _MEMBER.sub(rf"\g<1>\g<3>{SHOWN}\g<3>", text)
    for pattern in SECRET_TEXT.values():
        text = pattern.sub(SHOWN, text)
    return text


def _hide_runs(text: str, pattern: re.Pattern[str]) -> str:
    """Hides what the pattern finds, each with all base64 around it."""
    parts, done = [], 0
    for found in pattern.finditer(text):
        start, end = found.span()
        if end <= done:
            continue
        while start > done and text[start - 1] in _BASE64 and text[start - 1] != "=":
            start -= 1
        while end < len(text) and text[end] in _BASE64:
            end += 1
        parts += [text[done:start], SHOWN]
        done = end
    return "".join([*parts, text[done:]])


def holds_secret(address: str) -> bool:
    """Whether an address holds a user, a password or a signature, rather than only say where."""
    place, _, query = address.partition("?")  # a folder may be called token=a
    return _USER.sub(_without_user, place) != place or _PAIR.search(query) is not None


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
    guard_output()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def guard_output() -> None:
    """Redacts what this process prints from now on, an exception at its end too."""
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


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
) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """What finds the secrets of these variables, and them inside base64; None: there are none."""
    values = set(remembered)
    for name, value in variables:
        # GOOGLE_APPLICATION_CREDENTIALS and its kin name a file.
        if SECRET_NAME.search(name) and not (value.startswith("/") and Path(value).is_file()):
            values.add(value.strip())
        values |= set(_inside(value))
    lines = {line for value in values for line in value.splitlines() if len(line) >= _LINE}
    values |= {line for line in lines if not line.startswith("-----")}
    values |= {unquote(value) for value in values}
    found = sorted((v for v in values if len(v) >= SHORTEST), key=len, reverse=True)
    if not found:
        return None, None
    plain = "|".join("".join(map(_written, value)) for value in found)
    encoded = "|".join(form for value in found for form in _encoded(value))
    return re.compile(plain), re.compile(encoded)


def _inside(value: str) -> Iterator[str]:
    """The passwords and tokens inside an address or a connection string."""
    whole = _WHOLE_USER.match(value.strip())
    for given in {found[1] for found in _GIVEN_USER.finditer(value)} | (
        {whole[1]} if whole else set()
    ):
        user, separator, password = given.partition(":")
        # Which @ ends it cannot be told: a password may hold one, and so may a query behind the host.
        parts = (password if separator else user).split("@")
        yield from ("@".join(parts[:count]) for count in range(1, min(len(parts), 8) + 1))
        yield "@".join(parts)
    # In a connection string an & is nothing special.
    # One may stand inside an address, as ODBC's in SQLAlchemy's: odbc_connect=UID%3Du%3BPWD%3D...
    for text in {value, unquote(value)}:
        for ends in ("&;,", ";,"):
            for found in re.finditer(rf"(?<![\w.-]){_KEYS}=([^{ends}\s]+)", text, re.I):
                yield found[1]


@lru_cache(maxsize=1024)
def _written(character: str) -> str:
    """A pattern of a character as it may be written: plain, or as a URL, HTML, JSON or Python has it."""
    if character.isascii() and character.isalnum():
        return character
    number, content = ord(character), character.encode("utf-8", "surrogatepass")
    octets = [_either(f"{octet:02x}") for octet in content]
    forms = [
        rf"\\{{0,3}}{re.escape(character)}",
        "".join(f"%{octet}" for octet in octets),
        "".join(f"%25{octet}" for octet in octets),
        "".join(rf"\\x{octet}" for octet in octets),
        rf"\\{{1,2}}u{_either(f'{number:04x}')}",
        f"&#0?{number};",
        f"&#x0?{_either(f'{number:x}')};",
    ]
    if number > 127:
        # Read in another encoding, as two or three other letters, or as what stands for none.
        forms.append(r"[^\x00-\x7f]{1,4}")
        if number < 256:
            forms += [rf"\\x{_either(f'{number:02x}')}", f"%{_either(f'{number:02x}')}"]
    if character == " ":
        forms.append(r"\+")
    if character in "\n\r\t":
        forms.append(rf"\\{{1,2}}{ {chr(10): 'n', chr(13): 'r', chr(9): 't'}[character] }")
    if entity := _ENTITIES.get(character):
        forms.append(entity)
    return f"(?:{'|'.join(forms)})"


def _either(digits: str) -> str:
    """Hexadecimal digits in both cases."""
    return "".join(d if d.isdigit() else f"[{d}{d.upper()}]" for d in digits)


def _encoded(value: str) -> Iterator[str]:
    """Patterns of a value inside base64, wherever in the encoded text it begins."""
    # Requests writes a Basic header in Latin-1.
    for content in {value.encode(name, "replace") for name in ("utf-8", "latin-1")}:
        for shift, begins in ((0, 0), (1, 2), (2, 3)):
            text = base64.b64encode(bytes(shift) + content + bytes(2)).decode()
            inner = text[begins : (shift + len(content)) * 8 // 6]
            yield inner.replace("+", "[+-]").replace("/", "[/_]")
