"""Classes, numbers, and rows without a time: tables that scikit-learn carries."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.own_tables import bundled, draft_of, orders

from slipway.components.support.errors import ProjectError
from slipway.local.guess.draft import Draft
from slipway.local.guess.guess import Answers
from slipway.local.guess.write import project_files


def draft(folder: Path, table: pl.DataFrame, label: str = "target", **answers: object) -> Draft:
    """What is guessed of a table; it makes a project that loads."""
    made = draft_of(folder, {"rows.csv": table}, Answers(label=label, **answers))  # type: ignore[arg-type]
    assert project_files(made, folder)["project.yaml"]
    return made


@pytest.mark.parametrize(
    ("name", "kind", "positive", "gate"),
    [
        ("iris", "multiclass", None, {"accuracy": 0.62, "f1": 0.51, "auc": 0.75}),
        ("wine", "multiclass", None, {"accuracy": 0.65, "f1": 0.55, "auc": 0.75}),
        ("breast_cancer", "binary", ("malignant",), {"accuracy": 0.74, "f1": 0.74, "auc": 0.74}),
        ("diabetes", "number", None, {"metrics.r2.min": 0.2}),
    ],
)
def test_tables_that_packages_carry(
    tmp_path: Path, name: str, kind: str, positive: tuple[str, ...] | None, gate: dict[str, float]
) -> None:
    made = draft(tmp_path, bundled(name))
    assert (made.label.kind.value, made.label.positive.value) == (kind, positive)
    assert (made.moments.time.value, made.key.value) == (None, ())
    assert made.split.split.value == {"method": "random", "validation": 0.15, "test": 0.2}
    values = {setting: guess.value for setting, guess in made.gate.gate.items()}
    assert {setting: values.get(setting) for setting in gate} == gate
    assert ("min_class_rows" in values) == (kind != "number")
    assert ("alerts.accuracy" in made.gate.monitoring) == (kind != "number")
    # So few rows make an error of .1 by chance alone: the gate would refuse what is right.
    bound = values.get("calibration_error", 0.1)
    assert (bound > 0.1) == (kind != "number") and bound < 0.4
    # The test rows are the requests: with 200 asked for, none of these would be judged.
    least = made.gate.monitoring["min_rows"].value
    assert least == max(made.trial.rows["test"] // 2, 20)


@pytest.mark.parametrize(("noise", "said"), [(0.5, True), (5.0, False)])
def test_a_number_that_is_the_sum_of_its_columns_is_too_good_to_be_true(
    tmp_path: Path, noise: float, said: bool
) -> None:
    draw = np.random.default_rng(0)
    fare, tip = draw.gamma(4, 3, 900), draw.gamma(3, 3, 900)
    total = fare + tip + draw.normal(0, noise, 900)
    made = draft(tmp_path, pl.DataFrame({"fare": fare, "tip": tip, "total": total}), "total")
    assert made.label.kind.value == "number"
    told = "too good to be true: a linear regression explains R² 0.99"
    assert any(warning.startswith(told) for warning in made.warnings) == said


def test_a_large_table_without_times_is_monitored_as_any(tmp_path: Path) -> None:
    table = pl.concat([bundled("breast_cancer")] * 4).with_row_index("n")
    made = draft(tmp_path, table)
    assert made.moments.time.value is None and made.trial.rows["test"] > 250
    assert "min_rows" not in made.gate.monitoring
    assert "calibration_error" not in made.gate.gate


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("iris", "calibrate it;"),
        ("breast_cancer", "choose its threshold;"),
        ("diabetes", "make its intervals;"),
    ],
)
def test_the_split_says_what_the_validation_part_is_for(
    tmp_path: Path, name: str, use: str
) -> None:
    table = bundled(name)
    day = pl.Series(np.random.default_rng(0).integers(0, 400, len(table)))
    made = draft(tmp_path, table.with_columns(day=pl.date(2024, 1, 1) + pl.duration(days=day)))
    assert made.moments.time.value == "day"
    assert f"the 15% before them {use} a split by time" in made.split.split.reason


def test_the_bound_of_a_number_that_nothing_tells_is_the_mean(tmp_path: Path) -> None:
    noise = pl.Series(np.random.default_rng(0).normal(size=442))
    made = draft(tmp_path, bundled("diabetes").with_columns(target=noise))
    bound = made.gate.gate["metrics.r2.min"]
    assert bound.value == 0
    assert bound.reason.endswith("this asks only to be better than the mean")
    assert "threshold" not in f"{bound.reason} {bound.change}"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (pl.col("target") + "!", "accuracy 1.000"),
        (pl.col("target").rank("dense").cast(pl.Float64) * 1.5, "accuracy 1.000"),
    ],
)
def test_a_copy_of_the_class_is_named(tmp_path: Path, expression: pl.Expr, said: str) -> None:
    made = draft(tmp_path, bundled("iris").with_columns(copy=expression))
    assert f"LEAK: copy alone tells target ({said})" in " ".join(made.warnings)
    assert "copy" not in [field.name for field in made.fields.found]


@pytest.mark.parametrize("scale", [1.19, -3.0])
def test_a_copy_of_the_number_is_named(tmp_path: Path, scale: float) -> None:
    noise = pl.Series(np.random.default_rng(0).normal(size=442))
    made = draft(tmp_path, bundled("diabetes").with_columns(gross=pl.col("target") * scale + noise))
    assert "LEAK: gross alone tells target (R² " in " ".join(made.warnings)
    assert "gross" not in [field.name for field in made.fields.found]


def test_no_column_of_an_honest_table_is_called_a_leak(tmp_path: Path) -> None:
    for name in ("iris", "wine", "diabetes"):
        made = draft(tmp_path, bundled(name))
        assert not any("LEAK" in warning for warning in made.warnings), made.warnings


def test_a_rare_class_without_time_is_drawn_in_equal_shares(tmp_path: Path) -> None:
    table = bundled("breast_cancer")
    rare = table.filter((pl.col("target") == "benign") | (pl.int_range(pl.len()) % 8 == 0))
    assert draft(tmp_path, rare).split.split.value["method"] == "stratified"


def test_what_comes_back_is_drawn_as_a_whole(tmp_path: Path) -> None:
    table = orders().drop("placed_at")
    made = draft(tmp_path, table, "returned")
    assert made.split.split.value == {
        "method": "group", "by": "customer_id", "validation": 0.15, "test": 0.2,
    }  # fmt: skip
    assert made.histories == ()


def test_texts_that_look_like_dates_are_said_not_to_be_read(tmp_path: Path) -> None:
    # No day is after the twelfth, so nothing tells whether it comes first.
    table = orders().filter(pl.col("placed_at").dt.day() <= 12)
    table = table.with_columns(placed_at=pl.col("placed_at").dt.strftime("%d/%m/%Y"))
    made = draft(tmp_path, table, "returned")
    assert made.moments.time.value is None
    assert any(
        "no part of '01/01/2024' or another is greater than 12" in text for text in made.warnings
    )


def test_a_class_too_rare_to_learn_is_refused_as_training_would(tmp_path: Path) -> None:
    table = bundled("iris").with_columns(
        target=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("odd")).otherwise("target")
    )
    with pytest.raises(ProjectError, match=r"fewer than 10 rows: odd \(3 rows\)"):
        draft(tmp_path, table)


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        (lambda n: {"line_id": pl.Series(np.arange(n) // 2)}, (), ""),
        (lambda n: {"order_id": pl.Series(np.arange(n) // 3), "line_no": pl.Series(np.arange(n) % 3)},
         ("order_id", "line_no"), ""),
        # Nearly all orders have one line: it is the line's number that names the others.
        (lambda n: {"order_id": pl.Series(np.where(np.arange(n) < 9, np.arange(n) // 3, np.arange(n))),
                    "line_no": pl.Series(np.where(np.arange(n) < 9, np.arange(n) % 3, 0))},
         ("order_id", "line_no"), "order_id looks like the key of rows, but 6 of 1,200 rows repeat"),
        (lambda n: {"line_id": pl.Series(np.where(np.arange(n) < 5, 0, np.arange(n)))}, (),
         "line_id looks like the key of rows, but 4 of 1,200 rows repeat another's"),
        (lambda n: {"uuid": pl.Series([f"{i:08x}" for i in range(n)])}, ("uuid",), ""),
    ],
)  # fmt: skip
def test_what_names_a_row(tmp_path: Path, keys: object, key: tuple[str, ...], said: str) -> None:
    table = orders().drop("order_id", "customer_id")
    made = draft(tmp_path, table.with_columns(**keys(table.height)), "returned")  # type: ignore[operator]
    assert made.key.value == key
    assert any(said in warning for warning in made.warnings)


def test_repeated_rows_are_said(tmp_path: Path) -> None:
    table = orders().drop("order_id")
    made = draft(tmp_path, pl.concat([table, table[:60]]), "returned")
    assert any("60 of 1,260 rows of rows are exact copies" in text for text in made.warnings)
