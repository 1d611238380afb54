"""The registered model has an input a feature, by name, and answers bit for bit as the bundle does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from slipway.components.contracts.bundle import ONNX, Bundle, read_bundle
from slipway.components.register.named_inputs import name_inputs, split_inputs

ROWS = 50


def matrices(bundle: Bundle) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(3)
    numeric = chance.normal(size=(ROWS, len(bundle.numeric))).astype(np.float32)
    numeric[::7, 0] = np.nan
    return {
        "numeric": numeric,
        "categorical": chance.choice(["red", "", "never seen"], (ROWS, 1)).astype(object),
        "time": chance.integers(0, 2**45, (ROWS, 1)),
    }


def answer(model: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    (found,) = ort.InferenceSession(model).run(None, inputs)
    return np.asarray(found)


@pytest.mark.parametrize(
    ("renamed", "shown"),
    [
        ("a", "a"),
        # Names that the graph has for something else.
        ("numeric", "numeric"),
        ("time", "time"),
        ("probability", "probability (feature)"),
        ("slipway/numeric", "slipway/numeric (feature)"),
    ],
)
def test_a_feature_is_an_input_by_its_name(bundle: Path, renamed: str, shown: str) -> None:
    made = read_bundle(bundle)
    first = next(f for f in made.features if f.name == "a")
    made = replace(
        made,
        features=tuple(replace(f, name=renamed) if f is first else f for f in made.features),
    )
    model = onnx.load(bundle / ONNX)
    before = model.SerializeToString()
    named = name_inputs(model, made)
    onnx.checker.check_model(named)
    assert model.SerializeToString() == before
    assert [value.name for value in named.graph.input] == [shown, "b", "loud", "colour", "at"]
    inputs = matrices(made)
    columns = split_inputs(made, inputs)
    assert {column.shape for column in columns.values()} == {(ROWS,)}
    found, expected = answer(named.SerializeToString(), columns), answer(before, inputs)
    assert np.array_equal(found, expected) and len(set(expected.tolist())) > 2
