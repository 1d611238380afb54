"""Inference log: what the predictor saw and answered. Written by serving, read by monitor.

Layout, version 1: parquet files below one root, by model and by UTC hour of `time`::

    <root>/<model>/date=2013-12-20/hour=17/<unique>.parquet

One row a predicted row, one row a refused or failed request. Columns:

    request_id    string           the V2 request's id, or one that the predictor made
    row           int32            position in the request; -1 where the request was refused
    key           string, null     the example's key, where the request carried it: labels join on it
    time          timestamp[us, UTC]  when the prediction was made: the clock; where the predictor
                                   trusts requests (replays), the request's parameter `time`
    served_at     timestamp[us, UTC]  the clock when the answer was sent
    model_version string
    status        int16            HTTP status of the answer
    probability   double, null     of a binary label: that of label 1
    label         int8, null
    latency_ms    double           from the request's first byte read to its answer handed over
    feature.<name>                 each feature as the model saw it (types as in the splits: double,
                                   string, bool, timestamp[us]); null where it was missing

In the place of `probability` and `label` stands what a kind of label answers with (`LabelType.columns` in
`components/metrics/kinds`): of several classes `probability` (double, of the class called), `label`
(string, its name) and `probabilities` (float of each class); of a number `value`, `low` and `high`
(double).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from slipway.components.contracts.splits import Feature

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
ROLL_SECONDS = 60.0
"""How often a predictor makes files of what it has answered, unless it is told otherwise."""
WHOLE_AFTER = timedelta(seconds=2 * ROLL_SECONDS)
"""So long after a moment the rows of its answers are in the store: a roll, and as long to ship it."""
LOCAL_ROLL_SECONDS = 2.0
"""The same of an endpoint on this machine."""
FEATURE_PREFIX = "feature."


def whole_after(uri: str) -> timedelta:
    """So long after a moment the rows of its answers are below `uri`; a folder is a local endpoint's."""
    if "://" in uri:
        return WHOLE_AFTER
    return timedelta(seconds=2 * LOCAL_ROLL_SECONDS)


def log_schema(
    features: tuple[Feature, ...], answers: "Iterable[tuple[str, pa.DataType]]"
) -> "pa.Schema":
    """The Arrow schema of the log of a model.

    Args:
        features: the model's.
        answers: the columns that hold an answer, as the label's kind has them.
    """
    import pyarrow as pa

    instant = pa.timestamp("us", tz="UTC")
    kinds = {
        "numeric": pa.float64(),
        "categorical": pa.string(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us"),
    }
    return pa.schema(
        [
            ("request_id", pa.string()),
            ("row", pa.int32()),
            ("key", pa.string()),
            ("time", instant),
            ("served_at", instant),
            ("model_version", pa.string()),
            ("status", pa.int16()),
            *answers,
            ("latency_ms", pa.float64()),
            *((FEATURE_PREFIX + feature.name, kinds[feature.kind]) for feature in features),
        ],
        metadata={"slipway.inference_log": str(VERSION)},
    )


def partition(model: str, time: datetime) -> str:
    """The folder, below the log's root, of the rows of one model and one UTC hour."""
    return f"{model_folder(model)}/date={time:%Y-%m-%d}/hour={time:%H}"


def model_folder(model: str) -> str:
    """The folder, below the log's root, of one model: its days lie in it."""
    return model
