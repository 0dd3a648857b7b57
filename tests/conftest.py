"""Options, and the fixtures that every test is built on: `server`, `fresh_server`, `topology`.

Every test, whatever it uses, ends with the assertion that no server died or logged a panic; where
it used the shared servers, also with their topology's own check (see harness/topology.py).
"""

import functools
import os

import pytest

from harness import engines, partition
from harness.server import Fleet
from harness.topologies import TOPOLOGIES


def pytest_addoption(parser):
    group = parser.getgroup("cacheflow")
    group.addoption(
        "--engine", default="system", help="a name that scripts/engines lists, or a server's path"
    )
    group.addoption("--topology", default="single", choices=sorted(TOPOLOGIES))
    group.addoption(
        "--module", default="target/release/libcacheflow.so", help="the module, or none (write --module=PATH)"
    )


@functools.cache
def _version(engine):
    return engines.version(engines.binary(engine))


def _is_given(marker, engine):
    """Whether the engine, or the machine, has what a marker asks for."""
    if marker.name == "network_namespace":
        return partition.is_allowed()
    name, version = _version(engine)
    return version >= marker.kwargs.get(name, (0, 0))


def pytest_collection_modifyitems(config, items):
    """Tests that are of one topology (marker `topology`) are not run in the others, and those that need what
    not every engine or machine has (`since`, `network_namespace`) only where it is there."""
    chosen, other = [], []
    engine, topology = config.getoption("engine"), config.getoption("topology")
    for item in items:
        marker = item.get_closest_marker("topology")
        wanted = marker is None or topology in marker.args
        for needed in ("since", "network_namespace"):
            wanted = wanted and all(_is_given(asked, engine) for asked in item.iter_markers(needed))
        (chosen if wanted else other).append(item)
    config.hook.pytest_deselected(items=other)
    items[:] = chosen


def pytest_report_header(config):
    return f"engine {config.getoption('engine')}, topology {config.getoption('topology')}"


@pytest.fixture(scope="session")
def fleet(request, tmp_path_factory):
    """All servers of the run."""
    module = request.config.getoption("module")
    if module == "none":
        module = None
    else:
        module = os.path.join(engines.ROOT, module)
        assert os.path.exists(module), f"{module} is missing: make build"
    fleet = Fleet(
        engines.binary(request.config.getoption("engine")), module, tmp_path_factory.mktemp("servers")
    )
    yield fleet
    for server in list(fleet.servers):
        fleet.discard(server)


@pytest.fixture(scope="session")
def shared_topology(request, fleet):
    """The servers that tests share, started by the first that asks."""
    topology = TOPOLOGIES[request.config.getoption("topology")](fleet)
    yield topology
    topology.end()


@pytest.fixture(autouse=True)
def no_server_broke(request, fleet):
    """The last thing of every test: nobody died, nobody panicked. Shows the logs on failure."""
    marks = {server: os.path.getsize(server.log_path) for server in fleet.servers}
    request.node.log_of = lambda: [
        (server.log_path, server.log(marks.get(server, 0))) for server in fleet.servers
    ]
    yield
    problems = fleet.problems()
    assert not problems, "a server broke:\n" + "\n".join(problems)


@pytest.fixture
def topology(shared_topology, no_server_broke):
    """The shared servers, as new; checked afterwards."""
    shared_topology.begin()
    yield shared_topology
    if shared_topology.alive():  # else no_server_broke says so
        shared_topology.check()


@pytest.fixture
def server(topology):
    """The server that takes writes: shared, empty, with its first configuration."""
    return topology.primary


@pytest.fixture
def fresh_server(fleet, no_server_broke):
    """Starts servers of this test's own: fresh_server(args=["--appendonly", "yes"])."""
    started = []

    def start(args=(), **options):
        started.append(fleet.start(args, name="fresh", **options))
        return started[-1]

    yield start
    problems = fleet.problems()
    for server in started:
        fleet.discard(server)
    assert not problems, "a server broke:\n" + "\n".join(problems)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Put the servers' logs of this test under its failure."""
    report = yield
    if report.failed and hasattr(item, "log_of"):
        for path, text in item.log_of():
            if text.strip():
                crash = max(0, text.find("BUG REPORT START") - 1000)  # its stack, not its end
                text = text[crash : crash + 6000] if crash else text[-6000:]
                report.sections.append((f"log of {os.path.dirname(path)}", text))
    return report
