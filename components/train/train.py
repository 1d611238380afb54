"""Train: fits the model on the training part and writes it with its preprocessing inside."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slipway.components.config.kinds import LabelKind, metric_name
from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import TRAINING
from slipway.components.contracts.splits import read_splits
from slipway.components.support.files import new_directory, write_json
from slipway.components.support.stage import part, progress, stage
from slipway.components.train.process.budget import Budget
from slipway.components.train.process.checkpoint import Checkpoint, checkpoint_root
from slipway.components.train.process.device import (
    choose_device,
    count_devices,
    keep_freed_memory,
    require_compiler,
)
from slipway.components.train.process.preemption import Preempted
from slipway.components.train.provenance import run_parameters, run_tags

if TYPE_CHECKING:
    from slipway.components.contracts.splits import Splits
    from slipway.components.train.data.preparation import Prepared
    from slipway.components.train.finish import Trained
    from slipway.components.train.loop import TrainedMember
    from slipway.components.train.search import SearchTrial
    from slipway.components.train.tracking import Tracker
    from slipway.components.train.trees.fit import GrownTrees


# Share of the stage after which the epochs are over: calibration, importance, export and report follow.
EPOCHS_END = 0.8
# Share of the training after which trees have grown, where networks follow.
_TREES_END = 0.25
# Share of `training.minutes` that the trees may take, where networks follow.
_TREES_TIME = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What a training takes, and where it writes.

    Attributes:
        splits: the folder of the split tables. Of the test part only the features are read, to
            compare the exported files with the trained model.
        project: the MLflow experiment and the model's name.
        config: the project's `training` section, without what is a parameter here.
        seed: of every random choice.
        epochs: passes over the training table, at most; 0 follows the table's size (`auto`).
        learning_rate: of the first step; 0: `auto`.
        gpus: GPUs that the task was given, as the text that the pipeline hands over or as a number; 0
            trains on the CPU.
        allow_cpu: whether to train on the CPU where GPUs were asked for and none is there.
        bundle: folder to write the model bundle into.
        report: HTML file to write.
        gpu_type: the accelerator's resource, where nodes are asked for; with gpu_node_selector and
            gpu_tolerations it says where a job on several nodes runs. None: all three stand in `config`.
        gpu_node_selector: labels that those nodes must have.
        gpu_tolerations: taints that their pods tolerate.
        storage: where the pipeline keeps the bundle; an object store there also keeps the checkpoints,
            where no setting names another place.
        run_wait_seconds: how long to wait for MLflow to open the run that the bundle names.
        give_up_seconds: of silence after which MLflow is not waited for when training has ended.
        system_metrics_seconds: between two readings of CPU, memory and GPUs.
    """

    splits: Path
    project: str
    config: Mapping[str, object]
    seed: int
    epochs: int
    learning_rate: float
    gpus: str | int
    allow_cpu: bool
    bundle: Path
    report: Path
    gpu_type: str | None = None
    gpu_node_selector: Mapping[str, str] = field(default_factory=dict)
    gpu_tolerations: Sequence[Mapping[str, object]] = ()
    storage: str = ""
    run_wait_seconds: float = 120.0
    give_up_seconds: float = 10.0
    system_metrics_seconds: float = 10.0

    def parse_config(self) -> TrainingConfig:
        """The `training` section, whole: with what came as parameters of their own."""
        given: dict[str, object] = {
            "training_seed": self.seed,
            "training_epochs": self.epochs or "auto",
            "training_learning_rate": self.learning_rate or "auto",
            "training_gpus": count_devices(self.gpus),
            "training_allow_cpu": bool(self.allow_cpu),
        }
        if self.gpu_type is not None:
            given |= {
                "training_gpu_type": self.gpu_type,
                "training_gpu_node_selector": dict(self.gpu_node_selector),
                "training_gpu_tolerations": list(self.gpu_tolerations),
            }
        return TrainingConfig.parse(self.config, "training", given)


