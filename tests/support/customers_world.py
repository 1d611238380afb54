"""Customers without a time: one table with one row a customer, and one with what is known of cities."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

CITIES = 40
CONFIG: dict[str, Any] = {
    "entities": {"city": "city"},
    "examples": {"table": "customers", "key": "customer_id"},
    "label": {"column": "churned"},
    "split": {"method": "random", "validation": 0.15, "test": 0.2},
    "views": [
        {
            "name": "customer",
            "table": "customers",
            "fields": {"age": "age", "contract": "plan", "balance": "balance", "calls": "calls"},
        },
        {"name": "place", "entity": "city", "table": "cities", "fields": {"income": "income"}},
    ],
}


def customers(rows: int = 3000, seed: int = 0) -> dict[str, pl.DataFrame]:
    """The tables: of the customers leave who call often while they pay by the month, and the young."""
    draw = np.random.default_rng(seed)
    calls, monthly = draw.poisson(2, rows), draw.random(rows) < 0.5
    city, age = draw.integers(0, CITIES, rows), draw.integers(18, 80, rows)
    income = draw.normal(40, 12, CITIES).round(1)
    leaning = 3 * (monthly & (calls > 2)) + 2 * (age < 30) - 0.04 * (income[city] - 40) - 2.5
    churned = draw.random(rows) < 1 / (1 + np.exp(-leaning))
    table = pl.DataFrame(
        {
            "customer_id": draw.permutation(rows) + 100_000,
            "city": [f"c{number:02d}" for number in city],
            "age": [None if number % 50 == 7 else int(age[number]) for number in range(rows)],
            "plan": np.where(monthly, "month", "year"),
            "balance": draw.gamma(2, 300, rows).round(2),
            "calls": calls,
            "churned": churned.astype(int),
        }
    )
    cities = pl.DataFrame(
        {"city": [f"c{number:02d}" for number in range(CITIES)], "income": income}
    )
    return {"customers": table, "cities": cities}


def write_project(
    folder: Path,
    tables: dict[str, pl.DataFrame],
    features: dict[str, Any],
    **sections: Any,
) -> Path:
    """Writes the tables as csv and a project over them; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
    content = {
        "project_name": "customers",
        "cloud_provider": "onprem",
        "experiment_tracker": "mlflow",
        "model_registry": "mlflow",
        "feature_store": "feast",
        "orchestrator": "kubeflow",
        "monitoring_tool": "evidently",
        "ci_cd_platform": "github-actions",
        "data": {
            "root": str(folder),
            "tables": {name: {"path": f"{name}.csv", "format": "csv"} for name in tables},
        },
        "schema": "schema.json",
        "features": features,
        "training": {"accelerator": {"count": 0}},
        "gate": {"accuracy": 0.6, "f1": 0.4, "auc": 0.7, "min_rows": 300},
        **sections,
    }
    schema = {"tables": {name: {"properties": {}} for name in tables}}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "project.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
