"""Which network a training makes: one of Slipway's own, or a model of an installed package."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slipway.components.config.training import ARCHITECTURES, NetworkConfig
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries import plugins
from slipway.components.train.model.network import InputShape, Network

_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """How a member is made.

    Attributes:
        make: builds one from the state of torch's global generator.
        origin: the package that it comes from, with its version; empty: Slipway.
    """

    make: Callable[[], nn.Module]
    origin: str = ""


def choose_network(shape: InputShape, config: NetworkConfig, outputs: int) -> NetworkChoice:
    """The network that `training.network.architecture` names.

    Args:
        shape: the inputs.
        config: sizes, without `auto`.
        outputs: numbers that a row's answer is made of.

    Raises:
        SlipwayError: no installed package offers it, or what it builds is no network for these inputs.
    """
    if config.architecture in ARCHITECTURES:
        heads = config.tabm_heads if config.architecture == "tabm" else 1
        return NetworkChoice(make=lambda: Network(shape, config, heads, outputs))
    model = plugins.load(plugins.MODELS, config.architecture)

    def make() -> nn.Module:
        return OwnNetwork(model.function(shape, config, outputs), outputs)

    where = f"The model '{config.architecture}' of {model.origin}"
    state = torch.get_rng_state()
    try:
        _try(make().eval(), shape, outputs)
    except Exception as error:
        raise SlipwayError(
            f"{where} does not fit these features: {type(error).__name__}: {error}. It is called with"
            " (shape, config, outputs), and gives a module from (scaled, plain, codes) to float32"
            f" [rows, {outputs}]."
        ) from error
    finally:
        torch.set_rng_state(state)
    return NetworkChoice(make=make, origin=model.origin)


class OwnNetwork(nn.Module):
    """A package's network, with its answers in the form of one head's."""

    def __init__(self, inner: nn.Module, outputs: int) -> None:
        super().__init__()
        self.inner = inner
        self.form = (1,) if outputs == 1 else (1, outputs)

    def forward(self, scaled: Tensor, plain: Tensor, codes: Tensor) -> Tensor:
        """Outputs of what `Preprocessor.forward` gives: float32 [N, 1], or [N, 1, outputs]."""
        answers: Tensor = self.inner(scaled, plain, codes)
        return answers.reshape(-1, *self.form)


def _try(network: nn.Module, shape: InputShape, outputs: int) -> None:
    """Asks a network for a few rows, so that a wrong form is seen before the training.

    Raises:
        ValueError: it answers in another form.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError("it has no parameter to learn")
    with torch.no_grad():
        given = (
            torch.zeros(_ROWS, len(shape.bins)),
            torch.zeros(_ROWS, shape.plain),
            torch.zeros(_ROWS, len(shape.cardinalities), dtype=torch.int32),
        )
        answers = network.inner(*given)  # type: ignore[operator]
    if tuple(answers.shape) != (_ROWS, outputs) or answers.dtype != torch.float32:
        form = f"{str(answers.dtype).removeprefix('torch.')} {list(answers.shape)}"
        raise ValueError(f"for {_ROWS} rows it answers {form}")
