"""TabM's training pass against the package's own layers."""

import pytest
import tabm
import torch
from torch import nn

from slipway.components.config.training import NetworkConfig
from slipway.components.train.model.ensemble import run_heads
from slipway.components.train.model.network import InputShape, Network

ROWS = 64


def network(*, dropout: float, outputs: int = 1, layers: int = 2) -> Network:
    torch.manual_seed(3)
    config = NetworkConfig(
        architecture="tabm", width=32, dropout=dropout, layers=layers, tabm_heads=4
    )
    bins = (torch.linspace(-2, 2, 9), torch.linspace(-1, 1, 5))
    made = Network(InputShape(bins=bins, plain=1, cardinalities=(5,)), config, 4, outputs)
    with torch.no_grad():  # the package starts all scalings but the first at one
        for parameter in made.backbone.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


def rows() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(ROWS, 2, generator=generator),
        torch.randn(ROWS, 1, generator=generator),
        torch.randint(0, 5, (ROWS, 1), generator=generator),
    )


@pytest.mark.parametrize(("layers", "outputs"), [(1, 1), (2, 1), (3, 3)])
def test_answers_and_gradients_are_the_packages(layers: int, outputs: int) -> None:
    made = network(dropout=0.0, outputs=outputs, layers=layers)
    found = {}
    for training in (True, False):  # evaluation takes the package's own way
        made.train(training).zero_grad()
        answers = made(*rows())
        (answers * torch.arange(1, ROWS + 1).view(-1, *[1] * (answers.dim() - 1))).sum().backward()
        gradients = [parameter.grad for parameter in made.parameters()]
        found[training] = [answers, *gradients]
    for ours, theirs in zip(found[True], found[False], strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_dropout_leaves_out_its_share_and_makes_up_for_it() -> None:
    backbone = tabm.make_tabm_backbone(
        d_in=3,
        n_blocks=1,
        d_block=500,
        dropout=0.15,
        k=4,
        start_scaling_init="normal",
        start_scaling_init_chunks=[3],
    )
    output = tabm.LinearEnsemble(500, 500, k=4)
    x = torch.ones(200, 3)
    with torch.no_grad():
        backbone.blocks[0][0].weight.zero_()
        backbone.blocks[0][0].bias.fill_(2.0)
        output.weight.copy_(torch.eye(500).expand(4, -1, -1))
        output.bias.zero_()
        torch.manual_seed(0)
        units = run_heads(backbone.train(), output, x)
        again = run_heads(backbone, output, x)
        torch.manual_seed(0)
        same = run_heads(backbone, output, x)
    assert units.shape == (200, 4, 500)
    left = units != 0
    # 400,000 units: the share's standard error is .0006.
    assert (~left).float().mean().item() == pytest.approx(0.15, abs=0.003)
    assert units[left].unique().tolist() == pytest.approx([2 / 0.85], rel=1e-4)
    # Neither rows nor sub-models nor units share what they leave out.
    for dim in range(3):
        assert left.float().mean(dim).std().item() > 0
    pairs = (left[:-1] == left[1:]).float().mean().item()
    assert pairs == pytest.approx(0.85**2 + 0.15**2, abs=0.005)
    assert torch.equal(units, same)
    assert not torch.equal(units, again)


def test_a_network_takes_it_where_it_learns_and_nowhere_else() -> None:
    made = network(dropout=0.5)
    inputs = rows()
    learning = made.train()(*inputs)
    assert not torch.equal(learning, made(*inputs)), "dropout draws anew"
    made.eval()
    packages = []
    made.backbone.register_forward_hook(lambda *_: packages.append(1))
    assert torch.equal(made(*inputs), made(*inputs))
    assert packages == [1, 1]
    made.train()(*inputs)
    assert packages == [1, 1]
    assert isinstance(made.backbone, nn.Module)
