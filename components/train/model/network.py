"""The network: piecewise-linear embeddings of numbers, embeddings of categories, an MLP or TabM.

Sources: Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning"
(NeurIPS 2022) for the numeric embeddings; Gorishniy, Kotelnikov, Babenko, "TabM: Advancing Tabular Deep
Learning with Parameter-Efficient Ensembling" (ICLR 2025) for TabM and for version B of the embeddings.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slipway.components.config.training import NetworkConfig
from slipway.components.support.libraries.imports import without
from slipway.components.train.model.ensemble import run_heads

# rtdl_num_embeddings imports scikit-learn's trees for an option that is not used here, which more
# than doubles the start of the stage. It has a way to go without.
with without("sklearn.tree"):
    import rtdl_num_embeddings
    import tabm


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """What the preprocessor hands the network.

    Attributes:
        bins: edges of the numeric columns' bins, increasing, one tensor a column.
        plain: number of columns that go in as they are.
        cardinalities: number of codes of each categorical column, code 0 included.
    """

    bins: tuple[Tensor, ...]
    plain: int
    cardinalities: tuple[int, ...]


class Network(nn.Module):
    """One member of the ensemble.

    Args:
        shape: the inputs.
        config: sizes, without `auto`.
        heads: 1 gives a plain MLP, more give TabM with so many sub-models.
        outputs: numbers that each head gives.
    """

    def __init__(
        self, shape: InputShape, config: NetworkConfig, heads: int, outputs: int = 1
    ) -> None:
        super().__init__()
        self.heads, self.outputs = heads, outputs
        self.numbers = (
            rtdl_num_embeddings.PiecewiseLinearEmbeddings(
                list(shape.bins), config.embedding, activation=False, version="B"
            )
            if shape.bins
            else None
        )
        widths = [min(config.category_embedding, (n + 1) // 2) for n in shape.cardinalities]
        tables = [nn.Embedding(n, w) for n, w in zip(shape.cardinalities, widths, strict=True)]
        for embedding in tables:
            # An unknown value starts, and where training has none stays, at the neutral place.
            nn.init.zeros_(embedding.weight[0])
        self.categories = nn.ModuleList(tables)
        width = int(config.width)
        chunks = [config.embedding] * len(shape.bins) + [1] * shape.plain + widths
        sizes = {
            "d_in": sum(chunks),
            "n_blocks": config.layers,
            "d_block": width,
            "dropout": float(config.dropout),
        }
        if heads == 1:
            self.backbone = tabm.MLPBackbone(**sizes)
            self.output: nn.Module = nn.Linear(width, outputs)
        else:
            self.backbone = tabm.make_tabm_backbone(
                **sizes,
                k=heads,
                arch_type="tabm",
                start_scaling_init="random-signs" if shape.bins else "normal",
                start_scaling_init_chunks=chunks,
            )
            self.output = tabm.LinearEnsemble(width, outputs, k=heads)

    def forward(self, scaled: Tensor, plain: Tensor, codes: Tensor) -> Tensor:
        """Outputs of what `Preprocessor.forward` gives: float32 [N, heads], or [N, heads, outputs]."""
        parts = []
        if self.numbers is not None:
            parts.append(self.numbers(scaled).flatten(1))
        if plain.shape[1]:
            parts.append(plain)
        for i, embedding in enumerate(self.categories):
            parts.append(embedding(codes[:, i]))
        x = torch.cat(parts, dim=1)
        shape = (self.heads,) if self.outputs == 1 else (self.heads, self.outputs)
        on_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
        if self.heads > 1 and self.training and on_cpu:
            return run_heads(self.backbone, self.output, x).reshape(-1, *shape)
        if self.heads > 1:
            x = x.unsqueeze(1).expand(-1, self.heads, -1)
        return self.output(self.backbone(x)).reshape(-1, *shape)


# On the normal scale that the preprocessing maps values to.
NEAREST = 0.02


def numeric_bins(
    scaled: Tensor, count: int, distinct: int = 0, sample: int = 200_000
) -> tuple[Tensor, ...]:
    """Edges of the bins of each numeric column, increasing.

    A column of few different values gets an edge at each. So does a value that more than one row in
    `count` shares, such as the zeros of an amount that most rows lack: quantiles of the whole column
    would fall upon it again and again. What edges are left lie at quantiles of the other rows.

    Args:
        scaled: float32 [N, p], training rows.
        count: bins at most.
        distinct: so many different values in a column may have an edge each, even where these are more
            than `count` bins.
        sample: rows to look at, about.
    """
    step = max(1, len(scaled) // sample)
    edges = []
    for column in scaled.T:
        taken = column[::step]
        ends = torch.stack([column.min(), column.max()])
        values, rows = torch.unique(taken, return_counts=True)
        if len(values) > max(count + 1, distinct):
            shared = values[rows * count > len(taken)]
            rest = taken[~torch.isin(taken, shared)]
            levels = torch.linspace(0, 1, count + 1 - len(shared))
            values = torch.cat([shared, torch.quantile(rest, levels)])
        edges.append(_apart(torch.cat([values, ends]).unique()))
    return tuple(edges)


def _apart(edges: Tensor) -> Tensor:
    """Increasing edges without those nearer than `NEAREST` to the one before.

    A bin's encoding has the slope 1 / width: in a very narrow one the last bit of a value, which
    onnxruntime and torch round differently, would be seen in the answer.
    """
    kept = [edges[0]]
    for edge in edges[1:]:
        if edge - kept[-1] >= NEAREST:
            kept.append(edge)
    # The greatest value stays an edge, in the place of one that is too near to it.
    return torch.stack([*(kept[:-1] if len(kept) > 1 else kept), edges[-1]]).unique()
