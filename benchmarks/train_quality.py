"""Quality of the trained model against gradient boosting: the same rows, the same features.

    make bench NAME=train_quality

Flights: the splits that `features` wrote, from the folder in SPLITS (default: the newest below
build/). The further tables are public ones that packages on PyPI carry (see `public_tables`), each cut
into 60 % training, 20 % validation and 20 % test. Slipway runs with default settings on these, and
with those of examples/flights on flights. LightGBM and XGBoost have 2,000 trees of learning rate 0.05
(0.02 on the small tables) at most, CatBoost its defaults, all stopped early on the validation part, with
native categories. CatBoost is left out where it is not installed. Mean of 3 seeds. At the end come the
mean ranks over all tables, and how often each system wins against Slipway, by a paired bootstrap of
blocks of test rows.

Settings in the environment: SEEDS, THREADS, TABLES (all, or names with commas between: flights, adult,
...), ROWS (at most so many of each public table), MODEL (`training.model` of ours) and STEPS
(`training.min_steps`). The whole takes hours:

    TABLES=flights,adult SEEDS=1 nice -n 10 make bench NAME=train_quality
"""

import importlib.util
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import standings
from benchmarks.flights import flights_splits
from benchmarks.harness import Row, cpu_seconds, report, save
from benchmarks.public_tables import KINDS, public_table
from slipway.components.config.kinds import LOWER_IS_BETTER, LabelKind
from slipway.components.config.project import load_project
from slipway.components.contracts.bundle import ONNX, model_inputs, read_bundle
from slipway.components.contracts.splits import (
    LABEL,
    Part,
    Splits,
    part_file,
    read_part,
    read_splits,
)
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.threshold import choose_threshold

SEEDS = range(int(os.environ.get("SEEDS", "3")))
THREADS = int(os.environ.get("THREADS", "2"))
ROWS = int(os.environ["ROWS"]) if os.environ.get("ROWS") else None
Answer = tuple[np.ndarray, np.ndarray]
"""Answers on validation and test, as the kind of label has them."""


def flights_folder() -> Path:
    if folder := os.environ.get("SPLITS"):
        return Path(folder)
    found = sorted(
        # Evidence and reference of a release have a splits.json too, but not the tables.
        (
            path
            for path in Path("build").rglob("splits.json")
            if part_file(path.parent, "train").exists()
        ),
        key=lambda path: path.stat().st_mtime,
    )
    return found[-1].parent if found else flights_splits()


def slipway(folder: Path, settings: dict[str, Any], seed: int) -> Answer:
    import onnxruntime

    from slipway.components.train.train import TrainingTask, train_model

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        os.environ.pop("SLIPWAY_HOME", None)
        bundle = Path(scratch) / "bundle"
        # What is a pipeline's parameter stands nowhere else.
        own = ("seed", "epochs", "learning_rate", "allow_cpu", "accelerator")
        epochs, rate = (settings[name] for name in ("epochs", "learning_rate"))
        train_model(
            TrainingTask(
                splits=folder,
                project="bench",
                config={name: value for name, value in settings.items() if name not in own},
                seed=seed,
                epochs=0 if epochs == "auto" else epochs,
                learning_rate=0 if rate == "auto" else rate,
                gpus=0,
                allow_cpu=True,
                bundle=bundle,
                report=Path(scratch) / "report.html",
            )
        )
        session = onnxruntime.InferenceSession(str(bundle / ONNX))
        signature = read_bundle(bundle)
        validation, test = (
            session.run([signature.output[0]], model_inputs(signature, read_part(folder, part)))[0]
            for part in ("validation", "test")
        )
    return validation, test


def frames(folder: Path) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """The same features for the trees: a time as minute of the day and weekday, as in Slipway."""
    meta: Splits = read_splits(folder)
    parts: tuple[Part, ...] = ("train", "validation", "test")
    tables = {part: read_part(folder, part).to_pandas() for part in parts}
    result: dict[str, tuple[pd.DataFrame, np.ndarray]] = {}
    for part, table in tables.items():
        frame = pd.DataFrame(index=table.index)
        for feature in meta.features:
            column = table[feature.name]
            if feature.kind == "time":
                frame[f"{feature.name}_minute"] = column.dt.hour * 60 + column.dt.minute
                frame[f"{feature.name}_weekday"] = column.dt.dayofweek
            elif feature.kind == "categorical":
                known = sorted(tables["train"][feature.name].dropna().unique())
                frame[feature.name] = pd.Categorical(column, categories=known)
            else:
                frame[feature.name] = column.astype(float)
        result[part] = (frame, table[LABEL].to_numpy())
    return result


