"""CacheFlow as a backend of dogpile.cache.

    region = make_region().configure(
        "cacheflow", expiration_time=60, arguments={"url": "redis://localhost:6379", "namespace": "shop"}
    )

- The mutex is CACHE.LOCK of the key itself: who waits does so in the server, first come first served, and what
  the holder stores is fenced. A value that was computed before an invalidation is not stored after it.
- `RegionInvalidation` makes region.invalidate() hold for every process, `BackgroundCreation` is an async creation
  runner with a bounded pool. docs/python/dogpile.md tells the rest.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex, CantDeserializeException
from dogpile.cache.region import RegionInvalidationStrategy

from ..client import CacheFlow, Lock
from ..codecs import CodecError, JsonSerializer, MsgpackSerializer, PickleSerializer, RawCodec, Serializer
from ..core import Core
from ..effects import Op
from ..errors import CacheFlowError, ConfigError, Unavailable
from ..options import tag_list
from ..units import Duration

if TYPE_CHECKING:
    from collections.abc import Generator

    from dogpile.cache import CacheRegion
    from dogpile.cache.api import SerializedReturnType

log = logging.getLogger("cacheflow")

_SERIALIZERS: dict[str, Callable[[], Serializer]] = {
    "json": JsonSerializer,
    "msgpack": MsgpackSerializer,
    "pickle": PickleSerializer,
}


class CacheFlowBackend(BytesBackend):
    """The backend "cacheflow". Its arguments:

    url: None for CACHEFLOW_URL, else redis://localhost:6379. namespace: "dogpile" unless named; one for each
    region that is invalidated as a whole. serializer: "json" unless named, "msgpack", or "pickle" where asked for
    (a region's own serializer and deserializer go before). ttl, grace: how long the server keeps values fresh and
    then stale; None for no end, and what is stale is taken for expired. tags: of every value, or a function of the
    key. lock_timeout: seconds after which a mutex is taken to be abandoned, 30 unless named. distributed_lock:
    False for mutexes of this process only. compress, min_size, keys: cacheflow.codecs.RawCodec's. All others are
    CacheFlow's own options. ConfigError.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        options = dict(arguments)
        self._ttl: Duration | None = options.pop("ttl", None)
        self._grace: Duration | None = options.pop("grace", None)
        self._tags: Any = options.pop("tags", ())
        self.lock_timeout: Duration = options.pop("lock_timeout", 30)
        self._distributed = bool(options.pop("distributed_lock", True))
        name = options.pop("serializer", "json")
        if name not in _SERIALIZERS:
            raise ConfigError("bad_option", f"serializer {name!r} is none of {', '.join(_SERIALIZERS)}")
        serializer = _SERIALIZERS[name]()
        self.serializer = serializer.dumps
        self.deserializer = _deserializer(serializer)
        codec = RawCodec(
            **{name: options.pop(name) for name in ("compress", "min_size", "keys") if name in options}
        )
        options.setdefault("namespace", "dogpile")
        self.client = CacheFlow(options.pop("url", None), codec=codec, **options)
        self._held: dict[tuple[int, str], Mutex] = {}

    # --- mutexes -------------------------------------------------------------------------------
    def has_lock_timeout(self) -> bool:
        """A mutex runs out, lest a process that is killed holds it for ever."""
        return self._distributed

    def get_mutex(self, key: str) -> Mutex | None:
        """The key's mutex, of all processes."""
        return Mutex(self, key) if self._distributed else None

    def _token(self, key: str) -> int | None:
        """The token of the mutex that this thread holds."""
        mutex = self._held.get((threading.get_ident(), key))
        return None if mutex is None else mutex.token

    # --- values --------------------------------------------------------------------------------
    def get_serialized(self, key: str) -> SerializedReturnType:
        """The value; NO_VALUE also where Redis does not answer or it cannot be read."""
        return self.client._run(self._get(self.client.core, key))

    def _get(self, core: Core, key: str) -> Op[Any]:
        """The fresh value, or a stale one made to look expired, which is what dogpile hands out while it is
        created anew. A miss costs a second round trip, which is little beside the creator."""
        full = core.full(key)
        try:
            value = core.quick(full)
            if value is core.missing:
                value = yield from core.get(full, NO_VALUE, False)
            if value is NO_VALUE:
                value = yield from core.get(full, NO_VALUE, True)
                return NO_VALUE if value is NO_VALUE else _aged(value)
        except CodecError:
            return NO_VALUE  # the client has told its observers
        return value if isinstance(value, bytes) else NO_VALUE

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[SerializedReturnType]:
        """The values, in one round trip for those that are fresh."""
        asked = list(keys)
        try:
            found = self.client.get_many(asked)
        except CodecError:
            found = {}
        return [found[key] if key in found else self.get_serialized(key) for key in asked]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Store; with the token of the key's mutex where this thread holds it, and then not if anything newer
        happened since."""
        self.client.set(
            key, value, ttl=self._ttl, grace=self._grace, tags=self._tags_of(key), token=self._token(key)
        )

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Store several: one round trip for those that have no mutex and no tags of their own."""
        alone = {key for key in mapping if callable(self._tags) or self._token(key) is not None}
        for key in alone:
            self.set_serialized(key, mapping[key])
        together = {key: value for key, value in mapping.items() if key not in alone}
        if together:
            self.client.set_many(together, ttl=self._ttl, grace=self._grace, tags=self._tags)

    def delete(self, key: str) -> None:
        """Remove; a value that is being created is not stored either. Unavailable."""
        self.client.delete(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Remove several in one round trip. Unavailable."""
        self.client.delete(*keys)

    def _tags_of(self, key: str) -> tuple[str, ...]:
        return tag_list(self._tags(key) if callable(self._tags) else self._tags)


def _deserializer(serializer: Serializer) -> Callable[[bytes], Any]:
    def load(data: bytes) -> Any:
        try:
            return serializer.loads(data)
        except CodecError as error:
            raise CantDeserializeException(str(error)) from error

    return load


def _aged(value: bytes) -> Any:
    """What dogpile stores, metadata and payload parted by "|", as if it had been created long ago."""
    head, bar, payload = value.partition(b"|")
    try:
        metadata = json.loads(head)
        metadata["ct"] = 1.0  # 0 means to dogpile that there is none
    except (TypeError, ValueError):
        return NO_VALUE
    return json.dumps(metadata).encode() + bar + payload


class Mutex(CacheMutex):
    """CACHE.LOCK of a key. Threads of this process first line up among themselves, so that one of them at most
    waits in the server. Where Redis does not answer it is a mutex of this process."""

    def __init__(self, backend: CacheFlowBackend, key: str) -> None:
        self._backend, self._key = backend, key
        self._local = threading.Lock()
        self._lock: Lock | None = None
        self._owner = 0

    @property
    def token(self) -> int | None:
        """The fencing token while it is held, None where only this process holds it."""
        return self._lock.token if self._lock is not None else None

    def acquire(self, wait: bool = True) -> bool:
        """Take it; False where somebody has it and `wait` is false."""
        if not self._local.acquire(wait):
            return False
        try:
            lock = self._take(wait)
        except Unavailable as error:
            log.warning("the mutex of %s is of this process only: %s", self._key, error)
            lock = None
        except BaseException:
            self._local.release()
            raise
        else:
            if lock is None:
                self._local.release()
                return False
        self._lock = lock
        self._own()
        return True

    def _take(self, wait: bool) -> Lock | None:
        backend = self._backend
        while True:
            lock = backend.client.lock(
                self._key, ttl=backend.lock_timeout, wait=backend.lock_timeout if wait else 0
            )
            if lock.acquire():
                return lock
            if not wait:
                return None

    def release(self) -> None:
        """Give it back; from another thread too."""
        lock, self._lock = self._lock, None
        self._disown()
        self._local.release()
        if lock is not None:
            try:
                lock.release()  # False where storing the value ended it, or its time did
            except Unavailable as error:
                log.warning("the mutex of %s runs out by itself: %s", self._key, error)

    def locked(self) -> bool:
        """Whether anybody holds it."""
        if self._local.locked():
            return True
        try:
            meta = self._backend.client.meta(self._key)
        except CacheFlowError as error:
            log.warning("the mutex of %s cannot be looked at: %s", self._key, error)
            return False
        return meta is not None and meta.lease_ms > 0

    def _own(self) -> None:
        self._owner = threading.get_ident()
        self._backend._held[self._owner, self._key] = self

    def _disown(self) -> None:
        self._backend._held.pop((self._owner, self._key), None)

    @contextmanager
    def held_here(self) -> Generator[None, None, None]:
        """What this thread stores under the key meanwhile is stored with the mutex's token: for creators that
        run in another thread than the one that took it."""
        self._disown()
        self._own()
        yield


class RegionInvalidation(RegionInvalidationStrategy):
    """region.invalidate() for every process: the namespace of the region's backend is invalidated on the server.
    Hard: no process sees an older value when it returns, and none is stored. Soft: older values are expired.

        region = make_region()
        region.configure("cacheflow", …, region_invalidator=RegionInvalidation(region))
    """

    def __init__(self, region: CacheRegion) -> None:
        self._region = region

    def invalidate(self, hard: bool = True) -> None:
        """InvalidationError."""
        backend = self._region.actual_backend
        if not isinstance(backend, CacheFlowBackend):
            raise ConfigError("bad_option", f"{type(backend).__name__} is no CacheFlowBackend")
        backend.client.invalidate_namespace(soft=not hard)

    # The server has removed or aged the values: no timestamp is to be compared.
    def is_hard_invalidated(self, timestamp: float) -> bool:
        """False."""
        return False

    def is_soft_invalidated(self, timestamp: float) -> bool:
        """False."""
        return False

    def is_invalidated(self, timestamp: float) -> bool:
        """False."""
        return False

    def was_soft_invalidated(self) -> bool:
        """False."""
        return False

    def was_hard_invalidated(self) -> bool:
        """False."""
        return False


class BackgroundCreation:
    """An async creation runner: expired values are created anew in at most `workers` threads while dogpile hands
    out the old ones. What it stores is fenced by the mutex. Past `queue` waiting creations the mutex is given
    back at once, and a later reader tries again.

        region = make_region(async_creation_runner=BackgroundCreation(workers=4))
    """

    def __init__(self, workers: int = 4, queue: int = 64) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cacheflow-dogpile")
        self._room = threading.Semaphore(workers + queue)

    def __call__(self, region: CacheRegion, key: str, creator: Callable[[], Any], mutex: CacheMutex) -> None:
        """What dogpile calls."""
        if not self._room.acquire(blocking=False):
            mutex.release()
            return
        try:
            self._pool.submit(self._create, region, key, creator, mutex)
        except BaseException:
            self._room.release()
            mutex.release()
            raise

    def _create(self, region: CacheRegion, key: str, creator: Callable[[], Any], mutex: CacheMutex) -> None:
        try:
            if isinstance(mutex, Mutex):
                with mutex.held_here():
                    region.set(key, creator())
            else:
                region.set(key, creator())
        except Exception:
            log.exception("a value of dogpile's was not created anew: %s", key)
        finally:
            mutex.release()
            self._room.release()

    def close(self) -> None:
        """Wait for what is being created, and begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=False)
