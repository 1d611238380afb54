"""Batch scoring: the registered version's own answers, whole or not at all, where they are wanted."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import deploy_world
from support.events import shares
from support.model_keys import make_keys
from support.sigstore_world import GITHUB, TRAIN, Sigstore, make_bundle

from slipway.components.config.data import Window
from slipway.components.contracts.bundle import SIGNATURE
from slipway.components.contracts.feature_rows import read_feature_rows, write_feature_rows
from slipway.components.contracts.predictions import FILE, read_predictions
from slipway.components.contracts.signing.signature import sign_bundle, write_statement
from slipway.components.contracts.splits import TIME, Feature
from slipway.components.deploy import score as module
from slipway.components.deploy.score import score_rows
from slipway.components.monitor.window import open_window, read_answers
from slipway.components.support.errors import SlipwayError

FIRST = deploy_world.FIRST_ROW
ROWS = 60
bundles = deploy_world.bundles


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Sixty flights: their moments of prediction lie on one day, their departures on two."""
    return deploy_world.make_rows(tmp_path / "rows", ROWS)


def _table(folder: Path) -> pa.Table:
    return pq.read_table(folder / "flights").sort_by("row")


def test_every_row_gets_the_version_s_own_answer(
    registered: Any, rows: Path, tmp_path: Path
) -> None:
    result = score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "p")
    table = _table(tmp_path / "p")
    wanted = bundles.expected(ROWS, bias=0.5)
    assert table["key"].to_pylist() == [f"flight-{i}" for i in range(ROWS)]
    np.testing.assert_allclose(table["probability"].to_numpy(), wanted, atol=1e-6)
    labels = [int(p >= 0.6) for p in wanted]
    assert 0 < sum(labels) < ROWS
    assert table["label"].to_pylist() == labels
    assert set(table["model_version"].to_pylist()) == {"2"}
    assert table["time"][0].as_py() == FIRST - timedelta(hours=2)
    assert table["feature.miles"].to_pylist() == [100.5 + i for i in range(ROWS)]
    assert read_predictions(tmp_path / "p") == result
    assert (result.rows, result.positives, result.model_version) == (ROWS, sum(labels), "2")
    assert result.moments == ("2013-12-01T18:00:00Z", "2013-12-01T23:00:00Z")


def test_the_sets_of_a_model_are_in_the_scored_table(
    world: Any, rows: Path, tmp_path: Path
) -> None:
    """As the endpoint would answer; monitoring reads the table as ever."""
    for version, edge in ((1, 0.3), (2, None)):
        world.release(version, kind="multiclass", set_threshold=edge)
        world.register(version)
    score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "p")
    table = _table(tmp_path / "p")
    shares = np.array(table["probabilities"].to_pylist())
    wanted = [
        [bundles.CLASSES[k] for k in range(3) if row[k] >= np.float32(0.3) or k == row.argmax()]
        for row in shares
    ]
    assert table["set"].to_pylist() == wanted
    assert {len(one) for one in wanted} > {1}
    window = Window(start=FIRST - timedelta(days=1), end=FIRST + timedelta(days=1))
    log = open_window(str(tmp_path / "p"), "flights", window)
    assert read_answers(log, "multiclass")["label"].to_pylist() == table["label"].to_pylist()
    score_rows(rows=rows, project="flights", model="2", predictions=tmp_path / "plain")
    assert "set" not in _table(tmp_path / "plain").column_names


def test_a_count_is_missing_where_it_was_in_training(
    registered: Any, rows: Path, tmp_path: Path
) -> None:
    """The version's bundle has no default for miles, as when its view had no row of use."""
    table = pq.read_table(rows / "rows.parquet")
    place = table.schema.get_field_index("miles")
    counts = pa.array([0.0 if i % 3 else 100.5 for i in range(ROWS)])
    pq.write_table(table.set_column(place, "miles", counts), rows / "rows.parquet")
    score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "p")
    assert _table(tmp_path / "p")["feature.miles"].to_pylist() == counts.to_pylist()
    _change(
        rows,
        features=tuple(
            replace(f, default=0.0 if f.name == "miles" else None) for f in bundles.FEATURES
        ),
    )
    score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "q")
    wanted = [None if i % 3 else 100.5 for i in range(ROWS)]
    assert _table(tmp_path / "q")["feature.miles"].to_pylist() == wanted


