"""Labels that arrive after their window: earlier windows are measured again with the labels known by now.

Each result also holds the estimate made without labels at the time, to show how good it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from slipway.components.config.data import Window, parse_window
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.metrics.kinds.choose import from_facts
from slipway.components.monitor import history
from slipway.components.monitor.measures.performance import KnownLabels, measure
from slipway.components.monitor.state import Root
from slipway.components.monitor.tracking import log_series
from slipway.components.monitor.window import (
    LogWindow,
    is_answered,
    main_version,
    open_window,
    read_answers,
)
from slipway.components.support.errors import SlipwayError


@dataclass(frozen=True, slots=True, kw_only=True)
class Matured:
    """One earlier window with the labels that are known by now.

    Attributes:
        accuracy, f1, auc, rmse, labelled, unlabelled_share: by now; None of what the kind of label has
            not. labelled_then: in its own run.
        expected_accuracy: what the estimate without labels had said in its own run; of a number
            expected_rmse.
        estimate_error: that estimate minus the accuracy (the RMSE) by now.
    """

    window: tuple[str, str]
    model_version: str
    labelled_then: int
    labelled: int
    unlabelled_share: float
    accuracy: float | None
    f1: float | None
    auc: float | None
    expected_accuracy: float | None
    estimate_error: float | None
    rmse: float | None = None
    expected_rmse: float | None = None

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def measure_again(
    root: Root,
    series: str,
    model: str,
    log_uri: str,
    window: Window,
    labels: KnownLabels,
    settings: MonitoringConfig,
) -> list[Matured]:
    """Measures the windows of the last `look_back` again that have more labels now than in their run.

    Args:
        root: where monitoring keeps its files.
        series: the name of the history.
        model: the served model.
        log_uri: root of the inference log.
        window: the window of this run: earlier ones ended by its start.
        labels: as `read_known_labels` gives them.
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


def _measure_again(record: MonitoringRecord, log: LogWindow, labels: KnownLabels) -> Matured | None:
    import pyarrow.compute as pc

    label = from_facts(record.details.get("label"))
    answers = read_answers(log, label.kind)
    version, _ = main_version(answers)
    if version is None:
        return None
    rows = answers.filter(
        pc.and_(pc.equal(answers["model_version"], version), is_answered(answers))
    )
    now = measure(rows, labels, label)
    then = int(record.summary.get("labelled") or 0)
    measured = now.rmse if label.kind == "number" else now.accuracy
    if now.labelled <= then or measured is None or now.unlabelled_share is None:
        return None
    foreseen = {name: record.summary.get(name) for name in ("expected_accuracy", "expected_rmse")}
    expected = foreseen["expected_rmse" if label.kind == "number" else "expected_accuracy"]
    return Matured(
        window=record.window,
        model_version=record.metrics.model_version,
        labelled_then=then,
        labelled=now.labelled,
        unlabelled_share=now.unlabelled_share,
        accuracy=now.accuracy,
        f1=now.f1,
        auc=now.auc,
        **foreseen,
        rmse=now.rmse,
        estimate_error=None if expected is None else expected - measured,
    )


def log_matured(model: str, windows: Sequence[Matured]) -> None:
    """Adds each window's later figures to the time series, at that window's own end."""
    for window in windows:
        values: Mapping[str, float | None] = {
            "late_accuracy": window.accuracy,
            "late_rmse": window.rmse,
            "late_labelled": float(window.labelled),
            "estimate_error": window.estimate_error,
        }
        known = {name: value for name, value in values.items() if value is not None}
        log_series(model, window.window[1], known)
