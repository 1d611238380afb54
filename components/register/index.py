"""The index of a version's evidence: hashes, commit, images, seeds, run ids, and every file's SHA-256."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from slipway.components.contracts.record import Record
from slipway.components.contracts.verdict import Outcome, Override

VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The data: `hash`, how it was split, and by part its rows, positives and window [start, end).

    `labels` are facts about a part's labels where they are not 0 and 1.
    """

    hash: str
    rows: dict[str, int]
    positives: dict[str, int]
    windows: dict[str, tuple[str, str]]
    split: str = "by time"
    labels: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFacts:
    """The features: their names, Feast's service, and how long before the label they are read."""

    service: str
    lead_seconds: int
    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The bundle's name and hash."""

    name: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFacts:
    """The commit that trained; empty: not known."""

    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedFacts:
    """The seeds of training and gate, where they are known."""

    training: int | None
    gate: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """The settings of the training, as its log has them."""

    settings: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictFacts:
    """The gate's decision, in short; `rules` is how many were looked at."""

    outcome: Outcome
    metrics: dict[str, float | None]
    thresholds: dict[str, float]
    rules: int
    notes: dict[str, Any]
    override: Override | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFacts:
    """The Python that registered, and how many packages each stage had."""

    python: str
    packages: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The ids of the MLflow run and of the pipeline's; empty: not known."""

    mlflow: str
    pipeline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceIndex(Record):
    """What a version was made from.

    Attributes:
        images: the image of each stage and of the predictor.
        files: name of a file, below its part, to its SHA-256.
    """

    ABSENT: ClassVar[str] = "holds no evidence"
    REMEDY: ClassVar[str] = "What the version rests on cannot be checked: register the model again."

    version: int = VERSION
    data: DataFacts
    features: FeatureFacts
    model: ModelFacts
    code: CodeFacts
    seeds: SeedFacts
    training: TrainingFacts
    verdict: VerdictFacts
    images: dict[str, str]
    environment: EnvironmentFacts
    runs: RunFacts
    files: dict[str, str]
