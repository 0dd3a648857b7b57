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
from ..effects import Await, Exchange, Node, Op, Spawn
from ..errors import CacheFlowError, ConfigError, ServerError, Unavailable
from ..signals import Limit, Signal
from ..transport.replies import BROKEN, translate
from ..units import Duration, milliseconds, seconds
from .refreshers import Refreshers, fill, give_up

log = logging.getLogger("cacheflow")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, while Redis does not answer or offers what is not ours
RELEARN = 2.0  # seconds between two looks at a cluster's primaries
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

    def until_ended(self, due: Due) -> Op[str]:
        """For those whose keys a task queue computes: until the key's lease has ended (filled, given up, or run
        out), or the worker is stopped: then its tasks are the queue's affair. CACHE.META is asked, at growing
        distances, for no queue tells when a task is done unless it keeps results."""
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
        pause = FIRST_PAUSE
        try:
            while not self._stopping and self._askers.get(node) is ended:
                place = self._limit.enter()
                try:
                    while not place.happened and not self._stopping:
                        yield Await(place, SLICE)
                    due = None if self._stopping else (yield from self._take(node))
                    ours = due is not None and (yield from self._begin(due, place))
                except BaseException:
                    self._limit.leave(place)
                    raise
                if ours:
                    pause = FIRST_PAUSE
                    continue
                self._limit.leave(place)
                if due is not None:  # not ours: what is offered again and again must not keep us busy
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

    def _take(self, node: Node) -> Op[Due | None]:
        """The key most worth computing, waited for; None where nothing is due for SLICE. Unavailable,
        ServerError."""
        words: list[Any] = ["CACHE.REFRESH"]
        if self._namespace:
            words += ("NAMESPACE", self._namespace)
        if self._lease is not None:
            words += ("LEASE", milliseconds(self._lease))
        words += ("BLOCK", int(SLICE * 1000))
        try:
            (reply,) = yield Exchange(node, [tuple(words)], SLICE)
        except BROKEN as error:
            raise translate(error, None) from error
        if isinstance(reply, Exception):
            raise translate(reply, None) from reply
        if not reply:
            return None
        name, token, ms = reply[0]
        full = name.decode("utf-8", "surrogateescape")
        return Due(self._core.short(full), full, token, ms / 1000)

    def _begin(self, due: Due, place: Signal) -> Op[bool]:
        """Whether the key has begun to be computed, and with it has taken the place."""
        core = self._core
        if self._stopping or not due.full.startswith(core.prefix) or self.refreshers.find(due.key) is None:
            yield from give_up(core, due.full, due.token, 0)
            if not self._stopping:
                self._count("unknown")
            return False
        with self._lock:
            self._busy += 1
        if (yield Spawn(self._compute(due, place), lasting=True)):
            return True
        self._done(None)
        yield from give_up(core, due.full, due.token, 0)
        return False

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

    def _done(self, place: Signal | None) -> None:
        if place is not None:
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
