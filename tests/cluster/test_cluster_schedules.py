"""The reconciler: any state of the server becomes what is declared, and stays so."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.kfp_double import Double, Fault, serve

from slipway.cluster.api import Kubeflow
from slipway.cluster.connection import Connection
from slipway.cluster.schedules import Wanted, arguments_for, reconcile
from slipway.cluster.upload import upload
from slipway.components.config.orchestration import Schedule, cron_with_seconds
from slipway.components.support.kubeflow import KfpApiError
from slipway.pipelines.package import Package, read_package


@pytest.fixture(scope="module")
def package(compiled: Path) -> Package:
    return read_package(compiled / "flights-monitoring.yaml")


class Bench:
    """A server with the monitoring pipeline uploaded, and a way to declare schedules."""

    def __init__(self, double: Double, package: Package) -> None:
        self.double = double
        self.package = package
        self.kubeflow = Kubeflow(Connection.of(host=double.url), backoff=0.01)
        self.uploaded = upload(self.kubeflow, package)

    def wanted(self, schedules: dict[str, Schedule], project: str = "flights") -> list[Wanted]:
        return [
            Wanted(
                project=project,
                name=name,
                schedule=schedule,
                pipeline_id=self.uploaded.pipeline_id,
                version_id=self.uploaded.version_id,
                version=self.uploaded.version,
                arguments=arguments_for(schedule, look_back=timedelta(days=7)),
            )
            for name, schedule in schedules.items()
        ]

    def reconcile(self, schedules: dict[str, Schedule], **options: Any) -> list[str]:
        steps = reconcile(self.kubeflow, "flights", self.wanted(schedules), **options)
        return [step.action for step in steps]

    def calls(self, work: Callable[[], Any]) -> int:
        before = self.kubeflow.api.calls
        work()
        return self.kubeflow.api.calls - before


@pytest.fixture
def bench(kubeflow_server: Double, package: Package) -> Bench:
    return Bench(kubeflow_server, package)


def daily(hour: int = 6, **options: Any) -> Schedule:
    return Schedule(pipeline="monitoring", cron=f"0 {hour} * * *", **options)


def test_a_schedule_is_created_once_and_ends_its_window_when_it_is_due(bench: Bench) -> None:
    assert bench.reconcile({"daily": daily()}) == ["create", "enable"]
    (run,) = bench.double.recurring.values()
    assert run["display_name"] == "flights-daily"
    assert run["status"] == "ENABLED"
    assert run["trigger"] == {"cron_schedule": {"cron": "0 0 6 * * *"}}
    assert run["runtime_config"]["parameters"] == {
        "window_start": "1d",
        "window_end": "",
        "labels_start": "8d",
    }
    assert run["no_catchup"] is True
    before = list(bench.double.writes())
    assert bench.reconcile({"daily": daily()}) == []
    assert bench.double.writes() == before


def test_without_time_only_what_was_asked_of_the_endpoint_has_a_window() -> None:
    """Tables are then read whole, at every run: a window's end at the schedule would mean nothing."""
    back = timedelta(days=7)
    assert arguments_for(daily(), back, timed=False) == {"window_start": "1d", "window_end": ""}
    for name in ("retraining", "scoring", "backfill"):
        schedule = Schedule(pipeline=name, cron="0 6 * * *", parameters={"model": "1"})
        assert arguments_for(schedule, back, timed=False) == {"model": "1"}
        timed = {"window_start": "1d", "window_end": "", "model": "1"}
        assert arguments_for(schedule, back) == timed


@dataclass(frozen=True)
class Case:
    name: str
    before: dict[str, Schedule]
    after: dict[str, Schedule]
    steps: list[str]
    titles: list[tuple[str, str]]


