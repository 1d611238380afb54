"""A training pass through TabM's layers on the CPU: what `tabm` computes, in about half the time.

A layer of `tabm` multiplies its input by each sub-model's scaling, then by the shared weights, then by a
second scaling, each a pass over [rows, sub-models, width]. Here both scalings go into the weights first,
which are fewer than the rows, and the bias into the matrix product. Dropout is one comparison of random
bits with a threshold; torch draws a float64 for each unit, which takes a quarter of a step.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

_LEVELS = 2**16


def run_heads(backbone: nn.Module, output: nn.Module, x: Tensor) -> Tensor:
    """What `output(backbone(x))` gives for x of all sub-models alike, in training.

    Args:
        backbone: of `tabm.make_tabm_backbone`, whose blocks are a linear layer, ReLU, and dropout.
        output: `tabm.LinearEnsemble`.
        x: float32 [N, inputs].

    Returns:
        float32 [N, heads, outputs].
    """
    layers = [cast("Any", block) for block in cast("nn.ModuleList", backbone.blocks)]
    hidden, kept = x.expand(len(layers[0][0].r), -1, -1), 1.0
    for linear, _, dropout in layers:
        # [heads, inputs, units]; what the last dropout left is made up for here.
        weights = linear.weight.T * (linear.r / kept).unsqueeze(2) * linear.s.unsqueeze(1)
        hidden = torch.baddbmm(linear.bias.unsqueeze(1), hidden, weights)
        dropped = round(dropout.p * _LEVELS)
        kept = 1 - dropped / _LEVELS
        hidden = _Rectify.apply(hidden, _draw_kept(hidden.shape, dropped))
    last = cast("Any", output)
    return torch.baddbmm(last.bias.unsqueeze(1), hidden, last.weight / kept).transpose(0, 1)


def _draw_kept(shape: torch.Size, dropped: int) -> Tensor | None:
    """Which units stay, where so many in 65,536 are left out: bool; None: all of them."""
    if dropped == 0:
        return None
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = words.view(torch.int16)[:count].view(shape)
    return levels >= dropped - _LEVELS // 2


class _Rectify(torch.autograd.Function):
    """ReLU and dropout, what is left unscaled. The gradient goes where the result is not 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor | None) -> Tensor:
        result = x.clamp_min(0)
        if kept is not None:
            result *= kept
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], result, 0), None
