"""Settings that are too large for a parameter go to the data before a version names them."""

import shutil
import uuid
from pathlib import Path

import fsspec
import pytest
from support.kfp_double import Double
from typer.testing import CliRunner, Result

from slipway.cluster.checks import find_faults
from slipway.commands.cli import app
from slipway.components.config.project import LoadedProject
from slipway.components.support.errors import SlipwayError
from slipway.components.support.settings import read_setting, reference_in
from slipway.pipelines.compiler import compile_project
from slipway.pipelines.package import arguments_from, read_package


@pytest.fixture
def wide(
    flights: LoadedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> Path:
    """The flights' pipelines, as if every setting were too large for a parameter."""
    monkeypatch.setattr("slipway.components.support.settings.INLINE", 10)
    compile_project(flights, tmp_path / "compiled")
    monkeypatch.chdir(repository)
    monkeypatch.setattr("slipway.commands.cluster.pipelines.COMPILED", tmp_path / "compiled")
    return tmp_path / "compiled"


@pytest.fixture
def lake() -> str:
    """An object store's prefix."""
    return f"memory://{uuid.uuid4().hex}/lake"


def slipway(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def stored(lake: str) -> list[str]:
    store, root = fsspec.core.url_to_fs(lake)
    return sorted(Path(path).name.split("-")[0] for path in store.find(root))


def test_submit_puts_the_files_beside_the_data_that_the_run_reads(
    wide: Path, lake: str, kubeflow_server: Double, flights: LoadedProject
) -> None:
    path = wide / "flights-training.yaml"
    package = read_package(path)
    assert find_faults(package) == []
    result = slipway("submit", path, "--set", f"data_root={lake}")
    assert result.exit_code == 0, result.output
    assert stored(lake) == ["data", "features", "schema"]
    # What a task is given is what it reads.
    schema = package.parameters["schema"]["defaultValue"]
    assert read_setting("schema", schema, lake) == flights.schema_content
    views = package.parameters["features"]["defaultValue"]
    assert read_setting("features", views, lake) == flights.project.features.to_struct()
    # A second time nothing is written anew, and what was damaged is mended.
    store, place = fsspec.core.url_to_fs(f"{lake}/{reference_in(schema)}")
    store.pipe_file(place, b"{}")
    assert slipway("submit", path, "--set", f"data_root={lake}").exit_code == 0
    assert read_setting("schema", schema, lake) == flights.schema_content


def test_schedules_put_them_where_their_own_runs_read(
    wide: Path, lake: str, kubeflow_server: Double, repository: Path, tmp_path: Path
) -> None:
    project = tmp_path / "flights"
    shutil.copytree(repository / "examples" / "flights", project)
    text = (project / "project.yaml").read_text().replace("root: build/lake", f"root: {lake}-a")
    text += (
        "schedules:\n  weekly: {pipeline: retraining, cron: 0 2 * * SUN,"
        f" parameters: {{data_root: '{lake}-b'}}}}\n"
    )
    (project / "project.yaml").write_text(text)
    from slipway.components.config.project import load_project

    compile_project(load_project(project), tmp_path / "other")
    result = slipway("schedule", "--project", project, "--compiled", tmp_path / "other")
    assert result.exit_code == 0, result.output
    assert stored(f"{lake}-a") == stored(f"{lake}-b") == ["data", "features", "schema"]


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("", "data_root (empty) is on this machine"),
        ("nosuch://lake", "could not be written to nosuch://lake/_slipway/data-"),
    ],
)
def test_where_they_cannot_go_nothing_is_sent(
    root: str, said: str, wide: Path, kubeflow_server: Double
) -> None:
    options = ("--set", f"data_root={root}") if root else ()
    result = slipway("submit", wide / "flights-scoring.yaml", *options)
    assert isinstance(result.exception, SlipwayError)
    assert said in str(result.exception)
    assert kubeflow_server.requests == []


def test_a_file_that_was_left_behind_is_missed_before_anything_is_sent(
    wide: Path, lake: str, kubeflow_server: Double
) -> None:
    shutil.rmtree(wide / "_slipway")
    result = slipway("submit", wide / "flights-training.yaml", "--set", f"data_root={lake}")
    assert "which is not there. Run `slipway compile`" in str(result.exception)
    assert kubeflow_server.requests == []


def test_a_key_of_a_setting_in_a_file_cannot_be_set(
    wide: Path, compiled: Path, lake: str, kubeflow_server: Double
) -> None:
    path = wide / "flights-training.yaml"
    result = slipway("submit", path, "--set", f"data_root={lake}", "--set", "features.split.gap=1d")
    assert "features is too large for a parameter" in str(result.exception)
    assert kubeflow_server.requests == []
    assert stored(lake) == []
    package = read_package(compiled / "flights-training.yaml")
    changed = arguments_from(package, ["features.split.gap=1d"])["features"]
    assert changed["split"]["gap"] == "1d"


def test_a_place_on_this_machine_is_said_before_a_pod_looks_for_it(
    compiled: Path, lake: str, kubeflow_server: Double
) -> None:
    path = compiled / "flights-training.yaml"
    local = slipway("submit", path)
    assert "warning: flights-training: data.root (empty) is a place on one machine" in local.output
    assert "warning" not in slipway("submit", path, "--set", f"data_root={lake}").output
