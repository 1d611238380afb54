"""What a stage told while it ran, from what it printed."""

import json
from typing import Any

from slipway.components.support.stage import EVENT_PREFIX


def events(text: str) -> list[dict[str, Any]]:
    """The stage's events, in order."""
    lines = [line for line in text.splitlines() if line.startswith(EVENT_PREFIX)]
    return [json.loads(line.removeprefix(EVENT_PREFIX)) for line in lines]


def shares(text: str) -> list[float]:
    """How far the stage said that it was, each time that it did."""
    return [event["done"] for event in events(text) if "done" in event]
