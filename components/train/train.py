"""Train: fits the model on the training part and writes it with its preprocessing inside."""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import TRAINING, write_bundle
from slipway.components.contracts.splits import Splits, read_splits
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory, write_json
from slipway.components.support.packages import installed_packages
from slipway.components.support.stage import progress, stage

if TYPE_CHECKING:
    import torch

    from slipway.components.train.checkpoint import Checkpoint
    from slipway.components.train.data.preparation import Prepared
    from slipway.components.train.loop import Member
    from slipway.components.train.search import Trial
    from slipway.components.train.tracking import Tracker

_RUN_WAIT_SECONDS = 120.0
_STORES = ("s3", "gs", "abfs", "abfss")
_RECORDED = ("torch", "numpy", "onnx", "onnxscript", "mlflow", "tabm", "rtdl-num-embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What training gives its face.

    Attributes:
        metrics: on the validation part.
        threshold: the label is 1 from this probability on.
        run_id: the MLflow run, where one could be opened.
        seconds: of the whole stage.
    """

    metrics: dict[str, float]
    threshold: float
    run_id: str | None
    members: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return (
            f"validation AUC {self.metrics['auc']:.4f}, F1 {self.metrics['f1']:.3f} at threshold"
            f" {self.threshold:.3f}, {self.members} members"
        )

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
def train_model(
    *,
    splits: Path,
    project: str,
    config: Mapping[str, Any],
    seed: int,
    epochs: int,
    learning_rate: float,
    gpus: str | int,
    allow_cpu: bool,
    bundle: Path,
    report: Path,
    storage: str = "",
) -> TrainResult:
    """Trains, calibrates, exports and reports.

    Args:
        splits: the folder of the split tables. Of the test part only the features are read, to
            compare the exported files with the trained model.
        project: the MLflow experiment and the model's name.
        config: the project's `training` section.
        seed: overrides the section's, as do the next two where they are not 0.
        epochs: passes over the training table, at most.
        learning_rate: of the first step.
        gpus: GPUs that the task was given, as the text that the pipeline hands over or as a number; 0
            trains on the CPU.
        allow_cpu: whether to train on the CPU where GPUs were asked for and none is there.
        bundle: folder to write the model bundle into.
        report: HTML file to write.
        storage: where the pipeline keeps the bundle; an object store there also keeps the checkpoints,
            where no setting names another place.

    Raises:
        SlipwayError: no GPU where one was asked for, one class only, infinite values, a loss that
            is not finite, a checkpoint of another configuration, exports that disagree.
    """
    started = time.monotonic()
    devices = count_devices(gpus)
    import torch

    from slipway.components.train.checkpoint import Checkpoint
    from slipway.components.train.data.preparation import prepare
    from slipway.components.train.loop import Preempted
    from slipway.components.train.system import SystemMetrics
    from slipway.components.train.tracking import Tracker

    given = {"epochs": epochs, "learning_rate": learning_rate}
    settings = TrainingConfig.model_validate(
        {**config, "seed": seed} | {name: value for name, value in given.items() if value}
    )
    if settings.compile:
        require_compiler()
    meta = read_splits(splits)
    # On several nodes the devices are theirs; this pod only follows them.
    here = 0 if settings.nodes.count > 1 else devices
    device = choose_device(here, bool(allow_cpu))
    torch.set_num_threads(settings.threads)
    root = _checkpoint_root(settings, storage)
    on_nodes = settings.nodes.count > 1
    prepared = prepare(
        splits, meta, project, settings, device, "cuda" if on_nodes and devices else device.type
    )
    searched = Checkpoint(root, project, f"search-{prepared.identity}")
    checkpoint = Checkpoint(root, project, prepared.identity)
    run_id = ((searched.load() or {}) | (checkpoint.load() or {})).get("run_id")
    tracker = Tracker(project, run_id, _tags(meta))
    try:
        with SystemMetrics(tracker.metrics):
            trials: list[Trial] = []
            if settings.search.trials:
                prepared, trials = _search(prepared, searched, tracker)
                checkpoint = Checkpoint(root, project, prepared.identity)
            tracker.parameters(_parameters(prepared, device))
            members = _train(prepared, splits, project, checkpoint, root, devices, tracker)
            result = _finish(
                splits, meta, prepared, members, trials, tracker, bundle, report, started
            )
    except Preempted:
        # The task comes back and goes on with the same run, so the run stays open.
        raise
    except BaseException:
        tracker.finish("FAILED", give_up=10)
        raise
    tracker.finish()
    checkpoint.delete()
    searched.delete()
    return result


def _search(
    prepared: "Prepared", checkpoint: "Checkpoint", tracker: "Tracker"
) -> "tuple[Prepared, list[Trial]]":
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


def _train(
    prepared: "Prepared",
    splits: Path,
    project: str,
    checkpoint: "Checkpoint",
    root: str,
    gpus: int,
    tracker: "Tracker",
) -> "list[Member]":
    """Trains in this process, with torchrun in this pod, or on several nodes."""
    from slipway.components.train.distributed.processes import Job, run_workers
    from slipway.components.train.distributed.trainjob import run_on_nodes
    from slipway.components.train.loop import Training

    settings, device = prepared.config, prepared.parts.device
    on_nodes = settings.nodes.count > 1
    processes = gpus if device.type == "cuda" else settings.processes
    if not on_nodes and processes == 1:
        training = Training(
            make_network=prepared.make_network,
            source=prepared.parts.source,
            validation=prepared.parts.validation,
            config=settings,
            device=device,
            checkpoint=checkpoint,
            log=tracker.metrics,
            run_id=lambda: tracker.run_id,
            scaled_names=prepared.scaled_names,
        )
        return training.run(checkpoint.load() or {})
    job = Job(
        splits=str(splits.resolve()),
        project=project,
        config=settings.to_struct(),
        device="cuda" if on_nodes and gpus else device.type,
        run_id=tracker.wait_for_run(_RUN_WAIT_SECONDS),
        checkpoints=root,
    )
    if on_nodes:
        return run_on_nodes(job, splits, settings, prepared.identity, gpus)
    return run_workers(job, processes)


def _finish(
    splits: Path,
    meta: Splits,
    prepared: "Prepared",
    members: "list[Member]",
    trials: "list[Trial]",
    tracker: "Tracker",
    bundle: Path,
    report: Path,
    started: float,
) -> TrainResult:
    """Calibrates, chooses the threshold, exports, checks, reports."""
    from slipway.components.metrics.binary import calibration_curve, measure
    from slipway.components.metrics.labels import reaches_threshold
    from slipway.components.metrics.threshold import choose_threshold
    from slipway.components.train.data.tables import raw_arrays, read_features
    from slipway.components.train.importance import permutation_importance
    from slipway.components.train.model.calibration import Platt, fit_platt
    from slipway.components.train.model.export import (
        Model,
        check_export,
        export_model,
        forward_in_chunks,
    )
    from slipway.components.train.report import write_report

    settings = prepared.config
    networks: list[torch.nn.Module] = []
    for member in members:
        network = prepared.make_network()
        network.load_state_dict(member.weights)
        networks.append(network.eval().requires_grad_(False))
    labels = prepared.parts.validation.labels.cpu().numpy().astype("float64")
    uncalibrated = Model(prepared.parts.preprocessor, networks, Platt())
    raw_probability = forward_in_chunks(uncalibrated, prepared.parts.validation_raw)
    platt = fit_platt(labels, raw_probability) if settings.calibration == "platt" else Platt()
    model = Model(prepared.parts.preprocessor, networks, platt).eval()
    probability = forward_in_chunks(model, prepared.parts.validation_raw)
    threshold = choose_threshold(labels, probability, settings.threshold)
    metrics = measure(labels, probability, reaches_threshold(probability, threshold))
    curves = {"calibrated": calibration_curve(labels, probability)}
    if platt != Platt():
        curves = {"before calibration": calibration_curve(labels, raw_probability)} | curves
    progress("measuring the features' importance")
    importance = permutation_importance(
        model, prepared.parts.signature, prepared.parts.validation_raw, labels, settings.seed
    )
    tracker.metrics({f"validation_{name}": value for name, value in metrics.items()})
    run_id = tracker.wait_for_run(_RUN_WAIT_SECONDS)
    signature = replace(
        prepared.parts.signature,
        threshold=threshold,
        notes={
            "mlflow_run_id": run_id,
            "threshold_rule": settings.threshold,
            "calibration": {"slope": platt.slope, "offset": platt.offset},
            "architecture": settings.network.architecture,
            "members": len(members),
        },
    )
    with new_directory(bundle) as folder:
        progress("exporting to ONNX and pt2")
        export_model(folder, model, signature, prepared.parts.validation_raw)
        test = read_features(splits, "test", signature)
        difference = check_export(folder, model, signature, test, raw_arrays(signature, test))
        seconds = time.monotonic() - started
        log = {
            "project": meta.project,
            "data_hash": meta.data_hash,
            "rows": meta.rows,
            "positives": meta.positives,
            "settings": settings.to_struct(),
            "architecture": settings.network.architecture,
            "members": [
                {"history": member.history, "best_epoch": member.best_epoch} for member in members
            ],
            "search": [asdict(trial) for trial in trials],
            "metrics": metrics,
            "threshold": threshold,
            "calibration": curves,
            "importance": importance,
            "export_difference": difference,
            "seconds": round(seconds, 3),
            "environment": _environment(),
            "packages": installed_packages(),
            "mlflow_run_id": run_id,
        }
        write_json(folder / TRAINING, log)
        write_bundle(folder, signature)
    write_report(report, f"{meta.project}: training report", log)
    tracker.artifacts("training", [report, bundle / TRAINING])
    return TrainResult(
        metrics=metrics,
        threshold=threshold,
        run_id=run_id,
        members=len(members),
        seconds=seconds,
        details={"data_hash": meta.data_hash, "architecture": settings.network.architecture},
    )


def require_compiler() -> None:
    """Checks that torch.compile, which calls a compiler at run time, has one.

    Raises:
        SlipwayError: there is none, as in the stage's own image.
    """
    named = [os.environ[name] for name in ("CC", "CXX") if os.environ.get(name)]
    if not any(shutil.which(name) for name in (*named, "g++", "gcc", "clang++", "clang")):
        raise SlipwayError(
            "training.compile is true, and torch.compile needs a C++ compiler at run time: here is none,"
            " and the stage's own image has none. Set training.compile to false, or train in an image"
            " of yours with g++ and the headers of Python and torch."
        )


def count_devices(gpus: str | int) -> int:
    """The number of devices that a text says; a pipeline's parameters know no whole numbers.

    Raises:
        SlipwayError: it is no whole number.
    """
    if isinstance(gpus, str) and not re.fullmatch(r"\d+", gpus):
        raise SlipwayError(f"gpus is {gpus!r}: give a whole number of devices, as 0 or 2.")
    return int(gpus)


def choose_device(gpus: int, allow_cpu: bool) -> "torch.device":
    """The device to train on.

    Raises:
        SlipwayError: GPUs were asked for, none is there, and the CPU is not allowed.
    """
    import torch

    if gpus == 0:
        return torch.device("cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found >= gpus:
        return torch.device("cuda", 0)
    if not allow_cpu:
        check = (
            "Check the accelerator type, the node selector and the driver of the node"
            if torch.version.cuda
            else f"torch {torch.__version__} is the CPU build, which sees none: build the image with"
            " TORCH_BUILD=cuda"
        )
        raise SlipwayError(
            f"The task was to train on {gpus} GPU(s), and {found} can be seen. {check}, set"
            " training.accelerator.count to 0, or set training.allow_cpu to train on the CPU."
        )
    progress(f"{gpus} GPU(s) asked for, {found} found: training on the CPU, as allow_cpu permits")
    return torch.device("cpu")


def _checkpoint_root(settings: TrainingConfig, storage: str) -> str:
    """Where checkpoints lie: the setting, else below SLIPWAY_HOME, else beside the pipeline's own files.

    The last is for a cluster, where a retried task writes its bundle to the place of the first try.
    """
    if settings.checkpoints:
        return settings.checkpoints
    home = os.environ.get("SLIPWAY_HOME", "").strip()
    if home:
        return f"{home}/checkpoints"
    if storage.partition("://")[0] in _STORES:
        return f"{storage.rpartition('/')[0]}/checkpoints"
    progress("no checkpoints are kept: training.checkpoints names no place, and nothing else does")
    return ""


def _environment() -> dict[str, str]:
    """Versions and commit that the model was made with."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in _RECORDED},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit of this code: baked into the image as GIT_COMMIT, or asked of git in a checkout."""
    if commit := os.environ.get("GIT_COMMIT"):
        return commit
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def _tags(meta: Splits) -> dict[str, str]:
    return {
        "slipway.project": meta.project,
        "slipway.data_hash": meta.data_hash,
        "mlflow.source.git.commit": _git_commit(),
        "mlflow.runName": f"train-{meta.data_hash[:8]}",
    }


def _parameters(prepared: "Prepared", device: "torch.device") -> dict[str, Any]:
    """The settings as flat MLflow parameters, with what they led to."""
    settings = prepared.config
    flat: dict[str, Any] = {}
    for name, value in settings.to_struct().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            flat[name] = value
    return flat | {
        "architecture": settings.network.architecture,
        "device": str(device),
        "train_rows": len(prepared.parts.source),
        "features": len(prepared.parts.signature.features),
        "data_hash": prepared.parts.signature.data_hash,
        **{f"version.{name}": value for name, value in _environment().items()},
    }
