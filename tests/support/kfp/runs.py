"""Runs and recurring runs."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import kfp_server_api as kfp

from support.kfp.bodies import as_stored, check_storable, checked, find, paged, read_json
from support.kfp.state import NEVER, STOPPABLE, Double, Refused
from support.kfp_nodes import Nodes


def _check_inputs(double: Double, content: dict[str, Any]) -> dict[str, Any]:
    """As the backend validates a job's inputs: unknown names, missing ones, types."""
    reference = content.get("pipeline_version_reference") or {}
    version = find(double.versions, reference.get("pipeline_version_id", ""), "pipeline version")
    if version["pipeline_id"] != reference.get("pipeline_id"):
        raise Refused(400, "the version is of another pipeline")
    spec = version["pipeline_spec"]
    spec = spec.get("pipeline_spec", spec)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    given = (content.get("runtime_config") or {}).get("parameters") or {}
    kinds: dict[str, Any] = {
        "STRING": str,
        "NUMBER_DOUBLE": (int, float),
        "NUMBER_INTEGER": (int, float),
        "BOOLEAN": bool,
        "LIST": list,
        "STRUCT": dict,
    }
    if len(json.dumps(given, separators=(",", ":"))) > double.max_parameter_bytes:
        raise Refused(
            400, f"The input parameter length exceed maximum size of {double.max_parameter_bytes}"
        )
    for name, value in given.items():
        if name not in declared:
            raise Refused(400, f"parameter {name} provided is not required by pipeline spec")
        kind = declared[name]["parameterType"]
        if not isinstance(value, kinds[kind]) or (kind != "BOOLEAN" and isinstance(value, bool)):
            raise Refused(400, f"input parameter {name} requires type {kind}")
    for name, parameter in declared.items():
        if name not in given and not parameter.get("isOptional"):
            raise Refused(400, f"parameter {name} is not optional, yet has no value")
    return spec


def create_run(double: Double, *, query: dict[str, str], body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1Run, read_json(body))
    find(double.experiments, content.get("experiment_id", ""), "experiment")
    if not content.get("display_name"):
        raise Refused(400, "The display name is empty")
    spec = _check_inputs(double, content)
    check_storable("run", spec, content)
    identity = str(uuid.uuid4())
    created = double.now()
    double.runs[identity] = as_stored(
        {
            **content,
            "run_id": identity,
            "created_at": created,
            "scheduled_at": created,
            "finished_at": NEVER,
            "state": "PENDING",
        }
    )
    return double.runs[identity]


def list_runs(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    found = [r for r in double.runs.values() if r["experiment_id"] == query.get("experiment_id")]
    return paged(double, "runs", found, query)


def get_run(double: Double, identity: str, **_: Any) -> Any:
    """Each look finds the run further on: pending for a while, running for a while, then ended."""
    run = find(double.runs, identity, "run")
    if run["state"] not in (*STOPPABLE, "CANCELING"):
        return run
    look = double.looks[identity] = double.looks.get(identity, 0) + 1
    chance = double.chance(identity)
    pending, running = chance.randint(0, 2), chance.randint(1, 3)
    if run["state"] == "CANCELING":
        _note(double, run)
        if look > chance.randint(1, 3):
            _report(double, run, "FAILED", stopped=True)
    elif look <= pending:
        pass
    elif look <= pending + running:
        _report(double, run, "RUNNING")
    else:
        _report(double, run, "SUCCEEDED")
    return run


def _note(double: Double, run: dict[str, Any]) -> None:
    """The history has each state once it was reported, the one of a run that is stopped too."""
    history = run.setdefault("state_history", [])
    if not history or history[-1]["state"] != run["state"]:
        history.append({"update_time": double.now(), "state": run["state"]})


def _report(double: Double, run: dict[str, Any], state: str, *, stopped: bool = False) -> None:
    """What the persistence agent reports of the run's workflow."""
    version = double.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    spec = version["pipeline_spec"]
    nodes = Nodes(
        spec.get("pipeline_spec", spec),
        fail_task=double.fail_task,
        fail_driver=double.fail_driver,
        refuse=double.refuse_model,
        ended=state != "RUNNING",
        stopped=stopped,
    )
    nodes.add_run(f"workflow-{run['run_id'][:8]}")
    details = nodes.details(run["run_id"])
    double.chance(run["run_id"]).shuffle(details)
    run["state"] = "FAILED" if nodes.failed else state
    run["run_details"] = {"task_details": details}
    _note(double, run)
    if state != "RUNNING":
        run["finished_at"] = double.now()


def delete_run(double: Double, identity: str, **_: Any) -> Any:
    """The run goes, also while it is at work, and with it its cache entries; artifacts stay."""
    find(double.runs, identity, "run")
    del double.runs[identity]
    return {}


def terminate(double: Double, identity: str, **_: Any) -> Any:
    run = find(double.runs, identity, "run")
    if run["state"] not in STOPPABLE:
        raise Refused(400, f"Failed to terminate a run {identity}. Row not found")
    run["state"] = "CANCELING"
    double.looks[identity] = 0
    return {}


def create_recurring(double: Double, *, body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1RecurringRun, read_json(body))
    find(double.experiments, content.get("experiment_id", ""), "experiment")
    _check_inputs(double, content)
    if not 1 <= int(content.get("max_concurrency") or 0) <= 10:
        raise Refused(400, "The max concurrency of the job is out of range [1, 10]")
    trigger = content.get("trigger") or {}
    cron = (trigger.get("cron_schedule") or {}).get("cron")
    if cron is not None and len(cron.split()) != 6:
        raise Refused(400, f"Schedule cron is not a supported format: {cron}")
    if cron is None and int(trigger["periodic_schedule"]["interval_second"]) < 1:
        raise Refused(400, "The interval must be at least a second")
    if content.get("mode") not in ("ENABLE", "DISABLE"):
        raise Refused(400, "The mode is not set")
    identity = str(uuid.uuid4())
    double.recurring[identity] = as_stored(
        {
            **content,
            "recurring_run_id": identity,
            "created_at": double.now(),
            "status": "ENABLED" if content["mode"] == "ENABLE" else "DISABLED",
        }
    )
    return double.recurring[identity]


def list_recurring(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    found = [
        r for r in double.recurring.values() if r["experiment_id"] == query.get("experiment_id")
    ]
    return paged(double, "recurringRuns", found, query)


def delete_recurring(double: Double, identity: str, **_: Any) -> Any:
    find(double.recurring, identity, "recurring run")
    del double.recurring[identity]
    return {}


def switch(status: str) -> Callable[..., Any]:
    def work(double: Double, identity: str, **_: Any) -> Any:
        find(double.recurring, identity, "recurring run")["status"] = status
        return {}

    return work
