"""What the double keeps, the faults that it is told of, and its refusals."""

import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

PREFIX = "/apis/v2beta1"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NEVER = "1970-01-01T00:00:00Z"
STOPPABLE = ("PENDING", "RUNNING")


class Refused(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class Fault:
    """What happens to the next requests that match.

    kind: an HTTP status, "drop" (before acting), "drop after" (after acting), or "slow".
    """

    method: str
    path: str
    kind: int | str
    times: int = 1
    retry_after: str = ""
    seconds: float = 0.0


@dataclass
class Double:
    """The server's state; the tests look at it and change it."""

    url: str = ""
    token: str = ""
    namespaces: set[str] = field(default_factory=set)
    multi_user: bool = False
    # Kind and verb, as a role in the namespace gives them; None: everything is allowed.
    rights: set[tuple[str, str]] | None = None
    page_size: int = 100
    # Orders and delays; each run has its own.
    seed: int = 0
    max_parameter_bytes: int = 10_000
    refuse_model: bool = False
    fail_task: str = ""
    # Whether the driver of `fail_task` fails, not its container.
    fail_driver: bool = False
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    on_request: Callable[[str], None] = lambda line: None

    def chance(self, run: str) -> random.Random:
        """The order and the delays of one run, the same at each look."""
        return random.Random(f"{self.seed} {list(self.runs).index(run)}")

    def now(self) -> str:
        """A second later at each call, so that creation times tell the order."""
        self.clock += timedelta(seconds=1)
        return self.clock.isoformat().replace("+00:00", "Z")

    def titles(self) -> list[tuple[str, str]]:
        """The recurring runs by name and status."""
        return sorted((r["display_name"], r["status"]) for r in self.recurring.values())

    def writes(self) -> list[str]:
        """The requests that were not reads."""
        return [line for line in self.requests if not line.startswith("GET")]
