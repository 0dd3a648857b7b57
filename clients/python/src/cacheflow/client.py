"""CacheFlow: the client for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .api import Client, LoadedTags, ManyTags, Tags
from .backends import Capabilities, Meta
from .core.locking import Held, Stats
from .decorators import Cached, Plan, decorate
from .driver import ThreadDriver
from .errors import Unavailable
from .options import tag_list
from .units import AutoTTL, Duration

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
T = TypeVar("T")


class CacheFlow(Client):
    """A cache in Redis or Valkey. One object a process is enough, and may be used by all of its threads.

    Keys are str, without the namespace. What every method may raise: ConfigError for arguments that make no
    sense. Whether Redis being down is raised is said at each.
    """

    def _open(self) -> None:
        self._driver = ThreadDriver(self.core, self._address, self.options)
        self._run = self._driver.run

    # --- values --------------------------------------------------------------------------------
    def get_or_set(
        self,
        key: str,
        loader: Callable[..., T],
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
        """The value of a key, loaded if it is not there: by one caller at a time, of all processes.

        The loader is called without arguments, or with a LoadContext if it takes one. Raises what the loader
        raises, EncodeError for a value that the codec cannot write, and nothing else: when Redis is down the
        answer is the level's, or loaded.

        ttl: fresh for; grace: then stale for, served while it is loaded anew in the background. tags: of the
        entry, or a function of the value. negative_ttl: the ttl of None, without grace (0: not stored).
        max_stale: the oldest staleness accepted; 0 insists on fresh. lease: how long loading may take, which
        the server learns by itself. wait: for somebody else's load, before loading without storing. beta: how
        eagerly to refresh early (XFetch), 0 for never.
        """
        full = self._prefix + key
        value = self.core.quick(full)
        if value is not self.core.missing:
            return value  # type: ignore[no-any-return]
        request = self._request(ttl, grace, tags, negative_ttl, max_stale, lease, wait, beta)
        return self._run(self.core.get_or_set(full, loader, request))  # type: ignore[no-any-return]

    def get_or_set_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Mapping[str, T]],
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
        """The values of many keys, asked for in one round trip. The loader is called once with a list of all keys
        that are to be loaded by this caller, and returns their values by key; what it leaves out is None, which
        is a value and stored like others (negative_ttl). Each key is stored under its own lease and fence. Keys
        that somebody else loads are waited for, and loaded by further calls if that comes to nothing.

        tags: of each entry, or a function of key and value. Everything else, and what is raised, as get_or_set;
        ConfigError for a loader that returns no mapping. In the background: one load for all that are stale.
        """
        request = self._request(ttl, grace, tags, negative_ttl, max_stale, lease, wait, beta)
        return self._run(self.core.get_or_set_many(list(keys), loader, request))

    def get(self, key: str, default: Any = None, *, stale: bool = False) -> Any:
        """The fresh value, with `stale` a stale one too; `default` where there is none or Redis does not
        answer. Never loads, never waits. DecodeError, ServerError."""
        full = self._prefix + key
        value = self.core.quick(full)
        if value is not self.core.missing:
            return value
        return self._run(self.core.get(full, default, stale))

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The fresh values that there are, by key, in one round trip. Without those whose server does not answer
        (unless the level has them, stale as they may be). DecodeError, ServerError."""
        return self._run(self.core.get_many(list(keys)))

    def set(
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
        """Store a value; whether it was. False when Redis does not answer (the old value, if any, stays), when
        `only` ("absent": nothing is there, not even a stale value; "present": something is) does not hold, and
        when something newer happened since `token`, a lock's or a LoadContext's, was given; that lock is given
        back by it. cost: what computing it took, else measured.
        EncodeError, ServerError."""
        return self._run(
            self.core.set(
                self._prefix + key, value, ttl, grace, tag_list(tags), self.core.condition(only), token, cost
            )
        )

    def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Tags = (),
    ) -> list[str]:
        """Store several in one round trip; the keys that were stored. None when Redis does not answer.
        EncodeError before anything is stored, ServerError."""
        fulls = {self._prefix + key: value for key, value in values.items()}
        stored = self._run(self.core.set_many(fulls, ttl, grace, tag_list(tags)))
        return [self.core.short(full) for full in stored]

    def touch(
        self,
        key: str,
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Tags = (),
        token: int | None = None,
    ) -> bool:
        """Make the entry fresh anew, for as long as before unless named; whether there is one. `tags` are added
        to those it has, and bind from now on; not together with a token, whose fence would not cover them.
        Unavailable, ServerError."""
        return self._run(self.core.touch(self._prefix + key, ttl, grace, token, tag_list(tags)))

    def incr(self, key: str, by: int = 1) -> int:
        """Add to an integer, and return the sum; an absent key counts from 0, times and tags stay. The value is
        written as plain digits, which JsonCodec reads. Unavailable (it may have been counted), ServerError."""
        return self._run(self.core.incr(self._prefix + key, by))

    def delete(self, *keys: str, soft: bool = False) -> int:
        """Remove keys; how many there were. soft: make them stale, how many were fresh. Loads on their way are
        not stored. Unavailable, ServerError."""
        return self._run(self.core.delete(self._full_keys(keys), soft))

    def refresh(
        self,
        key: str,
        loader: Callable[..., T],
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: LoadedTags = (),
        negative_ttl: Duration | None = None,
        lease: Duration | None = None,
        wait: Duration | None = None,
    ) -> T:
        """Load now, whatever is there, and store it, after who loads already. Raises as get_or_set does."""
        request = self._request(ttl, grace, tags, negative_ttl, None, lease, wait, None)
        return self._run(self.core.refresh(self._prefix + key, loader, request))  # type: ignore[no-any-return]

    # --- invalidation --------------------------------------------------------------------------
    def invalidate(self, *tags: str, soft: bool = False, retry: bool = False) -> int | None:
        """Every entry with any of the tags is dead when this returns, on all shards; soft: stale. How many it
        hit, None where the server cannot say. InvalidationError where it is not known to be done; with `retry`
        it is sent again in the background until it is, besides."""
        return self._run(self.core.invalidate(tags, False, soft, retry))

    def invalidate_namespace(self, *names: str, soft: bool = False, retry: bool = False) -> int | None:
        """The same for every key of these namespaces, or of this client's if none is named."""
        return self._run(self.core.invalidate(names or (self.namespace,), True, soft, retry))

    def clear(self) -> int | None:
        """Every key of this client's namespace is dead when this returns (without a namespace: every key that
        has none). Other namespaces are not touched, FLUSHDB is not used. InvalidationError."""
        return self.invalidate_namespace()

    # --- locks and looking ---------------------------------------------------------------------
    def lock(self, name: str, *, ttl: Duration, wait: Duration | None = None) -> Lock:
        """A lock on a name or key, held for `ttl` unless extended; `wait`: for who has it, ttl if not named, 0
        for not at all. `with cache.lock("nightly", ttl=30) as lock: lock.token`. Taking it raises LockError
        and Unavailable."""
        return Lock(self, name, ttl, wait)

    def meta(self, key: str) -> Meta | None:
        """What is known of a key; None where there is nothing. Unavailable, ServerError."""
        return self._run(self.core.meta(self._prefix + key))

    def stats(self, namespace: str | None = None) -> Stats:
        """The server's counters (of one namespace, if named) and this client's. Unavailable, ServerError."""
        return self._run(self.core.stats(namespace))

    def connect(self) -> Capabilities:
        """Reach the server and see what it can do; otherwise the first command does. Unavailable."""
        return self._run(self.core.connect())

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
    ) -> Callable[[Callable[P, T]], Cached[P, T]]:
        """Cache a function by its arguments. `key` and `tags` are templates of their names, "user:{user_id}";
        without a key it is the function's name and its arguments, which must be plain values then. tags may be
        a function of the same arguments. A parameter annotated LoadContext is given one, callers leave it out.

        The decorated function has `.invalidate(*args)`, which removes the entry of these arguments (how many
        there were, Unavailable), `.refresh(*args)`, which loads and stores now, `.key(*args)`, and
        `.__wrapped__`.
        """
        request = self._request(ttl, grace, (), negative_ttl, max_stale, lease, wait, beta)

        def decorator(function: Callable[P, T]) -> Cached[P, T]:
            return decorate(self, Plan(function, key, tags, request, asynchronous=False))

        return decorator

    # --- its end -------------------------------------------------------------------------------
    def close(self, wait: float = 5.0) -> None:
        """Let background refreshes end, for so many seconds, and close all connections. Queued invalidations
        are dropped."""
        self._driver.close(wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lock(Held):
    """A lock of a CacheFlow; of one thread at a time."""

    def __init__(self, cache: CacheFlow, name: str, ttl: Duration, wait: Duration | None) -> None:
        super().__init__(cache.core, name, ttl, wait)
        self._run = cache._run

    def acquire(self) -> bool:
        """Take it; whether it was had in time. Unavailable, ServerError."""
        return self._run(self._acquire())

    def release(self) -> bool:
        """Give it back; False where it had run out. LockError `not_held`, Unavailable."""
        return self._run(self._release())

    def extend(self, ttl: Duration | None = None) -> bool:
        """Hold it for so long from now, as long as it was taken for if not named; False where it had run out.
        LockError `not_held`, Unavailable."""
        return self._run(self._extend(ttl))

    def __enter__(self) -> Self:
        self._run(self._enter())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            released = self.release()
        except Unavailable as error:
            self._left(error)
            return
        self._check(released or kind is not None)
