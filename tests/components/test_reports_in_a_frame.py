"""The reports open in Kubeflow's UI: in a frame that may run scripts and nothing else.

kubeflow/pipelines 2.17.0 shows an HTML artifact by `srcdoc` in `<iframe sandbox="allow-scripts">`
(frontend/src/components/viewers/HTMLViewer.tsx): no origin, so no storage and no cookies, no forms,
downloads or pop-ups; a relative address or an anchor would lead to the UI's own page.
"""

import html
import re
from pathlib import Path

import pytest
from support.browser import open_browser

from slipway.components.support.pages.pages import write_page

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
    # monitor's two pages are written for a window, for a scored table and for merged shards, validate's
    # for all tables or for merged shards. The frame, its macros and its style come with them.
    assert (len(PAGES), outputs) == (8, 10)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.parametrize("what", DENIED)
def test_a_page_needs_nothing_that_the_frame_denies(page: Path, what: str) -> None:
    assert DENIED[what].search(page.read_text()) is None, what


def test_a_page_is_seen_in_the_frame_light_and_dark(tmp_path: Path) -> None:
    """As wide as it is beside Kubeflow's graph: text, paper, and nothing to scroll sideways."""
    (shortest,) = (path for path in PAGES if path.name == "no_evidently.html.j2")
    write_page(tmp_path / "page.html", shortest)
    code = html.escape((tmp_path / "page.html").read_text())
    frame = f'<iframe sandbox="allow-scripts" style="width: 600px; height: 600px" srcdoc="{code}">'
    (tmp_path / "ui.html").write_text(f"<!doctype html><title>UI</title>{frame}</iframe>")
    papers = {}
    with open_browser(tmp_path / "profile") as page:
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.open(tmp_path / "ui.html", 640)
            text, papers[scheme], over = page.look_into_frame()
            assert "The window has too few predictions" in text and over == 0
        assert page.complaints() == []
    assert papers["light"] == "rgb(255, 255, 255)" != papers["dark"]
