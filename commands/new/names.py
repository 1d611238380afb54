"""What a component may be called, and the texts that its files are made of."""

import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import get_args

from slipway.components.config.orchestration import TaskName
from slipway.components.support.errors import ProjectError
from slipway.components.support.images import STAGES

# Of a Kubernetes label's value, less what Kubeflow puts before and behind a task's name.
_LONGEST = 40
# Rooms of `slipway.components` that are no stages.
_ROOMS = ("config", "contracts", "metrics", "support")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFiles:
    """What the command writes: paths below the folder to contents.

    Attributes:
        advice: the commands that come next.
    """

    new: Mapping[str, str]
    advice: str
    changed: Mapping[str, str] = field(default_factory=dict)


def require_name(name: str) -> None:
    """Refuses what cannot be a component's name.

    Raises:
        ProjectError: it is no Python name in lower case, is too long, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_"):
        near = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", name.lower())).strip("_")
        hint = f" Say {near}." if re.fullmatch(r"[a-z][a-z0-9_]*", near) else ""
        raise ProjectError(
            f"'{name}' is no name for a component: it is a Python package and a function, so write"
            f" lower-case letters, digits and _, a letter first.{hint}"
        )
    if len(name) > _LONGEST:
        raise ProjectError(
            f"'{name}' has {len(name)} characters, and a pod's label has room for {_LONGEST}: say it"
            " shorter."
        )
    tasks = {task.replace("-", "_") for task in get_args(TaskName)}
    if name in {*STAGES, *tasks, *_ROOMS}:
        raise ProjectError(f"Slipway has a task or a package '{name}' already: take another name.")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in sys.stdlib_module_names:
        raise ProjectError(f"Python has a word or a module '{name}' already: take another name.")


def filled(template: str, **values: str) -> str:
    """A file's text from a template of this package, with the values put in."""
    folder = resources.files("slipway.commands.new").joinpath("templates")
    text = folder.joinpath(f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def result_class(name: str) -> str:
    """The name of a component's result, as in DedupeResult."""
    return "".join(part.capitalize() for part in name.split("_")) + "Result"
