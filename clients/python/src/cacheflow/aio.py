"""AsyncCacheFlow: the client for asyncio. What each method does is said at its namesake in client.py, whose
docstrings are taken over below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .api import Client, LoadedTags, ManyTags, Tags
from .backends import Capabilities, Meta
from .client import CacheFlow, Lock
from .core.locking import Held, Stats
from .decorators import AsyncCached, Plan, decorate_async
from .driver import AsyncDriver
from .errors import Unavailable
from .options import tag_list
from .units import AutoTTL, Duration

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCacheFlow(Client):
    """CacheFlow for asyncio: the same methods, to be awaited; `close` is `aclose`, and `async with` takes the
    place of `with`. One object an event loop. Loaders may be coroutine functions or plain ones, which run in
    the event loop.
    """

    def _open(self) -> None:
        self._driver = AsyncDriver(self.core, self._address, self.options)
        self._run = self._driver.run

    # --- values --------------------------------------------------------------------------------
    async def get_or_set(
        self,
        key: str,
        loader: Callable[..., Awaitable[T] | T],
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: LoadedTags = (),
        negative_ttl: Duration | None = None,
        max_stale: Duration | None = None,
        lease: Duration | None = None,
        wait: Duration | None = None,
        beta: float | None = None,
    ) -> T:
        full = self._prefix + key
        value = self.core.quick(full)
        if value is not self.core.missing:
            return value  # type: ignore[no-any-return]
        request = self._request(ttl, grace, tags, negative_ttl, max_stale, lease, wait, beta)
        return await self._run(self.core.get_or_set(full, loader, request))

    async def get_or_set_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Awaitable[Mapping[str, T]] | Mapping[str, T]],
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: ManyTags = (),
        negative_ttl: Duration | None = None,
        max_stale: Duration | None = None,
        lease: Duration | None = None,
        wait: Duration | None = None,
        beta: float | None = None,
    ) -> dict[str, T | None]:
        request = self._request(ttl, grace, tags, negative_ttl, max_stale, lease, wait, beta)
        return await self._run(self.core.get_or_set_many(list(keys), loader, request))

    async def get(self, key: str, default: Any = None, *, stale: bool = False) -> Any:
        full = self._prefix + key
        value = self.core.quick(full)
        if value is not self.core.missing:
            return value
        return await self._run(self.core.get(full, default, stale))

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return await self._run(self.core.get_many(list(keys)))

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Tags = (),
        only: str = "",
        token: int | None = None,
        cost: Duration | None = None,
    ) -> bool:
        return await self._run(
            self.core.set(
                self._prefix + key, value, ttl, grace, tag_list(tags), self.core.condition(only), token, cost
            )
        )

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Tags = (),
    ) -> list[str]:
        fulls = {self._prefix + key: value for key, value in values.items()}
        stored = await self._run(self.core.set_many(fulls, ttl, grace, tag_list(tags)))
        return [self.core.short(full) for full in stored]

    async def touch(
        self,
        key: str,
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Tags = (),
        token: int | None = None,
    ) -> bool:
        return await self._run(self.core.touch(self._prefix + key, ttl, grace, token, tag_list(tags)))

    async def incr(self, key: str, by: int = 1) -> int:
        return await self._run(self.core.incr(self._prefix + key, by))

    async def delete(self, *keys: str, soft: bool = False) -> int:
        return await self._run(self.core.delete(self._full_keys(keys), soft))

    async def refresh(
        self,
        key: str,
        loader: Callable[..., Awaitable[T] | T],
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: LoadedTags = (),
        negative_ttl: Duration | None = None,
        lease: Duration | None = None,
        wait: Duration | None = None,
    ) -> T:
        request = self._request(ttl, grace, tags, negative_ttl, None, lease, wait, None)
        return await self._run(self.core.refresh(self._prefix + key, loader, request))

    # --- invalidation --------------------------------------------------------------------------
    async def invalidate(self, *tags: str, soft: bool = False, retry: bool = False) -> int | None:
        return await self._run(self.core.invalidate(tags, False, soft, retry))

    async def invalidate_namespace(self, *names: str, soft: bool = False, retry: bool = False) -> int | None:
        return await self._run(self.core.invalidate(names or (self.namespace,), True, soft, retry))

    async def clear(self) -> int | None:
        return await self.invalidate_namespace()

    # --- locks and looking ---------------------------------------------------------------------
    def lock(self, name: str, *, ttl: Duration, wait: Duration | None = None) -> AsyncLock:
        return AsyncLock(self, name, ttl, wait)

    async def meta(self, key: str) -> Meta | None:
        return await self._run(self.core.meta(self._prefix + key))

    async def stats(self, namespace: str | None = None) -> Stats:
        return await self._run(self.core.stats(namespace))

    async def connect(self) -> Capabilities:
        return await self._run(self.core.connect())

    # --- decorator -----------------------------------------------------------------------------
    def cached(
        self,
        *,
        key: str | None = None,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Tags | Callable[..., Iterable[str]] = (),
        negative_ttl: Duration | None = None,
        max_stale: Duration | None = None,
        lease: Duration | None = None,
        wait: Duration | None = None,
        beta: float | None = None,
    ) -> Callable[[Callable[P, Awaitable[T] | T]], AsyncCached[P, T]]:
        request = self._request(ttl, grace, (), negative_ttl, max_stale, lease, wait, beta)

        def decorator(function: Callable[P, Awaitable[T] | T]) -> AsyncCached[P, T]:
            return decorate_async(self, Plan(function, key, tags, request, asynchronous=True))

        return decorator

    # --- its end -------------------------------------------------------------------------------
    async def aclose(self, wait: float = 5.0) -> None:
        await self._driver.close(wait)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncLock(Held):
    """A lock of an AsyncCacheFlow; of one task at a time."""

    def __init__(self, cache: AsyncCacheFlow, name: str, ttl: Duration, wait: Duration | None) -> None:
        super().__init__(cache.core, name, ttl, wait)
        self._run = cache._run

    async def acquire(self) -> bool:
        return await self._run(self._acquire())

    async def release(self) -> bool:
        return await self._run(self._release())

    async def extend(self, ttl: Duration | None = None) -> bool:
        return await self._run(self._extend(ttl))

    async def __aenter__(self) -> Self:
        await self._run(self._enter())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            released = await self.release()
        except Unavailable as error:
            self._left(error)
            return
        self._check(released or kind is not None)


def _take_docs(ours: type, theirs: type) -> None:
    for name, method in vars(ours).items():
        namesake = getattr(theirs, {"aclose": "close"}.get(name, name), None)
        if callable(method) and namesake is not None and not method.__doc__:
            method.__doc__ = namesake.__doc__


_take_docs(AsyncCacheFlow, CacheFlow)
_take_docs(AsyncLock, Lock)
