"""Latency, throughput and errors, from the log of a window and from the predictor's metrics."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

TIMEOUT_S = 10.0
ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemMetrics:
    """How the endpoint did. None: there was nothing to measure.

    Attributes:
        requests: answered or refused, each counted once. predictions: predicted rows.
        latency_ms: mean, p50, p95, p99 and max over the requests that were answered with 200.
        throughput_rps: requests a second between the first and the last answer.
        error_rate: share of requests answered with 5xx. refusal_rate: with 4xx.
    """

    requests: int
    predictions: int
    latency_ms: dict[str, float] | None
    throughput_rps: float | None
    error_rate: float | None
    refusal_rate: float | None

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def measure_system(answers: "pa.Table") -> SystemMetrics:
    """Measures over all versions that answered: the user of an endpoint meets them all."""
    import numpy as np
    import pyarrow.compute as pc

    predictions = int(pc.sum(pc.greater_equal(answers["row"], 0)).as_py() or 0)
    # A request of many rows has its latency and status on each: its first row stands for it.
    requests = answers.filter(pc.less_equal(answers["row"], 0))
    n = requests.num_rows
    if not n:
        return SystemMetrics(
            requests=0,
            predictions=predictions,
            latency_ms=None,
            throughput_rps=None,
            error_rate=None,
            refusal_rate=None,
        )
    status = requests["status"].to_numpy()
    served = requests["served_at"].drop_null().to_numpy()
    seconds = float((served.max() - served.min()) / np.timedelta64(1, "s")) if len(served) else 0
    latencies = requests["latency_ms"].to_numpy()[status == 200]
    latencies = latencies[np.isfinite(latencies)]
    latency = None
    if len(latencies):
        p50, p95, p99 = np.quantile(latencies, [0.5, 0.95, 0.99])
        latency = {
            "mean": float(latencies.mean()),
            "p50": float(p50),
            "p95": float(p95),
            "p99": float(p99),
            "max": float(latencies.max()),
        }
    return SystemMetrics(
        requests=n,
        predictions=predictions,
        latency_ms=latency,
        throughput_rps=n / seconds if seconds > 0 else None,
        error_rate=float((status >= 500).mean()),
        refusal_rate=float(((status >= 400) & (status < 500)).mean()),
    )


def scrape(endpoint: str) -> dict[str, float]:
    """What the predictor counted since it started, by the metrics at `<endpoint>/metrics`.

    Behind a load balancer this is one replica. The window's figures come from the log; these tell
    what a log cannot: rows that were lost before they reached it.

    Returns:
        requests, errors (5xx), predicted_rows, log_dropped_rows, log_pending_rows (accepted and not
        stored yet) and latency_mean_ms, each only where the predictor counts it.

    Raises:
        SlipwayError: the endpoint does not answer, or not with Prometheus' text format.
    """
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    url = endpoint.rstrip("/") + "/metrics"
    try:
        with httpx.Client(
            timeout=TIMEOUT_S, transport=httpx.HTTPTransport(retries=ATTEMPTS)
        ) as http:
            answer = http.get(url)
            answer.raise_for_status()
        samples = [s for f in text_string_to_metric_families(answer.text) for s in f.samples]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise SlipwayError(f"The predictor's metrics at {url} cannot be read: {error}.") from error

    def total(name: str, code: str = "") -> float | None:
        found = [
            s.value for s in samples if s.name == name and s.labels.get("code", "").startswith(code)
        ]
        return sum(found) if found else None

    seconds = total("slipway_request_seconds_sum")
    count = total("slipway_request_seconds_count")
    requests = total("slipway_requests_total")
    values = {
        "requests": requests,
        "errors": total("slipway_requests_total", "5") or (0.0 if requests is not None else None),
        "predicted_rows": total("slipway_predicted_rows_total"),
        "log_dropped_rows": total("slipway_log_dropped_rows_total"),
        "log_pending_rows": total("slipway_log_pending_rows"),
        "latency_mean_ms": 1000 * seconds / count if seconds is not None and count else None,
    }
    return {name: value for name, value in values.items() if value is not None}
