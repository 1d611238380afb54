"""Where a row begins to be called positive: the threshold that a rule picks on held-out rows."""

from typing import TYPE_CHECKING

from slipway.components.metrics.binary import cost_from_counts, from_counts

if TYPE_CHECKING:
    import numpy as np


def choose_threshold(
    labels: "np.ndarray",
    probability: "np.ndarray",
    rule: str | float,
    costs: "np.ndarray | None" = None,
) -> float:
    """The class threshold that a rule picks on these rows.

    Args:
        labels: 0 or 1.
        probability: calibrated.
        rule: "f1" and "accuracy" maximise that metric; "youden" maximises recall minus the share of
            false alarms; "prevalence" predicts as many positives as there are; "cost" costs least; a
            number is itself.
        costs: of "cost": float64 [2 true, 2 answered].

    Returns:
        A probability half way between two neighbouring scores, so that rounding does not matter; above
        all of them where it costs least to call no row positive.
    """
    import numpy as np

    if not isinstance(rule, str):
        return float(rule)
    # Scores that the label rule cannot tell apart are one score.
    probability = probability.astype(np.float32)
    order = np.argsort(-probability, kind="stable")
    scores, hits = probability[order], np.cumsum(labels[order])
    predicted = np.arange(1, len(scores) + 1)
    positives, rows = hits[-1], len(scores)
    false = predicted - hits
    measured = from_counts(hits, false, positives, rows)
    qualities = {
        "f1": measured["f1"],
        "accuracy": measured["accuracy"],
        "youden": measured["recall"] - false / max(rows - positives, 1),
        "prevalence": -np.abs(predicted - positives),
    }
    if costs is not None:
        qualities["cost"] = -cost_from_counts(hits, false, positives, rows, costs)
    quality = qualities[rule].astype(np.float64)
    # Rows of the same score fall on the same side: only the last of them can be a cut.
    cut = np.append(scores[:-1] != scores[1:], True)
    best = int(np.argmax(np.where(cut, quality, -np.inf)))
    if costs is not None and rule == "cost":
        nothing = -float(cost_from_counts(0, 0, positives, rows, costs))
        if nothing > quality[best]:
            above = np.nextafter(scores[0], np.float32(2))  # which the label rule tells apart
            return (float(scores[0]) + 1) / 2 if above < 1 else float(above)
    following = float(scores[best + 1]) if best + 1 < rows else 0.0
    between = (float(scores[best]) + following) / 2
    # Between two neighbours of float32 there is nothing: half way would round to either.
    return between if following < np.float32(between) else float(scores[best])
