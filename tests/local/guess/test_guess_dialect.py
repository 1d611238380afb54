"""How a csv file is written is seen in it; what cannot be seen is left and said."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from support.own_tables import orders

from slipway.components.config.data import Csv, Table, Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.features.split import part_of
from slipway.components.ingest.reader import TableReader
from slipway.components.ingest.sources import locate
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.local.guess.draft import make_draft
from slipway.local.guess.guess import Answers
from slipway.local.guess.tables.dialect import find_dialect
from slipway.local.guess.tables.facts import read_tables
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
        # A carriage return alone ends a line, in all of the file or in some of it.
        ("a;b\r1;x\r2;y\r", Csv(separator=";")),
        ("a;b\r\n1;x\r2;y\n", Csv(separator=";")),
        # A quote that is never closed, and more than a reader takes for one value: ingest names it.
        ('a;b\n1;x\n2;"' + "y" * 200_000, Csv(separator=";")),
        ('"a;b\n' + "1;x\n" * 100_000, None),
    ],
)
def test_what_is_seen(tmp_path: Path, text: str, expected: Csv | None) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
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


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Höhe (m)", "hohe_m"),
        ("Straße", "Strasse"),
        ("m²", "m2"),
        ("Año", "ano"),
        ("Unit Price (€)", "unit_price"),
        ("1st", "c_1st"),
        ("价格", "column"),
    ],
)
def test_a_header_becomes_a_name_that_reads_like_it(tmp_path: Path, header: str, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header},b\n1,x\n2,y\n")
    (table,) = read_tables([str(tmp_path / "a.csv")])
    assert table.rename == {header: name.lower()}


@pytest.mark.parametrize("label", ["Wait (min)", "wait_min"])
def test_a_label_of_numbers_that_are_written_in_two_ways(tmp_path: Path, label: str) -> None:
    # As Python's csv writer does it where a number is 0 and not 0.0.
    lines = [f"{number},{number / 8 if number % 7 else 0}" for number in range(1, 801)]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(["visit,Wait (min)", *lines]))
    with pytest.raises(
        ProjectError, match=r"as 0\.125 beside 1\.0: to predict the number, say --kind number"
    ):
        make_draft(read_tables([str(path)]), Answers(label=label))
    draft = make_draft(
        read_tables([str(path)], numbers=(label,)),
        Answers(label=label, kind="number", key=("none",)),
    )
    assert draft.label.column.values.to_list()[:7] == [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.0]
    (tmp_path / "project.yaml").write_text(project_files(draft, tmp_path)["project.yaml"])
    # The project file has it too, by the name that ingest goes by: a run reads the same.
    read = yaml.safe_load(project_files(draft, tmp_path)["project.yaml"])["data"]["tables"][
        "visits"
    ]
    table = Table.model_validate({**read, "path": str(path)})
    always = Window(start=datetime(1, 1, 1, tzinfo=UTC), end=datetime(9999, 12, 31, tzinfo=UTC))
    reader = TableReader("visits", table, "", always, tmp_path)
    assert str(reader.schema.field("wait_min").type) == "double"


def test_texts_are_not_called_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["y,x", *(f"a{number},{number}" for number in range(300))]))
    with pytest.raises(ProjectError, match="more an id than a class") as refused:
        make_draft(read_tables([str(path)]), Answers(label="y"))
    assert "--kind number" not in str(refused.value)
    with pytest.raises(SlipwayError, match="'a0' is no number"):
        read_tables([str(path)], numbers=("y",))


@pytest.mark.parametrize("method", ["random", "stratified", "group"])
def test_the_parts_are_those_of_the_run(tmp_path: Path, method: str) -> None:
    # Drawn by the key, or by the group, as the features stage draws.
    rare = {"random": 2, "stratified": 40, "group": 2}[method]
    rows = [
        (f"k{row}", f"p{row % 400 if method == 'group' else row}", row % 11, "ab"[row % rare == 0])
        for row in range(2000)
    ]
    table = pl.DataFrame(rows, schema=["id", "person_id", "x", "y"], orient="row")
    if method != "group":
        table = table.drop("person_id")
    table.write_csv(tmp_path / "a.csv")
    answers = Answers(label="y", positive=("a",), key=("id",))
    draft = make_draft(read_tables([str(tmp_path / "a.csv")]), answers)
    assert draft.split.split.value["method"] == method
    (tmp_path / "project.yaml").write_text(project_files(draft, tmp_path)["project.yaml"])
    features = FeaturesConfig.model_validate(
        yaml.safe_load((tmp_path / "project.yaml").read_text())["features"]
    )
    parts = part_of(table.with_columns(label=pl.col("y") == "a"), features, None)
    assert draft.trial.rows == {part: (parts == part).sum() for part in draft.trial.rows}


@pytest.mark.parametrize(
    ("write", "odd", "said"),
    [
        ("%Y-%m-%d", "2024-13-45", "'2024-13-45' (row 42) is none. Mend such values, or leave"),
        ("%d/%m/%Y", "n.a.", "'n.a.' (row 42) is none. Mend such values"),
        ("%m/%d/%Y", "02/31/2024", "'02/31/2024' (row 42) is none. Mend such values"),
        ("%m/%d/%Y", "31/01/2024", "some have the day first ('31/01/2024') and some the month ('"),
        ("0%w/%m/%Y", "", "no part of '01/01/2024' or another is greater than 12, so that nothing"),
        ("%d/%m/%Y", "", ""),
    ],
)
def test_why_dates_are_text_is_true_to_them(
    write: str, odd: str, said: str, tmp_path: Path
) -> None:
    rows = orders().with_columns(pl.col("placed_at").dt.strftime(write.replace("0%w", "0%u")))
    texts = rows["placed_at"].to_list()
    texts[41] = odd or texts[41]
    rows.with_columns(pl.Series("placed_at", texts)).write_csv(tmp_path / "orders.csv")
    draft = make_draft(read_tables([str(tmp_path / "orders.csv")]), Answers(label="returned"))
    found = [text for text in draft.warnings if text.startswith("placed_at looks like dates")]
    assert len(found) == (draft.moments.time.value is None) == bool(said)
    assert said in "".join(found)