_HEADLINE: dict[LabelKind, tuple[str, ...]] = {
    "binary": ("auc", "f1"),
    "multiclass": ("accuracy", "auc", "log_loss"),
    "number": ("rmse", "r2", "coverage"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What training gives its face.

    Attributes:
        metrics: on the validation part.
        threshold: the label is 1 from this probability on; 0 where it is not binary.
        run_id: the MLflow run, where one could be opened.
        kind: of label.
        model: what the bundle holds.
        parts: what it is made of: several of a blend.
        warnings: what a person should know of it.
        seconds: of the whole stage.
    """

    metrics: dict[str, float]
    threshold: float
    run_id: str | None
    members: int
    seconds: float
    kind: LabelKind = "binary"
    model: Literal["network", "linear", "trees", "blend"] = "network"
    parts: tuple[str, ...] = ("network",)
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        shown = [f"{metric_name(n)} {self.metrics[n]:.4f}" for n in _HEADLINE[self.kind]]
        decided = f" at threshold {self.threshold:.3f}" if self.kind == "binary" else ""
        members = "1 member" if self.members == 1 else f"{self.members} members"
        made = {"network": members, "linear": "a linear model", "trees": "trees"}
        *first, last = (made[part] for part in self.parts)
        named = f"{', '.join(first)} and {last}" if first else last
        told = "".join(f"; WARNING: {warning}" for warning in self.warnings)
        return f"validation {', '.join(shown)}{decided}, {named}{told}"

    def metadata(self) -> dict[str, Any]:
        """What the KFP artifact shows."""
        return {
            "threshold": self.threshold,
            "mlflow_run_id": self.run_id or "",
            "framework": "pytorch",
            **self.details,
            **{f"validation_{name}": value for name, value in self.metrics.items()},
        }


@stage("train")
def train_model(task: TrainingTask) -> TrainResult:
    """Trains, calibrates, exports and reports.

    Raises:
        SlipwayError: no GPU where one was asked for, one class only, infinite values, a loss that
            is not finite, a checkpoint of another configuration, exports that disagree.
    """
    started = time.monotonic()
    from slipway.components.train.process.system import SystemMetricsSampler
    from slipway.components.train.tracking import Tracker

    meta, root, prepared = _prepare(task)
    searched = Checkpoint(root, task.project, f"search-{prepared.identity}")
    checkpoint = Checkpoint(root, task.project, prepared.identity)
    trees = Checkpoint(root, task.project, f"trees-{prepared.trees_identity}")
    kept = [place.load() or {} for place in (searched, trees, checkpoint)]
    run_id = next((state["run_id"] for state in reversed(kept) if state.get("run_id")), None)
    tracker = Tracker(task.project, run_id, run_tags(meta), give_up=task.give_up_seconds)
    try:
        with SystemMetricsSampler(tracker.metrics, task.system_metrics_seconds):
            trials: list[SearchTrial] = []
            first = 0.0
            if prepared.config.search.trials:
                first = 0.6
                with part(0.0, first):
                    prepared, trials = _search(prepared, searched, tracker)
                checkpoint = Checkpoint(root, task.project, prepared.identity)
            tracker.parameters(run_parameters(prepared))
            with part(first, EPOCHS_END):
                trained = _train_models(task, prepared, trees, checkpoint, root, tracker)
            with part(EPOCHS_END, 1.0):
                result = _finish(task, meta, prepared, trained, trials, tracker, started)
    except Preempted:
        # The task comes back and goes on with the same run, so the run stays open.
        raise
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish()
    for place in (checkpoint, searched, trees):
        place.delete()
    return result


def _prepare(task: TrainingTask) -> "tuple[Splits, str, Prepared]":
    """Reads the settings and the tables; the second value is where checkpoints lie."""
    gpus = count_devices(task.gpus)
    import torch

    from slipway.components.train.data.preparation import prepare

    settings = task.parse_config()
    if settings.compile:
        require_compiler()
    meta = read_splits(task.splits)
    on_nodes = settings.nodes.count > 1
    # On several nodes the devices are theirs; this pod only follows them.
    device = choose_device(0 if on_nodes else gpus, bool(task.allow_cpu))
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    root = checkpoint_root(settings.checkpoints, task.storage)
    trained_on = "cuda" if on_nodes and gpus else device.type
    return meta, root, prepare(task.splits, meta, task.project, settings, device, trained_on)


def _search(
    prepared: "Prepared", checkpoint: Checkpoint, tracker: "Tracker"
) -> "tuple[Prepared, list[SearchTrial]]":
    """Searches, with a nested MLflow run a trial."""
    from slipway.components.train.search import search

    status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    return search(
        prepared,
        checkpoint,
        run_id=lambda: tracker.run_id,
        on_trial=lambda trial: tracker.child(
            f"trial-{trial.number + 1}", trial.values, trial.history, status[trial.state]
        ),
    )


def _train_models(
    task: TrainingTask,
    prepared: "Prepared",
    trees: Checkpoint,
    checkpoint: Checkpoint,
    root: str,
    tracker: "Tracker",
) -> "Trained":
    """Trains what the settings ask for; trees and the linear model in this process."""
    from slipway.components.train.finish import Trained

    parts, minutes = prepared.parts, prepared.config.minutes
    wanted = prepared.config.parts(len(parts.source), len(parts.splits.classes))
    grown, linear, members = None, None, []
    budget = Budget(seconds=math.inf if minutes is None else minutes * 60)
    alone = "network" not in wanted
    with part(0.0, 1.0 if alone else _TREES_END):
        if "linear" in wanted:
            from slipway.components.train.linear.fit import doubt_size, fit_linear

            if len(wanted) > 1 and (doubt := doubt_size(prepared)):
                progress(f"the linear model is left out: {doubt}")
            else:
                linear = fit_linear(prepared)
        if "trees" in wanted:
            own = budget.portion(1.0 if alone else _TREES_TIME)
            grown = _grow(task, prepared, trees, tracker, own)
            budget.resume(grown.seconds)
    if not alone:
        with part(_TREES_END if len(wanted) > 1 else 0.0, 1.0):
            members = _train(task, prepared, checkpoint, root, tracker, budget)
    return Trained(members=members, linear=linear, trees=grown)


def _grow(
    task: TrainingTask,
    prepared: "Prepared",
    checkpoint: Checkpoint,
    tracker: "Tracker",
    budget: Budget,
) -> "GrownTrees":
    """Grows the trees in this process, whatever the networks are trained on."""
    from slipway.components.train.trees.fit import grow_trees

    return grow_trees(
        task.splits,
        prepared,
        checkpoint,
        log=tracker.metrics,
        run_id=lambda: tracker.run_id,
        budget=budget,
    )


def _train(
    task: TrainingTask,
    prepared: "Prepared",
    checkpoint: Checkpoint,
    root: str,
    tracker: "Tracker",
    budget: Budget,
) -> "list[TrainedMember]":
    """Trains in this process, with torchrun in this pod, or on several nodes."""
    from slipway.components.train.distributed.processes import WorkerJob, run_workers
    from slipway.components.train.distributed.trainjob import run_on_nodes
    from slipway.components.train.loop import Training

    settings, device, gpus = prepared.config, prepared.parts.device, count_devices(task.gpus)
    on_nodes = settings.nodes.count > 1
    processes = gpus if device.type == "cuda" else settings.processes
    if not on_nodes and processes == 1:
        training = Training(
            make_network=prepared.make_network,
            source=prepared.parts.source,
            validation=prepared.parts.validation,
            head=prepared.parts.head,
            config=settings,
            device=device,
            checkpoint=checkpoint,
            log=tracker.metrics,
            run_id=lambda: tracker.run_id,
            scaled_names=prepared.scaled_names,
            budget=budget,
        )
        return training.run(checkpoint.load() or {})
    job = WorkerJob(
        splits=str(task.splits.resolve()),
        project=task.project,
        config=settings.to_struct(),
        device="cuda" if on_nodes and gpus else device.type,
        run_id=tracker.wait_for_run(task.run_wait_seconds),
        checkpoints=root,
        seconds=budget.left if budget.limited else None,
    )
    if on_nodes:
        return run_on_nodes(job, task.splits, settings, prepared.identity, gpus)
    return run_workers(job, processes)


def _finish(
    task: TrainingTask,
    meta: "Splits",
    prepared: "Prepared",
    trained: "Trained",
    trials: "list[SearchTrial]",
    tracker: "Tracker",
    started: float,
) -> TrainResult:
    """Writes the bundle and the report of what was trained, and logs both."""
    from slipway.components.train.finish import calibrate_members, describe_training, write_model
    from slipway.components.train.report import write_report

    progress("calibrating", 0.0)
    with part(0.05, 0.4):
        finished = calibrate_members(prepared, trained)
    tracker.metrics({f"validation_{name}": value for name, value in finished.metrics.items()})
    with new_directory(task.bundle) as folder:
        with part(0.4, 0.9):
            difference = write_model(folder, task.splits, prepared, finished)
        # MLflow has had the time of the export to open the run.
        run_id = tracker.wait_for_run(task.run_wait_seconds)
        seconds = time.monotonic() - started
        log = describe_training(
            meta,
            prepared,
            finished,
            trials,
            export_difference=difference,
            seconds=seconds,
            run_id=run_id,
        )
        write_json(folder / TRAINING, log)
    progress("writing the report", 0.9)
    write_report(task.report, f"{meta.project}: training report", log)
    tracker.artifacts("training", [task.bundle / TRAINING])
    tracker.page("training/report.html", task.report)
    return TrainResult(
        metrics=finished.metrics,
        threshold=finished.threshold,
        run_id=run_id,
        members=len(finished.model.members),
        model=finished.chosen,
        parts=tuple(finished.parts),
        warnings=tuple(finished.warnings),
        seconds=seconds,
        kind=meta.label_kind,
        details={
            "data_hash": meta.data_hash,
            "architecture": prepared.config.network.architecture,
            "model": finished.chosen,
        },
    )
