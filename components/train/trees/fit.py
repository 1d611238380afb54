"""Fits boosted trees with XGBoost: on the raw values, stopped early on the validation part.

The trees are trained in the task's own process, on its CPU, before the networks: a GPU, several processes
or several nodes change nothing about them. They take a fraction of the networks' time, so a task that is
stopped while they grow begins them again; once they are grown they are kept with the checkpoints.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries.imports import without
from slipway.components.support.stage import progress
from slipway.components.train.data.preparation import Prepared
from slipway.components.train.data.source import memory_limit
from slipway.components.train.data.tables import raw_arrays
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.multiclass import MulticlassHead
from slipway.components.train.heads.number import NumberHead
from slipway.components.train.model.preprocess import RawArrays
from slipway.components.train.process.budget import Budget
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.process.preemption import Preempted, stop_on_sigterm
from slipway.components.train.trees.forest import Forest, Nodes, join_nodes, read_nodes
from slipway.components.train.trees.inputs import matrix_batches, matrix_of, tree_columns

if TYPE_CHECKING:
    import threading

    import xgboost

TOLERANCE = 1e-5
_COMPARED = 1024  # rows at once
_PROGRESS_SECONDS = 2.0
_MEMORY_SHARE = 0.2
_CELL_BYTES = 4  # of XGBoost's binned table, its copy by columns, and a batch on its way
_ROW_BYTES = 64  # gradients, weights, predictions
_LEAF_WEIGHT = (
    5.0  # least sum of second derivatives in a leaf: rows of a number, p (1 - p) of a class
)
_SURE_LEAF_WEIGHT = 0.2
_LARGE_LEAVES = 400  # of a large table: as many of its lightest leaves weigh what all its rows do
_CLEAR = 0.02  # share of the loss by which the second must be better on a small table
_CLEAR_LARGE = 0.01  # on a large one, whose validation part tells more
_LATE = 0.002  # share of the loss that the last rounds of heavy leaves must gain to be kept
_FEW_COLUMNS = 5
_ALL_CATEGORIES = 2**31 - 1
Log = Callable[[dict[str, float], int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting:
    """One training of trees.

    Attributes:
        name: what it learns.
        objective: XGBoost's settings of the loss.
        metric: XGBoost's name of what early stopping watches.
        leaf_weight: the least that a leaf may weigh, in second derivatives of the loss.
        rows: share of the rows that a tree is grown on.
        columns: share of the columns that it may ask for.
        sets: whether a node asks for a category in a set of them, or for one.
        late: share of the loss by which the rounds that are cut off may be better.
    """

    name: str
    objective: dict[str, Any]
    metric: str
    leaf_weight: float = _LEAF_WEIGHT
    rows: float = 0.8
    columns: float = 0.8
    sets: bool = True
    late: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrownTrees:
    """Trees that have been trained.

    Attributes:
        models: XGBoost's own models as JSON, cut after their best round; see `boostings`.
        rounds: of each.
        history: by the name of what was learned, the validation loss after each round.
        rows: training rows that were taken.
        seconds: they took.
        leaf_weights: of each model, the least that a leaf may weigh; see `_boost_best`.
        cut: whether the time was over before the end of one of them.
    """

    models: list[str]
    rounds: list[int]
    history: dict[str, list[float]]
    rows: int
    seconds: float
    run_id: str | None = field(default=None)
    leaf_weights: list[float] = field(default_factory=list)
    cut: bool = False

    def nodes(self) -> Nodes:
        """All trees."""
        first, *rest = (read_nodes(model.encode()) for model in self.models)
        for more in rest:
            first = join_nodes(first, more)
        return first


def boostings(head: Head) -> list[Boosting]:
    """What trees learn of a kind of label.

    A number takes two trainings: one of the value, and one of the two ends of its interval.
    """
    if isinstance(head, MulticlassHead):
        objective = {"objective": "multi:softprob", "num_class": len(head.classes)}
        return [Boosting(name="log_loss", objective=objective, metric="mlogloss")]
    if isinstance(head, NumberHead):
        tail = (1 - head.level) / 2
        ends = {"objective": "reg:quantileerror", "quantile_alpha": [tail, 1 - tail]}
        return [
            Boosting(name="rmse", objective={"objective": "reg:squarederror"}, metric="rmse"),
            Boosting(name="quantile_loss", objective=ends, metric="quantile"),
        ]
    return [Boosting(name="log_loss", objective={"objective": "binary:logistic"}, metric="logloss")]


def grow_trees(
    folder: Path,
    prepared: Prepared,
    checkpoint: Checkpoint,
    log: Log = lambda values, step: None,
    run_id: Callable[[], str | None] = lambda: None,
    budget: Budget | None = None,
) -> GrownTrees:
    """Grows the trees, or takes those of an earlier try.

    Args:
        folder: the split tables.
        prepared: what was read of them; the settings without `auto`.
        checkpoint: where grown trees are kept.
        log: takes the validation loss of a round now and then, and of the best one.
        run_id: the MLflow run, kept beside the trees.
        budget: their time; None: as much as they take.

    Raises:
        Preempted: the process received SIGTERM.
        SlipwayError: the trees disagree with XGBoost's own answers.
    """
    saved = checkpoint.load()
    if saved is not None:
        return GrownTrees(**saved)
    started = time.monotonic()
    # It has a way to go without its wrapper of scikit-learn, which loads most of scipy.
    with without("sklearn"):
        import xgboost  # noqa: F401
    matrix = matrix_of(prepared.parts.validation_raw)
    validation = _validation_rows(prepared, matrix)
    train = _training_rows(folder, prepared)
    models, histories, leaf_weights, cut = _boost_all(
        prepared, train, validation, log, budget or Budget()
    )
    _compare(models, matrix, validation)
    result = GrownTrees(
        models=[bytes(model.save_raw("json")).decode() for model in models],
        rounds=[model.num_boosted_rounds() for model in models],
        history=histories,
        rows=train.num_row(),
        seconds=time.monotonic() - started,
        run_id=run_id(),
        leaf_weights=leaf_weights,
        cut=cut,
    )
    checkpoint.save(asdict(result))
    return result


def _column_types(prepared: Prepared) -> list[str]:
    return [column.kind for column in tree_columns(prepared.parts.signature)]


def _training_rows(folder: Path, prepared: Prepared) -> "xgboost.QuantileDMatrix":
    """XGBoost's binned table of the training part, read in batches; thinned where memory is short."""
    import xgboost

    signature, rows = prepared.parts.signature, prepared.parts.source.rows
    types = _column_types(prepared)
    every = _thinning(len(rows), len(types))
    names = [feature.name for feature in signature.features]

    def read() -> Iterator[RawArrays]:
        for table in read_part_batches(folder, "train", columns=names):
            yield raw_arrays(signature, table)

    labels, weights = (part.cpu().numpy()[::every] for part in (rows.labels, rows.weights))
    batches = _batches(lambda: matrix_batches(read(), every), labels, weights)
    return xgboost.QuantileDMatrix(
        batches(types), nthread=prepared.config.threads, enable_categorical=True
    )


