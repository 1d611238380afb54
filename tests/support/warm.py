"""`slipway` in forks of one process that has the stages' libraries imported: many runs of small tables.

Half of what such a run takes is imports. What runs is what a person starts: the command, the child that
runs the pipeline, and its stages, each in a process of its own. Polars is imported in each anew, since it
does not survive a fork.
"""

import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LIBRARIES = (
    "cyclonedx.output.json", "feast", "matplotlib.backends.backend_svg",
    "matplotlib.ticker", "mlflow.onnx", "onnx", "onnxruntime", "pandas", "pyarrow.dataset",
    "sklearn.linear_model", "torch.export", "torch.onnx", "xgboost", "slipway.commands.console.runs",
    "slipway.local.run", "slipway.pipelines.compiler",
)  # fmt: skip
STAGES = ("ingest", "validate", "features", "train", "evaluate", "register", "deploy", "monitor")


class Warm:
    """Runs commands, one after another."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def slipway(self, folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
        """Runs a command in a folder, with these variables too; its exit code and all that it printed."""
        printed = folder / ".printed"
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([str(folder), arguments, variables]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return code, printed.read_text()


@contextmanager
def warm_slipway() -> Iterator[Warm]:
    """The process, until the block ends."""
    from support.small_project import plain  # imports Polars

    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "support.warm", f"{folder}/mlflow.db"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain(),
            cwd=Path(__file__).parents[1],
        ) as process:  # fmt: skip
            yield Warm(process)
            assert process.stdin
            process.stdin.close()


class Forked:
    """The child that runs the pipeline, in the place of its `Popen`."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        output, writer = os.pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=self._work, args=(arguments, environment, writer))
        self._process.start()
        os.close(writer)
        assert self._process.pid
        self.pid = self._process.pid
        self.stdout = os.fdopen(output, encoding="utf-8", errors="replace")
        self.terminate, self.poll = self._process.terminate, lambda: self._process.exitcode

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)

    @staticmethod
    def _work(arguments: list[str], environment: dict[str, str], output: int) -> None:
        from slipway.local.runner import local_run

        os.setsid()
        os.environ.clear()
        os.environ.update(environment)
        _be_program(local_run.main, arguments, output)


def _be_program(main: Callable[[], None], arguments: list[str], output: int) -> None:
    """Makes this fork the process that a command line starts."""
    import tempfile

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    tempfile.tempdir = None
    sys.argv = arguments
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run(folder: str, arguments: list[str], variables: dict[str, str]) -> None:
    """The fork of one command."""
    from slipway.commands.cli import main
    from slipway.local.runner import execution

    begin = subprocess.Popen

    def popen(command: list[str], **rest: Any) -> Any:
        if command[1:3] == ["-m", execution.local_run.__name__] and "polars" not in sys.modules:
            return Forked(command[2:], rest["env"])
        return begin(command, **rest)

    subprocess.Popen = popen  # type: ignore[misc,assignment]
    os.chdir(folder)
    os.environ.update(variables)
    if arguments[0] == "run" and not Path("build/run/mlflow.db").exists():
        Path("build/run").mkdir(parents=True)
        shutil.copy(sys.argv[1], "build/run/mlflow.db")
    output = os.open(".printed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _be_program(main, ["slipway", *arguments], output)


def _import_libraries() -> None:
    from slipway.components.support import tracking
    from slipway.components.support.libraries.imports import without
    from slipway.local.runner.local_run import _import_kfp

    _import_kfp()
    tracking.import_client("sqlite:///")
    with without("polars"):
        for name in LIBRARIES:
            importlib.import_module(name)
        for stage in STAGES:
            package = importlib.import_module(f"slipway.components.{stage}")
            for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
                if not module.name.endswith(".component"):
                    importlib.import_module(module.name)


def _make_database(uri: str) -> None:
    """MLflow's tables, empty: to make them takes two seconds, and a copy of them none."""
    process = os.fork()
    if not process:
        import mlflow

        mlflow.MlflowClient(uri).search_experiments()
        os._exit(0)
    os.waitpid(process, 0)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_libraries()
    _make_database(f"sqlite:///{sys.argv[1]}")
    # A fork whose collector goes through all that is imported copies all of that memory.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
