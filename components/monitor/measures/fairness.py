"""Whether groups of the served rows still lie as close together as the version's release asked for.

The rules are those that the gate held the version against; they came with its reference. A group is a
value of a column that the inference log need not have: what travels beside the features is joined by the
example's key from the table that the labels are in, as labels are, or, where a view joins it of another
table, looked up there as of the prediction. A feature's value is the log's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.gate import FairnessRule
from slipway.components.contracts.dataset import read_manifest, read_table
from slipway.components.contracts.feature_store import StoreLocation
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX
from slipway.components.contracts.rows.row_key import key_sources, row_keys
from slipway.components.metrics.fairness import MISSING, GroupTally, as_texts, row_sums, spread
from slipway.components.metrics.intervals import percentile
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.monitor.measures.performance import KnownLabels, join_labels, known_places
from slipway.components.monitor.measures.skew import offline_values, with_entities
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Status = Literal["holds", "broken", "cannot be told", "too little data"]
MAX_GROUPS = 50
_BLOCKS, _RESAMPLES, _CONFIDENCE = 200, 500, 0.95
_LEAST_GROUPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupValue:
    """One group: the rows that its value is made from, and the value; None: too few rows."""

    rows: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFairness:
    """One rule in a window.

    Attributes:
        status: "too little data" where fewer than two groups have the rule's `min_rows`; "cannot be
            told" where a gap or a ratio is beyond its limit, and its interval holds that limit.
        gap, ratio: how far apart the groups lie that have enough rows. `gap_interval` and
            `ratio_interval` are 95 % bootstrap intervals.
        limits: what the rule asks for. release: gap and ratio on the test part of the release.
        groups: every group that was seen.
        too_few: those among them that were not compared.
        without_group: rows whose group is not known: null, or not in the table yet.
        note: why nothing could be measured at all, in words.
    """

    rule: str
    by: str
    measure: str
    status: Status
    limits: dict[str, float]
    release: dict[str, float | None]
    groups: dict[str, GroupValue]
    too_few: tuple[str, ...]
    without_group: int
    gap: float | None = None
    ratio: float | None = None
    gap_interval: tuple[float, float] | None = None
    ratio_interval: tuple[float, float] | None = None
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)

    @property
    def text(self) -> str:
        """How far the groups lie apart, in a few words."""
        parts = []
        if (limit := self.limits.get("gap")) is not None and self.gap is not None:
            parts.append(f"gap {self.gap:.3f} (at most {limit:g})")
        if (limit := self.limits.get("ratio")) is not None and self.ratio is not None:
            parts.append(f"ratio {self.ratio:.3f} (at least {limit:g})")
        return f"{self.measure.replace('_', ' ')} by {self.by}: {', '.join(parts)}"


def not_measured(
    rules: Sequence[FairnessRule], release: Sequence[Mapping[str, object]], note: str
) -> tuple[WindowFairness, ...]:
    """The rules, none of which could be asked; `note` says why."""
    return tuple(
        WindowFairness(
            status="too little data",
            groups={},
            too_few=(),
            without_group=0,
            note=note,
            **_asked(rule, then),
        )
        for rule, then in zip(rules, release, strict=True)
    )


def _asked(rule: FairnessRule, then: Mapping[str, object]) -> dict[str, Any]:
    limits = {"gap": rule.gap, "ratio": rule.ratio}
    return {
        "rule": rule.name,
        "by": rule.by,
        "measure": rule.measure,
        "limits": {side: limit for side, limit in limits.items() if limit is not None},
        "release": {side: then.get(side) for side in limits},
    }


def logged_columns(rules: Sequence[FairnessRule], features: Sequence[str]) -> list[str]:
    """The columns of the inference log that hold the groups of some rules: those of features."""
    by = dict.fromkeys(rule.by for rule in rules if rule.by in features)
    return [FEATURE_PREFIX + name for name in by]


def read_groups(
    dataset: Path,
    config: FeaturesConfig,
    rules: Sequence[FairnessRule],
    features: Sequence[str],
    answers: "pa.Table",
    place: Callable[[], StoreLocation],
) -> "pl.DataFrame | None":
    """The groups of the examples that the log does not have: key, and a text column for each rule.

    Args:
        dataset: with the labels' table.
        config: the project's `features` section.
        rules: of the version's release.
        features: of the model, which the log has.
        answers: answered rows of the log, with key and time.
        place: gives where the views' tables lie; asked only where a rule needs one.

    Returns:
        None: no rule needs them.

    Raises:
        SlipwayError: the labels' table lacks a column, or the table of a view cannot be read.
    """
    wanted = list(dict.fromkeys(rule.by for rule in rules if rule.by not in features))
    joined = [name for name in wanted if name in config.joined_beside]
    own = _own_groups(dataset, config, [name for name in wanted if name not in joined])
    if not joined:
        return own
    looked_up = _joined_groups(dataset, config, joined, answers, place())
    if own is None:
        return looked_up
    return own.join(looked_up, on="key", how="full", coalesce=True)


def _joined_groups(
    dataset: Path,
    config: FeaturesConfig,
    names: Sequence[str],
    answers: "pa.Table",
    place: StoreLocation,
) -> "pl.DataFrame":
    """What views join beside the features, of each example as of its last prediction."""
    import polars as pl

    asked = pl.from_arrow(answers.select(["key", "time"]))
    assert isinstance(asked, pl.DataFrame)  # noqa: S101 - from_arrow of a table
    rows = asked.drop_nulls("key").sort("time", maintain_order=True).unique("key", keep="last")
    rows = with_entities(rows, dataset, config)
    found = rows.select("key")
    for view in config.views:
        of_view = [name for name in view.feature_names if name in names]
        if of_view:
            values, _ = offline_values(rows, view, config.keys_of(view), of_view, place)
            texts = [
                pl.Series(name, as_texts(values[f"offline {name}"].to_arrow())) for name in of_view
            ]
            groups = pl.DataFrame([values["key"], *texts])
            found = found.join(groups, on="key", how="left")
    return found


def _own_groups(
    dataset: Path, config: FeaturesConfig, names: Sequence[str]
) -> "pl.DataFrame | None":
    """The groups that the labels' own table has."""
    import polars as pl

    if not names:
        return None
    table = config.examples.table
    there = list(read_manifest(dataset).tables[table].columns)
    missing = [name for name in names if name not in there]
    if missing:
        raise SlipwayError(
            f"Table '{table}' of the labels dataset lacks {', '.join(missing)}, by which the gate"
            " compared groups (gate.fairness): add the column to the source again."
        )
    columns = dict.fromkeys([*key_sources(config, there), *names])
    raw = read_table(dataset, table, list(columns))
    keys = row_keys(raw, config, there).cast(pl.String).alias("key")
    groups = pl.DataFrame({name: pl.Series(as_texts(raw[name])) for name in names})
    found = pl.DataFrame([keys, *groups.get_columns()]).drop_nulls("key")
    return found.unique("key", keep="last", maintain_order=True)


