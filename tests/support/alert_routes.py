"""A window's record with alerts, and a project's section with one route."""

from pathlib import Path
from typing import Any

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.monitoring_record import (
    Alert,
    MLSystemMetrics,
    MonitoringRecord,
)


def record(
    day: int, *names: str, severity: Any = "critical", unknown: Any = ()
) -> MonitoringRecord:
    end = f"2013-12-{day:02d}T05:00:00Z"
    return MonitoringRecord(
        model="flights",
        window=(f"2013-12-{day - 1:02d}T05:00:00Z", end),
        metrics=MLSystemMetrics(
            timestamp=end,
            model_version="3",
            model_accuracy=0.6,
            prediction_latency_ms=3.0,
            throughput_rps=None,
            error_rate=0.0,
            data_drift_score=0.4,
            feature_drift_score=0.5,
        ),
        drift_status="drift",
        summary={"total_predictions": 1000},
        alerts=tuple(
            Alert(name=n, severity=severity, value=0.4, threshold=0.3, message=f"{n} fires. Act.")
            for n in names
        ),
        retrain=False,
        details={"unknown": list(unknown)},
    )


def config(kind: str, url: str, **more: Any) -> MonitoringConfig:
    route = {"name": "ops", "kind": kind, "url": url, **more}
    return MonitoringConfig.model_validate(
        {"routes": [route], "report_url": "https://reports/{model}/{window_end}"}
    )


REPORT = Path("report.html")
