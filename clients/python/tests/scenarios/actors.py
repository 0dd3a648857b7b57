"""The two clients behind one face: methods by name, each begun in the background and giving a Future."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from cacheflow import AsyncCacheFlow, CacheFlow

from . import LIMIT

ABSENT = object()  # the default that get is given: null is a value


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.events = []

    def on_event(self, event):
        """As the client calls it, in any thread."""
        self.events.append(event)


class ThreadActor:
    """A CacheFlow, called from threads."""

    make = CacheFlow

    def __init__(self, url, **options):
        self.recorder = Recorder()
        self._threads = ThreadPoolExecutor(max_workers=32)
        self.cache = self.make(url, observers=[self.recorder], **options)

    def start(self, function, *args, **kwargs):
        """Call it in the background."""
        return self._threads.submit(function, *args, **kwargs)

    def loader(self, loader):
        """A scenario's loader as this client takes it."""
        return loader.call

    def close(self):
        """Close the client, and see its threads end."""
        self.start(self.cache.close).result(LIMIT)
        self._threads.shutdown()


class AsyncActor:
    """An AsyncCacheFlow, in an event loop of its own."""

    def __init__(self, url, **options):
        self.recorder = Recorder()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        # Made where it is used: a loop's objects want to be born in it.
        self.cache = self.start(self._make, url, observers=[self.recorder], **options).result(LIMIT)

    @staticmethod
    async def _make(url, **options):
        return AsyncCacheFlow(url, **options)

    def start(self, function, *args, **kwargs) -> Future:
        """Run it as a task."""

        async def run():
            return await function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def loader(self, loader):
        """A scenario's loader as this client takes it."""
        return loader.call_async

    def close(self):
        """Close the client; a task that it leaves behind is an error."""
        try:
            self.start(self.cache.aclose).result(LIMIT)
            left = self.start(self._left).result(LIMIT)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(LIMIT)
            self._loop.close()
        assert not left, f"tasks were left behind: {left}"

    @staticmethod
    async def _left():
        await asyncio.sleep(0)  # those that were cancelled end
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


ACTORS = {"threads": ThreadActor, "asyncio": AsyncActor}