def measure_fairness(
    answers: "pa.Table",
    labels: KnownLabels,
    groups: "pl.DataFrame | None",
    label: LabelType,
    rules: Sequence[FairnessRule],
    release: Sequence[Mapping[str, object]],
) -> tuple[WindowFairness, ...]:
    """Measures every rule in the rows of one version.

    Args:
        answers: answered rows of the log, with the columns of `logged_columns`.
        labels: as `read_known_labels` gives them.
        groups: as `read_groups` gives them.
        label: what the version's answers mean.
        rules: of the version's release.
        release: by rule what was measured then: `gap` and `ratio`.
    """
    import polars as pl

    logged = [name for name in answers.column_names if name.startswith(FEATURE_PREFIX)]
    rows = join_labels(answers, labels, label, logged)
    if groups is not None:
        rows = rows.join(groups, on="key", how="left", maintain_order="left")
    rows = rows.with_columns(
        pl.Series(name.removeprefix(FEATURE_PREFIX), as_texts(rows[name].to_arrow()))
        for name in logged
    )
    return tuple(
        _measure(rows, label, labels, rule, then) for rule, then in zip(rules, release, strict=True)
    )


def _measure(
    rows: "pl.DataFrame",
    label: LabelType,
    labels: KnownLabels,
    rule: FairnessRule,
    then: Mapping[str, object],
) -> WindowFairness:
    import polars as pl

    if rule.measure != "selection_rate":
        rows = known_places(rows.drop_nulls("actual"), label, labels)
    left_out = [value for value in rule.leave_out or () if value != MISSING]
    rows = rows.filter(~pl.col(rule.by).is_in(left_out).fill_null(value=False))
    known = rows.filter(pl.col(rule.by).is_not_null() & (pl.col(rule.by) != MISSING))
    without = rows.height - known.height
    names = sorted(known[rule.by].unique())[:MAX_GROUPS]
    if rule.groups is not None:
        names = list(rule.groups)
    tally = _count(known, label, rule, names)
    counted, values = tally.rows(), tally.values()
    enough = counted >= rule.min_rows
    found = {
        name: GroupValue(
            rows=int(counted[place]), value=float(values[place]) if enough[place] else None
        )
        for place, name in enumerate(names)
    }
    result: dict[str, Any] = {
        **_asked(rule, then),
        "groups": found,
        "too_few": tuple(name for name, one in found.items() if one.value is None),
        "without_group": without,
    }
    if enough.sum() < _LEAST_GROUPS:
        return WindowFairness(status="too little data", **result)
    gap, ratio = (_or_none(side) for side in spread(values[enough]))
    of_gap, of_ratio = _intervals(tally, enough)
    return WindowFairness(
        status=_status(rule, (gap, ratio), (of_gap, of_ratio)),
        gap=gap,
        ratio=ratio,
        gap_interval=of_gap,
        ratio_interval=of_ratio,
        **result,
    )


