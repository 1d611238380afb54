"""What the pipelines of a project without time are given: no window but the endpoint's own."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.customers_world import CONFIG, customers, write_project

from slipway.components.config.data import read_window
from slipway.components.config.model import Project
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.config.project import LoadedProject, load_project
from slipway.components.contracts.dataset import read_manifest, read_table
from slipway.components.contracts.monitoring.monitoring_record import RetrainRequest
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.monitor.retraining.retrain import arguments_for
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.backfill import backfill_arguments
from slipway.pipelines.compiler import compile_project
from slipway.pipelines.monitoring import monitoring_arguments
from slipway.pipelines.scoring import scoring_arguments
from slipway.pipelines.training import training_arguments

MOMENTS = ("window_start", "window_end", "labels_start", "data_start", "history", "before", "after")


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedProject:
    return load_project(write_project(tmp_path / "project", customers(60), CONFIG))


def moments(arguments: dict[str, Any]) -> dict[str, str]:
    return {name: arguments[name] for name in MOMENTS if name in arguments}


def test_no_pipeline_has_a_window_but_monitoring(loaded: LoadedProject) -> None:
    project, schema = loaded.project, loaded.schema_content
    none = {"window_start": "", "window_end": ""}
    assert moments(training_arguments(project, schema)) == none
    assert moments(scoring_arguments(project, schema)) == {**none, "history": ""}
    assert moments(backfill_arguments(project, schema)) == {**none, "before": "2d", "after": "0s"}
    assert moments(monitoring_arguments(project)) == {
        "window_start": "1d", "window_end": "", "labels_start": "", "data_start": "",
    }  # fmt: skip


def test_the_compiled_pipelines_hold_them(loaded: LoadedProject, tmp_path: Path) -> None:
    compile_project(loaded, tmp_path / "compiled")
    text = (tmp_path / "compiled" / "customers-scoring.yaml").read_text()
    inputs = next(yaml.safe_load_all(text))["root"]["inputDefinitions"]["parameters"]
    assert inputs["window_start"]["defaultValue"] == inputs["window_end"]["defaultValue"] == ""
    gate = next(yaml.safe_load_all((tmp_path / "compiled" / "customers-training.yaml").read_text()))
    struct = gate["root"]["inputDefinitions"]["parameters"]["gate"]["defaultValue"]
    assert struct["block"] == "row"


def test_a_window_that_cuts_another_table_stays_the_project_s(loaded: LoadedProject) -> None:
    data = loaded.project.data.model_dump(mode="json")
    data["window"] = {"start": "2024-01-01", "end": "2024-03-01"}
    data["tables"]["cities"]["time"] = "seen"
    project = Project.model_validate({**loaded.project.to_struct(), "data": data})
    window = {"window_start": "2024-01-01T00:00:00Z", "window_end": "2024-03-01T00:00:00Z"}
    scoring = moments(scoring_arguments(project, loaded.schema_content))
    assert scoring == {**window, "history": ""}
    assert moments(training_arguments(project, loaded.schema_content)) == window


def test_a_retraining_reads_the_tables_whole_again() -> None:
    request = RetrainRequest(
        key="k", model="customers", model_version="1", window=("2024-01-01", "2024-01-02"),
        reasons=("LOW_ACCURACY",), data_end="2024-01-02T00:00:00Z",
    )  # fmt: skip
    settings = MonitoringConfig()
    assert arguments_for(request, "", settings) == {"window_start": "", "window_end": ""}
    timed = arguments_for(request, "2023-01-01T00:00:00Z", settings)
    assert timed == {"window_start": "2023-01-01T00:00:00Z", "window_end": "2024-01-02T00:00:00Z"}


def test_ingest_takes_tables_without_a_window_whole(loaded: LoadedProject, tmp_path: Path) -> None:
    assert read_window("", "", "2024-01-01T00:00:00Z") is None
    assert read_window(" ", "2024-01-01", "") is None
    config = loaded.project.data.to_struct()
    whole: dict[str, Any] = {
        "data_root": config["root"], "window_start": "", "window_end": "",
        "output": tmp_path / "dataset",
    }  # fmt: skip
    manifest = ingest_tables(config=config, **whole)
    assert manifest.window is None and manifest == read_manifest(tmp_path / "dataset")
    assert manifest.metadata()["window_start"] == ""
    assert read_table(tmp_path / "dataset", "customers").num_rows == 60
    config["tables"]["customers"]["time"] = "joined"
    with pytest.raises(SlipwayError, match="there is no `window` to cut it to"):
        ingest_tables(config=config, **whole)