def _validation_rows(prepared: Prepared, matrix: np.ndarray) -> "xgboost.DMatrix":
    """The validation part's rows, `matrix` [N, columns], for early stopping."""
    import xgboost

    held = prepared.parts.validation
    return xgboost.DMatrix(
        matrix,
        held.labels.cpu().numpy(),
        weight=held.weights.cpu().numpy(),
        feature_types=_column_types(prepared),
        enable_categorical=True,
        nthread=prepared.config.threads,
    )


def _boost_all(
    prepared: Prepared,
    train: "xgboost.DMatrix",
    validation: "xgboost.DMatrix",
    log: Log,
    budget: Budget,
) -> "tuple[list[xgboost.Booster], dict[str, list[float]], list[float], bool]":
    """Each of the label's trainings: its trees, its validation losses, the leaf weight that it took.

    The last value says whether the time was over before the end of one of them.
    """
    models, histories, leaf_weights, cut = [], {}, [], False
    wanted = boostings(prepared.parts.head)
    config = _bound_rounds(prepared.config, prepared.parts.head)
    with stop_on_sigterm() as stopping:

        def boost(boosting: Boosting, own: Budget) -> "tuple[xgboost.Booster, list[float]]":
            watch = _watch(boosting, config.trees.rounds, stopping, log, own)
            return _boost(boosting, config, train, validation, watch)

        small = config.is_small(len(prepared.parts.source.rows))
        weight = _weigh(prepared.parts.head, train.get_label(), train.get_weight())
        for number, boosting in enumerate(wanted):
            own = budget.portion(1 / (len(wanted) - number))
            tried = _small_leaves(boosting) if small else _large_leaves(boosting, weight)
            taken, model, history = _boost_best(
                tried, boost, own, _CLEAR if small else _CLEAR_LARGE
            )
            cut |= own.left <= 0 and len(history) < config.trees.rounds
            rounds = model.num_boosted_rounds()
            log({f"trees/{boosting.name}": history[rounds - 1]}, rounds)
            models.append(model)
            histories[boosting.name] = history
            leaf_weights.append(taken.leaf_weight)
    return models, histories, leaf_weights, cut


