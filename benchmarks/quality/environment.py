"""The environment of the systems that Slipway is compared with, apart from its own.

AutoGluon brings LightGBM, XGBoost and CatBoost, and asks for another pyarrow than Slipway's.
"""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import FOLDER

AUTOGLUON = "autogluon.tabular[catboost,fastai,lightgbm,xgboost]==1.6.3"


def peers_python() -> Path:
    """The interpreter of the environment below build/bench, which is made where it is not there (2 GB).

    Raises:
        SystemExit: it could not be made.
    """
    folder = (FOLDER / "peers").resolve()
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.is_file() and stamp.read_text() == AUTOGLUON:
        return python
    print(f"Installing {AUTOGLUON} into {folder} …", flush=True)
    # By pip, which takes a build for the CPU that lies on the machine; uv then counts it as installed.
    torch = importlib.metadata.version("torch").partition("+")[0]
    uv = Path(sys.executable).parent / "uv"
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", "--clear", folder],
        [python, "-m", "pip", "install", "--quiet", f"torch=={torch}"],
        [uv, "pip", "install", "--quiet", "--python", python, "--compile-bytecode", AUTOGLUON],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"the environment of AutoGluon could not be made: {done.stderr[-2000:]}"
            )
    stamp.write_text(AUTOGLUON)
    return python
