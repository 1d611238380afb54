"""What the stage leaves for people: the report, the results, and messages on a damaged dataset."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from slipway.components.config.parameters import struct_of
from slipway.components.config.project import load_project
from slipway.components.contracts.dataset import (
    read_manifest,
    read_table,
    table_files,
    write_manifest,
)
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.support.errors import SlipwayError
from slipway.components.validate.validate import validate_dataset

SCHEMA = {
    "properties": {
        "n": {"type": "integer", "maximum": 2},
        "s": {"type": "string", "x-level": "warn", "enum": ["a"]},
    }
}
TABLE = pa.table({"n": [1, 2, 3], "s": ["a", "<script>alert(1)</script>", "a"]})


class Text(HTMLParser):
    """The text of a page, and the tags that would fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetches: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag in ("script", "link", "img", "iframe") or any(
            k in ("src", "href") for k, _ in attrs
        ):
            self.fetches.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_report_says_what_the_results_say(validate, places) -> None:
    with pytest.raises(SlipwayError):
        validate(TABLE, SCHEMA)
    page = Text()
    page.feed(places.report.read_text())
    text = re.sub(r"\s+", " ", " ".join(page.text))
    assert page.fetches == []
    assert "Refused: the data are not as the schema says." in text
    assert "1 failed · 1 warned · 0 tolerated · 4 passed" in text
    assert "fail t n: maximum 2 1 33.3 % 0 % row 2: n = 3" in text
    assert "row 1: s = <script>alert(1)</script>" in text
    results = json.loads(places.results.read_text())
    counts = {"rows": 3, "good": 2, "quarantine": 1, "before": 0, "after": 0}
    assert results["tables"] == {"t": {**counts, "warnings": []}}
    failed = next(check for check in results["checks"] if check["status"] == "fail")
    assert failed == {
        "table": "t",
        "check": "n: maximum 2",
        "level": "fail",
        "status": "fail",
        "failed": 1,
        "fraction": 1 / 3,
        "allowed": 0.0,
        "detail": "",
        "examples": [{"row": 2, "values": {"n": "3"}}],
        "ways": [],
    }


def test_a_missing_and_a_damaged_dataset(validate, places, tmp_path: Path) -> None:
    places_of = {
        "schema": {"tables": {}},
        "good": places.good,
        "quarantine": places.quarantine,
        "report": places.report,
        "results": places.results,
    }
    with pytest.raises(SlipwayError, match="is not a dataset"):
        validate_dataset(dataset=tmp_path / "nothing", **places_of)
    schema = {"tables": {"t": {"properties": {"n": {"enum": [1, 2]}}}}}
    validate(pa.table({"n": [1, 2] * 25_000}), schema)
    file = table_files(places.dataset, "t")[0]
    data = bytearray(file.read_bytes())
    data[4:60] = b"\0" * 56
    file.write_bytes(data)
    with pytest.raises(SlipwayError, match=r"part-00000.parquet is damaged"):
        validate_dataset(dataset=places.dataset, **places_of | {"schema": schema})


def test_the_report_counts_what_ingest_left_out(validate, places) -> None:
    validate(pa.table({"n": [1, 2, 3]}), {"properties": {"n": {}}})
    manifest = read_manifest(places.dataset)
    info = replace(manifest.tables["t"], before=1000, after=104, warnings=["b.csv has no <row>"])
    write_manifest(places.dataset, replace(manifest, tables={"t": info}))
    validation = validate_dataset(
        dataset=places.dataset,
        schema={"tables": {"t": {"properties": {"n": {}}}}},
        good=places.good,
        quarantine=places.quarantine,
        report=places.report,
        results=places.results,
        project="shop",
    )
    text = places.report.read_text()
    assert "<title>shop: validation report</title>" in text and ">Validation of shop</p>" in text
    cells = dict(re.findall(r'<td class="n" data-name="([^"]*)">([^<]*)</td>', text))
    assert cells == {
        "Read": "1,107", "Before the window": "1,000", "After it": "104",
        "Kept": "3", "Good": "3", "Set apart": "0",
    }  # fmt: skip
    assert "b.csv has no &lt;row&gt;" in text
    counts = json.loads(places.results.read_text())["tables"]["t"]
    assert (counts["before"], counts["after"]) == (1000, 104)
    assert (validation.good.tables["t"].before, validation.good.tables["t"].after) == (1000, 104)


def test_the_flights_year(lake: Path, repository: Path, tmp_path: Path) -> None:
    """All of 2013 is accepted; the one impossible wind speed is set apart."""
    folder = repository / "examples/flights"
    ingest_tables(
        config=struct_of(load_project(folder).project.data, "data"),
        data_root=str(lake),
        window_start="2013-01-01T05:00:00Z",
        window_end="2014-01-01T05:00:00Z",
        output=tmp_path / "data",
    )
    validation = validate_dataset(
        dataset=tmp_path / "data",
        schema=json.loads((folder / "schemas/input.json").read_text(), parse_int=float),
        good=tmp_path / "good",
        quarantine=tmp_path / "bad",
        report=tmp_path / "report.html",
        results=tmp_path / "results.json",
    )
    assert (validation.good.rows, validation.quarantine.rows) == (366_212, 1)
    bad = read_table(tmp_path / "bad", "weather").to_pylist()[0]
    assert bad["_reasons"] == "wind_speed: maximum 200"
    assert bad["wind_speed"] == pytest.approx(1048.36, abs=0.01)


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from slipway.components.validate.validate import validate_dataset
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
validate_dataset(dataset=folder / "dataset", schema=json.loads(sys.argv[2]), good=folder / "out/good",
                 quarantine=folder / "out/bad", report=folder / "out/r.html",
                 results=folder / "out/r.json")
"""


@pytest.mark.parametrize("maximum", [10**9, 49_990], ids=["copied", "rewritten"])
def test_a_disk_that_takes_no_more(maximum: int, validate, places) -> None:
    """A limit on a file's size fails a write as a full disk does."""
    column = {"type": "integer", "maximum": maximum, "x-maxFailedFraction": 0.1}
    schema = {"tables": {"t": {"properties": {"n": column}}}}
    validate(pa.table({"n": list(range(50_000))}), schema)
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(places.folder), json.dumps(schema)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert f"Writing the table below {places.folder}/out/" in run.stderr
    assert "File too large" in run.stderr and "Traceback" not in run.stderr
    assert list((places.folder / "out").iterdir()) == []
