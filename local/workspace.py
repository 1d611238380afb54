"""Where `slipway run` keeps everything on a laptop: one folder, safe to delete."""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slipway.components.support.environment import TRUST
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import short_path
from slipway.components.support.libraries.packages import installed_packages
from slipway.components.support.retry import wait_until
from slipway.components.support.secrets import redact
from slipway.local.runner.lifetime import GRACE_SECONDS, clear_abandoned, end_abandoned

SOURCE = Path(__file__).resolve().parents[1]
KEPT_RUNS = 10
_BUSY = ".busy"
_PROBE_BYTES = 1_000_000
# Settings that a laptop has no value of its own for.
_CALLERS = (
    "FEAST_REDIS_URL",
    "MODEL_PRIVATE_KEY",
    "MODEL_PRIVATE_KEY_PASSWORD",
    *TRUST,
)
_RUN_MOMENT = re.compile(r"-\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2}-\d+$")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of local runs and what lies in it (absolute paths)."""

    root: Path

    @classmethod
    def at(cls, folder: Path) -> "Workspace":
        """The workspace in a folder, which need not exist yet."""
        return cls(folder.resolve())

    @property
    def compiled(self) -> Path:
        """The compiled YAML that the run loads."""
        return self.root / "compiled"

    @property
    def outputs(self) -> Path:
        """The tasks' outputs, a folder a pipeline run."""
        return self.root / "pipelines"

    @property
    def logs(self) -> Path:
        """One log file a pipeline run."""
        return self.root / "logs"

    @property
    def home(self) -> Path:
        """State of local endpoints."""
        return self.root / "home"

    @property
    def tracking_uri(self) -> str:
        """The MLflow database."""
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def work_lock(self) -> Path:
        """What the process that runs a pipeline holds, also where the command was killed."""
        return self.root / ".work"

    @property
    def reports(self) -> Path:
        """The runs' pages, a folder a run."""
        return self.root / "reports"

    @property
    def experiments(self) -> str:
        """Where the experiments can be looked at: an address, or the command that serves a file."""
        uri = redact(self.settings()["MLFLOW_TRACKING_URI"])
        if uri.startswith(("http://", "https://")):
            return uri
        return shlex.join(["mlflow", "ui", "--backend-store-uri", uri])

    @property
    def under_way(self) -> Path:
        """What a run that is at work does now."""
        return self.root / "under_way.json"

    @property
    def summary(self) -> Path:
        """What the last run came to."""
        return self.root / "summary.json"

    @property
    def cache(self) -> Path:
        """The task cache of this state of the code: other code must not see its results."""
        return self.root / "cache" / code_version()

    def settings(self) -> dict[str, str]:
        """The stages' environment settings, where the caller's environment does not set them."""
        own = {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "FEATURE_STORE_URI": str(self.root / "feature_store"),
            "INFERENCE_LOG_URI": str(self.root / "inference_log"),
            "MONITORING_URI": str(self.root / "monitoring"),
            "SLIPWAY_HOME": str(self.home),
        }
        settings = {name: os.environ.get(name) or value for name, value in own.items()}
        return settings | {name: os.environ[name] for name in _CALLERS if os.environ.get(name)}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second `slipway run` out of the folder, with all that the first one started.

        Raises:
            SlipwayError: another run is working in it.
        """
        self._require_room()
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            if not _take(file):
                raise SlipwayError(
                    f"Another slipway run is working in {short_path(self.root)}. Wait for it, or give"
                    " this one a folder of its own with --out."
                )
            self._end_work_of_a_killed_run()
            # Who only looks asks for this one, and so never stands in the way of who begins.
            with (self.root / _BUSY).open("w") as busy:
                # What the run before did says nothing of this one.
                self.under_way.unlink(missing_ok=True)
                fcntl.flock(busy, fcntl.LOCK_EX)
                yield

    def is_busy(self) -> bool:
        """Whether a run is at work here now."""
        try:
            with (self.root / _BUSY).open("r") as busy:
                return not _take(busy, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def _require_room(self) -> None:
        """Tries each place that a run writes to, so that none fails in the middle.

        Raises:
            SlipwayError: one is read-only or full.
        """
        settings = self.settings()
        named = ("FEATURE_STORE_URI", "INFERENCE_LOG_URI", "MONITORING_URI", "SLIPWAY_HOME")
        places = {"MLFLOW_TRACKING_URI": settings["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")}
        places |= {name: settings[name].removeprefix("file://") for name in named}
        own = (self.root, self.compiled, self.outputs, self.logs, self.reports, self.cache.parent)
        tried = [("--out", path) for path in own]
        tried += [(name, Path(place)) for name, place in places.items() if "://" not in place]
        for option, path in [*tried, ("TMPDIR", Path(tempfile.gettempdir()))]:
            try:
                _try_to_write(path)
            except OSError as error:
                where = f"{short_path(path)} cannot be written: {error.strerror}."
                raise SlipwayError(
                    f"{where} Make room there, or give another place with {option}."
                ) from error

    def _end_work_of_a_killed_run(self) -> None:
        """Waits for the stages of a run that was killed, and ends what of them does not end by itself.

        Raises:
            SlipwayError: they still work.
        """
        with self.work_lock.open("a") as file:
            if not wait_until(lambda: _take(file), timeout=GRACE_SECONDS + 5):
                raise SlipwayError(
                    f"The stages of a run that was killed still work in {short_path(self.root)}."
                    " Wait for them, or give this one a folder of its own with --out."
                )
            end_abandoned(self.work_lock, self.root)
            clear_abandoned(self.root)

    def use(self, output: object) -> None:
        """Notes that an earlier run's output was used again, so that its run counts as a new one."""
        path = Path(str(output))
        if path.is_relative_to(self.outputs) and path.exists():
            os.utime(self.outputs / path.relative_to(self.outputs).parts[0])

    def prune(self) -> None:
        """Deletes the outputs of old runs that nothing needs, and the caches of other states of the code.

        Of each pipeline the ten runs that were made or used last stay, so that scoring again and again
        takes nothing from training's cache; and whatever their age, those that a link leads to and
        those that made what serves here.
        """
        if self.outputs.is_dir():
            by_pipeline: dict[str, list[Path]] = {}
            for run in sorted(self.outputs.iterdir(), key=lambda run: run.stat().st_mtime):
                by_pipeline.setdefault(_RUN_MOMENT.sub("", run.name), []).append(run)
            old = [run for runs in by_pipeline.values() for run in runs[:-KEPT_RUNS]]
            texts, served = self._links(), self._served()
            for run in old:
                release = _read_text(run / "register" / "release")
                if run.name in texts or any(model in release for model in served):
                    continue
                shutil.rmtree(run, ignore_errors=True)
        pages = sorted(self.reports.glob("*"), key=lambda run: run.stat().st_mtime)
        for folder in pages[:-KEPT_RUNS]:
            shutil.rmtree(folder, ignore_errors=True)
        if self.cache.parent.is_dir():
            for cache in self.cache.parent.iterdir():
                if cache != self.cache:
                    shutil.rmtree(cache, ignore_errors=True)

    def _links(self) -> str:
        """What names outputs by their path: the summary, and the state of the alert routes."""
        told = self.root.glob("monitoring/*/routes/*.json")
        return "\n".join(_read_text(path) for path in (self.summary, *told))

    def _served(self) -> list[str]:
        """Hashes of the models that local endpoints serve, or served last."""
        found = []
        for path in self.home.glob("endpoints/*/state.json"):
            try:
                found.append(json.loads(_read_text(path))["stable"]["model_hash"])
            except (ValueError, KeyError, TypeError):
                continue
        return found


