"""Servers for the client's tests, by the project's own harness: real ones on free loopback ports, each test's
keys under a namespace of its own.

`cache` makes clients of every kind that the same tests run on: by threads and by asyncio, with the module's
commands and with plain ones. An AsyncCacheFlow is driven by an event loop in a thread (`Bridge`), so that a
test reads the same for both.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import os
import sys
import threading

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from harness import engines
from harness.server import Fleet, wait_for

from cacheflow import AsyncCacheFlow, CacheFlow

_numbers = itertools.count(1)


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)

    def names(self):
        """name or name_detail, in order."""
        return [f"{e.name}_{e.detail}" if e.detail else e.name for e in list(self.events)]


class Bridge:
    """An AsyncCacheFlow, called as if it were a CacheFlow: in an event loop of another thread. Loaders, which
    may block, run in threads."""

    def __init__(self, loop, *args, **options):
        self._loop = loop
        self._cache = self._await(self._make(*args, **options))

    @staticmethod
    async def _make(*args, **options):
        return AsyncCacheFlow(*args, **options)

    def _await(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def __getattr__(self, name):
        found = getattr(self._cache, "aclose" if name == "close" else name)
        if not inspect.iscoroutinefunction(found):
            return found

        def call(*args, **kwargs):
            args = tuple(self._in_thread(arg) if callable(arg) else arg for arg in args)
            return self._await(found(*args, **kwargs))

        return call

    @staticmethod
    def _in_thread(loader):
        @functools.wraps(loader, updated=())
        async def load(*args, **kwargs):
            return await asyncio.to_thread(loader, *args, **kwargs)

        return load

    def lock(self, *args, **kwargs):
        return BridgedLock(self, self._cache.lock(*args, **kwargs))

    def cached(self, **options):
        def decorator(function):
            decorated = self._cache.cached(**options)(self._in_thread(function))

            def call(*args, **kwargs):
                return self._await(decorated(*args, **kwargs))

            call.invalidate = lambda *a, **k: self._await(decorated.invalidate(*a, **k))
            call.refresh = lambda *a, **k: self._await(decorated.refresh(*a, **k))
            call.key, call.__wrapped__ = decorated.key, function
            return call

        return decorator


class BridgedLock:
    """The same for its lock."""

    def __init__(self, bridge, lock):
        self._bridge, self._lock = bridge, lock

    def __getattr__(self, name):
        found = getattr(self._lock, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args: self._bridge._await(found(*args))

    def __enter__(self):
        self._bridge._await(self._lock.__aenter__())
        return self

    def __exit__(self, *error):
        return self._bridge._await(self._lock.__aexit__(*error))


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """All servers of the run."""
    module = os.path.join(ROOT, "target", "release", "libcacheflow.so")
    assert os.path.exists(module), "the module is missing: cargo build --release"
    fleet = Fleet(engines.binary("system"), module, tmp_path_factory.mktemp("servers"))
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
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


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
