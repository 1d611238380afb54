"""A bounded search for better settings before the training.

Optuna (Akiba et al., KDD 2019) proposes settings with its tree-structured Parzen estimator, each trial
trains one member with them, and a trial that falls behind the median of the earlier ones is ended
early. What counts is the monitored metric on the validation part. The first trial has the project's own
settings, so a search never chooses worse ones.

Every ended trial is saved. What the next one tries follows from the seed, its number and the trials
before it, so a search that was killed goes on and finds what it would have found.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

from slipway.components.config.training import SEARCHED, Range, SearchConfig
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress
from slipway.components.train.data.preparation import Prepared, assemble
from slipway.components.train.loop import Training, quality
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.process.preemption import Preempted

if TYPE_CHECKING:
    import optuna

_STARTUP = 4
"""So many trials are drawn at random, and run to their end, before Optuna learns from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTrial:
    """A trial that has ended.

    Attributes:
        values: the settings that it tried; none: the project's own.
        state: complete, pruned (it fell behind) or failed (its loss was not finite).
        value: the best monitored value of its epochs, the sign turned where less is better; None
            where it failed.
        history: what each epoch measured.
        seconds: it took.
    """

    number: int
    values: dict[str, float]
    state: str
    value: float | None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def search(
    prepared: Prepared,
    checkpoint: Checkpoint,
    *,
    run_id: Callable[[], str | None] = lambda: None,
    on_trial: Callable[[SearchTrial], None] = lambda trial: None,
) -> tuple[Prepared, list[SearchTrial]]:
    """Searches, and prepares a training with the best settings that were found.

    Args:
        prepared: the training with the project's own settings.
        checkpoint: where ended trials are kept.
        run_id: the MLflow run, kept beside them.
        on_trial: called with each trial that ends in this run.

    Raises:
        SlipwayError: no trial came to an end.
        Preempted: the process received SIGTERM.
    """
    config = prepared.config
    saved = checkpoint.load() or {}
    trials = [SearchTrial(**trial) for trial in saved.get("trials", [])]
    started = time.monotonic() - sum(trial.seconds for trial in trials)
    for number in range(len(trials), config.search.trials):
        if number and time.monotonic() - started > config.search.minutes * 60:
            progress(f"no further trial: {config.search.minutes:g} minutes are over")
            break
        trial = _try(prepared, trials)
        trials.append(trial)
        checkpoint.save({"trials": [asdict(trial) for trial in trials], "run_id": run_id()})
        on_trial(trial)
    ended = [trial for trial in trials if trial.state == "complete"]
    if not ended:
        raise SlipwayError(
            f"None of the {len(trials)} trials of training.search came to an end: every loss was not"
            " finite. Narrow training.search.space, the learning rate first."
        )
    best = max(ended, key=lambda trial: (trial.value or 0.0, -trial.number))
    tried = ", ".join(f"{name} {value:.4g}" for name, value in best.values.items())
    progress(f"trial {best.number + 1} of {len(trials)} was best: {tried or 'the given settings'}")
    return assemble(prepared.parts, config.with_values(best.values)), trials


def _try(prepared: Prepared, trials: list[SearchTrial]) -> SearchTrial:
    """Runs the trial that follows from those before it."""
    optuna = _optuna()
    number, config = len(trials), prepared.config
    study = _study(prepared, trials)
    asked = study.ask(_distributions(config.search) if number else {})
    history: list[dict[str, float]] = []

    def watch(measured: dict[str, float], epoch: int) -> None:
        history.append({name.partition("/")[2]: value for name, value in measured.items()})
        asked.report(quality(prepared.parts.head, config, history[-1]), epoch)
        if asked.should_prune():
            raise optuna.TrialPruned

    own = config.with_values(asked.params).model_copy(update={"members": 1})
    training = Training(
        make_network=assemble(prepared.parts, own).make_network,
        source=prepared.parts.source,
        validation=prepared.parts.validation,
        head=prepared.parts.head,
        config=own,
        device=prepared.parts.device,
        checkpoint=Checkpoint("", "", ""),
        log=watch,
        scaled_names=prepared.scaled_names,
        title=f"trial {number + 1} of {config.search.trials}, ",
    )
    state, started = "complete", time.monotonic()
    try:
        training.run({})
    except optuna.TrialPruned:
        state = "pruned"
    except Preempted:
        raise
    except SlipwayError as error:
        state = "failed"
        progress(f"trial {number + 1} failed: {error}")
    return SearchTrial(
        number=number,
        values=dict(asked.params),
        state=state,
        value=max(
            (quality(prepared.parts.head, config, measured) for measured in history), default=None
        ),
        history=history,
        seconds=time.monotonic() - started,
    )


def _study(prepared: Prepared, trials: list[SearchTrial]) -> "optuna.Study":
    """The study as it stands after some trials: rebuilt each time, so a resumed one is alike."""
    optuna, config = _optuna(), prepared.config
    distributions = _distributions(config.search)
    study = optuna.create_study(
        direction="maximize",
        # A seed for each trial: the sampler's own state need not be kept.
        sampler=optuna.samplers.TPESampler(
            seed=config.seed * 1009 + len(trials), n_startup_trials=_STARTUP
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=1),
    )
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state={
                    "complete": optuna.trial.TrialState.COMPLETE,
                    "pruned": optuna.trial.TrialState.PRUNED,
                    "failed": optuna.trial.TrialState.FAIL,
                }[trial.state],
                params=trial.values,
                distributions={name: distributions[name] for name in trial.values},
                value=None if trial.state == "failed" else trial.value,
                intermediate_values={
                    epoch: quality(prepared.parts.head, config, measured)
                    for epoch, measured in enumerate(trial.history, 1)
                },
            )
        )
    return study


def _distributions(settings: SearchConfig) -> "dict[str, optuna.distributions.BaseDistribution]":
    kinds = _optuna().distributions
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, choice in settings.space.items():
        number = SEARCHED[name]
        if not isinstance(choice, Range):
            found[name] = kinds.CategoricalDistribution([number(value) for value in choice])
        elif number is int:
            found[name] = kinds.IntDistribution(int(choice.low), int(choice.high), log=choice.log)
        else:
            found[name] = kinds.FloatDistribution(choice.low, choice.high, log=choice.log)
    return found


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise SlipwayError(
            "training.search needs the package optuna, which is not here."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
