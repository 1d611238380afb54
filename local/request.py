"""What a local run asks of the process that runs it."""

import json
from dataclasses import asdict, dataclass
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
        environment: environment variables for the containers of the runner "docker".
        mounts: folders that those containers see under the same path, besides `root`.
    """

    pipeline: str
    arguments: dict[str, Any]
    root: str
    cache: str
    runner: str
    environment: dict[str, str]
    mounts: list[str]


def request_json(request: RunRequest) -> str:
    """The request as the file that this program reads."""
    return json.dumps(asdict(request))
