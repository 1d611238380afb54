"""The golden rows of each kind of label, asked of a predictor that serves the model, and of another."""

from pathlib import Path

import pyarrow as pa
import pytest
from support.serving_bundles import make_bundle, predictor

from slipway.components.config.kinds import LabelKind
from slipway.components.deploy.golden import ask, golden_of
from slipway.components.support.errors import SlipwayError

TABLE = pa.table(
    {
        "departs": pa.array(range(0, 40_000_000_000, 1_000_000_000), pa.timestamp("us")),
        "miles": [float(i) for i in range(40)],
        "carrier": ["AA", "UA"] * 20,
        "delay": [float(i) for i in range(40)],
        "weekend": [True, False] * 20,
        "origin": ["EWR", "JFK"] * 20,
    }
)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "number"])
def test_the_model_that_serves_answers_its_golden_rows_and_another_does_not(
    kind: LabelKind, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", kind=kind)
    golden = golden_of(tmp_path / "bundle", bundle, TABLE)
    with predictor(tmp_path, bundle=tmp_path / "bundle") as running:
        answered = ask(golden, running.url, "flights", "7")
        assert answered.rows == 32
        assert answered.difference <= 1e-5
        other = make_bundle(tmp_path / "other", kind=kind, bias=0.01)
        with pytest.raises(SlipwayError, match="answers row 0 of the golden rows with"):
            ask(golden_of(tmp_path / "other", other, TABLE), running.url, "flights", "7")


def test_a_predictor_of_another_kind_is_no_predictor_of_the_model(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", kind="number")
    bundle = make_bundle(tmp_path / "mine", kind="multiclass")
    golden = golden_of(tmp_path / "mine", bundle, TABLE)
    with (
        predictor(tmp_path, bundle=tmp_path / "bundle") as running,
        pytest.raises(SlipwayError, match="no V2 answer of this model: output probabilities"),
    ):
        ask(golden, running.url, "flights", "7")
