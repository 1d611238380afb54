"""The validation report as one HTML page that needs nothing else."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slipway.components.support.pages import digits
from slipway.components.support.pages.pages import render_page

TEMPLATE = Path(__file__).with_name("report.html.j2")
_ORDER = {"fail": 0, "warn": 1, "tolerated": 2, "pass": 3}
STATES = {"pass": "good", "tolerated": "unknown", "warn": "warn", "fail": "bad"}
"""What a status is shown as."""
_VERDICTS = {
    "pass": "Accepted: every check passed.",
    "tolerated": "Accepted: the rows that failed are fewer than the schema tolerates.",
    "warn": "Accepted, with warnings.",
    "fail": "Refused: the data are not as the schema says.",
}


def render(content: dict[str, Any]) -> str:
    """Renders the content of the JSON results as HTML."""
    checks = sorted(content["checks"], key=lambda check: _ORDER[check["status"]])
    counts = {status: sum(c["status"] == status for c in checks) for status in _ORDER}
    return render_page(
        TEMPLATE,
        content=content,
        verdict=_VERDICTS[content["status"]],
        amounts=_amounts(content["tables"].values()),
        states_of=STATES,
        counts=counts,
        shown=[check for check in checks if check["status"] != "pass"],
        passed=[check for check in checks if check["status"] == "pass"],
    )


def _amounts(tables: Iterable[dict[str, Any]]) -> str:
    """How many rows were kept and how many set apart, in words."""
    rows = bad = 0
    for table in tables:
        rows, bad = rows + table["rows"], bad + table["quarantine"]
    if not bad:
        return f"{digits.counted(rows, 'row')}, none set apart."
    return f"{bad:,} of {digits.counted(rows, 'row')} set apart ({digits.share(bad / rows)})."
