"""Quality of the trained model beside what a user would pick instead: the same rows, the same features.

    make bench NAME=train_quality

Flights: the splits that `features` wrote, from the folder in SPLITS (default: of `benchmarks.flights`,
which makes them where they are not there). The further tables are public ones that packages on PyPI
carry (see `public_tables`), each cut into 60 % training, 20 % validation and 20 % test. Slipway runs with
default settings on these, and with those of examples/flights on flights. The others (see `quality.peers`)
run in an environment and processes of their own: LightGBM and XGBoost have 2,000 trees of learning rate
0.05 (0.02 on the small tables) at most, CatBoost its defaults, all stopped early on the validation part,
with native categories; AutoGluon has `medium_quality`, ten minutes at most, and `good_quality` with the
wall-clock seconds that Slipway took of the same table and seed (a minute at least). All use the same
number of threads. Mean of 3 seeds. At the end come the mean ranks over all tables, and how often each
system wins against Slipway, by a paired bootstrap of blocks of test rows.

Each training's result is kept (see `quality.kept`) and not measured again; delete a system's files below
build/bench/train_quality to do so. With MINUTES no training begins after so long: run it again to go on.

Settings in the environment: SEEDS, THREADS, TABLES (all, or names with commas between: flights, adult,
...), SYSTEMS (the others, the same way), ROWS (at most so many of each public table), MODEL
(`training.model` of ours), STEPS (`training.min_steps`) and MINUTES. The whole takes hours:

    TABLES=flights,adult SEEDS=1 nice -n 10 make bench NAME=train_quality
"""

import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.flights import flights_splits
from benchmarks.harness import Row, cpu_seconds, report
from benchmarks.public_tables import KINDS, public_table
from benchmarks.quality import kept, peers, standings
from benchmarks.quality.environment import peers_python
from slipway.components.config.kinds import LOWER_IS_BETTER, LabelKind
from slipway.components.config.project import load_project
from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import ONNX, TRAINING, model_inputs, read_bundle
from slipway.components.contracts.splits import (
    LABEL,
    Part,
    Splits,
    read_part,
    read_splits,
)
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.threshold import choose_threshold

SEEDS = range(int(os.environ.get("SEEDS", "3")))
THREADS = int(os.environ.get("THREADS", "2"))
ROWS = int(os.environ["ROWS"]) if os.environ.get("ROWS") else None
MINUTES = float(os.environ.get("MINUTES") or "inf")
OURS = "Slipway"
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("LightGBM", "XGBoost", "CatBoost")},
    "AutoGluon medium": ("AutoGluon", {"preset": "medium_quality", "seconds": 600}),
    "AutoGluon good": ("AutoGluon", {"preset": "good_quality"}),
}
"""By what they are called: the system of `quality.peers`, and settings of it."""
UNSEEDED = "AutoGluon medium"  # whose models have a seed of their own
LEAST_SECONDS = 60.0  # in less `good_quality` may not end one model
SMALL_ROWS = 50_000
SHOWN: dict[LabelKind, tuple[str, ...]] = {
    "binary": ("auc", "log_loss", "calibration_error", "f1", "accuracy"),
    "multiclass": ("log_loss", "auc", "accuracy", "calibration_error"),
    "number": ("rmse", "mae", "r2"),
}
"""By kind of label; the first one decides."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, as all systems get it.

    Attributes:
        name: of it.
        folder: its splits.
        frames: its parts for the other systems.
        training: our `training` section.
        labels: by part.
        slack: share of the best other system's value that ours may be behind.
    """

    name: str
    folder: Path
    frames: Path
    training: dict[str, Any]
    meta: Splits
    labels: dict[str, np.ndarray]
    slack: float

    @property
    def kind(self) -> LabelKind:
        """Of the label."""
        return self.meta.label_kind

    def measure(self, validation: np.ndarray, test: np.ndarray) -> dict[str, float]:
        """The metrics on the test part, with a threshold from the validation part."""
        label = label_type(self.kind, classes=self.meta.classes)
        if self.kind == "binary":
            rule = self.training["threshold"]
            rule = rule if rule != "auto" else "f1"
            threshold = choose_threshold(self.labels["validation"], validation, rule)
            label = label_type("binary", threshold=threshold)
        measured = label.measure(self.labels["test"], test)
        return {name: measured[name] for name in SHOWN[self.kind]}


def prepare(name: str) -> Table:
    """The splits of a table, and the same features for the others."""
    own: dict[str, Any] = {"threads": THREADS}
    if os.environ.get("MODEL"):
        own["model"] = os.environ["MODEL"]
    if os.environ.get("STEPS"):
        own["min_steps"] = int(os.environ["STEPS"])
    flights = load_project(Path("examples/flights")).project.training
    place = kept.RESULTS / name
    training = (flights if name == "flights" else type(flights)()).to_struct() | own
    if name == "flights":
        folder = Path(os.environ["SPLITS"]) if os.environ.get("SPLITS") else flights_splits()
    else:
        folder = place / "splits"
        folder.mkdir(parents=True, exist_ok=True)
        public_table(folder, name, rows=ROWS)
    meta = read_splits(folder)
    labels = write_frames(folder, meta, place / "frames")
    slack = 0 if name == "flights" else 0.005
    return Table(
        name=name,
        folder=folder,
        frames=place / "frames",
        training=training,
        meta=meta,
        labels=labels,
        slack=slack,
    )


