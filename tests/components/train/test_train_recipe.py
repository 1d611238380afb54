"""What the defaults make of a table: bins where values are shared, and settings by its size."""

import pytest
import torch

from slipway.components.config.training import TrainingConfig
from slipway.components.train.model.network import numeric_bins


def test_a_value_that_most_rows_share_does_not_eat_the_bins() -> None:
    """Quantiles of the whole column would give 0 nine times and an edge or two elsewhere."""
    generator = torch.Generator().manual_seed(0)
    amounts = torch.rand(1000, generator=generator) + 1
    column = torch.cat([torch.zeros(9000), amounts]).view(-1, 1)
    (edges,) = numeric_bins(column, 10)
    assert len(edges) <= 11
    assert edges[0] == 0
    assert (edges > 1).sum() == 10
    inside = torch.bucketize(amounts, edges[1:], right=True)
    counts = torch.bincount(inside)[1:-1]
    assert counts.min() > 80, "the other rows are spread evenly over the bins"


def test_a_column_without_ties_has_its_quantiles() -> None:
    column = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    (edges,) = numeric_bins(column, 8)
    torch.testing.assert_close(edges, torch.quantile(column[:, 0], torch.linspace(0, 1, 9)))


def test_few_different_values_have_an_edge_each() -> None:
    column = (torch.arange(6000) ** 2 % 60).float().view(-1, 1)
    values = column.unique()
    assert torch.equal(numeric_bins(column, len(values) - 1)[0], values)
    assert len(numeric_bins(column, 4)[0]) <= 5
    assert torch.equal(numeric_bins(column, 4, distinct=128)[0], values)


def test_the_defaults_follow_the_size_of_the_table() -> None:
    small, large = TrainingConfig().resolve(49_999), TrainingConfig().resolve(50_000)
    assert (small.network.architecture, small.members, small.batch_size) == ("tabm", 1, 256)
    assert (large.network.architecture, large.members, large.batch_size) == ("mlp", 2, 1024)
    assert (small.min_steps, large.min_steps) == (3000, 600)
    assert (small.epochs, large.epochs) == (15, 5)
    assert (small.patience, large.patience) == (4, 2)
    assert (small.learning_rate, large.learning_rate) == (6e-3, 2e-3)
    assert (small.weight_decay, large.weight_decay) == (5e-2, 1e-2)
    assert (small.network.distinct, large.network.distinct) == (128, 0)
    assert (small.network.width, large.network.width) == (128, 256)
    assert (small.network.dropout, large.network.dropout) == (0.15, 0.2)
    timed = TrainingConfig(minutes=5)
    assert (timed.resolve(10).members, timed.resolve(90_000).members) == (4, 4)
    assert TrainingConfig(minutes=5, members=1).resolve(10).members == 1
    asked = {"min_steps": 50, "epochs": 3, "learning_rate": 0.01, "network": {"distinct": 7}}
    given = TrainingConfig.model_validate(asked).resolve(10)
    assert (given.min_steps, given.epochs, given.learning_rate) == (50, 3, 0.01)
    assert given.network.distinct == 7


@pytest.mark.parametrize(
    ("rows", "asked", "epochs", "patience"),
    [
        (300, {}, 30, 6),
        (25_600, {}, 30, 6),
        (30_000, {}, 25, 5),
        (300, {"min_steps": 1_500}, 15, 4),
        (300, {"min_steps": 60}, 10, 4),
        (300, {"min_steps": 9_000}, 90, 18),
        (300, {"epochs": 20}, 20, 4),
        (300, {"epochs": 2, "patience": 1}, 2, 1),
        (25_600, {"batch_size": 128}, 15, 4),
        (80_000, {"min_steps": 9_000}, 5, 2),
    ],
)
def test_a_small_tables_epochs_are_short(
    rows: int, asked: dict[str, int], epochs: int, patience: int
) -> None:
    settings = TrainingConfig.model_validate(asked).resolve(rows)
    assert (settings.epochs, settings.patience) == (epochs, patience)


def test_edges_keep_a_distance() -> None:
    """A bin's slope is 1 / width: in a narrow one the last bit of a value shows in the answer."""
    near = torch.tensor([0.0, 1e-5, 0.5, 0.519, 0.53, 1.0, 1.001]).repeat(50).view(-1, 1)
    (edges,) = numeric_bins(near, 4, distinct=128)
    torch.testing.assert_close(edges, torch.tensor([0.0, 0.5, 0.53, 1.001]))
    (pair,) = numeric_bins(torch.tensor([[0.0], [1e-3]]), 4, distinct=128)
    assert pair.tolist() == [0.0, torch.tensor(1e-3).item()], "two values still differ"
    assert numeric_bins(torch.zeros(9, 1), 4)[0].tolist() == [0.0]


def test_the_benchmark_of_the_loop_takes_steps() -> None:
    """It builds a training by hand, so what the stage decides for a table it must decide itself."""
    from benchmarks.train_loop import ours, table

    ours(table(2048), 8)
