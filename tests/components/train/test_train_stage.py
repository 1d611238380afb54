"""The stage as its face calls it: a bundle that answers, refusals, MLflow, reproducibility."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import (
    ONNX,
    PT2,
    TRAINING,
    category_codes,
    model_inputs,
    read_bundle,
    read_training,
    write_bundle,
)
from slipway.components.contracts.splits import read_part, read_splits, write_splits
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file
from slipway.components.train.data.preparation import prepare
from slipway.components.train.data.tables import raw_arrays, read_features
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.heads.platt import Platt
from slipway.components.train.model.export import check_export, export_model
from slipway.components.train.model.trained import TrainedModel
from slipway.components.train.process.device import choose_device
from slipway.components.train.train import TrainingTask, TrainResult, train_model

SMALL = {
    "network": {"width": 32, "architecture": "mlp"},
    "members": 1.0,
    "batch_size": 128.0,
    "model": "network",
    "min_steps": 1,
}


@dataclass(frozen=True)
class Trained:
    splits: Path
    folder: Path
    bundle: Path
    result: TrainResult
    told: list[dict[str, Any]]


def run(splits: Path, folder: Path, **changes: Any) -> TrainResult:
    """Trains with small settings; `config` is merged into them."""
    arguments: dict[str, Any] = {
        "splits": splits,
        "project": "toy",
        "config": SMALL | changes.pop("config", {}),
        "seed": 3,
        "epochs": 3,
        "learning_rate": 5e-3,
        "gpus": 0,
        "allow_cpu": False,
        "bundle": folder / "bundle",
        "report": folder / "report",
    }
    return train_model(TrainingTask(**(arguments | changes)))


def answers(folder: Path, table: pa.Table) -> np.ndarray:
    """What the ONNX file says of a table."""
    session = onnxruntime.InferenceSession(str(folder / ONNX))
    return session.run(["probability"], model_inputs(read_bundle(folder), table))[0]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, mlflow_store: str, write_example: Any
) -> Trained:
    """One run of the stage that several tests look at."""
    folder = tmp_path_factory.mktemp("trained")
    splits = write_example(folder / "splits", 1500)
    told: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
        patch.delenv("SLIPWAY_HOME", raising=False)
        patch.setattr(
            "slipway.components.support.stage.emit", lambda event, **more: told.append(more)
        )
        result = run(splits, folder, config={"members": 2})
    return Trained(splits=splits, folder=folder, bundle=folder / "bundle", result=result, told=told)


def test_the_last_epoch_is_not_the_end_of_the_stage(trained: Trained) -> None:
    shares = [(event["message"], event["done"]) for event in trained.told if "done" in event]
    epochs = [done for message, done in shares if "epoch" in message]
    assert epochs[-1] == pytest.approx(0.8) and epochs == sorted(epochs)
    after = [(message, done) for message, done in shares if done > epochs[-1]]
    assert [message.partition(" ")[0] for message, _ in after] == [
        "measuring",
        "exporting",
        "writing",
    ]
    assert [done for _, done in after] == sorted(done for _, done in after)
    assert after[-1][1] < 1, "nobody has logged the artifacts yet"


def test_a_bundle_answers_raw_values(trained: Trained) -> None:
    bundle = read_bundle(trained.bundle)
    test = read_part(trained.splits, "test")
    probability = answers(trained.bundle, test)

    assert trained.result.metrics["auc"] > 0.75
    assert probability.dtype == np.float32
    assert probability.shape == (400,)
    assert ((probability > 0) & (probability < 1)).all()
    labels = test["label"].to_numpy()
    assert probability[labels == 1].mean() - probability[labels == 0].mean() > 0.15
    assert bundle.name == "toy"
    assert bundle.threshold == trained.result.threshold
    assert set(bundle.vocabularies["colour"]) == {"red", "green", "blue"}
    assert "Atlantis" not in bundle.vocabularies["town"]
    assert answers(trained.bundle, test.slice(5, 1)) == pytest.approx(probability[5:6], abs=1e-6)


def test_the_bundle_holds_pt2_on_request(trained: Trained, tmp_path: Path, tracking: str) -> None:
    import torch

    assert not (trained.bundle / PT2).exists()
    run(trained.splits, tmp_path, config={"members": 2, "pt2": True})
    folder = tmp_path / "bundle"
    bundle, test = read_bundle(folder), read_part(trained.splits, "test")
    probability = answers(folder, test)
    assert (probability == answers(trained.bundle, test)).all()
    program = torch.export.load(folder / PT2).module()
    raw = model_inputs(bundle, test, strings=False)
    torch_probability = program(
        torch.from_numpy(raw["numeric"]),
        torch.from_numpy(category_codes(bundle, test)),
        torch.from_numpy(raw["time"]),
    )
    assert np.abs(torch_probability.numpy() - probability).max() <= 1e-5


def test_missing_and_unseen_values_are_answered(trained: Trained) -> None:
    row = read_part(trained.splits, "test").slice(0, 1)

    def answer(name: str, value: Any) -> np.ndarray:
        column = pa.array([value], row.schema.field(name).type)
        return answers(trained.bundle, row.set_column(row.column_names.index(name), name, column))

    for feature in read_bundle(trained.bundle).features:
        assert np.isfinite(answer(feature.name, None)).all(), feature.name
    assert answer("town", "Mu") == answer("town", None) == answer("town", "")
    assert answer("amount", 1e30) == answer("amount", 1e20), "beyond the ends nothing changes"


def test_the_same_seed_gives_the_same_files(
    trained: Trained, tmp_path: Path, tracking: str
) -> None:
    run(trained.splits, tmp_path, config={"members": 2})
    assert hash_file(tmp_path / "bundle" / ONNX) == hash_file(trained.bundle / ONNX)


def test_no_path_of_the_machine_is_in_the_model(trained: Trained) -> None:
    for file in (ONNX, "bundle.json", TRAINING):
        assert str(Path(__file__).parents[3]).encode() not in (trained.bundle / file).read_bytes()


def test_the_run_is_in_mlflow_and_named_in_the_bundle(trained: Trained, mlflow_store: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_store)
    identity = trained.result.run_id
    assert identity is not None
    found = client.get_run(identity)
    assert client.get_experiment(found.info.experiment_id).name == "toy"
    assert found.info.status == "FINISHED"
    assert found.data.params["data_hash"] == "data-1500"
    assert found.data.params["learning_rate"] == "0.005"
    assert found.data.metrics["validation_auc"] == pytest.approx(trained.result.metrics["auc"])
    assert len(client.get_metric_history(identity, "member_2/auc")) == 3
    assert {f.path for f in client.list_artifacts(identity, "training")} == {
        "training/report.html",
        "training/training.json",
    }
    log = json.loads((trained.bundle / TRAINING).read_text())
    assert log["mlflow_run_id"] == identity
    assert log["export_difference"] <= 1e-5
    # The same model of another run is the same model: its hash knows no run.
    assert "mlflow_run_id" not in read_bundle(trained.bundle).notes
    assert trained.result.metadata()["mlflow_run_id"] == identity


def test_the_report_stands_alone(trained: Trained) -> None:
    text = (trained.folder / "report").read_text()
    assert "which also chose the epoch, the calibration and the threshold:" in text
    assert not re.search(r"(src|href)=.https?://", text.replace("http://www.w3.org", ""))
    assert text.count("<svg") == 3  # loss, quality, calibration
    for words in ("Validation AUC", "before calibration", "when a feature", "is 2 networks ("):
        assert words in text


def test_importance_finds_the_features_that_matter(trained: Trained) -> None:
    importance = json.loads((trained.bundle / TRAINING).read_text())["importance"]
    assert importance[0]["feature"] == "amount"
    drops = {entry["feature"]: entry["drop"] for entry in importance}
    assert drops["amount"] > 0.1
    assert drops["constant"] == 0


@dataclass(frozen=True)
class Shape:
    name: str
    kinds: tuple[str, ...]
    architecture: str


SHAPES = [
    Shape("numbers only", ("numeric",), "tabm"),
    Shape("categories only", ("categorical",), "mlp"),
    Shape("booleans only", ("boolean",), "mlp"),
    Shape("times only", ("time",), "mlp"),
    Shape("all", ("numeric", "categorical", "boolean", "time"), "tabm"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_any_mix_of_kinds_exports(shape: Shape, make_splits: Any, tmp_path: Path) -> None:
    import torch

    splits = make_splits(rows=500, kinds=shape.kinds)
    network = {"width": 16, "architecture": shape.architecture, "tabm_heads": 4}
    config = TrainingConfig.model_validate(SMALL | {"network": network})
    prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
    member = prepared.make_network().eval().requires_grad_(False)
    head = BinaryHead(platt=Platt(slope=0.9, offset=-0.1))
    model = TrainedModel(prepared.parts.preprocessor, [member], head).eval()
    bundle = prepared.parts.signature
    write_bundle(tmp_path, bundle)
    export_model(tmp_path, model, bundle, prepared.parts.validation_raw)
    test = read_features(splits, "test", bundle)
    assert check_export(tmp_path, model, bundle, test, raw_arrays(bundle, test)) <= 1e-5
    assert len(np.unique(answers(tmp_path, test))) > 1


@pytest.mark.parametrize("far", [[-3.4e38], [-3.4e38, 3.4e38], [1e38, -1e38, -2e38]], ids=str)
def test_numbers_that_stand_for_no_value_export_as_any_other(
    far: list[float], make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """The lowest float32 is what many a tool writes for a number that is not known."""

    def change(part: str, table: pa.Table) -> pa.Table:
        amount = table["amount"].to_numpy(zero_copy_only=False).copy()
        for place, value in enumerate(far):
            amount[place :: 2 * len(far)] = value
        return table.set_column(table.column_names.index("amount"), "amount", pa.array(amount))

    splits = make_splits(rows=600, change=change)
    run(splits, tmp_path, config={"model": "network"})
    assert read_training(tmp_path / "bundle")["export_difference"] <= 1e-5
    test = read_part(splits, "test")
    found = answers(tmp_path / "bundle", test)
    assert np.isfinite(found).all()
    # Another one as far out is answered alike.
    place = test.column_names.index("amount")
    amount = np.nan_to_num(test["amount"].to_numpy(zero_copy_only=False))
    farther = test.set_column(place, "amount", pa.array(np.where(amount < -1e37, -1e32, amount)))
    least = amount < -1e37
    assert least.any()
    np.testing.assert_allclose(
        answers(tmp_path / "bundle", farther)[least], found[least], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("file", [ONNX, PT2])
def test_an_export_that_disagrees_is_refused(file: str, make_splits: Any, tmp_path: Path) -> None:
    """A model's files beside the model after its calibration was moved a little."""
    import torch

    splits = make_splits(rows=500)
    config = TrainingConfig.model_validate(SMALL)
    prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
    member = prepared.make_network().eval().requires_grad_(False)
    bundle = prepared.parts.signature
    test = read_features(splits, "test", bundle)
    raw = raw_arrays(bundle, test)

    def moved(offset: float) -> TrainedModel:
        head = BinaryHead(platt=Platt(slope=0.9, offset=offset))
        return TrainedModel(prepared.parts.preprocessor, [member], head).eval()

    export_model(tmp_path, moved(0), bundle, raw, pt2=file == PT2)
    assert check_export(tmp_path, moved(0), bundle, test, raw) <= 1e-5
    if file == PT2:
        # Only the one file is another model's.
        export_model(tmp_path, moved(1e-4), bundle, raw)
        with pytest.raises(SlipwayError, match=r"model\.pt2 and the trained model disagree by 2"):
            check_export(tmp_path, moved(1e-4), bundle, test, raw)
    else:
        with pytest.raises(SlipwayError, match=r"model\.onnx and the trained model disagree by 2"):
            check_export(tmp_path, moved(1e-4), bundle, test, raw)


