"""The scenarios that every CacheFlow client runs (clients/conformance), with both clients of this one.

Each on every kind of server that it is for. Servers and proxy are shared; what one scenario stored is gone
before the next.
"""

import json
from contextlib import ExitStack, closing

import pytest
from scenarios import CONFORMANCE
from scenarios.actors import ACTORS
from scenarios.processes import Program, Proxy, Raw
from scenarios.runner import Runner

KINDS = ("module", "plain", "cluster")
SCENARIOS = [
    pytest.param(scenario, kind, id=f"{path.stem}: {scenario['name']} [{kind}]")
    for path in sorted((CONFORMANCE / "scenarios").glob("*.json"))
    for scenario in json.loads(path.read_text(encoding="utf-8"))["scenarios"]
    for kind in scenario["servers"]
]


@pytest.fixture(scope="module")
def servers(binary):
    """What server.py started, by kind."""
    with closing(Program("server.py", "--binary", binary, *KINDS)) as program:
        yield program.said


@pytest.fixture(scope="module")
def proxies(servers):
    """A fault proxy before each single server."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(closing(Proxy(servers[kind]["nodes"][0]))) for kind in ("module", "plain")}


@pytest.mark.parametrize("make", ACTORS.values(), ids=ACTORS.keys())
@pytest.mark.parametrize("scenario, kind", SCENARIOS)
def test_scenario(scenario, kind, make, servers, proxies):
    with ExitStack() as stack:
        raws = [stack.enter_context(closing(Raw(node))) for node in servers[kind]["nodes"]]
        for raw in raws:
            raw("FLUSHALL")
        Runner(scenario, kind, servers[kind], proxies.get(kind), raws[0], make).run()
