"""How the model is trained, and on what hardware."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from slipway.components.config.base import Section

SectionType = TypeVar("SectionType", bound=Section)


class Accelerator(Section):
    """What the training task asks the cluster for. A count of 0 means CPU."""

    type: str = "nvidia.com/gpu"
    count: int = Field(default=1, ge=0)
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    affinity: dict[str, Any] = {}


class NodesConfig(Section):
    """Training on several nodes, through Kubeflow Trainer.

    Attributes:
        count: nodes; 1 trains in the task's own pod. More need `training.checkpoints` in an object
            store that all nodes can reach.
        runtime: name of the ClusterTrainingRuntime.
        cpu: cores, and memory: as Kubernetes writes them, of each node.
    """

    count: int = Field(default=1, ge=1)
    runtime: str = "torch-distributed"
    cpu: str = "4"
    memory: str = "16Gi"


class NetworkConfig(Section):
    """The shape of the network.

    Attributes:
        architecture: `mlp`, `tabm`, or `auto`: tabm below `auto_rows` training rows, else mlp.
        layers: hidden layers. width: units of each; `auto`: 128 below `auto_rows` rows, else 256.
        dropout: share of them left out in a step; `auto`: 0.15 below `auto_rows` rows, else 0.2.
        bins: pieces of the piecewise-linear encoding of a numeric feature; embedding: its width.
        distinct: a numeric feature with at most so many different values has an edge at each of them
            instead. `auto`: 128 below `auto_rows` training rows, where finer pieces cost little and
            counts and amounts are common; else 0.
        category_embedding: greatest width of a category's embedding.
        tabm_heads: sub-models that share one tabm network.
        max_categories: values a categorical feature keeps, the most frequent; the rest is unknown.
        min_category_rows: a value seen less often in training is treated as unknown.
    """

    architecture: Literal["auto", "mlp", "tabm"] = "auto"
    auto_rows: int = Field(default=50_000, ge=0)
    layers: int = Field(default=2, ge=1, le=16)
    width: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    dropout: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = "auto"
    bins: int = Field(default=24, ge=2)
    distinct: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    embedding: int = Field(default=8, ge=1)
    category_embedding: int = Field(default=16, ge=1)
    tabm_heads: int = Field(default=16, ge=2)
    max_categories: int = Field(default=5000, ge=1)
    min_category_rows: int = Field(default=10, ge=1)


class Range(Section):
    """Numbers that a search may take.

    Attributes:
        low, high: the ends, both included.
        log: whether to draw evenly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

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


class SearchConfig(Section):
    """A search for better settings before the training: Optuna's TPE, with median pruning.

    Attributes:
        trials: short trainings, of one member each; 0 searches nothing. The first one has the
            settings that the project file gives.
        minutes: no trial starts after so long.
        space: setting to what it may be: a list of values, or a range.
    """

    trials: int = Field(default=0, ge=0)
    minutes: float = Field(default=30, gt=0)
    space: dict[str, Range | list[float]] = {
        "learning_rate": Range(low=5e-4, high=1e-2, log=True),
        "weight_decay": Range(low=1e-3, high=1e-1, log=True),
        "network.layers": Range(low=1, high=4),
        "network.width": [128, 256, 512],
        "network.dropout": Range(low=0.0, high=0.5),
        "network.bins": [16, 24, 48],
    }

    @field_validator("space")
    @classmethod
    def _known(cls, space: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(space) - set(SEARCHED))
        if unknown or not all(space.values()):
            raise ValueError(
                f"a search cannot vary {', '.join(unknown) or 'a setting without values'}; it can"
                f" vary {', '.join(SEARCHED)}"
            )
        return space


