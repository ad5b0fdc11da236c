"""A headless Chromium of this machine for the tests of pages; those skip where there is none."""

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:")  # the last: the browser's own first tab


class Browser:
    """Opens pages of a folder and says what happened."""

    def __init__(self, profile: Path) -> None:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        chromedriver = shutil.which("chromedriver")
        if chromium is None or chromedriver is None:
            pytest.skip("no Chromium with its chromedriver on this machine: install both to test the pages")
        webdriver = pytest.importorskip("selenium.webdriver")
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = chromium
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
        self.driver.set_script_timeout(120)

    def open(self, page: Path, width: int = 1200) -> None:
        """Open a page at a width of window and wait until its script and figures are done."""
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver.get_log("browser")
        self.driver.get_log("performance")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.resolve().as_uri())
        done = """return document.documentElement.dataset.ready === "yes" &&
            [...document.querySelectorAll(".plot")].every((p) => p.dataset.drawn === "yes")"""
        WebDriverWait(self.driver, 60).until(lambda d: d.execute_script(done))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the page wrote to the console, of any level."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for files of this machine."""
        import json

        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert asked, "the log of requests is empty: nothing would be noticed"
        return [url for url in asked if not url.startswith(LOCAL)]

    def violations(self) -> list[str]:
        """Rules of accessibility that the page breaks, with the first element of each."""
        package = pytest.importorskip("axe_core_python")
        source = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
        self.driver.execute_script(source)
        found = self.driver.execute_async_script(  # of rules that hold only the number: their elements are thousands
            "const done = arguments[0]; axe.run({resultTypes: ['violations']})"
            ".then((r) => done({passes: r.passes.length, violations: r.violations}))"
        )
        assert found["passes"] > 10, "hardly a rule was tried"
        return [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}" for v in found["violations"]]

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])

    def quit(self) -> None:
        self.driver.quit()
