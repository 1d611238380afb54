"""One of two classes: the model answers with the probability of label 1."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from slipway.components.config.kinds import LabelKind, Metric, metrics_of
from slipway.components.metrics import binary
from slipway.components.metrics.costs import best_constant, cost_matrix, named_pairs
from slipway.components.metrics.kinds.base import ClassCount, LabelType, Limit, Output
from slipway.components.metrics.kinds.limits import limits_of_classes
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.tally import BINS, MAX_BLOCKS, Tally

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from slipway.components.config.gate import GateConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryLabel(LabelType):
    """Answers are probabilities, float32 [N]; the label is 1 where one reaches `threshold`.

    `costs` say what an answer costs by the true class; empty: nothing is said.
    """

    threshold: float
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    kind: ClassVar[LabelKind] = "binary"
    answer_name: ClassVar[str] = "a probability"
    watched: ClassVar[tuple[str, Literal["numeric", "categorical"]]] = ("probability", "numeric")
    lead: ClassVar[Metric] = "auc"
    baselines: ClassVar[tuple[str, str]] = ("majority class", "logistic regression")
    no_skill: ClassVar[float] = 0.5
    chance: ClassVar[str] = "auc"
    alarm: ClassVar[str] = "auc"
    headline: ClassVar[tuple[Metric, ...]] = ("accuracy", "f1", "auc")
    label_name: ClassVar[str] = "label of 0 or 1"
    served: ClassVar[str] = "a served probability"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """See `LabelType`."""
        return metrics_of(self.kind, costs=bool(self.costs))

    @property
    def cost_matrix(self) -> "np.ndarray | None":
        """As `costs.cost_matrix` gives it; None: nothing is said."""
        return cost_matrix(self.costs, self.class_names) if self.costs else None

    def measured_as(self, other: LabelType) -> LabelType:
        """See `LabelType`."""
        return replace(self, costs=other.costs) if isinstance(other, BinaryLabel) else self

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `LabelType`."""
        return ("0", "1")

    @property
    def answer_names(self) -> tuple[str, ...]:
        """See `LabelType`."""
        return ()

    @property
    def noun(self) -> str:
        """See `LabelType`."""
        return "one of two classes, 0 or 1"

    @property
    def settings(self) -> dict[str, object]:
        """See `LabelType`."""
        return {
            "threshold": self.threshold,
            **({"costs": named_pairs(self.costs)} if self.costs else {}),
        }

    def limits(self, gate: "GateConfig") -> list[Limit]:
        """See `LabelType`."""
        return limits_of_classes(gate)

    def count_classes(self, class_rows: tuple[int, ...], least: int) -> list[ClassCount]:
        """Both, whether they are too few or not."""
        negatives, positives = class_rows
        return [
            ClassCount(rule="positives", what="Test rows with label 1", rows=positives),
            ClassCount(rule="negatives", what="Test rows with label 0", rows=negatives),
        ]

    def constants(
        self, test: Mapping[str, float], train: Mapping[str, float]
    ) -> dict[Metric, tuple[float, str]]:
        """Without recall (always 1 has all of it) and calibration (a constant may have it perfect)."""
        import numpy as np

        positives, rows = test.get("1", 0), test.get("0", 0) + test.get("1", 0)
        if not 0 < positives < rows:
            return {}
        rate = positives / rows
        common = "1" if rate > 0.5 else "0"
        always = "always answering 1"
        share = "always answering the label's rate"
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        matrix = self.cost_matrix
        cost: dict[Metric, tuple[float, str]] = {}
        if matrix is not None:
            place, value = best_constant(np.array([rows - positives, positives], float), matrix)
            cost["expected_cost"] = (value, f"always answering {place}")
        return {
            **cost,
            "accuracy": (max(rate, 1 - rate), f"always answering {common}"),
            "f1": (2 * rate / (1 + rate), always),
            "precision": (rate, always),
            "auc": (0.5, share),
            "average_precision": (rate, share),
            "log_loss": (entropy, share),
            "brier": (rate * (1 - rate), share),
        }

    def tells(self, labels: "np.ndarray", scores: "np.ndarray") -> "np.ndarray":
        """The AUC, [1]."""
        import numpy as np

        value = float(np.nan_to_num(binary.auc(labels, scores.reshape(len(labels))), nan=0.5))
        return np.array([max(value, 1 - value)])

    def stand_for(self, labels: "np.ndarray", group: "np.ndarray", groups: int) -> "np.ndarray":
        """The share of label 1."""
        import numpy as np

        rows = np.bincount(group, minlength=groups)
        means: np.ndarray = np.bincount(group, labels, groups) / np.maximum(rows, 1)
        return means[:, None]

    def is_usable(self, labels: "np.ndarray") -> "np.ndarray":
        """0 and 1."""
        usable: np.ndarray = (labels == 0) | (labels == 1)
        return usable

    def is_sound(self, answers: "np.ndarray") -> "np.ndarray":
        """From 0 to 1."""
        sound: np.ndarray = (answers >= 0) & (answers <= 1)
        return sound

    def replace_unsound(self, answers: "np.ndarray", sound: "np.ndarray") -> "np.ndarray":
        """0.5 says nothing."""
        import numpy as np

        return np.where(sound, answers, 0.5).astype(np.float32)

    def make_tally(
        self,
        groups: int = 1,
        blocks: int | None = None,
        bins: int | None = None,
        *,
        weighted: bool = False,
    ) -> Tally:
        """See `LabelType`."""
        return Tally(
            self.threshold,
            groups,
            blocks or MAX_BLOCKS,
            bins or BINS,
            costs=self.cost_matrix,
            weighted=weighted,
        )

    def measure(self, labels: "np.ndarray", answers: "np.ndarray") -> dict[str, float]:
        """See `LabelType`."""
        return binary.measure(labels, answers, self.decide(answers), self.cost_matrix)

    def expect(self, answers: "np.ndarray") -> dict[str, float]:
        """Accuracy and F1, as for calibrated probabilities."""
        return binary.expected(answers, self.decide(answers))

    def decide(self, answers: "np.ndarray") -> "np.ndarray":
        """int8 [N]."""
        import numpy as np

        return reaches_threshold(answers, self.threshold).astype(np.int8)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """See `LabelType`."""
        return (
            Output(name="probability", datatype="FP32"),
            Output(name="label", datatype="INT64"),
        )

    def respond(self, answers: "np.ndarray") -> dict[str, "np.ndarray"]:
        """See `LabelType`."""
        import numpy as np

        return {"probability": answers, "label": self.decide(answers).astype(np.int64)}

    def is_tied(self, answers: "np.ndarray", tolerance: float) -> "np.ndarray":
        """At the threshold."""
        import numpy as np

        tied: np.ndarray = np.abs(answers.astype(np.float64) - self.threshold) <= tolerance
        return tied

    def place(self, answers: "np.ndarray") -> "np.ndarray":
        """The probability."""
        return answers

    def facts(self) -> dict[str, str]:
        """See `LabelType`."""
        told = {"costs": json.dumps(self.costs)} if self.costs else {}
        return {"threshold": str(self.threshold), **told}

    def read_response(self, served: "Mapping[str, np.ndarray]") -> "np.ndarray":
        """See `LabelType`."""
        return served["probability"]

    def columns(self) -> "list[tuple[str, pa.DataType]]":
        """See `LabelType`."""
        import pyarrow as pa

        return [("probability", pa.float64()), ("label", pa.int8())]

    def to_columns(self, answers: "np.ndarray") -> "dict[str, pa.Array]":
        """See `LabelType`."""
        import numpy as np
        import pyarrow as pa

        return {
            "probability": pa.array(answers.astype(np.float64)),
            "label": pa.array(self.decide(answers)),
        }

    def from_columns(self, table: "pa.Table") -> "np.ndarray":
        """See `LabelType`."""
        import numpy as np

        answers: np.ndarray = table["probability"].to_numpy().astype(np.float32)
        return answers

    def describe(self, labels: "np.ndarray") -> dict[str, float]:
        """Rows with label 0 and 1."""
        positive = int((labels == 1).sum())
        return {"0": len(labels) - positive, "1": positive}
