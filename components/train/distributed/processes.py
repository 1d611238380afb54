"""Training on all devices of a task: torchrun workers, each holding the table and a share of a batch.

The stage writes a job, a folder or an object-store prefix that every process can read, starts the
workers, and reads the trained members back from it:

    job.json       where the splits are, the settings, the MLflow run, the device
    splits/        the split tables, where the job leaves this machine
    members.pt     written by the first worker at the end
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import part_variable

if TYPE_CHECKING:
    from slipway.components.train.loop import TrainedMember

JOB = "job.json"
MEMBERS = "members.pt"
WORKER = "slipway.components.train.distributed.worker"
"""The program of each process, here and on nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """What a worker needs to know.

    Attributes:
        splits: folder of the split tables; empty: `splits` below the job.
        config: the `training` section.
        device: "cuda" or "cpu".
        run_id: the MLflow run to log into.
        checkpoints: root of the checkpoints.
        seconds: that all members may take; None: as long as they do.
    """

    splits: str
    project: str
    config: dict[str, object]
    device: str
    run_id: str | None
    checkpoints: str
    seconds: float | None = None


def write_job(uri: str, job: WorkerJob) -> None:
    """Writes job.json below a folder or an object-store prefix."""
    import fsspec

    system, path = fsspec.core.url_to_fs(uri)
    system.makedirs(path, exist_ok=True)
    system.pipe_file(f"{path}/{JOB}", json.dumps(asdict(job)).encode())


def read_job(uri: str) -> WorkerJob:
    """Reads job.json."""
    import fsspec

    system, path = fsspec.core.url_to_fs(uri)
    return WorkerJob(**json.loads(system.cat_file(f"{path}/{JOB}")))


@contextmanager
def job_splits(uri: str, job: WorkerJob) -> Iterator[Path]:
    """The split tables as a local folder, copied from the job where it carries them."""
    if job.splits:
        yield Path(job.splits)
        return
    import fsspec

    system, path = fsspec.core.url_to_fs(uri)
    with tempfile.TemporaryDirectory() as folder:
        for file in system.ls(f"{path}/splits", detail=False):
            system.get_file(file, f"{folder}/{file.rpartition('/')[2]}")
        yield Path(folder)


def send_splits(uri: str, folder: Path) -> None:
    """Copies the split tables to where other machines can read them."""
    import fsspec

    system, path = fsspec.core.url_to_fs(uri)
    system.makedirs(f"{path}/splits", exist_ok=True)
    for file in sorted(folder.iterdir()):
        system.put_file(str(file), f"{path}/splits/{file.name}")


def write_members(uri: str, members: "list[TrainedMember]") -> None:
    """Writes the trained members: the last thing that the first worker does."""
    import fsspec
    import torch

    content = io.BytesIO()
    torch.save([{k: getattr(m, k) for k in m.__slots__} for m in members], content)
    system, path = fsspec.core.url_to_fs(uri)
    system.pipe_file(f"{path}/{MEMBERS}", content.getvalue())


def read_members(uri: str) -> "list[TrainedMember]":
    """Reads the trained members.

    Raises:
        SlipwayError: the workers ended without writing them.
    """
    import fsspec
    import torch

    from slipway.components.train.loop import TrainedMember

    system, path = fsspec.core.url_to_fs(uri)
    if not system.exists(f"{path}/{MEMBERS}"):
        raise SlipwayError(f"The training workers ended, but left no {MEMBERS} at {uri}.")
    content = torch.load(io.BytesIO(system.cat_file(f"{path}/{MEMBERS}")), weights_only=True)
    return [TrainedMember(**member) for member in content]


def remove_job(uri: str) -> None:
    """Deletes the job's files."""
    import fsspec

    system, path = fsspec.core.url_to_fs(uri)
    if system.exists(path):
        system.rm(path, recursive=True)


def run_workers(job: WorkerJob, processes: int) -> "list[TrainedMember]":
    """Runs the job on this machine with torchrun, one worker a device, and waits for it.

    SIGTERM reaches the workers too, so that they save themselves.

    Raises:
        SlipwayError: a worker failed; its own message is on the terminal above.
        Preempted: this process received SIGTERM.
    """
    import signal

    from slipway.components.train.process.preemption import Preempted

    with tempfile.TemporaryDirectory() as folder:
        write_job(folder, job)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(processes),
            "-m", WORKER, folder,
        ]  # fmt: skip
        variables = {"OMP_NUM_THREADS": "1", **os.environ, **part_variable()}
        process = subprocess.Popen(command, env=variables)
        preempted = False

        def stop(*_: object) -> None:
            nonlocal preempted
            preempted = True
            process.terminate()

        before = signal.signal(signal.SIGTERM, stop)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
            if process.poll() is None:
                process.kill()
                process.wait()
        if preempted:
            raise Preempted("Training received SIGTERM, and its workers saved their state.")
        if code:
            raise SlipwayError(
                f"A training worker failed: torchrun ended with code {code}. The worker's own"
                " message stands above."
            )
        return read_members(folder)
