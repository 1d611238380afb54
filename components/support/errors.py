"""Errors that are written for a person."""

import re

from slipway.components.support.secrets import redact

# What moves a terminal's cursor or turns its words around. A tab and a line break do no harm.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""The text with each control character written out, as Python does: `\\x1b`.

    A server, a file or a name that somebody else gave is quoted in messages; on a terminal it must not
    erase a line, or write one that looks like ours.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


class SlipwayError(Exception):
    """A failure with a message for a person.

    The message is one paragraph: what is wrong (naming the file, field or value) and what to do
    about it. The command and the stages print it without a traceback. It shows no secret, and holds no
    control character, whatever library's words or address it was made of.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(visible(redact(message)))


class ProjectError(SlipwayError):
    """The project file, or a `--set` override, is wrong. The command exits with 2."""


def is_failure(error: BaseException) -> bool:
    """Whether something failed, rather than a person or the interpreter ending the process.

    A library written in Rust (polars, delta-rs) panics with an exception that is no `Exception`.
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
