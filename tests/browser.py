"""A browser for tests: the system's Chromium without a network, its requests and its console."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
"""The longest that a page may take on a busy machine."""
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


def programs() -> tuple[str, str] | None:
    """Return the paths of Chromium and its driver, or None if one is missing."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


class Browser:
    """Chromium with a page in it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1200, height: int = 1000, media: Mapping[str, str] | None = None) -> None:
        """Open a report in a window of this size, and wait until its first images are drawn."""
        self.visit(
            path.as_uri(), "document.querySelectorAll('#grid button[aria-label]').length > 0", width, height, media
        )

    def visit(
        self, address: str, ready: str, width: int = 1200, height: int = 1000, media: Mapping[str, str] | None = None
    ) -> None:
        """Open an address in a window of this size, and wait until an expression of the page is true."""
        features = [{"name": name, "value": value} for name, value in (media or {}).items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        self.resize(width, height)
        self.logs()
        self.driver.get(address)
        self.until(ready)

    def resize(self, width: int, height: int = 1000) -> None:
        """Give the page a viewport of this size in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *arguments: object) -> Any:
        """Return the value of an expression of the page."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def until(self, condition: str) -> None:
        """Wait until an expression of the page is true."""
        WebDriverWait(self.driver, SECONDS, 0.05).until(lambda driver: driver.execute_script(f"return {condition}"))

    def find(self, selector: str) -> WebElement:
        """Return the first element with this selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return all elements with this selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return the text that an element holds, shown or not."""
        return str(self.run("document.querySelector(arguments[0]).textContent", selector))

    def logs(self) -> tuple[list[str], list[str]]:
        """Return the console's messages and the addresses that were requested since the last call."""
        console = [str(entry["message"]) for entry in self._log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        asked = [
            str(event["params"]["request"]["url"])
            for event in events
            # The browser's own first tab loads its icons.
            if event["method"] == "Network.requestWillBeSent"
            and not event["params"]["documentURL"].startswith(("chrome:", "chrome-"))
        ]
        return console, asked

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]  # selenium's own
        return entries


@contextmanager
def opened_browser(profile: Path) -> Iterator[Browser]:
    """Yield a browser with a new profile; skip the test if there is none."""
    if (found := programs()) is None:
        pytest.skip("no chromium and chromedriver; install them (apt-get install chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = found[0]
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(found[1]))
    driver.set_script_timeout(SECONDS)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
