"""A small world for the gate's tests: splits with a known truth, and bundles by the contract.

The label's log-odds are 1.5 a − b + 0.5 (colour is red) − 1, with `a` and `b` standard normal and a
day effect, so a bundle is as good as the weights that it is given.
"""

import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from slipway.components.contracts.bundle import ONNX, PT2, TRAINING, Bundle, write_bundle
from slipway.components.contracts.splits import Feature, Splits, part_file, write_splits
from slipway.components.support.files import write_json

FEATURES = (
    Feature(name="a", kind="numeric", view="numbers"),
    Feature(name="b", kind="numeric", view="numbers"),
    Feature(name="colour", kind="categorical", view="looks"),
    Feature(name="loud", kind="boolean", view="looks"),
    Feature(name="at", kind="time", view="looks"),
)
COLOURS = ("red", "green", "blue")
DAY = 86_400_000_000
START = 1_356_998_400_000_000  # 2013-01-01
TRUTH = (1.5, -1.0, 0.5, -1.0)


def make_part(rows: int, days: int, first_day: int, seed: int) -> pa.Table:
    """Rows with the columns of a split."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, days, rows))
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    colour = rng.integers(0, 3, rows)
    odds = TRUTH[0] * a + TRUTH[1] * b + TRUTH[2] * (colour == 0) + TRUTH[3]
    odds += rng.normal(0, 0.2, days)[day]
    label = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    stamp = START + (first_day + day) * DAY + rng.integers(0, DAY, rows)
    missing = rng.random(rows) < 0.02
    return pa.table(
        {
            "row_id": pa.array([f"{seed}-{i}" for i in range(rows)]),
            "event_timestamp": pa.array(stamp, pa.timestamp("us", tz="UTC")),
            "customer": pa.array([f"c{i % 97}" for i in range(rows)]),
            "a": pa.array(a),
            "b": pa.array(b, mask=missing),
            "colour": pa.array([COLOURS[i] for i in colour]).cast(pa.large_string()),
            "loud": pa.array(rng.random(rows) < 0.5),
            "at": pa.array(stamp, pa.timestamp("us")),
            "label": pa.array(label),
        }
    )


def make_splits(folder: Path, *, test_rows: int = 6000, days: int = 30, seed: int = 0) -> Splits:
    """Writes train, validation and test tables with splits.json."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "train": make_part(6000, 60, 0, seed + 1),
        "validation": make_part(1000, 10, 60, seed + 2),
        "test": make_part(test_rows, days, 70, seed + 3),
    }
    for part, table in parts.items():
        pq.write_table(table, part_file(folder, part))
    splits = Splits(
        project="toy",
        key="row_id",
        entities={"customer": "string"},
        features=FEATURES,
        rows={part: table.num_rows for part, table in parts.items()},
        positives={part: int(np.sum(table["label"].to_numpy())) for part, table in parts.items()},
        windows={
            "train": ("2013-01-01T00:00:00Z", "2013-03-02T00:00:00Z"),
            "validation": ("2013-03-02T00:00:00Z", "2013-03-12T00:00:00Z"),
            "test": ("2013-03-12T00:00:00Z", "2013-04-11T00:00:00Z"),
        },
        statistics={
            "a": {"mean": 0.0, "std": 1.0, "nulls": 0.0, "min": -4.0, "max": 4.0},
            "b": {"mean": 0.0, "std": 1.0, "nulls": 0.02, "min": -4.0, "max": 4.0},
            "colour": {"nulls": 0.0, "values": dict.fromkeys(COLOURS, 2000)},
            "loud": {"nulls": 0.0, "true": 0.5},
            "at": {"nulls": 0.0, "min": "2013-01-01T00:00:00", "max": "2013-03-01T23:59:59"},
        },
        data_hash="d" * 64,
        feature_service="toy",
    )
    write_splits(folder, splits)
    return splits


def rewrite_test(folder: Path, splits: Splits, table: pa.Table, *, honest: bool = True) -> None:
    """Replaces the test table; `honest` keeps splits.json in step."""
    pq.write_table(table, part_file(folder, "test"))
    if honest:
        positives = int(np.sum(table["label"].to_numpy() == 1))
        write_splits(
            folder,
            replace(
                splits,
                rows={**splits.rows, "test": table.num_rows},
                positives={**splits.positives, "test": positives},
            ),
        )