def _bound_rounds(config: TrainingConfig, head: Head) -> TrainingConfig:
    """The settings with as many rounds as classes leave memory for."""
    classes = len(head.classes) if isinstance(head, MulticlassHead) else 0
    rounds = config.trees.rounds_for(classes)
    if rounds < config.trees.rounds:
        progress(
            f"trees: a round of {classes:,} classes grows {classes:,} trees; {rounds:,} rounds are the"
            f" most, not {config.trees.rounds:,}"
        )
    return config.with_values({"trees.rounds": rounds})


def _compare(models: "list[xgboost.Booster]", matrix: np.ndarray, rows: "xgboost.DMatrix") -> None:
    """Compares the trees as they are read and walked with XGBoost's own answers.

    XGBoost adds up the leaves one by one in float32: n of them are off by n * 2**-24 at most, as a share
    of their size. Where that is more than `TOLERANCE`, it is what is allowed.

    Raises:
        SlipwayError: they disagree.
    """
    import torch

    for model in models:
        theirs = model.predict(rows, output_margin=True).reshape(len(matrix), -1)
        forest = Forest(read_nodes(bytes(model.save_raw("json"))))
        allowed = max(TOLERANCE, model.num_boosted_rounds() * 2.0**-24)
        step = min(_COMPARED, forest.rows_at_once)
        for start in range(0, len(matrix), step):
            cut = slice(start, start + step)
            ours = forest(torch.from_numpy(matrix[cut])).numpy()
            gaps = np.abs(ours - theirs[cut]) / np.maximum(1, np.abs(theirs[cut]))
            if not gaps.max() <= allowed:
                raise SlipwayError(
                    f"The trees as Slipway reads them and XGBoost's own answers disagree by"
                    f" {gaps.max():.2e} (allowed: {allowed:.3g}). The bundle was not written: the"
                    " installed release of xgboost-cpu is not the one that Slipway was made for."
                )


