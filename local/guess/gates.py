"""Gate values that a useful model passes and a constant answer does not, and alerts that follow."""

import math
from dataclasses import dataclass, field

from slipway.components.config.gate import GateConfig
from slipway.components.config.monitoring import AlertThresholds, MonitoringConfig
from slipway.components.evaluate.measures.measured import Estimate
from slipway.components.metrics.binary import CALIBRATION_BINS, calibration_bin
from slipway.local.guess.guess import Guess, Notes
from slipway.local.guess.trial import Trial

_NEAR = 0.5
"""How far between a constant answer and the lower end of the baseline's interval a bound lies."""
_DEFAULTS = GateConfig()
# The threshold is tuned for F1, so a linear model's accuracy says nothing of the model's.
_UNBOUNDED: Guess[object] = Guess(
    value=0.0,
    reason="no bound on accuracy tells a model from a constant answer here; a fall since the release is"
    " alerted all the same (accuracy_drop)",
    change="Set it to what the model card shows, less what you bear",
)


@dataclass(slots=True, kw_only=True)
class GateGuess:
    """Settings of the gate, by name; and of monitoring."""

    gate: dict[str, Guess[object]] = field(default_factory=dict)
    monitoring: dict[str, Guess[object]] = field(default_factory=dict)


def guess_gate(trial: Trial, notes: Notes) -> GateGuess:
    """The gate's values, and the alerts'.

    Args:
        trial: what the baselines came to.
        notes: gets a warning of each bound that keeps nothing back, and of too few rows.
    """
    guess = GateGuess()
    for metric in ("accuracy", "f1", "auc") if trial.class_rows else ("r2",):
        setting = metric if trial.class_rows else f"metrics.{metric}.min"
        guess.gate[setting] = _bound(metric, trial)
    _warn_of_no_signal(trial, notes)
    _rows(guess, trial, notes)
    _calibration(guess, trial)
    if trial.block != _DEFAULTS.block:
        why = {
            "hour": "the test part has too few days to resample",
            "row": "the test part has no days, or too few, to resample",
        }[trial.block]
        guess.gate["block"] = Guess(
            value=trial.block,
            reason=f"{why}, so intervals are made of {trial.block}s",
            change="Change: day, hour, week, row, or a key",
        )
    if trial.class_rows:
        bounded = guess.gate["accuracy"].value != 0.0
        guess.monitoring["alerts.accuracy"] = (
            _alert(trial.baseline.get("accuracy")) if bounded else _UNBOUNDED
        )
    return guess


def _bound(metric: str, trial: Trial) -> Guess[object]:
    """A bound between a constant answer and the linear model, where there is room."""
    # Of a test part without rows nothing is known: a coin tells as much.
    baseline = trial.baseline.get(metric)
    constant = trial.constant.get(metric, 0.5 if metric == "auc" else 0.0)
    several = len(trial.class_rows) > 2
    answers = {
        "accuracy": "always giving the commonest class",
        "f1": "always giving the commonest class" if several else "always answering positive",
        "auc": "any constant answer",
        "r2": "always giving the mean",
    }[metric]
    model = "a logistic regression" if trial.class_rows else "a linear regression"
    change = "Raise it to what the model is worth to you"
    if baseline is None or baseline.value is None:
        value = _up(constant + 0.02) if metric == "auc" else 0.0
        reason = f"no baseline could be measured ({trial.problem}); {answers} has {constant:.3f}"
        return Guess(value=value, reason=reason, change=change)
    low = baseline.low if baseline.low is not None else baseline.value - 0.05
    span = f"{baseline.value:.3f}" + (
        f" ({baseline.low:.3f} to {baseline.high:.3f})" if baseline.low is not None else ""
    )
    told = f"{model} on the columns as they are has {span}, {answers} {constant:.3f}"
    value = _down(constant + _NEAR * (low - constant))
    if value > constant:
        return Guess(value=value, reason=f"{told}: half way", change=change)
    if metric == "auc":
        return Guess(
            value=_up(constant), reason=f"{told}: hardly more, so this asks for next to nothing",
            change=change,
        )  # fmt: skip
    if metric == "r2":
        return Guess(
            value=0.0,
            reason=f"{told}: no higher, so this asks only to be better than the mean",
            change=change,
        )
    return Guess(
        value=0.0,
        reason=f"{told}: no bound on {metric} would tell them apart, so the others decide",
        change="Set it where the threshold is tuned for it",
    )


def _down(value: float) -> float:
    return math.floor(100 * value + 1e-9) / 100


def _up(value: float) -> float:
    return round(_down(value) + 0.01, 2)