class TrainingConfig(Section):
    """The `training` section. What says `auto` follows the number of training rows.

    Attributes:
        epochs: passes over the training table, at most; after each, the validation part is measured.
            `auto` takes 10 below `network.auto_rows` rows, else 5.
        min_steps: a small table is passed over more than once an epoch, so that training takes about
            this many steps in all. `auto` takes 3000 below `network.auto_rows` rows, else 600.
        learning_rate: of the first step; it falls along a cosine. `auto` takes 0.006 below
            `network.auto_rows` rows, else 0.002.
        weight_decay: `auto` takes 0.05 below `network.auto_rows` rows, else 0.01.
        batch_size: rows a step; `auto` takes 1024, or 256 below `network.auto_rows` rows.
        members: networks trained from different seeds; the model is the mean of their answers.
            `auto` takes 2, or 1 of tabm, which is an ensemble in itself.
        monitor: what early stopping watches on the validation part.
        patience: epochs without improvement after which training ends. `auto` takes 4 below
            `network.auto_rows` rows, where epochs are short, else 2.
        calibration: how probabilities are calibrated on the validation part.
        threshold: the rule that chooses the class threshold on the validation part (best F1, best
            accuracy, Youden's J, or as many positives as there are), or the threshold itself.
        positive_weight: weight of a positive row; `balanced` gives both classes the same total.
        sample_weight: a numeric feature that weighs the rows; it is then no input of the model.
        checkpoints: folder or object-store prefix; empty: below SLIPWAY_HOME where that is set.
        checkpoint_seconds: how often training saves itself.
        threads: CPU threads of one operation. Batches of this size gain little from more than one,
            and with one the result does not depend on the machine's number of cores.
        processes: training processes on the CPU; on GPUs there is one a device.
        compile: whether the network goes through torch.compile.
        buffer_rows: rows that are on the device at once, 0 for all. `auto`: all, or fewer where those
            would take more than 40 % of the device's memory or 20 % of the container's. The rest then
            waits on the disk, and a buffer is filled with pieces from all over the table.
        search: a search for better settings before the training.
    """

    seed: int = 0
    epochs: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    min_steps: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=2)] = "auto"
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    weight_decay: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    patience: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    members: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    monitor: Literal["auc", "log_loss"] = "auc"
    network: NetworkConfig = NetworkConfig()
    calibration: Literal["platt", "none"] = "platt"
    threshold: (
        Literal["f1", "accuracy", "youden", "prevalence"] | Annotated[float, Field(gt=0, lt=1)]
    ) = "f1"
    positive_weight: Literal["balanced"] | Annotated[float, Field(gt=0)] = 1.0
    sample_weight: str | None = None
    checkpoints: str = ""
    checkpoint_seconds: float = Field(default=60, ge=0)
    threads: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1)
    compile: bool = False
    buffer_rows: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    search: SearchConfig = SearchConfig()
    nodes: NodesConfig = NodesConfig()
    allow_cpu: bool = False
    accelerator: Accelerator = Accelerator()

    @model_validator(mode="after")
    def _search_on_one_node(self) -> "TrainingConfig":
        if self.search.trials and self.nodes.count > 1:
            raise ValueError(
                "search.trials needs the table in the task's own pod: search with nodes.count 1, and"
                " write what it found into this section before training on several nodes"
            )
        return self

    def is_small(self, rows: int) -> bool:
        """Whether a training table of so many rows counts as small for the `auto` settings."""
        return rows < self.network.auto_rows

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

    def resolve(self, rows: int) -> "TrainingConfig":
        """The same settings with each `auto` decided for a training table of so many rows."""
        small = self.is_small(rows)
        network = _decide(
            self.network,
            architecture="tabm" if small else "mlp",
            width=128 if small else 256,
            dropout=0.15 if small else 0.2,
            distinct=128 if small else 0,
        )
        return _decide(
            self.model_copy(update={"network": network}),
            members=1 if network.architecture == "tabm" else 2,
            batch_size=256 if small else 1024,
            min_steps=3000 if small else 600,
            epochs=10 if small else 5,
            patience=4 if small else 2,
            learning_rate=6e-3 if small else 2e-3,
            weight_decay=5e-2 if small else 1e-2,
        )


def _decide(section: SectionType, **choices: Any) -> SectionType:
    """The same settings with these for what says `auto`."""
    open_ones = {k: value for k, value in choices.items() if getattr(section, k) == "auto"}
    return section.model_copy(update=open_ones)
