"""What runs on its own: the recurring runs that a project declares."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from slipway.components.config.base import Duration, Section
from slipway.components.config.checks.kubernetes_names import Labels, ObjectName

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
# Field, least, greatest, names: as Kubeflow's scheduler reads them, seconds first.
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of the month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)

# On every pod of a run: whose it is, for costs and for finding a stage's pod.
PROJECT_LABEL, STAGE_LABEL = "slipway.dev/project", "slipway.dev/stage"

# Every task of every pipeline, by its name in the Kubeflow UI.
TaskName = Literal[
    "ingest",
    "plan-ingest",
    "ingest-shard",
    "merge-dataset",
    "validate",
    "validate-shard",
    "merge-validated",
    "features",
    "train",
    "evaluate",
    "register",
    "deploy",
    "monitor",
    "plan-monitoring",
    "monitor-shard",
    "merge-monitoring",
    "scoring-features",
    "score",
    "plan-scoring",
    "score-shard",
    "merge-predictions",
    "monitor-predictions",
    "backfill",
    "retrain",
    "prune-online",
    "report-end",
    "report-verdict",
]
IN_SHARDS: dict[str, tuple[TaskName, ...]] = {
    "ingest": ("plan-ingest", "ingest-shard", "merge-dataset"),
    "validate": ("validate-shard", "merge-validated"),
    "score": ("plan-scoring", "score-shard", "merge-predictions"),
    "monitor": ("plan-monitoring", "monitor-shard", "merge-monitoring"),
    "monitor-predictions": ("plan-monitoring", "monitor-shard", "merge-monitoring"),
}
"""A task to those that do its work in shards. The last of them, the merge, gives what it gives."""
PipelineName = Literal["training", "retraining", "monitoring", "scoring", "backfill"]

# Kubeflow gives the merge all its inputs in one argument: 131,072 bytes, some 700 for a shard.
Shards = Annotated[int, Field(ge=1, le=128)] | Literal["auto"]


def _is_quantity(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?", value):
        raise ValueError(
            f"'{value}' is no quantity of Kubernetes: write a number, and m, Ki, Mi, Gi or Ti, in quotes"
        )
    return value


Quantity = Annotated[str, AfterValidator(_is_quantity)]


class TaskSettings(Section):
    """What one task asks of the cluster, where it is not what Slipway gives it."""

    cpu: Quantity | None = Field(
        default=None, description='Requested and not exceeded, as in "8" and 32Gi.'
    )
    memory: Quantity | None = Field(
        default=None, description='Requested and not exceeded, as in "8" and 32Gi.'
    )
    timeout: Duration | None = Field(
        default=None, description="After so long a try of the task is given up."
    )
    retries: int | None = Field(
        default=None, ge=0, le=10, description="How often it is tried again."
    )
    node_selector: Labels = Field(default={}, description="Labels that its node must have.")
    tolerations: list[dict[str, object]] = Field(
        default=[], description="Taints that it tolerates, as Kubernetes writes them."
    )
    affinity: dict[str, object] = Field(
        default={}, description="Node affinity, as Kubernetes writes it."
    )
    labels: Labels = Field(
        default={}, description="Of its pods, beside the project and the stage: a cost centre, say."
    )


class WorkspaceVolume(Section):
    """A volume that lives as long as a run, for what fits neither memory nor a node's own disk."""

    size: Quantity = Field(description="As in 100Gi.")
    storage_class: ObjectName | Literal[""] = Field(
        default="", description="Empty: the one that Kubeflow's administrator set."
    )
    access_modes: list[Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]] = Field(
        default=["ReadWriteOnce"], description="Kubeflow refuses a run whose volume has none."
    )
    pipelines: list[PipelineName] = Field(
        default=["training", "retraining"], description="Whose runs get such a volume."
    )


class Orchestration(Section):
    """The `orchestration` section."""

    deadline: Duration = Field(
        default=timedelta(days=1), description="After this long a run is given up."
    )
    keep: Duration = Field(
        default=timedelta(days=7),
        description="How long the pods of an ended run stay to be looked at.",
    )
    workspace: WorkspaceVolume | None = Field(
        default=None, description="A volume for runs; None: each task uses its pod's own disk."
    )
    shards: Shards = Field(
        default=1,
        description="How many pods share a table's ingest, validation and scoring, and monitoring, "
        "at most: a number to 128, or auto, one for every 4,194,304 rows. 1: one task each does it all.",
    )
    tasks: dict[TaskName, TaskSettings] = Field(default={}, description="Task to what it asks for.")

    @model_validator(mode="after")
    def _places_training_once(self) -> Self:
        train = self.tasks.get("train", TaskSettings())
        if train.node_selector or train.tolerations or train.affinity:
            raise ValueError(
                "where training runs is set in training.accelerator, so that it can be changed when a"
                " run is started: move tasks.train's node_selector, tolerations and affinity there"
            )
        return self


class Schedule(Section):
    """One recurring run."""

    pipeline: Literal["retraining", "monitoring", "scoring", "backfill"] = Field(
        description="What runs: `monitoring`, `scoring`, `backfill`, or `retraining`, which is "
        "the training pipeline on a window that ends when the run is due."
    )
    cron: str | None = Field(
        default=None,
        description="When, as five fields (minute hour day month weekday) or six with seconds "
        "first; in UTC unless the cluster's scheduler was given another zone.",
    )
    every: Duration | None = Field(default=None, description="Instead of `cron`, how often.")
    window: Duration = Field(
        default=timedelta(days=1),
        description="How long a stretch of data before the scheduled time a run looks at.",
    )
    enabled: bool = Field(default=True, description="False keeps the recurring run, paused.")
    catchup: bool = Field(
        default=False,
        description="Whether runs that were missed while the cluster was down are made up for.",
    )
    max_concurrency: int = Field(
        default=1, ge=1, le=10, description="Runs of this schedule that may be at work at once."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Pipeline parameters that differ from the project's own."
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None:
            cron_with_seconds(value)
        return value

    @model_validator(mode="after")
    def _has_one_trigger(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("give either cron or every")
        if self.every is not None and self.every < timedelta(minutes=1):
            raise ValueError("every is less than a minute")
        if self.window <= timedelta(0):
            raise ValueError("the window is empty")
        return self


def cron_with_seconds(text: str) -> str:
    """A cron expression as Kubeflow's scheduler wants it: six fields, seconds first.

    Given five fields, that scheduler would read the minute as the second and run every minute or
    hour without a word; so five fields get a leading 0 here.

    Raises:
        ValueError: the expression is not valid; the message names the field.
    """
    fields = text.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise ValueError(f"cron '{text}' has {len(fields)} fields: write five, as in 0 6 * * *")
    for value, (name, least, greatest, names) in zip(fields, _FIELDS, strict=True):
        for part in value.split(","):
            if not _is_cron_part(part, least, greatest, names):
                raise ValueError(f"cron '{text}': {value} is not a {name} ({least} to {greatest})")
    return " ".join(fields)


def _is_cron_part(part: str, least: int, greatest: int, names: list[str]) -> bool:
    """One of `*`, `?`, `7`, `MON`, `1-5`, each with or without a step as in `*/15`."""
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return True
    match = re.fullmatch(r"(\w+)(?:-(\w+))?", span)
    if not match:
        return False
    ends = []
    for word in match.groups():
        if word is None:
            continue
        if word.upper() in names:
            ends.append(names.index(word.upper()) + least)
        elif word.isdigit():
            ends.append(int(word))
        else:
            return False
    return all(least <= end <= greatest for end in ends) and ends == sorted(ends)