def _try_to_write(place: Path) -> None:
    """Writes a megabyte to a folder that is there or can be made, and removes it; opens a file.

    Raises:
        OSError: that is not possible.
    """
    if place.is_file():
        with place.open("ab"):
            return
    while not place.exists():
        place = place.parent
    with tempfile.TemporaryFile(dir=place) as probe:
        probe.write(bytes(_PROBE_BYTES))


def _take(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    """Takes the lock of an open file, unless somebody has it."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def code_version() -> str:
    """A hash over the code of all stages and the versions of the packages that they run with."""
    lock = SOURCE / "requirements" / "run.lock"
    digest = hashlib.sha256()
    if not lock.is_file():  # installed from a wheel
        digest.update(repr(installed_packages()).encode())
    files = [lock]
    for package in ("components", "serving"):
        files += (SOURCE / package).rglob("*.py")
    for path in sorted(files):
        if path.is_file():
            digest.update(path.relative_to(SOURCE).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def source_version(sources: Iterable[str]) -> str:
    """What local tables hold now: names, sizes and times of their files, as a hash.

    Where one is in an object store it is "": there `data_version` is the caller's to set.

    Args:
        sources: the tables' files or folders. Nothing else counts: a project may lie in the folder of
            its data, where each run changes something.
    """
    digest = hashlib.sha256()
    for source in sources:
        if "://" in source:
            return ""
        folder = Path(source)
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if path.is_file():
                status = path.stat()
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
