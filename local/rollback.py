"""What `slipway rollback` does: the settings of this machine or cluster, and progress for a person."""

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from slipway.components.config.checks.places import is_local
from slipway.components.config.project import LoadedProject
from slipway.components.contracts.release import Deployment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import EVENT_PREFIX
from slipway.local.workspace import Workspace


def roll_back_project(
    loaded: LoadedProject,
    workspace: Workspace,
    *,
    target: str,
    version: str | None,
    show: Callable[[str], None],
) -> Deployment:
    """Serves an earlier version of a project's model again.

    Args:
        loaded: the project.
        workspace: where local runs keep the registry, the log and the endpoint's state;
            environment variables take precedence.
        target: "local" or "kserve".
        version: the version to return to; None: the one that served before the champion.
        show: called with each step.

    Raises:
        SlipwayError: the older version does not take over; what served serves on. Or the cluster's
            registry or log is not named, or is a place of this machine.
    """
    from slipway.components.deploy.rollback import roll_back

    if target == "kserve":
        _refuse_places_of_this_machine(loaded.project.deployment.online != "none")
    os.environ.update(workspace.settings())
    if target == "local":
        # As `slipway run` starts it: the replayed traffic brings its own time.
        os.environ.setdefault("SLIPWAY_TRUST_REQUEST_TIME", "1")
    project = loaded.project
    config = project.deployment.model_copy(update={"target": target})
    terminal = sys.stdout

    def tell(line: str) -> None:
        with redirect_stdout(terminal):
            show(line)

    with redirect_stdout(_StepLines(tell)):
        return roll_back(project=project.project_name, config=config, version=version)


def _refuse_places_of_this_machine(online: bool) -> None:
    """The settings go into the endpoint's pods: those of a local run would lead nowhere there.

    Raises:
        SlipwayError: naming the variables.
    """
    names = ["MLFLOW_TRACKING_URI", "INFERENCE_LOG_URI"] + ["FEATURE_STORE_URI"] * online
    if unfit := [name for name in names if is_local(os.environ.get(name, ""))]:
        raise SlipwayError(
            f"{', '.join(unfit)}: not set, or a place that only this machine has. For --target kserve set"
            " what the namespace's slipway-config and slipway-secrets have."
        )


class _StepLines(io.TextIOBase):
    """Standard output of the work: a stage's events become lines, the rest passes as it is."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._line = show, ""

    def write(self, text: str) -> int:
        *whole, self._line = (self._line + text).split("\n")
        for line in whole:
            if line.startswith(EVENT_PREFIX):
                line = str(json.loads(line.removeprefix(EVENT_PREFIX)).get("message", ""))
            if line:
                self._show(line)
        return len(text)
