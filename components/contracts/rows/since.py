"""A `since`: hours from a moment that the feature store holds to the moment of the prediction.

What grows with the time itself cannot lie in a store that holds values. So it holds the moment, and who
reads it takes the difference: the join of training and scoring, the predictor, and skew.
"""

HOUR = 3_600_000_000
"""In microseconds."""


def hours_since(since: int, moment: int, most: float) -> float | None:
    """The hours from one moment to another; None: they are negative, or reach the window's `most`.

    Args:
        since: from when, in microseconds since 1970, UTC.
        moment: to when, likewise.
        most: hours.
    """
    hours = (moment - since) / HOUR
    return hours if 0 <= hours < most else None
