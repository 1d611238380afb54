"""A number: the model answers with a value and the two ends of its interval."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slipway.components.config.gate import Metric
from slipway.components.config.label import LabelKind
from slipway.components.metrics import number
from slipway.components.metrics.kinds.base import LabelType, Output
from slipway.components.metrics.tally import MAX_BLOCKS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

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
    lead: ClassVar[Metric] = "r2"

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
        self, groups: int = 1, blocks: int | None = None, bins: int | None = None
    ) -> number.NumberTally:
        """See `LabelType`; there are no bins."""
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
