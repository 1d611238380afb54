"""The commands as a person types them, against a server over HTTP: output and exit codes."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from support.kfp_double import Double, Fault
from typer.testing import CliRunner, Result

from slipway.cluster.diff import compare
from slipway.commands.cli import app
from slipway.commands.cluster import runs
from slipway.components.support.errors import ProjectError
from slipway.pipelines.package import Package, read_package


@pytest.fixture
def here(compiled: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands' defaults, as in a checkout: compiled/ and examples/ below the directory."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr("slipway.commands.cluster.pipelines.COMPILED", compiled)
    return compiled


def slipway(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def submit(here: Path, *options: str) -> Result:
    return slipway("submit", here / "flights-training.yaml", "--wait", "--every", "0s", *options)


def test_upload_says_what_is_new(here: Path, kubeflow_server: Double) -> None:
    first, second = slipway("upload"), slipway("upload")
    assert first.exit_code == second.exit_code == 0
    assert first.output.count(" uploaded") == 5
    assert second.output.count("was there already") == 5
    assert f"{kubeflow_server.url}/#/pipelines/details/" in first.output


@dataclass(frozen=True)
class Case:
    name: str
    refuse: bool
    fail: str
    options: tuple[str, ...]
    code: int
    said: str


CASES = [
    Case("passes", False, "", (), 0, "Verdict: PASS"),
    Case("refused", True, "", (), 0, "Nothing was registered and nothing deployed"),
    Case("refused, told to fail", True, "", ("--fail-on-refusal",), 3, "Verdict: FAIL"),
    Case("passes, told to fail", False, "", ("--fail-on-refusal",), 0, "Verdict: PASS"),
    Case("broken stage", False, "train", ("--fail-on-refusal",), 1, "train failed: "),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_submit_and_wait(case: Case, here: Path, kubeflow_server: Double) -> None:
    kubeflow_server.refuse_model, kubeflow_server.fail_task = case.refuse, case.fail
    result = submit(here, *case.options)
    assert result.exit_code == case.code, result.output
    assert case.said in result.output
    assert "root-driver" not in result.output, "only the stages are shown"


def test_sources_are_read_anew_unless_their_version_is_named(
    here: Path, kubeflow_server: Double
) -> None:
    """Kubeflow's cache knows a source by its address alone."""
    file = here / "flights-training.yaml"
    for options in ((), ("--set", "data_version=monday"), ("--set", "training_epochs=1")):
        assert slipway("submit", file, *options).exit_code == 0
    sent = [run["runtime_config"]["parameters"] for run in kubeflow_server.runs.values()]
    assert sent[1] == {"data_version": "monday"}
    assert sent[0]["data_version"].startswith("20")
    assert sent[2]["data_version"].startswith("20")
    assert sent[2]["training_epochs"] == 1
    assert slipway("submit", here / "flights-backfill.yaml").exit_code == 0
    last = list(kubeflow_server.runs.values())[3]
    assert "data_version" not in (last["runtime_config"].get("parameters") or {})


def test_submit_with_a_misspelled_parameter_sends_nothing(
    here: Path, kubeflow_server: Double
) -> None:
    result = submit(here, "--set", "training_epoch=3")
    assert isinstance(result.exception, ProjectError)
    assert "Did you mean training_epochs" in str(result.exception)
    assert kubeflow_server.requests == []


