"""Stages of the small job as functions of a folder, for processes that are disturbed."""

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.components.contracts.dataset import read_manifest
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.support.errors import SlipwayError
from slipway.components.validate.validate import validate_dataset
from support.registration import passed, register

REFUSED = 3
"""Exit code of a process that said what was wrong."""
CONFIG: dict[str, Any] = {"tables": {"orders": {"path": "orders.parquet", "time": "at"}}}
SCHEMA: dict[str, Any] = {
    "tables": {
        "orders": {
            "properties": {"price": {"type": "number", "minimum": 5, "x-maxFailedFraction": 0.1}}
        }
    }
}


def take_in(folder: Path, root: str) -> None:
    """Ingest and validate."""
    ingest_tables(
        config=CONFIG,
        data_root=root,
        window_start="2024-01-01",
        window_end="2024-01-21",
        output=folder / "dataset",
    )
    validate_dataset(
        dataset=folder / "dataset",
        schema=json.loads(json.dumps(SCHEMA)),
        **{name: folder / name for name in ("good", "quarantine", "report", "results")},
    )


def taken_in(folder: Path) -> dict[str, str]:
    """What lies there, by output; each is read as a later stage does, so a half one raises."""
    found = {}
    for name in ("dataset", "good", "quarantine"):
        if (folder / name).exists():
            found[name] = read_manifest(folder / name).content_hash
    for name in ("report", "results"):
        if (folder / name).exists():
            text = (folder / name).read_text(encoding="utf-8")
            whole = text.rstrip().endswith("</html>" if name == "report" else "}")
            assert whole, f"{name} is half-written"
            found[name] = "whole"
    return found


def register_toy(folder: Path, world: str) -> None:
    """Register: the bundle and splits of `world`, with the tracking server of the environment."""
    bundle = Path(world) / "bundle"
    register(bundle, passed(bundle), Path(world) / "splits", folder)


def deploy_flights(folder: Path, given: str) -> None:
    """Deploy: a version of the flights' bundle, as `given` says (version and port, as "3 8123")."""
    from support.deploy_world import World

    version, port = map(int, given.split())
    World(folder, port).deploy(version, bias=version / 100)


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a process has: where it prints, its environment, how large a file it may write (bytes)."""

    output: Path
    environment: dict[str, str]
    largest: int | None = None


def work(room: Room, stage: Callable[[Path, str], None], folder: Path, given: str) -> None:
    """A process of a stage; it exits with `REFUSED` where it says what is wrong."""
    with room.output.open("w") as sink:
        sys.stdout = sys.stderr = sink
        os.environ.update(room.environment)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if room.largest is not None:
            # As a full disk: the write fails, and nothing kills the process.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room.largest, room.largest))
        try:
            stage(folder, given)
        except (SlipwayError, OSError):
            sys.exit(REFUSED)
        except Exception:
            traceback.print_exc(file=sink)
            raise
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
