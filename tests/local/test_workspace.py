"""What a workspace keeps when it is pruned: what the cache, a link or the served model needs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.components.support.errors import SlipwayError
from slipway.local.workspace import KEPT_RUNS, Workspace, source_version


def make_run(workspace: Workspace, name: str, age: int, model: str = "") -> Path:
    """A run's outputs as kfp names them, `age` seconds old."""
    folder = workspace.outputs / f"shop-{name}-2026-11-27-07-{age // 60:02d}-{age % 60:02d}-231018"
    (folder / "evaluate").mkdir(parents=True)
    (folder / "evaluate" / "card").write_text("<html>")
    if model:
        (folder / "register").mkdir()
        (folder / "register" / "release").write_text(json.dumps({"model_hash": model}))
    os.utime(folder, (1.7e9 - age, 1.7e9 - age))
    return folder


def kept(workspace: Workspace) -> set[str]:
    return {run.name for run in workspace.outputs.iterdir()}


def test_many_scores_take_nothing_from_training(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    training = make_run(workspace, "training", 3000)
    monitoring = make_run(workspace, "monitoring", 2900)
    scores = [make_run(workspace, "scoring", 100 * i) for i in range(KEPT_RUNS + 3)]
    workspace.prune()
    assert kept(workspace) == {run.name for run in (training, monitoring, *scores[:KEPT_RUNS])}


def test_a_run_that_the_cache_answered_from_counts_as_new(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    first = make_run(workspace, "training", 3000)
    others = [make_run(workspace, "training", 100 * i) for i in range(KEPT_RUNS)]
    workspace.use(first / "evaluate" / "card")
    workspace.use("pass")  # a parameter is no path
    workspace.use(workspace.outputs / "gone" / "card")
    workspace.prune()
    assert first.name in kept(workspace)
    assert kept(workspace) == {first.name, *(run.name for run in others[: KEPT_RUNS - 1])}


def test_what_a_link_leads_to_and_what_serves_is_kept_whatever_its_age(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    for i in range(KEPT_RUNS):
        make_run(workspace, "training", i)
        make_run(workspace, "monitoring", i)
    served = make_run(workspace, "training", 3000, model="a" * 64)
    linked = make_run(workspace, "training", 3100, model="b" * 64)
    told = make_run(workspace, "monitoring", 3200)
    make_run(workspace, "training", 3300, model="c" * 64)
    state = workspace.home / "endpoints" / "shop" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"stable": {"model_hash": "a" * 64}}))
    card = str(linked / "evaluate" / "card")
    workspace.summary.write_text(json.dumps({"reports": {"model card": card}}))
    route = tmp_path / "monitoring" / "shop" / "routes" / "ops.json"
    route.parent.mkdir(parents=True)
    route.write_text(json.dumps({"LOW_ACCURACY": {"report": str(told / "monitor" / "report")}}))
    workspace.prune()
    old = {name for name in kept(workspace) if "07-5" in name}
    assert old == {served.name, linked.name, told.name}
    # A state that cannot be read keeps nothing, and breaks nothing.
    state.write_text("{")
    workspace.summary.unlink()
    route.unlink()
    workspace.prune()
    assert len(kept(workspace)) == 2 * KEPT_RUNS


def test_only_the_tables_make_another_version_of_the_data(tmp_path: Path) -> None:
    """A project may lie in the folder of its data: what a run writes there is no data."""
    orders, visits = tmp_path / "orders.csv", tmp_path / "visits"
    visits.mkdir()
    orders.write_text("id\n1\n")
    (visits / "may.csv").write_text("id\n1\n")
    sources = [str(orders), str(visits)]
    before = source_version(sources)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/summary.json").write_text("{}")
    assert source_version(sources) == before != source_version([str(orders)])
    (visits / "june.csv").write_text("id\n2\n")
    changed = source_version(sources)
    assert changed != before
    orders.write_text("id\n1\n2\n")
    assert source_version(sources) != changed
    assert source_version([*sources, "s3://bucket/table"]) == ""


@pytest.mark.parametrize(
    "name",
    [
        "FEATURE_STORE_URI",
        "INFERENCE_LOG_URI",
        "MONITORING_URI",
        "SLIPWAY_HOME",
        "MLFLOW_TRACKING_URI",
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_a_run_begins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "/sys/slipway/place"  # nobody may make a file there, not even root
    monkeypatch.setenv(name, f"sqlite:///{place}" if name.startswith("MLFLOW") else place)
    workspace = Workspace.at(tmp_path / "run")
    with (
        pytest.raises(
            SlipwayError, match=rf"{place} cannot be written: .*another place with {name}"
        ),
        workspace.locked(),
    ):
        pass
    assert not workspace.root.exists(), "nothing is made"


def test_a_full_disk_and_a_folder_of_one_s_own_are_said(tmp_path: Path) -> None:
    for root, said in (
        (tmp_path / "run", "cannot be written: File too large. .* another place with --out"),
        (Path("/sys/run"), "/sys/run cannot be written: .* another place with --out"),
    ):
        program = (
            "import resource, sys; from pathlib import Path;"
            "from slipway.local.workspace import Workspace;"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
            "Workspace.at(Path(sys.argv[1])).locked().__enter__()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(root)], capture_output=True, text=True
        )
        assert re.search(said, done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_written_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"rows")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://bucket/log")
    workspace = Workspace.at(tmp_path / "run")
    with workspace.locked():
        assert database.read_bytes() == b"rows"
        assert sorted(path.name for path in workspace.root.iterdir()) == [".busy", ".lock", ".work"]
