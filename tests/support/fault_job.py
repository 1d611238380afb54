"""Each stage of the small job by its own face, on what a run made, for processes that are disturbed."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp import dsl

from slipway.components.contracts.bundle import bundle_hash, read_bundle
from slipway.components.contracts.dataset import read_manifest
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.release import Release
from slipway.components.contracts.splits import read_splits
from slipway.components.contracts.verdict import read_verdict
from slipway.components.evaluate.component import evaluate
from slipway.components.features.component import features
from slipway.components.ingest.component import ingest
from slipway.components.monitor.component import monitor
from slipway.components.register.component import register
from slipway.components.support.files import hash_directory
from slipway.components.train.component import train
from slipway.components.validate.component import validate
from support.small_job import make_small_job

FACES = {
    face.name: face for face in (ingest, validate, features, train, evaluate, register, monitor)
}
# What a parameter of a face is called in the pipeline, where it is not called alike.
SECTIONS = {
    "ingest": "data",
    "features": "features",
    "train": "training",
    "evaluate": "gate",
    "monitor": "monitoring",
}
MADE_BY = {
    "dataset": "ingest",
    "good": "validate",
    "splits": "features",
    "bundle": "train",
    "verdict": "evaluate",
    "card": "evaluate",
}


@dataclass(frozen=True, kw_only=True)
class DoneJob:
    """An undisturbed run of the small job.

    Attributes:
        root: of the job. training, monitoring: the folders of its pipelines' outputs.
        arguments: parameter to value, of both pipelines.
    """

    root: Path
    training: Path
    monitoring: Path
    arguments: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, root: Path) -> "DoneJob":
        out = root / "run"
        found = {}
        for name in ("training", "monitoring"):
            (log,) = (out / "logs").glob(f"*-{name}.json")
            found[name] = json.loads(log.read_text())["arguments"]
        (training,) = (out / "pipelines").glob("shop-training-*")
        (monitoring,) = (out / "pipelines").glob("shop-monitoring-*")
        return cls(root=root, training=training, monitoring=monitoring, arguments=found)

    def environment(self, folder: Path) -> dict[str, str]:
        """The settings of a point: all that is written lies in its folder."""
        return {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "FEATURE_STORE_URI": str(folder / "feature_store"),
            "INFERENCE_LOG_URI": str(self.root / "run" / "inference_log"),
            "MONITORING_URI": str(folder / "monitoring"),
            "SLIPWAY_HOME": str(folder / "home"),
        }

    def lay_out(self, stage: str, folder: Path) -> None:
        """What a stage finds: a registry, empty unless the stage looks into it."""
        name = "mlflow.db" if stage == "monitor" else "empty.db"
        shutil.copyfile(self.root / "run" / name, folder / "mlflow.db")

    def input(self, name: str) -> Path:
        made = "good" if name == "dataset" else name
        return self.training / MADE_BY[made] / made


@contextmanager
def done_job(folder: Path) -> Iterator[DoneJob]:
    """Runs the small job once, with traffic; its predictor is stopped."""
    job = make_small_job(folder)
    job.out.mkdir()
    try:
        # An MLflow database that knows nothing takes ten seconds to make; each point copies it.
        from slipway.components.support.tracking.mlflow_server import MlflowServer

        MlflowServer(f"sqlite:///{job.out / 'empty.db'}", patience=1).find_experiment("none")
        done = job.run("run", "--traffic", "2d", timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        job.stop()
        yield DoneJob.read(folder)
    finally:
        job.stop()


def stage_of(name: str) -> Callable[[Path, str], None]:
    """The stage as a function of a point's folder and the job's."""
    return {
        "ingest": run_ingest,
        "validate": run_validate,
        "features": run_features,
        "train": run_train,
        "evaluate": run_evaluate,
        "register": run_register,
        "monitor": run_monitor,
    }[name]


def run_ingest(folder: Path, root: str) -> None:
    _run("ingest", folder, root)


def run_validate(folder: Path, root: str) -> None:
    _run("validate", folder, root)


def run_features(folder: Path, root: str) -> None:
    _run("features", folder, root)


def run_train(folder: Path, root: str) -> None:
    _run("train", folder, root)


def run_evaluate(folder: Path, root: str) -> None:
    _run("evaluate", folder, root)


def run_register(folder: Path, root: str) -> None:
    _run("register", folder, root)


def run_monitor(folder: Path, root: str) -> None:
    _run("monitor", folder, root)


def _run(name: str, folder: Path, root: str) -> None:
    """Calls a face as KFP's executor does, with the run's values and artifacts."""
    job, face = DoneJob.read(Path(root)), FACES[name]
    given = dict(job.arguments["monitoring" if name == "monitor" else "training"])
    given["config"] = given.get(SECTIONS.get(name, ""), {})
    given["monitoring"] = job.arguments["monitoring"]["monitoring"]
    given |= {"provenance": {}, "images": {}, "pipeline_run": "", "scratch": "", "before": "0s"}
    given |= {"after": "0s", "target": "local", "scheduled_at": ""}
    for parameter in ("seed", "epochs", "learning_rate"):
        given[parameter] = given.get(f"training_{parameter}")
    for parameter in ("gpus", "gpu_type", "gpu_node_selector", "gpu_tolerations", "allow_cpu"):
        given[parameter] = given.get(f"training_{parameter}")
    spec, values = face.component_spec, {}
    for parameter, kind in (spec.inputs or {}).items():
        if "." in str(kind.type):
            place = (
                job.monitoring / "ingest" / "dataset"
                if parameter == "labels"
                else job.training / "ingest" / "dataset"
                if name == "validate"
                else job.input(parameter)
            )
            values[parameter] = _artifact(str(kind.type), parameter, place)
        elif given.get(parameter) is not None:
            values[parameter] = given[parameter]
    for output, kind in (spec.outputs or {}).items():
        if "." in str(kind.type):
            values[output] = _artifact(str(kind.type), output, folder / output)
    face.python_func(**values)


def _artifact(kind: str, name: str, place: Path) -> Any:
    made = getattr(dsl, kind.split("@")[0].removeprefix("system."))(name=name, uri=str(place))
    return made


def found(stage: str, folder: Path) -> dict[str, str]:
    """What lies there, by output; each is read as a later stage does, so a half one raises."""
    there = {}
    for name, read in READERS[stage].items():
        if (folder / name).exists():
            there[name] = read(folder / name)
    return there


def _page(path: Path) -> str:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), f"{path} is half-written"
    return "whole"


def _json(path: Path) -> str:
    json.loads(path.read_text(encoding="utf-8"))
    return "whole"


def _splits(path: Path) -> str:
    read_splits(path)
    return hash_directory(path)


def _bundle(path: Path) -> str:
    read_bundle(path)
    return bundle_hash(path)


def _verdict(path: Path) -> str:
    verdict = read_verdict(path)
    return f"{verdict.outcome} {verdict.metrics} {verdict.model_hash}"


def _record(path: Path) -> str:
    record = MonitoringRecord.read(path)
    return f"{record.metrics} {record.drift_status} {[a.name for a in record.alerts]}"


def _release(path: Path) -> str:
    release = Release.read(path)
    return f"{release.model_version} {release.alias} {release.model_hash}"


def _manifest(path: Path) -> str:
    return read_manifest(path).content_hash


READERS: dict[str, dict[str, Callable[[Path], str]]] = {
    "ingest": {"dataset": _manifest},
    "validate": {"good": _manifest, "quarantine": _manifest, "report": _page, "results": _json},
    "features": {"splits": _splits},
    "train": {"bundle": _bundle, "report": _page},
    "evaluate": {"verdict": _verdict, "card": _page},
    "register": {"release": _release},
    "monitor": {"record": _record, "report": _page, "evidently": _page},
}
