"""Waiting without threads or tasks: what the core waits for, and the drivers are told of.

`Signal` happens once. `Flights` lets the callers of one process share the work on a key, `Limit` lets so many
in at a time, first come first served. None of them blocks: drivers listen, and block or await as they do.

A caller takes an answer only from work that began after it asked. So a flight counts its steps (each command
sent, each load begun), a caller notes the count when it joins, and an answer says at which step it was true.
That is what makes sharing safe: a thread that has just invalidated a tag, and then asks, never gets what a
FETCH on its way since before brings. At most one more round goes out for all who came too late.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()  # of all signals: held for a few instructions


def reset() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


class Signal:
    """Something that happens once."""

    __slots__ = ("_listeners", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._listeners: list[Callable[[], None]] | None = None

    def set(self) -> None:
        """It happens: listeners are called, here and now. Once is enough."""
        with _lock:
            self.happened, listeners, self._listeners = True, self._listeners, None
        for listener in listeners or ():
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when it happens, or now if it has."""
        with _lock:
            if not self.happened:
                if self._listeners is None:
                    self._listeners = []
                self._listeners.append(listener)
                return
        listener()


class Flight(Signal):
    """The work on a key that one caller does and others may share. Lands once, by one of `land` and `fail`."""

    __slots__ = ("error", "read", "step", "true_at")

    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.true_at = -1
        self.error: BaseException | None = None
        self.read: Callable[[], Any] | None = None

    def land(self, read: Callable[[], Any], true_at: int) -> None:
        """The answer: `read` gives each who shares it a value of its own."""
        self.read, self.true_at = read, true_at
        self.set()

    def fail(self, error: BaseException | None, true_at: int) -> None:
        """The loader raised; None if the caller who worked went away: the others start anew."""
        self.error, self.true_at = error, true_at if error is not None else -1
        self.set()

    def answers(self, joined_at: int) -> bool:
        """Whether it landed with what is true for one who joined at that step."""
        return self.happened and self.true_at > joined_at


class Flights:
    """The flights under way, by key."""

    def __init__(self) -> None:
        self._table: dict[str, Flight] = {}

    def enter(self, key: str) -> tuple[Flight, bool]:
        """The flight on a key, and whether it is the caller's to do the work (and to end it by `leave`)."""
        mine = Flight()
        flight = self._table.setdefault(key, mine)  # atomic
        return flight, flight is mine

    def leave(self, key: str, flight: Flight) -> None:
        """The work is over: who comes now starts anew. Before `land` and `fail`."""
        if self._table.get(key) is flight:
            del self._table[key]

    def __len__(self) -> int:
        return len(self._table)


class Limit:
    """So many at a time."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._queue: deque[Signal] = deque()
        self._lock = threading.Lock()

    def enter(self) -> Signal:
        """A place, which is the caller's when the signal happens. Give it back by `leave`, taken or not."""
        place = Signal()
        with self._lock:
            if self._free:
                self._free -= 1
                place.happened = True
            else:
                self._queue.append(place)
        return place

    def leave(self, place: Signal) -> None:
        """Give the place back, or stop waiting for it."""
        with self._lock:
            if not place.happened and place in self._queue:
                self._queue.remove(place)
                return
            following = self._queue.popleft() if self._queue else None
            if following is None:
                self._free += 1
        if following is not None:
            following.set()
