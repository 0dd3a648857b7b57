"""The two clients behind one face: methods by name, each begun in the background and giving a Future."""

from concurrent.futures import ThreadPoolExecutor

from bridge import EventLoop, Recorder

from cacheflow import CacheFlow

from . import LIMIT

ABSENT = object()  # the default that get is given: null is a value


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
        self._loop = EventLoop()
        self.start = self._loop.start
        self.cache = self._loop.client(url, observers=[self.recorder], **options)

    def loader(self, loader):
        """A scenario's loader as this client takes it."""
        return loader.call_async

    def close(self):
        """Close the client; a task that it leaves behind is an error."""
        try:
            self._loop.run(self.cache.aclose)
            left = self._loop.left()
        finally:
            self._loop.end()
        assert not left, f"tasks were left behind: {left}"


ACTORS = {"threads": ThreadActor, "asyncio": AsyncActor}
