"""How the model is trained, and on what hardware."""

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from slipway.components.config.base import Section
from slipway.components.config.checks.kubernetes_names import Labels, ObjectName
from slipway.components.config.features.label import value_text
from slipway.components.support.libraries import plugins

SectionType = TypeVar("SectionType", bound=Section)


class Accelerator(Section):
    """What the training task asks the cluster for. A count of 0 means CPU."""

    type: str = Field(default="nvidia.com/gpu", description="Resource name of the GPUs.")
    count: int = Field(default=1, ge=0, description="GPUs of the task; 0: it trains on the CPU.")
    node_selector: Labels = Field(
        default={}, description="Labels of the nodes that the task may run on."
    )
    tolerations: list[dict[str, object]] = Field(
        default=[], description="Taints that the task tolerates, as Kubernetes writes them."
    )
    affinity: dict[str, object] = Field(
        default={}, description="The pod's affinity, as Kubernetes writes it."
    )


class NodesConfig(Section):
    """Training on several nodes, through Kubeflow Trainer."""

    count: int = Field(
        default=1,
        ge=1,
        description="Nodes; 1 trains in the task's own pod. More need `training.checkpoints` in "
        "an object store that all nodes can reach.",
    )
    runtime: ObjectName = Field(
        default="torch-distributed", description="Name of the ClusterTrainingRuntime."
    )
    cpu: str = Field(default="4", description="Cores.")
    memory: str = Field(default="16Gi", description="As Kubernetes writes them, of each node.")


ARCHITECTURES = ("mlp", "tabm")
"""Slipway's own networks."""


def _is_architecture(value: str) -> str:
    """One of Slipway's, or a model that an installed package offers."""
    if value in ("auto", *ARCHITECTURES):
        return value
    if reason := plugins.absence(plugins.MODELS, value):
        raise ValueError(f"'{value}' is none of auto, {', '.join(ARCHITECTURES)}, and {reason}")
    return value


class NetworkConfig(Section):
    """The shape of the network."""

    architecture: Annotated[
        str,
        AfterValidator(_is_architecture),
        WithJsonSchema({"anyOf": [{"enum": ["auto", *ARCHITECTURES]}, {"type": "string"}]}),
    ] = Field(
        default="auto",
        description="`mlp`, `tabm`, `auto`: tabm below `auto_rows` training rows, else mlp; or the name "
        "of a model that an installed package offers (docs/your-own-code.md).",
    )
    auto_rows: int = Field(
        default=50_000,
        ge=0,
        description="Training rows below which `auto` takes what suits small tables.",
    )
    layers: int = Field(default=2, ge=1, le=16, description="Hidden layers.")
    width: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="Units of each; `auto`: 128 below `auto_rows` rows, else 256."
    )
    dropout: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = Field(
        default="auto",
        description="Share of them left out in a step; `auto`: 0.15 below `auto_rows` rows, else "
        "0.2.",
    )
    bins: int = Field(
        default=24,
        ge=2,
        description="Pieces of the piecewise-linear encoding of a numeric feature.",
    )
    distinct: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        default="auto",
        description="A numeric feature with at most so many different values has an edge at each "
        "of them instead. `auto`: 128 below `auto_rows` training rows, where finer "
        "pieces cost little and counts and amounts are common; else 0.",
    )
    embedding: int = Field(default=8, ge=1, description="Its width.")
    category_embedding: int = Field(
        default=16, ge=1, description="Greatest width of a category's embedding."
    )
    tabm_heads: int = Field(default=16, ge=2, description="Sub-models that share one tabm network.")
    max_categories: int = Field(
        default=5000,
        ge=1,
        description="Values a categorical feature keeps, the most frequent; the rest is unknown.",
    )
    min_category_rows: int = Field(
        default=10, ge=1, description="A value seen less often in training is treated as unknown."
    )


MAX_LEAVES = 2**21
"""Of the trees of several classes together: about 200 MB as a graph."""


