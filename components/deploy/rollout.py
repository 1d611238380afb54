"""What a new model must show before, and while, it takes traffic: the same for every target."""

from collections.abc import Callable

from slipway.components.config.deployment import CanaryConfig, DeploymentConfig
from slipway.components.deploy.golden import Answered
from slipway.components.deploy.kserve.canary import Observed, compare, wait_window
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress


def judge_answers(answered: Answered, config: DeploymentConfig) -> None:
    """Refuses a model that answers too slowly.

    Raises:
        SlipwayError: the median of single golden rows is above `max_latency_ms`. (A tail measured
            on so few rows would refuse good models on a busy machine.)
    """
    if answered.median_ms > config.max_latency_ms:
        raise SlipwayError(
            f"The new model is too slow: single rows took {answered.median_ms:.1f} ms in the median,"
            f" deployment.max_latency_ms is {config.max_latency_ms:g}. The old model, if any, keeps"
            " serving."
        )


def observe_rollout(
    *,
    version: str,
    seconds: float,
    new: Callable[[], Observed],
    stable: Callable[[], Observed],
    ask: Callable[[], object],
    config: CanaryConfig,
) -> None:
    """The window: both models answer real requests, the new one golden rows as well.

    Args:
        version: of the new model.
        seconds: how long the window is.
        new: reads what the new model has answered so far.
        stable: the same of the model before.
        ask: asks the new model the golden rows; it raises where an answer is wrong.
        config: when a difference counts.

    Raises:
        SlipwayError: the new model must go back, with the reason.
    """
    before = new(), stable()
    wait_window(seconds, ask)
    reason, seen = compare(new().since(before[0]), stable().since(before[1]), config)
    progress(seen)
    if reason is not None:
        raise SlipwayError(f"Version {version} failed as a canary: {reason}.")