def make_bundle(
    folder: Path,
    *,
    weights: tuple[float, float, float, float] = TRUTH,
    threshold: float = 0.4,
    scale: float = 1.0,
    broken: str = "",
    splits: Splits | None = None,
) -> Bundle:
    """Writes a bundle whose model is a logistic regression with the given weights.

    Args:
        weights: of a, b, red, and the constant. The default is the truth.
        scale: multiplies the log-odds: the order stays, the calibration goes.
        broken: "nan" answers NaN where a > 2; "two" doubles the probability (above 1); "batch"
            subtracts the batch's mean, so that a row's answer depends on its company.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundle = Bundle(
        name="toy",
        features=splits.features if splits else FEATURES,
        key="row_id",
        entities={"customer": "string"},
        feature_service="toy",
        threshold=threshold,
        vocabularies={"colour": list(COLOURS)},
        data_hash="d" * 64,
    )
    (folder / ONNX).write_bytes(_graph(weights, scale, broken).SerializeToString())
    (folder / PT2).write_bytes(b"not used by these tests")
    write_json(folder / TRAINING, {"seed": 0, "epochs": 1})
    write_bundle(folder, bundle)
    return bundle


def _graph(
    weights: tuple[float, float, float, float], scale: float, broken: str
) -> onnx.ModelProto:
    def constant(name: str, values: list[float]) -> onnx.NodeProto:
        tensor = helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)
        return helper.make_node("Constant", [], [name], value=tensor)

    def node(kind: str, inputs: list[str], output: str, **more: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], **more)

    a, b, red, bias = weights
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    nodes = [
        node("IsNaN", ["numeric"], "missing"),
        constant("zero", [0.0]),
        node("Where", ["missing", "zero", "numeric"], "known"),
        constant("weights", [a * scale, b * scale, 0.0]),
        node("Mul", ["known", "weights"], "weighted"),
        helper.make_node("Constant", [], ["axis"], value=axis),
        node("ReduceSum", ["weighted", "axis"], "numbers", keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["categorical"],
            ["is_red"],
            domain="ai.onnx.ml",
            keys_strings=["red"],
            values_floats=[red * scale],
            default_float=0.0,
        ),
        node("ReduceSum", ["is_red", "axis"], "colours", keepdims=0),
        constant("bias", [bias * scale]),
        node("Add", ["numbers", "colours"], "sum"),
        node("Add", ["sum", "bias"], "odds"),
        node("Sigmoid", ["odds"], "clean" if broken else "probability"),
    ]
    if broken == "nan":
        one = helper.make_tensor("index", TensorProto.INT64, [], [0])
        nodes += [
            helper.make_node("Constant", [], ["index"], value=one),
            node("Gather", ["known", "index"], "first", axis=1),
            constant("two", [2.0]),
            node("Greater", ["first", "two"], "high"),
            constant("nan", [float("nan")]),
            node("Where", ["high", "nan", "clean"], "probability"),
        ]
    elif broken == "batch":
        nodes += [
            node("ReduceMean", ["clean"], "mean", keepdims=1),
            constant("half", [0.5]),
            node("Sub", ["mean", "half"], "excess"),
            node("Mul", ["excess", "half"], "shift"),
            node("Add", ["clean", "shift"], "moved"),
            constant("one", [1.0]),
            node("Max", ["moved", "zero"], "least"),
            node("Min", ["least", "one"], "probability"),
        ]
    elif broken == "two":
        nodes += [constant("two", [2.0]), node("Mul", ["clean", "two"], "probability")]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("categorical", TensorProto.STRING, ["N", 1]),
            helper.make_tensor_value_info("time", TensorProto.INT64, ["N", 1]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@functools.cache
def _empty_database() -> Path:
    """An MLflow database with its tables: making one takes ten seconds, copying it none."""
    import mlflow

    path = Path(tempfile.mkdtemp(prefix="slipway-mlflow-")) / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def new_registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty MLflow on sqlite for one test; its URI stands in MLFLOW_TRACKING_URI."""
    shutil.copyfile(_empty_database(), folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits that the gate can judge."""
    folder = tmp_path_factory.mktemp("gate") / "splits"
    make_splits(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was trained on them."""
    folder = tmp_path_factory.mktemp("gate") / "bundle"
    make_bundle(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty registry."""
    return new_registry(tmp_path, monkeypatch)
