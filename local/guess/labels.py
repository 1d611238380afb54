"""What is predicted: of which kind the label is, and which of its values are positive or no label."""

import unicodedata
from dataclasses import dataclass, replace
from typing import Any, get_args

from slipway.components.config.base import parse_duration
from slipway.components.config.features.label import MIN_CLASS_ROWS, value_text
from slipway.components.config.kinds import LabelKind
from slipway.components.support.errors import ProjectError
from slipway.local.guess.guess import Answers, Guess, Question
from slipway.local.guess.relations import is_id
from slipway.local.guess.tables.amounts import in_two_ways, is_amount, why_text
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts
from slipway.local.guess.tables.named import nearest, no_such_column

KINDS: tuple[LabelKind, ...] = get_args(LabelKind)

MOST_CLASSES = 20
"""A column of whole numbers with more different values is one of numbers."""
POSITIVE = (
    "churn", "churned", "fraud", "default", "defaulted", "late", "failed", "failure", "fail", "spam",
    "malignant", "sick", "died", "dead", "cancelled", "canceled", "returned", "converted", "bought",
    "click", "clicked",
)  # fmt: skip
"""Words that say that something happened, whatever the other value is."""
PAIRED = (
    "yes", "y", "true", "t", "1", "on", "positive", "pos", "bad", "won", ">50k", ">50k.", "high",
)  # fmt: skip
"""Words that say so only against one of NEGATIVE."""
NEGATIVE = (
    "no", "n", "false", "f", "0", "off", "negative", "neg", "good", "lost", "<=50k", "<=50k.", "low",
)  # fmt: skip
YES_AND_NO = {
    "German": ("ja nein", "j n", "wahr falsch"), "French": ("oui non", "o n", "vrai faux"),
    "Spanish": ("sí no", "si no", "s n", "verdadero falso"), "Italian": ("sì no", "si no", "vero falso"),
    "Portuguese": ("sim não", "sim nao", "verdadeiro falso"), "Dutch": ("ja nee", "waar onwaar"),
    "Danish": ("ja nej", "sandt falsk"), "Swedish": ("ja nej", "sant falskt"),
    "Norwegian": ("ja nei", "sant usant"), "Finnish": ("kyllä ei", "tosi epätosi"),
    "Polish": ("tak nie", "prawda fałsz"), "Czech": ("ano ne",), "Slovak": ("áno nie",),
    "Hungarian": ("igen nem", "igaz hamis"), "Romanian": ("da nu",), "Croatian": ("da ne",),
    "Turkish": ("evet hayır", "evet hayir"), "Greek": ("ναι όχι", "ναι οχι"),
    "Russian": ("да нет",), "Ukrainian": ("так ні",), "Bulgarian": ("да не",),
    "Japanese": ("はい いいえ",), "Chinese": ("是 否",), "Korean": ("예 아니요", "네 아니요"),
    "Arabic": ("نعم لا",), "Hindi": ("हाँ नहीं",), "Indonesian": ("ya tidak",), "Vietnamese": ("có không",),
}  # fmt: skip
"""A language's words for yes and no: the first says so only against the second."""
UNKNOWN = ("unknown", "?", "n/a", "na", "nan", "none", "null", "missing", "-", "pending", "open")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelGuess:
    """The label's settings.

    Attributes:
        table: the table that it is in. column: its column there.
        kind: of the label. unknown: values that mean that there is no label.
        positive: None: as the column has it, true or 1. above: positive is what is greater.
        language: of the words for yes and no that told which is positive; empty: none did.
    """

    table: TableFacts
    column: ColumnFacts
    kind: Guess[LabelKind]
    positive: Guess[tuple[str, ...] | None]
    unknown: Guess[tuple[str, ...] | None]
    above: str = ""
    language: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """As the project file has them, without the time when the label is known."""
        given = {
            "column": self.column.name,
            "kind": self.kind.value,
            "positive": self.positive.value,
            "unknown": self.unknown.value,
            "above": self.above or None,
        }
        return {name: value for name, value in given.items() if value is not None}


