"""Predictions: what a registered version says of a table. Written by score, read by monitor.

Layout, version 1::

    predictions.json
    <model>/date=2013-12-20/part-00000.parquet

The rows have the columns of the inference log (`contracts.inference_log`) and are read as
one: key, time (when the prediction would have been made; of rows without time, when it was),
model_version, the columns of its answer (with `set`, a list of classes, where the model answers with
sets), and each feature as the model saw it. `latency_ms` is null. A
folder with predictions.json is whole.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.record import Record

FILE = "predictions.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions(Record):
    """What the folder holds.

    Attributes:
        model: the registered model. model_version, model_hash: which of its versions answered.
        window: [start, end) in which the predicted things happen, ISO 8601 in UTC; None: they have no
            time.
        moments: the same for `time`: earlier by the project's lead, or else when the table was scored.
        rows: predicted rows. label_kind: what was predicted.
        positives: of a binary label, the rows with label 1; else 0.
        threshold: of a binary label: it is 1 where the probability reaches it.
        data_hash: content hash of the dataset that the features were computed from.
        published: where else the folder was copied to; empty: nowhere.
    """

    ABSENT: ClassVar[str] = "holds no predictions"

    model: str
    model_version: str
    model_hash: str
    window: tuple[str, str] | None
    moments: tuple[str, str]
    rows: int
    positives: int
    threshold: float
    data_hash: str
    label_kind: LabelKind = "binary"
    published: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        done = f"{self.rows:,} rows by {self.model} version {self.model_version}"
        if self.label_kind != "binary":
            return done
        share = self.positives / self.rows if self.rows else 0.0
        return f"{done}, {share:.1%} positive"

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "model": self.model,
            "model_version": self.model_version,
            "model_hash": self.model_hash,
            "rows": self.rows,
            "positives": self.positives,
            "window_start": self.window[0] if self.window else "",
            "window_end": self.window[1] if self.window else "",
            "published": self.published,
        }


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes predictions.json: the last step before the folder is moved into place."""
    predictions.write(folder / FILE)


def read_predictions(folder: Path) -> Predictions:
    """Reads predictions.json.

    Raises:
        SlipwayError: the folder holds no whole set of predictions of a version that this code reads.
    """
    return Predictions.read(folder / FILE)
