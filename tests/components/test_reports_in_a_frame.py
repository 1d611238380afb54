"""The reports open in Kubeflow's UI: in a frame that may run scripts and nothing else.

kubeflow/pipelines 2.17.0 shows an HTML artifact by `srcdoc` in `<iframe sandbox="allow-scripts">`
(frontend/src/components/viewers/HTMLViewer.tsx): no origin, so no storage and no cookies, no forms,
downloads or pop-ups; a relative address or an anchor would lead to the UI's own page.
"""

import re
from pathlib import Path

import pytest

COMPONENTS = Path(__file__).resolve().parents[2] / "components"
PAGES = sorted(COMPONENTS.rglob("*.j2"))
DENIED = {
    "an address": re.compile(r"""(?:src|href|action)\s*=\s*["'](?!data:)""", re.I),
    "a style from elsewhere": re.compile(r"""@import|url\(\s*["']?https?:""", re.I),
    "storage": re.compile(r"localStorage|sessionStorage|indexedDB|document\.cookie"),
    "a form, a download or a window": re.compile(r"<form|\bdownload=|window\.open|target=", re.I),
    "a request": re.compile(r"\bfetch\(|XMLHttpRequest|WebSocket"),
}


def test_every_report_is_looked_at() -> None:
    faces = (path.read_text() for path in COMPONENTS.glob("*/component.py"))
    outputs = sum(text.count("dsl.Output[dsl.HTML]") for text in faces)
    # monitor's two pages are written for a window and for a scored table. The frame, its macros and its
    # style come with them.
    assert (len(PAGES), outputs) == (8, 7)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.parametrize("what", DENIED)
def test_a_page_needs_nothing_that_the_frame_denies(page: Path, what: str) -> None:
    assert DENIED[what].search(page.read_text()) is None, what
