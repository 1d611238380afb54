"""What a kind of label must say of itself, so that no stage asks which kind it is.

To add a kind: its name and its metrics in `config/kinds.py`, a module here, its head in
`components/train/heads`, and its baselines in `components/evaluate/measures/baselines.py`.

An *answer* is what the model's graph gives for a row, float32: a probability, a probability a class, or
a value with the two ends of its interval. A *label* is what the tables hold of a row: 0 or 1, the place
of its class, or a number; a row without one has a null, which numpy shows as NaN.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from slipway.components.config.kinds import METRICS, LabelKind, Metric
from slipway.components.metrics.intervals import conformal_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from slipway.components.config.gate import GateConfig


class LabelTally(Protocol):
    """Sums over scored rows, by group and by block, from which every metric follows."""

    def add(
        self,
        answers: "np.ndarray",
        labels: "np.ndarray",
        block: "np.ndarray",
        group: "np.ndarray | None" = None,
        weights: "np.ndarray | None" = None,
    ) -> None:
        """Counts rows.

        Args:
            answers: float [N] or [N, W], sound ones only (see `LabelType.is_sound`).
            labels: [N], usable ones only (see `LabelType.is_usable`).
            block: integer [N], what is resampled whole.
            group: integer [N]; a negative one leaves the row out. None: group 0.
            weights: float64 [N], positive; how much each row counts in the metrics. None: all once. Only
                of a tally that was made for it.
        """
        ...

    @property
    def used_blocks(self) -> "np.ndarray":
        """Indices of the blocks that have rows, in any group."""
        ...

    def rows(self, group: int = 0) -> int:
        """Rows of a group, each counted once, whatever it weighs."""
        ...

    def describe(self, names: tuple[str, ...]) -> dict[str, float]:
        """Facts about the labels of group 0, weighed as the metrics are.

        Of classes the weight (or rows) of each by its name among `names`; of a number mean and std.
        """
        ...

    def class_rows(self, group: int = 0) -> tuple[int, ...]:
        """Rows of each class, in order, each counted once; empty where there are no classes."""
        ...

    def confusion(self, group: int = 0) -> list[list[int]]:
        """Rows of a group: a line the true class, a column the called one; empty without classes."""
        ...

    def count_calls(self, group: int = 0) -> "np.ndarray":
        """A group by block and class: hits, called, actual, float64 [blocks, 3, K], weighed as metrics.

        K is 0 where there are no classes.
        """
        ...

    def measure(self, group: int = 0) -> dict[str, float]:
        """Every metric of a group by name; NaN where it is not defined."""
        ...

    def measure_chance(self) -> tuple[float, float, float] | None:
        """Whether answers tell of labels that were shuffled: the measuring itself would leak.

        Returns:
            The AUC (of a number, the correlation), what chance gives, and its standard error; None where
            there are too few rows to say.
        """
        ...

    def gaps(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> "tuple[np.ndarray, np.ndarray] | None":
        """The gaps of the calibration error and how far each replicate moves them.

        None where there is no such error. See `intervals.of_gaps`.
        """
        ...

    def resample(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> dict[str, "np.ndarray"]:
        """Every metric of every bootstrap replicate, NaN where it is not defined.

        [replicates], or [ways, replicates] where they are made in several ways (see
        `intervals.percentile`); differences of two models' are paired.

        Args:
            weights: [replicates, blocks], how often each block was drawn.
            blocks: the blocks that the columns of `weights` stand for.
            group: the group.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of a served answer: its V2 datatype, and its length a row; None: one value a row.

    Each value of a `listed` one is a JSON list of texts, which V1 gives as the list that it is.
    """

    name: str
    datatype: str
    width: int | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """Rows of a class as the gate counts them: the rule's name, what is counted, and how many."""

    rule: str
    what: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The least or the largest value that a metric may have."""

    metric: Metric
    side: Literal["min", "max"]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What is to hold a share of the labels of new rows, made from the validation part.

    Attributes:
        what: intervals or sets.
        level: the share.
        unmade: what they are where the validation rows are too few.
    """

    what: str
    level: float
    unmade: str

    @property
    def least_rows(self) -> int:
        """The fewest validation rows that it can be made from."""
        return conformal_rows(self.level)

    def doubt(self, rows: int) -> str:
        """Why it cannot be made from so many validation rows, in words; empty: it can."""
        if rows >= self.least_rows:
            return ""
        return (
            f"{self.what} that are to hold {self.level:.10g} of the labels need {self.least_rows:,}"
            f" validation rows, and there are {rows:,}: {self.unmade}"
        )