def find_label(tables: list[TableFacts], answers: Answers) -> tuple[TableFacts, ColumnFacts]:
    """The table and the column that are predicted.

    Raises:
        ProjectError: no table has the column.
        Question: several have it.
    """
    asked = [t for t in tables if not answers.table or t.name == answers.table]
    if not asked:
        raise ProjectError(
            f"--table {answers.table}: there is no such table. There are:"
            f" {', '.join(table.name for table in tables)}."
            f"{nearest(answers.table, [table.name for table in tables])}"
        )
    found = [(table, column) for table in asked if (column := table.find(answers.label))]
    if not found:
        raise no_such_column("label", answers.label, asked)
    if len(found) > 1:
        names = tuple(table.name for table, _ in found)
        raise Question("table", f"Several tables have a column {answers.label}.", names)
    table, column = found[0]
    if column.is_time:
        raise ProjectError(
            f"--label {answers.label}: the column holds times, which are no label. Name a column with"
            " what happened."
        )
    if column.distinct < 2:
        held = "no value at all" if not column.distinct else f"only the value {_text(column, 0)}"
        raise ProjectError(
            f"--label {answers.label}: the column has {held} in {column.rows:,} rows, so there is"
            " nothing to learn. Name another column."
        )
    return table, column


def guess_label(table: TableFacts, column: ColumnFacts, answers: Answers) -> LabelGuess:
    """Of which kind the label is, and what its values mean.

    Raises:
        Question: two values of which nobody knows which is positive.
        ProjectError: an answer does not fit the column.
    """
    unknown = _unknown(column, answers)
    known = [value for value, _ in column.common if value not in (unknown.value or ())]
    several = column.distinct - len(unknown.value or ())
    kind = _kind(table, column, several, answers)
    positive: Guess[tuple[str, ...] | None] = Guess(value=None, reason="")
    language = ""
    if kind.value == "binary" and not answers.above:
        positive = _positive(column, known, answers)
        language = "" if answers.positive else _language_of(column, known)
    return LabelGuess(
        table=table,
        column=column,
        kind=kind,
        positive=positive,
        unknown=unknown,
        above=_above(column, answers),
        language=language,
    )


