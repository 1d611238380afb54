"""One label rule and one formula a metric: who makes a label agrees with all others, and asks here."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.deploy.golden import Golden, _compare
from slipway.components.metrics.binary import METRICS
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.tally import Tally
from slipway.components.support.errors import SlipwayError
from slipway.serving.model import Model

ROOT = Path(__file__).parents[3]
ROOMS = ("components", "serving", "pipelines", "commands", "local", "examples", "benchmarks")


def neighbours(threshold: float) -> np.ndarray:
    """The threshold as a model may answer it, and the answers just beside it: float32."""
    at = np.float32(threshold)
    around = [at, np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(1))]
    return np.clip(np.array(around, np.float32), 0, 1)


def evaluate_says(probability: np.ndarray, threshold: float) -> list[int]:
    found = []
    for value in probability:
        tally = Tally(threshold, blocks=1)
        tally.add(np.array([value]), np.ones(1, np.int8), np.zeros(1, np.int64))
        found.append(tally.confusion()[1][1])
    return found


def predictor_says(probability: np.ndarray, threshold: float) -> list[int]:
    bundle: Any = SimpleNamespace(threshold=threshold)
    nothing: Any = None
    model = Model(
        name="m",
        version="1",
        model_hash="",
        bundle=bundle,
        label=label_type("binary", threshold=threshold),
        reader=nothing,
        session=nothing,
        inputs=(),
    )
    return list(model.label.respond(probability)["label"])


def deploy_accepts(probability: float, label: int, threshold: float) -> bool:
    """Whether the golden rows' check takes the label, away from its tolerance around the threshold."""
    bundle: Any = SimpleNamespace(
        label_kind="binary",
        threshold=threshold,
        classes=(),
        level=0.0,
        centre=0.0,
        scale=1.0,
        costs={},
        set_threshold=None,
    )
    answers = np.array([threshold + 1e-4], np.float32)
    golden = Golden(columns=[], answers=answers, bundle=bundle)
    outputs = [
        {"name": "probability", "data": [threshold + 1e-4]},
        {"name": "label", "data": [label]},
    ]
    answer = {"model_version": "1", "outputs": outputs}
    response = SimpleNamespace(status_code=200, json=lambda: answer)
    try:
        _compare(golden, 0, 1, response, "1")
    except SlipwayError:
        return False
    return True


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.floats(0.01, 0.99), st.sampled_from([i / 10 for i in range(1, 10)])))
def test_all_who_make_a_label_agree_at_and_around_the_threshold(threshold: float) -> None:
    probability = neighbours(threshold)
    by_rule = [1, 0, 1]
    for dtype in (np.float32, np.float64):  # as the model answers, and as the log keeps it
        asked = probability.astype(dtype)
        assert reaches_threshold(asked, threshold).astype(int).tolist() == by_rule
        assert evaluate_says(asked, threshold) == by_rule
        assert predictor_says(asked, threshold) == by_rule
        assert [int(reaches_threshold(float(value), threshold)) for value in asked] == by_rule
    assert deploy_accepts(threshold, 1, threshold) and not deploy_accepts(threshold, 0, threshold)


def test_a_threshold_of_0_7_takes_the_answer_that_prints_as_0_7() -> None:
    """Evaluate said 1 and the endpoint 0: float32(0.7) is below 0.7 as a double."""
    probability = np.array([0.7], np.float32)
    assert evaluate_says(probability, 0.7) == predictor_says(probability, 0.7) == [1]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("components/metrics/"):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def test_no_one_else_compares_a_probability_with_a_threshold() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(op, (ast.Gt, ast.GtE, ast.Lt, ast.LtE)) for op in node.ops)
        and "threshold" in ast.unparse(node)
        and "probab" in ast.unparse(node)
    ]
    assert not found, f"Ask components/metrics/labels.py instead: {found}"


def test_no_one_else_computes_a_metric() -> None:
    """Neither by a function of its own, nor by a library's."""
    names = {*METRICS, "roc_auc_score", "expected_calibration_error", "brier_score", "f1_score"}
    peers = {"benchmarks/evaluate.py", "benchmarks/train_quality.py"}  # measure the libraries
    found = []
    for name, tree in modules():
        for node in ast.walk(tree):
            # A property only hands on what was measured.
            takes_rows = isinstance(node, ast.FunctionDef) and len(node.args.args) > 1
            if isinstance(node, ast.FunctionDef) and takes_rows and node.name in names:
                found.append(f"{name}:{node.lineno} {node.name}")
            imported = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if imported.startswith(("sklearn.metrics", "torchmetrics")) and name not in peers:
                found.append(f"{name}:{node.lineno} {imported}")
    assert not found, f"Add it to components/metrics/binary.py instead: {found}"


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_ends_are_thresholds_too(threshold: float) -> None:
    probability = np.array([0.0, 1.0], np.float32)
    assert evaluate_says(probability, threshold) == predictor_says(probability, threshold)
    assert reaches_threshold(probability, threshold).tolist() == [threshold == 0.0, True]
