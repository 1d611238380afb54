"""Csv as spreadsheets of other countries write it: declared, read exactly, or refused by name."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slipway.components.support.errors import SlipwayError

GERMAN = (
    "Stück;Preis;Größe;Code;bestellt;geliefert;Ort\n"
    "1;1.234,50;groß;007;31.12.2024;02.01.2025 14:30;Köln\n"
    "2;0,99;klein;1,5a;01.02.2024;03.01.2025 08:05;\n"
    "1.000;-12,00;groß;3;15.06.2024;;Düren\n"
)
DIALECT = {
    "separator": ";", "encoding": "cp1252", "decimal": ",",
    "dates": ["%d.%m.%Y", "%d.%m.%Y %H:%M"],
}  # fmt: skip


@pytest.fixture
def read(tmp_path: Path, ingest: Any) -> Any:
    """Ingests one file's bytes; gives its rows."""

    def run(content: bytes, **table: Any) -> pl.DataFrame:
        (tmp_path / "lake/events").mkdir(parents=True, exist_ok=True)
        (tmp_path / "lake/events/a.csv").write_bytes(content)
        ingest(**{"format": "csv", "time": None, **table})
        return pl.read_parquet(tmp_path / "out/events/*.parquet")

    return run


def test_a_german_table(read: Any) -> None:
    rows = read(GERMAN.encode("cp1252"), csv=DIALECT)
    assert rows["Stück"].to_list() == [1, 2, 1000]
    assert rows["Preis"].to_list() == [1234.5, 0.99, -12.0]
    assert rows["Größe"].to_list() == ["groß", "klein", "groß"]
    # Not all of them are numbers, so none is changed.
    assert rows["Code"].to_list() == ["007", "1,5a", "3"]
    assert rows["bestellt"].to_list() == [date(2024, 12, 31), date(2024, 2, 1), date(2024, 6, 15)]
    assert rows["geliefert"].to_list() == [
        datetime(2025, 1, 2, 14, 30), datetime(2025, 1, 3, 8, 5), None,
    ]  # fmt: skip
    assert rows["Ort"].to_list() == ["Köln", None, "Düren"]


def test_a_date_in_a_format_cuts_the_window(read: Any) -> None:
    dialect = {**DIALECT, "encoding": "utf-8"}
    rows = read(GERMAN.encode(), csv=dialect, time="bestellt", start="2024-02-01", end="2024-12-01")
    assert rows["bestellt"].dt.date().to_list() == [date(2024, 2, 1), date(2024, 6, 15)]


@pytest.mark.parametrize(
    ("separator", "encoding"),
    [("\t", "utf-8"), ("|", "utf-16"), (";", "shift_jis"), (",", "utf-8-sig")],
)
def test_separators_and_encodings(read: Any, separator: str, encoding: str) -> None:
    text = "a,名前,b\n1,東京,2.5\n2,大阪,3.25\n".replace(",", separator)
    rows = read(text.encode(encoding), csv={"separator": separator, "encoding": encoding})
    assert rows.rows() == [(1, "東京", 2.5), (2, "大阪", 3.25)]


def test_american_days_are_what_is_said(read: Any) -> None:
    text = b"t\n02/03/2024\n12/31/2024\n"
    rows = read(text, csv={"dates": ["%m/%d/%Y"]})
    assert rows["t"].to_list() == [date(2024, 2, 3), date(2024, 12, 31)]
    assert read(text, csv={"dates": ["%d/%m/%Y"]})["t"].dtype == pl.String