CASES = [
    Case("none", {}, {}, [], []),
    Case(
        "changed",
        {"a": daily(6)},
        {"a": daily(7)},
        ["create", "delete", "enable"],
        [("flights-a", "ENABLED")],
    ),
    Case(
        "other window",
        {"a": daily(6)},
        {"a": daily(6, window="2d")},
        ["create", "delete", "enable"],
        [("flights-a", "ENABLED")],
    ),
    Case(
        "paused",
        {"a": daily()},
        {"a": daily(enabled=False)},
        ["pause"],
        [("flights-a", "DISABLED")],
    ),
    Case(
        "resumed",
        {"a": daily(enabled=False)},
        {"a": daily()},
        ["enable"],
        [("flights-a", "ENABLED")],
    ),
    Case(
        "changed and paused",
        {"a": daily(6)},
        {"a": daily(7, enabled=False)},
        ["create", "delete"],
        [("flights-a", "DISABLED")],
    ),
    Case(
        "removed",
        {"a": daily(), "b": daily()},
        {"b": daily()},
        ["delete"],
        [("flights-b", "ENABLED")],
    ),
    Case(
        "periodic",
        {},
        {"a": Schedule(pipeline="monitoring", every="2h")},
        ["create", "enable"],
        [("flights-a", "ENABLED")],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_there_becomes_what_is_declared(case: Case, bench: Bench) -> None:
    bench.reconcile(case.before)
    planned = bench.reconcile(case.after, dry_run=True)
    titles = bench.double.titles()
    assert planned == case.steps
    assert bench.double.titles() == titles, "a dry run changes nothing"
    assert bench.reconcile(case.after) == case.steps
    assert bench.double.titles() == case.titles
    assert bench.reconcile(case.after) == []


def test_recurring_runs_of_others_are_left_alone(bench: Bench) -> None:
    bench.reconcile({"a": daily()})
    others = reconcile(bench.kubeflow, "rail", bench.wanted({"a": daily()}, project="rail"))
    assert [s.action for s in others] == ["create", "enable"]
    ((identity, mine),) = [
        (i, r) for i, r in bench.double.recurring.items() if r["display_name"] == "flights-a"
    ]
    bench.double.recurring["by-hand"] = {
        **mine,
        "recurring_run_id": "by-hand",
        "description": "mine",
    }
    assert bench.reconcile({}) == ["delete"]
    assert sorted(bench.double.titles()) == [("flights-a", "ENABLED"), ("rail-a", "ENABLED")]
    assert identity not in bench.double.recurring


def test_duplicates_are_removed_and_the_oldest_stays(bench: Bench) -> None:
    bench.reconcile({"a": daily()})
    ((identity, run),) = bench.double.recurring.items()
    bench.double.recurring["copy"] = {
        **run,
        "recurring_run_id": "copy",
        "created_at": bench.double.now(),
    }
    assert bench.reconcile({"a": daily()}) == ["delete"]
    assert list(bench.double.recurring) == [identity]


@pytest.mark.parametrize("fault", ["drop", "drop after", 500])
@pytest.mark.parametrize("request_path", ["recurringruns$", ":enable"])
def test_a_broken_connection_leaves_one_recurring_run(
    fault: str, request_path: str, bench: Bench
) -> None:
    bench.double.faults.append(Fault("POST", request_path, fault))
    bench.reconcile({"a": daily()})
    assert bench.double.titles() == [("flights-a", "ENABLED")]


@pytest.mark.parametrize("after", range(12))
def test_a_replacement_that_is_cut_short_is_finished_by_the_next(after: int, bench: Bench) -> None:
    """Whatever request is the last that gets through, never are two at work, and a rerun heals."""
    bench.reconcile({"a": daily(6)})
    left = [after]

    def cut(line: str) -> None:
        left[0] -= 1
        if left[0] < 0 and not bench.double.faults:
            bench.double.faults += [Fault(m, "", 403, 99) for m in ("GET", "POST", "DELETE")]

    bench.double.on_request = cut
    try:
        bench.reconcile({"a": daily(7)})
    except KfpApiError as error:
        assert error.status == 403
    working = [status for _, status in bench.double.titles() if status == "ENABLED"]
    assert len(working) <= 1
    bench.double.on_request = lambda line: None
    bench.double.faults.clear()
    bench.reconcile({"a": daily(7)})
    assert bench.double.titles() == [("flights-a", "ENABLED")]
    assert "0 0 7 * * *" in str(bench.double.recurring)


def test_two_that_reconcile_at_once_leave_one_of_each(bench: Bench) -> None:
    other = Bench(bench.double, bench.package)
    raced: list[str] = []

    def race(line: str) -> None:
        if line.startswith("POST") and line.endswith("recurringruns") and not raced:
            raced.append(line)
            other.reconcile({"a": daily()})

    bench.double.on_request = race
    bench.reconcile({"a": daily()})
    assert raced
    assert bench.double.titles() == [("flights-a", "ENABLED")]


@pytest.mark.parametrize(("count", "first", "second"), [(0, 3, 2), (1, 6, 2), (50, 104, 2)])
def test_how_many_calls_it_takes(count: int, first: int, second: int, bench: Bench) -> None:
    """The experiment and one page a hundred; then two calls for each that is new, and one look."""
    schedules = {f"s{i}": daily(i % 24) for i in range(count)}
    assert bench.calls(lambda: bench.reconcile(schedules)) == first
    assert bench.calls(lambda: bench.reconcile(schedules)) == second
    assert len(bench.double.recurring) == count


def test_more_than_a_page_of_recurring_runs(bench: Bench) -> None:
    bench.double.page_size = 10
    schedules = {f"s{i}": daily(i % 24) for i in range(25)}
    bench.reconcile(schedules)
    assert bench.reconcile(schedules) == []
    assert len(bench.double.recurring) == 25


@st.composite
def declared(draw: st.DrawFn) -> dict[str, Schedule]:
    names = draw(st.sets(st.sampled_from("abcd")))
    return {
        name: daily(draw(st.integers(0, 1)), enabled=draw(st.booleans())) for name in sorted(names)
    }


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(states=st.lists(declared(), min_size=1, max_size=4))
def test_any_sequence_of_project_files_converges(
    states: list[dict[str, Schedule]], package: Package
) -> None:
    with serve(Double()) as double:
        bench = Bench(double, package)
        for state in states:
            bench.reconcile(state)
            expected = sorted(
                (f"flights-{name}", "ENABLED" if s.enabled else "DISABLED")
                for name, s in state.items()
            )
            assert double.titles() == expected
            assert bench.reconcile(state) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 6 * * *", "0 0 6 * * *"),
        ("*/15 * * * MON-FRI", "0 */15 * * * MON-FRI"),
        ("30 0 6 1,15 * ?", "30 0 6 1,15 * ?"),
    ],
)
def test_cron_gets_its_seconds(text: str, expected: str) -> None:
    assert cron_with_seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6 * *", "has 3 fields"),
        ("60 * * * *", "60 is not a minute"),
        ("0 24 * * *", "24 is not a hour"),
        ("0 0 0 * *", "0 is not a day of the month"),
        ("0 0 * 13 *", "13 is not a month"),
        ("0 0 * * 7", "7 is not a day of the week"),
        ("0 0 * * FRI-MON", "FRI-MON is not"),
        ("*/0 * * * *", r"\*/0 is not a minute"),
        ("0 0 * * 1-", "1- is not"),
    ],
)
def test_cron_that_no_scheduler_would_take(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cron_with_seconds(text)


def test_schedule_needs_one_trigger() -> None:
    with pytest.raises(ValueError, match="either cron or every"):
        Schedule(pipeline="retraining")
    with pytest.raises(ValueError, match="either cron or every"):
        Schedule(pipeline="retraining", cron="0 6 * * *", every="1d")
