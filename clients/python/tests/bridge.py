"""Both clients behind the same face: an AsyncCacheFlow in an event loop of another thread, called as if it were a
CacheFlow; and what every test's client is observed by."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading

from cacheflow import AsyncCacheFlow

LIMIT = 60.0  # seconds: a bound for what must come about, not a measurement


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self):
        self.events = []

    def on_event(self, event):
        """As the client calls it, in any thread."""
        self.events.append(event)

    def names(self):
        """name or name_detail, in order."""
        return [f"{e.name}_{e.detail}" if e.detail else e.name for e in list(self.events)]


class EventLoop:
    """An event loop in a thread of its own."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, function, *args, **kwargs):
        """Call a coroutine function in a task; a Future of its outcome."""

        async def run():
            return await function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def run(self, function, *args, **kwargs):
        """Its outcome."""
        return self.start(function, *args, **kwargs).result(LIMIT)

    def client(self, *args, **options):
        """An AsyncCacheFlow, made where it is used: a loop's objects want to be born in it."""

        async def make():
            return AsyncCacheFlow(*args, **options)

        return self.run(make)

    def left(self):
        """The tasks that are still there, once those that were cancelled have ended."""

        async def look():
            await asyncio.sleep(0)
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        return self.run(look)

    def end(self):
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()


class Bridge:
    """An AsyncCacheFlow, called as if it were a CacheFlow. Loaders, which may block, run in threads."""

    def __init__(self, loop, *args, **options):
        self._loop = loop
        self._cache = loop.client(*args, **options)

    def __getattr__(self, name):
        found = getattr(self._cache, "aclose" if name == "close" else name)
        if not inspect.iscoroutinefunction(found):
            return found

        def call(*args, **kwargs):
            args = tuple(self._in_thread(arg) if callable(arg) else arg for arg in args)
            return self._loop.run(found, *args, **kwargs)

        return call

    @staticmethod
    def _in_thread(loader):
        @functools.wraps(loader, updated=())
        async def load(*args, **kwargs):
            return await asyncio.to_thread(loader, *args, **kwargs)

        return load

    def lock(self, *args, **kwargs):
        """A lock, taken and given back as a CacheFlow's."""
        return BridgedLock(self._loop, self._cache.lock(*args, **kwargs))

    def cached(self, **options):
        """The decorator, for plain functions."""

        def decorator(function):
            decorated = self._cache.cached(**options)(self._in_thread(function))
            call = functools.partial(self._loop.run, decorated)
            call.invalidate = functools.partial(self._loop.run, decorated.invalidate)
            call.refresh = functools.partial(self._loop.run, decorated.refresh)
            call.key, call.__wrapped__ = decorated.key, function
            return call

        return decorator


class BridgedLock:
    """The same for its lock."""

    def __init__(self, loop, lock):
        self._loop, self._lock = loop, lock

    def __getattr__(self, name):
        found = getattr(self._lock, name)
        return functools.partial(self._loop.run, found) if inspect.iscoroutinefunction(found) else found

    def __enter__(self):
        self._loop.run(self._lock.__aenter__)
        return self

    def __exit__(self, *error):
        return self._loop.run(self._lock.__aexit__, *error)
