"""Registering models of several classes and of numbers: reference, signature, evidence, tags."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import gate_world, kinds_world
from support.registry import mlflow_client

from slipway.components.config.features.label import LabelKind
from slipway.components.contracts.bundle import bundle_hash, read_bundle, write_bundle
from slipway.components.contracts.monitoring.reference import ReferenceSummary
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import (
    PARTS,
    part_file,
    read_part,
    read_splits,
    write_splits,
)
from slipway.components.contracts.verdict import RuleResult, Verdict, write_verdict
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.monitor.reference import read_reference
from slipway.components.register.evidence import Provenance, RegistrationInputs
from slipway.components.register.reference import write_reference
from slipway.components.register.register import register_model

RULE = RuleResult(name="rows", metric="rows", outcome="pass", reason="Rows.", value=1.0)
ADDED = ("label_kind", "classes", "level", "labels", "fairness")


def passed(bundle: Path) -> Verdict:
    return Verdict(
        outcome="pass",
        rules=(RULE,),
        metrics={"r2": 0.5},
        thresholds={"r2": 0.0},
        model_hash=bundle_hash(bundle),
        data_hash="d" * 64,
        test_rows=3000,
    )


def world(folder: Path, kind: LabelKind) -> tuple[Path, Path]:
    bundle, splits = folder / "bundle", folder / "splits"
    if kind == "binary":
        gate_world.make_splits(splits, test_rows=3000)
        gate_world.make_bundle(bundle)
    else:
        kinds_world.make_splits(splits, kind)
        kinds_world.make_bundle(bundle, kind)
    return bundle, splits


def reference_of(folder: Path, kind: LabelKind) -> Path:
    bundle, splits = world(folder, kind)
    made = folder / "reference"
    made.mkdir()
    write_reference(
        made,
        splits_path=splits,
        splits=read_splits(splits),
        bundle_path=bundle,
        bundle=read_bundle(bundle),
        verdict=passed(bundle),
    )
    return made


def test_the_reference_of_two_classes_says_nothing_new(tmp_path: Path) -> None:
    made = reference_of(tmp_path, "binary")
    content = json.loads((made / "reference.json").read_text())
    assert not set(ADDED) & set(content)
    rows = pq.read_table(made / "reference.parquet")
    assert rows.column_names[-3:] == ["part", "probability", "predicted"]
    assert [str(rows.schema.field(name).type) for name in rows.column_names[-4:]] == [
        "int8",
        "string",
        "double",
        "int8",
    ]
    summary = ReferenceSummary.read(made / "reference.json")
    assert summary.label_kind == "binary" and summary.labels == {}
    assert set(summary.label_rate) == set(summary.probability_mean) == {"train", "test"}


def test_what_travels_beside_the_features_is_not_registered(tmp_path: Path) -> None:
    bundle, splits = world(tmp_path, "binary")
    meta = replace(read_splits(splits), beside={"customer_age": "int64"})
    for part in PARTS:
        table = read_part(splits, part)
        ages = pa.array(np.arange(table.num_rows) % 60)
        pq.write_table(table.append_column("customer_age", ages), part_file(splits, part))
    write_splits(splits, meta)
    (tmp_path / "reference").mkdir()
    write_reference(
        tmp_path / "reference",
        splits_path=splits,
        splits=meta,
        bundle_path=bundle,
        bundle=read_bundle(bundle),
        verdict=passed(bundle),
    )
    rows = pq.read_table(tmp_path / "reference" / "reference.parquet")
    assert "customer" in rows.column_names
    assert "customer_age" not in rows.column_names


def test_the_rules_of_fairness_go_with_the_version(tmp_path: Path) -> None:
    bundle, splits = world(tmp_path, "binary")
    asked = [{"rule": {"by": "colour", "measure": "error", "gap": 0.1}, "gap": 0.02, "ratio": 0.9}]
    (tmp_path / "reference").mkdir()
    write_reference(
        tmp_path / "reference",
        splits_path=splits,
        splits=read_splits(splits),
        bundle_path=bundle,
        bundle=read_bundle(bundle),
        verdict=replace(passed(bundle), notes={"fairness": asked}),
    )
    assert read_reference(tmp_path / "reference", "1", "test").fairness == tuple(asked)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "number"])
def test_monitoring_reads_the_gate_s_bounds_from_the_reference(
    tmp_path: Path, kind: LabelKind
) -> None:
    assert read_reference(reference_of(tmp_path, kind), "1", "test").thresholds == {"r2": 0.0}


def test_the_reference_of_several_classes(tmp_path: Path) -> None:
    made = reference_of(tmp_path, "multiclass")
    summary = ReferenceSummary.read(made / "reference.json")
    assert (summary.label_kind, summary.classes) == ("multiclass", kinds_world.CLASSES)
    assert summary.label_rate == summary.probability_mean == {}
    rows = pq.read_table(made / "reference.parquet")
    test = rows.filter(np.array(rows["part"].to_pylist()) == "test")
    assert str(test.schema.field("label").type) == "int32"
    bundle = read_bundle(tmp_path / "bundle")
    answers = predict(
        open_model(tmp_path / "bundle"), bundle, read_part(tmp_path / "splits", "test")
    )
    names = np.array(kinds_world.CLASSES)[answers.argmax(1)]
    assert test["__label"].to_pylist() == names.tolist()
    assert np.array(test["__probabilities"].to_pylist(), np.float32).tolist() == (answers.tolist())
    assert test["__probability"].to_numpy() == pytest.approx(answers.max(1))
    labels = read_part(tmp_path / "splits", "test")["label"].to_numpy()
    assert list(summary.labels["test"].values()) == np.bincount(labels).tolist()


def test_what_decides_goes_with_the_version(tmp_path: Path) -> None:
    bundle, splits = world(tmp_path, "multiclass")
    changed = replace(
        read_bundle(bundle), level=0.9, set_threshold=0.2, costs={"bee": {"ant": 3.0}}
    )
    write_bundle(bundle, changed)
    (tmp_path / "reference").mkdir()
    write_reference(
        tmp_path / "reference",
        splits_path=splits,
        splits=read_splits(splits),
        bundle_path=bundle,
        bundle=changed,
        verdict=passed(bundle),
    )
    label = read_reference(tmp_path / "reference", "1", "test").label
    assert label == label_type_of(changed)
    assert label.metrics[-3:] == ("coverage", "set_size", "expected_cost")


def test_the_reference_of_a_number(tmp_path: Path) -> None:
    made = reference_of(tmp_path, "number")
    summary = ReferenceSummary.read(made / "reference.json")
    assert (summary.label_kind, summary.level, summary.classes) == ("number", 0.9, ())
    rows = pq.read_table(made / "reference.parquet")
    test = rows.filter(np.array(rows["part"].to_pylist()) == "test")
    assert str(test.schema.field("label").type) == "double"
    value, low, high = (test[f"__{name}"].to_numpy() for name in ("value", "low", "high"))
    assert (high - value) == pytest.approx(1.645 * 15, abs=1e-3) and (low < value).all()
    labels = read_part(tmp_path / "splits", "test")["label"].to_numpy()
    assert summary.labels["test"]["mean"] == pytest.approx(labels.mean())


@pytest.mark.parametrize(
    ("kind", "output", "tags"),
    [
        (
            "multiclass",
            "probabilities",
            {"slipway.label_kind": "multiclass", "slipway.classes": "3"},
        ),
        ("number", "interval", {"slipway.label_kind": "number", "slipway.level": "0.9"}),
    ],
)
def test_a_version_of_each_kind(
    kind: LabelKind, output: str, tags: dict[str, str], tmp_path: Path, registry: str
) -> None:
    bundle, splits = world(tmp_path, kind)
    write_verdict(tmp_path / "verdict.json", passed(bundle))
    (tmp_path / "card.html").write_text("<!doctype html><title>card</title>")
    release = register_model(
        RegistrationInputs(
            bundle_path=bundle,
            splits_path=splits,
            verdict_path=tmp_path / "verdict.json",
            card_path=tmp_path / "card.html",
            provenance=Provenance(schema={}, features={}, images={}),
        ),
        project="toy",
        release_path=tmp_path / "release.json",
    )
    version = mlflow_client().get_model_version("toy", release.model_version)
    assert tags.items() <= version.tags.items() and "slipway.threshold" not in version.tags
    model = mlflow.pyfunc.load_model("models:/toy@challenger")
    assert model.metadata.signature.outputs.input_names() == [output]
    row = {"a": [2.0], "b": [0.0], "colour": ["red"], "loud": [1.0], "at": [0]}
    assert model.predict(pd.DataFrame(row))[output].shape == (1, 3)
    evidence = Path(mlflow.artifacts.download_artifacts(version.tags["slipway.evidence_uri"]))
    data = json.loads((evidence / "evidence.json").read_text())["data"]
    assert data["positives"] == {} and set(data["labels"]) == {"train", "validation", "test"}
