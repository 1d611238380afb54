"""The content hash: the rows decide, and nothing else."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.contracts.dataset import MANIFEST
from slipway.components.contracts.rows.content_hash import ContentHash, combined, row_hashes
from slipway.components.ingest.ingest import ingest_tables


def hash_of(*tables: pa.Table) -> str:
    content = ContentHash()
    for table in tables:
        for batch in table.to_batches():
            content.add(batch)
    return content.hex


ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=False),
        st.none() | st.text(max_size=40),
        st.none() | st.booleans(),
    ),
    max_size=30,
)
SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("s", pa.string()), ("b", pa.bool_())])


def table_of(rows: list[tuple]) -> pa.Table:
    return pa.table([list(c) for c in zip(*rows, strict=True)] or [[]] * 4, schema=SCHEMA)


@given(rows=ROWS, cut=st.integers(0, 30), order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_cuts_and_column_order_do_not_matter(rows: list, cut: int, order) -> None:
    table = table_of(rows)
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert hash_of(table_of(shuffled)) == hash_of(table)
    assert hash_of(table.slice(0, cut), table.slice(min(cut, len(rows)))) == hash_of(table)
    assert hash_of(table.select(["b", "s", "n", "x"])) == hash_of(table)


@given(rows=ROWS.filter(len), which=st.integers(0, 29), column=st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_one_changed_cell_or_row_changes_it(rows: list, which: int, column: int) -> None:
    row = list(rows[which % len(rows)])
    row[column] = [
        7 if row[0] != 7 else 8,
        0.5 if row[1] != 0.5 else 1.5,
        f"{row[2]}.",
        not row[3],
    ][column]
    changed = [*rows[: which % len(rows)], tuple(row), *rows[which % len(rows) + 1 :]]
    assert hash_of(table_of(changed)) != hash_of(table_of(rows))
    assert hash_of(table_of([*rows, rows[0]])) != hash_of(table_of(rows))


@given(rows=ROWS, cut=st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_rows_can_be_taken_out_again(rows: list, cut: int) -> None:
    table = table_of(rows)
    content = ContentHash.parse(hash_of(table))
    for batch in table.slice(min(cut, len(rows))).to_batches():
        content.subtract(batch)
    assert content.hex == hash_of(table.slice(0, cut))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array(["a", "b"]), pa.array(["ab", ""])),
        (pa.array(["", None]), pa.array([None, None], pa.string())),
        (pa.array([0, None]), pa.array([0, 0])),
        (pa.array(["x" * 8, "y"]), pa.array(["x" * 9, "y"])),
        (pa.array(["abcdefgh12", "z"]), pa.array(["abcdefgh21", "z"])),
        (pa.array([1, 2], pa.int32()), pa.array([1, 2], pa.int64())),
        (pa.array([1, 2], pa.int64()), pa.array([1, 2], pa.timestamp("us"))),
        (pa.array([[1], [2, 3]]), pa.array([[1, 2], [3]])),
        (pa.array([{"a": 1}]), pa.array([{"a": 2}])),
    ],
)
def test_near_values_differ(one: pa.Array, other: pa.Array) -> None:
    assert hash_of(pa.table({"c": one})) != hash_of(pa.table({"c": other}))


def test_swapped_cells_of_two_columns_differ() -> None:
    assert hash_of(pa.table({"a": [1], "b": [2]})) != hash_of(pa.table({"a": [2], "b": [1]}))


def test_a_slice_hashes_as_its_copy(events) -> None:
    table = events(50)
    copy = pa.Table.from_pylist(table.slice(13, 20).to_pylist(), table.schema)
    sliced = row_hashes(table.to_batches()[0].slice(13, 20))
    assert (sliced == row_hashes(copy.combine_chunks().to_batches()[0])).all()


def test_the_values_are_pinned() -> None:
    """A release that gave other values would call every old model's data unknown."""
    table = pa.table(
        {
            "n": pa.array([1, None, -3]),
            "x": pa.array([0.5, float("inf"), None]),
            "s": pa.array(["", None, "a longer text, of more than 16 bytes"]),
            "t": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
        }
    )
    assert hash_of(table) == "080f94aef0b225f3dd52992051418505"
    assert hash_of() == "0" * 32
    assert combined({"a": "1", "b": "2"}) == combined({"b": "2", "a": "1"})


def test_a_dataset_hash_does_not_depend_on_files(
    ingest, events, write_lake, tmp_path: Path
) -> None:
    table = events(500)
    write_lake({"events/a.parquet": table})
    write_lake({f"cut/{i}.parquet": table.slice(i * 100, 100) for i in range(4, -1, -1)})
    write_lake({"other/a.parquet": events(501)})
    first = ingest()
    again = ingest(path="cut", output=tmp_path / "again")
    assert first.content_hash == again.content_hash
    assert ingest(path="other", output=tmp_path / "other").content_hash != first.content_hash


def test_the_order_in_which_tables_are_declared_changes_nothing(
    write_lake, events, tmp_path
) -> None:
    # KFP passes the settings as a protobuf Struct, whose map keeps no order.
    lake = write_lake({f"{name}/a.parquet": events(3) for name in "abc"})
    manifests = []
    for order in ("abc", "cba"):
        output = tmp_path / order
        tables = {name: {"path": name, "time": "time"} for name in order}
        manifest = ingest_tables(
            config={"tables": tables},
            data_root=str(lake),
            window_start="2024-01-01",
            window_end="2025-01-01",
            output=output,
        )
        assert manifest.headline == "a 3, b 3, c 3 rows"
        manifests.append((output / MANIFEST).read_bytes())
    assert manifests[0] == manifests[1]
