"""Dashboards and alerts against a real Prometheus that scrapes a real, loaded server: no query is empty, and
nothing that the server exports is left out."""

import contextlib
import json
import math
import os
import re
import subprocess
import threading

import pytest

from harness.engines import ROOT
from harness.leases import fetcher, fill, grant
from harness.program import Served, url_of
from harness.prometheus import Prometheus
from harness.server import wait_for

pytestmark = pytest.mark.topology("single")

PLACE = os.path.join(ROOT, "deploy", "grafana")
FILES = sorted(os.listdir(PLACE))
# What Grafana puts in for its variables.
VARIABLES = {"$__rate_interval": "5s", "$exporter": ".*", "$namespace": ".*", "$node": ".*"}
# Counts of what is a histogram, by names that are not in the table.
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def dashboard(name):
    """A dashboard as it is committed."""
    with open(os.path.join(PLACE, name), encoding="utf-8") as text:
        return json.load(text)


def panels(name):
    """What shows something, by title."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def queries(name):
    """(where, expression) of a dashboard."""
    for panel in panels(name):
        for target in panel["targets"]:
            yield f"{name}: {panel['title']}: {target['legendFormat']}", target["expr"]


def filled_in(expr):
    """An expression as Grafana sends it."""
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def test_they_are_what_the_script_makes():
    script = os.path.join(ROOT, "scripts", "gen-dashboards")
    done = subprocess.run([script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FILES)
def test_panels_are_told_apart_and_explained(name):
    found = dashboard(name)
    assert found["uid"] == name.removesuffix(".json")
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in panels(name):
        assert panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"] and panel["datasource"]["uid"] == "${source}", panel["title"]
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']}: one lies on another"
        taken |= cells
    declared = {variable["name"] for variable in found["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(found["panels"]))) - {"__rate_interval"}
    assert used <= declared


class Load:
    """Something of everything, over and over, until it is stopped."""

    def __init__(self, server):
        self.server, self.turns, self.failure = server, 0, None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            while not self._stopped.is_set():
                self.turn()
                self.turns += 1
        except Exception as failure:  # it is the test's to say so
            self.failure = failure

    def turn(self):
        """Once."""
        server, n = self.server, self.turns % 100
        for name in ("shop", "page"):
            server("CACHE.SET", f"{name}:{n}", "v" * 500, "EX", 100, "GRACE", 100, "COST", 50, "TAGS", "t")
            server("CACHE.GET", f"{name}:{n}")
            server("CACHE.GET", f"{name}:none")
            token = grant(server, f"{name}:filled")
            waiter = fetcher(server, f"{name}:filled")
            fill(server, f"{name}:filled", token)
            waiter.answer()
            waiter.connection.close()
            server("CACHE.STALE", f"{name}:filled")
            server("CACHE.GET", f"{name}:filled", "STALE")
            server("CACHE.DEL", f"{name}:filled")
            token = grant(server, f"{name}:refused")
            server("CACHE.DEL", f"{name}:refused")
            server("CACHE.SET", f"{name}:refused", "v", "LEASE", token)
            server("CACHE.SET", f"{name}:brief", "v", "PX", 1)
        server("CACHE.INVALIDATE", "TAGS", "t")

    def stop(self):
        """End it; whatever went wrong."""
        self._stopped.set()
        self._thread.join()
        if self.failure:
            raise self.failure


@pytest.fixture(scope="module")
def scraped(fleet, tmp_path_factory):
    """A Prometheus that has scraped a loaded server for some time, which goes on."""
    server = fleet.start(["--maxmemory", "100mb"], name="scraped")
    server.config("cacheflow.max-memory", "50mb")
    for name in ("shop", "page"):
        server("CACHE.NAMESPACE", "SET", name, "MAXMEMORY", 1 << 20, "BREAKER", 90, 1000)
    with contextlib.ExitStack() as ending:
        ending.callback(fleet.discard, server)
        load = Load(server)
        ending.callback(load.stop)
        served = Served("--url", url_of(server))
        ending.callback(served.discard)
        served.wait_ready()
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), served.port)
        ending.callback(prometheus.stop)
        # A rate takes two samples; what is loaded has moved between them.
        moving = 'rate(cacheflow_fills_total{namespace!="*"}[5s]) > 0'
        wait_for(lambda: len(prometheus.query(moving)) == 2, "rates", pause=0.1)
        yield prometheus


@pytest.mark.parametrize("name", FILES)
def test_no_query_is_empty(scraped, name):
    empty = []
    for where, expr in queries(name):
        found = scraped.query(filled_in(expr))
        if not any(math.isfinite(value) for _, value in found):
            empty.append((where, expr, found))
        for labels, _ in found:
            legend = set(re.findall(r"{{(\w+)}}", where))
            assert legend <= set(labels), f"{where}: the legend has labels that {labels} has not"
    assert not empty, empty


@pytest.mark.parametrize("name", FILES)
def test_the_choices_are_there(scraped, name):
    for variable in dashboard(name)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
        found = scraped.query(filled_in(metric))
        assert found and all(labels.get(label) for labels, _ in found), variable["name"]


def test_every_metric_is_shown():
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as page:
        known = set(re.findall(r"^\| `(cacheflow_\w+)`", page.read(), re.MULTILINE))
    names = {
        found for name in FILES for _, expr in queries(name) for found in re.findall(r"cacheflow_\w+", expr)
    }
    shown = {SUFFIXES.sub("", name) for name in names}
    assert len(known) > 50 and shown == known


def test_alerts_are_evaluated_and_a_server_that_is_well_sets_off_none(scraped):
    rules = scraped.rules()
    assert len(rules) == 20
    wait_for(lambda: all(rule["health"] == "ok" for rule in scraped.rules()), "all rules to be evaluated")
    assert scraped.firing() == set()
