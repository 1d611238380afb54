"""CPU seconds from the start of the process to the first training step, against a bare `import torch`.

    make bench NAME=train_start

The table is small, so that what is measured is imports and set-up, not the reading of data.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Row, interleave, report, run_python
from benchmarks.public_tables import public_table

STAGE = """
import sys
from pathlib import Path
from slipway.components.train.train import TrainingTask, train_model
import slipway.components.train.loop as loop
def stop(*_):
    import os
    os._exit(0)
loop.batch_loss = stop
train_model(TrainingTask(splits=Path(sys.argv[1]), project="bench", seed=0,
    config={"model": "network", "network": {"architecture": "mlp"}}, epochs=1,
    learning_rate=1e-3, gpus=0, allow_cpu=True, bundle=Path(sys.argv[1]) / "bundle",
    report=Path(sys.argv[1]) / "report.html"))
"""

# As abruptly as the stage above: taking torch down costs about half a second, and is no part of a start.
BARE = "import os, torch; os._exit(0)"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fair"
        folder.mkdir()
        public_table(folder, "fair")
        env = {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db", "OMP_NUM_THREADS": "1"}
        ours, theirs = interleave(
            lambda: run_python(STAGE, str(folder), env=env)["cpu_s"],
            lambda: run_python(BARE, env=env)["cpu_s"],
            times=5,
        )
    report(
        "train_start",
        [Row("start to first step", "import torch", "CPU s", ours, theirs, reach="≤ 2")],
    )


if __name__ == "__main__":
    main()
