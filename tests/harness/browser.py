"""Chromium without a window, on the dashboard: what is on the page, and what its console says."""

import base64
import os
import shutil

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service

from .server import wait_for

PHONE = (390, 844)
DESK = (1440, 900)


class Browser:
    """One page, in a browser of its own."""

    def __init__(self, width=DESK[0], height=DESK[1], scale=1, dark=True):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        driver = shutil.which("chromedriver")
        assert chromium and driver, "chromium or chromium-driver is missing: scripts/setup"
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")  # which root cannot have
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # The driver's own port is given; nothing is looked for or fetched.
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.size(width, height, scale)
        self.colours(dark)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def size(self, width, height, scale=1):
        """A screen of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colours(self, dark):
        """What the system is said to prefer."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, port):
        """The dashboard of a `cacheflow serve`, until it shows figures."""
        self.driver.get(f"http://127.0.0.1:{port}/")
        wait_for(lambda: self.value("tile-reads-below") is not None, "the page to show figures")
        return self

    def run(self, script, *arguments):
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def ask(self, script):
        """What a script that waits for something returns."""
        answered = "(value) => done({ value }), (error) => done({ failed: String(error) })"
        whole = f"const done = arguments[0]; (async () => {{ {script} }})().then({answered})"
        answer = self.driver.execute_async_script(whole)
        assert "failed" not in answer, answer
        return answer["value"]

    def find(self, selector):
        """The elements."""
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        """Their texts, as they are shown."""
        return [
            text.strip()
            for text in self.run(
                "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector
            )
        ]

    def text(self, selector):
        """That of the one."""
        (text,) = self.texts(selector)
        return text

    def value(self, element):
        """The figure behind what an element shows; None: not known."""
        value = self.run("return document.getElementById(arguments[0])?.dataset.value ?? ''", element)
        return float(value) if value else None

    def rows(self, panel):
        """A panel's table: the head of each row, and its cells' texts."""
        script = """
            return [...document.querySelectorAll(`#${arguments[0]} .scroll tbody tr`)]
                .map((row) => [...row.children].map((cell) => cell.innerText.trim()))"""
        return {head.split("\n")[0]: cells for head, *cells in self.run(script, panel)}

    def figure(self, panel, row, column):
        """The figure behind a cell: of the row with this head, under this title."""
        script = """
            const [panel, head, title] = arguments;
            const table = document.querySelector(`#${panel} .scroll table`);
            const row = [...table.tBodies[0].rows].find((row) => row.children[0].innerText.trim() === head);
            const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === title);
            const cell = row?.children[at];
            return cell?.dataset.value ?? cell?.querySelector("[data-value]")?.dataset.value ?? null"""
        value = self.run(script, panel, row, column)
        return None if value in (None, "") else float(value)

    def press(self, selector):
        """A click on the first of what is shown, as soon as it is."""
        script = """
            const shown = [...document.querySelectorAll(arguments[0])].find((one) => one.checkVisibility());
            shown?.scrollIntoView({ block: "center" });
            return shown"""

        def pressed():
            element = self.run(script, selector)
            try:
                return element and (element.click() or True)
            except StaleElementReferenceException:
                return False  # its row has gone meanwhile: another may be there

        wait_for(pressed, selector)

    def write(self, selector, text):
        """Types into a field."""
        (field,) = self.find(selector)
        field.clear()
        field.send_keys(text)

    def complaints(self):
        """What the console has said since the last call: errors, warnings, violations of the policy."""
        return [f"{line['level']}: {line['message']}" for line in self.driver.get_log("browser")]

    def picture(self, path, whole=True, height=None):
        """The whole page, or what is seen of it, as WebP; no more of it than this height."""
        options = {"format": "webp", "quality": 82, "captureBeyondViewport": whole}
        if whole:
            width, all_of_it = self.run(
                "const { width, height } = document.documentElement.getBoundingClientRect();"
                "return [width, height]"
            )
            height = min(height or all_of_it, all_of_it)
            options["clip"] = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        with open(path, "wb") as out:
            out.write(base64.b64decode(taken["data"]))
