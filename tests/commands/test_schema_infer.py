"""`slipway schema infer`: it reads what ingest reads, and what it writes holds for what ingest makes."""

import json
import string
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.support.errors import SlipwayError
from slipway.components.validate.validate import Validation, validate_dataset

START = datetime(2024, 1, 1, tzinfo=UTC)


def orders(rows: int = 60) -> pa.Table:
    stamps = [START + timedelta(hours=i) for i in range(rows)]
    return pa.table(
        {
            "id": [f"o{i}" for i in range(rows)],
            "placed": pa.array(stamps, pa.timestamp("us", "UTC")),
            "Price (€)": [i / 4 for i in range(rows)],
            "channel": ["web" if i % 2 else "" for i in range(rows)],
        }
    )


class Lake:
    """A project's folder, in which the command and the stages work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lake").mkdir()
        self.tables: dict[str, dict[str, Any]] = {}

    def declare(self, name: str, **table: Any) -> None:
        self.tables[name] = {"path": name, **table}
        project = {"data": self.section, "schema": "schemas/input.json"}
        (self.folder / "project.yaml").write_text(json.dumps(project))

    @property
    def section(self) -> dict[str, Any]:
        window = {"start": "2024-01-01", "end": "2024-02-01"}
        return {"root": str(self.folder / "lake"), "window": window, "tables": self.tables}

    def infer(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, ["schema", "infer", *arguments], catch_exceptions=True)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def validate(self, schema: Path | None = None) -> Validation:
        """Ingests all tables and validates them against the schema file."""
        section = self.section
        ingest_tables(
            config={"tables": self.tables},
            data_root=section["root"],
            window_start=section["window"]["start"],
            window_end=section["window"]["end"],
            output=self.folder / "dataset",
        )
        return validate_dataset(
            dataset=self.folder / "dataset",
            schema=(schema or self.folder / "schemas/input.json").read_text(),
            good=self.folder / "good",
            quarantine=self.folder / "quarantine",
            report=self.folder / "report.html",
            results=self.folder / "results.json",
        )


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.chdir(tmp_path)
    return Lake(tmp_path)


def put(lake: Lake, form: str, table: pa.Table, name: str = "orders") -> None:
    import deltalake

    folder = lake.folder / "lake" / name
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(table)
    if form == "parquet":
        pq.write_table(table, folder / "a.parquet")
    elif form == "csv":
        frame.write_csv(folder / "a.csv")
    elif form == "jsonl":
        texts = frame.with_columns(pl.col(pl.Datetime).dt.to_string("iso"))
        texts.write_ndjson(folder / "a.jsonl")
    elif form == "hive":
        for part in (0, 1):
            (folder / f"part={part}").mkdir()
            pq.write_table(table.slice(part * 30, 30), folder / f"part={part}" / "a.parquet")
    else:
        deltalake.write_deltalake(str(folder), table)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "delta", "hive"])
def test_one_command_writes_the_schema_of_all_tables(form: str, lake: Lake) -> None:
    put(lake, form, orders())
    put(lake, "parquet", pa.table({"customer": ["a", "b"], "tier": [1, 2]}), "customers")
    declared = "parquet" if form == "hive" else form
    lake.declare("orders", format=declared, time="placed", rename={"Price (€)": "price"})
    lake.declare("customers")
    assert "wrote orders, customers" in lake.infer()
    schema = json.loads((lake.folder / "schemas/input.json").read_text())
    properties = schema["tables"]["orders"]["properties"]
    assert properties["price"] == {"type": "number", "minimum": 0}
    assert properties["channel"] == {
        "type": ["string", "null"], "enum": ["web"], "x-maxNullFraction": 1.0,
    }  # fmt: skip
    assert properties.get("part", {}) == (
        {"type": "integer", "minimum": 0, "maximum": 1} if form == "hive" else {}
    )
    assert lake.validate().quarantine.rows == 0
    assert "it says so already" in lake.infer()


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("ns"), pa.date32()], ids=str)
@pytest.mark.parametrize("known", [True, False], ids=["of the project", "on its own"])
def test_a_time_column_of_any_type_passes(
    kind: pa.DataType, known: bool, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingest makes an instant of it; who infers from the file alone sees what the file has."""
    table = orders()
    naive = table["placed"].cast(pa.timestamp("us")).cast(kind, safe=False)
    put(lake, "parquet", table.set_column(1, "placed", naive))
    lake.declare("orders", time="placed")
    if not known:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    lake.infer(str(lake.folder / "lake" / "orders"), "--out", str(tmp_path / "s.json"))
    assert lake.validate(tmp_path / "s.json").quarantine.rows == 0