def _status(
    rule: FairnessRule,
    found: tuple[float | None, float | None],
    intervals: tuple[tuple[float, float] | None, tuple[float, float] | None],
) -> Status:
    """Whether a rule is broken, and surely so, by the gap and the ratio and their intervals."""
    (gap, ratio), (of_gap, of_ratio) = found, intervals
    told: set[Status] = set()
    if rule.gap is not None and gap is not None and gap > rule.gap:
        told.add("broken" if of_gap is None or of_gap[0] > rule.gap else "cannot be told")
    if rule.ratio is not None and ratio is not None and ratio < rule.ratio:
        told.add("broken" if of_ratio is None or of_ratio[1] < rule.ratio else "cannot be told")
    return "broken" if "broken" in told else told.pop() if told else "holds"


def _count(
    rows: "pl.DataFrame", label: LabelType, rule: FairnessRule, names: list[str]
) -> GroupTally:
    import polars as pl

    blocks = max(min(_BLOCKS, rows.height), 1)
    tally = GroupTally(label, len(names), blocks)
    if rows.height and names:
        places = {name: place for place, name in enumerate(names)}
        group = rows[rule.by].replace_strict(places, default=-1, return_dtype=pl.Int64).to_numpy()
        # Rows without a label count in the selection rate, which looks at none.
        actual = rows["actual"].to_numpy()
        answers = label.from_columns(rows.to_arrow())
        added = row_sums(label, rule.measure, rule.positive, actual, answers)
        tally.add(added, np.arange(rows.height) % blocks, group)
    return tally


def _intervals(
    tally: GroupTally, enough: npt.NDArray[np.bool_]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Of the gap and of the ratio, from a bootstrap of groups of rows."""
    blocks = tally.sums.shape[1]
    weights = np.random.default_rng(0).multinomial(blocks, [1 / blocks] * blocks, _RESAMPLES)
    drawn = tally.resample(weights.astype(float), np.arange(blocks))[:, enough]
    gap, ratio = (_interval(side) for side in spread(drawn))
    return gap, ratio


def _interval(drawn: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    low, high = percentile(drawn, _CONFIDENCE)
    return None if low is None or high is None else (low, high)


def _or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
