"""Which values are positive, what is asked, and what is refused."""

import re
from pathlib import Path

import polars as pl
import pytest
from support.own_tables import draft_of, orders

from slipway.components.support.errors import ProjectError
from slipway.local.guess.guess import Answers, Question
from slipway.local.guess.labels import LabelGuess, guess_label
from slipway.local.guess.tables.facts import read_tables


def label_of(folder: Path, values: list[object], **answers: object) -> LabelGuess:
    """The label guess of a column of these values."""
    path = folder / "table.parquet"
    pl.DataFrame({"y": values, "x": range(len(values))}).write_parquet(path)
    (table,) = read_tables([str(path)])
    return guess_label(table, table.columns["y"], Answers(label="y", **answers))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "kind", "positive", "unknown"),
    [
        (["yes"] * 30 + ["no"] * 70, "binary", ("yes",), None),
        (["Y"] * 60 + ["N"] * 40, "binary", ("Y",), None),
        (["malignant"] * 30 + ["benign"] * 70, "binary", ("malignant",), None),
        (["fraud"] * 3 + ["whatever"] * 97, "binary", ("fraud",), None),
        ([True] * 30 + [False] * 70, "binary", None, None),
        ([1] * 30 + [0] * 70, "binary", None, None),
        ([1.0] * 30 + [0.0] * 70, "binary", None, None),
        (["yes"] * 30 + ["no"] * 60 + ["unknown"] * 10, "binary", ("yes",), ("unknown",)),
        (["a"] * 40 + ["b"] * 30 + ["c"] * 30, "multiclass", None, None),
        (["a"] * 40 + ["b"] * 30 + ["c"] * 20 + ["?"] * 10, "multiclass", None, ("?",)),
        ([3] * 40 + [4] * 30 + [5] * 30, "multiclass", None, None),
        ([number / 7 for number in range(100)], "number", None, None),
        (list(range(100)), "number", None, None),
    ],
)
def test_kind_positive_and_unknown(
    tmp_path: Path,
    values: list[object],
    kind: str,
    positive: tuple[str, ...] | None,
    unknown: tuple[str, ...] | None,
) -> None:
    guess = label_of(tmp_path, values)
    assert (guess.kind.value, guess.positive.value, guess.unknown.value) == (
        kind,
        positive,
        unknown,
    )


@pytest.mark.parametrize(
    ("yes", "no", "language"),
    [
        ("ja", "nein", "German"), ("Oui", "Non", "French"), ("sí", "no", "Spanish"),
        ("s\u0069\u0301", "no", "Spanish"), ("sim", "não", "Portuguese"), ("tak", "nie", "Polish"),
        ("да", "нет", "Russian"), ("はい", "いいえ", "Japanese"), ("Evet", "Hayır", "Turkish"),
        ("da", "nu", "Romanian"), ("yes", "no", ""),
    ],
)  # fmt: skip
def test_yes_and_no_of_other_languages(tmp_path: Path, yes: str, no: str, language: str) -> None:
    """Whichever is the commoner, and what it was taken for is said."""
    for values in ([yes] * 30 + [no] * 70, [yes] * 70 + [no] * 30):
        guess = label_of(tmp_path, values)
        assert (guess.positive.value, guess.language) == ((yes,), language)
        assert (f"{language} for yes and no" in guess.positive.reason) == bool(language)
    assert label_of(tmp_path, values, positive=(no,)).language == ""


@pytest.mark.parametrize("values", [["ja", "no"] * 50, ["si", "nein"] * 50, ["ne", "nu"] * 50])
def test_words_of_two_languages_are_asked_for(tmp_path: Path, values: list[object]) -> None:
    with pytest.raises(Question, match="Which value of y is positive"):
        label_of(tmp_path, values)


@pytest.mark.parametrize(
    "values", [[1] * 70 + [2] * 30, ["red"] * 50 + ["blue"] * 50, [-1, 1] * 50]
)
def test_what_nobody_knows_is_asked(tmp_path: Path, values: list[object]) -> None:
    with pytest.raises(Question, match="Which value of y is positive") as caught:
        label_of(tmp_path, values)
    assert caught.value.answer == "positive"
    assert set(caught.value.choices) == {str(value) for value in values}
    assert str(caught.value).endswith("Say it with --positive.")
    chosen = str(values[-1])
    assert label_of(tmp_path, values, positive=(chosen,)).positive.value == (chosen,)


@pytest.mark.parametrize(
    ("values", "answers", "said"),
    [
        (
            ["yes", "no"] * 50,
            {"positive": ("maybe",)},
            "--positive maybe: y has no such value. It has: no, yes",
        ),
        (
            ["yes", "no"] * 50,
            {"kind": "number"},
            "--kind number: y holds texts, as 'no', no numbers",
        ),
        (["yes", "no"] * 50, {"kind": "ordinal"}, "it is one of binary, multiclass, number"),
        (["yes", "no"] * 50, {"above": "3"}, "--above 3: y holds texts, as 'no', no numbers"),
        ([1.5, 2.5] * 50, {"above": "much"}, "--above much: give a number"),
        ([f"name {n}" for n in range(100)], {}, "100 different values"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(
    tmp_path: Path, values: list[object], answers: dict[str, object], said: str
) -> None:
    with pytest.raises(ProjectError, match=re.escape(said)):
        label_of(tmp_path, values, **answers)


def test_a_number_becomes_two_classes_by_above(tmp_path: Path) -> None:
    table = orders().with_columns(pl.col("amount").alias("spent"))
    draft = draft_of(
        tmp_path, {"orders.csv": table}, Answers(label="amount", above="30", exclude=("spent",))
    )
    assert draft.label.kind.value == "binary"
    share = float((table["amount"] > 30).mean())
    assert draft.trial.class_rows["1"] / draft.trial.rows["test"] == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (Answers(label="retruned"), "Did you mean returned?"),
        (
            Answers(label="returned", table="shops"),
            "--table shops: there is no such table. There are: orders",
        ),
        (Answers(label="constant"), "the column has only the value x in 1,200 rows"),
        (Answers(label="empty"), "the column has no value at all in 1,200 rows"),
        (Answers(label="placed_at"), "holds times, which are no label"),
    ],
)
def test_a_label_that_is_none_is_refused(tmp_path: Path, answers: Answers, said: str) -> None:
    table = orders().with_columns(constant=pl.lit("x"), empty=pl.lit(None, pl.String))
    with pytest.raises(ProjectError, match=re.escape(said)):
        draft_of(tmp_path, {"orders.parquet": table}, answers)


def test_a_column_of_several_tables_is_asked_for(tmp_path: Path) -> None:
    tables = {"orders.csv": orders(), "older.csv": orders(seed=8)}
    with pytest.raises(Question) as caught:
        draft_of(tmp_path, tables, Answers(label="returned"))
    assert (caught.value.answer, caught.value.choices) == ("table", ("orders", "older"))


@pytest.mark.parametrize("name", ["order_id", "caseId", "policy_no", "store key"])
def test_an_id_is_no_number_to_predict_unless_somebody_says_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / "table.csv"
    pl.DataFrame({name: range(500, 700), "x": [n % 7 for n in range(200)]}).write_csv(path)
    (table,) = read_tables([str(path)])
    column = table.find(name)
    assert column is not None
    with pytest.raises(Question, match=f"--label {name}: the column is named as an id") as caught:
        guess_label(table, column, Answers(label=name))
    assert caught.value.answer == "kind"
    assert str(caught.value).endswith("One of: number, multiclass. Say it with --kind.")
    assert guess_label(table, column, Answers(label=name, kind="number")).kind.value == "number"
