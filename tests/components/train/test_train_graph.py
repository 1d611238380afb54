"""The written graph beside torch's own exporter, over random models and hostile values."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch

from slipway.components.config.kinds import LabelKind
from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import Bundle, model_inputs
from slipway.components.contracts.splits import read_splits
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.tables import raw_arrays, read_features
from slipway.components.train.graph.traced import trace_graph
from slipway.components.train.graph.whole import write_graph
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.heads.multiclass import MulticlassHead
from slipway.components.train.heads.number import NumberHead
from slipway.components.train.heads.platt import Platt
from slipway.components.train.heads.temperature import Temperature
from slipway.components.train.model.trained import TrainedModel

CLASSES = ("low", "middle", "high")
ALL = ("numeric", "categorical", "boolean", "time")
HEADS: dict[LabelKind, Head] = {
    "binary": BinaryHead(platt=Platt(slope=0.8, offset=-0.4)),
    "multiclass": MulticlassHead(
        classes=CLASSES, temperature=Temperature(slope=1.3, offsets=(0.1, -0.2, 0.0))
    ),
    "number": NumberHead(level=0.9, mean=3.0, std=2.0, margin=0.1),
}


@dataclass(frozen=True)
class Case:
    """A model to write."""

    name: str
    architecture: str = "mlp"
    members: int = 1
    kind: LabelKind = "binary"
    kinds: tuple[str, ...] = ALL
    far: bool = False
    network: dict[str, Any] = field(default_factory=dict)
    calibrated: bool = True
    sure: bool = False


CASES = [
    Case("one network"),
    Case("two networks", members=2),
    Case("three of tabm", architecture="tabm", members=3),
    Case("several classes", architecture="tabm", kind="multiclass"),
    Case("several classes of two networks", members=2, kind="multiclass"),
    Case("a number", architecture="tabm", kind="number"),
    Case("a number of two networks", members=2, kind="number"),
    Case("not calibrated", calibrated=False),
    Case("answers beyond what is taken the logarithm of", sure=True),
    Case("numbers far from 0", kinds=("numeric",), far=True),
    Case("an edge at each value", network={"distinct": 128, "bins": 48, "embedding": 3}),
    Case("few bins, four layers", network={"bins": 2, "layers": 4, "embedding": 1}),
    Case("numbers only", kinds=("numeric",), architecture="tabm"),
    Case("categories only", kinds=("categorical",)),
    Case("booleans only", kinds=("boolean",), members=2),
    Case("times only", kinds=("time",), members=2),
    Case("times and categories", kinds=("time", "categorical"), architecture="tabm"),
]


def change_table(case: Case) -> Any:
    """Gives the table's columns what the case asks for."""

    def change(part: str, table: pa.Table) -> pa.Table:
        rows = np.random.default_rng(len(part)).normal(size=table.num_rows)
        columns = {"multiclass": {"label": rows.argsort().argsort() % 3}, "number": {"label": rows}}
        changed = columns.get(case.kind, {})
        if case.far:  # like seconds since 1970, of which float32 knows every 128th
            changed = changed | {"amount": 1.7e9 + 50_000 * rows}
        for name, values in changed.items():
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(values))
        return table

    return change


def random_model(prepared: Prepared, case: Case, seed: int) -> TrainedModel:
    """Networks whose weights have the size of trained ones."""
    generator = torch.Generator().manual_seed(seed)
    members = []
    for _ in range(case.members):
        network = prepared.make_network().eval().requires_grad_(False)
        for name, weight in network.named_parameters():
            scale = 0.3 if "numbers" in name or "categories" in name else 0.15
            weight.add_(torch.randn(weight.shape, generator=generator) * scale)
        if case.sure:
            network.output.weight.mul_(100)
        members.append(network)
    model = TrainedModel(
        prepared.parts.preprocessor, members, HEADS[case.kind], calibrated=case.calibrated
    )
    return model.eval()


def hostile_rows(table: pa.Table) -> pa.Table:
    """The table with numbers at, beside and far beyond what training saw, and odd times."""
    for name in ("amount", "skewed"):
        if name not in table.column_names:
            continue
        values = table[name].to_numpy().astype(np.float64)
        values[:8] = [np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-42, np.nan]
        values[8:40] = np.sort(values[40:])[[0, -1] * 16]
        values[9:40:3] = np.nextafter(values[9:40:3].astype(np.float32), np.float32(9e9))
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    if "when" in table.column_names:
        stamps = table["when"].cast(pa.int64()).to_pylist()
        stamps[:4] = [-1, 0, -(10**15), 253_402_300_799_999_999]
        when = pa.array(stamps, pa.int64()).cast(pa.timestamp("us"))
        table = table.set_column(table.column_names.index("when"), "when", when)
    return table


def run(content: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What onnxruntime answers."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def check(model: TrainedModel, bundle: Bundle, table: pa.Table) -> None:
    """The graph says what torch's export says."""
    inputs = model_inputs(bundle, table)
    written = run(write_graph(model, bundle).SerializeToString(), inputs)
    scale = np.float32(HEADS["number"].scale if bundle.label_kind == "number" else 1)
    traced = trace_graph(model, bundle, raw_arrays(bundle, table))
    torchs = run(traced.SerializeToString(), inputs)
    assert written.shape == torchs.shape
    assert written.dtype == np.float32
    assert np.ptp(written / scale) > 0.002
    np.testing.assert_allclose(written / scale, torchs / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_written_graph_answers_as_torch_s_export(case: Case, make_splits: Any) -> None:
    splits = make_splits(
        rows=400,
        kinds=case.kinds,
        kind=case.kind,
        classes=CLASSES if case.kind == "multiclass" else (),
        change=change_table(case),
    )
    network = {"width": 16, "architecture": case.architecture, "tabm_heads": 3} | case.network
    config = TrainingConfig.model_validate({"network": network})
    prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
    bundle = prepared.parts.signature
    table = hostile_rows(read_features(splits, "test", bundle))
    torch.manual_seed(5)
    check(random_model(prepared, case, seed=7), bundle, table)


def test_one_network_s_odds_are_not_taken_from_its_probability_again(make_splits: Any) -> None:
    """What nothing reads any more, the probability before calibration, is not in the graph."""
    splits = make_splits(rows=400)
    config = TrainingConfig.model_validate({"network": {"width": 16, "architecture": "mlp"}})
    prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
    model = random_model(prepared, Case("one network"), seed=7)
    graph = write_graph(model, prepared.parts.signature).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Sigmoid") == 1
    assert "Log" not in operators
    read = {name for node in graph.node for name in node.input}
    assert {each.name for each in graph.initializer} <= read
