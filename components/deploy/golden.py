"""Golden rows: real rows whose answers are known, asked of a predictor before it takes traffic."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.bundle import ONNX, Bundle, model_inputs
from slipway.components.contracts.rows.requests import DATATYPES, Tensor, wire_values
from slipway.components.contracts.splits import read_part
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class NotReached(SlipwayError):
    """The request came to no predictor, or to another version: a route may lead there in a moment."""


TOLERANCE = 1e-5
_ROWS = 32
_TIMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Some rows of the test part, as V2 tensors, and onnxruntime's own answer to each.

    Attributes:
        answers: float32 [N] or [N, W].
        bundle: the model's signature.
    """

    columns: list[tuple[str, str, list[object]]]
    answers: "np.ndarray"
    bundle: Bundle

    def tensors(self, start: int, end: int) -> list[Tensor]:
        """The V2 inputs of the rows [start, end)."""
        return [
            {"name": name, "datatype": kind, "shape": [end - start], "data": values[start:end]}
            for name, kind, values in self.columns
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How a predictor did: rows asked, the largest difference, latency of single rows in ms."""

    rows: int
    difference: float
    median_ms: float
    p95_ms: float


def golden_rows(folder: Path, bundle: Bundle, splits: Path) -> Golden:
    """Takes rows that are spread over the test part and computes their answers from the bundle.

    Raises:
        SlipwayError: there is no row, the rows lack a feature, or the graph cannot be run.
    """
    table = read_part(splits, "test", [feature.name for feature in bundle.features])
    if not table.num_rows:
        raise SlipwayError(
            f"The test part of {splits} has no rows: a new model cannot be asked anything before it"
            " serves. Give the split a test window with data."
        )
    return golden_of(folder, bundle, table)


def golden_of(folder: Path, bundle: Bundle, table: "pa.Table") -> Golden:
    """The same from a table with the model's features and at least one row.

    Raises:
        SlipwayError: the graph cannot be run, or answers with what is no number.
    """
    import numpy as np
    import onnxruntime as ort

    spread = np.unique(np.linspace(0, table.num_rows - 1, _ROWS).astype(int))
    table = table.take(spread)
    try:
        session = ort.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
        output, shape = bundle.output
        answers = session.run([output], model_inputs(bundle, table))[0].reshape(-1, *shape)
    except SlipwayError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise SlipwayError(f"The model cannot be run: {str(error).splitlines()[0]}") from error
    if not np.isfinite(answers).all():
        raise SlipwayError("The model answers real rows with values that are not finite.")
    return Golden(
        columns=[
            (feature.name, DATATYPES[feature.kind], wire_values(feature.kind, table[feature.name]))
            for feature in bundle.features
        ],
        answers=answers,
        bundle=bundle,
    )


def ask(
    golden: Golden, url: str, model: str, version: str, headers: dict[str, str] | None = None
) -> Answered:
    """Asks a predictor every golden row, one at a time and all at once, over the V2 protocol.

    Raises:
        NotReached: a request comes to no predictor, or another version answers.
        SlipwayError: a request fails, or an answer differs by more than `TOLERANCE` (of a number, times
            the size of the answers) from onnxruntime's.
    """
    import httpx

    rows = len(golden.answers)
    asked = [(i, i + 1) for i in range(rows)] + [(0, rows)]
    timed = [(i % rows, i % rows + 1) for i in range(_TIMED)]
    worst, latencies = 0.0, []
    with httpx.Client(headers=headers, timeout=30) as client:
        for number, (start, end) in enumerate(asked + timed):
            body = {
                "id": f"golden-{number}",
                "parameters": {"log": False},
                "inputs": golden.tensors(start, end),
            }
            began = time.perf_counter()
            try:
                response = client.post(f"{url}/v2/models/{model}/infer", json=body)
            except httpx.HTTPError as error:
                raise NotReached(f"The new predictor at {url} does not answer: {error}") from error
            if number >= len(asked):
                latencies.append((time.perf_counter() - began) * 1000)
            worst = max(worst, _compare(golden, start, end, response, version))
    return Answered(
        rows=rows,
        difference=worst,
        median_ms=round(statistics.median(latencies), 3),
        p95_ms=round(sorted(latencies)[int(0.95 * len(latencies))], 3),
    )


def _compare(golden: Golden, start: int, end: int, response: Any, version: str) -> float:
    """The largest difference between an answer and what was expected."""
    if response.status_code != 200:
        # What answers for a predictor that is not there: a gateway, a proxy, a route to nothing.
        kind = NotReached if response.status_code in (404, 502, 503, 504) else SlipwayError
        raise kind(
            f"The new predictor answers a real row of the test part with {response.status_code}:"
            f" {response.text[:300]}"
        )
    try:
        content = response.json()
        served = {output["name"]: output["data"] for output in content["outputs"]}
    except (ValueError, KeyError, TypeError) as error:
        raise SlipwayError(f"The new predictor's answer is no V2 answer: {error!r}.") from error
    if content.get("model_version") != version:
        raise NotReached(
            f"Version {content.get('model_version')} answers where {version} was deployed."
        )
    return _largest_gap(golden, start, end, served)


def _largest_gap(golden: Golden, start: int, end: int, served: dict[str, object]) -> float:
    """The largest difference of the numbers served for the rows [start, end), as a share of the scale.

    Raises:
        SlipwayError: one is too large, or another output is not what the answer stands for.
    """
    import numpy as np

    label, answers = label_type_of(golden.bundle), golden.answers[start:end]
    expected, tied = label.respond(answers), label.is_tied(answers, TOLERANCE)
    worst = 0.0
    for name, wanted in expected.items():
        try:
            got = np.array(served[name], object if wanted.dtype == object else None)
            got = got.reshape(wanted.shape)
            if wanted.dtype.kind == "f":
                gaps = np.abs(got.astype(float) - wanted) / label.size(answers)
                gaps = gaps.reshape(len(answers), -1).max(1)
                worst = max(worst, float(gaps.max()))
                wrong = ~(gaps <= TOLERANCE)
            else:
                # Another label may only stand where two are as likely.
                wrong = (got != wanted) & ~tied
        except (KeyError, ValueError, TypeError) as error:
            raise SlipwayError(
                f"The new predictor's answer is no V2 answer of this model: output {name}: {error!r}."
            ) from error
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise SlipwayError(
                f"The new predictor answers row {start + row} of the golden rows with {name}"
                f" {_shown(got[row])}; the model itself says {_shown(wanted[row])}."
            )
    return worst


def _shown(value: object) -> str:
    text = str(value.tolist() if hasattr(value, "tolist") else value)
    return text if len(text) <= 100 else f"{text[:100]}…"