def _warn_of_no_signal(trial: Trial, notes: Notes) -> None:
    if trial.problem:
        notes.warn(
            f"no baseline could be measured, since {trial.problem}: the gate's values are guesses"
        )
        return
    metric = "auc" if trial.class_rows else "r2"
    found = trial.baseline[metric]
    if found.low is not None and found.low <= trial.constant[metric]:
        name = {"auc": "AUC", "r2": "R²"}[metric]
        notes.warn(
            f"a linear model of these columns is not to be told from chance ({name} {found.value:.3f},"
            f" {found.low:.3f} to {found.high:.3f}): they may say nothing of the label"
        )


def _rows(guess: GateGuess, trial: Trial, notes: Notes) -> None:
    """Fewest test rows, where the gate's own figure is more than there are."""
    test, classes = trial.rows["test"], trial.class_rows
    settings = [("min_rows", _DEFAULTS.min_rows, test, "test rows")]
    if classes:
        which = "rarest" if len(classes) > 2 else "rarer"
        least = _DEFAULTS.min_class_rows
        settings.append(("min_class_rows", least, trial.rarest, f"test rows of the {which} class"))
    for name, least, there, what in settings:
        if there >= least:
            continue
        value = max(1, math.floor(0.8 * there))
        guess.gate[name] = Guess(
            value=value,
            reason=f"there are {there:,} {what}; Slipway would ask for {least:,}",
            change="Raise it as data come in",
        )
        notes.warn(
            f"only {there:,} {what}: what the gate measures is uncertain (it would ask for {least:,})."
            " Look at the intervals in the model card"
        )
    total = sum(trial.rows.values())
    commonest = max(classes.values(), default=0) / test if test else 0.0
    if commonest > 0.95:
        notes.warn(
            f"the classes are unbalanced, {1 - commonest:.2%} of the test rows are not of the commonest:"
            f" always giving that one is right in {commonest:.2%}, so accuracy says nothing. Look at F1,"
            " AUC and average precision"
        )
    if total < 500:
        notes.warn(f"only {total:,} rows with a label: a model learns little from so few")


_DRAWS = 500
_ENOUGH = 1000
"""From so many test rows on chance stays below the gate's own bound on the calibration error."""


def _calibration(guess: GateGuess, trial: Trial) -> None:
    """A bound on the calibration error that chance does not break, where the gate's own is lower."""
    rows, least = trial.rows["test"], _DEFAULTS.calibration_error
    if not trial.class_rows or not 0 < rows < _ENOUGH:
        return
    by_chance = _miscalibrated(rows)
    if by_chance > least:
        guess.gate["calibration_error"] = Guess(
            value=_up(by_chance),
            reason=f"on {rows:,} test rows a model whose probabilities are right shows up to"
            f" {by_chance:.2f} by chance; Slipway would ask for {least:g}",
            change="Lower it as data come in",
        )


def _miscalibrated(rows: int) -> float:
    """The calibration error that one in a hundred test parts of so many rows shows by chance alone.

    Of a model whose probabilities are right, and anything between 0 and 1 as often: a model that is
    surer of its answers shows less.
    """
    import numpy as np

    random = np.random.default_rng(0)
    told = random.random((_DRAWS, rows))
    gaps = (random.random((_DRAWS, rows)) < told) - told
    place = calibration_bin(told) + CALIBRATION_BINS * np.arange(_DRAWS)[:, None]
    by_bin = np.bincount(place.ravel(), gaps.ravel(), _DRAWS * CALIBRATION_BINS)
    errors = np.abs(by_bin.reshape(_DRAWS, CALIBRATION_BINS)).sum(axis=1) / rows
    return float(np.quantile(errors, 0.99))


def guess_window(rows: float, what: str) -> dict[str, Guess[object]]:
    """Fewest predictions of a monitored window, where it has fewer than monitoring would ask for.

    Args:
        rows: predictions of a usual window.
        what: has them, for the reason.
    """
    least = MonitoringConfig().min_rows
    if rows >= 1.25 * least:
        return {}
    return {
        "min_rows": Guess(
            value=max(math.floor(0.5 * rows), 20),
            reason=f"{what} about {rows:,.0f} rows, and with fewer than {least} nothing would be"
            " concluded",
            change="Monitor longer stretches rather than fewer rows where you can",
        )
    }


def _alert(baseline: Estimate | None) -> Guess[object]:
    """Accuracy below which a served model is reported."""
    drop = AlertThresholds().accuracy_drop
    if baseline is None or baseline.value is None:
        return Guess(value=0.0, reason="no baseline could be measured, so nothing is promised")
    low = baseline.low if baseline.low is not None else baseline.value
    value = max(_down(low - drop), 0.0)
    return Guess(
        value=value,
        reason=f"{drop:g} below what the logistic regression surely reaches ({low:.3f})",
        change="Set it to what the model card shows, less what you bear",
    )
