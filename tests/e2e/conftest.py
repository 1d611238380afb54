"""The main job on two months of flights, run once as a user would run it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.jobs import Job, free_port


@pytest.fixture(scope="session")
def make_job(repository: Path, lake: Path) -> Callable[..., Job]:
    """Makes jobs on the first ten weeks of 2013."""

    def make(out: Path) -> Job:
        settings = (
            f"data.root={lake}",
            "data.window.end=2013-03-11T05:00:00Z",
            "features.split.validation=7d",
            "features.split.test=10d",
            # One epoch leads the logistic regression by .001 or not, by the processor's rounding; two
            # lead it by .01.
            "training.epochs=2",
            "training.members=1",
            "training.min_steps=1",
            "training.network.architecture=mlp",
            "gate.auc=0.6",
            "gate.f1=0.3",
            "gate.accuracy=0.5",
            f"deployment.port={free_port()}",
        )
        return Job(out=out, root=repository, settings=settings)

    return make


@pytest.fixture(scope="session")
def job(make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job whose predictor is stopped at the end."""
    job = make_job(tmp_path_factory.mktemp("main-job") / "run")
    yield job
    job.stop()