class TreesConfig(Section):
    """Boosted trees beside the network, or in its place."""

    rounds: int = Field(
        default=2000,
        ge=1,
        description="Rounds of boosting, at most; the best one on the validation part is taken. Of "
        "several classes a round grows a tree each, and no more rounds than have 2,097,152 leaves in all "
        "where each tree is as deep as it may be (131 of 1,000 classes with depth 4).",
    )
    patience: int = Field(
        default=50, ge=1, description="Rounds without improvement after which they end."
    )
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        default="auto",
        description="What a round's answer is multiplied by; `auto` takes 0.05 below `network.auto_rows` "
        "rows, else 0.1.",
    )
    depth: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] = Field(
        default="auto",
        description="Levels of a tree; `auto`: 4 below 10,000 training rows, then 5, and one more "
        "each time that there are three times as many, at most 8.",
    )

    def rounds_for(self, classes: int) -> int:
        """Rounds of boosting, at most, of so many classes (0: two, or a number); `depth` is decided."""
        if not classes:
            return self.rounds
        leaves: int = classes * 2 ** int(self.depth)
        return min(self.rounds, max(1, MAX_LEAVES // leaves))


MANY_CLASSES = 100
"""More than these are left to the network, unless the project asks for another model."""
_MOST_MEMBERS = 4
"""Of what a budget of time has room for: each costs a served request its time too."""
_EPOCH_STEPS = 100
"""Of an epoch of a small table: its network can be at its best after a hundred steps."""


class Range(Section):
    """Numbers that a search may take."""

    low: float = Field(description="The ends, both included.")
    high: float = Field(description="The ends, both included.")
    log: bool = Field(default=False, description="Whether to draw evenly on a logarithmic scale.")

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is set")
        return self


SEARCHED: dict[str, type[int] | type[float]] = {
    "learning_rate": float,
    "weight_decay": float,
    "network.layers": int,
    "network.width": int,
    "network.dropout": float,
    "network.bins": int,
    "network.embedding": int,
    "network.category_embedding": int,
}
"""Settings that a search may vary."""


def _class_names(declared: object) -> object:
    """Class names that YAML reads as numbers or booleans, as the texts that they are."""
    if not isinstance(declared, dict):
        return declared
    return {value_text(name): weight for name, weight in declared.items()}


ClassWeights = Annotated[
    dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], BeforeValidator(_class_names)
]


class SearchConfig(Section):
    """A search for better settings before the training: Optuna's TPE, with median pruning."""

    trials: int = Field(
        default=0,
        ge=0,
        description="Short trainings, of one member each; 0 searches nothing. The first one has "
        "the settings that the project file gives.",
    )
    minutes: float = Field(default=30, gt=0, description="No trial starts after so long.")
    space: dict[str, Range | list[float]] = Field(
        default={
            "learning_rate": Range(low=5e-4, high=1e-2, log=True),
            "weight_decay": Range(low=1e-3, high=1e-1, log=True),
            "network.layers": Range(low=1, high=4),
            "network.width": [128, 256, 512],
            "network.dropout": Range(low=0.0, high=0.5),
            "network.bins": [16, 24, 48],
        },
        description="Setting to what it may be: a list of values, or a range.",
    )

    @field_validator("space")
    @classmethod
    def _known(cls, space: dict[str, object]) -> dict[str, object]:
        unknown = sorted(set(space) - set(SEARCHED))
        if unknown or not all(space.values()):
            raise ValueError(
                f"a search cannot vary {', '.join(unknown) or 'a setting without values'}; it can"
                f" vary {', '.join(SEARCHED)}"
            )
        return space


class TrainingConfig(Section):
    """The `training` section. What says `auto` follows the number of training rows."""

    model: Literal["auto", "network", "trees", "linear", "blend"] = Field(
        default="auto",
        description="`network`, `trees` (boosted ones), `linear` (logistic or ridge regression), `blend` "
        "of network, trees and, below `network.auto_rows` training rows, the linear model, or `auto`: "
        "the blend, or the best of them where it leads on the validation part by more than the noise; of "
        "more than 100 classes the network alone.",
    )
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Of the wall clock, for all models together. What is not at its end by then keeps "
        "its best round or epoch, and the network's learning rate falls within what is left; where more "
        "time is left, `members: auto` trains up to 4 networks. Calibration, export and report come on "
        "top. None: as long as the other settings say.",
    )
    seed: int = Field(default=0, description="Of every random choice; also a pipeline parameter.")
    epochs: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="Passes over the training table, at most; after each, the validation part is "
        "measured. `auto` takes 5, and below `network.auto_rows` rows as many as have about 100 steps "
        "each, 10 to 30.",
    )
    min_steps: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="A small table is passed over more than once an epoch, so that training takes "
        "about this many steps in all. `auto` takes 3000 below `network.auto_rows` "
        "rows, else 600.",
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=2)] = Field(
        default="auto",
        description="Rows a step; `auto` takes 1024, or 256 below `network.auto_rows` rows.",
    )
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto",
        description="Of the first step; it falls along a cosine. `auto` takes 0.006 below "
        "`network.auto_rows` rows, else 0.002.",
    )
    weight_decay: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        default="auto", description="`auto` takes 0.05 below `network.auto_rows` rows, else 0.01."
    )
    patience: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="Epochs without improvement after which training ends. `auto` takes 2, and below "
        "`network.auto_rows` rows, where epochs are short, a fifth "
        "of them, at least 4.",
    )
    members: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="Networks trained from different seeds; the model is the mean of their "
        "answers. `auto` takes 2, or 1 of tabm, which is an ensemble in itself; with `minutes` as many "
        "as there is time for, at most 4.",
    )
    monitor: Literal["auc", "log_loss"] = Field(
        default="auc", description="What early stopping watches on the validation part."
    )
    network: NetworkConfig = NetworkConfig()
    trees: TreesConfig = TreesConfig()
    calibration: Literal["platt", "none"] = Field(
        default="platt", description="How probabilities are calibrated on the validation part."
    )
    threshold: (
        Literal["auto", "f1", "accuracy", "youden", "prevalence", "cost"]
        | Annotated[float, Field(gt=0, lt=1)]
    ) = Field(
        default="auto",
        description="The rule that chooses the class threshold on the validation part (best F1, "
        "best accuracy, Youden's J, as many positives as there are, or least expected cost), or the "
        "threshold itself. `auto`: `cost` where `features.label.costs` says what wrong answers cost, "
        "else `f1`.",
    )
    positive_weight: Literal["balanced"] | Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="Weight of a positive row; `balanced` gives both classes the same total.",
    )
    class_weights: Literal["balanced"] | ClassWeights | None = Field(
        default=None,
        description="Of a label with several classes: class to the weight of its rows, 1 where none is "
        "given; `balanced` gives all classes the same total.",
    )
    interval: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="Of a label that is a number: the share of values that the intervals are to hold.",
    )
    sets: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Of a label with several classes: the model also answers with a set of classes, and "
        "the sets are to hold this share of the labels (0.9). None: no sets.",
    )
    sample_weight: str | None = Field(
        default=None,
        description="A numeric column of `features.examples.beside` that weighs the rows, or a numeric "
        "feature, which is then no input of the model.",
    )
    checkpoints: str = Field(
        default="",
        description="Folder or object-store prefix; empty: below SLIPWAY_HOME where that is set.",
    )
    checkpoint_seconds: float = Field(
        default=60, ge=0, description="How often training saves itself."
    )
    threads: int = Field(
        default=1,
        ge=1,
        description="CPU threads of one operation. Batches of this size gain little from more "
        "than one, and with one the result does not depend on the machine's number of "
        "cores.",
    )
    processes: int = Field(
        default=1, ge=1, description="Training processes on the CPU; on GPUs there is one a device."
    )
    compile: bool = Field(
        default=False, description="Whether the network goes through torch.compile."
    )
    buffer_rows: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        default="auto",
        description="Rows that are on the device at once, 0 for all. `auto`: all, or fewer where "
        "those would take more than 40 % of the device's memory or 20 % of the "
        "container's. The rest then waits on the disk, and a buffer is filled with "
        "pieces from all over the table.",
    )
    pt2: bool = Field(
        default=False,
        description="Whether the bundle also holds the model for torch (model.pt2); nothing here "
        "reads it.",
    )
    search: SearchConfig = Field(
        default=SearchConfig(), description="A search for better settings before the training."
    )
    nodes: NodesConfig = NodesConfig()
    allow_cpu: bool = Field(
        default=False, description="Train on the CPU where the GPU that was asked for is not there."
    )
    accelerator: Accelerator = Accelerator()

    @model_validator(mode="after")
    def _search_on_one_node(self) -> "TrainingConfig":
        if self.search.trials and self.nodes.count > 1:
            raise ValueError(
                "search.trials needs the table in the task's own pod: search with nodes.count 1, and"
                " write what it found into this section before training on several nodes"
            )
        return self

    @model_validator(mode="after")
    def _search_for_a_network(self) -> "TrainingConfig":
        if self.search.trials and self.model in ("trees", "linear"):
            raise ValueError(
                f"search.trials varies the network's settings, and model is {self.model}: take model"
                " blend or auto, or no search"
            )
        return self

    def is_small(self, rows: int) -> bool:
        """Whether a training table of so many rows counts as small for the `auto` settings."""
        return rows < self.network.auto_rows

    def parts(self, rows: int, classes: int = 0) -> tuple[str, ...]:
        """The models that are trained on so many rows: network, linear, trees.

        `auto` takes the network alone where there are more than `MANY_CLASSES`: each round of trees grows
        one a class, and the linear model's fit holds rows times classes in float64.
        """
        if self.model == "auto" and classes > MANY_CLASSES:
            return ("network",)
        if self.model not in ("auto", "blend"):
            return (self.model,)
        return ("network", "linear", "trees") if self.is_small(rows) else ("network", "trees")

    def with_values(self, values: dict[str, Any]) -> "TrainingConfig":
        """The same settings with some replaced, by dotted names such as `network.width`."""
        struct = self.to_struct()
        for name, value in values.items():
            *sections, key = name.split(".")
            place = struct
            for section in sections:
                place = place[section]
            place[key] = value
        return TrainingConfig.model_validate(struct)

    def resolve(self, rows: int, *, costs: bool = False) -> "TrainingConfig":
        """The same settings with each `auto` decided for a training table of so many rows.

        Args:
            rows: of the training part.
            costs: whether the label says what wrong answers cost.
        """
        small = self.is_small(rows)
        network = _decide(
            self.network,
            architecture="tabm" if small else "mlp",
            width=128 if small else 256,
            dropout=0.15 if small else 0.2,
            distinct=128 if small else 0,
        )
        trees = _decide(
            self.trees,
            learning_rate=0.05 if small else 0.1,
            depth=min(8, 4 + max(0, math.floor(math.log(max(rows, 1) / 10_000, 3)) + 1)),
        )
        steps = _decide(
            self.model_copy(update={"network": network, "trees": trees}),
            batch_size=256 if small else 1024,
            min_steps=3000 if small else 600,
        )
        # Epochs of about 100 steps, and no shorter than the table.
        longest = int(steps.min_steps) * int(steps.batch_size) // max(rows, 1)
        epochs = max(10, min(int(steps.min_steps) // _EPOCH_STEPS, longest))
        taken = _decide(steps, epochs=epochs if small else 5)
        return _decide(
            taken,
            threshold="cost" if costs else "f1",
            members=_MOST_MEMBERS if self.minutes else 1 if network.architecture == "tabm" else 2,
            patience=max(4, int(taken.epochs) // 5) if small else 2,
            learning_rate=6e-3 if small else 2e-3,
            weight_decay=5e-2 if small else 1e-2,
        )


def _decide(section: SectionType, **choices: object) -> SectionType:
    """The same settings with these for what says `auto`."""
    open_ones = {k: value for k, value in choices.items() if getattr(section, k) == "auto"}
    return section.model_copy(update=open_ones)
