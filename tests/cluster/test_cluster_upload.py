"""Upload and submit over real HTTP, against a server that refuses, stalls and hangs up."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kfp_double import Double, Fault
from support.sim_clock import SimClock

from slipway.cluster.api import Kubeflow
from slipway.cluster.connection import Connection
from slipway.cluster.runs import follow, submit
from slipway.cluster.schedules import reconcile
from slipway.cluster.upload import upload
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.kubeflow import KfpApiError, asked_wait
from slipway.pipelines.package import arguments_from, read_package

FAST = 0.01


def connected(double: Double, **options: Any) -> Kubeflow:
    return Kubeflow(Connection.of(host=double.url, **options), backoff=FAST)


def test_the_same_content_uploaded_twice_is_one_version(
    kubeflow_server: Double, compiled: Path, tmp_path: Path
) -> None:
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-training.yaml")
    first = upload(kubeflow, package)
    # Another file with the same content: comments and layout do not count.
    copy = tmp_path / "copy.yaml"
    copy.write_text(
        "# a comment\n" + yaml.safe_dump_all([package.spec, package.platform], sort_keys=False)
    )
    second = upload(kubeflow, read_package(copy))
    assert (first.created, second.created) == (True, False)
    assert first.version_id == second.version_id
    assert len(kubeflow_server.versions) == 1
    assert first.version.endswith(package.digest[:12])


def test_other_content_is_another_version_of_the_same_pipeline(
    kubeflow_server: Double, compiled: Path, tmp_path: Path
) -> None:
    kubeflow = connected(kubeflow_server)
    path = compiled / "flights-training.yaml"
    upload(kubeflow, read_package(path))
    changed = tmp_path / "changed.yaml"
    changed.write_text(path.read_text().replace("defaultValue: 4.0", "defaultValue: 5.0"))
    assert upload(kubeflow, read_package(changed)).created
    assert len(kubeflow_server.pipelines) == 1
    assert len(kubeflow_server.versions) == 2


@dataclass(frozen=True)
class Case:
    name: str
    faults: list[tuple[str, str, int | str, int]]
    error: str = ""
    status: int = -1
    retry_after: str = ""


CASES = [
    Case("busy, then not", [("POST", "upload", 429, 2)], retry_after="0"),
    Case("away, then back", [("POST", "upload", 503, 2), ("GET", "pipelines", 502, 2)]),
    Case("hangs up before acting", [("POST", "upload", "drop", 2)]),
    Case("hangs up after acting", [("POST", "upload", "drop after", 1)]),
    Case("creates the pipeline, then hangs up", [("POST", "pipelines$", "drop after", 1)]),
    Case("500 once", [("POST", "upload", 500, 1)]),
    Case("500 for good", [("POST", "upload", 500, 99)], "answered 500", 500),
    Case("busy for good", [("POST", "upload", 429, 99)], "busy", 429),
    Case("hangs up for good", [("GET", "", "drop", 99)], "did not answer", 0),
    Case("credentials refused", [("GET", "", 401, 99)], "credentials were not accepted", 401),
    Case("not allowed", [("POST", "upload", 403, 99)], "may not do that here", 403),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_upload_survives_passing_faults_and_names_lasting_ones(
    case: Case, kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow_server.faults += [
        Fault(method, path, kind, times, case.retry_after)
        for method, path, kind, times in case.faults
    ]
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-monitoring.yaml")
    if not case.error:
        uploaded = upload(kubeflow, package)
        assert list(kubeflow_server.versions) == [uploaded.version_id]
        assert len(kubeflow_server.pipelines) == 1
    else:
        with pytest.raises(KfpApiError, match=case.error) as caught:
            upload(kubeflow, package)
        assert caught.value.status == case.status
        assert kubeflow_server.versions == {}


def test_a_server_that_asks_to_wait_for_hours_is_not_obeyed() -> None:
    def asked(text: str) -> float | None:
        return asked_wait({"Retry-After": text})

    assert [asked("3600"), asked("7"), asked("Fri, 31 Dec 2999 23:59:59 GMT")] == [30, 7, 30]
    assert asked_wait({}) is asked("soon") is None


@pytest.mark.parametrize("work", ["submit", "schedule"])
def test_nothing_is_started_in_an_archived_experiment(
    work: str, kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-monitoring.yaml")
    kubeflow.experiment("flights")
    (experiment,) = kubeflow_server.experiments.values()
    experiment["storage_state"] = "ARCHIVED"
    with pytest.raises(SlipwayError, match=r"flights is archived.*Restore it"):
        if work == "submit":
            submit(kubeflow, package, upload(kubeflow, package), experiment="flights", arguments={})
        else:
            reconcile(kubeflow, "flights", [])
    assert kubeflow_server.runs == {}
    experiment["storage_state"] = "AVAILABLE"
    assert reconcile(kubeflow, "flights", []) == []


def test_a_slow_server_meets_the_timeout(kubeflow_server: Double, compiled: Path) -> None:
    kubeflow_server.faults.append(Fault("GET", "healthz", "slow", 99, seconds=0.6))
    with pytest.raises(KfpApiError, match="did not answer"):
        connected(kubeflow_server, timeout=0.1).health()


def test_two_that_upload_at_once_end_with_one_version(
    kubeflow_server: Double, compiled: Path
) -> None:
    package = read_package(compiled / "flights-monitoring.yaml")
    other = connected(kubeflow_server)
    raced: list[str] = []

    def race(line: str) -> None:
        if "upload_version" in line and not raced:
            raced.append(line)
            upload(other, package)

    kubeflow_server.on_request = race
    mine = upload(connected(kubeflow_server), package)
    assert raced
    assert list(kubeflow_server.versions) == [mine.version_id]


@dataclass(frozen=True)
class SetCase:
    name: str
    overrides: list[str]
    expected: dict[str, Any] = field(default_factory=dict)
    error: str = ""


SETS = [
    SetCase(
        "numbers", ["training_epochs=2", "gate_auc=0.7"], {"training_epochs": 2, "gate_auc": 0.7}
    ),
    SetCase("text stays text", ["data_version=2"], {"data_version": "2"}),
    SetCase("list", ["training_gpu_tolerations=[]"], {"training_gpu_tolerations": []}),
    SetCase("unknown", ["epoch=2"], error="has no parameter epoch. Did you mean training_epochs"),
    SetCase(
        "wrong type",
        ["training_epochs=many"],
        error="training_epochs of .* is a NUMBER_INTEGER",
    ),
    SetCase("not whole", ["training_epochs=1.5"], error="NUMBER_INTEGER"),
    SetCase("truth is no number", ["training_epochs=true"], error="NUMBER_INTEGER"),
    SetCase("too long", ["data_version=" + "x" * 9_999], error="data_version has 10,001 bytes"),
    SetCase(
        "no character of MySQL",
        ["data_version=\N{ROCKET}"],
        error="data_version of .* holds '.U0001f680'",
    ),
    SetCase(
        "a script that it has",
        ["data_version=\N{CJK UNIFIED IDEOGRAPH-4E2D}"],
        {"data_version": "\N{CJK UNIFIED IDEOGRAPH-4E2D}"},
    ),
    SetCase("no value", ["training_epochs"], error="write NAME=VALUE"),
    SetCase("key of a number", ["training_epochs.x=1"], error="training_epochs is no struct"),
]


@pytest.mark.parametrize("case", SETS, ids=lambda case: case.name)
def test_set_is_checked_against_the_pipeline(case: SetCase, compiled: Path) -> None:
    package = read_package(compiled / "flights-training.yaml")
    if case.error:
        with pytest.raises(ProjectError, match=case.error):
            arguments_from(package, case.overrides)
    else:
        assert arguments_from(package, case.overrides) == case.expected


def test_set_changes_one_key_of_a_struct(compiled: Path) -> None:
    package = read_package(compiled / "flights-training.yaml")
    values = arguments_from(package, ["training.batch_size=512", "training.network.width=64"])
    default = package.parameters["training"]["defaultValue"]
    assert values["training"]["batch_size"] == 512
    assert values["training"]["network"]["width"] == 64
    assert values["training"]["patience"] == default["patience"]
    assert default["batch_size"] != 512


def test_submit_runs_the_version_and_follows_it(kubeflow_server: Double, compiled: Path) -> None:
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-training.yaml")
    state = submit(
        kubeflow,
        package,
        upload(kubeflow, package),
        experiment="flights",
        arguments={"training_epochs": 2},
    )
    run = kubeflow_server.runs[state.run_id]
    assert run["runtime_config"]["parameters"] == {"training_epochs": 2}
    seen: list[tuple[str, str]] = []
    end = follow(
        kubeflow,
        state.run_id,
        lambda task: seen.append((task.name, task.state)),
        every=FAST,
    )
    assert (end.state, end.verdict) == ("succeeded", "pass")
    assert seen[0] == ("ingest", "running")
    assert seen[1:] == [(task.name, "succeeded") for task in end.tasks]


@pytest.mark.parametrize("fault", ["drop", "drop after"])
def test_a_run_is_started_once_though_the_connection_breaks(
    fault: str, kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-training.yaml")
    uploaded = upload(kubeflow, package)
    kubeflow_server.faults.append(Fault("POST", "runs$", fault))
    state = submit(kubeflow, package, uploaded, experiment="flights", arguments={})
    assert list(kubeflow_server.runs) == [state.run_id]


@pytest.mark.parametrize(
    ("refuse", "fail", "state", "verdict"),
    [
        (False, "", "succeeded", "pass"),
        (True, "", "succeeded", "fail"),
        (False, "train", "failed", None),
        (False, "deploy", "failed", "pass"),
    ],
)
def test_the_verdict_is_read_from_what_ran(
    refuse: bool, fail: str, state: str, verdict: str, kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow_server.refuse_model, kubeflow_server.fail_task = refuse, fail
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-training.yaml")
    started = submit(kubeflow, package, upload(kubeflow, package), experiment="f", arguments={})
    end = follow(kubeflow, started.run_id, lambda task: None, every=FAST)
    assert (end.state, end.verdict) == (state, verdict)


def test_waiting_ends_at_the_limit_and_says_how_to_go_on(
    kubeflow_server: Double, compiled: Path
) -> None:
    kubeflow = connected(kubeflow_server)
    package = read_package(compiled / "flights-training.yaml")
    started = submit(kubeflow, package, upload(kubeflow, package), experiment="f", arguments={})
    kubeflow_server.runs[started.run_id]["state"] = "PAUSED"
    clock = SimClock()
    told = f"still paused after 3600 s.*slipway cancel {started.run_id}"
    with pytest.raises(SlipwayError, match=told):
        follow(kubeflow, started.run_id, print, every=600, limit=3600, clock=clock)
    assert clock.now == 3600
