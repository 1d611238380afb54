"""A number: the model answers with a value and the two ends of its interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from slipway.components.config.kinds import LabelKind, Metric
from slipway.components.metrics import number
from slipway.components.metrics.kinds.base import ClassCount, LabelType, Limit, Output, Promise
from slipway.components.metrics.tally import MAX_BLOCKS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from slipway.components.config.gate import GateConfig

_COLUMNS = ("value", "low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLabel(LabelType):
    """Answers are float32 [N, 3]: the value, and the ends of an interval that holds `level` of labels.

    `centre` and `scale` are about the mean and the standard deviation of the training labels.
    """

    level: float
    centre: float = 0.0
    scale: float = 1.0

    kind: ClassVar[LabelKind] = "number"
    answer_name: ClassVar[str] = "a value within its interval"
    watched: ClassVar[tuple[str, Literal["numeric", "categorical"]]] = ("value", "numeric")
    lead: ClassVar[Metric] = "r2"
    baselines: ClassVar[tuple[str, str]] = ("mean", "linear regression")
    no_skill: ClassVar[float] = 0.0
    chance: ClassVar[str] = "correlation"
    alarm: ClassVar[str] = "concordance"
    headline: ClassVar[tuple[Metric, ...]] = ("r2", "rmse", "mae", "coverage")
    label_name: ClassVar[str] = "label that is a finite number"
    served: ClassVar[str] = "a served number (as a share of the largest)"

    @property
    def answer_names(self) -> tuple[str, ...]:
        """See `LabelType`."""
        return _COLUMNS

    @property
    def promise(self) -> Promise:
        """See `LabelType`."""
        unmade = "how many labels they hold is not known"
        return Promise(what="intervals", level=self.level, unmade=unmade)

    @property
    def noun(self) -> str:
        """See `LabelType`."""
        return f"a number, with an interval that is to hold {self.level:.0%} of the labels"

    @property
    def settings(self) -> dict[str, object]:
        """See `LabelType`."""
        return {"label_kind": self.kind, "level": self.level}

    def limits(self, gate: "GateConfig") -> list[Limit]:
        """The intervals must hold about as many labels as they promise."""
        least = round(max(self.level - gate.coverage, 0.0), 9)
        return [Limit(metric="coverage", side="min", value=least)]

    def count_classes(self, class_rows: tuple[int, ...], least: int) -> list[ClassCount]:
        """There are no classes."""
        return []

    def constants(
        self, test: Mapping[str, float], train: Mapping[str, float]
    ) -> dict[Metric, tuple[float, str]]:
        """The training part's mean; without the interval's metrics, which a wide one has perfect."""
        if not test.get("std") or "mean" not in train:
            return {}
        answer = "always answering the training part's mean"
        away = (test["mean"] - train["mean"]) ** 2
        return {
            "r2": (-away / test["std"] ** 2, answer),
            "rmse": (math.sqrt(test["std"] ** 2 + away), answer),
        }

    def tells(self, labels: "np.ndarray", scores: "np.ndarray") -> "np.ndarray":
        """The concordance, [1]."""
        import numpy as np

        value = number.concordance(labels, scores.reshape(len(labels)))
        value = value if math.isfinite(value) else 0.5
        return np.array([max(value, 1 - value)])

    def stand_for(self, labels: "np.ndarray", group: "np.ndarray", groups: int) -> "np.ndarray":
        """The mean label."""
        import numpy as np

        rows = np.bincount(group, minlength=groups)
        means = np.bincount(group, labels, groups) / np.maximum(rows, 1)
        return np.where(rows > 0, means, labels.mean() if len(labels) else 0.0)[:, None]

    def is_usable(self, labels: "np.ndarray") -> "np.ndarray":
        """What is finite."""
        import numpy as np

        usable: np.ndarray = np.isfinite(labels)
        return usable

    def is_sound(self, answers: "np.ndarray") -> "np.ndarray":
        """Finite, with the value inside its interval."""
        import numpy as np

        value, low, high = answers.T
        sound: np.ndarray = np.isfinite(answers).all(1) & (low <= value) & (value <= high)
        return sound

    def replace_unsound(self, answers: "np.ndarray", sound: "np.ndarray") -> "np.ndarray":
        """Zero stands in the place; the caller says how many there were."""
        import numpy as np

        return np.where(sound[:, None], answers, 0).astype(np.float32)

    def make_tally(
        self,
        groups: int = 1,
        blocks: int | None = None,
        bins: int | None = None,
        *,
        weighted: bool = False,
    ) -> number.NumberTally:
        """See `LabelType`; there are no bins, and its sums take weights as they are."""
        return number.NumberTally(self.level, groups, blocks or MAX_BLOCKS)

    def measure(self, labels: "np.ndarray", answers: "np.ndarray") -> dict[str, float]:
        """See `LabelType`."""
        return number.measure(labels, answers, self.level)

    def expect(self, answers: "np.ndarray") -> dict[str, float]:
        """Nothing: an answer does not say how wrong it is."""
        return {}

    def decide(self, answers: "np.ndarray") -> "np.ndarray":
        """The value, float64 [N]."""
        import numpy as np

        values: np.ndarray = answers[:, 0].astype(np.float64)
        return values

    def row_errors(self, labels: "np.ndarray", answers: "np.ndarray") -> "np.ndarray":
        """Squared errors."""
        errors: np.ndarray = (self.decide(answers) - labels) ** 2
        return errors

    def error_of(self, mean: "np.ndarray") -> "np.ndarray":
        """The root: the RMSE."""
        import numpy as np

        root: np.ndarray = np.sqrt(mean)
        return root

    @property
    def outputs(self) -> tuple[Output, ...]:
        """See `LabelType`."""
        return tuple(Output(name=name, datatype="FP32") for name in _COLUMNS)

    def respond(self, answers: "np.ndarray") -> dict[str, "np.ndarray"]:
        """See `LabelType`."""
        import numpy as np

        return {
            name: np.ascontiguousarray(column)
            for name, column in zip(_COLUMNS, answers.T, strict=True)
        }

    def is_tied(self, answers: "np.ndarray", tolerance: float) -> "np.ndarray":
        """Nowhere: the value is the label."""
        import numpy as np

        return np.zeros(len(answers), bool)

    def place(self, answers: "np.ndarray") -> "np.ndarray":
        """The value on a logistic scale around the mean of the training labels."""
        import numpy as np

        far = np.clip((self.centre - answers[:, 0].astype(np.float64)) / self.scale, -50, 50)
        places: np.ndarray = 1 / (1 + np.exp(far))
        return places

    def facts(self) -> dict[str, str]:
        """See `LabelType`."""
        return {"level": str(self.level)}

    def read_response(self, served: "Mapping[str, np.ndarray]") -> "np.ndarray":
        """See `LabelType`."""
        import numpy as np

        return np.stack([served[name] for name in _COLUMNS], axis=1)

    def size(self, answers: "np.ndarray") -> float:
        """The labels' spread or the largest answer: float32 has seven digits of either, not of both."""
        import numpy as np

        return max(self.scale, float(np.nan_to_num(np.abs(answers)).max(initial=0)))

    def columns(self) -> "list[tuple[str, pa.DataType]]":
        """See `LabelType`."""
        import pyarrow as pa

        return [(name, pa.float64()) for name in _COLUMNS]

    def to_columns(self, answers: "np.ndarray") -> "dict[str, pa.Array]":
        """See `LabelType`."""
        import numpy as np
        import pyarrow as pa

        return {
            name: pa.array(column.astype(np.float64))
            for name, column in zip(_COLUMNS, answers.T, strict=True)
        }

    def from_columns(self, table: "pa.Table") -> "np.ndarray":
        """See `LabelType`."""
        import numpy as np

        columns = [table[name].to_numpy().astype(np.float32) for name in _COLUMNS]
        return np.stack(columns, axis=1)

    def describe(self, labels: "np.ndarray") -> dict[str, float]:
        """Mean, standard deviation (the population's), least and greatest."""
        if not len(labels):
            return {}
        return {
            "mean": float(labels.mean()),
            "std": float(labels.std()),
            "min": float(labels.min()),
            "max": float(labels.max()),
        }
