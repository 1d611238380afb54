"""Prometheus metrics: the names that KServe's dashboards read, and the predictor's own."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class AnswerPlaces:
    """A histogram of where answers lie, from 0 to 1 in tenths, cheap for one row and for many."""

    def __init__(self) -> None:
        self._counts = [0] * 10
        self._sum = 0.0

    def add(self, places: np.ndarray) -> None:
        """Counts rows: float32 [N], each from 0 to 1 (`LabelType.place`)."""
        if len(places) == 1:
            value = float(places[0])
            self._counts[min(int(value * 10), 9)] += 1
            self._sum += value
            return
        bins = np.minimum((places * 10).astype(int), 9)
        for number, count in enumerate(np.bincount(bins, minlength=10).tolist()):
            self._counts[number] += count
        self._sum += float(places.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What Prometheus reads."""
        total, buckets = 0, []
        for number, count in enumerate(self._counts):
            total += count
            buckets.append((f"{(number + 1) / 10:g}" if number < 9 else "+Inf", total))
        yield HistogramMetricFamily(
            "slipway_probability",
            "predicted probabilities; of a number, where it lies among those of the training",
            buckets=buckets,
            sum_value=self._sum,
        )


class Distribution:
    """A histogram for the event loop alone: without a lock, a fifth of what the library's costs."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], labels: dict[str, str]
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = list(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value in the bucket that holds it; a bound belongs to the bucket below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What Prometheus reads."""
        family = HistogramMetricFamily(self._name, self._text, labels=list(self._labels))
        total, buckets = 0, []
        for bound, count in zip([*self._bounds, float("inf")], self._counts, strict=True):
            total += count
            buckets.append((floatToGoString(bound), total))
        family.add_metric(list(self._labels.values()), buckets, self._sum)
        yield family


class Metrics:
    """All metrics of one predictor, in a registry of their own."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._model_name = model_name
        # As the KServe SDK's server names them.
        self.preprocess = self._time("request_preprocess_seconds", "reading a request")
        self.predict = self._time("request_predict_seconds", "waiting for and running the model")
        self.postprocess = self._time("request_postprocess_seconds", "writing an answer")
        self.request = self._time(
            "slipway_request_seconds", "from a request's first byte read to its answer"
        )
        self.batch_rows = Distribution(
            "slipway_batch_rows", "rows of one forward pass", _BATCH_ROWS, {}
        )
        self.answers = AnswerPlaces()
        self.registry.register(self.batch_rows)
        self.registry.register(self.answers)
        self._requests = self._count(
            "slipway_requests", "inference requests by HTTP status", "model_name", "code"
        )
        self._by_code = {200: self._requests.labels(model_name, "200")}
        self.unlogged = self._count(
            "slipway_unlogged_requests",
            "answered requests that asked not to be logged; they are in no other request metric",
        )
        self.rows = self._count("slipway_predicted_rows", "rows predicted")
        self.log_rows = self._count(
            "slipway_log_rows",
            "inference log rows: accepted, spooled to disk, stored as parquet",
            "state",
        )
        self.log_dropped = self._count(
            "slipway_log_dropped_rows", "inference log rows that were lost, by reason", "reason"
        )
        self.log_skipped = self._count(
            "slipway_log_skipped_rows", "rows that were not to be logged, by reason", "reason"
        )
        self.model = Gauge(
            "slipway_model_info",
            "the model that serves",
            ["model_name", "model_version", "model_hash"],
            registry=self.registry,
        )
        for state in ("accepted", "spooled", "stored"):
            self.log_rows.labels(state)

    def _time(self, name: str, text: str) -> Distribution:
        histogram = Distribution(name, text, _SECONDS, {"model_name": self._model_name})
        self.registry.register(histogram)
        return histogram

    def _count(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def count_request(self, code: int) -> None:
        """Counts one inference request."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._requests.labels(self._model_name, str(code))
        counter.inc()

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is computed at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