def _with_infinity(part: str, table: pa.Table) -> pa.Table:
    values = table["amount"].to_numpy().copy()
    values[3] = np.inf
    return table.set_column(table.column_names.index("amount"), "amount", pa.array(values))


def _one_class(part: str, table: pa.Table) -> pa.Table:
    zeros = pa.array(np.zeros(table.num_rows, np.int8))
    return table.set_column(table.column_names.index("label"), "label", zeros)


def _weightless(part: str) -> Callable[[str, pa.Table], pa.Table]:
    """All rows with label 1 weigh nothing in a part."""

    def change(of: str, table: pa.Table) -> pa.Table:
        weights = pa.array(1.0 - table["label"].to_numpy() * (of == part))
        return table.set_column(table.column_names.index("importance"), "importance", weights)

    return change


@dataclass(frozen=True)
class Refusal:
    name: str
    message: str
    change: Any = None
    arguments: Any = None


REFUSALS = [
    Refusal("infinity", "infinite values in amount", _with_infinity),
    Refusal("one class", "label 0: a model needs both classes", _one_class),
    *(
        Refusal(
            f"one class weighs in {part}",
            f"rows that weigh something (importance) of the {part} part have label 0: a model needs",
            _weightless(part),
            {"config": {"sample_weight": "importance"}},
        )
        for part in ("train", "validation")
    ),
    Refusal("no rows", "The train part has no rows", lambda part, table: table.slice(0, 0)),
    Refusal("no GPU", "0 can be seen", arguments={"gpus": 1}),
    Refusal(
        "weight is no feature",
        "names 'colour', which is no numeric feature",
        arguments={"config": {"sample_weight": "colour"}},
    ),
    Refusal("diverging", "Lower training.learning_rate", arguments={"learning_rate": 1e30}),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_refusals(refusal: Refusal, make_splits: Any, tmp_path: Path, tracking: str) -> None:
    splits = make_splits(rows=600, change=refusal.change)
    with pytest.raises(SlipwayError, match=re.escape(refusal.message)):
        run(splits, tmp_path / "out", **(refusal.arguments or {}))
    assert not (tmp_path / "out" / "bundle").exists()


def test_a_missing_gpu_is_allowed_where_the_project_says_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert choose_device(1, True).type == "cpu"
    assert "training on the CPU, as allow_cpu permits" in capfd.readouterr().out
    assert choose_device(0, False).type == "cpu"


@pytest.mark.parametrize(
    ("cuda", "says"),
    [(None, "build the image with TORCH_BUILD=cuda"), ("13.0", "the driver of the node")],
)
def test_a_missing_gpu_is_told_from_a_build_of_torch_that_sees_none(
    cuda: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SlipwayError, match=says):
        choose_device(1, False)


def test_torch_compile_without_a_compiler_is_refused_before_anything_is_read(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = make_splits(rows=200)
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SlipwayError, match=r"training\.compile is true.*image has none"):
        run(splits, tmp_path / "out", config={"compile": True})


def test_a_weight_column_is_no_input(make_splits: Any) -> None:
    import torch

    splits = make_splits(rows=500)
    config = TrainingConfig.model_validate(SMALL | {"sample_weight": "importance"})
    prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
    assert "importance" not in prepared.parts.signature.numeric
    assert "amount" in prepared.parts.signature.numeric
    given = read_part(splits, "train")["importance"].to_numpy()
    assert prepared.parts.source.rows.weights.numpy() == pytest.approx(
        given / given.mean(), rel=1e-5
    )


def test_a_weight_beside_the_features_weighs_the_rows(make_splits: Any) -> None:
    import torch

    splits = make_splits(rows=500)
    meta = read_splits(splits)
    features = tuple(f for f in meta.features if f.name != "importance")
    write_splits(splits, replace(meta, features=features, beside={"importance": "double"}))
    for value, weighed in (("importance", True), (None, False)):
        config = TrainingConfig.model_validate(SMALL | {"sample_weight": value})
        prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
        assert prepared.parts.signature.features == features
        given = read_part(splits, "train")["importance"].to_numpy()
        wanted = given / given.mean() if weighed else np.ones(len(given))
        assert prepared.parts.source.rows.weights.numpy() == pytest.approx(wanted, rel=1e-5)


def test_a_weight_that_is_no_number_is_refused(make_splits: Any) -> None:
    import torch

    splits = make_splits(rows=500)
    meta = read_splits(splits)
    features = tuple(f for f in meta.features if f.name != "town")
    write_splits(splits, replace(meta, features=features, beside={"town": "string"}))
    config = TrainingConfig.model_validate(SMALL | {"sample_weight": "town"})
    with pytest.raises(SlipwayError, match=r"sample_weight \(town\) names a column of type string"):
        prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))


