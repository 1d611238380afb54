"""Labels that arrive after their window: earlier windows are measured again with the labels known by now.

Each result also holds the estimate made without labels at the time, to show how good it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slipway.components.config.data import Window, parse_window
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring_record import MonitoringRecord
from slipway.components.monitor import history
from slipway.components.monitor.measures.performance import measure
from slipway.components.monitor.state import Root
from slipway.components.monitor.tracking import log_series
from slipway.components.monitor.window import LogWindow, main_version, open_window, read_answers
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Matured:
    """One earlier window with the labels that are known by now.

    Attributes:
        accuracy, f1, auc, labelled, unlabelled_share: by now. labelled_then: in its own run.
        expected_accuracy: what the estimate without labels had said in its own run.
        estimate_error: that estimate minus the accuracy by now.
    """

    window: tuple[str, str]
    model_version: str
    labelled_then: int
    labelled: int
    unlabelled_share: float
    accuracy: float
    f1: float | None
    auc: float | None
    expected_accuracy: float | None
    estimate_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def measure_again(
    root: Root,
    series: str,
    model: str,
    log_uri: str,
    window: Window,
    labels: "pl.DataFrame",
    settings: MonitoringConfig,
) -> list[Matured]:
    """Measures the windows of the last `look_back` again that have more labels now than in their run.

    Args:
        root: where monitoring keeps its files.
        series: the name of the history.
        model: the served model.
        log_uri: root of the inference log.
        window: the window of this run: earlier ones ended by its start.
        labels: as `label_table` gives them.
        settings: the `monitoring` section.
    """
    found = []
    since = window.start - settings.look_back
    for record in history.records(root, series, before=window.end, after=since):
        earlier = parse_window(*record.window)
        if earlier.end > window.start or earlier.end <= since:
            continue
        try:
            again = _measure_again(record, open_window(log_uri, model, earlier), labels)
        except SlipwayError:
            continue  # its log is gone or damaged; this window's own findings stand without it
        if again and again.labelled >= settings.min_rows:
            found.append(again)
    return found


def _measure_again(
    record: MonitoringRecord, log: LogWindow, labels: "pl.DataFrame"
) -> Matured | None:
    import pyarrow.compute as pc

    answers = read_answers(log)
    version, _ = main_version(answers)
    if version is None:
        return None
    rows = answers.filter(
        pc.and_(pc.equal(answers["model_version"], version), pc.is_valid(answers["probability"]))
    )
    now = measure(rows, labels)
    then = int(record.summary.get("labelled") or 0)
    if now.labelled <= then or now.accuracy is None or now.unlabelled_share is None:
        return None
    expected = record.summary.get("expected_accuracy")
    return Matured(
        window=record.window,
        model_version=record.metrics.model_version,
        labelled_then=then,
        labelled=now.labelled,
        unlabelled_share=now.unlabelled_share,
        accuracy=now.accuracy,
        f1=now.f1,
        auc=now.auc,
        expected_accuracy=expected,
        estimate_error=None if expected is None else expected - now.accuracy,
    )


def log_matured(model: str, windows: Sequence[Matured]) -> None:
    """Adds each window's later figures to the time series, at that window's own end."""
    for window in windows:
        values: Mapping[str, float | None] = {
            "late_accuracy": window.accuracy,
            "late_labelled": float(window.labelled),
            "estimate_error": window.estimate_error,
        }
        known = {name: value for name, value in values.items() if value is not None}
        log_series(model, window.window[1], known)
