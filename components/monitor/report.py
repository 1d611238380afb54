"""The report of a window: one HTML page that stands alone."""

import html
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.components.config.kinds import metric_name
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring_record import MonitoringRecord
from slipway.components.monitor.measures.drift import DriftResult, FeatureDrift
from slipway.components.monitor.measures.sketch import CategorySketch, NumericSketch, Sketch
from slipway.components.monitor.reference import Reference
from slipway.components.support.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TEMPLATE = Path(__file__).with_name("report.html.j2")
BARS = 24
VALUES = 8


def write_report(
    path: Path,
    record: MonitoringRecord,
    drift: DriftResult | None,
    reference: dict[str, Sketch],
    window: dict[str, Sketch],
    evidently: str | None,
) -> None:
    """Writes the page.

    Args:
        path: the page's file.
        record: what was found.
        drift: None where there was too little data.
        reference: feature to its sketch of what the window was compared with.
        window: feature to its sketch of the window.
        evidently: Evidently's own page, which is put in whole, or None.
    """
    from jinja2 import Environment

    pictures = {}
    if drift:
        for feature in drift.features:
            pictures[feature.name] = picture(reference[feature.name], window[feature.name], feature)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    features = sorted(drift.features, key=lambda f: (not f.drifted, -f.score)) if drift else []
    page = template.render(
        record=record,
        details=record.details,
        drift=drift,
        features=features,
        pictures=pictures,
        evidently=evidently,
        metric_name=metric_name,
    )
    write_text(path, page)


def picture(reference: Sketch, window: Sketch, feature: FeatureDrift) -> str:
    """An SVG of both distributions: the reference grey behind, the window in colour before it."""
    if isinstance(reference, NumericSketch) and isinstance(window, NumericSketch):
        names, old, new = _numeric_bars(reference, window)
    else:
        assert isinstance(reference, CategorySketch)  # noqa: S101 - same kind on both sides
        assert isinstance(window, CategorySketch)  # noqa: S101
        names, old, new = _category_bars(reference, window)
    if not names:
        return ""
    top = max(*old, *new, 1e-9)
    width, height = 200.0, 40.0
    step = width / len(names)
    colour = "#c4432b" if feature.drifted else "#2b6cb0"
    bars = []
    for i, (name, before, after) in enumerate(zip(names, old, new, strict=True)):
        title = html.escape(f"{name}: {before:.1%} in the reference, {after:.1%} in the window")
        a, b = height * before / top, height * after / top
        bars.append(
            f"<g><title>{title}</title>"
            f'<rect x="{i * step:.1f}" y="{height - a:.1f}" width="{step * 0.9:.1f}"'
            f' height="{a:.1f}" fill="#b8bec6"/>'
            f'<rect x="{(i + 0.25) * step:.1f}" y="{height - b:.1f}" width="{step * 0.4:.1f}"'
            f' height="{b:.1f}" fill="{colour}"/></g>'
        )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
        f' role="img" aria-label="distribution of {html.escape(feature.name)}">{"".join(bars)}</svg>'
    )


def _numeric_bars(
    reference: NumericSketch, window: NumericSketch
) -> tuple[list[str], list[float], list[float]]:
    if not reference.rows or not window.rows:
        return [], [], []
    low, high = _quantile(reference, 0.01), _quantile(reference, 0.99)
    low = min(low, max(_quantile(window, 0.01), low - (high - low)))
    high = max(high, min(_quantile(window, 0.99), high + (high - low)))
    if low >= high:
        low, high = low - 0.5, high + 0.5
    cuts = np.linspace(low, high, BARS + 1)
    shares = []
    for sketch in (reference, window):
        share = np.diff([_below(sketch, cut) for cut in cuts[:-1]] + [1.0])
        share[0] += _below(sketch, cuts[0])
        shares.append([float(value) for value in share])
    names = [f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(cuts)]
    return names, shares[0], shares[1]


def _quantile(sketch: NumericSketch, share: float) -> float:
    bin_ = int(np.searchsorted(np.cumsum(sketch.counts), share * sketch.rows))
    ends = np.clip(sketch.edges, sketch.low, sketch.high)
    return float(ends[min(bin_, len(ends) - 1)])


def _below(sketch: NumericSketch, value: float) -> float:
    """Share of the values below `value`, linear inside bins."""
    ends = np.concatenate(
        [[sketch.low], np.clip(sketch.edges, sketch.low, sketch.high), [sketch.high]]
    )
    shares = np.concatenate([[0.0], np.cumsum(sketch.counts) / sketch.rows])
    return float(np.interp(value, ends, shares))


def _category_bars(
    reference: CategorySketch, window: CategorySketch
) -> tuple[list[str], list[float], list[float]]:
    n, m = max(reference.rows, 1), max(window.rows, 1)
    share = {
        value: (reference.counts.get(value, 0) / n, window.counts.get(value, 0) / m)
        for value in reference.counts.keys() | window.counts.keys()
    }
    shown = sorted(share, key=lambda value: (-max(share[value]), value))[:VALUES]
    old, new = [share[v][0] for v in shown], [share[v][1] for v in shown]
    if len(share) > VALUES:
        shown.append(f"{len(share) - VALUES} other values")
        old.append(max(1 - sum(old), 0.0))
        new.append(max(1 - sum(new), 0.0))
    return shown, old, new


def evidently_page(
    reference: Reference, sample: "pa.Table", config: MonitoringConfig, rows: int
) -> str:
    """Evidently's drift page on a bounded sample, with this project's limits.

    Evidently computes on the sample only: the figures that decide are the record's, which saw every
    row. Its page loads nothing from elsewhere.
    """
    import tempfile

    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    kinds = reference.kinds
    # A moment moves on by itself, and Evidently would call that drift.
    names = [name for name, kind in kinds.items() if kind != "time" and name in sample.column_names]
    numeric = [name for name in names if kinds[name] == "numeric"]
    categorical = [name for name in names if kinds[name] != "numeric"]
    even = np.linspace(0, reference.table.num_rows - 1, min(rows, reference.table.num_rows))
    old = _frame(reference.table.take(even.astype(np.int64)), numeric, categorical)
    new = _frame(sample, numeric, categorical)
    empty = [name for name in names if old[name].isna().all() or new[name].isna().all()]
    definition = DataDefinition(
        numerical_columns=[name for name in numeric if name not in empty],
        categorical_columns=[name for name in categorical if name not in empty],
    )
    preset = DataDriftPreset(
        columns=[name for name in names if name not in empty],
        num_method="wasserstein",
        num_threshold=config.drift.distance,
        cat_method="chisquare",
        cat_threshold=config.drift.false_alarms,
        drift_share=config.alerts.drift,
    )
    snapshot = Report([preset]).run(
        Dataset.from_pandas(new, data_definition=definition),
        Dataset.from_pandas(old, data_definition=definition),
    )
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "evidently.html"
        snapshot.save_html(str(page))
        return page.read_text(encoding="utf-8")


def _frame(table: "pa.Table", numeric: list[str], categorical: list[str]) -> "pd.DataFrame":
    frame = table.select([*numeric, *categorical]).to_pandas()
    for name in categorical:
        frame[name] = frame[name].astype("object").where(frame[name].notna(), None)
        frame[name] = frame[name].map(lambda value: None if value is None else str(value))
    return frame


def finite(value: Any) -> Any:
    """JSON values in which a number that is not finite is None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
