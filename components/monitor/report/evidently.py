"""Evidently's own page of a window: a file beside the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.monitor.reference import Reference
from slipway.components.support.files import write_text
from slipway.components.support.pages.pages import write_page

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NONE = Path(__file__).with_name("no_evidently.html.j2")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidentlyPage:
    """Its HTML, the share of the columns that it calls drifted, and the window's rows that it saw."""

    text: str
    share: float
    rows: int


def write_evidently(path: Path, page: EvidentlyPage | None) -> None:
    """Writes the page, or one that says why there is none."""
    if page is None:
        write_page(path, NONE)
    else:
        write_text(path, page.text)


def evidently_page(
    reference: Reference, sample: "pa.Table", config: MonitoringConfig, rows: int
) -> EvidentlyPage:
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
        text = page.read_text(encoding="utf-8")
    found = snapshot.dict()["metrics"][0]["value"]
    return EvidentlyPage(text=text, share=found["share"], rows=sample.num_rows)


def _frame(table: "pa.Table", numeric: list[str], categorical: list[str]) -> "pd.DataFrame":
    frame = table.select([*numeric, *categorical]).to_pandas()
    for name in categorical:
        frame[name] = frame[name].astype("object").where(frame[name].notna(), None)
        frame[name] = frame[name].map(lambda value: None if value is None else str(value))
    return frame
