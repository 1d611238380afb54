"""`slipway` run as a user runs it: a project, a folder for runs, settings that make them small."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLIPWAY = Path(sys.executable).parent / "slipway"


def free_port() -> int:
    """A loopback port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Job:
    """A folder for runs on a slice of the flights, and the settings that make them small."""

    out: Path
    root: Path
    settings: tuple[str, ...]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `slipway run` on the slice."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.root, capture_output=True, text=True, env=clean()
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def command(self, *arguments: str) -> list[str]:
        """The command line of `run`."""
        settings = [part for setting in self.settings for part in ("--set", setting)]
        return [str(SLIPWAY), "run", "--out", str(self.out), *settings, *arguments]

    def slipway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs another command on the same folder."""
        command = [str(SLIPWAY), *arguments, "--out", str(self.out)]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, env=clean())

    def batch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a batch command on the slice."""
        done = self.slipway(
            *arguments, *(part for setting in self.settings for part in ("--set", setting))
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def summary(self) -> dict[str, Any]:
        """What the last run wrote."""
        return json.loads((self.out / "summary.json").read_text())

    def stop(self) -> None:
        """Stops the predictors of this folder."""
        subprocess.run([str(SLIPWAY), "stop", "--out", str(self.out)], check=True, env=clean())


def clean() -> dict[str, str]:
    """The environment without settings that would lead a run elsewhere."""
    ours = ("MLFLOW_", "FEAST_", "FEATURE_", "SLIPWAY_", "INFERENCE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
