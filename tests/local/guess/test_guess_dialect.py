"""How a csv file is written is seen in it; what cannot be seen is left and said."""

from pathlib import Path

import polars as pl
import pytest
from support.own_tables import orders

from slipway.components.config.data import Csv
from slipway.components.ingest.sources import locate
from slipway.local.guess.dialect import find_dialect
from slipway.local.guess.draft import make_draft
from slipway.local.guess.facts import read_tables
from slipway.local.guess.guess import Answers
from slipway.local.guess.write import project_files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,x\n2,y\n", None),
        ("a\n1\n2\n", None),
        ('a,b\n1,"x;y;z"\n2,"p;q;r"\n', None),
        ("a;b\n1;x\n2;y\n", Csv(separator=";")),
        ("a\tb\n1\tx, y\n2\tz, w\n", Csv(separator="\t")),
        ("a|b\n1|x\n2|y\n", Csv(separator="|")),
        ("a;b\n1,5;x\n2,25;y\n", Csv(separator=";", decimal=",")),
        ("a;b\n1.234,50;x\n2,25;y\n", Csv(separator=";", decimal=",")),
        ("a;b\n1,5 kg;x\n2;y\n", Csv(separator=";")),
        ("a;b\n1.5;x\n2.5;y\n", Csv(separator=";")),
        ("a,t\n1,31/12/2024\n2,01/02/2024\n", Csv(dates=("%d/%m/%Y",))),
        ("a,t\n1,12/31/2024\n2,01/02/2024\n", Csv(dates=("%m/%d/%Y",))),
        ("a,t\n1,2024/12/31\n2,2024/01/02\n", Csv(dates=("%Y/%m/%d",))),
        ("a,t\n1,01.02.2024 14:30\n2,03.04.2024 08:05\n", Csv(dates=("%d.%m.%Y %H:%M",))),
        ("a,t\n1,2024-12-31\n2,2024-01-02\n", None),
        # Day or month first: nobody can tell.
        ("a,t\n1,01/02/2024\n2,03/04/2024\n", None),
        ("a,t\n1,31/12/2024\n2,12/31/2024\n", None),
    ],
)
def test_what_is_seen(tmp_path: Path, text: str, expected: Csv | None) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert find_dialect(locate("a", str(tmp_path / "a.csv"), "csv")) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("cp1252", "cp1252"), ("utf-16", "utf-16")],
)
def test_encodings(tmp_path: Path, encoding: str, expected: str) -> None:
    # The letter that tells comes late.
    text = "a;b\n" + "1;x\n" * 100_000 + "2;ü\n"
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    found = find_dialect(locate("a", str(tmp_path / "a.csv"), "csv"))
    assert found == Csv(separator=";", encoding=expected)


def test_a_spreadsheet_of_another_country_becomes_a_project(tmp_path: Path) -> None:
    rows = orders().with_columns(
        pl.col("placed_at").dt.strftime("%d.%m.%Y %H:%M"),
        pl.col("amount").map_elements(lambda v: f"{v:.2f}".replace(".", ","), pl.String),
        ort=pl.lit("Köln").reshape((1,)).extend_constant("Düren", 1199).reshape((1200,)),
    )
    path = tmp_path / "orders.csv"
    path.write_bytes(rows.write_csv(separator=";").encode("cp1252"))
    draft = make_draft(read_tables([str(path)]), Answers(label="returned"))
    plain = make_draft(read_tables([str(_plain(tmp_path))]), Answers(label="returned"))
    assert draft.moments.time.value == "placed_at"
    assert draft.fields.found[1].values.to_list() == plain.fields.found[1].values.to_list()
    text = project_files(draft, tmp_path)["project.yaml"]
    for line in ("separator: ;", "encoding: cp1252", "decimal: ','", "dates: ['%d.%m.%Y %H:%M']"):
        assert line in text, text


def _plain(folder: Path) -> Path:
    (folder / "plain").mkdir()
    orders().write_csv(folder / "plain/orders.csv")
    return folder / "plain/orders.csv"
