"""The report of a window: one HTML page that stands alone."""

from pathlib import Path

from slipway.components.config.kinds import explain_metrics
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.monitor.measures.drift import DriftResult, FeatureDrift, State
from slipway.components.monitor.measures.sketch import Sketch
from slipway.components.monitor.report.distributions import picture
from slipway.components.monitor.report.evidently import EvidentlyPage
from slipway.components.monitor.report.says import (
    compare_metrics,
    conclude,
    pick_tiles,
    show_amount,
)
from slipway.components.support.pages import digits
from slipway.components.support.pages.pages import write_page

TEMPLATE = Path(__file__).with_name("report.html.j2")
_APART = 0.05
"""From this difference of the two shares on, the page says why Evidently's is another."""
_STATES: dict[State, str] = {"changed": "bad", "cannot tell": "unknown", "not changed": "good"}
_SEVERITIES = {"critical": "bad", "warning": "warn", "info": ""}


def write_report(
    path: Path,
    record: MonitoringRecord,
    drift: DriftResult | None,
    reference: dict[str, Sketch],
    window: dict[str, Sketch],
    evidently: EvidentlyPage | None,
    *,
    of_table: bool = False,
) -> None:
    """Writes the page.

    Args:
        path: the page's file.
        record: what was found.
        drift: None where there was too little data.
        reference: feature to its sketch of what the window was compared with.
        window: feature to its sketch of the window.
        evidently: Evidently's own page, of which the share of drifted columns is told; or None.
        of_table: whether the predictions are a scored table's: then there were no requests, and the page
            has nothing of their times and failures.
    """
    details = record.details
    label = details["label"] or {}
    rows = compare_metrics(details)
    write_page(
        path,
        TEMPLATE,
        record=record,
        details=details,
        verdict=conclude(record),
        alerts=[
            {
                "name": alert.name,
                "severity": alert.severity,
                "state": _SEVERITIES[alert.severity],
                "value": show_amount(alert, alert.value),
                "limit": show_amount(alert, alert.threshold),
                "message": alert.message,
            }
            for alert in record.alerts
        ],
        of_table=of_table,
        of_number=label.get("kind") == "number",
        metrics=rows,
        tiles=pick_tiles(rows),
        meanings=explain_metrics(row.name for row in rows),
        drift=drift,
        groups=[
            (state, mark, [_feature(f, reference[f.name], window[f.name]) for f in drift.of(state)])
            for state, mark in _STATES.items()
        ]
        if drift
        else [],
        evidently=_disagreement(drift, evidently),
    )


def _feature(feature: FeatureDrift, reference: Sketch, window: Sketch) -> dict[str, object]:
    """What the page shows of a feature: the finding, the picture, and each measure with its unit."""
    found = feature.statistics
    facts = [
        ("Kind", feature.kind),
        (
            "Missing",
            f"{digits.share(found['nulls'])} in the window,"
            f" {digits.share(found['reference_nulls'])} in the reference",
        ),
        ("Independent rows", f"{found['worth']:,.0f} (what the window's rows are worth)"),
        ("Jensen–Shannon distance", f"{digits.number(found['js'])} (0 alike, 1 without overlap)"),
        ("Population stability index", digits.number(found["psi"])),
    ]
    if "wasserstein" in found:
        sd = found.get("std") or 0.0
        distance = digits.number(found["wasserstein"])
        facts += [
            (
                "Moved by",
                f"{distance} in the feature's unit"
                + (
                    f", {digits.number(found['wasserstein'] / sd)} standard deviations"
                    if sd
                    else ""
                ),
            ),
            ("Kolmogorov–Smirnov statistic", digits.number(found["ks"])),
        ]
    if "moved" in found:
        facts.append(("Changed category", digits.share(found["moved"])))
    return {
        "name": feature.name,
        "says": feature.reason or feature.doubt,
        "picture": picture(reference, window, feature.name),
        "facts": facts,
    }


def _disagreement(drift: DriftResult | None, evidently: EvidentlyPage | None) -> str:
    """Why Evidently's page says another share than this one; empty: it does not, or there is none."""
    if drift is None or evidently is None or abs(evidently.share - drift.share) < _APART:
        return ""
    return (
        f"Evidently's page calls {digits.share(evidently.share)} of the columns drifted, this one"
        f" {digits.share(drift.share)}: Evidently looks at a sample of {evidently.rows:,} rows, each"
        " counted in full and each column tested alone, while here rows of one day count as many as they"
        " are worth, and all columns are tested together. Alerts follow this page."
    )
