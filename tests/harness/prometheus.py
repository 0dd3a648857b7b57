"""A Prometheus of our own, configured as deploy/ says, but for where it scrapes and how often."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import yaml

from .engines import ROOT
from .server import _end_with_parent, free_port, wait_for

PLACE = os.path.join(ROOT, "deploy", "prometheus")
# As often as it takes for a rate to be known soon.
EVERY = "500ms"


def program():
    """The program, which scripts/setup unpacks."""
    path = os.path.join(ROOT, ".tools", "prometheus")
    path = path if os.path.exists(path) else shutil.which("prometheus")
    assert path, "prometheus is missing: scripts/setup"
    return path


class Prometheus:
    """It scrapes the exporter on `target`, a port of loopback."""

    def __init__(self, directory, target):
        with open(os.path.join(PLACE, "prometheus.yml"), encoding="utf-8") as text:
            config = yaml.safe_load(text)
        config["global"] = {name: EVERY for name in config["global"]}
        config["rule_files"] = [os.path.join(PLACE, file) for file in config["rule_files"]]
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        self.path = os.path.join(directory, "prometheus.yml")
        with open(self.path, "w", encoding="utf-8") as text:
            yaml.safe_dump(config, text)
        self.port = free_port()
        self.log_path = os.path.join(directory, "prometheus.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [
                    program(),
                    f"--config.file={self.path}",
                    f"--storage.tsdb.path={os.path.join(directory, 'data')}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )
        wait_for(self._is_ready, "Prometheus to be ready")

    def _is_ready(self):
        assert self.process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def log(self):
        """What it has written."""
        with open(self.log_path, encoding="utf-8") as text:
            return text.read()

    def _get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expr):
        """What it answers now: (labels, value) each."""
        found = self._get("query", query=expr)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    def firing(self):
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def rules(self):
        """All rules, as it has read them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def stop(self):
        """End it."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
