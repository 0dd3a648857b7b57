"""The circuit breaker: after failures in a row Redis is not asked for a while, then by one caller.

    closed ── failures in a row ──▶ open ── cool-down over, a caller asks ──▶ probing
      ▲                              ▲                                          │
      └────────── success ───────────┼──────────────────────────────────────────┤
                                     └───────────────── failure ────────────────┘

A state machine without a clock: the time is passed in, so that its tests are exact. A probe whose outcome is
never reported (its task was cancelled, its process forked) is given up after another cool-down, so that no
state lasts for ever. Failures in a row and not a share of recent calls: a cache that answers at all is
better asked, and when it is dead every call fails.
"""

from __future__ import annotations

import threading
from enum import Enum


class BreakerState(str, Enum):
    """The states; the values are what events and metrics show."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Safe to use from threads. `failures` in a row open it for `cooldown` seconds."""

    def __init__(self, failures: int, cooldown: float) -> None:
        self._limit, self._cooldown = failures, cooldown
        self._lock = threading.Lock()
        self._row = 0
        self._until = 0.0
        self.state = BreakerState.CLOSED

    @property
    def untroubled(self) -> bool:
        """Closed, and the last call succeeded: nothing to tell it of another success."""
        return self._row == 0

    def allow(self, now: float) -> bool:
        """Whether to ask Redis now. One that is allowed must report by `succeeded` or `failed`."""
        if self.untroubled:
            return True
        with self._lock:
            if self.state is BreakerState.CLOSED:
                return True
            if now < self._until:
                return False
            self.state, self._until = BreakerState.PROBING, now + self._cooldown
            return True

    def succeeded(self) -> bool:
        """Redis answered, if only with an error. Returns whether this closed the breaker."""
        with self._lock:
            closed = self.state is not BreakerState.CLOSED
            self.state, self._row = BreakerState.CLOSED, 0
            return closed

    def failed(self, now: float) -> bool:
        """Redis did not answer. Returns whether this opened the breaker."""
        with self._lock:
            self._row += 1
            if self.state is BreakerState.OPEN:
                return False  # a call that had begun before
            if self.state is BreakerState.CLOSED and self._row < self._limit:
                return False
            opened = self.state is BreakerState.CLOSED
            self.state, self._until = BreakerState.OPEN, now + self._cooldown
            return opened
