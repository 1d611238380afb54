"""Errors that are written for a person."""

from slipway.components.support.secrets import redact


class SlipwayError(Exception):
    """A failure with a message for a person.

    The message is one paragraph: what is wrong (naming the file, field or value) and what to do
    about it. The command and the stages print it without a traceback. It shows no secret, whatever
    library's words or address it was made of.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class ProjectError(SlipwayError):
    """The project file, or a `--set` override, is wrong. The command exits with 2."""


def is_failure(error: BaseException) -> bool:
    """Whether something failed, rather than a person or the interpreter ending the process.

    A library written in Rust (polars, delta-rs) panics with an exception that is no `Exception`.
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
