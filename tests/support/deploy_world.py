"""What the deploy tests share: a registry with versions, splits with a test part, a project's world."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slipway.components.contracts.bundle import bundle_hash
from slipway.components.contracts.feature_rows import FeatureRows, write_feature_rows
from slipway.components.contracts.release import Release
from slipway.components.contracts.splits import TIME, Splits, write_splits
from slipway.components.contracts.verdict import RuleResult, Verdict, write_verdict
from support import serving_bundles as bundles
from support.registry import mlflow_client


def make_registry(root: Path) -> str:
    """An MLflow registry on sqlite with the model `flights` in nine versions; gives its URI."""
    import mlflow

    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("flights")
    for _ in range(9):
        client.create_model_version("flights", source=str(root))
    return uri


def make_splits(folder: Path, rows: int = 60) -> None:
    """Splits whose test part has `rows` flights, some values missing."""
    folder.mkdir(parents=True)
    columns = {t["name"]: t["data"] for t in bundles.flight_tensors(rows)}
    table = pa.table(
        {
            "flight_id": columns["flight_id"],
            "departs": pa.array(columns["departs"]).cast(pa.timestamp("us")),
            "miles": pa.array([None if i % 5 == 0 else v for i, v in enumerate(columns["miles"])]),
            "carrier": pa.array(
                [None if i % 7 == 0 else v for i, v in enumerate(columns["carrier"])]
            ),
            "delay": pa.array(columns["delay"], pa.float64()),
            "weekend": pa.array(
                [None if i % 4 == 0 else v for i, v in enumerate(columns["weekend"])]
            ),
            "origin": columns["origin"],
        }
    )
    pq.write_table(table, folder / "test.parquet")
    parts = {"train": 0, "validation": 0, "test": rows}
    write_splits(
        folder,
        Splits(
            project="flights",
            key="flight_id",
            entities={"tailnum": "string"},
            features=bundles.FEATURES,
            rows=parts,
            positives=parts,
            windows=dict.fromkeys(parts, ("2013-01-01T00:00:00Z", "2013-02-01T00:00:00Z")),
            statistics={},
            data_hash="0" * 64,
            feature_service="flights",
        ),
    )


FIRST_ROW = datetime(2013, 12, 1, 20, tzinfo=UTC)


def make_rows(folder: Path, rows: int = 60, *, group: int = 1 << 16) -> Path:
    """Flights to score, one in five minutes, predicted two hours ahead: of sixty the moments lie on one
    day, the departures on two.

    Args:
        folder: where to write.
        rows: how many.
        group: rows of a row group.
    """
    folder.mkdir()
    columns = {t["name"]: t["data"] for t in bundles.flight_tensors(rows)}
    times = [FIRST_ROW + timedelta(minutes=5 * i) for i in range(rows)]
    table = pa.table(
        {
            "flight_id": columns["flight_id"],
            TIME: pa.array(times, pa.timestamp("us", "UTC")),
            "departs": pa.array(columns["departs"]).cast(pa.timestamp("us")),
            **{n: columns[n] for n in ("miles", "carrier", "delay", "weekend", "origin")},
        }
    )
    pq.write_table(table, folder / "rows.parquet", row_group_size=group)
    record = FeatureRows(
        project="flights",
        key="flight_id",
        entities={"tailnum": "string"},
        features=bundles.FEATURES,
        rows=rows,
        window=("2013-12-01T20:00:00Z", "2013-12-02T01:00:00Z"),
        data_hash="d" * 64,
        lead_seconds=7200,
    )
    write_feature_rows(folder, record)
    return folder


@dataclass
class World:
    """One project: where its things are, and its versions."""

    root: Path
    port: int

    @property
    def home(self) -> Path:
        return self.root / "home"

    def release(self, version: int, **bundle: Any) -> tuple[Path, Path]:
        """A registered version's record and its verdict."""
        folder = self.root / f"bundle-{version}"
        bundles.make_bundle(folder, **bundle)
        digest = bundle_hash(folder)
        record = Release(
            name="flights",
            model_version=str(version),
            alias="challenger",
            run_id="0",
            bundle_uri=str(folder),
            model_hash=digest,
        )
        release, verdict = self.root / f"release-{version}.json", self.root / f"v-{version}.json"
        record.write(release)
        write_verdict(verdict, passing(digest))
        return release, verdict

    def deploy(self, version: int, *, config: dict[str, Any] | None = None, **bundle: Any) -> Any:
        from slipway.components.deploy.deploy import deploy_model

        release, verdict = self.release(version, **bundle)
        return deploy_model(
            release=release,
            verdict=verdict,
            splits=self.root / "splits",
            project="flights",
            config={"target": "local", "port": float(self.port), **(config or {})},
            deployment=self.root / "deployment.json",
        )

    def register(self, version: int, *, verdict: Verdict | None = None) -> None:
        """Gives a version that was deployed what register keeps of it: tags, evidence, reference."""
        record = json.loads((self.root / f"release-{version}.json").read_text())
        kept = self.root / f"kept-{version}"
        kept.mkdir(exist_ok=True)
        write_verdict(kept / "verdict.json", verdict or passing(record["model_hash"]))
        table = pq.read_table(self.root / "splits" / "test.parquet")
        parts = pa.array(["train", *["test"] * (table.num_rows - 1)])
        pq.write_table(table.append_column("part", parts), kept / "reference.parquet")
        tags = {"model_hash": record["model_hash"], "bundle_uri": record["bundle_uri"]}
        tags |= {"reference_uri": str(kept), "evidence_uri": str(kept)}
        for name, value in tags.items():
            mlflow_client().set_model_version_tag("flights", str(version), f"slipway.{name}", value)


FAST = {"window": "5s", "share": 20, "min_requests": 1}


def deploy(
    world: World, version: int, *, mode: str = "Standard", bias: float = 0.0, **more: Any
) -> Any:
    """Deploys a version to the double of a cluster."""
    config = {
        "target": "kserve",
        "mode": mode,
        "namespace": "models",
        "canary": FAST,
        "ready_timeout": "300s",
        "max_latency_ms": 5000,
        **more,
    }
    return world.deploy(version, config=config, bias=bias)


def champion() -> str | None:
    """The version that has the alias, if any."""
    import mlflow

    try:
        found = mlflow_client().get_model_version_by_alias("flights", "champion")
        return str(found.version)
    except mlflow.exceptions.MlflowException:
        return None


def passing(model_hash: str) -> Verdict:
    rule = RuleResult(name="auc", metric="auc", outcome="pass", reason="", threshold=0.5, value=0.8)
    return Verdict(
        outcome="pass",
        rules=(rule,),
        metrics={"auc": 0.8},
        thresholds={"auc": 0.5},
        model_hash=model_hash,
        data_hash="0" * 64,
        test_rows=1000,
    )


def refused(verdict: Verdict) -> Verdict:
    rule = replace(verdict.rules[0], outcome="fail", reason="auc 0.4 is below 0.5", value=0.4)
    return replace(verdict, outcome="fail", rules=(rule,))
