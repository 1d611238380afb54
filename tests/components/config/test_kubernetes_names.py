"""What becomes a name or a label in a cluster is refused as the project is loaded."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.components.config.checks.kubernetes_names import (
    check_labels,
    check_namespace,
    check_object_name,
    host_problem,
)
from slipway.components.config.model import check_label
from slipway.components.config.project import load_project
from slipway.components.support.errors import ProjectError

# kserve/kserve v0.20.0, inference_service_validation.go: IsvcRegexp.
KSERVE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# kubernetes/apimachinery, pkg/util/validation: DNS-1123 label and subdomain, label value.
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository / "examples" / "flights", tmp_path / "flights"))


REFUSED = {
    "project that ends in -": ({"project_name": "flights-"}, "project_name: 'flights-' is not a n"),
    "project of 41": ({"project_name": "f" * 41}, "is not a name: use small letters"),
    "project that begins with a digit": ({"project_name": "1f"}, "'1f' is not a name"),
    "schedule that ends in -": (
        {"schedules.day-": "{pipeline: monitoring, cron: '0 6 * * *'}"},
        r"schedules.day-: 'day-' is not a name",
    ),
    "namespace": ({"deployment.namespace": "Team A"}, "deployment.namespace: 'Team A' is not a na"),
    "namespace that ends in -": ({"deployment.namespace": "a-"}, "'a-' is not a name of Kubernet"),
    "namespace of 64": ({"deployment.namespace": "n" * 64}, "at most 63"),
    "host of both": (
        {"deployment.target": "kserve", "deployment.namespace": "n" * 46},
        r"makes the host flights-predictor-n+ of .*this one 64: shorten them to 52 together",
    ),
    "service account": ({"deployment.service_account": "a_b"}, "deployment.service_account: 'a_b'"),
    "secret": ({"deployment.secret": "Models"}, "deployment.secret: 'Models' is not a name"),
    "allowed namespace": ({"deployment.allow_from": "[a, b/c]"}, "allow_from.1: 'b/c' is not"),
    "node label's key": (
        {"deployment.node_selector": "{-pool: a}"},
        "deployment.node_selector: '-pool' is not a label's key",
    ),
    "node label's value": (
        {"training.accelerator.node_selector": "{pool: 'a b'}"},
        "training.accelerator.node_selector: 'a b' is not a label's value",
    ),
    "node label's domain": (
        {"orchestration.tasks.train.labels": "{/x: y}"},
        "labels: '/x' is not a label's key: nothing is no domain",
    ),
    "cost centre": (
        {"orchestration.tasks.train.labels": f"{{cost: {'x' * 64}}}"},
        "orchestration.tasks.train.labels: 'x+' is not a label's value",
    ),
    "task's nodes": (
        {"orchestration.tasks.ingest.node_selector": "{a: b-}"},
        "ingest.node_selector: 'b-' is not a label's value",
    ),
    "training runtime": ({"training.nodes.runtime": "Torch"}, "training.nodes.runtime: 'Torch'"),
    "storage class": (
        {"orchestration.workspace": "{size: 1Gi, storage_class: Fast SSD}"},
        "orchestration.workspace.storage_class: 'Fast SSD' is not a name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_as_the_project_is_loaded(folder: Path, case: str) -> None:
    overrides, says = REFUSED[case]
    with pytest.raises(ProjectError) as caught:
        load_project(folder, overrides)
    assert re.search(says, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        {"project_name": "f" * 40},
        {"project_name": "a-1"},
        {"project_name": "a"},
        {"deployment.target": "kserve", "deployment.namespace": "n" * 45},
        {"deployment.target": "local", "deployment.namespace": "n" * 63},
        {
            "deployment.target": "kserve",
            "deployment.mode": "Knative",
            "deployment.namespace": "n" * 63,
        },
        {"deployment.service_account": "team.a-b"},
        {"deployment.node_selector": "{cloud.google.com/gke-accelerator: nvidia-l4, x: ''}"},
        {"orchestration.tasks.train.labels": "{cost-centre: '4711', a.b_c: X.y_z}"},
        {"orchestration.workspace": "{size: 1Gi}"},
    ],
    ids=str,
)
def test_is_taken(folder: Path, overrides: dict[str, str]) -> None:
    load_project(folder, overrides)


TEXTS = st.text("aZ09-._/ ", max_size=5) | st.sampled_from(["a" * 40, "a" * 41, "a" * 63, "a" * 64])


@given(TEXTS)
def test_names_are_those_that_the_platform_takes(text: str) -> None:
    def takes(check: object, value: object) -> bool:
        try:
            check(value)  # type: ignore[operator]
        except ValueError:
            return False
        return True

    assert takes(check_label, text) == (bool(KSERVE.fullmatch(text)) and len(text) <= 40)
    assert takes(check_namespace, text) == (bool(DNS_LABEL.fullmatch(text)) and len(text) <= 63)
    parts = all(DNS_LABEL.fullmatch(part) for part in text.split("."))
    assert takes(check_object_name, text) == (parts and len(text) <= 253)
    assert takes(check_labels, {"k": text}) == (
        bool(LABEL_VALUE.fullmatch(text)) and len(text) <= 63
    )


@pytest.mark.parametrize(("part", "room"), [("predictor", 52), ("transformer", 50)])
def test_a_host_that_is_too_long_is_told_with_the_room_that_there_is(part: str, room: int) -> None:
    assert host_problem("p" * 40, "n" * (room - 40), part=part) == ""
    said = host_problem("p" * 40, "n" * (room - 39), part=part)
    assert f"shorten them to {room} together" in said and "this one 64" in said
