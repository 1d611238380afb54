"""Requests of a run: which stretch is sent, asked for in time, and the log that is waited for."""

import asyncio
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import gate_world as world
from support.serving_bundles import flight_tensors, free_port, predictor, wait_for
from support.sim_clock import SimClock

from slipway.components.config.base import parse_instant
from slipway.components.contracts.splits import (
    TIME,
    UNLABELLED,
    part_file,
    read_splits,
    write_splits,
)
from slipway.components.support.errors import SlipwayError
from slipway.local import traffic
from slipway.local.traffic import require_traffic, send_traffic, wait_until_logged

DAY = timedelta(days=1)


class Unwaiting:
    """A clock by which nobody may wait."""

    monotonic = staticmethod(time.monotonic)

    def sleep(self, seconds: float) -> None:
        pytest.fail(f"waited {seconds} s")


def logged(folder: Path) -> int:
    files = list(folder.rglob("*.parquet"))
    return sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in files)


def test_what_was_accepted_is_stored_before_anybody_reads_it(tmp_path: Path) -> None:
    """Rows become parquet three seconds after they came; at once nothing of them can be read."""
    with predictor(tmp_path, "--log-roll-seconds=3") as running:
        for start in range(0, 60, 20):
            running.infer(flight_tensors(20, start))
        assert logged(running.log) < 60
        assert wait_until_logged(running.url) == ""
        assert logged(running.log) == 60
        # Nothing is waited for where nothing came: the first answer says so.
        assert wait_until_logged(running.url, clock=Unwaiting()) == ""


def test_a_slow_store_is_waited_for_and_a_dead_one_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "log"
    blocked.write_text("a file where the folder should be")
    with predictor(tmp_path) as running:
        running.infer(flight_tensors(7))
        told = wait_until_logged(running.url, 2, clock=SimClock())
        assert told.startswith("After 2 s 7 rows of the inference log are not stored yet")
        assert "INFERENCE_LOG_URI" in told
        threading.Timer(1, blocked.unlink).start()
        assert wait_until_logged(running.url) == ""
        assert logged(running.log) == 7


def test_rows_that_a_killed_predictor_left_are_waited_for_too(tmp_path: Path) -> None:
    blocked = tmp_path / "log"
    with predictor(tmp_path, "--log-roll-seconds=3600") as running:
        running.infer(flight_tensors(5))
        wait_for(lambda: running.metric('slipway_log_rows_total{state="spooled"}') == 5)
        running.process.kill()
        running.process.wait()
    blocked.write_text("no folder yet")
    with predictor(tmp_path) as running:
        assert running.metric("slipway_log_pending_rows") == 5
        running.infer(flight_tensors(2))
        assert "7 rows" in wait_until_logged(running.url, 0.5)
        blocked.unlink()
        assert wait_until_logged(running.url) == ""
    assert logged(tmp_path / "log") == 7


def test_rows_that_were_lost_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    with predictor(tmp_path, "--log-spool-mb=1", "--log-roll-seconds=0.1") as running:

        def dropped() -> bool:
            running.infer(flight_tensors(2000))
            try:
                return running.metric('slipway_log_dropped_rows_total{reason="spool_full"}') > 0
            except StopIteration:
                return False

        wait_for(dropped)
        (tmp_path / "log").unlink()
        assert wait_until_logged(running.url) == ""
        lost = running.metric('slipway_log_dropped_rows_total{reason="spool_full"}')
        accepted = running.metric('slipway_log_rows_total{state="accepted"}')
        assert logged(tmp_path / "log") == accepted - lost


def test_a_predictor_that_is_down_or_says_nothing_is_named(tmp_path: Path) -> None:
    assert "could not be asked" in wait_until_logged(f"http://127.0.0.1:{free_port()}", 1)
    with predictor(tmp_path, "--log-uri=") as running:
        assert "does not say whether its inference log is stored" in wait_until_logged(running.url)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A test part of 30 days up to 2013-04-11, with rows until the 11th, 00:00."""
    world.make_splits(tmp_path / "splits", test_rows=600)
    return tmp_path / "splits"


def cut_off(folder: Path, until: datetime, ends: str | None) -> None:
    """The test part ends early; `ends` is what the features stage would have noted of that."""
    file = part_file(folder, "test")
    pl.read_parquet(file).filter(pl.col(TIME) < until).write_parquet(file)
    notes: dict[str, Any] = {"data_end": ends} if ends else {}
    write_splits(folder, replace(read_splits(folder), notes=notes))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been sent, in place of sending it."""
    rows: list[Any] = []

    def keep(endpoint: str, model: str, splits: Any, table: pl.DataFrame, tell: Any) -> int:
        rows.append(table)
        tell(len(table), len(table))
        return 0

    monkeypatch.setattr(traffic, "send_rows", keep)
    return rows