def write_frames(folder: Path, meta: Splits, out: Path) -> dict[str, np.ndarray]:
    """Writes the features for the others (a time as minute of the day and weekday, as in Slipway).

    Returns:
        The labels by part.
    """
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, np.ndarray] = {}
    parts: tuple[Part, ...] = ("train", "validation", "test")
    for part in parts:
        table = read_part(folder, part).to_pandas()
        frame = pd.DataFrame(index=table.index)
        for feature in meta.features:
            column = table[feature.name]
            if feature.kind == "time":
                frame[f"{feature.name}_minute"] = column.dt.hour * 60 + column.dt.minute
                frame[f"{feature.name}_weekday"] = column.dt.dayofweek
            elif feature.kind == "categorical":
                frame[feature.name] = column
            else:
                frame[feature.name] = column.astype(float)
        found[part] = table[LABEL].to_numpy()
        frame[peers.LABEL] = found[part]
        frame.to_parquet(out / f"{part}.parquet", index=False)
    return found


def train_ours(table: Table, seed: int) -> kept.Result:
    """The stage as a whole, and what its ONNX file answers."""
    import onnxruntime

    from slipway.components.train.train import TrainingTask, train_model

    # What is a pipeline's parameter stands nowhere else.
    own = ("seed", "epochs", "learning_rate", "allow_cpu", "accelerator")
    epochs, rate = (table.training[name] for name in ("epochs", "learning_rate"))
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        os.environ.pop("SLIPWAY_HOME", None)
        bundle = Path(scratch) / "bundle"
        task = TrainingTask(
            splits=table.folder,
            project="bench",
            config={name: value for name, value in table.training.items() if name not in own},
            seed=seed,
            epochs=0 if epochs == "auto" else epochs,
            learning_rate=0 if rate == "auto" else rate,
            gpus=0,
            allow_cpu=True,
            bundle=bundle,
            report=Path(scratch) / "report.html",
        )
        started = time.perf_counter()
        seconds = cpu_seconds(lambda: train_model(task))
        wall = time.perf_counter() - started
        session = onnxruntime.InferenceSession(str(bundle / ONNX))
        signature = read_bundle(bundle)
        validation, test = (
            np.asarray(
                session.run(
                    [signature.output[0]], model_inputs(signature, read_part(table.folder, part))
                )[0],
                np.float64,
            )
            for part in ("validation", "test")
        )
        log = json.loads((bundle / TRAINING).read_text())
    notes = {"model": log["model"], "shares": (log["choice"] or {}).get("shares")}
    return kept.Result(
        settings=ours_settings(table),
        metrics=table.measure(validation, test),
        cpu_s=seconds,
        wall_s=wall,
        notes=notes,
        answers=test,
    )


def ours_settings(table: Table) -> dict[str, Any]:
    """What is not as it is by default: a new setting leaves what was measured before as it is."""
    given = TrainingConfig.model_validate(table.training)
    return {
        "rows": table.meta.rows,
        "training": given.model_dump(mode="json", exclude_defaults=True),
    }


def train_peer(table: Table, name: str, seed: int, seconds: float) -> kept.Result:
    """A training of another system, in a process of its own.

    Args:
        table: what is learned.
        name: one of `PEERS`.
        seed: of its random choices.
        seconds: that ours took.
    """
    system, _ = PEERS[name]
    settings = peer_settings(table, name)
    given = {"seconds": seconds, **settings, "seed": seed}
    with tempfile.TemporaryDirectory() as scratch:
        script, out = Path(peers.__file__), Path(scratch) / "out"
        command = [str(peers_python()), str(script), system, str(table.frames), str(out)]
        command.append(json.dumps(given))
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} on {table.name}: {done.stderr[-3000:]}")
        taken = json.loads(out.with_suffix(".json").read_text())
        with np.load(out.with_suffix(".npz")) as found:
            validation, test = (found[part].astype(float) for part in ("validation", "test"))
    return kept.Result(
        settings=settings,
        metrics=table.measure(validation, test),
        **taken,
        notes={"seconds": given["seconds"]} if "preset" in given else {},
        answers=test,
    )


def peer_settings(table: Table, name: str) -> dict[str, Any]:
    return {
        "kind": table.kind,
        "small": table.meta.rows["train"] <= SMALL_ROWS,
        "threads": THREADS,
        "rows": table.meta.rows,
        **PEERS[name][1],
    }


