"""Whether a decayed model is trained anew: once for its reasons, not too often, not while one runs.

A request is a file `<home>/monitoring/<model>/retrain/<window end>-<key>.json`. Monitor writes it; the
pipeline's side starts the training, names the run after the key, and says how it went with `mark`. The
new model passes the same gate as any other. All times are those of the windows, so a late or repeated
run decides as the first did.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from components.contracts.config.base import parse_instant
from components.contracts.config.monitoring import MonitoringConfig
from components.contracts.monitoring_record import (
    Alert,
    RetrainRequest,
    read_retrain_request,
    write_retrain_request,
)
from components.monitor.history import folder

WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to train anew, the request where so, and why or why not in a sentence."""

    request: RetrainRequest | None
    why: str

    @property
    def retrain(self) -> bool:
        """Whether a training is asked for."""
        return self.request is not None


def decide(
    home: Path,
    model: str,
    model_version: str,
    window: tuple[str, str],
    alerts: tuple[Alert, ...],
    config: MonitoringConfig,
) -> Decision:
    """Decides for one window, and writes the request.

    Raises:
        SlipwayError: an earlier request cannot be read.
    """
    settings = config.retraining
    reasons = tuple(alert.name for alert in alerts if alert.name in settings.reasons)
    if not reasons:
        return Decision(
            request=None,
            why="Keep the model: neither its accuracy nor its data is beyond the limits.",
        )
    named = ", ".join(reasons)
    if not config.retrain:
        return Decision(
            request=None,
            why=f"{named} would retrain the model, but monitoring.retrain is off.",
        )
    return request_training(home, model, model_version, window, reasons, config)


def request_training(
    home: Path,
    model: str,
    model_version: str,
    window: tuple[str, str],
    reasons: tuple[str, ...],
    config: MonitoringConfig,
) -> Decision:
    """Asks for a training if none is under way and cooldown and budget allow it.

    Also what `slipway retrain --why` calls, with a person's words as the reason.
    """
    settings = config.retraining
    key = request_key(model, model_version, window[1])
    earlier = requests(home, model)
    named = ", ".join(reasons)
    for request in earlier:
        if request.key == key:
            return Decision(request=request, why=f"Retrain: {named} (asked for as {key}).")
    end = parse_instant(window[1])
    past = [r for r in earlier if parse_instant(r.data_end) <= end]
    for request in past:
        age = end - parse_instant(request.data_end)
        open_ = request.status in ("requested", "started") and age < settings.patience
        if open_ and request.model_version == model_version:
            return _held(named, f"the training {request.key} is still under way")
        if age < settings.cooldown:
            return _held(
                named, f"the last one was asked for at {request.data_end}, too short a time ago"
            )
    if sum(end - parse_instant(r.data_end) < WEEK for r in past) >= settings.budget:
        return _held(named, f"this week's budget of {settings.budget} is used up")
    request = RetrainRequest(
        key=key,
        model=model,
        model_version=model_version,
        window=window,
        reasons=reasons,
        data_end=window[1],
    )
    write_retrain_request(_path(home, request), request)
    return Decision(request=request, why=f"Retrain: {named} (asked for as {key}).")


def requests(home: Path, model: str) -> list[RetrainRequest]:
    """All requests of a model, the oldest first."""
    paths = sorted((folder(home, model) / "retrain").glob("*.json"))
    return [read_retrain_request(path) for path in paths]


def mark(
    home: Path,
    request: RetrainRequest,
    status: Literal["started", "finished", "failed"],
    run: str = "",
) -> RetrainRequest:
    """Says how a training that was asked for goes on."""
    changed = replace(request, status=status, run=run or request.run)
    write_retrain_request(_path(home, changed), changed)
    return changed


def request_key(model: str, model_version: str, window_end: str) -> str:
    """Names a request: 16 hexadecimal digits of model, version and window."""
    return hashlib.sha256("\0".join((model, model_version, window_end)).encode()).hexdigest()[:16]


def _held(reasons: str, why: str) -> Decision:
    return Decision(request=None, why=f"{reasons} would retrain the model, but {why}.")


def _path(home: Path, request: RetrainRequest) -> Path:
    moment = parse_instant(request.data_end)
    name = f"{moment:%Y%m%dT%H%M%SZ}-{request.key}.json"
    return folder(home, request.model) / "retrain" / name
