"""JSON columns of several kinds, times whose offset is written in several ways, empty lines of csv."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slipway.components.contracts.dataset import Manifest, read_table
from slipway.components.ingest.formats import lines
from slipway.components.support.errors import SlipwayError

Read = Callable[..., tuple[pa.Table, Manifest]]
BIG = 2**63 + 5


@pytest.fixture
def read(ingest: Callable[..., Manifest], tmp_path: Path) -> Read:
    """The table of files with these texts, and the manifest."""

    def run(form: str, *texts: str, **table: Any) -> tuple[pa.Table, Manifest]:
        folder = tmp_path / "lake" / "events"
        folder.mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / f"{number}.{form}").write_text(text)
        manifest = ingest(format=form, time=None, **table)
        return read_table(tmp_path / "out", "events", None), manifest

    return run


def rows(*values: Any) -> str:
    return "".join(json.dumps({"id": str(n), "v": value}) + "\n" for n, value in enumerate(values))


MIXES = [
    ([1, "x"], "numbers (line 1) and texts (line 2)"),
    (["x", None, 1.5], "texts (line 1) and numbers (line 3)"),
    ([True, 1], "booleans (line 1) and numbers (line 2)"),
    ([2.5, None, False], "numbers (line 1) and booleans (line 3)"),
    ([True, "yes"], "booleans (line 1) and texts (line 2)"),
    ([1, "x", True], "numbers (line 1) and texts (line 2) and booleans (line 3)"),
    (['a "quoted": 5', 5], "texts (line 1) and numbers (line 2)"),
    ([BIG, "x"], "numbers (line 1) and texts (line 2)"),
]


@pytest.mark.parametrize(("values", "says"), MIXES, ids=[says for _, says in MIXES])
def test_a_json_column_of_several_kinds_is_refused(
    read: Read, values: list[Any], says: str
) -> None:
    with pytest.raises(SlipwayError) as refused:
        read("jsonl", rows(*values))
    assert "the column v of" in str(refused.value) and "0.jsonl" in str(refused.value)
    assert f"mixes {says}." in str(refused.value)
    assert "`types: {v: string}`" in str(refused.value)


@pytest.mark.parametrize("values", [values for values, _ in MIXES], ids=str)
def test_declared_it_is_text(read: Read, values: list[Any]) -> None:
    table, _ = read("jsonl", rows(*values), types={"v": "string"})
    wanted = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
    assert table["v"].to_pylist() == wanted


@pytest.mark.parametrize(("values", "says"), MIXES[:5], ids=[says for _, says in MIXES[:5]])
def test_kinds_that_meet_only_in_different_blocks(
    read: Read, values: list[Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK", 24)
    with pytest.raises(SlipwayError, match=r"the column v of .* mixes .* and "):
        read("jsonl", rows(*values))


ONE_KIND = [
    [1, 2.5, None, 3], ["1", "2", None], ['say "1": 2', "x"], [True, None, False],
    [1, BIG], [None, None], ["", "a\\b", 'c"'],
]  # fmt: skip


@pytest.mark.parametrize("block", [24, lines.BLOCK])
@pytest.mark.parametrize("values", ONE_KIND, ids=str)
def test_one_kind_is_none_of_them(
    read: Read, values: list[Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK", block)
    table, _ = read("jsonl", rows(*values))
    assert table.num_rows == len(values)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "zones",
    [("Z", "-00:00", "+00:00", "+0000", "-00"), ("+02:00", "+0200", "+02"), ("-05:30", "-0530")],
    ids=str,
)
def test_one_offset_written_in_several_ways(read: Read, form: str, zones: tuple[str, ...]) -> None:
    times = [f"2024-01-01T12:00:00{zone}" for zone in zones]
    text = "v\n" + "".join(f"{t}\n" for t in times) if form == "csv" else rows(*times)
    table, _ = read(form, text)
    assert table.schema.field("v").type == pa.timestamp("us", "UTC")
    assert len(set(table["v"].to_pylist())) == 1


@pytest.mark.parametrize("zones", [("Z", "+02:00"), ("+02:00", "-02:00"), ("Z", "")], ids=str)
def test_other_offsets_are_still_refused(read: Read, zones: tuple[str, ...]) -> None:
    times = "".join(f"2024-01-01T12:00:00{zone}\n" for zone in zones)
    with pytest.raises(SlipwayError, match="mixes time zones"):
        read("csv", "v\n" + times)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["1", "", "3"], [1, None, 3]),
        (["", "2", ""], [None, 2, None]),
        (["1", '""', "3"], [1, None, 3]),
        (["a", "", ""], ["a", None, None]),
    ],
)
def test_an_empty_line_of_one_column_is_a_row(
    read: Read, values: list[str], wanted: list[Any], end: str
) -> None:
    table, manifest = read("csv", "".join(f"{value}{end}" for value in ["v", *values]))
    assert table["v"].to_pylist() == wanted
    assert manifest.tables["events"].rows == len(wanted)


def test_a_csv_of_one_column_that_begins_with_an_empty_line_is_refused(read: Read) -> None:
    with pytest.raises(SlipwayError, match="begins with an empty line"):
        read("csv", "\nv\n1\n")


def test_empty_lines_between_rows_of_several_columns_are_no_rows(read: Read) -> None:
    table, _ = read("csv", "v,w\n1,2\n\n3,4\n")
    assert table["v"].to_pylist() == [1, 3]
