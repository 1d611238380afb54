"""The linear model: as scikit-learn finds it, the same in the graph, and what it does for a blend."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import ONNX, model_inputs, read_bundle, read_training
from slipway.components.contracts.splits import read_part, read_splits
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.tables import raw_arrays
from slipway.components.train.heads.number import NumberHead
from slipway.components.train.linear import fit
from slipway.components.train.linear.fit import Coefficients, columns_of, fit_linear, minimise
from slipway.components.train.linear.model import Linear, make_scales
from slipway.components.train.model.trained import TrainedModel, forward_in_chunks

from .test_train_trees import KINDS, run


def prepared_of(splits: Path, **config: Any) -> Prepared:
    settings = TrainingConfig.parse(config, "training")
    return prepare(splits, read_splits(splits), "toy", settings, torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [0.1, 1e-3])
def test_it_finds_what_scikit_learn_finds(kind: str, penalty: float, make_splits: Any) -> None:
    """With the same penalty, of weighted rows: logistic, softmax, ridge."""
    prepared = prepared_of(make_splits(rows=900, **KINDS[kind]), sample_weight="importance")
    head, rows = prepared.parts.head, prepared.parts.source.rows
    sizes = [4, 31, 8]
    module = Linear(
        make_scales(prepared.parts.preprocessor, rows.scaled),
        prepared.parts.preprocessor.plain_width,
        tuple(sizes),
        head.outputs,
    )
    columns = columns_of(module, rows)
    assert columns.weights.std() > 0
    found = minimise(
        head, Coefficients.zeros(columns.design.shape[1], sizes, head.outputs), columns, penalty
    )
    onehot = [torch.nn.functional.one_hot(columns.codes[:, i], n) for i, n in enumerate(sizes)]
    design = torch.cat([columns.design, *onehot], dim=1).numpy()
    ours = found.outputs(columns.design, columns.codes).numpy()
    labels, weights = columns.labels.numpy(), columns.weights.numpy()
    if kind == "number":
        model = Ridge(alpha=penalty).fit(design, labels, weights)
        np.testing.assert_allclose(ours[:, 0], model.predict(design), atol=2e-4)
        for end, share in ((1, 0.05), (2, 0.95)):
            below = float(weights @ (labels < ours[:, end]))
            assert below == pytest.approx(share, abs=0.03)
        return
    model = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=2000)
    model.fit(design, labels, weights)
    theirs = model.decision_function(design).reshape(len(ours), -1)
    shift = ours.mean(1, keepdims=True) if kind == "multiclass" else 0
    np.testing.assert_allclose(ours - shift, theirs, atol=2e-3)


def test_the_penalty_is_the_best_on_validation_and_nothing_is_drawn(make_splits: Any) -> None:
    prepared = prepared_of(make_splits(rows=900))
    fits = [fit_linear(prepared) for _ in range(2)]
    assert fits[0].losses == fits[1].losses
    assert fits[0].losses[fits[0].penalty] == min(fits[0].losses.values())
    assert len(fits[0].losses) > 2
    for name, value in fits[0].module.state_dict().items():
        assert torch.equal(value, fits[1].module.state_dict()[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_model_of_each_kind_of_label(
    kind: str, make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """Alone, in the bundle: also where values lie far outside, are missing or unseen."""
    splits = make_splits(rows=900, **KINDS[kind])
    result = run(splits, tmp_path, model="linear")
    bundle, log = read_bundle(tmp_path / "bundle"), read_training(tmp_path / "bundle")
    assert (result.model, bundle.notes["model"], log["members"]) == ("linear", "linear", [])
    assert log["export_difference"] <= 1e-5
    assert result.headline.endswith(", a linear model")
    test = read_part(splits, "test")
    label = label_type_of(bundle)
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / ONNX))
    answers = session.run([bundle.output[0]], model_inputs(bundle, test))[0]
    measured = label.measure(test["label"].to_numpy(), answers)
    name, least = {"binary": ("auc", 0.75), "multiclass": ("auc", 0.8), "number": ("r2", 0.6)}[kind]
    assert measured[name] > least
    assert "a linear model (penalty" in (tmp_path / "report.html").read_text()

    places = np.resize([0.0, -0.0, 3e38, -3e38, np.inf, -np.inf, 1e-38, np.nan], test.num_rows)
    far = test
    for name in ("amount", "skewed", "constant"):
        column = far.column_names.index(name)
        far = far.set_column(column, name, pa.array(places))
    prepared = prepared_of(splits)
    model = TrainedModel(
        prepared.parts.preprocessor,
        [],
        prepared.parts.head,
        calibrated=False,
        linear=fit_linear(prepared).module,
    ).eval()
    settled = model.calibrated_by(
        prepared.parts.head.fit(
            label_of(prepared),
            forward_in_chunks(model, prepared.parts.validation_raw),
            prepared.config,
        )
    )
    raw = raw_arrays(bundle, far.select([feature.name for feature in bundle.features]))
    served = session.run([bundle.output[0]], model_inputs(bundle, far))[0]
    assert label.is_sound(served).all()
    np.testing.assert_allclose(served, forward_in_chunks(settled.eval(), raw), rtol=1e-5, atol=1e-5)


def label_of(prepared: Prepared) -> np.ndarray:
    encoded = prepared.parts.validation.labels.numpy().astype(np.float64)
    return prepared.parts.head.in_units(encoded)


def test_a_line_stays_a_line(make_splits: Any) -> None:
    """A number that is linear in a skewed feature: the normal scale alone would bend it."""

    def bent(part: str, table: pa.Table) -> pa.Table:
        amount = np.exp(table["amount"].fill_null(0.0).to_numpy() / 2)
        table = table.set_column(table.column_names.index("amount"), "amount", pa.array(amount))
        return table.set_column(
            table.column_names.index("label"), "label", pa.array(10 + 5 * amount)
        )

    prepared = prepared_of(make_splits(rows=900, kinds=("numeric",), change=bent, kind="number"))
    assert isinstance(prepared.parts.head, NumberHead)
    module = fit_linear(prepared).module
    held = prepared.parts.validation
    answers = module(held.scaled, held.plain, held.codes)[:, 0, 0]
    # What lies far outside counts as nearer.
    inside = held.labels < 3
    assert float((answers - held.labels)[inside].square().mean()) < 1e-3


def test_large_tables_have_none(make_splits: Any) -> None:
    config = TrainingConfig(model="auto")
    assert config.parts(config.network.auto_rows - 1) == ("network", "linear", "trees")
    assert config.parts(config.network.auto_rows) == ("network", "trees")
    assert config.parts(1000, 100) == ("network", "linear", "trees")
    assert config.parts(1000, 101) == config.parts(10**6, 1000) == ("network",)
    assert TrainingConfig(model="trees").parts(1000, 1000) == ("trees",)
    assert "trees" in TrainingConfig(model="blend").parts(1000, 1000)
    assert TrainingConfig(model="linear").parts(10**7) == ("linear",)
    assert TrainingConfig(model="network").parts(100) == ("network",)


def test_rows_in_pieces_find_the_same(make_splits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = make_splits(rows=700, **KINDS["multiclass"])
    whole = fit_linear(prepared_of(splits))
    monkeypatch.setattr(fit, "_CELLS", 300)
    pieces = fit_linear(prepared_of(splits))
    assert pieces.penalty == whole.penalty
    assert list(pieces.losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-3)


def test_what_is_too_large_to_be_fitted_is_refused_or_left_out(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = make_splits(rows=600, **KINDS["multiclass"])
    monkeypatch.setattr(fit, "MAX_COEFFICIENTS", 50)
    with pytest.raises(SlipwayError, match="50 are the most"):
        run(splits, tmp_path / "linear", model="linear")
    blend = run(splits, tmp_path / "blend", model="blend")
    assert "linear" not in blend.parts


def test_a_small_linear_table_is_not_lost_to_a_logistic_regression(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """300 rows, the label follows from a line of two numbers: network and trees alone do not see it."""

    def line(part: str, table: pa.Table) -> pa.Table:
        random = np.random.default_rng(len(part))
        amount, skewed = random.normal(size=(2, table.num_rows))
        score = 4 * (amount - skewed)
        label = (score + random.logistic(size=len(score)) > 0).astype(np.int8)
        for name, values in {"amount": amount, "skewed": skewed, "label": label}.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(values))
        return table

    splits = make_splits(rows=300, kinds=("numeric",), change=line)
    result = run(splits, tmp_path, model="auto")
    assert result.model in ("linear", "blend") and "linear" in result.parts
    bundle = read_bundle(tmp_path / "bundle")
    parts = {part: read_part(splits, part) for part in ("train", "test")}
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / ONNX))
    answers = session.run(None, model_inputs(bundle, parts["test"]))[0]
    columns = {
        part: np.stack([table[name].to_numpy() for name in ("amount", "skewed")], axis=1)
        for part, table in parts.items()
    }
    model = LogisticRegression().fit(columns["train"], parts["train"]["label"].to_numpy())
    truth = parts["test"]["label"].to_numpy()
    theirs = log_loss(truth, model.predict_proba(columns["test"]))
    assert log_loss(truth, answers) < theirs + 0.02