def _fitted(answer: Callable[[Any], np.ndarray], data: dict[str, Any]) -> Answer:
    validation, test = (np.asarray(answer(data[part][0])) for part in ("validation", "test"))
    return validation, test


def _answers(model: Any, kind: LabelKind) -> Callable[[Any], np.ndarray]:
    """What the model answers, as the kind of label has it; a number's interval is the value itself."""
    if kind == "number":
        return lambda rows: np.repeat(np.asarray(model.predict(rows))[:, None], 3, axis=1)
    if kind == "binary":
        return lambda rows: np.asarray(model.predict_proba(rows))[:, 1]
    return lambda rows: np.asarray(model.predict_proba(rows))


def lightgbm(data: dict[str, Any], kind: LabelKind, rate: float, seed: int) -> Answer:
    import lightgbm as lgb

    make = lgb.LGBMRegressor if kind == "number" else lgb.LGBMClassifier
    watched = {"binary": "auc", "multiclass": "multi_logloss", "number": "rmse"}
    model = make(
        n_estimators=2000,
        learning_rate=rate,
        num_leaves=63 if rate == 0.05 else 15,
        min_child_samples=50,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.8,
        random_state=seed,
        n_jobs=THREADS,
        verbose=-1,
    )
    rows, labels = data["train"]
    model.fit(
        rows,
        labels,
        eval_set=[data["validation"]],
        eval_metric=watched[kind],
        callbacks=[lgb.early_stopping(50, verbose=False)],
    )
    return _fitted(_answers(model, kind), data)


def xgboost(data: dict[str, Any], kind: LabelKind, rate: float, seed: int) -> Answer:
    import xgboost as xgb

    make = xgb.XGBRegressor if kind == "number" else xgb.XGBClassifier
    watched = {"binary": "auc", "multiclass": "mlogloss", "number": "rmse"}
    model = make(
        n_estimators=2000,
        learning_rate=rate,
        max_depth=7 if rate == 0.05 else 4,
        min_child_weight=5,
        subsample=0.8,
        colsample_bytree=0.8,
        tree_method="hist",
        enable_categorical=True,
        eval_metric=watched[kind],
        early_stopping_rounds=50,
        random_state=seed,
        n_jobs=THREADS,
    )
    model.fit(*data["train"], eval_set=[data["validation"]], verbose=False)
    return _fitted(_answers(model, kind), data)


