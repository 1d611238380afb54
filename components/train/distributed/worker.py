"""One of several training processes: `torchrun -m slipway.components.train.distributed.worker JOB`."""

import sys
from typing import TYPE_CHECKING

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.splits import read_splits
from slipway.components.support.secrets import guard_output
from slipway.components.train.distributed.processes import (
    WorkerJob,
    job_splits,
    read_job,
    write_members,
)
from slipway.components.train.distributed.world import World
from slipway.components.train.process.device import keep_freed_memory

if TYPE_CHECKING:
    import torch

    from slipway.components.train.loop import TrainedMember


def work(uri: str) -> None:
    """Takes part in the job at `uri`; the first process writes its result."""
    import torch
    import torch.distributed as dist

    job = read_job(uri)
    dist.init_process_group("nccl" if job.device == "cuda" else "gloo")
    try:
        world = World(rank=dist.get_rank(), size=dist.get_world_size())
        device = torch.device(job.device)
        if device.type == "cuda":
            device = torch.device("cuda", dist.get_node_local_rank())
            torch.cuda.set_device(device)
        members = _train(uri, job, world, device)
        if world.rank == 0:
            write_members(uri, members)
    finally:
        dist.destroy_process_group()


def _train(uri: str, job: WorkerJob, world: World, device: "torch.device") -> "list[TrainedMember]":
    import torch

    from slipway.components.train.data.preparation import prepare
    from slipway.components.train.loop import Training
    from slipway.components.train.process.budget import Budget
    from slipway.components.train.process.checkpoint import Checkpoint
    from slipway.components.train.tracking import Tracker

    settings = TrainingConfig.parse(job.config, "training")
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    with job_splits(uri, job) as folder:
        prepared = prepare(folder, read_splits(folder), job.project, settings, device)
    checkpoint = Checkpoint(job.checkpoints, job.project, prepared.identity)
    tracker = None
    if world.rank == 0 and job.run_id:
        tracker = Tracker(job.project, job.run_id, leave_open=True)
    training = Training(
        make_network=prepared.make_network,
        source=prepared.parts.source,
        validation=prepared.parts.validation,
        config=prepared.config,
        device=device,
        checkpoint=checkpoint,
        head=prepared.parts.head,
        log=tracker.metrics if tracker else lambda values, step: None,
        run_id=lambda: job.run_id,
        scaled_names=prepared.scaled_names,
        world=world,
        budget=Budget() if job.seconds is None else Budget(seconds=job.seconds),
    )
    members = training.run(checkpoint.load() or {})
    if tracker:
        tracker.finish()
    return members


if __name__ == "__main__":
    guard_output()
    work(sys.argv[1])
