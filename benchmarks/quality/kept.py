"""Results of single trainings, kept below build/bench/train_quality: a run goes on where one ended.

Of each table, system and seed a JSON file with the settings, the metrics and the seconds, and beside it
the answers on the test part. A file with other settings than those asked for counts as none.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import FOLDER, machine

RESULTS = FOLDER / "train_quality"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One training.

    Attributes:
        settings: what it follows from.
        metrics: on the test part, by name.
        cpu_s: of training and answering, with ended children.
        wall_s: the same on the wall's clock.
        notes: what is told of it, such as what `auto` chose.
        commit: of Slipway, short.
        load: of the machine, at the end.
        answers: on the test part.
    """

    settings: dict[str, Any]
    metrics: dict[str, float]
    cpu_s: float
    wall_s: float
    notes: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    load: float = 0.0
    answers: np.ndarray = field(default_factory=lambda: np.empty(0))


def load(table: str, system: str, seed: int, settings: dict[str, Any]) -> Result | None:
    """What was measured before with the same settings."""
    path = _path(table, system, seed)
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    if found["settings"] != json.loads(json.dumps(settings)):
        return None
    return Result(**found, answers=np.load(path.with_suffix(".npy")))


def keep(table: str, system: str, seed: int, result: Result) -> Result:
    """Writes a result; the JSON file, which makes it one, comes last."""
    path = _path(table, system, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".npy"), result.answers)
    content = asdict(result) | {"commit": _commit(), "load": machine()["load"]}
    del content["answers"]
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)
    return result


def find_or(
    table: str,
    system: str,
    seed: int,
    settings: dict[str, Any],
    measure: Callable[[], Result],
) -> Result:
    """What was measured before, or what `measure` finds now."""
    found = load(table, system, seed, settings)
    if found is None:
        found = keep(table, system, seed, measure())
        lead = ", ".join(f"{name} {value:.5g}" for name, value in list(found.metrics.items())[:2])
        print(f"{table}, {system}, seed {seed}: {lead}, {found.cpu_s:.1f} CPU s", flush=True)
    return found


def _path(table: str, system: str, seed: int) -> Path:
    return RESULTS / table / f"{system.lower().replace(' ', '-')}-{seed}.json"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()
