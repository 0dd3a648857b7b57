"""Workers on CACHE.REFRESH: they ask the server for the key that is most worth recomputing, which comes with a
lease, and store what a registered function computes. What is hot stays fresh ahead of its readers, and the server
gives each key to one worker, however many there are.

    refresh = Refreshers()

    @refresh("user:{user_id}", ttl="5m", grace="1h", tags="user:{user_id}")
    def load_user(user_id): ...

    Worker(cache, refresh, concurrency=8).run()          # AsyncWorker for AsyncCacheFlow

The loop is one operation of the core for both. What it guarantees: at most `concurrency` computations at a time,
over all shards of a cluster; no lease that it took is left open when it has stopped; it goes on through restarts,
failovers and changes of a cluster. It needs the module on the server.

    ask (one a shard) ── a place is free ── CACHE.REFRESH BLOCK ── due ── begin ─▶ compute and store, then the place
        ▲                                        │ nothing                         is free again
        └────────────────────────────────────────┘
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..aio import AsyncCacheFlow
from ..client import CacheFlow
from ..core import Core
from ..effects import Await, Call, Exchange, Node, Op, Spawn
from ..errors import CacheFlowError, ConfigError, ServerError, Unavailable
from ..signals import Limit, Signal
from ..transport.replies import BROKEN, translate
from ..units import Duration, milliseconds, seconds
from .refreshers import Refreshers, fill, give_up

log = logging.getLogger("cacheflow")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, while Redis does not answer or offers what is not ours
RELEARN = 2.0  # seconds between two looks at a cluster's primaries
MOST_AT_ONCE = 64  # keys of one CACHE.REFRESH, where those offered first are not ours
SLICE = 1.0  # seconds of one wait, in the server or here: a stop is noticed after this at the latest


class Due(NamedTuple):
    """A key to recompute. `key`: without the client's namespace; `full`: with it; `lease`: seconds it lasts."""

    key: str
    full: str
    token: int
    lease: float


