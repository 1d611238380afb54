"""One of several classes: the model answers with a probability for each."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from slipway.components.config.kinds import LabelKind, Metric, metrics_of
from slipway.components.metrics import multiclass
from slipway.components.metrics.binary import auc
from slipway.components.metrics.costs import (
    CostRule,
    best_constant,
    cost_matrix,
    cost_rule,
    expected_costs,
    named_pairs,
)
from slipway.components.metrics.kinds.base import (
    ClassCount,
    LabelType,
    Limit,
    Output,
    Promise,
)
from slipway.components.metrics.kinds.limits import limits_of_classes
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.multiclass_tally import MulticlassTally, RowValues
from slipway.components.metrics.tally import MAX_BLOCKS
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from slipway.components.config.gate import GateConfig

_SUM_TOLERANCE = 1e-3
_NAMED = 20  # classes that have a rule each


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticlassLabel(LabelType):
    """Answers are probabilities, float32 [N, K], in the order of `classes`; the greatest one decides.

    With `costs` the class is called that is expected to cost least. A label is the place of its class
    among them, int32.

    Attributes:
        costs: what an answer costs by the true class; empty: nothing is said.
        level: the share of labels that the sets are to hold; 0: there are none.
        set_threshold: the set of a row holds the classes whose probability reaches it, and the class that
            is called; None: there are no sets.
        decided_by: the costs that a class is called by; None: `costs`.
        matrix: of `costs`, float64 [K true, K answered]; None: nothing is said.
        decisive: the rule that a class is called by; None: the greatest probability.
    """

    classes: tuple[str, ...]
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    level: float = 0.0
    set_threshold: float | None = None
    decided_by: dict[str, dict[str, float]] | None = None
    matrix: "np.ndarray | None" = field(init=False, repr=False, compare=False, default=None)
    decisive: CostRule | None = field(init=False, repr=False, compare=False, default=None)

    kind: ClassVar[LabelKind] = "multiclass"
    answer_name: ClassVar[str] = "a probability for each class"
    watched: ClassVar[tuple[str, Literal["numeric", "categorical"]]] = ("label", "categorical")
    lead: ClassVar[Metric] = "auc"
    baselines: ClassVar[tuple[str, str]] = ("majority class", "logistic regression")
    no_skill: ClassVar[float] = 0.5
    chance: ClassVar[str] = "auc"
    alarm: ClassVar[str] = "auc"
    headline: ClassVar[tuple[Metric, ...]] = ("accuracy", "f1", "auc")
    label_name: ClassVar[str] = "label of one of the classes"
    served: ClassVar[str] = "a served probability"

    def __post_init__(self) -> None:
        """Makes the matrices once: the predictor asks for them at every request."""
        decided_by = self.costs if self.decided_by is None else self.decided_by
        if self.costs:
            object.__setattr__(self, "matrix", cost_matrix(self.costs, self.classes))
        if decided_by:
            object.__setattr__(self, "decisive", cost_rule(decided_by, self.classes))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """See `LabelType`."""
        return metrics_of(self.kind, costs=bool(self.costs), sets=self.set_threshold is not None)

    def measured_as(self, other: LabelType) -> LabelType:
        """See `LabelType`."""
        if not isinstance(other, MulticlassLabel):
            return self
        decided_by = self.costs if self.decided_by is None else self.decided_by
        return replace(self, costs=other.costs, decided_by=decided_by)

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `LabelType`."""
        return self.classes

    @property
    def promise(self) -> Promise | None:
        """See `LabelType`."""
        if self.set_threshold is None:
            return None
        return Promise(what="sets", level=self.level, unmade="each set holds every class")

    @property
    def noun(self) -> str:
        """See `LabelType`."""
        held = f", with a set that is to hold {self.level:.0%} of the labels" if self.level else ""
        return f"one of {len(self.classes):,} classes{held}"

    @property
    def settings(self) -> dict[str, object]:
        """See `LabelType`."""
        told: dict[str, object] = {"costs": named_pairs(self.costs)} if self.costs else {}
        told |= {"level": self.level} if self.level else {}
        return {"label_kind": self.kind, "classes": len(self.classes), **told}

    def limits(self, gate: "GateConfig") -> list[Limit]:
        """What classes must hold; and the sets about as many labels as they promise."""
        limits = limits_of_classes(gate)
        if self.set_threshold is not None:
            least = round(max(self.level - gate.coverage, 0.0), 9)
            limits.append(Limit(metric="coverage", side="min", value=least))
        return limits

    def count_classes(self, class_rows: tuple[int, ...], least: int) -> list[ClassCount]:
        """Each class that is too rare, by name, or all of many in one; the rarest where none is."""
        rarest = min(zip(self.classes, class_rows, strict=True), key=lambda pair: pair[1])
        found = [pair for pair in zip(self.classes, class_rows, strict=True) if pair[1] < least]
        if len(found) > _NAMED:
            what = f"Test rows of the rarest of {len(found):,} classes with too few ({rarest[0]})"
            return [ClassCount(rule="class rows", what=what, rows=rarest[1])]
        return [
            ClassCount(rule=f"class {name} rows", what=f"Test rows of the class {name}", rows=rows)
            for name, rows in found or [rarest]
        ]

    def constants(
        self, test: Mapping[str, float], train: Mapping[str, float]
    ) -> dict[Metric, tuple[float, str]]:
        """Without calibration, which a constant may have perfect."""
        import numpy as np

        rows = np.array([test.get(name, 0) for name in self.classes], float)
        there = rows[rows > 0]
        if len(there) < 2:
            return {}
        shares = there / there.sum()
        top = float(shares.max())
        f1 = 2 * top / (1 + top)
        always = f"always answering {self.classes[int(rows.argmax())]}"
        usual = "always answering the classes' shares"
        cost: dict[Metric, tuple[float, str]] = {}
        if self.matrix is not None:
            place, value = best_constant(rows, self.matrix)
            cost["expected_cost"] = (value, f"always answering {self.classes[place]}")
        return {
            **cost,
            "accuracy": (top, always),
            "f1": (f1 / len(there), always),
            "weighted_f1": (top * f1, always),
            "precision": (top / len(there), always),
            "recall": (1 / len(there), always),
            "auc": (0.5, usual),
            "log_loss": (-float((shares * np.log(shares)).sum()), usual),
            "brier": (1 - float((shares**2).sum()), usual),
        }

    def tells(self, labels: "np.ndarray", scores: "np.ndarray") -> "np.ndarray":
        """The AUC of each class against the rest, [K]; scores [N] are those of every class."""
        import numpy as np

        found = np.full(len(self.classes), 0.5)
        for place in np.unique(labels).astype(int):
            own = labels == place
            area = auc(own, scores if scores.ndim == 1 else scores[:, place])
            found[place] = max(area, 1 - area) if np.isfinite(area) else 0.5
        return found

    def stand_for(self, labels: "np.ndarray", group: "np.ndarray", groups: int) -> "np.ndarray":
        """The share of each class, [groups, K]."""
        import numpy as np

        classes = len(self.classes)
        cell = group.astype(np.int64) * classes + labels.astype(np.int64)
        counts = np.bincount(cell, minlength=groups * classes).reshape(groups, classes)
        shares: np.ndarray = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        return shares

    def is_usable(self, labels: "np.ndarray") -> "np.ndarray":
        """Places of classes."""
        usable: np.ndarray = (labels >= 0) & (labels < len(self.classes))
        return usable

    def is_sound(self, answers: "np.ndarray") -> "np.ndarray":
        """Each from 0 to 1, and 1 together."""
        import numpy as np

        inside = ((answers >= 0) & (answers <= 1)).all(1)
        whole: np.ndarray = inside & (np.abs(answers.sum(1) - 1) <= _SUM_TOLERANCE)
        return whole

    def replace_unsound(self, answers: "np.ndarray", sound: "np.ndarray") -> "np.ndarray":
        """Equal probabilities say nothing."""
        import numpy as np

        return np.where(sound[:, None], answers, 1 / len(self.classes)).astype(np.float32)

    def make_tally(
        self,
        groups: int = 1,
        blocks: int | None = None,
        bins: int | None = None,
        *,
        weighted: bool = False,
    ) -> MulticlassTally:
        """See `LabelType`; the bins follow from the classes, groups and blocks."""
        return MulticlassTally(
            len(self.classes),
            groups,
            blocks or MAX_BLOCKS,
            decisive=self.decisive,
            extras=self._row_values(),
            weighted=weighted,
        )

    def _row_values(self) -> "dict[str, RowValues]":
        """What is measured of a row besides, by metric."""
        found: dict[str, RowValues] = {}
        if self.set_threshold is not None:
            found["coverage"] = self._rows_covered
            found["set_size"] = lambda labels, answers: self.sets(answers).sum(1).astype(float)
        if self.matrix is not None:
            found["expected_cost"] = self._row_costs
        return found

    def sets(self, answers: "np.ndarray") -> "np.ndarray":
        """Which classes the set of each row holds, bool [N, K]; all where there are no sets.

        Of the classes whose probability reaches the threshold (Sadinle, Lei and Wasserman, 2019: the
        smallest sets on average); the class that is called is always one of them.
        """
        import numpy as np

        held = reaches_threshold(answers, self.set_threshold or 0.0)
        held[np.arange(len(answers)), self.decide(answers)] = True
        return held

    def _rows_covered(self, labels: "np.ndarray", answers: "np.ndarray") -> "np.ndarray":
        """1 where the label is in the row's set, float64 [N]."""
        import numpy as np

        covered: np.ndarray = self.sets(answers)[np.arange(len(labels)), labels.astype(int)]
        return covered.astype(float)

    def _row_costs(self, labels: "np.ndarray", answers: "np.ndarray") -> "np.ndarray":
        """What the answer to each row costs, float64 [N]."""
        assert self.matrix is not None  # noqa: S101 - asked by the caller
        costs: np.ndarray = self.matrix[labels.astype(int), self.decide(answers)]
        return costs

    def measure(self, labels: "np.ndarray", answers: "np.ndarray") -> dict[str, float]:
        """See `LabelType`."""
        found = multiclass.measure(labels, answers, self.decisive)
        for name, values_of in self._row_values().items():
            found[name] = float(values_of(labels, answers).mean()) if len(labels) else math.nan
        return found

    def expect(self, answers: "np.ndarray") -> dict[str, float]:
        """Accuracy and F1, as for calibrated probabilities."""
        return multiclass.expected(answers, self.decisive)

    def decide(self, answers: "np.ndarray") -> "np.ndarray":
        """int32 [N]; of equal probabilities, or expected costs, the first class."""
        import numpy as np

        places: np.ndarray = multiclass.confidence(answers, self.decisive)[0].astype(np.int32)
        return places

    @property
    def outputs(self) -> tuple[Output, ...]:
        """See `LabelType`."""
        return (
            Output(name="probabilities", datatype="FP32", width=len(self.classes)),
            Output(name="probability", datatype="FP32"),
            Output(name="label", datatype="BYTES"),
            *self._set_output,
        )

    @property
    def _set_output(self) -> tuple[Output, ...]:
        if self.set_threshold is None:
            return ()
        return (Output(name="set", datatype="BYTES", listed=True),)

    def respond(self, answers: "np.ndarray") -> dict[str, "np.ndarray"]:
        """All probabilities, the called class with its own, and the set in the order of the classes."""
        import numpy as np

        called, sure = multiclass.confidence(answers, self.decisive)
        served = {
            "probabilities": answers,
            "probability": sure,
            "label": np.array(self.classes, object)[called],
        }
        if self.set_threshold is not None:
            texts = [
                json.dumps(
                    [self.classes[place] for place in np.flatnonzero(row)], ensure_ascii=False
                )
                for row in self.sets(answers)
            ]
            served["set"] = np.array(texts, object)
        return served

    def is_tied(self, answers: "np.ndarray", tolerance: float) -> "np.ndarray":
        """Where the two greatest probabilities, or the two least expected costs, are that near.

        And where a class is as near to the edge of the set.
        """
        import numpy as np

        edge: Any = np.zeros(len(answers), bool)
        if self.set_threshold is not None:
            edge = (np.abs(answers.astype(np.float64) - self.set_threshold) <= tolerance).any(1)
        if self.decisive is not None:
            expected = np.partition(expected_costs(answers, self.decisive), 1, axis=1)
            moved = 2 * tolerance * (1 + self.decisive.most)
            near: np.ndarray = (expected[:, 1] - expected[:, 0] <= moved) | edge
            return near
        greatest = np.partition(answers.astype(np.float64), -2, axis=1)
        tied: np.ndarray = (greatest[:, -1] - greatest[:, -2] <= 2 * tolerance) | edge
        return tied

    def place(self, answers: "np.ndarray") -> "np.ndarray":
        """The probability of the class called."""
        return multiclass.confidence(answers, self.decisive)[1]

    def facts(self) -> dict[str, str]:
        """See `LabelType`."""
        told = {"costs": json.dumps(self.costs, ensure_ascii=False)} if self.costs else {}
        if self.set_threshold is not None:
            told |= {"level": str(self.level), "set_threshold": str(self.set_threshold)}
        return {"classes": json.dumps(self.classes, ensure_ascii=False), **told}

    def read_response(self, served: "Mapping[str, np.ndarray]") -> "np.ndarray":
        """See `LabelType`."""
        return served["probabilities"]

    def columns(self) -> "list[tuple[str, pa.DataType]]":
        """See `LabelType`."""
        import pyarrow as pa

        return [
            ("probability", pa.float64()),
            ("label", pa.string()),
            # Not of fixed size: Arrow cannot read such a column back where one is null.
            ("probabilities", pa.list_(pa.float32())),
        ]

    def to_columns(self, answers: "np.ndarray") -> "dict[str, pa.Array]":
        """See `LabelType`."""
        import numpy as np
        import pyarrow as pa

        served = self.respond(answers)
        offsets = np.arange(len(answers) + 1, dtype=np.int32) * len(self.classes)
        flat = pa.array(np.ascontiguousarray(answers, np.float32).reshape(-1))
        return {
            "probability": pa.array(served["probability"].astype(np.float64)),
            "label": pa.array(served["label"], pa.string()),
            "probabilities": pa.ListArray.from_arrays(pa.array(offsets), flat),
        }

    def scored_columns(self) -> "list[tuple[str, pa.DataType]]":
        """Also the set, where the model answers with one: the log does without."""
        import pyarrow as pa

        sets = self.set_threshold is not None
        return [*self.columns(), *([("set", pa.list_(pa.string()))] if sets else [])]

    def to_scored_columns(self, answers: "np.ndarray") -> "dict[str, pa.Array]":
        """See `LabelType`; the classes of a set stand in their order."""
        import numpy as np
        import pyarrow as pa

        columns = self.to_columns(answers)
        if self.set_threshold is None:
            return columns
        held = self.sets(answers)
        ends = np.concatenate([[0], held.sum(1).cumsum()]).astype(np.int32)
        names = pa.array(self.classes, pa.string()).take(pa.array(np.nonzero(held)[1]))
        return {**columns, "set": pa.ListArray.from_arrays(pa.array(ends), names)}

    def from_columns(self, table: "pa.Table") -> "np.ndarray":
        """See `LabelType`.

        Raises:
            SlipwayError: the rows were answered by a model with another number of classes.
        """
        import numpy as np
        import pyarrow.compute as pc

        column = table["probabilities"].combine_chunks()
        lengths = set(pc.unique(pc.list_value_length(column)).to_pylist())
        if lengths - {len(self.classes)}:
            raise SlipwayError(
                f"The logged answers have {', '.join(map(str, sorted(lengths)))} probabilities, and the"
                f" model has {len(self.classes)} classes: they are of another version."
            )
        values: np.ndarray = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        return values.astype(np.float32).reshape(-1, len(self.classes))

    def describe(self, labels: "np.ndarray") -> dict[str, float]:
        """Rows of each class by name."""
        import numpy as np

        counts = np.bincount(labels.astype(np.int64), minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))