def test_a_table_of_the_project_goes_into_its_schema(lake: Lake) -> None:
    put(lake, "parquet", orders())
    put(lake, "parquet", orders(), "more")
    lake.declare("orders")
    lake.declare("more")
    lake.infer("orders")
    lake.infer("more")
    schema = json.loads((lake.folder / "schemas/input.json").read_text())
    assert list(schema["tables"]) == ["orders", "more"]
    put(lake, "parquet", orders().drop_columns(["channel"]))
    with pytest.raises(SlipwayError, match="has an entry for orders already"):
        lake.infer("orders")
    lake.infer("orders", "--force")
    schema = json.loads((lake.folder / "schemas/input.json").read_text())
    assert "channel" not in schema["tables"]["orders"]["properties"]
    assert "channel" in schema["tables"]["more"]["properties"]


def test_a_table_on_its_own_is_printed(lake: Lake) -> None:
    put(lake, "csv", orders())
    for path in ("lake/orders", "lake/orders/a.csv"):
        tables = json.loads(lake.infer(path))["tables"]
        assert list(tables) == [Path(path).name.split(".")[0]]
    with pytest.raises(SlipwayError, match=r"there is no project.yaml here"):
        lake.infer()
    with pytest.raises(SlipwayError, match="nothing at"):
        lake.infer("lake/sales")
    put(lake, "parquet", orders())
    with pytest.raises(SlipwayError, match=r"holds files of parquet and csv\. Say which"):
        lake.infer("lake/orders")
    assert json.loads(lake.infer("lake/orders", "--format", "parquet"))["tables"]
    with pytest.raises(SlipwayError, match="format: must be parquet, csv, jsonl or delta"):
        lake.infer("lake/orders", "--format", "xlsx")


def test_all_tables_of_a_dataset_that_ingest_wrote(lake: Lake) -> None:
    put(lake, "parquet", orders())
    lake.declare("orders", time="placed")
    lake.infer()
    lake.validate()
    found = json.loads(lake.infer("dataset"))["tables"]
    written = json.loads((lake.folder / "schemas/input.json").read_text())["tables"]
    assert found == written


TEXTS = st.text(string.printable + "äß漢\x00", max_size=6)
CODES = ["1e5", "01", "NA", "2024-01-01", "inf", ""]
INSTANTS = st.integers(-(2**63), 2**63 - 1)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy]] = {
    "text": (pa.string(), st.one_of(TEXTS, st.sampled_from(CODES))),
    "category": (pa.string(), st.sampled_from(["a", "b"])),
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "flag": (pa.int8(), st.sampled_from([0, 1])),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float64(), st.floats()),
    "float32": (pa.float32(), st.floats(width=32)),
    "bool": (pa.bool_(), st.booleans()),
    "decimal": (pa.decimal128(38, 4), st.decimals(-(10**30), 10**30, places=4)),
    "day": (pa.date32(), st.dates(date(1, 1, 1))),
    "instant": (pa.timestamp("us", "UTC"), INSTANTS),
    "wall": (pa.timestamp("us"), INSTANTS),
    "nanoseconds": (pa.timestamp("ns"), INSTANTS),
    "bytes": (pa.binary(), st.binary(max_size=3)),
    "span": (pa.duration("us"), INSTANTS),
}  # fmt: skip


@st.composite
def random_tables(draw: st.DrawFn) -> pa.Table:
    """Any columns, with any values and nulls."""
    rows = draw(st.integers(1, 50))
    columns = {}
    for name in draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True)):
        kind, values = COLUMNS[name]
        some = draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows))
        columns[name] = pa.array(some, kind)
    return pa.table(columns)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_any_table_that_ingest_takes_passes_its_schema_in_any_order(
    form: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(table=random_tables(), seed=st.integers(0, 99))
    def passes(table: pa.Table, seed: int) -> None:
        folder = tmp_path_factory.mktemp("lake")
        monkeypatch.chdir(folder)
        lake = Lake(folder)
        if form != "parquet":
            plain = {"text", "category", "flag", "int", "float", "bool", "day"}
            table = table.select([name for name in table.column_names if name in plain])
            if not table.num_columns:
                return
        lake.declare("t", format=form)
        try:
            put(lake, form, table, "t")
            lake.infer()
        except SlipwayError:
            return  # not a table that ingest takes
        put(
            lake,
            form,
            pl.DataFrame(table).sample(fraction=1, shuffle=True, seed=seed).to_arrow(),
            "t",
        )
        validation = lake.validate()
        assert validation.quarantine.rows == 0
        assert {check.status for check in validation.checks} <= {"pass", "warn"}

    passes()


def test_the_property_finds_a_schema_that_does_not_hold(lake: Lake) -> None:
    put(lake, "parquet", pa.table({"x": [1, 2, 3], "d": [Decimal("1.5")] * 3}))
    lake.declare("orders")
    lake.infer()
    file = lake.folder / "schemas/input.json"
    file.write_text(file.read_text().replace('"minimum": 0', '"minimum": 2'))
    with pytest.raises(SlipwayError, match=r"x: minimum 2: 1 row \("):
        lake.validate()