def _kind(
    table: TableFacts, column: ColumnFacts, several: int, answers: Answers
) -> Guess[LabelKind]:
    change = "Change: --kind, one of binary, multiclass, number"
    if answers.kind:
        if answers.kind not in KINDS:
            raise ProjectError(f"--kind {answers.kind}: it is one of {', '.join(KINDS)}.")
        kind = next(kind for kind in KINDS if kind == answers.kind)
        _require_kind(column, kind, several)
        return Guess(value=kind, reason="As --kind says")
    if answers.above or answers.positive:
        flag = "--above" if answers.above else "--positive"
        return Guess(value="binary", reason=f"As {flag} makes of it")
    name = column.source
    if several == 2:
        return Guess(value="binary", reason=f"{name} has two values", change=change)
    if column.is_text:
        if several > max(MOST_CLASSES, column.rows // 50):
            raise ProjectError(
                f"--label {name}: the column is text with {several:,} different values in"
                f" {column.rows:,} rows, more an id than a class. Name another column, or the values"
                " that are positive with --positive, or say --kind multiclass."
                f"{_if_numbers(table, column)}"
            )
        guess = _classes(column, several, change)
        said = _if_numbers(table, column).strip().rstrip(".")
        return replace(guess, warnings=(*guess.warnings, f"{name}: {said}")) if said else guess
    if column.dtype.is_integer() and several <= MOST_CLASSES:
        guess = _classes(column, several, change)
        text = (
            f"{name} has {several} whole numbers, taken for classes without an order; if they are"
            " amounts or grades, say --kind number"
        )
        return Guess(value="multiclass", reason=guess.reason, change=change, warnings=(text,))
    if is_id(column):
        raise Question(
            "kind",
            f"--label {name}: the column is named as an id, with {several:,} different whole numbers in"
            f" {column.rows:,} rows, and no model tells an id. Name another column; if it is an amount"
            " or a class, say so.",
            ("number", "multiclass"),
        )
    if column.dtype.is_numeric():
        return Guess(
            value="number", reason=f"{name} has {several:,} different numbers", change=change
        )
    raise ProjectError(f"--label {name}: the column is of type {column.dtype}, which is no label.")


def _if_numbers(table: TableFacts, column: ColumnFacts) -> str:
    """What to say of a text of numbers, such as `3` beside `3.0`, which ingest does not take for them."""
    if two := in_two_ways(table, column):
        return (
            f" Its values are numbers that the file does not write in one way, as {' beside '.join(two)}:"
            " to predict the number, say --kind number."
        )
    if is_amount(column):
        return f" It looks like a number, and is text: {why_text(table, column)}."
    return ""


def _classes(column: ColumnFacts, several: int, change: str) -> Guess[LabelKind]:
    rare = [
        f"{_text(column, i)} ({n})" for i, (_, n) in enumerate(column.common) if n < MIN_CLASS_ROWS
    ]
    warnings = (
        (
            f"classes of {column.source} with fewer than {MIN_CLASS_ROWS} rows cannot be learnt:"
            f" {', '.join(rare)}. Merge them at the source, or name them under features.label.unknown",
        )
        if rare
        else ()
    )
    reason = f"{column.source} has {several} different values"
    return Guess(value="multiclass", reason=reason, change=change, warnings=warnings)


def _require_kind(column: ColumnFacts, kind: LabelKind, several: int) -> None:
    """Refuses a kind that the column's values cannot be of."""
    if kind == "number" and not column.dtype.is_numeric():
        raise ProjectError(f"--kind number: {column.source} {_held(column)}, no numbers.")
    if kind == "binary" and several > 2:
        raise Question(
            "positive",
            f"{column.source} has {several:,} different values: which are positive?",
            tuple(_text(column, i) for i in range(min(len(column.common), 8))),
        )


def _positive(
    column: ColumnFacts, known: list[object], answers: Answers
) -> Guess[tuple[str, ...] | None]:
    counts = {value_text(value): rows for value, rows in column.common}
    if answers.positive:
        missing = [value for value in answers.positive if value not in counts]
        if missing and column.distinct <= len(counts):
            shown = ", ".join(list(counts)[:8])
            raise ProjectError(
                f"--positive {missing[0]}: {column.source} has no such value. It has: {shown}."
            )
        return Guess(value=answers.positive, reason="As --positive says")
    texts = [value_text(value) for value in known]
    shares = ", ".join(f"{text} in {counts[text]:,} rows" for text in texts)
    if not column.is_text and set(known) == {0, 1}:
        told = "true" if str(column.dtype) == "Boolean" else "1"
        return Guess(value=None, reason=f"positive is {told} ({shares})")
    for one, other in (texts, texts[::-1]):
        word, against = one.strip().lower(), other.strip().lower()
        happened = word in POSITIVE and against not in POSITIVE
        if column.is_text and (happened or (word in PAIRED and against in NEGATIVE)):
            reason = f"{one} and not {other} ({shares})"
            return Guess(value=(one,), reason=reason, change=f"Change: --positive {_quoted(other)}")
        if column.is_text and (language := _speaks(word, against)):
            reason = f"{one} and not {other}, {language} for yes and no ({shares})"
            return Guess(value=(one,), reason=reason, change=f"Change: --positive {_quoted(other)}")
    raise Question("positive", f"Which value of {column.source} is positive?", tuple(texts))


def _speaks(yes: str, no: str) -> str:
    """The first language in which two words are yes and no; empty: in none that is known."""
    pair = unicodedata.normalize("NFC", f"{yes} {no}")
    return next((language for language, pairs in YES_AND_NO.items() if pair in pairs), "")


def _language_of(column: ColumnFacts, known: list[Any]) -> str:
    """The language of a column's two words for yes and no; empty: they are none, or English."""
    if not column.is_text or len(known) != 2:
        return ""
    one, other = (value_text(value).strip().lower() for value in known)
    return _speaks(one, other) or _speaks(other, one)


def _quoted(text: str) -> str:
    return f"'{text}'" if not text.isalnum() else text


def _unknown(column: ColumnFacts, answers: Answers) -> Guess[tuple[str, ...] | None]:
    """Texts that say that there is no label: left out where two values or more remain."""
    found = tuple(
        value
        for value, _ in column.common
        if isinstance(value, str)
        and value.strip().lower() in UNKNOWN
        and value not in answers.positive
    )
    if not column.is_text or not found or column.distinct - len(found) < 2:
        return Guess(value=None, reason="")
    rows = sum(count for value, count in column.common if value in found)
    return Guess(
        value=found,
        reason=f"{rows:,} rows say that they have no label",
        change="Leave it out to make it a class",
    )


def _above(column: ColumnFacts, answers: Answers) -> str:
    if not answers.above:
        return ""
    try:
        float(answers.above)
    except ValueError as error:
        try:
            parse_duration(answers.above)
        except ValueError:
            raise ProjectError(
                f"--above {answers.above}: give a number, or for durations one such as 15m."
            ) from error
        return answers.above
    if not column.dtype.is_numeric():
        raise ProjectError(f"--above {answers.above}: {column.source} {_held(column)}, no numbers.")
    return answers.above


def _held(column: ColumnFacts) -> str:
    """What a column that is not of numbers holds, with its commonest value."""
    if not column.common:
        return "has no values"
    if column.is_text:
        return f"holds texts, as {_text(column, 0)!r}"
    return f"holds {'times' if column.is_time else 'booleans'}"


def _text(column: ColumnFacts, number: int) -> str:
    return value_text(column.common[number][0])
