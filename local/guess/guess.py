"""A guess as it stands in a project file, and the question where there is nothing to guess from."""

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from slipway.components.support.errors import ProjectError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess(Generic[Value]):
    """A value for a setting, and what a person must know to keep or to change it.

    Attributes:
        value: the value; None: the setting is left out.
        reason: why, in a sentence without a full stop.
        change: how to change it, likewise; empty: the setting's own name says it.
        warnings: what a person should look at before believing the model.
    """

    value: Value
    reason: str
    change: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """What stands above the setting."""
        return f"{self.reason}. {self.change}." if self.change else f"{self.reason}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person said; what is empty is to be guessed.

    Attributes:
        label: the column to predict, by its source's name or ours.
        table: the table with one row an example.
        kind: binary, multiclass or number.
        positive: the values that are positive.
        above: positive is what is greater.
        time: the column with the time of what is predicted; "none": there is none.
        key: the columns that name an example; ("none",): nothing does.
        exclude: columns that are no features.
        name: the project's name.
    """

    label: str
    table: str = ""
    kind: str = ""
    positive: tuple[str, ...] = ()
    above: str = ""
    time: str = ""
    key: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    name: str = ""

    def having(self, answer: str, text: str) -> "Answers":
        """The same with one more answer: a field's name and what was said."""
        return replace(self, **{answer: (text,) if answer in ("positive", "key") else text})  # type: ignore[arg-type]


class Question(ProjectError):
    """What the tables do not tell. Its text names the flag, for where there is no terminal.

    Attributes:
        answer: the field of `Answers` that it asks for.
        text: the question.
        choices: the answers there are; empty: any.
    """

    def __init__(self, answer: str, text: str, choices: tuple[str, ...] = ()) -> None:
        self.answer, self.text, self.choices = answer, text, choices
        said = f" One of: {', '.join(choices)}." if choices else ""
        super().__init__(f"{text}{said} Say it with --{answer}.")


@dataclass(slots=True, kw_only=True)
class Notes:
    """What was found on the way that stands beside no setting."""

    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Keeps a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)
