"""What frameworks ask of a cache beyond the client's own methods, as operations of the core (effects.py): written
once, run by `CacheFlow` and by `AsyncCacheFlow`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core import Core
from ..effects import Op
from ..errors import CacheFlowError, ServerError
from ..units import FOREVER, AutoTTL, Duration

_LEASE = 5_000  # ms for a read and a write of a key: a second or two is long
_MISSING: Any = object()


def add(core: Core, key: str, value: Any, ttl: Duration | AutoTTL | None, tags: Sequence[str]) -> Op[bool]:
    """Store where there is no fresh value; whether it was. Without grace: who adds a value for a minute, as a
    mark that keeps others out, means a minute. EncodeError, ServerError."""
    full = core.full(key)
    if (yield from core.set(full, value, ttl, 0, tags, "NX", None, None)):
        return True
    try:
        # To NX a stale entry is there. It is replaced under the key's own lock, by one who finds it stale still.
        backend = core.backend or (yield from core.find_backend())
        meta = yield from backend.meta(full)
        if meta is None or meta.state != "stale":
            return False
        token = yield from backend.lock(full, _LEASE, 0)
        if token is None:
            return False
        meta = yield from backend.meta(full)
        if meta is not None and meta.state == "stale":
            return (yield from core.set(full, value, ttl, 0, tags, "", token, None))
        yield from backend.unlock(full, token)
    except CacheFlowError as error:
        core.observers.tell("degraded", full, error=error)
    return False


def persist(core: Core, key: str) -> Op[bool]:
    """Take the end off a fresh value, which keeps its tags; whether there was one. It is written anew under the
    key's own lock, for CACHE.TOUCH has no PERSIST. DecodeError, Unavailable, ServerError."""
    full = core.full(key)
    backend = core.backend or (yield from core.find_backend())
    while True:
        token = yield from backend.lock(full, _LEASE, _LEASE / 1000)
        if token is None:
            raise ServerError("err", "somebody holds the key's lease, and does not come to an end", full)
        try:
            value = yield from core.get(full, _MISSING, False)
            meta = yield from backend.meta(full)
            found = value is not _MISSING and meta is not None and meta.state == "fresh"
            if found and meta is not None:
                if (yield from core.set(full, value, FOREVER, None, meta.tags, "", token, None)):
                    return True
                continue  # written or invalidated meanwhile: what is there now?
        except BaseException:
            yield from backend.unlock(full, token)
            raise
        yield from backend.unlock(full, token)
        return False


def count(core: Core, key: str, by: int) -> Op[int | None]:
    """Add to an integer that is there; None where nothing is. (One that expires between the look and the sum
    begins anew at 0, without an end.) TypeError where it is no integer, Unavailable, ServerError."""
    full = core.full(key)
    backend = core.backend or (yield from core.find_backend())
    meta = yield from backend.meta(full)
    if meta is None or meta.state != "fresh":
        return None
    try:
        return (yield from core.incr(full, by))
    except ServerError as error:
        if "integer" in error.detail and "overflow" not in error.detail:
            raise TypeError(f"the value of {key!r} is no integer that the server can count") from error
        raise
