"""Where tables lie, and in which form: folders, Delta, an object store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from support.own_tables import customers, draft_of, orders, write

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.rows.row_key import row_keys
from slipway.components.contracts.splits import LABEL, PARTS
from slipway.components.features.split import part_of
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.local.guess.draft import Draft, make_draft
from slipway.local.guess.guess import Answers
from slipway.local.guess.tables.facts import read_tables
from slipway.local.guess.write import project_files


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server (moto) with a bucket."""
    import httpx
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    httpx.post(f"{url}/moto-api/reset")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(endpoint_url=url)
    files.mkdir("bucket")
    yield files
    server.stop()


def project_of(draft: Draft, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(project_files(draft, folder)["project.yaml"])
    return content


def guess(places: list[str]) -> Draft:
    return make_draft(read_tables(places), Answers(label="returned"))


def test_an_object_store(store: Any, tmp_path: Path) -> None:
    rows = orders()
    for path in write(tmp_path, {"orders.csv": rows, "people/a.parquet": customers(rows)}):
        store.put(path, f"bucket/lake/{Path(path).relative_to(tmp_path)}")
    draft = guess(["s3://bucket/lake/orders.csv", "s3://bucket/lake/people"])
    data = project_of(draft, tmp_path)["data"]
    assert data["root"] == "s3://bucket/lake"
    assert data["tables"]["orders"] == {"path": "orders.csv", "format": "csv", "time": "placed_at"}
    assert data["tables"]["people"] == {"path": "people", "format": "parquet"}
    local = guess([str(tmp_path / "orders.csv"), str(tmp_path / "people")])
    assert draft.gate == local.gate
    assert [found.name for found in draft.fields.found] == [f.name for f in local.fields.found]


def test_an_object_store_beside_this_machine(store: Any, tmp_path: Path) -> None:
    rows = orders()
    first, second = write(tmp_path, {"orders.csv": rows, "customers.csv": customers(rows)})
    store.put(second, "bucket/customers.csv")
    data = project_of(guess([first, "s3://bucket/customers.csv"]), tmp_path)["data"]
    paths = {name: table["path"] for name, table in data["tables"].items()}
    assert (data["root"], paths) == (
        "",
        {"orders": first, "customers": "s3://bucket/customers.csv"},
    )


def test_what_is_not_in_the_store_is_said(store: Any) -> None:
    with pytest.raises(SlipwayError, match="there is nothing at s3://bucket/none"):
        read_tables(["s3://bucket/none"])


def test_a_delta_table(tmp_path: Path) -> None:
    import deltalake

    deltalake.write_deltalake(str(tmp_path / "orders"), orders().to_arrow())
    draft = guess([str(tmp_path / "orders")])
    assert project_of(draft, tmp_path)["data"]["tables"]["orders"]["format"] == "delta"
    assert (draft.moments.time.value, draft.key.value) == ("placed_at", ("order_id",))


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_folder_of_monthly_files_is_one_table(tmp_path: Path, ending: str) -> None:
    rows = orders()
    month = pl.col("placed_at").dt.month()
    parts = {f"orders/2024-{n:02d}.{ending}": rows.filter(month == n) for n in range(1, 5)}
    write(tmp_path, parts)
    (table,) = read_tables([str(tmp_path / "orders")])
    assert (table.name, table.rows, table.form) == ("orders", 1200, ending)
    assert table.frame["order_id"].to_list() == rows["order_id"].to_list()


def test_key_value_folders_are_columns(tmp_path: Path) -> None:
    rows = orders()
    for country, part in (("de", rows[:700]), ("fr", rows[700:])):
        write(tmp_path, {f"orders/country={country}/a.parquet": part})
    draft = guess([str(tmp_path / "orders")])
    assert "country" in [found.name for found in draft.fields.found]


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    places = write(tmp_path, {"a/orders.csv": orders(), "b/orders.csv": orders()})
    with pytest.raises(ProjectError, match="Two tables would be named orders"):
        read_tables(places)


def test_files_of_several_forms_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, {"orders/a.csv": orders(), "orders/b.parquet": orders()})
    with pytest.raises(SlipwayError, match="files of parquet and csv"):
        read_tables([str(tmp_path / "orders")])
    assert read_tables([str(tmp_path / "orders")], "csv")[0].form == "csv"


def test_a_long_table_is_looked_at_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.local.guess.tables.facts.ROWS", 500)
    (path,) = write(tmp_path, {"orders.csv": orders()})
    (table,) = read_tables([path])
    assert (table.rows, table.is_sample) == (1200, True)
    assert table.frame["order_id"].to_list() == [f"o{n}" for n in range(0, 1200, 4)]


@pytest.mark.parametrize(
    "key", [(), ("shop", "number"), ("one",)], ids=["by content", "several columns", "one column"]
)
def test_the_parts_that_are_said_are_those_of_the_run(tmp_path: Path, key: tuple[str, ...]) -> None:
    """Drawn by the same text of each row; copies of a row are in its part."""
    rows = pl.DataFrame(
        {
            "one": [f"r{n}" for n in range(300)],
            "shop": [n // 100 for n in range(300)],
            "number": [n % 100 for n in range(300)],
            "size": [round(n / 7, 3) for n in range(300)],
            "late": ["yes" if n % 3 else "no" for n in range(300)],
        }
    )
    if not key:
        rows = pl.concat([rows.drop("one", "shop"), rows.drop("one", "shop").head(40)])
    draft = draft_of(tmp_path, {"rows.csv": rows}, Answers(label="late", key=key or ("none",)))
    examples: dict[str, Any] = {"table": "rows"}
    if key:
        examples["key"] = key[0] if len(key) == 1 else list(key)
    view = {"name": "row", "table": "rows", "fields": {"size": "size"}}
    config = FeaturesConfig.parse(
        {
            "examples": examples,
            "label": {"column": "late", "positive": "yes"},
            "split": draft.split.split.value,
            "views": [view],
        },
        "features",
    )
    columns = rows.columns
    table = rows.to_arrow()
    labels = (rows["late"] == "yes").cast(pl.Int8).alias(LABEL)
    named = pl.DataFrame([row_keys(table, config, columns), labels])
    parts = part_of(named, config, None)
    assert draft.trial.rows == {part: int((parts == part).sum()) for part in PARTS}
