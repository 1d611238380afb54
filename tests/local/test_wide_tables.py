"""A table of 2,000 columns: its schema fits no parameter and no argument, and travels as a file."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.feature_sections import of_one_table
from support.local_runs import request_in

from slipway.cluster.checks import find_faults
from slipway.cluster.sources import read_sources
from slipway.components.config.project import LoadedProject, load_project
from slipway.components.contracts.dataset import read_manifest
from slipway.components.support.settings import locate
from slipway.local.runner.execution import PipelineRun, execute
from slipway.pipelines.compiler import compile_project
from slipway.pipelines.package import read_package
from slipway.pipelines.training import training_arguments

COLUMNS, ROWS = 2_000, 400
LARGEST = 2**63 - 1


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    """A lake with one wide table, and a project over it."""
    folder = tmp_path_factory.mktemp("wide")
    names = [f"measurement_{number:04d}" for number in range(COLUMNS)]
    times = np.datetime64("2024-01-01", "us") + np.arange(ROWS) * np.timedelta64(1, "h")
    random = np.random.default_rng(0)
    table = {
        "key": [f"k{number}" for number in range(ROWS)],
        "at": pa.array(times, pa.timestamp("us", "UTC")),
        "large": pa.array([LARGEST] * (ROWS - 1) + [LARGEST - 1], pa.int64()),
        "label": [number % 2 for number in range(ROWS)],
    }
    table |= {name: random.random(ROWS) for name in names}
    (folder / "lake").mkdir()
    pq.write_table(pa.table(table), folder / "lake" / "wide.parquet")
    wanted = {"type": "number", "minimum": 0.0, "maximum": 1.0}
    columns: dict[str, Any] = dict.fromkeys(names, wanted)
    # A double cannot tell these two from each other.
    columns["large"] = {"type": "integer", "enum": [LARGEST], "x-maxFailedFraction": 0.01}
    schema = {"tables": {"wide": {"properties": columns}}}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "project.yaml").write_text(
        yaml.safe_dump(
            {
                "project_name": "wide",
                "cloud_provider": "onprem",
                "experiment_tracker": "mlflow",
                "model_registry": "mlflow",
                "feature_store": "feast",
                "orchestrator": "kubeflow",
                "monitoring_tool": "evidently",
                "ci_cd_platform": "github-actions",
                "data": {
                    "root": str(folder / "lake"),
                    "window": {"start": "2024-01-01", "end": "2024-02-01"},
                    "tables": {"wide": {"path": "wide.parquet", "time": "at"}},
                },
                "schema": "schema.json",
                "features": of_one_table(
                    "wide",
                    "row",
                    "key",
                    "at",
                    {"name": "all", "available": "1h", "fields": {name: name for name in names}},
                    label={"column": "label"},
                    split={"validation": "2d", "test": "2d"},
                ),
            }
        )
    )
    return load_project(folder)


def cut_after_validate(path: Path) -> None:
    """Leaves ingest and validate of a compiled training pipeline, as they are."""
    spec, *rest = list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    for name in tasks.keys() - {"ingest", "validate"}:
        del tasks[name]
    path.write_text(yaml.dump_all([spec, *rest], Dumper=yaml.CSafeDumper, sort_keys=False))


def run(project: LoadedProject, folder: Path) -> tuple[PipelineRun, dict[str, Any]]:
    compile_project(project, folder / "compiled")
    pipeline = folder / "compiled" / "wide-training.yaml"
    cut_after_validate(pipeline)
    # As `slipway run` gives it: the pipeline itself names no folder of this machine.
    given = training_arguments(project.project, project.schema_content)
    given["data_root"] = project.project.data.root
    arguments = {name: locate(value, folder / "compiled") for name, value in given.items()}
    request = request_in(folder, pipeline, arguments)
    environment = {name: str(folder / "state") for name in ("MONITORING_URI", "SLIPWAY_HOME")}
    done = execute(request, environment, folder / "run.log", lambda task, event: None)
    return done, arguments


def test_a_wide_table_is_validated_end_to_end_exactly(
    project: LoadedProject, tmp_path: Path
) -> None:
    schema = json.dumps(project.schema_content)
    assert len(schema) > 131_072, "more than one argument of a process may have"
    done, arguments = run(project, tmp_path)
    assert done.error is None, done.error
    assert {name: task.status for name, task in done.tasks.items()} == {
        "ingest": "succeeded",
        "validate": "succeeded",
        "report-end": "succeeded",
    }
    assert len(json.dumps(arguments)) < 10_000
    good = read_manifest(Path(done.output("validate", "good")))
    bad = read_manifest(Path(done.output("validate", "quarantine")))
    # The one row whose whole number differs in the last digit, beyond 2**53.
    assert (good.tables["wide"].rows, bad.tables["wide"].rows) == (ROWS - 1, 1)
    # Another schema is another task: the cache knows it by its name.
    again = project.model_copy(update={"schema_content": _loosened(project.schema_content)})
    done, _ = run(again, tmp_path)
    assert done.tasks["ingest"].status == "cached"
    assert read_manifest(Path(done.output("validate", "good"))).tables["wide"].rows == ROWS


def _loosened(schema: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(schema))
    del copy["tables"]["wide"]["properties"]["large"]["enum"]
    return copy


def test_the_compiled_pipelines_of_a_wide_table_fit_a_cluster(
    project: LoadedProject, tmp_path: Path
) -> None:
    written = compile_project(project, tmp_path)
    for path in sorted(tmp_path.glob("*.yaml")):
        package = read_package(path)
        assert find_faults(package) == [], path.name
        assert path.stat().st_size < 200_000
    files = sorted(path.name for path in written if path.parent.name == "_slipway")
    assert [name.split("-")[0] for name in files] == ["features", "schema"]
    assert sorted(os.listdir(tmp_path / "_slipway")) == files


TABLES = 200


@pytest.fixture
def many(project: LoadedProject) -> LoadedProject:
    """The wide table read column by column, beside 199 others, and more alert routes than anyone has."""
    lake, names = project.folder / "lake", [f"measurement_{n:04d}" for n in range(COLUMNS)]
    tables: dict[str, Any] = {
        "wide": {
            "path": "wide.parquet",
            "time": "at",
            "columns": ["key", "at", "large", "label", *names],
        }
    }
    for number in range(TABLES - 1):
        table = f"table_{number:03d}"
        pq.write_table(pa.table({"number": [number]}), lake / f"{table}.parquet")
        tables[table] = {"path": f"{table}.parquet"}
    routes = [
        {"name": f"route_{n:03d}", "kind": "webhook", "url": f"https://chat.example/{n:090d}"}
        for n in range(TABLES)
    ]
    schema = json.loads((project.folder / "schema.json").read_text())
    schema["tables"] |= {name: {"properties": {}} for name in tables if name != "wide"}
    content = yaml.safe_load((project.folder / "project.yaml").read_text())
    content["data"]["tables"] = tables
    content["monitoring"] = {"routes": routes}
    content["schema"] = "many.json"
    folder = project.folder / "many"
    folder.mkdir(exist_ok=True)
    (folder / "many.json").write_text(json.dumps(schema))
    (folder / "project.yaml").write_text(yaml.safe_dump(content))
    return load_project(folder)


def test_two_hundred_tables_are_read_end_to_end(many: LoadedProject, tmp_path: Path) -> None:
    done, arguments = run(many, tmp_path)
    assert done.error is None, done.error
    assert len(json.dumps(arguments)) < 10_000
    manifest = read_manifest(Path(done.output("ingest", "dataset")))
    assert len(manifest.tables) == TABLES
    assert manifest.tables["wide"].rows == ROWS
    assert manifest.tables["table_198"].rows == 1


def test_the_compiled_pipelines_of_many_tables_fit_a_cluster(
    many: LoadedProject, tmp_path: Path
) -> None:
    compile_project(many, tmp_path)
    for path in sorted(tmp_path.glob("*.yaml")):
        assert find_faults(read_package(path)) == [], path.name
    kinds = [name.split("-")[0] for name in sorted(os.listdir(tmp_path / "_slipway"))]
    assert kinds == ["data", "features", "labels", "monitoring", "schema"]
    monitoring = read_package(tmp_path / "wide-monitoring.yaml")
    assert read_sources(monitoring, {"data_root": "lake"})[0] == 1
    count, _, found = read_sources(read_package(tmp_path / "wide-training.yaml"), {"data_root": ""})
    assert (count, found) == (TABLES, ["data.root (empty)"])


def test_a_section_that_cannot_be_a_file_is_refused_by_its_name(
    project: LoadedProject, tmp_path: Path
) -> None:
    names = [f"measurement_{n:04d}" for n in range(COLUMNS)]
    slices = project.project.gate.slices.model_copy(update={"columns": names})
    gate = project.project.gate.model_copy(update={"slices": slices})
    large = project.project.model_copy(update={"gate": gate})
    compile_project(project.model_copy(update={"project": large}), tmp_path)
    found = find_faults(read_package(tmp_path / "wide-training.yaml"))
    assert [(fault.rule, fault.message.split(" bytes")[0][:19]) for fault in found] == [
        ("limits", "parameter gate has ")
    ]
