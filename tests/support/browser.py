"""A real browser without a window: Debian's chromium, driven as a person would use it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(__file__).parents[2] / "build" / "tools" / "node_modules" / "axe-core" / "axe.min.js"


class Page:
    """What a person sees of a page, and what the browser had to say about it.

    Args:
        driver: selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._width = 0

    def open(self, address: str | Path, width: int = 1280) -> str:
        """Opens a page and gives its visible text.

        Args:
            address: a URL, or a file; one without an ending is opened as the HTML that it is.
            width: of the window, in CSS pixels.
        """
        if isinstance(address, Path) and not address.suffix:
            named = address.with_name(f"{address.name}.html")
            shutil.copyfile(address, named)
            address = named
        self._width = width
        emulation = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", emulation)
        self._driver.get(address.resolve().as_uri() if isinstance(address, Path) else address)
        text: str = self._driver.find_element("tag name", "body").text
        return text

    def prefer(self, scheme: str) -> None:
        """From the next page on the reader prefers this colour scheme: light or dark."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def scheme(self) -> str:
        """The colour scheme that a page of the docs' theme is drawn in."""
        program = "return document.body.getAttribute('data-md-color-scheme')"
        found: str = self._driver.execute_script(program)
        return found

    def run_scripts(self, allowed: bool) -> None:
        """Whether pages may run scripts from now on; a driver's own still do."""
        self._driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def look_into_frame(self) -> tuple[str, str, int]:
        """The first frame's visible text, its paper's colour, and by how much it is too wide."""
        self._driver.switch_to.frame(0)
        text: str = self._driver.find_element("tag name", "body").text
        paper, over = self._driver.execute_script(
            "const page = document.documentElement;"
            "return [getComputedStyle(document.body).backgroundColor,"
            " page.scrollWidth - page.clientWidth]"
        )
        self._driver.switch_to.default_content()
        return text, paper, over

    def requests(self) -> list[str]:
        """What the page that is open asked for besides itself."""
        found: list[str] = self._driver.execute_script(
            "return performance.getEntriesByType('resource').map(r => r.name)"
        )
        return [address for address in found if "favicon" not in address]

    def violations(self) -> list[str]:
        """What axe-core finds on the page that is open, with every `details` of it open."""
        if not AXE.is_file():
            missing = "npm's axe-core: `make services`"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
        self._driver.execute_script(AXE.read_text())
        program = (
            "const [done] = arguments;"
            "document.querySelectorAll('details').forEach(one => { one.open = true; });"
            "axe.run().then(found => done(found.violations.flatMap(rule => rule.nodes.map("
            "node => `${rule.id}: ${node.html.slice(0, 120)}`))), e => done([`${e}`]))"
        )
        found: list[str] = self._driver.execute_async_script(program)
        return found

    def ask(self, address: str, body: Any) -> Any:
        """Sends JSON from the page that is open, by the browser's own fetch; gives the answer."""
        program = (
            "const [address, body, done] = arguments;"
            "fetch(address, {method: 'POST', body}).then(a => a.json()).then(done, e => done(`${e}`))"
        )
        return self._driver.execute_async_script(program, address, json.dumps(body))

    def overflow(self) -> int:
        """Pixels by which the page, or a caption above a table that scrolls, is wider than its window."""
        program = (
            "const ends = [...document.querySelectorAll('caption')]"
            ".map(c => Math.ceil(c.getBoundingClientRect().right));"
            "return Math.max(document.documentElement.scrollWidth, ...ends)"
        )
        # Not window.innerWidth: a telephone zooms out until a page that is too wide fits.
        return max(0, int(self._driver.execute_script(program)) - self._width)

    def complaints(self) -> list[str]:
        """What the console has said since it was asked last, but that a favicon is not there."""
        entries = self._driver.get_log("browser")
        return [e["message"] for e in entries if "favicon" not in e["message"]]


@contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """Starts the browser; it reaches this machine and no other.

    Args:
        folder: for its profile.
    """
    if not (BROWSER and DRIVER):
        missing = "Debian's packages chromium and chromium-driver: `make services`"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}",
        # Whatever a page would fetch from elsewhere fails, and is in the console.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(20)
    try:
        yield Page(driver)
    finally:
        driver.quit()
