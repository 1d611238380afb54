"""What a new model must show before, and while, it takes traffic: the same for every target."""

from components.contracts.config.deployment import DeploymentConfig
from components.contracts.errors import SlipwayError
from components.deploy.golden import Answered


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
