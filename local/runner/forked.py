"""Starts a stage from the process that runs the pipeline, with kfp's libraries and MLflow imported.

A stage's own interpreter would import kfp and MLflow anew, which together is half of what a small table
costs. So on Linux the runner forks, after these imports and before any work: the child has its own copy
of all memory, runs the component's code with kfp's executor as the compiled command would, and ends.

Safe here since the runner has imported libraries and used none: only then is a fork whole. It has no
thread of Python's, which is seen to at each fork; OpenBLAS, whose threads numpy starts, ends them before
a fork and begins anew after it. Polars does not survive a fork, so MLflow is imported without it.
"""

import atexit
import builtins
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from slipway.components.support import environment, tracking

RUNTIME = "_KFP_RUNTIME"
"""The variable by which kfp knows, at its import, that it is in a task."""
_COMMAND = "-m kfp.dsl.executor_main"
_MODULE = "--component_module_path"
_FILE = "ephemeral_component.py"
_print, _filters = builtins.print, list(warnings.filters)
# Stages that ask MLflow, and those before them that take less time than its import.
_ASKING, _SHORT = (
    frozenset({"train", "evaluate", "register", "deploy"}),
    frozenset({"ingest", "validate"}),
)
_SIGNING = "register"
"""The stage that has the key which signs models; no other has use of it."""
Run = Callable[..., int]


class ForkedStages:
    """Runs a stage's command in a fork of this process, where that is safe and it is one of kfp's own.

    Args:
        otherwise: runs any other command; kfp's own function.
        stages: names of the components that the pipeline may run.
    """

    def __init__(self, otherwise: Run, stages: set[str]) -> None:
        self._otherwise = otherwise
        self._asks_mlflow = bool(_ASKING & stages)

    def __call__(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """In the place of `kfp.local.subprocess_task_handler.run_local_subprocess`."""
        found = _source_and_arguments(full_command)
        if found is None or sys.platform != "linux" or threading.active_count() > 1:
            return self._otherwise(full_command=full_command, env_vars=env_vars)
        reader, writer = os.pipe()
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_run_stage, args=(*found, env_vars or {}, writer))
        sys.stdout.flush()
        sys.stderr.flush()
        child.start()
        os.close(writer)
        try:
            with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
                if found[1][-1] not in _SHORT:
                    self._import_for_those_after()
                for line in lines:
                    print(line, end="")
        except BaseException:
            # Python waits for its children at its end, and this one would wait for a reader.
            child.terminate()
            raise
        print("\n")
        child.join()
        # None where nobody may wait for children (SIGCHLD is ignored): how it ended is not known.
        return 1 if child.exitcode is None else child.exitcode

    def _import_for_those_after(self) -> None:
        """MLflow's client, while a stage works that does not need it from here."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        # Without a server each stage that needs one says so itself.
        if self._asks_mlflow and uri:
            self._asks_mlflow = False
            tracking.import_client(uri)


def _source_and_arguments(command: list[str]) -> tuple[str, list[str]] | None:
    """The component's code and kfp's arguments, where a command does nothing but run them."""
    if len(command) < 5 or command[:1] != ["sh"] or "pip install" in command[2]:
        return None
    script = " ".join(command[2].split())
    begins = 'program_path=$(mktemp -d) printf "%s" "$0" > "$program_path/ephemeral_component.py" '
    ends = f'{_COMMAND} {_MODULE} "$program_path/{_FILE}" "$@"'
    return (
        (command[3], command[4:]) if script.startswith(begins) and script.endswith(ends) else None
    )


def _run_stage(source: str, arguments: list[str], variables: dict[str, str], output: int) -> None:
    """The child: makes itself what a new interpreter would be, and runs the component."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the run's lock among them
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    builtins.print = _print
    warnings.filters[:] = _filters  # type: ignore[index]
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)
    atexit._clear()
    os.environ.update({**variables, RUNTIME: "true"})
    if arguments[-1] != _SIGNING:
        for name in os.environ.keys() - environment.without_signers(os.environ).keys():
            del os.environ[name]
    program = Path(tempfile.mkdtemp()) / _FILE
    program.write_text(source, encoding="utf-8")
    sys.argv = ["executor_main", _MODULE, str(program), *arguments]
    try:
        from kfp.dsl.executor_main import executor_main

        executor_main()
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()
