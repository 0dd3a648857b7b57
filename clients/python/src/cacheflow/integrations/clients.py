"""One client a process, and one an event loop, for backends that frameworks make anew for every thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..aio import AsyncCacheFlow
from ..client import CacheFlow

#: Makes the options of a client. Called for each, for a codec may not be shared.
Options = Callable[[], Mapping[str, Any]]


class Clients:
    """The clients of one configuration, made when they are first asked for."""

    def __init__(self, where: str | None, options: Options) -> None:
        self._where, self._options = where, options
        self._lock = threading.Lock()
        self._sync: CacheFlow | None = None
        self._async: dict[asyncio.AbstractEventLoop, tuple[AsyncCacheFlow, asyncio.Task[None]]] = {}

    def sync(self) -> CacheFlow:
        """The client for threads."""
        if self._sync is None:
            with self._lock:
                if self._sync is None:
                    self._sync = CacheFlow(self._where, **self._options())
        return self._sync

    async def current(self) -> AsyncCacheFlow:
        """The client of the running event loop. It is closed when the loop's tasks are cancelled, which is how
        asyncio.run and asgiref end theirs: a loop that lives for one call leaves no connection behind."""
        loop = asyncio.get_running_loop()
        found = self._async.get(loop)
        if found is None:
            client = AsyncCacheFlow(self._where, **self._options())
            keeper = loop.create_task(self._keep(loop, client))
            self._async[loop] = found = client, keeper
            await asyncio.sleep(0)  # a task that is cancelled before it begins would never close anything
        return found[0]

    async def _keep(self, loop: asyncio.AbstractEventLoop, client: AsyncCacheFlow) -> None:
        # A generator that the loop closes would be later: shutdown_asyncgens comes when all tasks have ended, and
        # those that listen for the level may have missed their cancellation (asyncio.wait_for before Python 3.12
        # drops one that comes with the result). aclose ends them.
        try:
            await loop.create_future()
        finally:
            del self._async[loop]
            await client.aclose()

    def close(self, wait: float = 5.0) -> None:
        """Close the client for threads; those of event loops end with them."""
        with self._lock:
            client, self._sync = self._sync, None
        if client is not None:
            client.close(wait)


_shared: dict[Any, Clients] = {}
_lock = threading.Lock()


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((name, _frozen(item)) for name, item in value.items())
    if isinstance(value, list | tuple | set):
        return tuple(map(_frozen, value))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def shared(where: str | None, settings: Mapping[str, Any], options: Options) -> Clients:
    """The clients of these settings: the same for all who bring equal ones."""
    key = where, _frozen(settings)
    with _lock:
        if key not in _shared:
            _shared[key] = Clients(where, options)
        return _shared[key]


def close_all(wait: float = 5.0) -> None:
    """Close every shared client for threads; who asks again gets a new one."""
    with _lock:
        every = list(_shared.values())
    for clients in every:
        clients.close(wait)
