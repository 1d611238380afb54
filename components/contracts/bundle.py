"""Bundle: a trained model with all that is needed to serve it. Written by train.

Layout, version 1::

    bundle.json      the signature: inputs, outputs, threshold
    model.onnx       raw feature values in, answers out; the preprocessing is inside
    model.pt2        the same for torch, where `training.pt2` asks for it; nothing here reads it. It takes
                     numeric, codes (int64 [N, m], see `category_codes`) and time, of width 0 where no
                     feature is of the kind
    training.json    the training log: settings, epochs, seconds, data hash, environment, MLflow run; it
                     tells of one training and is no part of the model, so no part of its hash
    model.sig        where register had a key: its signature (see `signature`), which comes after the hash

The ONNX graph has at most three inputs, each left out where no feature is of its kinds:

    numeric      float32 [N, n]  numeric features, then boolean ones as 0 and 1; missing is NaN
    categorical  string  [N, m]  missing is the empty string
    time         int64   [N, t]  microseconds since 1970 of the wall clock that the value shows;
                                 missing is the smallest int64

and one output, by the kind of label:

    binary       probability    float32 [N]     the calibrated probability of label 1; the label is 1
                                                from `threshold` on, both rounded to float32
    multiclass   probabilities  float32 [N, K]  of each class; the greatest decides, or what is expected
                                                to cost least
    number       interval       float32 [N, 3]  value, lower and upper end of its interval
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.record import Record
from slipway.components.contracts.splits import Feature
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_directory

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FILE = "bundle.json"
ONNX = "model.onnx"
PT2 = "model.pt2"
TRAINING = "training.json"
SIGNATURE = "model.sig"
# What lies in a bundle and is no part of the model that its hash names.
UNHASHED = frozenset({TRAINING, SIGNATURE})
MISSING_TIME = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle(Record):
    """A model's signature.

    Attributes:
        name: the registered model's name: the project's name.
        features: the inputs, as the splits had them, in order.
        sources: features that are no inputs: inputs are made of them.
        derived: feature to the expression that makes it of others, where a request does not bring it.
        predicts: what is predicted, in words that go on from "It predicts"; empty: nobody said it.
        key: the column that names an example; a request may carry it, the model does not see it.
        key_columns: the columns that the key is made of, where it is made of several; a request may carry
            those instead.
        entities: entity key columns with their Arrow types, for requests with keys only.
        feature_service: the Feast feature service that gives the features for those keys.
        label_kind: what the model predicts.
        threshold: of a binary label: it is 1 where the probability reaches it.
        classes: of several classes their names, in the order of the answers.
        costs: of classes, what an answer costs by the true class; of several, the answer is the one that
            is expected to cost least. Empty: nothing is said.
        level: of a number, the share of labels that the intervals are to hold; of several classes, that
            the sets are to hold (0: there are none).
        set_threshold: of several classes with sets: a set holds the classes whose probability reaches it.
        centre: of a number, the mean of the training labels.
        scale: of a number, the standard deviation of the training labels.
        vocabularies: categorical feature to its known values, in code order (code 0 is "unknown
            or missing", the first value has code 1).
        data_hash: content hash of the training data.
    """

    ABSENT: ClassVar[str] = "is not a model bundle"
    REMEDY: ClassVar[str] = "Train the model again."
    SPARSE: ClassVar[frozenset[str]] = frozenset(
        {"costs", "set_threshold", "sources", "derived", "predicts", "features.since_hours"}
    )

    name: str
    features: tuple[Feature, ...]
    key: str
    entities: dict[str, str]
    feature_service: str
    threshold: float
    vocabularies: dict[str, list[str]]
    data_hash: str
    label_kind: LabelKind = "binary"
    classes: tuple[str, ...] = ()
    level: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    key_columns: tuple[str, ...] = ()
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    set_threshold: float | None = None
    sources: tuple[Feature, ...] = ()
    derived: dict[str, str] = field(default_factory=dict)
    predicts: str = ""
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def output(self) -> tuple[str, tuple[int, ...]]:
        """The graph's output and the shape of one row's answer."""
        if self.label_kind == "multiclass":
            return "probabilities", (len(self.classes),)
        return ("interval", (3,)) if self.label_kind == "number" else ("probability", ())

    @property
    def numeric(self) -> list[str]:
        """Columns of the ONNX input `numeric`."""
        return [f.name for f in self.features if f.kind == "numeric"] + [
            f.name for f in self.features if f.kind == "boolean"
        ]

    @property
    def categorical(self) -> list[str]:
        """Columns of the ONNX input `categorical`."""
        return [f.name for f in self.features if f.kind == "categorical"]

    @property
    def time(self) -> list[str]:
        """Columns of the ONNX input `time`."""
        return [f.name for f in self.features if f.kind == "time"]


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Writes bundle.json."""
    bundle.write(folder / FILE)


def read_bundle(folder: Path) -> Bundle:
    """Reads bundle.json.

    Raises:
        SlipwayError: the folder is not a whole bundle of a version that this code reads.
    """
    return Bundle.read(folder / FILE)


def bundle_hash(folder: Path) -> str:
    """What names exactly this model: SHA-256 over the files that it is.

    Two trainings that come to the same files made the same model, whatever they took and wherever they
    were logged.
    """
    return hash_directory(folder, leave_out=UNHASHED)


def read_training(folder: Path) -> dict[str, Any]:
    """The training log of a bundle; empty where there is none.

    Raises:
        SlipwayError: it is damaged.
    """
    try:
        content = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise SlipwayError(f"{folder / TRAINING} is not JSON: {error}. Train again.") from error
    return content if isinstance(content, dict) else {}


def category_codes(bundle: Bundle, table: "pa.Table") -> "np.ndarray":
    """Codes of the categorical features, for model.pt2: int64 [N, m], 0 is unknown or missing.

    Args:
        bundle: the signature.
        table: has the categorical features' columns under their names.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = np.zeros((table.num_rows, len(bundle.categorical)), np.int64)
    for i, name in enumerate(bundle.categorical):
        known = pa.array(bundle.vocabularies[name], pa.string())
        found = pc.index_in(table[name].cast(pa.string()), value_set=known, skip_nulls=True)
        codes[:, i] = pc.add(found.cast(pa.int64()), 1).fill_null(0).to_numpy()
    return codes


def model_inputs(
    bundle: Bundle, table: "pa.Table", *, strings: bool = True
) -> dict[str, "np.ndarray"]:
    """The ONNX inputs for the rows of an Arrow table.

    Args:
        bundle: the signature.
        table: has the features' columns under their names, with the types of the splits.
        strings: whether to make the input `categorical`; model.pt2 takes `category_codes` instead.

    Returns:
        The arrays by input name: shapes and dtypes as this module's docstring says.

    Raises:
        SlipwayError: the table lacks a feature.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = [f.name for f in bundle.features if f.name not in table.column_names]
    if missing:
        raise SlipwayError(f"The table lacks the features {', '.join(missing)}.")
    rows = table.num_rows
    inputs: dict[str, np.ndarray] = {}
    if bundle.numeric:
        inputs["numeric"] = np.empty((rows, len(bundle.numeric)), np.float32)
        for i, name in enumerate(bundle.numeric):
            column = table[name].cast(pa.float64()).fill_null(float("nan"))
            inputs["numeric"][:, i] = column.to_numpy()
    if strings and bundle.categorical:
        inputs["categorical"] = np.empty((rows, len(bundle.categorical)), object)
        for i, name in enumerate(bundle.categorical):
            inputs["categorical"][:, i] = (
                table[name].cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
            )
    if bundle.time:
        inputs["time"] = np.empty((rows, len(bundle.time)), np.int64)
        for i, name in enumerate(bundle.time):
            zone = getattr(table[name].type, "tz", None)
            column = pc.local_timestamp(table[name]) if zone else table[name]
            stamps = column.cast(pa.timestamp("us")).cast(pa.int64())
            inputs["time"][:, i] = stamps.fill_null(MISSING_TIME).to_numpy()
    return inputs