def _thinning(rows: int, columns: int) -> int:
    """Each how many-th row is taken, so that the trees' table stays a fifth of the memory."""
    room = _MEMORY_SHARE * memory_limit() / (columns * _CELL_BYTES + _ROW_BYTES)
    every = max(1, int(-(-rows // room)))
    if every > 1:
        progress(
            f"trees: memory holds {room:,.0f} rows of their table; one in {every} of {rows:,} is taken"
        )
    return every


def _batches(
    make: Callable[[], Iterator[np.ndarray]], labels: np.ndarray, weights: np.ndarray
) -> Callable[[list[str]], "xgboost.DataIter"]:
    """What XGBoost reads a table from, batch by batch and as often as it likes."""
    import xgboost

    class Batches(xgboost.DataIter):
        def __init__(self, types: list[str]) -> None:
            super().__init__(release_data=True)
            self._types = types
            self.reset()

        def next(self, input_data: Callable[..., object]) -> bool:
            matrix = next(self._left, None)
            if matrix is None:
                return False
            cut = slice(self._start, self._start + len(matrix))
            self._start += len(matrix)
            input_data(
                data=matrix, label=labels[cut], weight=weights[cut], feature_types=self._types
            )
            return True

        def reset(self) -> None:
            self._left, self._start = make(), 0

    return Batches


def _weigh(head: Head, labels: np.ndarray, weights: np.ndarray) -> float:
    """What all rows weigh in second derivatives of the loss in the first round, a tree's mean.

    Args:
        head: of the label.
        labels: float32 [N], as trees learn them.
        weights: float32 [N].
    """
    total = float(weights.sum(dtype=np.float64))
    if isinstance(head, NumberHead):
        return total
    shares = np.bincount(labels.astype(np.int64), weights) / total
    if isinstance(head, MulticlassHead):  # XGBoost doubles them
        return float(total * np.mean(2 * shares * (1 - shares)))
    return float(total * np.prod(shares))


def _small_leaves(boosting: Boosting) -> list[Boosting]:
    """The leaves that trees of a small table try.

    A leaf's weight is p (1 - p) over its rows. Where classes can be told apart with certainty that goes
    towards 0, and a least weight that keeps the noise of other tables out ends the learning early.
    """
    if boosting.metric not in ("logloss", "mlogloss"):
        return [boosting]
    return [boosting, replace(boosting, leaf_weight=_SURE_LEAF_WEIGHT)]


def _large_leaves(boosting: Boosting, weight: float) -> list[Boosting]:
    """The leaves that trees of a large table try: heavy ones first.

    A network stands beside them, and a request pays for each node that it passes: a few random trees of
    heavy leaves add to it what many exact ones do. A node that asks for a set of categories would be as
    many comparisons in ONNX.

    Args:
        boosting: what is learned.
        weight: of all rows; see `_weigh`.
    """
    light = replace(boosting, columns=0.5, sets=False)
    least = weight / _LARGE_LEAVES
    if least <= _LEAF_WEIGHT:
        return [light]
    heavy = replace(light, leaf_weight=least, rows=0.5, columns=0.4, late=_LATE)
    return [heavy, light]


def _boost_best(
    tried: list[Boosting],
    boost: "Callable[[Boosting, Budget], tuple[Any, list[float]]]",
    budget: Budget,
    clear: float,
) -> "tuple[Boosting, xgboost.Booster, list[float]]":
    """The training with the leaves that suit the table, its trees and the loss after each round.

    The second one is tried where there is time for both, and taken where its loss on the validation part
    is less by the share `clear`.
    """
    boosting, *others = tried
    model, history = boost(boosting, budget)
    if not others or budget.left < budget.spent:
        return boosting, model, history
    (other,) = others
    other_model, other_history = boost(other, budget)
    if min(other_history) < (1 - clear) * min(history):
        progress(
            f"trees: leaves may weigh {other.leaf_weight:g} in place of {boosting.leaf_weight:.3g}: the"
            f" validation loss is {min(other_history):.4f} in place of {min(history):.4f}"
        )
        return other, other_model, other_history
    return boosting, model, history


def _boost(
    boosting: Boosting,
    config: TrainingConfig,
    train: "xgboost.DMatrix",
    validation: "xgboost.DMatrix",
    watch: "xgboost.callback.TrainingCallback",
) -> "tuple[xgboost.Booster, list[float]]":
    """One training: the trees up to the best round, or the first one as good, and the loss after each."""
    import xgboost

    trees = config.trees
    settings = {
        **boosting.objective,
        "eval_metric": boosting.metric,
        "eta": float(trees.learning_rate),
        "max_depth": int(trees.depth),
        "min_child_weight": boosting.leaf_weight,
        "subsample": boosting.rows,
        # XGBoost rounds down: of few columns a tree would never see two that belong together.
        "colsample_bytree": 1.0 if train.num_col() < _FEW_COLUMNS else boosting.columns,
        "tree_method": "hist",
        "seed": config.seed,
        "nthread": config.threads,
        "verbosity": 0,
        **({} if boosting.sets else {"max_cat_to_onehot": _ALL_CATEGORIES}),
    }
    history: dict[str, dict[str, list[float]]] = {}
    model = xgboost.train(
        settings,
        train,
        trees.rounds,
        evals=[(validation, "validation")],
        evals_result=history,
        early_stopping_rounds=trees.patience,
        verbose_eval=False,
        callbacks=[watch],
    )
    losses = [float(value) for value in history["validation"][boosting.metric]]
    enough = (1 + boosting.late) * min(losses)
    return model[: 1 + next(i for i, loss in enumerate(losses) if loss <= enough)], losses


def _watch(
    boosting: Boosting, rounds: int, stopping: "threading.Event", log: Log, budget: Budget
) -> "xgboost.callback.TrainingCallback":
    """Tells how far the trees are, and ends them where the task is to stop or their time is over."""
    import xgboost

    class Watch(xgboost.callback.TrainingCallback):
        def __init__(self) -> None:
            self._shown_at = time.monotonic()

        def after_iteration(self, model: object, epoch: int, evals_log: Any) -> bool:
            loss = float(evals_log["validation"][boosting.metric][-1])
            if stopping.is_set():
                raise Preempted(
                    f"Training received SIGTERM after {epoch + 1} rounds of trees, which are not"
                    " kept. Run the task again: it begins them anew."
                )
            now = time.monotonic()
            if now - self._shown_at >= _PROGRESS_SECONDS:
                self._shown_at = now
                log({f"trees/{boosting.name}": loss}, epoch + 1)
                name = boosting.name.replace("_", " ")
                progress(
                    f"trees: round {epoch + 1} of at most {rounds:,}, validation {name} {loss:.4f}",
                    done=(epoch + 1) / rounds,
                )
            # Whoever ends training in the first round leaves XGBoost without a best one.
            if over := budget.left <= 0 and epoch > 0:
                progress(f"trees: their share of training.minutes is over after {epoch + 1} rounds")
            return over

    return Watch()