class Loop:
    """What all workers have in common. A subclass says in `perform` how a key is computed."""

    def __init__(
        self,
        core: Core,
        refreshers: Refreshers,
        *,
        concurrency: int = 8,
        namespace: str | None = None,
        lease: Duration | None = None,
        retry: Duration = "1s",
        grace: Duration = "30s",
    ) -> None:
        """concurrency: computations at a time. namespace: whose keys, the client's own if it has one and none is
        named; "" for the keys of every one. lease: how long a computation may take, which the server learns by
        itself. retry: how long nobody is to compute a key whose function raised. grace: how long computations
        that have begun may go on when the worker is stopped. ConfigError."""
        if concurrency < 1:
            raise ConfigError("bad_option", "concurrency must be 1 or more")
        self._core, self.refreshers = core, refreshers
        self._namespace = core.options.namespace if namespace is None else namespace
        self._lease, self._grace = lease, seconds(grace)
        self.retry = retry
        milliseconds(retry)
        self._limit = Limit(concurrency)
        self._stopping = False
        self._resting: set[Signal] = set()
        self._idle = Signal()
        self._busy = 0
        self._askers: dict[Node, Signal] = {}
        self._failure: BaseException | None = None
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    # --- for its user --------------------------------------------------------------------------
    def stop(self) -> None:
        """Take no more keys; `run` returns when what has begun is done, or its grace is over. From any thread;
        once stopped, a worker stays so."""
        self._stopping = True
        with self._lock:
            resting = list(self._resting)
        for wake in resting:
            wake.set()

    @property
    def counts(self) -> dict[str, int]:
        """What became of the keys that it took: stored, refused, skipped, unknown, failed; dispatched where
        others compute."""
        with self._lock:
            return dict(self._counts)

    # --- how a key is computed -----------------------------------------------------------------
    def perform(self, due: Due) -> Op[str]:
        """Compute a key, and say what became of it. What it raises counts as failed, and is logged."""
        return fill(self._core, self.refreshers, due.full, due.token, self.retry)

    def dispatch(self, due: Due, send: Call) -> Op[str]:
        """`perform` for those whose keys a task queue computes: send the task, then wait until the key's lease has
        ended (filled, given up, or run out), or the worker is stopped: then its tasks are the queue's affair.
        CACHE.META is asked, at growing distances, for no queue tells when a task is done unless it keeps results.
        Where the queue does not take the task the lease is given up."""
        try:
            yield send
        except Exception:
            yield from give_up(self._core, due.full, due.token, milliseconds(self.retry))
            raise
        core, pause = self._core, 0.02
        deadline = core.clock() + due.lease
        while core.clock() < deadline and not self._stopping:
            yield from self._rest(pause)
            try:
                backend = yield from core.find_backend()
                meta = yield from backend.meta(due.full)
            except (Unavailable, ServerError) as error:
                core.observers.tell("degraded", due.full, error=error)
            else:
                if meta is None or not meta.lease_ms:
                    break
            pause = min(pause * 1.5, 0.5)
        return "dispatched"

    # --- the loop ------------------------------------------------------------------------------
    def main(self) -> Op[None]:
        """Until `stop`, or until the server refuses to be asked. ServerError, CacheFlowError `no_module`."""
        core, pause = self._core, FIRST_PAUSE
        try:
            while not self._stopping:
                try:
                    backend = yield from core.find_backend()
                    nodes = yield from core.router.nodes()
                    pause = FIRST_PAUSE
                except Unavailable as error:
                    log.warning("the refresh worker cannot reach Redis: %s", error)
                    yield from self._rest(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                if not backend.capabilities.module:
                    raise CacheFlowError("no_module", "the server has no CACHE.REFRESH: workers need the module")
                self._keep_to(nodes)
                for node in nodes:
                    if node not in self._askers:
                        asked = self._askers[node] = Signal()
                        if not (yield Spawn(self._ask(node, asked), lasting=True)):
                            return  # the client was closed
                yield from self._rest(RELEARN)
        finally:
            self.stop()
            yield from self._end()
        if self._failure is not None:
            raise self._failure

    def _rest(self, pause: float) -> Op[None]:
        """Pass so many seconds, or until the worker is stopped. (A signal of its own: one that lasts as long as
        the worker would keep every listener that did not wait for its end.)"""
        wake = Signal()
        with self._lock:
            self._resting.add(wake)
        try:
            if not self._stopping:
                yield Await(wake, pause)
        finally:
            with self._lock:
                self._resting.discard(wake)

    def _keep_to(self, nodes: list[Node]) -> None:
        """Those of nodes that are gone end; who is asked anew begins anew."""
        for node in [node for node, ended in self._askers.items() if node not in nodes or ended.happened]:
            del self._askers[node]

    def _end(self) -> Op[None]:
        """Wait for those who ask, and for what they began."""
        for ended in list(self._askers.values()):
            yield Await(ended, 2 * SLICE + self._core.timeout)
        with self._lock:
            if self._busy == 0:
                self._idle.set()
        if not (yield Await(self._idle, self._grace)):
            log.warning("the refresh worker stops while %d computations go on", self._busy)

    def _ask(self, node: Node, ended: Signal) -> Op[None]:
        count, pause = 1, FIRST_PAUSE
        try:
            while not self._stopping and self._askers.get(node) is ended:
                place = self._limit.enter()
                try:
                    while not place.happened and not self._stopping:
                        yield Await(place, SLICE)
                    found = [] if self._stopping else (yield from self._take(node, count))
                    ours = yield from self._known(found)
                except BaseException:
                    self._limit.leave(place)
                    raise
                if ours:
                    yield from self._begin_all(ours, place)
                else:
                    self._limit.leave(place)
                # The server offers the hottest first, again and again: past those that nobody here knows are ours.
                if len(ours) == len(found):
                    count, pause = 1, FIRST_PAUSE
                else:
                    count = min(count * 2, MOST_AT_ONCE)
                    if not ours:
                        yield from self._rest(pause)
                        pause = min(pause * 2, LONGEST_PAUSE)
        except Unavailable as error:
            log.warning("the refresh worker cannot ask %s: %s", node or "Redis", error)
            yield from self._rest(FIRST_PAUSE)  # main asks who is there, and begins anew
        except BaseException as error:
            self._failure = self._failure or error
            self.stop()
        finally:
            ended.set()

    def _take(self, node: Node, count: int) -> Op[list[Due]]:
        """The keys most worth computing, waited for; none where nothing is due for SLICE. Unavailable,
        ServerError."""
        words: list[Any] = ["CACHE.REFRESH"]
        if self._namespace:
            words += ("NAMESPACE", self._namespace)
        if count > 1:
            words += ("COUNT", count)
        if self._lease is not None:
            words += ("LEASE", milliseconds(self._lease))
        words += ("BLOCK", int(SLICE * 1000))
        try:
            (reply,) = yield Exchange(node, [tuple(words)], SLICE)
        except BROKEN as error:
            raise translate(error, None) from error
        if isinstance(reply, Exception):
            raise translate(reply, None) from reply
        found = []
        for name, token, ms in reply or ():
            full = name.decode("utf-8", "surrogateescape")
            found.append(Due(self._core.short(full), full, token, ms / 1000))
        return found

    def _known(self, found: list[Due]) -> Op[list[Due]]:
        """Those that have a refresher; the others, and all where the worker was stopped meanwhile, go back."""
        ours = []
        for due in found:
            known = due.full.startswith(self._core.prefix) and self.refreshers.find(due.key) is not None
            if known and not self._stopping:
                ours.append(due)
                continue
            yield from give_up(self._core, due.full, due.token, 0)
            if not known:
                self._count("unknown")
        return ours

    def _begin_all(self, ours: list[Due], place: Signal) -> Op[None]:
        """Begin as many as there are places, the first in `place`; the rest goes back."""
        for number, due in enumerate(ours):
            taken = self._limit.enter() if number else place
            if taken.happened:
                with self._lock:
                    self._busy += 1
                if (yield Spawn(self._compute(due, taken), lasting=True)):
                    continue
                self._done(taken)  # the client was closed
            else:
                self._limit.leave(taken)
            yield from give_up(self._core, due.full, due.token, 0)

    def _compute(self, due: Due, place: Signal) -> Op[None]:
        outcome = "failed"
        try:
            outcome = yield from self.perform(due)
        except Exception:
            log.exception("the refresh of %s failed", due.full)
        finally:
            self._count(outcome)
            self._done(place)

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._counts[outcome] += 1

    def _done(self, place: Signal) -> None:
        self._limit.leave(place)
        with self._lock:
            self._busy -= 1
            idle = self._busy == 0 and self._stopping
        if idle:
            self._idle.set()


class Worker(Loop):
    """A worker of threads, on a CacheFlow."""

    def __init__(self, cache: CacheFlow, refreshers: Refreshers, **options: Any) -> None:
        """Options: those of Loop."""
        super().__init__(cache.core, refreshers, **options)
        self._cache = cache
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Work until `stop`. ServerError (such as `noperm`), CacheFlowError `no_module`."""
        self._cache._run(self.main())

    def start(self) -> None:
        """Work in a thread of its own, until `stop`; `join` it."""
        self._thread = threading.Thread(target=self._run_logged, name="cacheflow-worker", daemon=True)
        self._thread.start()

    def _run_logged(self) -> None:
        try:
            self.run()
        except Exception:
            log.exception("the refresh worker ended")

    def join(self, timeout: float | None = None) -> bool:
        """Wait for a worker that was started; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    @contextmanager
    def stopped_by_signals(self) -> Generator[None, None, None]:
        """SIGTERM and SIGINT stop the worker while the block lasts. In the main thread only."""

        def handler(*_: Any) -> None:
            # Not here: the handler may have interrupted a holder of the lock that stop() takes.
            threading.Thread(target=self.stop, daemon=True).start()

        before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)


class AsyncWorker(Loop):
    """A worker of tasks, on an AsyncCacheFlow. Functions may be coroutine functions."""

    def __init__(self, cache: AsyncCacheFlow, refreshers: Refreshers, **options: Any) -> None:
        """Options: those of Loop."""
        super().__init__(cache.core, refreshers, **options)
        self._cache = cache

    async def run(self) -> None:
        """Work until `stop`, or until cancelled, which stops it in the same manner. ServerError (such as
        `noperm`), CacheFlowError `no_module`."""
        await self._cache._run(self.main())
