"""The example configurations of docs/examples: servers start from them, and do what they say."""

import os
import re

import pytest

from harness.engines import ROOT

pytestmark = pytest.mark.topology("single")

EXAMPLES = os.path.join(ROOT, "docs", "examples")


def lines_of(name):
    """What stands in an example, but for where the module is."""
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return [line for line in lines if line and not line.startswith(("#", "loadmodule"))]


@pytest.mark.parametrize("name", ["redis-cluster.conf", "redis-sentinel.conf"])
def test_a_server_starts_from_it(fresh_server, name):
    lines = lines_of(name)
    args = [part for line in lines if not line.startswith("cacheflow.") for part in _option(line)]
    server = fresh_server(args=args)
    for line in lines:
        directive, value = line.split(" ", 1)
        if directive.startswith("cacheflow."):
            server.config(directive, value)
        assert server("CONFIG", "GET", directive) == [directive.encode(), value.encode()]


def _option(line):
    name, value = line.split(" ", 1)
    return f"--{name}", value


def test_sentinels_is_about_what_the_servers_is_about():
    for line in lines_of("sentinel.conf"):
        assert re.fullmatch(r"sentinel \S+( \S+)* cache( \S+)*|sentinel monitor cache \S+ \d+ \d+", line), (
            line
        )
