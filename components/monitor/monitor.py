"""The work of monitor: one window of the inference log against what the model was released with."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.monitoring import MonitoringConfig, RetentionConfig
from slipway.components.contracts.monitoring.inference_log import whole_after
from slipway.components.contracts.monitoring.monitoring_record import (
    MonitoringRecord,
)
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress, stage

# What measures imports numpy, a third of the time to the first line: it comes once the settings are read.
if TYPE_CHECKING:
    from slipway.components.monitor.measures.scan import WindowReader
    from slipway.components.monitor.measures.window_measures import WindowMeasures

Decision = Literal["retrain", "keep"]
# The summary has them as current_accuracy and avg_latency.
_IN_SUMMARY = ("model_accuracy", "prediction_latency_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringTask:
    """What monitoring a window takes, and where it writes.

    Attributes:
        labels_path: dataset with the examples' table, in which late labels are looked up.
        project: the registered model's name.
        config: the project's `monitoring` section.
        features: its `features` section.
        window: of time.
        endpoint: the predictor's base URL, or "": then only the log is read.
        record_path: where the MonitoringRecord goes.
        report_path: where the HTML page goes.
        evidently_path: where Evidently's own page goes; None: it is not kept.
        log_uri: root of the log; empty: INFERENCE_LOG_URI.
        series: the name that the window's record, history and alerts have; empty: the project's.
            Predictions of a table are another series than those of an endpoint.
    """

    labels_path: Path
    project: str
    config: dict[str, object]
    features: dict[str, object]
    window: Window
    endpoint: str
    record_path: Path
    report_path: Path
    evidently_path: Path | None = None
    log_uri: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringResult:
    """What the face hands on: the record and the decision."""

    record: MonitoringRecord

    @property
    def decision(self) -> Decision:
        """Whether the training pipeline should run."""
        return "retrain" if self.record.retrain else "keep"

    @property
    def numbers(self) -> dict[str, float]:
        """The window's finite numbers, as MLflow and the Kubeflow UI show them."""
        return list_numbers(self.record)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return self.record.headline

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "model": self.record.model,
            "model_version": self.record.metrics.model_version,
            "window_start": self.record.window[0],
            "window_end": self.record.window[1],
            "drift_status": self.record.drift_status,
            "alerts": [alert.name for alert in self.record.alerts],
            "retrain": self.record.retrain,
            **{k: v for k, v in self.record.summary.items() if v is not None},
        }


@stage("monitor")
def monitor_window(
    task: MonitoringTask, wait: Callable[[Window], str] | None = None
) -> MonitoringResult:
    """Measures one window and writes its record, its report and its row of the history.

    A window that is run again gives the same record and replaces its row. One that has only just ended is
    measured once its log is whole.

    Args:
        task: which window of which model.
        wait: waits until the log is whole, and says what will be missing; None: as long as the log's
            predictor takes. A scored table is whole.

    Raises:
        SlipwayError: the log, labels or reference cannot be read. Too few predictions are no error:
            the record says so.
    """
    settings = MonitoringConfig.parse(task.config, "monitoring")
    if not task.log_uri:
        wait_for_log(task.window, wait)

    from slipway.components.monitor.measures.scan import LogReader
    from slipway.components.monitor.window import open_window

    progress("reading the log", 0.0)
    log = open_window(task.log_uri or environment.inference_log_uri(), task.project, task.window)
    return watch(task, LogReader(log), settings)