class LabelType(ABC):
    """One kind of label, with what one model says of it (its threshold, its classes, its interval)."""

    kind: ClassVar[LabelKind]
    answer_name: ClassVar[str]
    """What one sound answer is, for messages, as in "a probability"."""
    watched: ClassVar[tuple[str, Literal["numeric", "categorical"]]]
    """The column of the inference log whose distribution is watched, and what it holds."""
    lead: ClassVar[Metric]
    """The metric in which the lead over a baseline is measured."""
    baselines: ClassVar[tuple[str, str]]
    """Names of the baselines: the constant answer, and the fitted linear one."""
    no_skill: ClassVar[float]
    """What `lead`, and what `chance` names, are where nothing is known of the label."""
    chance: ClassVar[str]
    """What `LabelTally.measure_chance` measures."""
    alarm: ClassVar[str]
    """What tells of a leak where it is too high: one of the metrics, or `concordance` (see `tells`)."""
    headline: ClassVar[tuple[Metric, ...]]
    """The metrics that stand in a verdict's first line, where a bound on them is asked for."""
    label_name: ClassVar[str]
    """What one usable label is, for messages, as in "label of 0 or 1"."""
    served: ClassVar[str]
    """What a rehearsal's largest difference is of, for messages."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Names of the metrics, in the order that they are shown."""
        return METRICS[self.kind]

    def measured_as(self, other: "LabelType") -> "LabelType":
        """This model's answers and decisions, held against what another one says a mistake costs."""
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order; empty where there are none."""
        return ()

    @property
    def answer_names(self) -> tuple[str, ...]:
        """Names of the numbers that one answer has; empty where it is one number."""
        return self.class_names

    @property
    def promise(self) -> Promise | None:
        """What the answers promise to hold of the labels; None: nothing."""
        return None

    @property
    @abstractmethod
    def noun(self) -> str:
        """What is predicted, in words, as in "one of two classes"."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What one model says of its label, by name, for notes and tags."""

    @abstractmethod
    def limits(self, gate: "GateConfig") -> list[Limit]:
        """What the gate holds this kind's metrics against, besides `gate.metrics`."""

    @abstractmethod
    def count_classes(self, class_rows: tuple[int, ...], least: int) -> list[ClassCount]:
        """The counts that each must reach `least`, of the rows of each class.

        Empty where there are no classes. Of many classes those that are too rare, or else the rarest.
        """

    @abstractmethod
    def constants(
        self, test: Mapping[str, float], train: Mapping[str, float]
    ) -> dict[Metric, tuple[float, str]]:
        """By metric, what the best constant answer has on the test part, and which answer it is.

        Metrics that a constant has as good as any model are left out: no bound on them alone means
        anything.

        Args:
            test: facts about the test part's labels, as `describe` gives them.
            train: of the training part's.
        """

    @abstractmethod
    def tells(self, labels: "np.ndarray", scores: "np.ndarray") -> "np.ndarray":
        """How well scores alone tell the labels, in the better direction: float64 [C], 0.5 to 1.

        0.5 is chance, or not defined. There is one number a class where several are told apart, and
        else one.

        Args:
            labels: [N], usable ones.
            scores: float [N], or [N, C] where each class (or the label) has scores of its own.
        """

    @abstractmethod
    def stand_for(self, labels: "np.ndarray", group: "np.ndarray", groups: int) -> "np.ndarray":
        """What the labels of each group stand for, as scores: float64 [groups, C].

        Args:
            labels: [N], usable ones.
            group: integer [N], each from 0 on and below `groups`.
            groups: how many there are; one without rows stands for what is most usual.
        """

    @abstractmethod
    def is_usable(self, labels: "np.ndarray") -> "np.ndarray":
        """Which labels are what this kind has: bool [N]."""

    @abstractmethod
    def is_sound(self, answers: "np.ndarray") -> "np.ndarray":
        """Which rows' answers are what this kind answers with: bool [N]."""

    @abstractmethod
    def replace_unsound(self, answers: "np.ndarray", sound: "np.ndarray") -> "np.ndarray":
        """The answers with one that says nothing in the place of each unsound one."""

    @abstractmethod
    def make_tally(
        self,
        groups: int = 1,
        blocks: int | None = None,
        bins: int | None = None,
        *,
        weighted: bool = False,
    ) -> LabelTally:
        """An empty tally; None: as many blocks and bins as the kind counts by default.

        `weighted`: rows will count by a weight.
        """

    @abstractmethod
    def measure(self, labels: "np.ndarray", answers: "np.ndarray") -> dict[str, float]:
        """Every metric of rows at hand, exactly."""

    @abstractmethod
    def expect(self, answers: "np.ndarray") -> dict[str, float]:
        """What some metrics will be if the answers mean what they say, without any label.

        Empty where nothing can be said.
        """

    @abstractmethod
    def decide(self, answers: "np.ndarray") -> "np.ndarray":
        """The label that each answer stands for, [N], as tables hold labels."""

    def row_errors(self, labels: "np.ndarray", answers: "np.ndarray") -> "np.ndarray":
        """What each row adds to the mean that `error_of` makes the error of: 1 where it is wrong."""
        import numpy as np

        errors: np.ndarray = (self.decide(answers) != labels).astype(np.float64)
        return errors

    def error_of(self, mean: "np.ndarray") -> "np.ndarray":
        """The error, as people read it, of a mean of `row_errors`: the share of wrong answers."""
        return mean

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """What the predictor answers with."""

    @abstractmethod
    def respond(self, answers: "np.ndarray") -> dict[str, "np.ndarray"]:
        """The served outputs by name: [N] or [N, W], of the datatypes that `outputs` says."""

    @abstractmethod
    def is_tied(self, answers: "np.ndarray", tolerance: float) -> "np.ndarray":
        """Where a difference of `tolerance` in an answer could turn its label around: bool [N]."""

    @abstractmethod
    def place(self, answers: "np.ndarray") -> "np.ndarray":
        """Where each answer lies from 0 to 1, for a histogram that two models can be compared by: [N]."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What a client must know to read an answer, for the model's metadata."""

    @abstractmethod
    def read_response(self, served: "Mapping[str, np.ndarray]") -> "np.ndarray":
        """The answers that served outputs were made from: `respond` turned around.

        Args:
            served: arrays by the names of `outputs`, [N] or [N, W]; their dtype stays.

        Raises:
            KeyError: an output is missing.
        """

    def size(self, answers: "np.ndarray") -> float:
        """What a difference of two answers is to be seen against: 1 for probabilities."""
        return 1.0

    @abstractmethod
    def columns(self) -> "list[tuple[str, pa.DataType]]":
        """The columns of the inference log that hold an answer, with their types."""

    @abstractmethod
    def to_columns(self, answers: "np.ndarray") -> "dict[str, pa.Array]":
        """The answers as those columns, [N] each."""

    def scored_columns(self) -> "list[tuple[str, pa.DataType]]":
        """The columns that hold an answer in a scored table: those of the log, and what people read."""
        return self.columns()

    def to_scored_columns(self, answers: "np.ndarray") -> "dict[str, pa.Array]":
        """The answers as those columns, [N] each."""
        return self.to_columns(answers)

    @abstractmethod
    def from_columns(self, table: "pa.Table") -> "np.ndarray":
        """The answers of logged rows that were answered: float32 [N] or [N, W].

        Where the log holds a class only by its name, a name that the model does not have is an error.
        """

    @abstractmethod
    def describe(self, labels: "np.ndarray") -> dict[str, float]:
        """Facts about a part's labels: rows of each class by name, or a number's mean, std, min, max."""
