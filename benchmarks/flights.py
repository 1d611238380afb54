"""The flights' tables and a model of them, made by the stages once for all benchmarks that need one."""

import os
from pathlib import Path

from benchmarks.harness import FOLDER
from slipway.components.config.parameters import struct_of
from slipway.components.config.project import load_project
from slipway.components.config.training import TrainingConfig

EXAMPLE = Path("examples/flights")


def flights_splits() -> Path:
    """The split tables, from the lake."""
    folder = FOLDER / "flights_splits"
    if not folder.exists():
        from slipway.components.features.features import build_features
        from slipway.components.ingest.ingest import ingest_tables

        os.environ["FEATURE_STORE_URI"] = str((FOLDER / "feature_store").resolve())
        project = load_project(EXAMPLE).project
        start, end = project.data.window_texts
        ingest_tables(
            config=struct_of(project.data, "data"),
            data_root=project.data.root,
            window_start=start,
            window_end=end,
            output=FOLDER / "flights_dataset",
        )
        build_features(
            FOLDER / "flights_dataset", project.project_name, project.features.to_struct(), folder
        )
    return folder


def flights_bundle() -> tuple[Path, Path]:
    """A model bundle and its split tables: of BENCH_BUNDLE and BENCH_SPLITS, or made here (a minute)."""
    given = [os.environ.get(name) for name in ("BENCH_BUNDLE", "BENCH_SPLITS")]
    if given[0] and given[1]:
        return Path(given[0]), Path(given[1])
    splits, bundle = flights_splits(), FOLDER / "flights_model" / "bundle"
    if not bundle.exists():
        train_flights(splits, bundle)
    return bundle, splits


def train_flights(splits: Path, bundle: Path, **changed: object) -> None:
    """Trains the example's model.

    Args:
        splits: the split tables.
        bundle: folder to write.
        changed: settings in place of the example's.
    """
    from slipway.components.train.train import TrainingTask, train_model

    training = load_project(EXAMPLE).project.training
    config = TrainingConfig.model_validate({**training.to_struct(), **changed})
    scratch = bundle.parent
    scratch.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch.resolve()}/mlflow.db"
    try:
        train_model(
            TrainingTask(
                splits=splits,
                project="flights",
                config=struct_of(config, "training"),
                seed=config.seed,
                epochs=0 if config.epochs == "auto" else config.epochs,
                learning_rate=0 if config.learning_rate == "auto" else config.learning_rate,
                gpus=0,
                allow_cpu=True,
                bundle=bundle,
                report=scratch / "report.html",
            )
        )
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
