"""Every stage, by its own face, ended or out of disk at seeded points.

Each point has a folder, a registry and stores of its own. After the fault what can be read is whole; the
same task again comes to what an undisturbed one does, and leaves nothing half-done behind.
"""

import os
import random
import signal
from pathlib import Path

import pytest
from support import fault_job
from support.fault_job import DoneJob, found, stage_of
from support.fault_points import FULL, SCALE, SEED, Start, count, new_folder, undisturbed
from support.fault_stages import REFUSED

STAGES = tuple(fault_job.READERS)
SIGNALS = (signal.SIGKILL, signal.SIGTERM) if FULL else (signal.SIGKILL,)
POINTS = (SCALE + 1) // 2
"""Points of a stage and a signal, or of a stage and a full disk."""


class Bench:
    """A stage, what an undisturbed run of it comes to, and how long that takes."""

    def __init__(self, name: str, start: Start, job: DoneJob, tmp_path: Path) -> None:
        self.name, self.start, self.job, self.root = name, start, job, tmp_path
        self.stage = stage_of(name)
        for number in (-1, -2):  # the first also starts the server of processes
            folder = self.new(number)
            self.seconds = self.run(folder)
        self.expected = found(name, folder)
        self.largest = max(
            path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and path.name != "mlflow.db"
        )
        assert len(self.expected) == len(fault_job.READERS[name])

    def new(self, number: int) -> Path:
        folder = new_folder(self.root, number)
        self.job.lay_out(self.name, folder)
        return folder

    def begin(self, folder: Path, largest: int | None = None):  # type: ignore[no-untyped-def]
        environment = self.job.environment(folder)
        return self.start(self.stage, folder, str(self.job.root), environment, largest)

    def run(self, folder: Path) -> float:
        environment = self.job.environment(folder)
        return undisturbed(self.start, self.stage, folder, str(self.job.root), environment)

    def check_whole(self, folder: Path) -> int:
        """How many outputs there are, each as the undisturbed one."""
        there = found(self.name, folder)
        assert there.items() <= self.expected.items(), "what can be read is whole"
        return len(there)

    def check_again(self, folder: Path) -> None:
        """The next run is equal to an undisturbed one, and leaves nothing behind."""
        self.run(folder)
        assert found(self.name, folder) == self.expected
        assert [p for p in folder.rglob("*.partial") if not p.name.startswith(".mlflow")] == []
        check_registry(self.job.environment(folder)["MLFLOW_TRACKING_URI"], self.name)


def check_registry(uri: str, stage: str) -> None:
    """Nothing is registered twice, no alias is on an unpassed model, and no run is left open."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    versions = client.search_model_versions("name = 'shop'")
    assert len(versions) <= 1, "registered twice"
    if stage == "register":
        assert str(client.get_model_version_by_alias("shop", "challenger").version) == "1"
    experiments = [e.experiment_id for e in client.search_experiments()]
    open_runs = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    assert len(open_runs) == 0, "an MLflow run is left open"


@pytest.mark.parametrize("name", STAGES if FULL else ("features", "register", "monitor"))
def test_a_stage_is_ended_at_any_moment(
    name: str, start: Start, job: DoneJob, tmp_path: Path
) -> None:
    bench = Bench(name, start, job, tmp_path)
    for sign in SIGNALS:
        chance, tally = random.Random(f"{SEED} {name} {sign}"), count(name, sign.name)
        for number in range(POINTS):
            folder = bench.new(number + 100 * sign)
            process = bench.begin(folder)
            process.join(chance.uniform(0, bench.seconds))
            if process.is_alive():
                os.kill(process.pid or 0, sign)
            process.join(60)
            there = bench.check_whole(folder)
            tally.outcomes[f"with {there} of {len(bench.expected)} outputs, each whole"] += 1
            bench.check_again(folder)


@pytest.mark.parametrize("name", STAGES if FULL else ("features",))
def test_the_disk_is_full_for_a_stage(
    name: str, start: Start, job: DoneJob, tmp_path: Path
) -> None:
    bench = Bench(name, start, job, tmp_path)
    chance, tally = random.Random(f"{SEED} {name} disk"), count(name, "disk full")
    for number in range(POINTS):
        folder = bench.new(number)
        # Every other point: so small that not even a line or a manifest fits.
        most = 4_000 if number % 2 else bench.largest
        largest = chance.randrange(0, most)
        process = bench.begin(folder, largest=largest)
        process.join(240)
        output = (tmp_path / "output").read_text()
        assert process.exitcode is not None and process.exitcode != 0, output
        # Where what it prints does not fit either, it cannot say what is wrong.
        cut = len(output) >= largest
        assert process.exitcode == REFUSED or cut, output
        there = bench.check_whole(folder)
        said = "no room for an error" if cut else "an error"
        tally.outcomes[f"{said}, {there} of {len(bench.expected)} outputs, each whole"] += 1
        bench.check_again(folder)
