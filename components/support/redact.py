"""Text that may be shown: addresses without what opens them."""

import os
import re

_USERINFO = re.compile(r"(?<=://)[^\s/'\"<>]*@")
_NAMES = r"token|secret|passw|api_?key|access_?key"
_QUERY = re.compile(
    rf"(?i)([?&;,](?:[\w.-]*(?:{_NAMES}|signature|credential)[\w.-]*|pwd|sig)=)[^&;,\s'\"<>#)]+"
)
_VARIABLE = re.compile(rf"(?i){_NAMES}")
_SHORTEST = 6
HIDDEN = "***"


def redact(text: str) -> str:
    """A text without passwords: user and password of addresses, tokens of queries, known secret values.

    A secret value is one of an environment variable whose name says so (`…_TOKEN`, `…_PASSWORD`).
    Values of fewer than six characters are left: they would blot out words.
    """
    text = _QUERY.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub("", text))
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    return text