def test_a_number_with_a_point_is_none_where_commas_are_decimal(read: Any) -> None:
    rows = read(b"x;y\n1.5;1,5\n2.25;2\n", csv={"separator": ";", "decimal": ","})
    assert rows["x"].to_list() == ["1.5", "2.25"]
    assert rows["y"].to_list() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("content", "table", "said"),
    [
        ("a;b\n1;ü\n".encode("cp1252"), {"csv": {"separator": ";"}}, r"`csv: \{encoding: cp1252\}`"),
        (b"a;b\n1;\x81\n", {"csv": {"separator": ";", "encoding": "cp1252"}}, "is not cp1252 text"),
        (b"a\n1\n", {"csv": {"encoding": "klingon"}}, "'klingon' is no encoding that Python knows"),
        (b"a\n1\n", {"csv": {"dates": ["%d.%m"]}}, "does not say day"),
        (b"a\n1,5\n2.5\n", {"csv": {"decimal": ",", "separator": ";"}, "types": {"a": "number"}},
         "'2.5' is no number with a decimal comma"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    read: Any, content: bytes, table: dict[str, Any], said: str
) -> None:
    with pytest.raises(SlipwayError, match=said):
        read(content, **table)


def test_only_csv_has_a_dialect(read: Any) -> None:
    with pytest.raises(SlipwayError, match="`csv` says how csv files are written"):
        read(b"", csv={"separator": ";"}, format="jsonl")


DAYS = [f"{number % 28 + 1:02d}/{number % 12 + 1:02d}/2024" for number in range(60)]


@pytest.mark.parametrize(
    ("lines", "csv", "said"),
    [
        (
            [*DAYS[:41], "n.a.", *DAYS[41:]],
            {"dates": ["%d/%m/%Y"]},
            "'n.a.' in row 42 of {file} is no time (%d/%m/%Y). Write it so, or leave it empty",
        ),
        (
            # No parser may make it the second of March.
            [*DAYS[:41], "31/02/2024", *DAYS[41:]],
            {"dates": ["%d/%m/%Y"]},
            "'31/02/2024' in row 42 of {file} is no time (%d/%m/%Y). Write it so",
        ),
        (
            ["2024-13-45", *(f"2024-01-{n % 28 + 1:02d}" for n in range(60))],
            {},
            "'2024-13-45' in row 1 of {file} is no time (as 2024-12-31 or 2024-12-31T23:59:00Z).",
        ),
        (
            DAYS,
            {},
            "Its times, as '01/01/2024', are not written as 2024-12-31 or 2024-12-31T23:59:00Z: say how"
            " they are, as in `csv: {{dates: ['%d/%m/%Y %H:%M']}}`.",
        ),
        (DAYS, {"dates": ["%d.%m.%Y"]}, "a timestamp or a date. Its times, as '01/01/2024'"),
    ],
)
def test_a_bad_date_is_named_with_its_row(
    lines: list[str], csv: dict[str, Any], said: str, read: Any, tmp_path: Path
) -> None:
    text = "\n".join(["id,day", *(f"{n},{line}" for n, line in enumerate(lines))])
    with pytest.raises(SlipwayError) as refused:
        read(text.encode(), csv=csv, time="day")
    wanted = said.format(file=tmp_path / "lake/events/a.csv")
    assert wanted in str(refused.value)
    assert "leave `time:` out" not in str(refused.value)


@pytest.mark.parametrize("kind", ["date", "number", "integer"])
def test_a_value_that_is_not_as_declared_is_named_with_its_row(read: Any, kind: str) -> None:
    good = {"date": "2024-01-31", "number": "1.5", "integer": "7"}[kind]
    lines = [good] * 70_000  # more than a batch
    lines[66_001] = "so"
    text = "\n".join(["day,id", *(f"{line},1" for line in lines)])
    with pytest.raises(SlipwayError, match=rf"'so' is no {kind}.* \(row 66,002\)"):
        read(text.encode(), types={"day": kind})


def test_a_day_of_each_month_s_end_is_read(read: Any) -> None:
    days = [date(2024, 2, 29), date(2024, 3, 1), date(2024, 12, 31), date(2023, 3, 3)]
    for form in ("%d/%m/%Y", "%m-%d-%Y", "%Y.%m.%d", "%d. %m. %Y %H:%M:%S"):
        text = "\n".join(["id,day", *(f"1,{day.strftime(form)}" for day in days)])
        rows = read(text.encode(), csv={"dates": [form]})
        assert [getattr(d, "date", lambda d=d: d)() for d in rows["day"]] == days
    unpadded = "id,day\n1,1/3/2024\n1,31/1/2024\n"
    rows = read(unpadded.encode(), csv={"dates": ["%d/%m/%Y"]})
    assert rows["day"].to_list() == [date(2024, 3, 1), date(2024, 1, 31)]
    rows = read(b"id,day\n1,30/02/2024\n1,31/01/2024\n", csv={"dates": ["%d/%m/%Y"]})
    assert rows["day"].to_list() == ["30/02/2024", "31/01/2024"]
