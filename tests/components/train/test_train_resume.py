"""Training that is stopped goes on as if it had not been: by error, SIGTERM and SIGKILL."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import ONNX
from slipway.components.contracts.splits import read_splits
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.source import Resident
from slipway.components.train.distributed.processes import WorkerJob, run_workers
from slipway.components.train.loop import TrainedMember, Training
from slipway.components.train.process.checkpoint import Checkpoint, checkpoint_root, fingerprint
from slipway.components.train.process.preemption import Preempted

CONFIG = TrainingConfig.model_validate(
    {
        "network": {"width": 16, "architecture": "mlp"},
        "members": 2,
        "epochs": 2,
        "batch_size": 128,
        "model": "network",
        "min_steps": 1,
        "checkpoint_seconds": 0,
    }
)


class Broken(RuntimeError):
    """What the test throws into the loop."""


@pytest.fixture
def prepared(make_splits: Any) -> Prepared:
    folder = make_splits(rows=700)
    return prepare(folder, read_splits(folder), "toy", CONFIG, torch.device("cpu"))


def training(prepared: Prepared, root: str = "", **changes: Any) -> Training:
    return Training(
        make_network=changes.pop("make_network", prepared.make_network),
        source=changes.pop("source", prepared.parts.source),
        validation=prepared.parts.validation,
        config=changes.pop("config", prepared.config),
        device=torch.device("cpu"),
        checkpoint=Checkpoint(root, "toy", prepared.identity),
        log=lambda values, step: None,
        scaled_names=prepared.scaled_names,
        **changes,
    )


def same(one: list[TrainedMember], two: list[TrainedMember]) -> bool:
    """Whether two trainings ended with the same bits."""
    return all(
        a.history == b.history
        and a.weights.keys() == b.weights.keys()
        and all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
        for a, b in zip(one, two, strict=True)
    )


def breaking_after(prepared: Prepared, steps: int) -> Callable[[], torch.nn.Module]:
    """Networks that raise at the training forward number `steps` + 1, counted over members."""
    count = 0

    def check(module: torch.nn.Module, _: Any) -> None:
        nonlocal count
        count += module.training
        if count > steps:
            raise Broken

    def make() -> torch.nn.Module:
        network = prepared.make_network()
        network.register_forward_pre_hook(check)
        return network

    return make


@pytest.mark.parametrize("steps", [0, 1, 5, 6, 11, 12, 17, 23])
def test_a_run_that_broke_ends_with_the_same_bits(
    steps: int, prepared: Prepared, tmp_path: Path
) -> None:
    whole = training(prepared).run({})
    root = str(tmp_path / "checkpoints")
    with pytest.raises(Broken):
        training(prepared, root, make_network=breaking_after(prepared, steps)).run({})
    again = training(prepared, root)
    saved = again.checkpoint.load() or {}
    assert bool(saved) == (steps > 0)
    assert same(whole, again.run(saved))


def test_another_seed_gives_other_weights(prepared: Prepared) -> None:
    one = training(prepared).run({})
    two = training(prepared, config=prepared.config.model_copy(update={"seed": 1})).run({})
    assert not same(one, two)
    assert not torch.equal(one[0].weights["output.weight"], one[1].weights["output.weight"]), (
        "the members of one model differ"
    )


def test_sigterm_saves_and_stops_at_once(prepared: Prepared, tmp_path: Path) -> None:
    root = str(tmp_path / "checkpoints")
    seen = 0

    def make() -> torch.nn.Module:
        network = prepared.make_network()

        def check(module: torch.nn.Module, _: Any) -> None:
            nonlocal seen
            seen += module.training
            if seen == 4:
                os.kill(os.getpid(), signal.SIGTERM)

        network.register_forward_pre_hook(check)
        return network

    config = prepared.config.model_copy(update={"checkpoint_seconds": 1e9})
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="member 1, epoch 1, step 4"):
        training(prepared, root, make_network=make, config=config).run({})
    assert signal.getsignal(signal.SIGTERM) is before
    again = training(prepared, root)
    saved = again.checkpoint.load()
    assert saved is not None
    assert saved["current"]["state"]["step"] == 4
    assert same(training(prepared).run({}), again.run(saved))


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    one = Checkpoint(str(tmp_path), "toy", fingerprint(rate=1))
    one.save({"x": 1})
    assert one.load() == {"x": 1}
    other = Checkpoint(str(tmp_path), "toy", fingerprint(rate=2))
    assert other.load() is None
    Path(one.path).rename(other.path)
    with pytest.raises(SlipwayError, match="another configuration"):
        other.load()
    Path(other.path).write_bytes(b"half a file")
    with pytest.raises(SlipwayError, match=r"cannot be read.*Delete it"):
        other.load()
    other.delete()
    assert other.load() is None


def test_a_store_that_fails_does_not_end_the_training(
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    whole = training(prepared).run({})
    monkeypatch.setattr(Checkpoint, "save", full)
    assert same(whole, training(prepared, str(tmp_path)).run({}))
    assert "could not be written: [Errno 28] No space left" in capfd.readouterr().out


def test_a_loss_that_is_not_finite_names_step_rate_and_feature(prepared: Prepared) -> None:
    rows = prepared.parts.source.rows  # type: ignore[attr-defined]
    scaled = rows.scaled.clone()
    column = prepared.scaled_names.index("skewed")
    scaled[:, column] = torch.where(torch.arange(len(rows)) == 5, torch.inf, scaled[:, column])
    source = Resident(rows=replace(rows, scaled=scaled))
    step = next(
        number
        for number, batch in enumerate(
            next(source.epoch(torch.Generator().manual_seed(0), 1, 128, 0))[1].split(128), 1
        )
        if 5 in batch
    )
    with pytest.raises(
        SlipwayError,
        match=rf"The loss was \S+ at member 1, epoch 1, step {step}, learning rate 0\.00\d+\. Not"
        r" finite in this batch: skewed\.$",
    ):
        training(prepared, source=source).run({})


def test_a_device_without_enough_memory_says_what_to_lower(prepared: Prepared) -> None:
    def make() -> torch.nn.Module:
        network = prepared.make_network()

        def allocate(*_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nGPU 0 has")

        network.register_forward_pre_hook(allocate)
        return network

    with pytest.raises(
        SlipwayError,
        match=r"out of memory with batches of 128 rows\. Lower training\.batch_size.*9 GiB\.\)$",
    ):
        training(prepared, make_network=make).run({})


def test_the_progress_line_says_loss_metric_speed_and_time_left(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import slipway.components.train.loop as module

    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.0)
    training(prepared, title="trial 2 of 9, ").run({})
    lines = [json.loads(line[len("[slipway] ") :]) for line in capfd.readouterr().out.splitlines()]
    shares = [line["done"] for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert re.fullmatch(
        r"trial 2 of 9, member 1 of 2, epoch 1 of 2, loss 0\.\d{4}, [\d,]+ rows/s, \d+ s left",
        lines[1]["message"],
    )
    assert re.fullmatch(
        r"trial 2 of 9, member 2 of 2, epoch 2 of 2, loss 0\.\d{4}, validation AUC 0\.\d{4},"
        r" [\d,]+ rows/s, 0 s left",
        lines[-1]["message"],
    )


@pytest.mark.parametrize(
    ("setting", "home", "storage", "root"),
    [
        ("s3://b/c", "/home", "s3://root/run/train/bundle", "s3://b/c"),
        ("", "/home", "s3://root/run/train/bundle", "/home/checkpoints"),
        ("", "", "s3://root/run/train/bundle", "s3://root/run/train/checkpoints"),
        ("", "", "gs://root/run/train/bundle", "gs://root/run/train/checkpoints"),
        ("", "", "/local/run/train/bundle", ""),
        ("", "", "minio://mlpipeline/run/train/bundle", ""),
    ],
)
def test_where_checkpoints_lie(
    setting: str, home: str, storage: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", home)
    assert checkpoint_root(setting, storage) == root


def test_a_checkpoint_in_an_object_store(tmp_path: Path) -> None:
    place = Checkpoint("memory://bucket/checkpoints", "toy", fingerprint(rate=1))
    place.save({"weights": {"a": torch.ones(2)}})
    saved = place.load()
    assert saved is not None
    assert torch.equal(saved["weights"]["a"], torch.ones(2))
    place.delete()
    assert place.load() is None


def test_a_failed_save_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Checkpoint(str(tmp_path), "toy", fingerprint())
    place.save({"step": 1})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        place.save({"step": 2})
    monkeypatch.undo()
    assert place.load() == {"step": 1}


def test_identity_follows_what_decides_the_weights(make_splits: Any) -> None:
    folder = make_splits(rows=400)
    meta = read_splits(folder)

    def identity(**changes: Any) -> str:
        config = CONFIG.model_copy(update=changes)
        return prepare(folder, meta, "toy", config, torch.device("cpu")).identity

    assert identity() == identity(threshold="youden") == identity(checkpoint_seconds=5.0)
    assert len({identity(), identity(seed=9), identity(learning_rate=0.1)}) == 3
    other = replace(meta, data_hash="other")
    assert prepare(folder, other, "toy", CONFIG, torch.device("cpu")).identity != identity()


STAGE = """
import sys
from pathlib import Path
from slipway.components.train.train import TrainingTask, train_model
splits, out = map(Path, sys.argv[1:])
train_model(TrainingTask(
    splits=splits, project="toy", seed=0, epochs=3, learning_rate=2e-3, gpus=0, allow_cpu=True,
    bundle=out / "bundle", report=out / "report.html",
    config={"network": {"width": 16, "architecture": "mlp"}, "members": 1, "batch_size": 8,
            "min_steps": 1, "checkpoint_seconds": 0.2, "model": "network"},
))
"""


def test_sigkill_in_the_stage_and_a_retry(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: the process is killed, the task runs again, the model is the same file."""
    splits = make_splits(rows=3000)
    models, runs = [], []
    for name, kill in (("whole", False), ("killed", True)):
        out, home = tmp_path / name, tmp_path / f"home-{name}"
        command = [sys.executable, "-c", STAGE, str(splits), str(out)]
        environment = {**os.environ, "SLIPWAY_HOME": str(home), "OMP_NUM_THREADS": "1"}
        if kill:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 120
            while not list(home.rglob("*.ckpt")) and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            assert not out.exists()
            assert list(home.rglob("*.ckpt"))
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert not list(home.rglob("*.ckpt")), "a finished training leaves no checkpoint"
        models.append(hash_file(out / "bundle" / ONNX))
        runs.append(done.stdout)
    assert models[0] == models[1]


