"""AdamW (Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019), the fused kernel alone.

`torch.optim.AdamW(fused=True)` does the same to the last bit, and the tests hold the two against each
other. But the first use of any optimiser of torch imports torch.compile's front end, which takes half as
long as torch itself, and each of its steps sorts the tensors by device and type once more.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """Updates parameters in place.

    Args:
        parameters: float32, all on one device.
        weight_decay: share of a weight that a step takes away, for each unit of learning rate.
    """

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [p.new_zeros((), dtype=torch.float32) for p in self._parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Takes one step with the gradients that lie on the parameters, and removes these.

        Args:
            rate: learning rate.

        Raises:
            RuntimeError: a parameter has no gradient.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if len(gradients) < len(self._parameters):
            raise RuntimeError("A parameter has no gradient: the network does not use it.")
        for parameter in self._parameters:
            parameter.grad = None
        torch._foreach_add_(self._steps, 1)
        torch._fused_adamw_(
            self._parameters,
            gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=rate,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=self._weight_decay,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, object]:
        """The moments, as `torch.optim.AdamW` names them."""
        moments = zip(self._steps, self._means, self._squares, strict=True)
        return {
            "state": {
                i: {"step": step, "exp_avg": mean, "exp_avg_sq": square}
                for i, (step, mean, square) in enumerate(moments)
            }
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        for i, state in saved["state"].items():
            self._steps[i].copy_(state["step"])
            self._means[i].copy_(state["exp_avg"])
            self._squares[i].copy_(state["exp_avg_sq"])