def test_a_version_can_be_named_by_its_number(registered: Any, rows: Path, tmp_path: Path) -> None:
    result = score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "p")
    assert result.model_version == "1"
    np.testing.assert_allclose(
        _table(tmp_path / "p")["probability"].to_numpy(), bundles.expected(ROWS), atol=1e-6
    )


def test_each_day_is_a_folder_and_batches_do_not_show(
    registered: Any,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "whole")
    capsys.readouterr()
    _change(rows, lead_seconds=0)
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "cut")
    told = shares(capsys.readouterr().out)
    assert told == sorted(told) and told[0] == 0 and len(set(told)) >= 5 and told[-1] < 1
    days = sorted(p.name for p in (tmp_path / "cut" / "flights").iterdir())
    assert days == ["date=2013-12-01", "date=2013-12-02"]
    columns = ["key", "row", "probability", "label"]
    assert _table(tmp_path / "cut").select(columns) == _table(tmp_path / "whole").select(columns)


def test_rows_without_time_are_predicted_at_the_moment_of_scoring(
    registered: Any, rows: Path, tmp_path: Path
) -> None:
    table = pq.read_table(rows / "rows.parquet").drop_columns([TIME])
    pq.write_table(table, rows / "rows.parquet")
    _change(rows, window=None, lead_seconds=0)
    moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
    publish = str(tmp_path / "published")
    result = score_rows(
        rows=rows, project="flights", model="1", predictions=tmp_path / "p", publish=publish,
        now=moment,
    )  # fmt: skip
    assert [p.name for p in (tmp_path / "p" / "flights").iterdir()] == ["date=2024-02-29"]
    scored = _table(tmp_path / "p")
    assert set(scored["time"].to_pylist()) == {moment.replace(microsecond=0)}
    np.testing.assert_allclose(scored["probability"].to_numpy(), bundles.expected(ROWS), atol=1e-6)
    assert result.window is None
    # What monitoring looks at holds the rows, and is no stretch of none.
    assert result.moments == ("2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z")
    assert result.published == f"{publish}/flights/data={'d' * 16}/version=1"
    assert read_predictions(Path(result.published)).rows == ROWS


def _change(rows: Path, **changes: Any) -> None:
    write_feature_rows(rows, replace(read_feature_rows(rows), **changes))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("7", "was not registered by Slipway"),
        ("99", "has no version '99' of flights"),
        ("nobody", "has no version 'nobody' of flights"),
    ],
)
def test_what_is_no_version_of_ours_is_refused(
    registered: Any, rows: Path, tmp_path: Path, model: str, said: str
) -> None:
    with pytest.raises(SlipwayError, match=said):
        score_rows(rows=rows, project="flights", model=model, predictions=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_bundle_that_was_changed_is_not_run(registered: Any, rows: Path, tmp_path: Path) -> None:
    bundles.make_bundle(registered.root / "bundle-2", bias=9.0)
    with pytest.raises(SlipwayError, match="was changed after the gate"):
        score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "p")


def test_a_bundle_that_nobody_trusted_signed_is_not_run(
    registered: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, folder = make_keys(), registered.root / "bundle-2"
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", keys.public)
    with pytest.raises(SlipwayError, match="is not signed"):
        score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "p")
    assert not (tmp_path / "p").exists()
    sign_bundle(folder, keys.private, "", folder / SIGNATURE)
    score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "p")
    assert _table(tmp_path / "p").num_rows == ROWS
    # And without a key.
    sigstore = Sigstore()
    monkeypatch.setenv("MODEL_SIGNERS", f"{TRAIN} {GITHUB}")
    monkeypatch.setenv("MODEL_TRUST_ROOT", json.dumps(sigstore.trusted_root()))
    made = make_bundle(sigstore, write_statement(folder), name=f"{TRAIN}2")
    (folder / SIGNATURE).write_text(json.dumps(made))
    with pytest.raises(SlipwayError, match="whom MODEL_SIGNERS does not name"):
        score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "q")
    assert not (tmp_path / "q").exists()
    made = make_bundle(sigstore, write_statement(folder))
    (folder / SIGNATURE).write_text(json.dumps(made))
    score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "q")
    assert _table(tmp_path / "q").num_rows == ROWS


