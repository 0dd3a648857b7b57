"""get_or_set, from the level in the process down to the loader; get and get_many.

    L1 ─ fresh ──────────────────────────────────────────────────────────────▶ value
     └─ join the flight on the key, or lead it:
          FETCH ─ FRESH ─────────────────────────────────────────────────────▶ value (elected: refresh behind)
            ├─── STALE ──────────────────────────────────────────────────────▶ value (with a token: refresh behind)
            ├─── MISS ── load ── store with the token ───────────────────────▶ value
            ├─── BUSY ── wait on the waiting lane ── FRESH, MISS as above
            │                └─ wait is over ── load, store nothing ─────────▶ value
            └─── no answer ── stale L1 ──────────────────────────────────────▶ value
                                └─ load under the local limit, store nothing ▶ value

Nothing is raised but what the loader raised, and EncodeError for a value that no codec could store: that is a
bug to be seen at once, not a server that is down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..backends import BUSY, FRESH, MISS, Backend, Fetched
from ..codecs import CodecError, DecodeError
from ..effects import Await, Op, Spawn
from ..errors import CacheFlowError, ServerError, Unavailable
from ..local import Entry, Ticket
from ..options import Request
from ..signals import Flight
from ..units import milliseconds, seconds
from .loading import Loading
from .tracking import Tracking

#: Seconds of one wait in the server: a server that stops meanwhile is found out after this and the timeout.
WAIT_SLICE = 1.0
_PLAIN = (str, bytes, int, float, bool, type(None))
_NONE: Any = object()


class Reading(Loading, Tracking):
    """Operations that read."""

    def quick(self, full: str) -> Any:
        """The level's fresh value, or Reading.missing. No operation, for it must take a microsecond."""
        local = self.local
        if local is None:
            return _NONE
        value = local.get(full, _NONE)
        if value is not _NONE:
            observers = self.observers
            observers.l1_hits += 1
            if observers.listening:
                observers.tell("l1_hit", full)
        return value

    missing = _NONE

    # --- get_or_set ----------------------------------------------------------------------------
    def get_or_set(self, full: str, loader: Callable[..., Any], request: Request) -> Op[Any]:
        """The value, whoever has it. The loader's errors, EncodeError."""
        deadline = 0.0
        while True:
            flight, leads = self.flights.enter(full)
            if leads:
                return (yield from self._lead(flight, full, loader, request))
            joined_at = flight.step
            now = self.clock()
            deadline = deadline or now + request.wait + 2 * self.timeout
            yield Await(flight, max(0.0, deadline - now))
            if flight.answers(joined_at):
                if flight.read is not None:
                    return flight.read()
                assert flight.error is not None
                raise flight.error
            if self.clock() >= deadline:  # the one who works does not come to an end
                return (yield from self.load_only(full, loader, request, None))

    def _lead(self, flight: Flight, full: str, loader: Callable[..., Any], request: Request) -> Op[Any]:
        try:
            value, read = yield from self._obtain(flight, full, loader, request)
        except BaseException as error:
            self.flights.leave(full, flight)
            # A loader's error is everybody's who waited for it; a cancellation is the canceller's alone.
            flight.fail(error if isinstance(error, Exception) else None, flight.step)
            raise
        self.flights.leave(full, flight)
        flight.land(read, flight.true_at)
        return value

    def _obtain(
        self, flight: Flight, full: str, loader: Callable[..., Any], request: Request
    ) -> Op[tuple[Any, Callable[[], Any]]]:
        """The value, and how each who shares it gets one of its own. Sets the flight's `true_at`."""
        began = self.clock()
        local = self.local
        if local is not None and not self._tracking:
            yield from self.track()
        ticket = local.begin(full) if local is not None else None
        try:
            backend = self.backend or (yield from self.find_backend())
            flight.step += 1
            fetched = yield from self._ask(backend, full, request)
            if fetched.state == BUSY:
                waited = self.clock()
                fetched = yield from self.wait_for(flight, backend, full, request, fetched)
                self.observers.tell("wait", full, self.clock() - waited)
        except (Unavailable, ServerError) as error:
            self.abandon(ticket)
            return (yield from self._degraded(flight, full, loader, request, error))
        except BaseException:  # a cancellation
            self.abandon(ticket)
            raise
        if fetched.value is not None:
            flight.true_at = flight.step
            found = yield from self._use(fetched, full, loader, request, ticket, began)
            if found is not None:
                return found
            fetched = yield from self.replace(full, request, fetched)
        else:
            self.abandon(ticket)
        self.observers.tell("miss", full, self.clock() - began)
        if fetched.token is None:
            flight.step += 1
            flight.true_at = flight.step
            value = yield from self.load_only(full, loader, request, None)
            return value, self.reader(full, value, None)
        value, data = yield from self.fill(flight, full, fetched.token, loader, request, None)
        return value, self.reader(full, value, data)

    def _ask(self, backend: Backend, full: str, request: Request) -> Op[Fetched]:
        return backend.fetch(
            full,
            () if callable(request.tags) else request.tags,
            None if request.lease is None else milliseconds(request.lease),
            None if request.max_stale is None else milliseconds(request.max_stale),
            request.beta,
            self.local is not None,
        )

    def wait_for(
        self, flight: Flight, backend: Backend, full: str, request: Request, fetched: Fetched
    ) -> Op[Fetched]:
        """Wait for who computes, in slices, until there is an answer or the time is up (BUSY)."""
        deadline = self.clock() + request.wait
        while fetched.state == BUSY and (left := deadline - self.clock()) > 0:
            flight.step += 1
            fetched = yield from backend.wait(
                full,
                () if callable(request.tags) else request.tags,
                None if request.lease is None else milliseconds(request.lease),
                None if request.max_stale is None else milliseconds(request.max_stale),
                request.beta,
                self.local is not None,
                min(left, WAIT_SLICE),
                fetched.ms,
            )
        return fetched

    def _use(
        self,
        fetched: Fetched,
        full: str,
        loader: Callable[..., Any],
        request: Request,
        ticket: Ticket | None,
        began: float,
    ) -> Op[tuple[Any, Callable[[], Any]] | None]:
        """What FETCH answered, taken; a refresh behind it if we were elected. None where it cannot be decoded."""
        taken = self.take(fetched, full, request, ticket, began)
        if taken is not None and fetched.token is not None:
            yield from self._refresh_behind(full, fetched.token, loader, request, (taken[0],))
        return taken

    def take(
        self, fetched: Fetched, full: str, request: Request, ticket: Ticket | None, began: float
    ) -> tuple[Any, Callable[[], Any]] | None:
        """What FETCH answered, decoded and put into the level: the value, and how each who shares it gets one of
        its own. None where it cannot be decoded."""
        data = fetched.value
        assert data is not None
        try:
            value = self.codec.decode(full, data)
        except DecodeError as error:
            self.observers.tell("decode", full, error=error)
            self.abandon(ticket)
            return None
        fresh = fetched.state == FRESH
        self.observers.tell("hit" if fresh else "stale", full, self.clock() - began)
        if ticket is not None and fresh:
            self._put_local(ticket, full, value, data, fetched, request)
        else:
            self.abandon(ticket)
        return value, self.reader(full, value, data)

    def abandon(self, ticket: Ticket | None) -> None:
        """There is nothing to put into the level."""
        if ticket is not None and self.local is not None:
            self.local.abandon(ticket)

    def _put_local(
        self, ticket: Ticket, full: str, value: Any, data: bytes, fetched: Fetched, request: Request
    ) -> None:
        local = self.local
        assert local is not None
        grace = self.options.grace if request.grace is None else request.grace
        fresh = float("inf") if fetched.ms < 0 else fetched.ms / 1000
        entry = Entry(value, data, lambda raw: self.codec.decode(full, raw))
        local.put(ticket, entry, fresh, 0.0 if grace is None else seconds(grace), fetched.tags)

    def reader(self, full: str, value: Any, data: bytes | None) -> Callable[[], Any]:
        """A value of one's own for each who shares it: decoded anew, unless nobody can alter it. (What was
        not stored was not encoded: then it is shared as it is.)"""
        if data is None or type(value) in _PLAIN:
            return lambda: value
        return lambda: self.codec.decode(full, data)

    def replace(self, full: str, request: Request, fetched: Fetched) -> Op[Fetched]:
        """The right to replace what cannot be decoded: the token that came with it, or the key's lock."""
        if fetched.token is not None:
            return Fetched(MISS, None, fetched.token, 0)
        lease = 10_000 if request.lease is None else milliseconds(request.lease)
        token = None
        try:
            backend = yield from self.find_backend()
            token = yield from backend.lock(full, lease, 0)
        except CacheFlowError as error:
            self.observers.tell("degraded", full, error=error)
        return Fetched(MISS, None, token, lease)

    # --- behind the caller ---------------------------------------------------------------------
    def _refresh_behind(
        self, full: str, token: int, loader: Callable[..., Any], request: Request, stale: tuple[Any]
    ) -> Op[None]:
        """Refresh in the background; never two of one key in this process."""
        if full not in self.refreshing:
            self.refreshing.add(full)
            if (yield Spawn(self._refresh(full, token, loader, request, stale))):
                return
            self.refreshing.discard(full)
        try:
            backend = yield from self.find_backend()
            yield from backend.unlock(full, token)
        except CacheFlowError as error:
            self.observers.tell("degraded", full, error=error)

    def _refresh(
        self, full: str, token: int, loader: Callable[..., Any], request: Request, stale: tuple[Any]
    ) -> Op[None]:
        began, failure = self.clock(), None
        try:
            yield from self.fill(None, full, token, loader, request, stale)
        except (Exception, CodecError) as error:
            failure = error  # nobody waits for it: it is told, and logged by whoever listens
        finally:
            self.refreshing.discard(full)
        self.observers.tell("refresh", full, self.clock() - began, error=failure)

    # --- without Redis -------------------------------------------------------------------------
    def _degraded(
        self,
        flight: Flight,
        full: str,
        loader: Callable[..., Any],
        request: Request,
        error: CacheFlowError,
    ) -> Op[tuple[Any, Callable[[], Any]]]:
        self.observers.tell("degraded", full, error=error)
        flight.step += 1
        flight.true_at = flight.step
        kept = self.kept(full, request)
        if kept is not None:
            return kept
        value = yield from self.load_only(full, loader, request, self.local_loads)
        return value, self.reader(full, value, None)

    def kept(self, full: str, request: Request) -> tuple[Any, Callable[[], Any]] | None:
        """What the level has in need, and how each who shares it gets one of its own."""
        if self.local is None or request.max_stale == 0:
            return None
        value = self.local.get_stale(full, _NONE)
        if value is _NONE:
            return None
        self.observers.tell("l1_stale", full)
        return value, self.reader(full, value, None if type(value) in _PLAIN else self.encode(full, value))

    # --- get -----------------------------------------------------------------------------------
    def get(self, full: str, default: Any, stale: bool) -> Op[Any]:
        """The value, `default` where there is none or Redis does not answer. DecodeError, ServerError."""
        began = self.clock()
        try:
            backend = self.backend or (yield from self.find_backend())
            data = yield from backend.get(full, stale)
        except Unavailable as error:
            value = self._in_need(full, error)
            return default if value is _NONE else value
        took = self.clock() - began
        if data is None:
            self.observers.tell("miss", full, took)
            return default
        try:
            value = self.codec.decode(full, data)
        except DecodeError as error:
            self.observers.tell("decode", full, took, error=error)
            raise
        self.observers.tell("hit", full, took)
        return value

    def _in_need(self, full: str, error: Unavailable) -> Any:
        """What the level has when Redis does not answer, however old, or Reading.missing."""
        self.observers.tell("degraded", full, error=error)
        return self.local.get_stale(full, _NONE) if self.local is not None else _NONE

    def get_many(self, keys: Sequence[str]) -> Op[dict[str, Any]]:
        """The fresh values that there are, by the keys as the caller named them. DecodeError, ServerError."""
        found = {key: value for key in dict.fromkeys(keys) if (value := self.quick(self.full(key))) is not _NONE}
        asked = [key for key in dict.fromkeys(keys) if key not in found]
        if not asked:
            return found
        began = self.clock()
        try:
            backend = self.backend or (yield from self.find_backend())
            replies = yield from backend.get_many([self.full(key) for key in asked])
        except Unavailable as error:
            replies = [error] * len(asked)
        took = self.clock() - began
        for key, data in zip(asked, replies, strict=True):
            full = self.full(key)
            if isinstance(data, Unavailable):
                value = self._in_need(full, data)
                if value is not _NONE:
                    found[key] = value
                continue
            if data is None:
                self.observers.tell("miss", full, took)
                continue
            try:
                found[key] = self.codec.decode(full, data)
            except DecodeError as error:
                self.observers.tell("decode", full, took, error=error)
                raise
            self.observers.tell("hit", full, took)
        return {key: found[key] for key in dict.fromkeys(keys) if key in found}
