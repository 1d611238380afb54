"""One training of another system: run as a script by the interpreter of `environment.peers_python`.

    python benchmarks/quality/peers.py SYSTEM TABLES OUT '{"kind": "binary", "seed": 0, ...}'

TABLES has train.parquet, validation.parquet and test.parquet, with the features and `label`; texts are
categories. OUT.npz gets the answers on the validation and test parts, as the kind of label has them,
and OUT.json the CPU and wall seconds of training and answering, without imports. Slipway is not imported.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LABEL = "label"
Data = dict[str, tuple[pd.DataFrame, np.ndarray]]
"""By part the features and the labels."""


def read(folder: Path) -> Data:
    """The parts; a category that training has not seen is missing."""
    tables = {
        part: pd.read_parquet(folder / f"{part}.parquet")
        for part in ("train", "validation", "test")
    }
    for name in tables["train"].columns:
        if name != LABEL and not pd.api.types.is_numeric_dtype(tables["train"][name]):
            known = sorted(tables["train"][name].dropna().unique())
            for table in tables.values():
                table[name] = pd.Categorical(table[name], categories=known)
    return {
        part: (table.drop(columns=LABEL), table[LABEL].to_numpy()) for part, table in tables.items()
    }


def lightgbm(data: Data, given: dict[str, Any]) -> list[np.ndarray]:
    """At most 2,000 trees of learning rate 0.05 (0.02 on small tables), native categories."""
    import lightgbm as lgb

    kind, small = given["kind"], given["small"]
    make = lgb.LGBMRegressor if kind == "number" else lgb.LGBMClassifier
    model = make(
        n_estimators=2000,
        learning_rate=0.02 if small else 0.05,
        num_leaves=15 if small else 63,
        min_child_samples=50,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.8,
        random_state=given["seed"],
        n_jobs=given["threads"],
        verbose=-1,
    )
    watched = {"binary": "auc", "multiclass": "multi_logloss", "number": "rmse"}
    model.fit(
        *data["train"],
        eval_set=[data["validation"]],
        eval_metric=watched[kind],
        callbacks=[lgb.early_stopping(50, verbose=False)],
    )
    return answers(model, kind, data)


def xgboost(data: Data, given: dict[str, Any]) -> list[np.ndarray]:
    """The same."""
    import xgboost as xgb

    kind, small = given["kind"], given["small"]
    make = xgb.XGBRegressor if kind == "number" else xgb.XGBClassifier
    watched = {"binary": "auc", "multiclass": "mlogloss", "number": "rmse"}
    model = make(
        n_estimators=2000,
        learning_rate=0.02 if small else 0.05,
        max_depth=4 if small else 7,
        min_child_weight=5,
        subsample=0.8,
        colsample_bytree=0.8,
        tree_method="hist",
        enable_categorical=True,
        eval_metric=watched[kind],
        early_stopping_rounds=50,
        random_state=given["seed"],
        n_jobs=given["threads"],
    )
    model.fit(*data["train"], eval_set=[data["validation"]], verbose=False)
    return answers(model, kind, data)


def catboost(data: Data, given: dict[str, Any]) -> list[np.ndarray]:
    """Its defaults, with its own learning rate."""
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
    make = cat.CatBoostRegressor if given["kind"] == "number" else cat.CatBoostClassifier
    model = make(
        random_seed=given["seed"],
        thread_count=given["threads"],
        cat_features=categories,
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(*texts["train"], eval_set=texts["validation"], early_stopping_rounds=50)
    return answers(model, given["kind"], texts)


def autogluon(data: Data, given: dict[str, Any]) -> list[np.ndarray]:
    """A preset of AutoGluon within a number of seconds.

    `medium_quality` is given the validation part as such. `good_quality` makes folds of its own, so it is
    given both parts as one; without its dynamic stacking, whose sub-fit trains no model in a quarter of
    a minute and then ends the whole.
    """
    from autogluon.tabular import TabularPredictor

    preset, kind = given["preset"], given["kind"]
    problem = "regression" if kind == "number" else kind
    metric = {"binary": "roc_auc", "multiclass": "log_loss", "number": "root_mean_squared_error"}
    tables = {part: frame.assign(**{LABEL: labels}) for part, (frame, labels) in data.items()}
    parts = {"train_data": tables["train"], "tuning_data": tables["validation"]}
    more: dict[str, Any] = {}
    if preset == "good_quality":
        more = {"dynamic_stacking": False}
        both = [tables["train"], tables["validation"]]
        parts = {"train_data": pd.concat(both, ignore_index=True)}
    with tempfile.TemporaryDirectory() as scratch:
        predictor = TabularPredictor(
            label=LABEL,
            problem_type=problem,
            eval_metric=metric[kind],
            path=f"{scratch}/models",
            verbosity=0,
            learner_kwargs={"random_state": given["seed"]},
        )
        predictor.fit(
            **parts,
            **more,
            presets=preset,
            time_limit=given["seconds"],
            num_cpus=given["threads"],
            num_gpus=0,
        )
        found = []
        for part in ("validation", "test"):
            rows = data[part][0]
            if kind == "number":
                found.append(np.repeat(predictor.predict(rows).to_numpy()[:, None], 3, axis=1))
            elif kind == "binary":
                found.append(predictor.predict_proba(rows)[1].to_numpy())
            else:
                known = predictor.predict_proba(rows)
                classes = range(int(tables["train"][LABEL].max()) + 1)
                found.append(known.reindex(columns=classes, fill_value=0.0).to_numpy())
    return found


def answers(model: Any, kind: str, data: Data) -> list[np.ndarray]:
    """On the validation and test parts, as the kind of label has them; an interval is its value."""
    found = []
    for part in ("validation", "test"):
        rows = data[part][0]
        if kind == "number":
            found.append(np.repeat(np.asarray(model.predict(rows))[:, None], 3, axis=1))
        else:
            chances = np.asarray(model.predict_proba(rows))
            found.append(chances[:, 1] if kind == "binary" else chances)
    return found


SYSTEMS = {"LightGBM": lightgbm, "XGBoost": xgboost, "CatBoost": catboost, "AutoGluon": autogluon}


def cpu() -> float:
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, both))


def main() -> None:
    name, folder, out, settings = sys.argv[1:]
    given = json.loads(settings)
    os.environ["OMP_NUM_THREADS"] = str(given["threads"])
    data = read(Path(folder))
    __import__(f"{name.lower()}.tabular" if name == "AutoGluon" else name.lower())
    started, before = time.perf_counter(), cpu()
    validation, test = SYSTEMS[name](data, given)
    seconds = {"cpu_s": cpu() - before, "wall_s": time.perf_counter() - started}
    np.savez(f"{out}.npz", validation=validation, test=test)
    Path(f"{out}.json").write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
