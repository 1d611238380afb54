"""Whether to retrain a decayed model: once for the same reasons, not too often, one training at a time.

A request is a file (see `state`). Monitor writes it; what starts the training (`launcher` on a
cluster, `slipway` on a laptop) names the run after the key, and says how it went with `mark`. The new
model passes the same gate as any other. All times are those of the windows, so a late or repeated
run decides as the first did.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.monitoring_record import (
    Alert,
    RetrainRequest,
)
from slipway.components.monitor import state
from slipway.components.monitor.state import Root, folder
from slipway.components.support.errors import SlipwayError

WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to retrain, the request if so, and the reason in a sentence."""

    request: RetrainRequest | None
    why: str

    @property
    def retrain(self) -> bool:
        """Whether a training is asked for."""
        return self.request is not None


def decide(
    root: Root,
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
            why="Keep the model: neither what labels say of it nor its data is beyond the limits.",
        )
    named = ", ".join(reasons)
    if not config.retrain:
        return Decision(
            request=None,
            why=f"{named} would retrain the model, but monitoring.retrain is off.",
        )
    return request_training(root, model, model_version, window, reasons, config)


def request_training(
    root: Root,
    model: str,
    model_version: str,
    window: tuple[str, str],
    reasons: tuple[str, ...],
    config: MonitoringConfig,
    *,
    by_hand: bool = False,
) -> Decision:
    """Asks for a training if none is under way and cooldown and budget allow it.

    Args:
        root: where monitoring keeps its files.
        model: the registered model's name.
        model_version: the version that is to be replaced.
        window: the window that gave the reasons.
        reasons: names of alerts, or a person's words.
        config: the `monitoring` section.
        by_hand: a person asks: cooldown and budget, which keep alerts from starting training after
            training, do not hold them up.
    """
    settings = config.retraining
    key = request_key(model, model_version, window[1], *(reasons if by_hand else ()))
    earlier = requests(root, model)
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
            return _keep_model(named, f"the training {request.key} is still under way")
        if age < settings.cooldown and not by_hand:
            return _keep_model(
                named, f"the last one was asked for at {request.data_end}, too short a time ago"
            )
    spent = sum(end - parse_instant(r.data_end) < WEEK for r in past)
    if spent >= settings.budget and not by_hand:
        return _keep_model(named, f"this week's budget of {settings.budget} is used up")
    request = RetrainRequest(
        key=key,
        model=model,
        model_version=model_version,
        window=window,
        reasons=reasons,
        data_end=window[1],
    )
    _write(root, request)
    return Decision(request=request, why=f"Retrain: {named} (asked for as {key}).")


def requests(root: Root, model: str) -> list[RetrainRequest]:
    """All requests of a model, the oldest first."""
    place = f"{folder(root, model)}/retrain"
    return [_read(f"{place}/{name}") for name in state.names(place)]


def find_request(root: Root, model: str, key: str) -> RetrainRequest:
    """The request of a key.

    Raises:
        SlipwayError: there is none.
    """
    for request in requests(root, model):
        if request.key == key:
            return request
    raise SlipwayError(
        f"There is no request {key} to retrain {model} in {root}. Is MONITORING_URI the same for"
        " all tasks?"
    )


def mark(
    root: Root,
    request: RetrainRequest,
    status: Literal["started", "finished", "failed"],
    run: str = "",
) -> RetrainRequest:
    """Says how a training that was asked for goes on."""
    changed = replace(request, status=status, run=run or request.run)
    _write(root, changed)
    return changed


def request_key(model: str, model_version: str, window_end: str, *words: str) -> str:
    """Names a request: 16 hexadecimal digits of model, version, window, and a person's words."""
    text = "\0".join((model, model_version, window_end, *words))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_name(request: RetrainRequest) -> str:
    """What the run that serves a request is called, wherever it runs."""
    return f"{request.model}-retraining-{request.key}"


def arguments_for(
    request: RetrainRequest, data_start: str, config: MonitoringConfig
) -> dict[str, str]:
    """The parameters of the training pipeline that a request sets: its window.

    Args:
        request: its `data_end` is the window's end.
        data_start: the project's `data.window.start`, where the window begins unless
            `retraining.window` says how long it is; empty: the project reads its tables whole.
        config: the `monitoring` section.
    """
    length = config.retraining.window
    if not length and not data_start:
        return {"window_start": "", "window_end": ""}
    start = format_instant(parse_instant(request.data_end) - length) if length else data_start
    return {"window_start": start, "window_end": request.data_end}


def _keep_model(reasons: str, why: str) -> Decision:
    return Decision(request=None, why=f"{reasons} would retrain the model, but {why}.")


def _read(path: str) -> RetrainRequest:
    return RetrainRequest.parse(state.read(path) or b"", path)


def _write(root: Root, request: RetrainRequest) -> None:
    moment = parse_instant(request.data_end)
    name = f"{moment:%Y%m%dT%H%M%SZ}-{request.key}.json"
    state.write(f"{folder(root, request.model)}/retrain/{name}", request.to_json().encode())
