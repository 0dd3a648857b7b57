"""What a backend does, in the terms of the wire contract; and what can be relied on with which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..effects import Batch, Command, Op
from ..errors import CacheFlowError, Unavailable
from ..options import Lifetime

FRESH, STALE, MISS, BUSY = b"FRESH", b"STALE", b"MISS", b"BUSY"


class Fetched(NamedTuple):
    """FETCH's answer. `ms`: fresh for (-1 no end), gone after, the lease's length, or ask again after.
    `tags` are the entry's where they were asked for."""

    state: bytes
    value: bytes | None
    token: int | None
    ms: int
    tags: Collection[str] = ()


class Fill(NamedTuple):
    """A value to be stored with the token of its own lease."""

    key: str
    value: bytes
    life: Lifetime
    tags: Collection[str]
    token: int


@dataclass(frozen=True)
class Meta:
    """What is known of a key (CACHE.META). Times in milliseconds; None where there is nothing to say.

    state: fresh, stale, or absent (a lease, lock or waiters on a key that is not there). bytes: of the value
    as stored. fresh_ms: -1 without end. lease_ms: time left on a lease or lock, 0 for none.
    """

    state: str
    type: str
    bytes: int
    fresh_ms: int
    ttl_ms: int
    age_ms: int | None = None
    cost_ms: int | None = None
    hits: int | None = None
    namespace: str = ""
    tags: tuple[str, ...] = ()
    lease_ms: int = 0
    waiters: int | None = None


@dataclass(frozen=True)
class Capabilities:
    """What the server at hand can do.

    module: the CacheFlow module answers. blocking_waits: who waits does so in the server, without polling.
    holder_death: waiters learn within milliseconds when the process that computes is killed. counted: an
    invalidation says how many entries it hit. early_refresh: hot values are recomputed before they end.
    native_tags: keys of any type can be tagged. limits: in words, what is weaker than with the module.
    """

    module: bool
    cluster: bool
    blocking_waits: bool
    holder_death: bool
    counted: bool
    early_refresh: bool
    native_tags: bool
    limits: tuple[str, ...] = field(default=())


class Backend(Protocol):
    """The commands. Every one may raise Unavailable and ServerError. Keys are full keys, times are ms."""

    capabilities: Capabilities

    def fetch(
        self,
        key: str,
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
    ) -> Op[Fetched]:
        """FETCH. `tags` are those the caller expects the entry to have: a hint."""
        ...

    def fetch_many(
        self,
        keys: Sequence[str],
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
    ) -> Op[list[Fetched | CacheFlowError]]:
        """FETCH of each; of those that were refused, or whose node does not answer, the error."""
        ...

    def wait(
        self,
        key: str,
        tags: Collection[str],
        lease: int | None,
        max_stale: int | None,
        beta: float | None,
        want_tags: bool,
        seconds: float,
        hint: int,
    ) -> Op[Fetched]:
        """The same, after BUSY with `ms` = hint: waits so many seconds at most, then BUSY again."""
        ...

    def get(self, key: str, stale: bool) -> Op[bytes | None]:
        """The value."""
        ...

    def get_many(self, keys: Sequence[str]) -> Op[list[bytes | Unavailable | None]]:
        """The fresh values; in a cluster Unavailable for those whose node does not answer."""
        ...

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        life: Lifetime,
        tags: Collection[str],
        token: int | None = None,
        cost: int | None = None,
        condition: str = "",
    ) -> Op[list[Any]]:
        """SET of each; a list of True, False (NX, XX or the fence did not hold), or an exception."""
        ...

    def store_each(self, fills: Sequence[Fill]) -> Op[list[Any]]:
        """SET of each with what is its own; as store."""
        ...

    def touch(self, key: str, life: Lifetime, token: int | None = None, tags: Collection[str] = ()) -> Op[bool]:
        """TOUCH; `tags` are added first, and are not fenced."""
        ...

    def delete(self, keys: Sequence[str]) -> Op[int]:
        """DEL: how many there were."""
        ...

    def expire(self, keys: Sequence[str]) -> Op[int]:
        """STALE: how many were fresh."""
        ...

    def incr(self, key: str, by: int) -> Op[int]:
        """INCRBY."""
        ...

    def lock(self, key: str, ms: int, wait: float) -> Op[int | None]:
        """LOCK: the token, or None where it is held for longer than `wait` seconds."""
        ...

    def unlock(self, key: str, token: int, retry: int = 0) -> Op[bool]:
        """UNLOCK."""
        ...

    def unlock_each(self, tokens: Mapping[str, int], retry: int = 0) -> Op[None]:
        """UNLOCK of each key's token."""
        ...

    def extend(self, key: str, token: int, ms: int) -> Op[bool]:
        """EXTEND."""
        ...

    def invalidate(self, targets: Sequence[str], namespaces: bool, soft: bool) -> Op[int | None]:
        """INVALIDATE: how many it hit, None where that is not known."""
        ...

    def meta(self, key: str) -> Op[Meta | None]:
        """META."""
        ...

    def stats(self, namespace: str | None) -> Op[dict[str, int]]:
        """STATS, summed over the primaries; empty without the module."""
        ...


#: How a backend sends, see core/base.py.
Send = Callable[[Command | Batch], Op[Any]]


def text(raw: bytes) -> str:
    """A name from the wire; what is no UTF-8 survives the way back."""
    return raw.decode("utf-8", "surrogateescape")
