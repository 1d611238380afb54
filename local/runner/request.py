"""What a local run asks of the process that runs it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run.

    Attributes:
        pipeline: the compiled YAML.
        arguments: pipeline parameters.
        root: folder for the tasks' outputs.
        cache: folder of the cache; one for each state of the code.
        runner: "subprocess" or "docker".
        environment: environment variables for the containers of the runner "docker". Some are secrets:
            the file has their names alone, and the process has the values in its own environment.
        lock: file that the process holds as long as it works.
        mounts: folders that those containers see under the same path, besides `root`.
    """

    pipeline: str
    arguments: dict[str, Any]
    root: str
    cache: str
    runner: str
    environment: dict[str, str]
    mounts: list[str]
    lock: str


def request_json(request: RunRequest) -> str:
    """The request as the file that `read_request` reads."""
    return json.dumps({**asdict(request), "environment": sorted(request.environment)})


def read_request(path: Path) -> RunRequest:
    """The request of a file, with the variables' values as this process has them."""
    content = json.loads(path.read_text(encoding="utf-8"))
    values = {name: os.environ[name] for name in content["environment"]}
    return RunRequest(**{**content, "environment": values})
