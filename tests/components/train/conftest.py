"""Small split tables with every kind of feature, nulls and categories that training never saw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.splits import PARTS, Feature, Splits, write_splits
from slipway.components.metrics.kinds.choose import label_type

MakeSplits = Callable[..., Path]
FEATURES = (
    Feature(name="amount", kind="numeric", view="v"),
    Feature(name="skewed", kind="numeric", view="v"),
    Feature(name="constant", kind="numeric", view="v"),
    Feature(name="colour", kind="categorical", view="v"),
    Feature(name="town", kind="categorical", view="v"),
    Feature(name="member", kind="boolean", view="v"),
    Feature(name="when", kind="time", view="v"),
    Feature(name="importance", kind="numeric", view="v"),
)
_DAY = 86_400_000_000


def example_table(rows: int, seed: int, *, unseen: bool = False) -> pa.Table:
    """Rows whose label depends on `amount`, `colour`, `member` and the hour of `when`."""
    random = np.random.default_rng(seed)
    amount = random.normal(size=rows)
    colour = random.choice(["red", "green", "blue"], rows)
    town = random.choice([f"town-{i}" for i in range(30)] + (["Atlantis"] if unseen else []), rows)
    member = random.random(rows) < 0.4
    when = 1_357_000_000_000_000 + np.sort(random.integers(0, 60 * _DAY, rows))
    hour = when % _DAY / (_DAY / 24)
    score = 1.5 * amount + 1.2 * (colour == "red") + member + 1.5 * np.sin(hour / 24 * 2 * np.pi)
    label = (score - 1.5 + random.logistic(size=rows) > 0).astype(np.int8)
    missing = random.random(rows) < 0.1
    return pa.table(
        {
            "id": pa.array([f"{seed}-{i}" for i in range(rows)]),
            "event_timestamp": pa.array(when, pa.timestamp("us", tz="UTC")),
            "amount": pa.array(amount, mask=missing),
            "skewed": pa.array(
                np.exp(3 * random.normal(size=rows)), mask=random.random(rows) < 0.05
            ),
            "constant": pa.array(np.full(rows, 7.0)),
            "colour": pa.array(colour, mask=random.random(rows) < 0.05),
            "town": pa.array(town),
            "member": pa.array(member, mask=random.random(rows) < 0.05),
            "when": pa.array(when, pa.timestamp("us"), mask=random.random(rows) < 0.02),
            "importance": pa.array(random.integers(1, 5, rows).astype(float)),
            "label": pa.array(label),
        }
    )


def write_example_splits(
    folder: Path,
    rows: int = 1500,
    *,
    kinds: tuple[str, ...] = ("numeric", "categorical", "boolean", "time"),
    change: Callable[[str, pa.Table], pa.Table] | None = None,
    kind: LabelKind = "binary",
    classes: tuple[str, ...] = (),
) -> Path:
    """Writes a splits folder; `change` edits a table before it is written."""
    folder.mkdir()
    sizes = {"train": rows, "validation": max(300, rows // 3), "test": 400}
    counts: dict[str, tuple[int, int]] = {}
    for seed, part in enumerate(PARTS):
        table = example_table(sizes[part], seed, unseen=part == "test")
        table = change(part, table) if change else table
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=400)
        counts[part] = (table.num_rows, int(table["label"].to_numpy().sum()))
    labels = pq.read_table(folder / "train.parquet", columns=["label"])["label"].to_numpy()
    rule = label_type(kind, classes=classes)
    write_splits(
        folder,
        Splits(
            project="toy",
            key="id",
            entities={},
            features=tuple(feature for feature in FEATURES if feature.kind in kinds),
            rows={part: count[0] for part, count in counts.items()},
            positives={p: count[1] for p, count in counts.items()} if kind == "binary" else {},
            label_kind=kind,
            classes=classes,
            labels={} if kind == "binary" else {"train": rule.describe(labels)},
            windows=dict.fromkeys(PARTS, ("2013-01-01T00:00:00Z", "2013-03-01T00:00:00Z")),
            statistics={},
            data_hash=f"data-{rows}",
            feature_service="toy",
        ),
    )
    return folder


@pytest.fixture(scope="session")
def write_example() -> MakeSplits:
    """`write_example_splits`, for fixtures that outlive a test."""
    return write_example_splits


@pytest.fixture
def make_splits(tmp_path: Path) -> MakeSplits:
    """Writes a splits folder below the test's own folder."""

    def make(rows: int = 1500, **options: Any) -> Path:
        return write_example_splits(tmp_path / "splits", rows, **options)

    return make


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow on a sqlite file: made once, since its first start takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    from mlflow.tracking import MlflowClient

    MlflowClient(uri).create_experiment("toy", artifact_location=f"{folder}/artifacts")
    return uri


@pytest.fixture
def tracking(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tracking URI in the environment; no run from outside, no home for checkpoints."""
    uri = mlflow_store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "SLIPWAY_HOME"):
        monkeypatch.delenv(name, raising=False)
    return uri