def test_two_processes_train_as_one(make_splits: Any, tmp_path: Path) -> None:
    folder = make_splits(rows=515)
    config = CONFIG.model_copy(
        update={
            "members": 1,
            "network": CONFIG.network.model_copy(update={"dropout": 0.0}),
            "checkpoint_seconds": 1e9,
        }
    )
    alone = prepare(folder, read_splits(folder), "toy", config, torch.device("cpu"))
    one = training(alone).run({})
    job = WorkerJob(
        splits=str(folder),
        project="toy",
        config=config.to_struct(),
        device="cpu",
        run_id=None,
        checkpoints=str(tmp_path / "checkpoints"),
    )
    two = run_workers(job, 2)
    for first, second in zip(one[0].history, two[0].history, strict=True):
        assert second == pytest.approx(first, rel=1e-5)
    for name, weights in one[0].weights.items():
        torch.testing.assert_close(two[0].weights[name], weights, rtol=1e-3, atol=1e-5)


def test_sigterm_reaches_the_workers_and_a_retry_ends_well(
    make_splits: Any, tmp_path: Path
) -> None:
    """All processes stop after the same step, the first one saves, and the next try goes on."""
    folder = make_splits(rows=4000)
    config = CONFIG.model_copy(
        update={"members": 1, "epochs": 6, "batch_size": 8, "checkpoint_seconds": 1e9}
    )
    root = tmp_path / "checkpoints"
    job = WorkerJob(
        splits=str(folder),
        project="toy",
        config=config.to_struct(),
        device="cpu",
        run_id="run-1",
        checkpoints=str(root),
    )
    script = (
        "import sys, json;"
        "from slipway.components.train.distributed.processes import WorkerJob, run_workers;"
        "run_workers(WorkerJob(**json.loads(sys.argv[1])), 2)"
    )
    content = json.dumps(asdict(job) | {"run_id": None})
    process = subprocess.Popen(
        [sys.executable, "-c", script, content], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"rows/s" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert b"Preempted: Training received SIGTERM, and its workers saved their state" in errors
    (file,) = root.rglob("*.ckpt")
    state = torch.load(file, weights_only=True)["state"]["current"]["state"]
    assert 0 < state["epoch"] * 500 + state["step"] < 3000

    (member,) = run_workers(replace(job, run_id=None), 2)
    assert member.history[: len(state["history"])] == state["history"], "it went on, not anew"
    assert len(member.history) >= len(state["history"])


def test_a_worker_that_fails_is_an_error(tmp_path: Path) -> None:
    job = WorkerJob(
        splits=str(tmp_path / "nothing"),
        project="toy",
        config=CONFIG.to_struct(),
        device="cpu",
        run_id=None,
        checkpoints="",
    )
    with pytest.raises(SlipwayError, match="A training worker failed"):
        run_workers(job, 1)
