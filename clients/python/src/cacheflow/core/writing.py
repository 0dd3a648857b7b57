"""What changes entries, and what invalidates them.

Writes of values answer False when Redis does not take them: a cache that is down must not take the application
down. What removes or counts raises: who invalidates relies on it.

An invalidation that failed may be queued here (retry=True). It still raises, for readers may see the old value
until it is done; it is sent again, in order, until the server has it or the client is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..effects import Op, Sleep, Spawn
from ..errors import CacheFlowError, ConfigError, InvalidationError, ServerError, Unavailable
from ..options import Lifetime, Request
from ..units import AutoTTL, Duration, milliseconds
from .loading import Loading

QUEUE = 4096  # invalidations that wait for the server to come back
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries
REFRESH_LEASE = 30_000  # ms, where the caller names none


class Queued(NamedTuple):
    """An invalidation that is still to be done."""

    targets: tuple[str, ...]
    namespaces: bool
    soft: bool


class Writing(Loading):
    """Operations that write."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.queue: deque[Queued] = deque()
        self._draining = False

    def reset(self) -> None:
        """In a forked child: what the parent queued is the parent's."""
        super().reset()
        self.queue, self._draining = deque(), False

    @staticmethod
    def condition(only: str) -> str:
        """The word of CACHE.SET for a caller's."""
        try:
            return {"": "", "absent": "NX", "present": "XX"}[only]
        except KeyError:
            raise ConfigError("bad_option", f"only={only!r} is neither absent nor present") from None

    # --- values --------------------------------------------------------------------------------
    def set(
        self,
        full: str,
        value: Any,
        ttl: Duration | AutoTTL | None,
        grace: Duration | None,
        tags: Sequence[str],
        condition: str,
        token: int | None,
        cost: Duration | None,
    ) -> Op[bool]:
        """Whether it was stored. EncodeError, ServerError."""
        stored = yield from self.set_many({full: value}, ttl, grace, tags, condition, token, cost)
        return full in stored

    def set_many(
        self,
        values: Mapping[str, Any],
        ttl: Duration | AutoTTL | None,
        grace: Duration | None,
        tags: Sequence[str],
        condition: str = "",
        token: int | None = None,
        cost: Duration | None = None,
    ) -> Op[list[str]]:
        """By full key; those that were stored. EncodeError before anything is, ServerError of the first that
        was refused."""
        if not values:
            return []
        life = self.lifetime(ttl, grace)
        if life.none:
            raise ConfigError("bad_duration", "a time to live of 0; delete removes a value")
        items = [(full, self.encode(full, value)) for full, value in values.items()]
        try:
            backend = self.backend or (yield from self.find_backend())
            replies = yield from backend.store(
                items, life, tags, token, None if cost is None else milliseconds(cost), condition
            )
        except Unavailable as error:
            for full in values:
                self.observers.tell("write", full, detail="set", error=error)
            return []
        finally:
            self.drop_local(values)
        self.spend(token)
        stored = []
        for (full, _), reply in zip(items, replies, strict=True):
            if isinstance(reply, Unavailable):
                self.observers.tell("write", full, detail="set", error=reply)
                continue
            if isinstance(reply, Exception):
                raise reply
            self.observers.tell("write", full, detail="set")
            if reply:
                stored.append(full)
        return stored

    def _write(self, keys: Sequence[str], detail: str, operation: Callable[[Any], Op[Any]]) -> Op[Any]:
        """What removes or counts: whatever comes of it, the level forgets the keys."""
        try:
            backend = self.backend or (yield from self.find_backend())
            reply = yield from operation(backend)
        except CacheFlowError as error:
            self.observers.tell("write", keys[0], detail=detail, error=error)
            raise
        finally:
            self.drop_local(keys)
        self.observers.tell("write", keys[0], detail=detail)
        return reply

    def touch(
        self,
        full: str,
        ttl: Duration | AutoTTL | None,
        grace: Duration | None,
        token: int | None,
        tags: Sequence[str] = (),
    ) -> Op[bool]:
        """Whether there was an entry to make fresh anew. Unavailable, ServerError."""
        # Without a time TOUCH repeats the entry's own lengths: the client's default would be another.
        life = Lifetime(ttl, grace)
        if life.none or life.forever:
            raise ConfigError("bad_duration", "touch takes a time to live with an end, of more than 0")
        if tags and token is not None:
            raise ConfigError("bad_option", "tags that touch adds are not fenced: with a token, set the value")
        touched = yield from self._write((full,), "touch", lambda backend: backend.touch(full, life, token, tags))
        self.spend(token)
        return bool(touched)

    def delete(self, keys: Sequence[str], soft: bool) -> Op[int]:
        """How many there were; soft: how many were fresh and are stale now. Unavailable, ServerError."""
        if not keys:
            return 0
        name = "expire" if soft else "delete"
        reply: int = yield from self._write(keys, name, lambda backend: getattr(backend, name)(keys))
        return reply

    def incr(self, full: str, by: int) -> Op[int]:
        """The sum. Unavailable, ServerError."""
        reply: int = yield from self._write((full,), "incr", lambda backend: backend.incr(full, by))
        return reply

    def refresh(self, full: str, loader: Callable[..., Any], request: Request) -> Op[Any]:
        """Load now, whatever there is, and store with the key's own lock, so that nothing older can follow.
        Where it cannot be had the value is loaded and not stored. The loader's errors, EncodeError."""
        lease = REFRESH_LEASE if request.lease is None else milliseconds(request.lease)
        token = None
        try:
            backend = self.backend or (yield from self.find_backend())
            token = yield from backend.lock(full, lease, request.wait)
        except (Unavailable, ServerError) as error:
            self.observers.tell("degraded", full, error=error)
        if token is None:
            return (yield from self.load_only(full, loader, request, None))
        value, _ = yield from self.fill(None, full, token, loader, request, None)
        return value

    # --- invalidation --------------------------------------------------------------------------
    def invalidate(self, targets: Sequence[str], namespaces: bool, soft: bool, retry: bool) -> Op[int | None]:
        """How many entries it hit, None where the server cannot say. InvalidationError."""
        targets = self.check_targets(targets)
        began, detail = self.clock(), "soft" if soft else "hard"
        failure: CacheFlowError | None = None
        hit: int | None = None
        try:
            hit = yield from self._invalidate(Queued(targets, namespaces, soft))
        except (Unavailable, ServerError) as error:
            failure = error
        took = self.clock() - began
        for target in targets:
            self.observers.tell("invalidate", f"@{target}" if namespaces else target, took, detail, failure)
        if failure is None:
            return hit
        # Of a partial one the server itself does not let go.
        queued = retry and failure.code != "partial" and len(self.queue) < QUEUE and not self.closed
        if queued:
            self.queue.append(Queued(targets, namespaces, soft))
            if not self._draining:
                self._draining = bool((yield Spawn(self._drain(), lasting=True)))
        raise InvalidationError(failure.code, failure.detail, targets, queued) from failure

    def _invalidate(self, what: Queued) -> Op[int | None]:
        try:
            backend = self.backend or (yield from self.find_backend())
            return (yield from backend.invalidate(what.targets, what.namespaces, what.soft))
        finally:
            if self.local is not None:
                for target in what.targets:
                    self.local.invalidate(f"@{target}" if what.namespaces else target, what.soft)

    def _drain(self) -> Op[None]:
        """Send what is queued, the oldest first, until nothing is."""
        self._draining = True
        pause = FIRST_PAUSE
        try:
            while self.queue and not self.closed:
                yield Sleep(pause)
                head = self.queue[0]
                try:
                    yield from self._invalidate(head)
                except (Unavailable, ServerError) as error:
                    self.observers.tell("invalidate", head.targets[0], 0.0, "retry", error)
                    if error.code != "partial":
                        pause = min(pause * 2, LONGEST_PAUSE)
                        continue
                self.queue.popleft()
                pause = 0.0
        finally:
            self._draining = False
