"""The validation report as one HTML page that needs nothing else."""

from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("report.html.j2")
_ORDER = {"fail": 0, "warn": 1, "tolerated": 2, "pass": 3}
_VERDICTS = {
    "pass": "Every check passed.",
    "tolerated": "Accepted: the rows that failed are fewer than the schema tolerates.",
    "warn": "Accepted, with warnings.",
    "fail": "Refused: the data are not as the schema says.",
}


def render(content: dict[str, Any]) -> str:
    """Renders the content of the JSON results as HTML."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    checks = sorted(content["checks"], key=lambda check: _ORDER[check["status"]])
    counts = {status: sum(c["status"] == status for c in checks) for status in _ORDER}
    return template.render(
        content=content,
        verdict=_VERDICTS[content["status"]],
        counts=counts,
        shown=[check for check in checks if check["status"] != "pass"],
        passed=[check for check in checks if check["status"] == "pass"],
    )
