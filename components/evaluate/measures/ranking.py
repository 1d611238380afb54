"""Measures what `gate.ranking` asks for: how well the model orders the rows of each query."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.gate import GateConfig, RankingRule
from slipway.components.contracts.splits import part_file
from slipway.components.evaluate.measures.measure import TestPass, as_estimate, has_blocks
from slipway.components.evaluate.measures.measured import RankingEvidence
from slipway.components.evaluate.measures.slices import SliceColumn, require_groups, texts
from slipway.components.metrics.ranking import QueryMetrics, measure_queries

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedQueries:
    """The test rows of all queries: about 20 bytes a row are held, since a query's rows may lie apart.

    Attributes:
        column: its values name the queries.
        parts: of each batch the rows' query (a hash), label, score and block.
    """

    rule: RankingRule
    column: SliceColumn
    parts: list[tuple["np.ndarray", ...]] = field(default_factory=list)

    def add(
        self,
        table: "pa.Table",
        labels: "np.ndarray",
        answers: "np.ndarray",
        block: "np.ndarray",
        weights: "np.ndarray | None",
    ) -> None:
        """Takes a batch of test rows; each query counts once, whatever its rows weigh."""
        import numpy as np
        import polars as pl

        query = pl.Series(texts(table, self.rule.by)).cast(pl.String).hash(seed=1).to_numpy()
        self.parts.append(
            (query, labels.astype(np.int8), answers.astype(np.float32), block.astype(np.int32))
        )


def plan_ranking(folder: Path, gate: GateConfig) -> list[RankedQueries]:
    """What counts the queries; nothing where no ranking is asked for.

    Raises:
        SlipwayError: the column is not in the test table, is the label, or is a number with fractions.
    """
    import pyarrow.parquet as pq

    rule = gate.ranking
    if rule is None:
        return []
    require_groups(rule.by, pq.read_schema(part_file(folder, "test")), "gate.ranking")
    column = SliceColumn(name=rule.by, values=(), declared=False, source=rule.by)
    return [RankedQueries(rule=rule, column=column)]


def ranking_evidence(
    ranked: list[RankedQueries], done: TestPass, gate: GateConfig
) -> RankingEvidence | None:
    """The mean over the queries, with intervals from the pass's own blocks."""
    import numpy as np

    if not ranked or not ranked[0].parts:
        return None
    rule = ranked[0].rule
    query, label, score, block = (
        np.concatenate(columns) for columns in zip(*ranked[0].parts, strict=True)
    )
    found = measure_queries(query, label, score, rule.at)
    queries = len(found.first)
    sums = _by_block(found, block, done)
    drawn = done.weights @ sums if has_blocks(done) and queries else None
    estimates = {}
    for place, name in enumerate(("ndcg", "recall")):
        values = getattr(found, name)
        with np.errstate(invalid="ignore", divide="ignore"):
            several = None if drawn is None else drawn[:, place] / drawn[:, 2]
        value = float(values.mean()) if queries else float("nan")
        estimates[name] = as_estimate(value, several, gate.confidence, queries)
    return RankingEvidence(
        queries=queries,
        values=estimates,
        chance={
            "ndcg": float(found.chance_ndcg.mean()) if queries else 0.0,
            "recall": float(found.chance_recall.mean()) if queries else 0.0,
        },
    )


def _by_block(found: QueryMetrics, block: "np.ndarray", done: TestPass) -> "np.ndarray":
    """Sums of NDCG and recall, and queries, of each block of the pass: float64 [blocks, 3].

    A query is in the block of its first row.
    """
    import numpy as np

    place = np.searchsorted(done.blocks, block[found.first])
    columns = (found.ndcg, found.recall, np.ones(len(found.first)))
    return np.stack([np.bincount(place, of, len(done.blocks)) for of in columns], axis=1)


def note_ranking(found: RankingEvidence, rule: RankingRule) -> dict[str, object]:
    """What was asked and measured, for the verdict's notes."""
    return {
        "rule": rule.to_struct(),
        "queries": found.queries,
        "chance": found.chance,
        "values": {name: [one.value, one.low, one.high] for name, one in found.values.items()},
    }
