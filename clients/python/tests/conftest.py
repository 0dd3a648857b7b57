"""Servers for the client's tests, by the project's own harness: real ones on free loopback ports, each test's
keys under a namespace of its own.

`cache` makes clients of every kind that the same tests run on: by threads and by asyncio, with the module's
commands and with plain ones. An AsyncCacheFlow is driven by an event loop in a thread (`bridge.Bridge`), so that
a test reads the same for both.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from bridge import Bridge, EventLoop, Recorder
from harness import engines
from harness.server import Fleet, wait_for

from cacheflow import CacheFlow

_numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--engine", default="system", help="a name that scripts/engines lists, or a server's path")


def pytest_report_header(config):
    return f"engine {config.getoption('engine')}"


@pytest.fixture(scope="session")
def binary(request):
    """The server program of the run."""
    return engines.binary(request.config.getoption("engine"))


@pytest.fixture(scope="session")
def fleet(binary, tmp_path_factory):
    """All servers of the run."""
    module = os.path.join(ROOT, "target", "release", "libcacheflow.so")
    assert os.path.exists(module), "the module is missing: cargo build --release"
    fleet = Fleet(binary, module, tmp_path_factory.mktemp("servers"))
    yield fleet
    for server in list(fleet.servers):
        fleet.discard(server)


@pytest.fixture(scope="session")
def server(fleet):
    """A server with the module that all tests share."""
    return fleet.start(name="shared")


@pytest.fixture
def own_server(fleet):
    """A server that the test may kill, stop, and restart."""
    server = fleet.start(name="own")
    yield server
    server.resume()
    fleet.discard(server)


@pytest.fixture(scope="session")
def loop():
    """An event loop in a thread, for bridges."""
    loop = EventLoop()
    yield loop
    loop.end()


@pytest.fixture
def make(loop, request):
    """Makes clients of any kind, `make(kind, url, **options)`, closed after the test."""
    made = []

    def maker(kind, url, **options):
        options.setdefault("timeout", 5.0)
        client = Bridge(loop, url, **options) if kind == "async" else CacheFlow(url, **options)
        made.append(client)
        return client

    yield maker
    for client in made:
        client.close()


def url_of(server):
    return f"redis://127.0.0.1:{server.port}"


@pytest.fixture(params=["threads-module", "async-module", "threads-plain", "async-plain"])
def flavor(request):
    """Which kind of client: (threads or async, module or plain)."""
    return tuple(request.param.split("-"))


@pytest.fixture
def namespace():
    """A namespace of the test's own."""
    return f"t{next(_numbers)}"


@pytest.fixture
def another(server, make, flavor, namespace):
    """Makes clients of the flavor in the test's namespace, each as another process would have it."""
    kind, mode = flavor
    return lambda **options: make(kind, url_of(server), **{"namespace": namespace, "mode": mode, **options})


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def cache(another, recorder):
    """A client, its events in `recorder`."""
    return another(observers=[recorder])


class Loads:
    """A loader that counts, and can be held."""

    def __init__(self, value=None):
        self.count, self.value = 0, value
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            self.count += 1
            number = self.count
        self.begun.set()
        assert self.go_on.wait(30)
        return number if self.value is None else self.value

    def hold(self):
        self.begun.clear()
        self.go_on.clear()


@pytest.fixture
def loads():
    return Loads()


class Background:
    """Calls in threads, whose outcome is had by result()."""

    def __init__(self, function, *args, **kwargs):
        self.value = self.error = None

        def run():
            try:
                self.value = function(*args, **kwargs)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self):
        self.thread.join(30)
        assert not self.thread.is_alive(), "the call did not come to an end"
        if self.error is not None:
            raise self.error
        return self.value


def settle(cache):
    """Wait until no refresh is under way in the background."""
    wait_for(lambda: cache.client_stats()["refreshing"] == 0, "background refreshes", 20)


class OldFormat:
    """A codec whose bytes JsonCodec does not read."""

    def encode(self, key, value):
        return b"\xcf\xff old"

    def decode(self, key, data):
        return "old"