def test_other_features_than_the_model_s_are_refused(
    registered: Any, rows: Path, tmp_path: Path
) -> None:
    others = tuple(
        Feature(name=f.name, kind="numeric", view=f.view) if f.name == "origin" else f
        for f in bundles.FEATURES
        if f.name != "miles"
    )
    _change(rows, features=others)
    with pytest.raises(
        SlipwayError, match=r"miles \(numeric, not there\), origin \(categorical, here numeric\)"
    ):
        score_rows(rows=rows, project="flights", model="champion", predictions=tmp_path / "p")


def test_what_is_no_probability_leaves_the_earlier_predictions(
    registered: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "p")
    answer = np.full(ROWS, np.nan, np.float32)
    monkeypatch.setattr(module, "predict", lambda *_: answer)
    with pytest.raises(SlipwayError, match="not a probability, for example nan for flight-0"):
        score_rows(rows=rows, project="flights", model="2", predictions=tmp_path / "p")
    assert read_predictions(tmp_path / "p").model_version == "1"
    assert [p.name for p in tmp_path.glob(".p.*")] == []


def test_rows_out_of_order_are_refused(registered: Any, rows: Path, tmp_path: Path) -> None:
    table = pq.read_table(rows / "rows.parquet")
    _change(rows, lead_seconds=0)
    pq.write_table(table.take(list(reversed(range(ROWS)))), rows / "rows.parquet")
    with pytest.raises(SlipwayError, match="is not ordered by time"):
        score_rows(rows=rows, project="flights", model="1", predictions=tmp_path / "p")


# Published


def test_a_folder_gets_the_same_files_and_a_second_time_no_more(
    registered: Any, rows: Path, tmp_path: Path
) -> None:
    place = tmp_path / "out" / "flights" / "20131201T200000Z--20131202T010000Z" / "version=1"
    for _ in range(2):
        result = score_rows(
            rows=rows,
            project="flights",
            model="1",
            predictions=tmp_path / "p",
            publish=str(tmp_path / "out"),
        )
        assert result.published == str(place)
        files = sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())
        assert files == ["flights/date=2013-12-01/part-00000.parquet", FILE]
        assert read_predictions(place) == result


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


def test_a_bucket_never_shows_half_of_it(
    registered: Any,
    rows: Path,
    tmp_path: Path,
    s3: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """predictions.json goes first and comes last, so that whoever waits for it reads one whole set."""
    import fsspec
    import s3fs

    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("out")
    options = {
        "rows": rows,
        "project": "flights",
        "predictions": tmp_path / "p",
        "publish": "s3://out/scores",
    }
    place = score_rows(model="1", **options).published
    mark = f"{place}/{FILE}"
    assert json.loads(system.cat_file(mark))["rows"] == ROWS
    # What an earlier run left there and this one has not goes away.
    system.pipe_file(f"{place}/flights/date=2013-11-30/part-00000.parquet", b"old")
    score_rows(model="1", **options)
    assert sorted(
        p.removeprefix(f"{place}/".removeprefix("s3://")) for p in system.find(place)
    ) == [
        "flights/date=2013-12-01/part-00000.parquet",
        FILE,
    ]
    with system.open(f"{place}/flights/date=2013-12-01/part-00000.parquet") as file:
        assert pq.read_table(file).num_rows == ROWS

    def cut(*_: Any, **__: Any) -> None:
        raise OSError("connection reset")

    used, _ = fsspec.core.url_to_fs("s3://out")
    monkeypatch.setattr(used, "put_file", cut)
    with pytest.raises(
        SlipwayError, match=r"cannot be copied to s3://out/scores/.*connection reset"
    ):
        score_rows(model="1", **options)
    system.invalidate_cache()
    assert not system.exists(mark)