def compare(table: Table, systems: list[str], ends: float) -> dict[str, list[kept.Result]] | None:
    """Each system's results, one a seed; None: the time is over before they are all there."""
    found: dict[str, list[kept.Result]] = {name: [] for name in systems}
    for seed in SEEDS:
        for name in systems:
            at = 0 if name == UNSEEDED else seed
            settings = ours_settings(table) if name == OURS else peer_settings(table, name)
            if kept.load(table.name, name, at, settings) is None and time.monotonic() > ends:
                return None
            work: Callable[[], kept.Result] = partial(train_ours, table, at)
            if name != OURS:
                budget = max(LEAST_SECONDS, found[OURS][-1].wall_s)
                work = partial(train_peer, table, name, at, budget)
            found[name].append(kept.find_or(table.name, name, at, settings, work))
    return found


def rows_of(table: Table, found: dict[str, list[kept.Result]]) -> Iterator[Row]:
    """The rows of a table: ours beside each other system, metric by metric."""
    lead = SHOWN[table.kind][0]
    less = lead in LOWER_IS_BETTER
    values = {
        name: {
            **{metric: [r.metrics[metric] for r in results] for metric in SHOWN[table.kind]},
            "cpu_s": [r.cpu_s for r in results],
            "wall_s": [r.wall_s for r in results],
        }
        for name, results in found.items()
    }
    ours = values.pop(OURS)
    means = {name: float(np.mean(each[lead])) for name, each in values.items()}
    best = (min if less else max)(means, key=lambda name: means[name]) if means else None
    for name, theirs in values.items():
        for metric, measured in theirs.items():
            reach = None
            if metric == lead and name == best:
                share = table.slack / means[best]
                reach = f"≤ {1 + share:.5f}" if less else f"≥ {1 - share:.5f}"
            yield Row(
                f"{table.name}: {metric}",
                name,
                "s" if metric.endswith("_s") else metric,
                [float(np.mean(ours[metric]))],
                [float(np.mean(measured))],
                reach=reach,
                extra={"ours_seeds": ours[metric], "theirs_seeds": measured},
            )
    if table.name == "flights":
        yield Row("flights: start to bundle", "–", "s", ours["wall_s"], reach="≤ 240")


def print_tables(
    tables: dict[str, tuple[Table, dict[str, list[kept.Result]]]],
    losses: dict[str, dict[str, np.ndarray]],
) -> None:
    """The tables that the page of performance shows, as Markdown."""
    systems = list(next(iter(losses.values())))
    print(f"\n| table, training rows | metric | {' | '.join(systems)} | `auto` took |")
    print("| --- " * (len(systems) + 3) + "|")
    for name, (table, found) in tables.items():
        lead = SHOWN[table.kind][0]
        means = {s: float(np.mean([r.metrics[lead] for r in found[s]])) for s in systems}
        best = (min if lead in LOWER_IS_BETTER else max)(means.values())
        cells = [f"**{v:.4f}**" if v == best else f"{v:.4f}" for v in means.values()]
        took = sorted({r.notes.get("model", "") for r in found[OURS]})
        print(
            f"| {name}, {table.meta.rows['train']:,} | {lead} | {' | '.join(cells)} | {', '.join(took)} |"
        )
        cpu = [f"{np.mean([r.cpu_s for r in found[s]]):.1f}" for s in systems]
        print(f"| | CPU s | {' | '.join(cpu)} | |")
        gaps = [
            standings.gap(losses[name][OURS], losses[name][s]) if s != OURS else None
            for s in systems
        ]
        shown = ["–" if g is None else f"{g[0]:+.4f} ± {g[1]:.4f}" for g in gaps]
        print(f"| | ours ahead by | {' | '.join(shown)} | |")
    print(
        "\n| system | mean rank | tables won, open and lost against Slipway |\n| --- | --- | --- |"
    )
    for system, rank, counts in standings.standings(losses):
        print(f"| {system} | {rank:.2f} | {counts} |")


def main() -> None:
    warnings.filterwarnings("ignore")
    ends = time.monotonic() + 60 * MINUTES
    names = (os.environ.get("TABLES") or ",".join([*KINDS, "flights"])).split(",")
    wanted = os.environ.get("SYSTEMS")
    systems = [OURS, *(name for name in PEERS if not wanted or name in wanted.split(","))]
    tables: dict[str, tuple[Table, dict[str, list[kept.Result]]]] = {}
    rows: list[Row] = []
    losses: dict[str, dict[str, np.ndarray]] = {}
    left = []
    for name in names:
        table = prepare(name)
        found = compare(table, systems, ends)
        if found is None:
            left.append(name)
            continue
        tables[name] = table, found
        rows += rows_of(table, found)
        losses[name] = standings.resampled(
            table.kind,
            table.labels["test"],
            {system: [r.answers for r in results] for system, results in found.items()},
        )
    if rows:
        report("train_quality", rows)
        print_tables(tables, losses)
    if left:
        raise SystemExit(f"{MINUTES:g} minutes are over, {', '.join(left)} to do: run it again.")


if __name__ == "__main__":
    main()
