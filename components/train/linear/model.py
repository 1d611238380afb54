"""A linear model of what the network reads: logistic, softmax, or of a number.

Each number is there twice: on the preprocessor's normal scale, on which skew and outliers do not matter,
and standardised as it is, on which a straight line stays one. Both bend at the preprocessor's knots only,
so that the graph finds them by the same search as the network's embedding. A category, and a weekday,
adds a number of its own for each value.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.train.model.preprocess import Preprocessor

_FARTHEST = 5.0  # standard deviations: one that lies beyond them counts as there


class Scales(nn.Module):
    """Numbers on both scales, from the normal one.

    Args:
        normal: float32 [p, K], where knots lie on the normal scale, increasing, the last one repeated.
        raw: float32 [p, K], the same knots standardised.
    """

    normal: Tensor
    raw: Tensor

    def __init__(self, normal: Tensor, raw: Tensor) -> None:
        super().__init__()
        self.register_buffer("normal", normal)
        self.register_buffer("raw", raw)

    def get_output_shape(self) -> torch.Size:
        """Of a row: [p, 2]."""
        return torch.Size((self.normal.shape[0], 2))

    def forward(self, scaled: Tensor) -> Tensor:
        """[N, p, 2] of [N, p], as `Preprocessor.forward` gives it."""
        columns = scaled.T.contiguous()
        right = torch.searchsorted(self.normal, columns, right=True)
        right = right.clamp(1, self.normal.shape[1] - 1)
        low, high = self.normal.gather(1, right - 1), self.normal.gather(1, right)
        start, end = self.raw.gather(1, right - 1), self.raw.gather(1, right)
        width = high - low
        share = ((columns - low) / torch.where(width > 0, width, 1.0)).clamp(0.0, 1.0)
        return torch.stack([scaled, (start + share * (end - start)).T], dim=2)


class Linear(nn.Module):
    """The linear model; it is called as a network is.

    Args:
        scales: None where no numeric column varies.
        plain: columns that go in as they are.
        cardinalities: number of codes of each categorical column.
        outputs: numbers that a row's answer is made of.
    """

    def __init__(
        self, scales: Scales | None, plain: int, cardinalities: tuple[int, ...], outputs: int
    ) -> None:
        super().__init__()
        self.heads, self.outputs = 1, outputs
        self.numbers = scales
        tables = [nn.Embedding(count, outputs) for count in cardinalities]
        self.categories = nn.ModuleList(tables)
        numbers = 0 if scales is None else scales.get_output_shape().numel()
        self.output = nn.Linear(numbers + plain + outputs * len(tables), outputs)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            # What a category adds stands in its table.
            for place in range(len(tables)):
                start = numbers + plain + outputs * place
                self.output.weight[:, start : start + outputs] = torch.eye(outputs)

    def forward(self, scaled: Tensor, plain: Tensor, codes: Tensor) -> Tensor:
        """Outputs of what `Preprocessor.forward` gives: float32 [N, 1], or [N, 1, outputs]."""
        parts = [self.design(scaled, plain)]
        parts += [table(codes[:, i]) for i, table in enumerate(self.categories)]
        shape = (1,) if self.outputs == 1 else (1, self.outputs)
        return cast("Tensor", self.output(torch.cat(parts, dim=1))).reshape(-1, *shape)

    def design(self, scaled: Tensor, plain: Tensor) -> Tensor:
        """The columns that have a weight of their own: [N, 2p + plain]."""
        if self.numbers is None:
            return plain
        return torch.cat([self.numbers(scaled).flatten(1), plain], dim=1)

    def fill(self, weights: Tensor, tables: list[Tensor], bias: Tensor) -> None:
        """Takes over what was fitted.

        Args:
            weights: [2p + plain, outputs].
            tables: of each category, [codes, outputs].
            bias: [outputs].
        """
        with torch.no_grad():
            self.output.weight[:, : len(weights)] = weights.T
            self.output.bias[:] = bias
            for module, table in zip(self.categories, tables, strict=True):
                cast("nn.Embedding", module).weight[:] = table


def make_scales(preprocessor: Preprocessor, scaled: Tensor) -> Scales | None:
    """The scales of the varying columns.

    Args:
        preprocessor: knows the knots.
        scaled: training rows, or a sample of them, as the preprocessor gives them.
    """
    columns = preprocessor.varying_columns
    if not columns:
        return None
    width = preprocessor.knots.shape[1] - 1
    normal, raw = np.zeros((2, len(columns), width + 1))
    for place, column in enumerate(columns):
        rows = preprocessor.segments[column * width : (column + 1) * width].double().numpy()
        knots = np.append(rows[:, 0], rows[-1, 1])
        normal[place] = np.append(rows[:, 2], rows[-1, 3])
        values = np.interp(scaled[:, place].double().numpy(), normal[place], knots)
        spread = float(values.std()) or 1.0
        raw[place] = np.clip((knots - values.mean()) / spread, -_FARTHEST, _FARTHEST)
    return Scales(torch.from_numpy(normal).float(), torch.from_numpy(raw).float())
