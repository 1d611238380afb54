"""The same task twice at one time: a doubled, or a retried one whose first is not dead."""

import random
from pathlib import Path

import pytest
from support import fault_job
from support.fault_job import DoneJob, found, stage_of
from support.fault_points import SCALE, SEED, Start, count, new_folder, undisturbed

from slipway.components.support.tracking import connect

STAGES = tuple(fault_job.READERS)
POINTS = (SCALE + 1) // 2


@pytest.mark.many_points  # the suite has two registers and two deploys at one time
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_twice_at_one_time(
    name: str, start: Start, job: DoneJob, tmp_path: Path
) -> None:
    """Both write one place, registry and store: what is there then is as after one undisturbed run."""
    chance, tally = random.Random(f"{SEED} {name} twice"), count(name, "twice at one time")
    folder = new_folder(tmp_path, -1)
    job.lay_out(name, folder)
    given = (stage_of(name), folder, str(job.root), job.environment(folder))
    seconds = undisturbed(start, *given)
    expected = found(name, folder)
    for number in range(POINTS):
        folder = new_folder(tmp_path, number)
        job.lay_out(name, folder)
        given = (stage_of(name), folder, str(job.root), job.environment(folder))
        first = start(*given)
        first.join(chance.uniform(0, seconds / 2))
        second = start(*given)
        for process in (first, second):
            process.join(240)
        ended = sorted((first.exitcode == 0, second.exitcode == 0))
        assert ended[-1], (tmp_path / "output").read_text()
        assert found(name, folder) == expected
        assert [p for p in folder.rglob("*.partial") if not p.name.startswith(".mlflow")] == []
        both = "both ended well" if ended[0] else "one ended well, the other with an error"
        tally.outcomes[f"{both}; one undisturbed run's results"] += 1
        undisturbed(start, *given)
        assert found(name, folder) == expected
        versions = connect(job.environment(folder)["MLFLOW_TRACKING_URI"]).list_versions("shop")
        assert len(versions) <= 1 or name == "monitor", "registered twice"