def catboost(data: dict[str, Any], kind: LabelKind, rate: float, seed: int) -> Answer:
    """With its own learning rate."""
    import catboost as cat

    rows = data["train"][0]
    categories = [name for name in rows if isinstance(rows[name].dtype, pd.CategoricalDtype)]
    texts = {
        part: (
            frame.assign(**{c: frame[c].astype(object).fillna("").astype(str) for c in categories}),
            labels,
        )
        for part, (frame, labels) in data.items()
    }
    make = cat.CatBoostRegressor if kind == "number" else cat.CatBoostClassifier
    model = make(
        random_seed=seed,
        thread_count=THREADS,
        cat_features=categories,
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(*texts["train"], eval_set=texts["validation"], early_stopping_rounds=50)
    return _fitted(_answers(model, kind), texts)


SHOWN: dict[LabelKind, tuple[str, ...]] = {
    "binary": ("auc", "log_loss", "calibration_error", "f1", "accuracy"),
    "multiclass": ("log_loss", "auc", "accuracy", "calibration_error"),
    "number": ("rmse", "mae", "r2"),
}
"""By kind of label; the first one decides."""
PEERS = {"LightGBM": lightgbm, "XGBoost": xgboost}
if importlib.util.find_spec("catboost"):
    PEERS["CatBoost"] = catboost


def measure(
    train: Callable[[int], Answer], labels: dict[str, np.ndarray], meta: Splits, rule: str
) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """Trains with each seed: metrics on the test part and CPU seconds, a value a seed; the answers."""
    found: dict[str, list[float]] = {}
    answers: list[np.ndarray] = []
    for seed in SEEDS:
        answer: list[Answer] = []

        def keep(seed: int = seed, answer: list[Answer] = answer) -> None:
            answer.append(train(seed))

        started = time.perf_counter()
        seconds = cpu_seconds(keep)
        wall = time.perf_counter() - started
        validation, test = (np.asarray(part, np.float64) for part in answer[0])
        answers.append(test)
        label = label_type(meta.label_kind, classes=meta.classes)
        if meta.label_kind == "binary":
            threshold = choose_threshold(labels["validation"], validation, rule)
            label = label_type("binary", threshold=threshold)
        measured = label.measure(labels["test"], test)
        values = {name: measured[name] for name in SHOWN[meta.label_kind]}
        for name, value in (values | {"cpu_s": seconds, "wall_s": wall}).items():
            found.setdefault(name, []).append(value)
    return found, answers


def compare(
    name: str, folder: Path, settings: dict[str, Any], slack: float
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The rows of a table, and each system's resampled losses."""
    meta, data = read_splits(folder), frames(folder)
    kind = meta.label_kind
    labels = {part: values for part, (_, values) in data.items()}
    rate = 0.05 if len(labels["train"]) > 50_000 else 0.02
    rule = settings["threshold"] if settings["threshold"] != "auto" else "f1"
    measured = {
        "Slipway": measure(lambda seed: slipway(folder, settings, seed), labels, meta, rule),
        **{
            peer: measure(partial(fit, data, kind, rate), labels, meta, rule)
            for peer, fit in PEERS.items()
        },
    }
    losses = standings.resampled(
        kind, labels["test"], {system: answers for system, (_, answers) in measured.items()}
    )
    peers = {system: found for system, (found, _) in measured.items()}
    ours = peers.pop("Slipway")
    lead = SHOWN[kind][0]
    less = lead in LOWER_IS_BETTER
    means = {peer: float(np.mean(found[lead])) for peer, found in peers.items()}
    best = (min if less else max)(means, key=lambda peer: means[peer])
    rows = []
    for peer, found in peers.items():
        for metric, values in found.items():
            reach = None
            if metric == lead and peer == best:
                share = slack / means[best]
                reach = f"≤ {1 + share:.5f}" if less else f"≥ {1 - share:.5f}"
            rows.append(
                Row(
                    f"{name}: {metric}",
                    peer,
                    "s" if metric.endswith("_s") else metric,
                    [float(np.mean(ours[metric]))],
                    [float(np.mean(values))],
                    reach=reach,
                    extra={"ours_seeds": ours[metric], "theirs_seeds": values},
                )
            )
    if name == "flights":
        rows.append(Row("flights: start to bundle", "–", "s", ours["wall_s"], reach="≤ 240"))
    return rows, losses


def main() -> None:
    # Before ours, which loads it without scikit-learn: the wrapper would then refuse.
    import xgboost  # noqa: F401

    warnings.filterwarnings("ignore")
    tables = os.environ.get("TABLES") or ",".join([*KINDS, "flights"])
    own: dict[str, Any] = {"model": os.environ["MODEL"]} if os.environ.get("MODEL") else {}
    if os.environ.get("STEPS"):
        own["min_steps"] = int(os.environ["STEPS"])
    rows: list[Row] = []
    losses: dict[str, dict[str, np.ndarray]] = {}
    flights = load_project(Path("examples/flights")).project.training
    defaults = type(flights)()
    with tempfile.TemporaryDirectory() as scratch:
        for name in tables.split(","):
            if name == "flights":
                found = compare(name, flights_folder(), flights.to_struct() | own, slack=0)
            else:
                folder = Path(scratch) / name
                folder.mkdir()
                given = defaults.to_struct() | own
                found = compare(name, public_table(folder, name, rows=ROWS), given, slack=0.005)
            rows += found[0]
            save("train_quality", rows)
            losses[name] = found[1]
            for peer in PEERS:
                ahead, error = standings.gap(losses[name]["Slipway"], losses[name][peer])
                print(f"{name}: ahead of {peer} by {ahead:.5f}, standard error {error:.5f}")
    report("train_quality", rows)
    print("system, mean rank; tables won, open and lost against Slipway")
    for system, rank, counts in standings.standings(losses):
        print(f"{system}, {rank:.2f}; {counts}")


if __name__ == "__main__":
    main()