def test_weights_that_cannot_weigh_are_refused_with_their_rows(make_splits: Any) -> None:
    import torch

    splits = make_splits(rows=500)
    for part, values in (("train", [-1.0, None, float("inf")]), ("validation", [float("nan")])):
        table = read_part(splits, part)  # type: ignore[arg-type]
        given = table["importance"].to_pylist()
        for name, weights in (
            ("negative", [*values, *given[len(values) :]]),
            ("zero", [0.0] * len(given)),
        ):
            table = table.append_column(name, pa.array(weights, pa.float64()))
        pq.write_table(table, splits / f"{part}.parquet")
    meta = read_splits(splits)
    write_splits(splits, replace(meta, beside={"negative": "double", "zero": "double"}))
    rows = meta.rows["train"]
    for name, says in (
        (
            "negative",
            "1 are null or NaN, 1 are infinite, 1 are below 0. A weight is a finite number 0",
        ),
        ("zero", f"{rows:,} are 0. A weight is a finite number 0 or more (and not all 0)"),
    ):
        config = TrainingConfig.model_validate(SMALL | {"sample_weight": name})
        message = re.escape(
            f"training.sample_weight ({name}): of {rows:,} rows of the train part {says}"
        )
        with pytest.raises(SlipwayError, match=message):
            prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))