def test_runs_lists_and_shows_and_cancel_ends(here: Path, kubeflow_server: Double) -> None:
    slipway("submit", here / "flights-training.yaml")
    ((run_id, run),) = kubeflow_server.runs.items()
    listed = slipway("runs")
    assert run_id in listed.output
    assert slipway("cancel", run_id).output.strip().endswith("is being cancelled.")
    # Kubeflow refuses to end what it is ending; ours asks for nothing twice.
    assert run["state"] == "CANCELING"
    assert slipway("cancel", run_id).output.strip().endswith("is being cancelled.")
    assert "canceling" in slipway("runs", run_id).output
    ended = slipway("runs", run_id, "--wait")
    assert ended.exit_code == 1
    # It has no word for a run that was ended: it failed.
    assert "failed (it was cancelled)" in ended.output
    assert "had ended already: failed" in slipway("cancel", run_id).output


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_id_of_a_run_stands_whole_on_any_terminal(
    columns: int, here: Path, kubeflow_server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what `slipway runs RUN`, `logs` and `cancel` ask for."""
    for pipeline in ("training", "retraining"):
        slipway("submit", here / f"flights-{pipeline}.yaml")
    monkeypatch.setattr(runs, "console", Console(width=columns))
    lines = slipway("runs").output.splitlines()
    assert max(map(len, lines)) <= columns
    for run_id in kubeflow_server.runs:
        (line,) = [line for line in lines if line.startswith(f"{run_id} ")]
        assert "pending" in line or "running" in line or "succeeded" in line
    if columns >= 120:
        assert [line.split()[-1] for line in lines[1:]] == [
            "flights-retraining",
            "flights-training",
        ]


def test_runs_of_a_project_that_has_none(here: Path, kubeflow_server: Double) -> None:
    assert slipway("runs").exit_code == 0
    assert kubeflow_server.writes() == []


def test_scoring_and_backfill_can_be_scheduled(
    here: Path, repository: Path, kubeflow_server: Double, tmp_path: Path
) -> None:
    project = tmp_path / "flights"
    shutil.copytree(repository / "examples" / "flights", project)
    with (project / "project.yaml").open("a") as file:
        file.write(
            "schedules:\n"
            "  scores: {pipeline: scoring, cron: 0 4 * * *, parameters: {model: challenger}}\n"
            "  fill: {pipeline: backfill, every: 1d, window: 2d}\n"
        )
    options = ("schedule", "--project", project, "--compiled", here)
    first = slipway(*options)
    assert first.exit_code == 0, first.output
    assert "2 recurring runs are as declared" in slipway(*options).output
    sent = {
        run["display_name"]: run["runtime_config"]["parameters"]
        for run in kubeflow_server.recurring.values()
    }
    assert sent == {
        "flights-scores": {"window_start": "1d", "window_end": "", "model": "challenger"},
        "flights-fill": {"window_start": "2d", "window_end": ""},
    }


def test_schedule_and_its_dry_run(here: Path, kubeflow_server: Double) -> None:
    before = slipway("schedule", "--compiled", here, "--dry-run")
    assert before.exit_code == 3
    assert "would create flights-monitoring: it is new" in before.output
    assert kubeflow_server.writes() == []
    assert slipway("schedule", "--compiled", here).exit_code == 0
    assert kubeflow_server.titles() == [("flights-monitoring", "ENABLED")]
    after = slipway("schedule", "--compiled", here, "--dry-run")
    assert after.exit_code == 0
    assert "1 recurring run is as declared" in after.output


def test_a_schedule_on_tables_of_this_machine_is_warned_of(
    here: Path, kubeflow_server: Double
) -> None:
    """A recurring run fails where nobody watches: what `submit` says is said here too."""
    said = slipway("schedule", "--compiled", here, "--dry-run").output
    assert "warning: flights-monitoring: data.root (" in said
    assert "Give schedules.monitoring.parameters.data_root" in said


def test_a_server_that_refuses_is_one_paragraph(here: Path, kubeflow_server: Double) -> None:
    kubeflow_server.faults.append(Fault("GET", "", 401, 99))
    result = slipway("upload")
    assert result.exit_code == 1
    assert "credentials were not accepted (401)" in str(result.exception)


# diff


def edited(package: Package, tmp_path: Path, old: str, new: str) -> Package:
    path = tmp_path / "edited.yaml"
    text = package.path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return read_package(path)


@dataclass(frozen=True)
class Edit:
    name: str
    old: str
    new: str
    kind: str
    line: str


EDITS = [
    Edit(
        "image",
        "image: slipway/train:",
        "image: registry.example.com/train:",
        "images",
        "~ train: slipway/train:",
    ),
    Edit(
        "retries", "maxRetryCount: 3", "maxRetryCount: 5", "resources", "retryPolicy.maxRetryCount"
    ),
    Edit(
        "default in a struct",
        "checkpoint_seconds: 60.0",
        "checkpoint_seconds: 90.0",
        "parameters",
        "training default.checkpoint_seconds: 60 → 90",
    ),
    Edit(
        "user", "runAsUser: '10001'", "runAsUser: '10002'", "platform", "securityContext.runAsUser"
    ),
    Edit("gate", " 'pass'\n", " 'fail'\n", "wiring", "register only if"),
    Edit(
        "code",
        "from slipway.components.train.train",
        "from slipway.components.train.other",
        "code",
        "~ train: sha256:",
    ),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_a_difference_is_named_in_a_reader_s_terms(
    edit: Edit, compiled: Path, tmp_path: Path
) -> None:
    package = read_package(compiled / "flights-training.yaml")
    changes = compare(package, edited(package, tmp_path, edit.old, edit.new))
    assert {change.kind for change in changes} == {edit.kind}, changes
    assert any(edit.line in str(change) for change in changes), [str(c) for c in changes]


def test_the_same_content_in_another_layout_does_not_differ(compiled: Path, tmp_path: Path) -> None:
    package = read_package(compiled / "flights-training.yaml")
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump_all([package.spec, package.platform], width=40))
    assert compare(package, read_package(path)) == []
    result = slipway("diff", package.path, path, "--exit-code")
    assert (result.exit_code, "nothing differs" in result.output) == (0, True)


def test_training_and_retraining_differ_in_what_they_should(compiled: Path) -> None:
    changes = compare(
        read_package(compiled / "flights-training.yaml"),
        read_package(compiled / "flights-retraining.yaml"),
    )
    wiring: list[Any] = [c for c in changes if c.kind not in ("pipeline",)]
    assert [c.where for c in wiring] == ["ingest scheduled_at", "report-end pipeline"]


def test_diff_against_the_server_and_for_a_comment(
    here: Path, kubeflow_server: Double, tmp_path: Path
) -> None:
    """The server keeps numbers as doubles: 2.0 comes back as 2, which is no difference."""
    for path in sorted(here.glob("*.yaml")):
        slipway("upload", path)
        assert "nothing differs" in slipway("diff", path, "--exit-code").output
    path = here / "flights-training.yaml"
    package = read_package(path)
    other = edited(package, tmp_path, "maxRetryCount: 3", "maxRetryCount: 5").path
    result = slipway("diff", other, "--markdown", "--exit-code")
    assert result.exit_code == 3
    assert "```diff" in result.output
    assert "retryPolicy.maxRetryCount: 3 → 5" in result.output
    # The version that it names is there.
    names = {version["display_name"] for version in kubeflow_server.versions.values()}
    before, after = result.output.splitlines()[0].removeprefix("### ").split(" → ")
    assert before.split(": ")[1] == package.version_name
    assert package.version_name in names
    assert after == read_package(other).version_name


def test_a_version_that_another_release_uploaded_is_named_as_it_is(
    here: Path, kubeflow_server: Double, tmp_path: Path
) -> None:
    path = here / "flights-training.yaml"
    slipway("upload", path)
    (version,) = kubeflow_server.versions.values()
    version |= {"name": "nightly-7", "display_name": "nightly-7"}
    assert "nothing differs" in slipway("diff", path).output
    other = edited(read_package(path), tmp_path, "maxRetryCount: 3", "maxRetryCount: 5").path
    assert "flights-training: nightly-7 → v" in slipway("diff", other).output


def test_json_of_a_run_and_of_runs(here: Path, kubeflow_server: Double) -> None:
    kubeflow_server.refuse_model = True
    done = slipway("submit", here / "flights-training.yaml", "--wait", "--every", "0s", "--json")
    state = json.loads(done.stdout)
    assert (state["state"], state["verdict"]) == ("succeeded", "fail")
    assert "Verdict" not in done.stdout and "train" in done.stderr, (
        "progress is not in the document"
    )
    (run,) = json.loads(slipway("runs", "--json").stdout)["runs"]
    assert run["run_id"] == state["run_id"]
    shown = slipway("runs", state["run_id"])
    assert re.search(r"evaluate +│ refused", shown.output), shown.output
    assert "refused by the gate" in shown.output and "succeeded  http" not in shown.output
    ended = json.loads(slipway("cancel", state["run_id"], "--json").stdout)
    assert ended["ended"] is True


def test_what_is_said_to_do_next_leads_to_the_same_server(
    here: Path, kubeflow_server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    slipway("submit", here / "flights-training.yaml")
    (run_id,) = kubeflow_server.runs
    monkeypatch.setattr("slipway.cluster.runs.follow", interrupted)
    where = ("--host", kubeflow_server.url, "--namespace", "it's mine")
    result = slipway("runs", run_id, "--wait", *where)
    assert result.exit_code == 130
    (again, end) = re.findall("`slipway ([^`]+)`", result.output)
    assert shlex.split(again) == ["runs", run_id, "--wait", *where]
    assert shlex.split(end) == ["cancel", run_id, *where]