def test_the_last_stretch_is_sent(splits: Path, sent: list[Any]) -> None:
    told: list[tuple[int, int]] = []
    done = send_traffic("", "toy", splits, 7 * DAY, lambda *of: told.append(of))
    times = sent[0][TIME]
    assert told == [(done.requests, done.requests)], "a heartbeat says how far it is"
    assert times.is_sorted() and done.requests == sent[0].height > 100
    assert times.min() >= datetime(2013, 4, 4, tzinfo=UTC) > times.min() - DAY
    assert (done.window_start, done.window_end) == ("2013-04-04T00:00:00Z", "2013-04-11T00:00:00Z")


def test_rows_that_never_got_a_label_are_asked_for_too(splits: Path, sent: list[Any]) -> None:
    part = pl.read_parquet(part_file(splits, "test"))
    without = part.gather_every(7).with_columns(
        pl.concat_str(pl.lit("no-label-"), "row_id").alias("row_id"),
        pl.lit(None, part.schema["label"]).alias("label"),
    )
    old = without.with_columns(pl.col(TIME) - 60 * DAY, part=pl.lit("train"))
    both = pl.concat([old, without.with_columns(part=pl.lit("test"))])
    both.write_parquet(splits / UNLABELLED)
    send_traffic("", "toy", splits, 30 * DAY)
    assert sent[0].height == part.height + without.height
    assert sent[0][TIME].is_sorted()


def test_rows_without_time_are_all_sent_as_they_come(splits: Path, sent: list[Any]) -> None:
    part = pl.read_parquet(part_file(splits, "test")).drop(TIME)
    part.write_parquet(part_file(splits, "test"))
    marked = [part.head(n).with_columns(part=pl.lit(p)) for p, n in (("train", 5), ("test", 3))]
    pl.concat(marked).write_parquet(splits / UNLABELLED)
    whole = replace(read_splits(splits), windows={})
    write_splits(splits, whole)
    require_traffic(splits, DAY)
    before = datetime.now(UTC).replace(microsecond=0)
    done = send_traffic("", "toy", splits, DAY)
    assert done.requests == sent[0].height == part.height + 3
    assert sent[0]["row_id"].is_sorted()
    start, end = (parse_instant(at) for at in (done.window_start, done.window_end))
    assert before <= start <= datetime.now(UTC) < end <= start + timedelta(seconds=3)
    # Without a time of its own a request counts from when it comes.
    body = traffic.request(whole, sent[0].row(0, named=True), None)
    assert "parameters" not in body and body["id"] == sent[0]["row_id"][0]


def test_of_many_rows_without_time_an_even_sample_is_sent(
    splits: Path, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "MOST_ROWS", 100)
    part = pl.read_parquet(part_file(splits, "test")).drop(TIME).sort("row_id")
    part.write_parquet(part_file(splits, "test"))
    write_splits(splits, replace(read_splits(splits), windows={}))
    send_traffic("", "toy", splits, DAY)
    assert sent[0]["row_id"].equals(part["row_id"].gather_every(-(-part.height // 100)))


def test_where_the_data_end_early_their_last_stretch_is_sent(splits: Path, sent: list[Any]) -> None:
    cut_off(splits, datetime(2013, 3, 20, tzinfo=UTC), "2013-03-19T23:58:00Z")
    require_traffic(splits, 2 * DAY)
    done = send_traffic("", "toy", splits, 2 * DAY)
    assert sent[0].height > 20
    assert (done.window_start, done.window_end) == ("2013-03-17T23:58:00Z", "2013-03-19T23:58:00Z")


def test_a_stretch_without_rows_is_refused_with_the_last_row(splits: Path) -> None:
    require_traffic(splits, 30 * DAY)
    cut_off(splits, datetime(2013, 3, 20, tzinfo=UTC), None)
    require_traffic(splits, 23 * DAY)
    for ask in (require_traffic, lambda folder, stretch: send_traffic("", "toy", folder, stretch)):
        with pytest.raises(SlipwayError) as error:
            ask(splits, 7 * DAY)
        assert str(error.value).startswith(
            "--traffic 7d: the test part has no row from 2013-04-04T00:00:00Z to"
            " 2013-04-11T00:00:00Z; its last row is at 2013-03-19T23:"
        )


def test_how_many_were_answered_is_told_on_the_way(tmp_path: Path) -> None:
    """15,000 requests take minutes on a busy machine; "starting" was all that was said."""
    answers: list[Any] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        answers.append(scope["path"])
        status = 500 if len(answers) % 50 == 0 else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    import httpx

    told: list[tuple[int, int]] = []
    transport = httpx.ASGITransport(app=answer)
    bodies = [{"id": str(n)} for n in range(250)]
    failed = asyncio.run(
        traffic._post("http://x/infer", bodies, lambda *of: told.append(of), transport)
    )
    assert (failed, told) == (5, [(100, 250), (200, 250)])
