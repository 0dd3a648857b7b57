"""What happens, for whoever wants to know: one method to implement, one kind of event.

An observer is called in the thread or task in which it happened, right after it, so that a tracer finds the
caller's context; spans can be drawn backwards from `seconds`. It must be quick. What it raises is logged and
goes no further: telemetry never breaks a cache.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger("cacheflow")


@dataclass(frozen=True)
class Event:
    """Something that happened.

    name      seconds                   key                what
    --------  ------------------------  -----------------  -------------------------------------------------
    l1_hit    (none, for it is 0)       the full key       answered by the level in the process
    l1_stale  -                         the full key       the same with a stale value, for Redis is down
    hit       asking took               the full key       fresh, from Redis
    stale     asking took               the full key       stale, from Redis
    miss      asking took               the full key       nothing there; a load follows
    wait      waiting took              the full key       somebody else computed it
    load      the loader took           the full key       `error` if it raised
    refresh   it all took               the full key       a load in the background; `error` if it failed
    fill      storing took              the full key       `detail`: stored, touched, refused, skipped, failed
    degraded  -                         the full key       Redis is not used for this call; `error`: why
    decode    -                         the full key       a value that cannot be read; `error`
    write     -                         the full key       set, touch, delete, incr; `detail` says which
    invalidate  it took                 tag or namespace   `detail` hard or soft; `error` if it failed
    lock      waiting took              the lock's name    `detail`: taken, refused, released, lost
    breaker   -                         "", or host:port   `detail`: open, closed; in a cluster the node's
    tracking  -                         ""                 the L1's connection; `detail`: up, down

    Of many keys at once each has its own: a load of ten is told ten times, with the time that it took together.
    """

    name: str
    key: str = ""
    seconds: float = 0.0
    detail: str = ""
    error: BaseException | None = None


class Observer(Protocol):
    """What to implement for metrics and traces."""

    def on_event(self, event: Event) -> None:
        """Called for every event. Must not block."""
        ...


class Observers:
    """Counts events by name and detail, and passes them on."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)
        #: Whether anybody wants events one by one.
        self.listening = bool(self._observers)
        self.reset()

    def reset(self) -> None:
        """Count from 0."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.l1_hits = 0  # apart, for it is counted without the lock: an L1 hit takes a microsecond or two

    def tell(
        self,
        name: str,
        key: str = "",
        seconds: float = 0.0,
        detail: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Count it, and tell every observer."""
        with self._lock:
            self._counts[f"{name}_{detail}" if detail else name] += 1
            if error is not None:
                self._counts[f"{name}_errors"] += 1
        if self.listening:
            event = Event(name, key, seconds, detail, error)
            for observer in self._observers:
                try:
                    observer.on_event(event)
                except Exception:
                    log.exception("an observer of cacheflow failed at %s", name)

    def counts(self) -> dict[str, int]:
        """How often each happened, `name` or `name_detail`; `name_errors` for those with an error."""
        with self._lock:
            counts = dict(self._counts)
        counts["l1_hit"] = self.l1_hits
        return counts
