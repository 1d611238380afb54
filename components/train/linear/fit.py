"""Fits the linear model: maximum likelihood with a quadratic penalty that the validation part chooses.

It is convex, and small beside what else a training does: L-BFGS in float64 (Liu and Nocedal 1989), from a
large penalty to a small one, each from where the one before ended. For each it finds what scikit-learn's
`LogisticRegression` and `Ridge` find. There is no random choice in it.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import Prepared
from slipway.components.train.data.tables import TrainingRows
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.multiclass import MulticlassHead
from slipway.components.train.heads.number import NumberHead
from slipway.components.train.linear.model import Linear, make_scales
from slipway.components.train.model.preprocess import WEEKDAYS

PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
_ROWS = 50_000
_PATIENCE = 2  # penalties without improvement
_STEPS = 200  # of L-BFGS, for each penalty
_SMOOTH = 0.05  # standard deviations over which a quantile's loss bends
_CELLS = 2**22  # rows times outputs at once: 32 MB a table of float64
MAX_COEFFICIENTS = 4_000_000
"""L-BFGS keeps about fifty numbers for each: 1.6 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLinear:
    """A linear model that has been fitted.

    Attributes:
        module: as a network.
        penalty: half of it times the squared weights is added to the mean loss.
        losses: on the validation part, by penalty tried.
        rows: training rows that were taken.
        seconds: they took.
    """

    module: Linear
    penalty: float
    losses: dict[float, float]
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignRows:
    """Rows as the fit takes them, in float64; `weights` have the sum 1."""

    design: Tensor
    codes: Tensor
    labels: Tensor
    weights: Tensor

    def pieces(self, outputs: int) -> "list[DesignRows]":
        """The rows in pieces whose outputs fit into bounded memory; weights are shares of the whole."""
        step = max(1, _CELLS // outputs)
        if len(self.labels) <= step:
            return [self]
        names = ("design", "codes", "labels", "weights")
        cut = [getattr(self, name).split(step) for name in names]
        return [
            DesignRows(**dict(zip(names, piece, strict=True))) for piece in zip(*cut, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """What is fitted: weights [columns, outputs], a table a category [codes, outputs], bias [outputs]."""

    weights: Tensor
    tables: list[Tensor]
    bias: Tensor

    @staticmethod
    def zeros(columns: int, cardinalities: Sequence[int], outputs: int) -> "Coefficients":
        """Where a fit begins."""
        kind = torch.float64
        return Coefficients(
            weights=torch.zeros(columns, outputs, dtype=kind),
            tables=[torch.zeros(count, outputs, dtype=kind) for count in cardinalities],
            bias=torch.zeros(outputs, dtype=kind),
        )

    def outputs(self, design: Tensor, codes: Tensor) -> Tensor:
        """[N, outputs]."""
        found = design @ self.weights + self.bias
        for place, table in enumerate(self.tables):
            found = found + table[codes[:, place]]
        return found


def doubt_size(prepared: Prepared) -> str:
    """Why the model would be too large to be fitted, in words; empty: it is not."""
    parts = prepared.parts
    numbers = 2 * len(parts.preprocessor.varying_columns) + parts.preprocessor.plain_width + 1
    columns, outputs = numbers + sum(_cardinalities(prepared)), parts.head.outputs
    if columns * outputs <= MAX_COEFFICIENTS:
        return ""
    return (
        f"{columns:,} columns and categories for each of {outputs:,} outputs are"
        f" {columns * outputs:,} coefficients; {MAX_COEFFICIENTS:,} are the most"
    )


def _cardinalities(prepared: Prepared) -> tuple[int, ...]:
    """Codes of each categorical column."""
    signature = prepared.parts.signature
    return (
        *(len(signature.vocabularies[name]) + 1 for name in signature.categorical),
        *[WEEKDAYS] * len(signature.time),
    )


def fit_linear(prepared: Prepared) -> FittedLinear:
    """Fits to the training rows, of a large table to evenly spaced ones, and chooses the penalty.

    Args:
        prepared: what was read.

    Raises:
        SlipwayError: it would be too large: see `doubt_size`.
    """
    started = time.monotonic()
    parts = prepared.parts
    if doubt := doubt_size(prepared):
        raise SlipwayError(f"training.model is linear, and {doubt}. Take `network` or `auto`.")
    whole = parts.source.rows
    every = max(1, -(-len(whole) // _ROWS))
    rows = TrainingRows(**{name: getattr(whole, name)[::every].cpu() for name in whole.__slots__})
    held = parts.validation.to(torch.device("cpu"))
    cardinalities = _cardinalities(prepared)
    outputs = parts.head.outputs
    module = Linear(
        make_scales(parts.preprocessor, rows.scaled),
        parts.preprocessor.plain_width,
        cardinalities,
        outputs,
    )
    train, validation = (columns_of(module, table) for table in (rows, held))
    found = Coefficients.zeros(train.design.shape[1], cardinalities, module.outputs)
    losses: dict[float, float] = {}
    best = found
    for penalty in PENALTIES:
        found = minimise(parts.head, found, train, penalty)
        loss = sum(float(_loss(parts.head, found, piece)) for piece in validation.pieces(outputs))
        losses[penalty] = loss if math.isfinite(loss) else math.inf
        chosen = min(losses, key=losses.__getitem__)
        if chosen == penalty:
            best = found
        if list(losses).index(chosen) < len(losses) - _PATIENCE:
            break
    module.fill(best.weights, best.tables, best.bias)
    return FittedLinear(
        module=module.eval().requires_grad_(False),
        penalty=chosen,
        losses=losses,
        rows=len(rows),
        seconds=time.monotonic() - started,
    )


def columns_of(module: Linear, rows: TrainingRows) -> DesignRows:
    """The rows as the fit takes them; the module need not be fitted."""
    with torch.no_grad():
        design = module.design(rows.scaled, rows.plain).double()
    weights = rows.weights.double()
    return DesignRows(
        design=design,
        codes=rows.codes.long(),
        labels=rows.labels.double(),
        weights=weights / weights.sum(),
    )


def minimise(head: Head, start: Coefficients, rows: DesignRows, penalty: float) -> Coefficients:
    """The coefficients with the least mean loss and penalty; the bias has none."""
    leaves = [
        value.clone().requires_grad_() for value in (start.weights, *start.tables, start.bias)
    ]
    fitted = Coefficients(weights=leaves[0], tables=leaves[1:-1], bias=leaves[-1])
    optimizer = torch.optim.LBFGS(
        leaves,
        max_iter=_STEPS,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    pieces = rows.pieces(head.outputs)

    def loss() -> Tensor:
        optimizer.zero_grad()
        squares = sum(value.square().sum() for value in leaves[:-1])
        found = _loss(head, fitted, pieces[0]) + penalty / 2 * squares
        found.backward()  # type: ignore[no-untyped-call]
        for piece in pieces[1:]:
            more = _loss(head, fitted, piece)
            more.backward()  # type: ignore[no-untyped-call]
            found = found.detach() + more.detach()
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    first, *tables, bias = (value.detach() for value in leaves)
    return Coefficients(weights=first, tables=tables, bias=bias)


def _loss(head: Head, coefficients: Coefficients, rows: DesignRows) -> Tensor:
    """The mean loss, a scalar in float64."""
    outputs = coefficients.outputs(rows.design, rows.codes)
    return (_losses(head, outputs, rows.labels) * rows.weights).sum()


def _losses(head: Head, outputs: Tensor, labels: Tensor) -> Tensor:
    """Of each row, in float64: `Head.losses`, with the bend of a quantile's loss made round."""
    if isinstance(head, MulticlassHead):
        return nn.functional.cross_entropy(outputs, labels.long(), reduction="none")
    if isinstance(head, NumberHead):
        tail = (1 - head.level) / 2
        gaps = labels[:, None] - outputs
        levels = torch.tensor([tail, 1 - tail], dtype=gaps.dtype)
        ends = levels * gaps[:, 1:] + _SMOOTH * nn.functional.softplus(-gaps[:, 1:] / _SMOOTH)
        return gaps[:, 0].square() / 2 + ends.sum(1)
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels, reduction="none")
