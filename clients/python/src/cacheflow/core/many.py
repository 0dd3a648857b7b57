"""get_or_set of many keys: one FETCH of all in one round trip, and one call of the loader for all that it gave
this caller the leases of. Each is stored with its own token, so each has its own fence.

    FETCH of each ─ FRESH, STALE ──────────────────────────────▶ value (elected: one refresh of all these behind)
     ├───────────── MISS ── one load of all these ── store ────▶ value
     ├───────────── no answer ── stale L1 ─────────────────────▶ value
     │                            └─ one load of all these under the local limit, store nothing ▶ value
     └───────────── BUSY ── wait for one of these, FETCH the others, and so on as above
                     └─ wait is over ── one load of all these, store nothing ▶ value

Callers of one process share the work on each key as get_or_set does: a caller leads the flights on some of its keys
and joins those of others. Its own land first, then it waits: so no two can wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..backends import BUSY, MISS, Backend, Fetched, Fill
from ..effects import Await, Call, Op, Spawn
from ..errors import CacheFlowError, ConfigError, ServerError, Unavailable
from ..local import Ticket
from ..options import Lifetime, Request, tag_list
from ..signals import Flight
from ..units import milliseconds
from .reading import Reading

Loader = Callable[[list[str]], Any]


@dataclass
class Work:
    """The keys that a call leads, by full key: their flights, and their values as they land."""

    flying: dict[str, Flight]
    values: dict[str, Any] = field(default_factory=dict)

    def begin(self, keys: Iterable[str]) -> None:
        """A load of these begins: what comes of it is true from now on."""
        for full in keys:
            flight = self.flying[full]
            flight.step += 1
            flight.true_at = flight.step


@dataclass
class Turn:
    """What a round of FETCH said, sorted. leased: tokens of what is to be loaded; unleased: what is to be loaded
    and not stored; elected: tokens of what is to be refreshed behind."""

    leased: dict[str, int] = field(default_factory=dict)
    unleased: list[str] = field(default_factory=list)
    elected: dict[str, int] = field(default_factory=dict)
    busy: dict[str, Fetched] = field(default_factory=dict)
    broken: dict[str, Fetched] = field(default_factory=dict)
    down: dict[str, CacheFlowError] = field(default_factory=dict)


class Many(Reading):
    """Operations on many keys that load."""

    def get_or_set_many(self, keys: Sequence[str], loader: Loader, request: Request) -> Op[dict[str, Any]]:
        """Every key's value, by the keys as the caller named them. The loader's errors, EncodeError, ConfigError
        for a loader that returns no mapping."""
        wanted = {key: self.full(key) for key in dict.fromkeys(keys)}
        found: dict[str, Any] = {}
        left = []
        for full in wanted.values():
            value = self.quick(full)
            if value is self.missing:
                left.append(full)
            else:
                found[full] = value
        deadline = 0.0
        while left:
            led: dict[str, Flight] = {}
            joined = []
            for full in left:
                flight, leads = self.flights.enter(full)
                if leads:
                    led[full] = flight
                else:
                    joined.append((full, flight, flight.step))
            if led:
                found |= yield from self._lead_many(led, loader, request)
            deadline = deadline or self.clock() + request.wait + 2 * self.timeout
            left, late = [], []
            for full, flight, joined_at in joined:
                yield Await(flight, max(0.0, deadline - self.clock()))
                if flight.answers(joined_at):
                    if flight.read is None:
                        assert flight.error is not None
                        raise flight.error
                    found[full] = flight.read()
                elif self.clock() >= deadline:  # the one who works does not come to an end
                    late.append(full)
                else:
                    left.append(full)
            if late:
                found |= yield from self._load_many(late, loader)
        return {key: found[full] for key, full in wanted.items()}

    def _lead_many(self, led: dict[str, Flight], loader: Loader, request: Request) -> Op[dict[str, Any]]:
        work = Work(led)
        try:
            yield from self._obtain_many(work, loader, request)
        except BaseException as error:
            for full, flight in work.flying.items():
                self.flights.leave(full, flight)
                # A loader's error is everybody's who waited for it; a cancellation is the canceller's alone.
                flight.fail(error if isinstance(error, Exception) else None, flight.step)
            raise
        return work.values

    def _land(self, work: Work, full: str, value: Any, read: Callable[[], Any]) -> None:
        flight = work.flying.pop(full)
        self.flights.leave(full, flight)
        flight.land(read, flight.true_at)
        work.values[full] = value

    # --- from Redis ----------------------------------------------------------------------------
    def _obtain_many(self, work: Work, loader: Loader, request: Request) -> Op[None]:
        """Land every flight."""
        began, local = self.clock(), self.local
        if local is not None and not self._tracking:
            yield from self.track()
        asked = list(work.flying)
        tickets = {full: local.begin(full) for full in asked} if local is not None else {}
        try:
            replies = yield from self._fetch_many(work, asked, request)
        except BaseException:  # a cancellation
            for ticket in tickets.values():
                self.abandon(ticket)
            raise
        deadline = self.clock() + request.wait
        while True:
            turn = self._sort(work, zip(asked, replies, strict=True), request, tickets, began)
            yield from self._settle(work, turn, loader, request)
            if not turn.busy:
                return
            tickets = {}
            asked = list(turn.busy)
            reply = yield from self._wait_for_one(work, turn.busy, request, deadline)
            if isinstance(reply, Fetched) and reply.state == BUSY:  # the time is up
                yield from self._fill_many(work, {}, asked, loader, request)
                return
            replies = [reply, *((yield from self._fetch_many(work, asked[1:], request)) if asked[1:] else ())]

    def _fetch_many(self, work: Work, fulls: Sequence[str], request: Request) -> Op[list[Fetched | CacheFlowError]]:
        for full in fulls:
            work.flying[full].step += 1
        try:
            backend: Backend = self.backend or (yield from self.find_backend())
            return (
                yield from backend.fetch_many(
                    fulls,
                    () if callable(request.tags) else request.tags,
                    None if request.lease is None else milliseconds(request.lease),
                    None if request.max_stale is None else milliseconds(request.max_stale),
                    request.beta,
                    self.local is not None,
                )
            )
        except (Unavailable, ServerError) as error:
            return [error] * len(fulls)

    def _wait_for_one(
        self, work: Work, busy: Mapping[str, Fetched], request: Request, deadline: float
    ) -> Op[Fetched | CacheFlowError]:
        """Wait for the first; by then others may be there too."""
        full, fetched = next(iter(busy.items()))
        began = self.clock()
        patience = replace(request, wait=deadline - began)
        reply: Fetched | CacheFlowError
        try:
            backend = self.backend or (yield from self.find_backend())
            reply = yield from self.wait_for(work.flying[full], backend, full, patience, fetched)
        except (Unavailable, ServerError) as error:
            reply = error
        self.observers.tell("wait", full, self.clock() - began)
        return reply

    def _sort(
        self,
        work: Work,
        answers: Iterable[tuple[str, Fetched | CacheFlowError]],
        request: Request,
        tickets: Mapping[str, Ticket],
        began: float,
    ) -> Turn:
        """What there is lands, the rest is sorted by what is to be done."""
        turn = Turn()
        for full, fetched in answers:
            ticket = tickets.get(full)
            if isinstance(fetched, Fetched) and fetched.value is not None:
                flight = work.flying[full]
                flight.true_at = flight.step
                taken = self.take(fetched, full, request, ticket, began)
                if taken is None:
                    turn.broken[full] = fetched
                    continue
                self._land(work, full, *taken)
                if fetched.token is not None:
                    turn.elected[full] = fetched.token
                continue
            self.abandon(ticket)
            if isinstance(fetched, CacheFlowError):
                self.observers.tell("degraded", full, error=fetched)
                turn.down[full] = fetched
            elif fetched.state == BUSY:
                turn.busy[full] = fetched
            else:
                assert fetched.state == MISS and fetched.token is not None
                turn.leased[full] = fetched.token
        return turn

    def _settle(self, work: Work, turn: Turn, loader: Loader, request: Request) -> Op[None]:
        """Load what a turn leaves to this caller. What it does not are those that are busy."""
        for full, fetched in turn.broken.items():
            replacement = yield from self.replace(full, request, fetched)
            if replacement.token is None:
                turn.unleased.append(full)
            else:
                turn.leased[full] = replacement.token
        if turn.elected:
            yield from self._refresh_many_behind(turn.elected, loader, request)
        for full in (*turn.leased, *turn.unleased):
            self.observers.tell("miss", full)
        if turn.leased or turn.unleased:
            yield from self._fill_many(work, turn.leased, turn.unleased, loader, request)
        if turn.down:
            yield from self._without_redis(work, turn.down, loader, request)

    # --- loading -------------------------------------------------------------------------------
    def _load_many(self, fulls: Sequence[str], loader: Loader) -> Op[dict[str, Any]]:
        """The loader's values, of all these by one call. What it leaves out is None."""
        began, failure = self.clock(), None
        try:
            loaded = yield Call(loader, [self.short(full) for full in fulls])
        except BaseException as error:
            failure = error
            raise
        finally:
            took = self.clock() - began
            for full in fulls:
                self.observers.tell("load", full, took, error=failure)
        if not isinstance(loaded, Mapping):
            raise ConfigError("bad_function", f"a loader of many returns a mapping, not a {type(loaded).__name__}")
        return {full: loaded.get(self.short(full)) for full in fulls}

    def _fill_many(
        self,
        work: Work | None,
        leased: Mapping[str, int],
        unleased: Sequence[str],
        loader: Loader,
        request: Request,
    ) -> Op[None]:
        """Load all, store those with leases, land them. What the loader raises gives the leases up first; a store
        that fails costs the caller nothing."""
        if work is not None:
            work.begin((*leased, *unleased))
        fills: dict[str, Fill] = {}
        try:
            self.lifetime(request.ttl, request.grace)  # what makes no sense is said before loading
            values = yield from self._load_many((*leased, *unleased), loader)
            for full, token in leased.items():
                fill = self._fill_of(full, values[full], token, request)
                if fill is not None:
                    fills[full] = fill
        except BaseException as error:
            yield from self._give_up_many(leased, self.retry_after if isinstance(error, Exception) else 0)
            raise
        skipped = {full: token for full, token in leased.items() if full not in fills}
        for full in skipped:
            self.observers.tell("fill", full, detail="skipped")
        yield from self._give_up_many(skipped, 0)
        if fills:
            yield from self._store_many(work, fills)
        if work is not None:
            for full, value in values.items():
                data = fills[full].value if full in fills else None
                self._land(work, full, value, self.reader(full, value, data))

    def _fill_of(self, full: str, value: Any, token: int, request: Request) -> Fill | None:
        """What to store; None if it is not to be."""
        negative = value is None and request.negative_ttl is not None
        life = Lifetime(request.negative_ttl, 0) if negative else self.lifetime(request.ttl, request.grace)
        if life.none:
            return None
        tags = request.tags(self.short(full), value) if callable(request.tags) else request.tags
        return Fill(full, self.encode(full, value), life, tag_list(tags), token)

    def _store_many(self, work: Work | None, fills: Mapping[str, Fill]) -> Op[None]:
        if work is not None:
            for full in fills:
                work.flying[full].step += 1
        began = self.clock()
        refused: dict[str, int] = {}
        try:
            backend = yield from self.find_backend()
            replies = yield from backend.store_each(list(fills.values()))
        except (Unavailable, ServerError) as error:
            replies = [error] * len(fills)
        for (full, fill), kept in zip(fills.items(), replies, strict=True):
            took = self.clock() - began
            if isinstance(kept, Exception):
                self.observers.tell("fill", full, took, "failed", kept)
                if isinstance(kept, ServerError):  # too big, out of memory: who waits must not wait for it
                    refused[full] = fill.token
                continue
            if kept and work is not None:
                work.flying[full].true_at = work.flying[full].step
            self.observers.tell("fill", full, took, "stored" if kept else "refused")
        yield from self._give_up_many(refused, 0)
        self.drop_local(fills)

    def _give_up_many(self, tokens: Mapping[str, int], retry: int) -> Op[None]:
        if not tokens:
            return
        try:
            backend = yield from self.find_backend()
            yield from backend.unlock_each(tokens, retry)
        except CacheFlowError as error:
            self.observers.tell("degraded", next(iter(tokens)), error=error)  # the leases run out by themselves

    # --- behind the caller ---------------------------------------------------------------------
    def _refresh_many_behind(self, elected: Mapping[str, int], loader: Loader, request: Request) -> Op[None]:
        """Refresh in the background, by one call of the loader; never two of one key in this process."""
        ours = {full: token for full, token in elected.items() if full not in self.refreshing}
        theirs = {full: token for full, token in elected.items() if full not in ours}
        if ours:
            self.refreshing |= ours.keys()
            if not (yield Spawn(self._refresh_many(ours, loader, request))):
                self.refreshing -= ours.keys()
                theirs |= ours
        yield from self._give_up_many(theirs, 0)

    def _refresh_many(self, tokens: Mapping[str, int], loader: Loader, request: Request) -> Op[None]:
        began, failure = self.clock(), None
        try:
            yield from self._fill_many(None, tokens, (), loader, request)
        except Exception as error:
            failure = error  # nobody waits for it: it is told, and logged by whoever listens
        finally:
            self.refreshing -= tokens.keys()
        for full in tokens:
            self.observers.tell("refresh", full, self.clock() - began, error=failure)

    # --- without Redis -------------------------------------------------------------------------
    def _without_redis(self, work: Work, down: Iterable[str], loader: Loader, request: Request) -> Op[None]:
        down = list(down)
        work.begin(down)
        left = []
        for full in down:
            kept = self.kept(full, request)
            if kept is None:
                left.append(full)
            else:
                self._land(work, full, *kept)
        if not left:
            return
        values = yield from self.under(self.local_loads, request.wait, self._load_many(left, loader))
        for full, value in values.items():
            self._land(work, full, value, self.reader(full, value, None))
