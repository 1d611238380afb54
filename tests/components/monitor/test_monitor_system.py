"""Latency, throughput and errors from the log, and the predictor's own counters."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from slipway.components.monitor.measures.system import measure_system, scrape
from slipway.components.support.errors import SlipwayError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", "UTC")


def log(rows: list[tuple[int, int, float, float | None, float]]) -> pa.Table:
    """Rows of (row, status, latency, probability, second of the answer)."""
    return pa.table(
        {
            "row": pa.array([r[0] for r in rows], pa.int32()),
            "status": pa.array([r[1] for r in rows], pa.int16()),
            "latency_ms": pa.array([r[2] for r in rows], pa.float64()),
            "probability": pa.array([r[3] for r in rows], pa.float64()),
            "served_at": pa.array([NOON + timedelta(seconds=r[4]) for r in rows], INSTANT),
        }
    )


def test_a_request_of_many_rows_counts_once() -> None:
    rows = [(i, 200, 10.0, 0.5, 0.0) for i in range(50)]
    rows += [(0, 200, 2.0, 0.5, 1.0), (-1, 500, 900.0, None, 2.0), (-1, 400, 1.0, None, 4.0)]
    found = measure_system(log(rows))
    assert (found.requests, found.predictions) == (4, 51)
    assert found.latency_ms is not None
    assert found.latency_ms["mean"] == 6.0 and found.latency_ms["max"] == 10.0
    assert (found.error_rate, found.refusal_rate) == (0.25, 0.25)
    assert found.throughput_rps == 1.0


def test_nothing_is_measured_where_nothing_was_asked() -> None:
    found = measure_system(log([]))
    assert (found.requests, found.predictions) == (0, 0)
    assert found.latency_ms is found.throughput_rps is found.error_rate is None


def test_one_request_has_a_latency_and_no_throughput() -> None:
    found = measure_system(log([(0, 200, 3.0, 0.1, 0.0)]))
    assert found.latency_ms is not None and found.latency_ms["p99"] == 3.0
    assert found.throughput_rps is None


def test_the_predictors_counters_are_read_by_their_names(page: dict[str, Any]) -> None:
    from slipway.serving.metrics import Metrics

    metrics = Metrics("flights")
    for code in (200, 200, 400, 503):
        metrics.count_request(code)
    metrics.request.observe(0.004)
    metrics.request.observe(0.002)
    metrics.rows.inc(7)
    metrics.log_dropped.labels("full").inc(3)
    page["text"] = metrics.render().decode()
    assert scrape(page["url"] + "/") == {
        "requests": 4.0,
        "errors": 1.0,
        "predicted_rows": 7.0,
        "log_dropped_rows": 3.0,
        "latency_mean_ms": pytest.approx(3.0),
    }


def test_a_page_of_something_else_gives_nothing(page: dict[str, Any]) -> None:
    page["text"] = "# TYPE other counter\nother_total 1\n"
    assert scrape(page["url"]) == {}


@pytest.mark.parametrize("trouble", ["text", "status", "gone"])
def test_metrics_that_cannot_be_read_are_named(page: dict[str, Any], trouble: str) -> None:
    url = page["url"]
    if trouble == "text":
        page["text"] = "slipway_requests_total{ 1"
    elif trouble == "status":
        page["status"] = 500
    else:
        url = "http://127.0.0.1:9"
    with pytest.raises(SlipwayError, match="metrics at http"):
        scrape(url)
