"""The label rule: from which probability on a row is called positive.

All who make a label ask here: evaluate's tally, the predictor, batch scoring, the golden rows, the
reference, training. Nothing but numpy is imported, since the predictor starts with it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def reaches_threshold(
    probability: "np.ndarray | float", threshold: float
) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Whether each probability reaches the threshold: the one rule that makes a label.

    Both sides are rounded to float32 first. That is what a model answers with, so a threshold of 0.7
    includes the answer that prints as 0.7, and a probability that was stored as a double on its way
    (in the inference log, in JSON) gets the label that it had when it was served.

    Args:
        probability: float [N], or one number.
        threshold: between 0 and 1.

    Returns:
        bool [N], or one bool.
    """
    import numpy as np

    called: np.ndarray = np.asarray(probability, np.float32) >= np.float32(threshold)
    return called