@pytest.mark.parametrize("power", [-150, -20, 20, 120, 150])
def test_only_how_weights_stand_to_one_another_counts(make_splits: Any, power: int) -> None:
    """Beyond what float32 holds too; where it does, to the last bit."""
    import torch

    splits = make_splits(rows=500)
    for part in ("train", "validation"):
        table = read_part(splits, part)
        scaled = pa.array(table["importance"].to_numpy() * 2.0**power)
        pq.write_table(table.append_column("scaled", scaled), splits / f"{part}.parquet")
    write_splits(splits, replace(read_splits(splits), beside={"scaled": "double"}))
    weights = []
    for name in ("importance", "scaled"):
        config = TrainingConfig.model_validate(SMALL | {"sample_weight": name})
        prepared = prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))
        weights.append(prepared.parts.source.rows.weights.numpy())
    assert np.array_equal(*weights)


@pytest.mark.parametrize(("given", "found"), [(0, (10, 6e-3)), (1, (1, 1.0))])
def test_a_parameter_of_0_follows_the_size_of_the_table(
    given: int,
    found: tuple[int, float],
    make_splits: Any,
    tmp_path: Path,
    tracking: str,
) -> None:
    small = {"network": {"width": 8, "architecture": "mlp"}, "patience": 1, "calibration": "none"}
    config = {**small, "batch_size": 512}
    splits = make_splits(rows=700)
    run(splits, tmp_path, config=config, epochs=given, learning_rate=float(given))
    settings = json.loads((tmp_path / "bundle" / TRAINING).read_text())["settings"]
    assert (settings["epochs"], settings["learning_rate"]) == found


def test_mlflow_away_does_not_lose_the_model(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = run(
        make_splits(rows=600), tmp_path / "out", epochs=1, run_wait_seconds=0.5, give_up_seconds=1.0
    )
    assert result.run_id is None
    log = json.loads((tmp_path / "out" / "bundle" / TRAINING).read_text())
    assert log["mlflow_run_id"] is None