def watch(
    task: MonitoringTask, reader: "WindowReader", settings: MonitoringConfig
) -> MonitoringResult:
    """Measures a window of which all is known, judges it, and tells who is to know.

    Args:
        task: which window of which model.
        reader: gives its rows.
        settings: the `monitoring` section.

    Raises:
        SlipwayError: as `monitor_window`.
    """
    from slipway.components.monitor import history
    from slipway.components.monitor.alerting.routes import notify
    from slipway.components.monitor.late import log_matured
    from slipway.components.monitor.measures.window_measures import MeasuredSeries, measure_window
    from slipway.components.monitor.record import make_record
    from slipway.components.monitor.tracking import log_report, log_series

    series = task.series or task.project
    measures = measure_window(
        MeasuredSeries(
            model=task.project,
            series=series,
            log_uri=task.log_uri or environment.inference_log_uri(),
            labels=task.labels_path,
            features=FeaturesConfig.parse(task.features, "features"),
        ),
        reader,
        settings,
    )
    record = make_record(series, task.window, measures, task.endpoint, settings)
    _keep_sketches(series, record, measures)
    _write_pages(task, record, measures, settings)
    history.append(environment.monitoring_uri(), record)
    for alert in record.alerts:
        progress(f"{alert.severity.upper()} {alert.name}: {alert.message}")
    record.write(task.record_path)
    for failure in notify(environment.monitoring_uri(), record, settings, task.report_path):
        progress(failure)
    progress("noting the window in MLflow", 0.96)
    # Last: that MLflow refuses its time series must keep no alert from anybody.
    run_id = log_series(series, record.metrics.timestamp, list_numbers(record))
    log_report(run_id, record.metrics.timestamp, task.report_path)
    log_matured(series, measures.version.matured if measures.version else ())
    if not task.log_uri:
        _let_go(task, settings)
    return MonitoringResult(record=record)


def wait_for_log(window: Window, wait: Callable[[Window], str] | None = None) -> None:
    """Waits until the log of a window is whole; as for `monitor_window`."""
    from slipway.components.monitor.window import wait_until_whole

    wait = wait or partial(
        wait_until_whole, whole_after=whole_after(environment.inference_log_uri())
    )
    if missing := wait(window):
        progress(f"WARNING: {missing}")


def _let_go(task: MonitoringTask, settings: MonitoringConfig) -> None:
    """Deletes what the project keeps no longer. It fails no run: the next one tries again."""
    if settings.retention == RetentionConfig():
        return
    from slipway.components.monitor.retention.retention import apply_retention, plan_retention
    from slipway.components.support.kubernetes.pod import in_pod
    from slipway.components.support.tracking import connect

    server = connect()
    try:
        kubeflow = None
        if settings.retention.pipeline_runs is not None and in_pod():
            from slipway.components.monitor.retention.runs import KubeflowHistory
            from slipway.components.support.kubeflow import pod_api

            api = pod_api()
            experiments = api.named("experiments", task.project)
            kubeflow = KubeflowHistory(api, [str(e["experiment_id"]) for e in experiments])
        plan = plan_retention(
            task.project,
            settings.retention,
            server=server,
            log_uri=environment.inference_log_uri(),
            now=task.window.end,
            kubeflow=kubeflow,
        )
        apply_retention(plan, server, kubeflow)
    except SlipwayError as error:
        progress(f"WARNING: not all that is past its time was deleted: {error}")


def list_numbers(record: MonitoringRecord) -> dict[str, float]:
    """The finite numbers of a record, flat, by name; none of them twice."""
    metrics = {n: value for n, value in asdict(record.metrics).items() if n not in _IN_SUMMARY}
    values: dict[str, object] = {**metrics, **record.summary, "alerts": len(record.alerts)}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _keep_sketches(series: str, record: MonitoringRecord, measures: "WindowMeasures") -> None:
    """Keeps the window's sketches for later windows to be compared with."""
    from slipway.components.monitor import history

    version = measures.version
    if version and version.drift:
        history.append_sketches(
            environment.monitoring_uri(),
            series,
            record.window,
            version.reference.model_version,
            version.scan.sketches,
        )


def _write_pages(
    task: MonitoringTask,
    record: MonitoringRecord,
    measures: "WindowMeasures",
    settings: MonitoringConfig,
) -> None:
    from slipway.components.monitor.report.evidently import evidently_page, write_evidently
    from slipway.components.monitor.report.page import write_report

    version = measures.version
    drift = version.drift if version else None
    evidently = None
    wanted = task.evidently_path is not None
    if wanted and version and drift and version.scan.sample is not None:
        progress("Evidently renders a sample", 0.6)
        evidently = evidently_page(
            version.reference, version.scan.sample, settings, settings.report_rows
        )
    progress("drawing the report", 0.92)
    if task.evidently_path is not None:
        write_evidently(task.evidently_path, evidently)
    write_report(
        task.report_path,
        record,
        drift.result if drift else None,
        drift.baseline.sketches if drift else {},
        version.scan.sketches if version else {},
        evidently,
        of_table=bool(task.log_uri),
    )
