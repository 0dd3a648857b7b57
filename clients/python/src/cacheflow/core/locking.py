"""Locks with fencing tokens, and looking at what is there."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ..backends import Meta
from ..effects import Op
from ..errors import LockError, Unavailable
from ..units import Duration, milliseconds, seconds
from .base import Base


@dataclass(frozen=True)
class Stats:
    """Counters. `server`: CACHE.STATS, summed over the primaries, empty without the module. `client`: this
    client's own since it began, by the names of events.py; and the level's `l1_entries` and `l1_bytes`,
    `queued_invalidations`, `refreshing`."""

    server: dict[str, int]
    client: dict[str, int]


class Held:
    """A lock, as the core sees it: a name, a length, and a token while it is held."""

    def __init__(self, core: Locking, key: str, ttl: Duration, wait: Duration | None) -> None:
        self._core = core
        self.full = core.full(key)
        self.ms = milliseconds(ttl)
        # Waiting for as long as a holder may keep it, unless the caller says how long.
        self.wait = seconds(ttl) if wait is None else seconds(wait)
        self._token: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object has taken it and not released it. (It may have run out meanwhile.)"""
        return self._token is not None

    @property
    def token(self) -> int:
        """The fencing token: greater than every one that was given for this name before. Pass it on to what
        the lock protects. LockError `not_held`."""
        if self._token is None:
            raise LockError("not_held", "the lock is not held", self.full)
        return self._token

    def _acquire(self) -> Op[bool]:
        core = self._core
        if self._token is not None:
            raise LockError("locked", "this object holds the lock already; locks are not reentrant", self.full)
        began = core.clock()
        backend = core.backend or (yield from core.find_backend())
        self._token = yield from backend.lock(self.full, self.ms, self.wait)
        taken = self._token is not None
        core.observers.tell("lock", self.full, core.clock() - began, "taken" if taken else "refused")
        return taken

    def _enter(self) -> Op[None]:
        if not (yield from self._acquire()):
            raise LockError("locked", f"held by somebody else for over {self.wait:g} s", self.full)

    def _release(self) -> Op[bool]:
        token, self._token = self.token, None
        if token in self._core.spent:  # published with: that gave it back
            self._core.spent.discard(token)
            self._core.observers.tell("lock", self.full, detail="released")
            return True
        backend = self._core.backend or (yield from self._core.find_backend())
        released = yield from backend.unlock(self.full, token)
        self._core.observers.tell("lock", self.full, detail="released" if released else "lost")
        return released

    def _left(self, error: Unavailable) -> None:
        """It could not be given back, and runs out by itself."""
        self._core.observers.tell("lock", self.full, detail="left", error=error)

    def _check(self, fine: bool) -> None:
        if not fine:
            raise LockError("lost", "the lock had run out before it was released", self.full)

    def _extend(self, ttl: Duration | None) -> Op[bool]:
        backend = self._core.backend or (yield from self._core.find_backend())
        ms = self.ms if ttl is None else milliseconds(ttl)
        return (yield from backend.extend(self.full, self.token, ms))


class Locking(Base):
    """Operations on locks, and those that only look."""

    def meta(self, full: str) -> Op[Meta | None]:
        """Unavailable, ServerError."""
        backend = self.backend or (yield from self.find_backend())
        return (yield from backend.meta(full))

    def stats(self, namespace: str | None) -> Op[Stats]:
        """Unavailable, ServerError."""
        backend = self.backend or (yield from self.find_backend())
        server = yield from backend.stats(namespace)
        return Stats(server, self.client_stats())

    def client_stats(self) -> dict[str, int]:
        """This client's own."""
        counts = self.observers.counts()
        counts["refreshing"] = len(self.refreshing)
        if self.local is not None:
            counts |= {"l1_entries": len(self.local), "l1_bytes": self.local.bytes}
        return counts


#: What the drivers run.
AnyOp = Generator[Any, Any, Any]
