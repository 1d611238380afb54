"""Errors that are written for a person."""


class SlipwayError(Exception):
    """A failure with a message for a person.

    The message is one paragraph: what is wrong (naming the file, field or value) and what to do
    about it. The command and the stages print it without a traceback.
    """


class ProjectError(SlipwayError):
    """The project file, or a `--set` override, is wrong. The command exits with 2."""


def is_failure(error: BaseException) -> bool:
    """Whether something failed, rather than a person or the interpreter ending the process.

    A library written in Rust (polars, delta-rs) panics with an exception that is no `Exception`.
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
