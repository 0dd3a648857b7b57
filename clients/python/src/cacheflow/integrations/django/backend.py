"""The cache backend. Django makes one for every thread and alias; those with the same settings share one client a
process (and one an event loop, for the methods that begin with `a`), and with it connections, the level in the
process, and the loads that callers share.

What is said twice here, once with `a`, is only how an operation is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured

from ...aio import AsyncCacheFlow
from ...api import LoadedTags, Tags
from ...client import CacheFlow
from ...core import Core
from ...effects import Op
from ...errors import ConfigError
from ...options import Request, tag_list
from ...units import FOREVER, Duration
from .. import operations
from ..clients import close_all, shared
from ..codecs import codec_of, pickle_errors
from .values import django_json

Operation = Callable[[Core], Op[Any]]

_MISSING: Any = object()
_CULLING = frozenset({"MAX_ENTRIES", "CULL_FREQUENCY"})  # of backends that have no memory limit of their own

close_clients = close_all


class CacheFlowCache(BaseCache):
    """All of Django's BaseCache, and beside it: `tags=` and `grace=` on what stores, `invalidate`, loads that
    callers of all processes share (`get_or_set`), and the client itself (`client`, `aclient()`).

    When Redis does not answer, reads find nothing and writes store nothing; what removes or counts raises
    `cacheflow.Unavailable`, for who calls it relies on it.
    """

    def __init__(self, location: str | None, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = {name: value for name, value in params.get("OPTIONS", {}).items() if name not in _CULLING}
        options.setdefault("namespace", "django")
        self._grace: Duration | None = options.pop("grace", None)
        if not isinstance(location, str | None):
            raise ImproperlyConfigured("LOCATION is one URL; that of a cluster names several hosts")
        try:
            codec_of(options.get("codec"), django_json)
            self._clients = shared(location or None, options, lambda: self._client_options(options))
        except ConfigError as error:
            raise ImproperlyConfigured(str(error)) from error

    @staticmethod
    def _client_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**options, "codec": codec_of(options.get("codec"), django_json)}

    # --- the clients ---------------------------------------------------------------------------
    @property
    def client(self) -> CacheFlow:
        """The client for threads. Its keys are those of `make_key`."""
        return self._clients.sync()

    async def aclient(self) -> AsyncCacheFlow:
        """The client of the running event loop."""
        return await self._clients.current()

    def _do(self, operation: Operation) -> Any:
        client = self.client
        with pickle_errors():
            return client._run(operation(client.core))

    async def _ado(self, operation: Operation) -> Any:
        client = await self.aclient()
        with pickle_errors():
            return await client._run(operation(client.core))

    # --- keys and times ------------------------------------------------------------------------
    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float:
        """Seconds; 0 for what is not to be stored, FOREVER for what has no end."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return FOREVER if timeout is None else max(0.0, float(timeout))

    def _key(self, key: Any, version: int | None) -> str:
        return str(self.make_and_validate_key(key, version=version))

    def _keys(self, keys: Iterable[Any], version: int | None) -> dict[str, Any]:
        """The caller's keys, by ours."""
        return {self._key(key, version): key for key in keys}

    def _graced(self, grace: Duration | None, ttl: float) -> Duration | None:
        grace = self._grace if grace is None else grace
        return None if ttl == FOREVER else grace

    # --- operations: what a method does, for either client -------------------------------------
    def _set_many(self, values: Mapping[str, Any], timeout: Any, tags: Tags, grace: Duration | None) -> Operation:
        ttl = self.get_backend_timeout(timeout)

        def operation(core: Core) -> Op[Any]:
            if ttl == 0:
                yield from core.delete([core.full(key) for key in values], False)
                return list(values)
            fulls = {core.full(key): value for key, value in values.items()}
            stored = yield from core.set_many(fulls, ttl, self._graced(grace, ttl), tag_list(tags))
            return [core.short(full) for full in stored]

        return operation

    def _add(self, key: Any, value: Any, timeout: Any, version: int | None, tags: Tags) -> Operation:
        made, ttl = self._key(key, version), self.get_backend_timeout(timeout)

        def operation(core: Core) -> Op[Any]:
            if ttl == 0:  # what would be gone at once is added where nothing is
                return (yield from core.get(core.full(made), _MISSING, False)) is _MISSING
            return (yield from operations.add(core, made, value, ttl, tag_list(tags)))

        return operation

    def _touch(self, key: Any, timeout: Any, version: int | None) -> Operation:
        made, ttl = self._key(key, version), self.get_backend_timeout(timeout)

        def operation(core: Core) -> Op[Any]:
            if ttl == 0:
                return (yield from core.delete([core.full(made)], False)) > 0
            if ttl == FOREVER:
                return (yield from operations.persist(core, made))
            return (yield from core.touch(core.full(made), ttl, self._graced(None, ttl), None))

        return operation

    def _count(self, key: Any, delta: int, version: int | None) -> Operation:
        made = self._key(key, version)

        def operation(core: Core) -> Op[Any]:
            total = yield from operations.count(core, made, delta)
            if total is None:
                raise ValueError(f"Key {key!r} not found")
            return total

        return operation

    def _get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any,
        version: int | None,
        tags: LoadedTags,
        grace: Duration | None,
        max_stale: Duration | None,
        beta: float | None,
    ) -> Operation:
        made, ttl = self._key(key, version), self.get_backend_timeout(timeout)
        loader = default if callable(default) else lambda: default
        shared_tags = tags if callable(tags) else tag_list(tags)

        def operation(core: Core) -> Op[Any]:
            full = core.full(made)
            value = core.quick(full)
            if value is not core.missing:
                return value
            request = Request(
                ttl, self._graced(grace, ttl), shared_tags, None, max_stale, None, core.default_wait, beta
            )
            return (yield from core.get_or_set(full, loader, request))

        return operation

    # --- Django's methods ----------------------------------------------------------------------
    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, tags: Tags = ()
    ) -> bool:
        """Store where there is no fresh value, without grace; whether it was."""
        return bool(self._do(self._add(key, value, timeout, version, tags)))

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, tags: Tags = ()
    ) -> bool:
        """See add()."""
        return bool(await self._ado(self._add(key, value, timeout, version, tags)))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """The fresh value, or `default`. cacheflow.codecs.DecodeError for what no longer can be read."""
        return self.client.get(self._key(key, version), default)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See get()."""
        return await (await self.aclient()).get(self._key(key, version), default)

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
        grace: Duration | None = None,
    ) -> None:
        """Store. `tags`: what invalidates it. `grace`: how long it may be served stale after its timeout."""
        self._do(self._set_many({self._key(key, version): value}, timeout, tags, grace))

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
        grace: Duration | None = None,
    ) -> None:
        """See set()."""
        await self._ado(self._set_many({self._key(key, version): value}, timeout, tags, grace))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Let it last so long from now; whether it is there. Tags stay."""
        return bool(self._do(self._touch(key, timeout, version)))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See touch()."""
        return bool(await self._ado(self._touch(key, timeout, version)))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove; whether it was there. A load on its way is not stored either."""
        return self.client.delete(self._key(key, version)) > 0

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See delete()."""
        return await (await self.aclient()).delete(self._key(key, version)) > 0

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """The fresh values that there are, in one round trip."""
        made = self._keys(keys, version)
        return {made[key]: value for key, value in self.client.get_many(made).items()}

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See get_many()."""
        made = self._keys(keys, version)
        return {made[key]: value for key, value in (await (await self.aclient()).get_many(made)).items()}

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
        grace: Duration | None = None,
    ) -> list[Any]:
        """Store several in one round trip; the keys that were not stored."""
        made = self._keys(data, version)
        stored = self._do(self._set_many({key: data[name] for key, name in made.items()}, timeout, tags, grace))
        return [name for key, name in made.items() if key not in stored]

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = (),
        grace: Duration | None = None,
    ) -> list[Any]:
        """See set_many()."""
        made = self._keys(data, version)
        values = {key: data[name] for key, name in made.items()}
        stored = await self._ado(self._set_many(values, timeout, tags, grace))
        return [name for key, name in made.items() if key not in stored]

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove several in one round trip."""
        self.client.delete(*self._keys(keys, version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See delete_many()."""
        await (await self.aclient()).delete(*self._keys(keys, version))

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: LoadedTags = (),
        grace: Duration | None = None,
        max_stale: Duration | None = None,
        beta: float | None = None,
    ) -> Any:
        """The value, made by `default` if it is callable, by one caller of all processes at a time. With grace a
        stale value is answered at once, and `default` called in a thread of the client's (max_stale=0: never;
        beta=0: no refresh before the end either). `tags` may be a function of the value."""
        return self._do(self._get_or_set(key, default, timeout, version, tags, grace, max_stale, beta))

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: LoadedTags = (),
        grace: Duration | None = None,
        max_stale: Duration | None = None,
        beta: float | None = None,
    ) -> Any:
        """See get_or_set(); `default` may be a coroutine function."""
        return await self._ado(self._get_or_set(key, default, timeout, version, tags, grace, max_stale, beta))

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether there is a fresh value."""
        return self.get(key, _MISSING, version) is not _MISSING

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See has_key()."""
        return await self.aget(key, _MISSING, version) is not _MISSING

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to an integer, atomically; its timeout and tags stay. ValueError where there is none, TypeError
        where it is no integer."""
        return int(self._do(self._count(key, delta, version)))

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See incr()."""
        return int(await self._ado(self._count(key, delta, version)))

    def clear(self) -> None:
        """Every key of the namespace is dead when this returns: of every alias, version and prefix in it.
        cacheflow.InvalidationError where that is not known to be done."""
        self.client.clear()

    async def aclear(self) -> None:
        """See clear()."""
        await (await self.aclient()).clear()

    # --- beyond Django's -----------------------------------------------------------------------
    def invalidate(self, *tags: str, soft: bool = False, retry: bool = False) -> int | None:
        """Every entry with any of the tags is dead when this returns; soft: stale. How many it hit, None where
        the server cannot say. See CacheFlow.invalidate. InvalidationError."""
        return self.client.invalidate(*tags, soft=soft, retry=retry)

    async def ainvalidate(self, *tags: str, soft: bool = False, retry: bool = False) -> int | None:
        """See invalidate()."""
        return await (await self.aclient()).invalidate(*tags, soft=soft, retry=retry)
