"""The circuit breaker: after failures in a row Redis is not asked for a while, then by one caller.

    closed ── failures in a row ──▶ open ── cool-down over, a caller asks ──▶ probing
      ▲                              ▲                                          │
      └────────── success ───────────┼──────────────────────────────────────────┤
                                     └───────────────── failure ────────────────┘

A state machine without a clock: the time is passed in, so that its tests are exact. A probe whose outcome is
never reported (its task was cancelled, its process forked) is given up after another cool-down, so that no
state lasts for ever. Failures in a row and not a share of recent calls: a cache that answers at all is
better asked, and when it is dead every call fails.

Each node of a cluster has one of its own (`Breakers`): a shard that is dead costs its keys no timeout a call, and
the keys of the others nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from enum import Enum

from .effects import Node
from .errors import Unavailable


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

    def due(self, now: float) -> bool:
        """Whether it is open, and the next call would be let in as a probe."""
        return not self.untroubled and self.state is not BreakerState.CLOSED and now >= self._until

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


class Breakers:
    """A breaker for each node, made when the node is first asked. `told(node, what, error)` is called when one
    has opened or closed."""

    def __init__(
        self,
        failures: int,
        cooldown: float,
        clock: Callable[[], float],
        told: Callable[[Node, str, Exception | None], None],
    ) -> None:
        self._failures, self._cooldown, self._clock, self._told = failures, cooldown, clock, told
        self._table: dict[Node, Breaker] = {}

    def _of(self, node: Node) -> Breaker:
        found = self._table.get(node)
        if found is None:
            found = self._table.setdefault(node, Breaker(self._failures, self._cooldown))
        return found

    def admit(self, node: Node, key: str | None = None) -> None:
        """Before a node is asked; who was let in reports by `answered` or `failed`. Unavailable `breaker_open`."""
        if not self._of(node).allow(self._clock()):
            where = "Redis" if node is None else f"the node {name_of(node)}"
            raise Unavailable("breaker_open", f"{where} did not answer a moment ago, and is not asked", key or "")

    def answered(self, node: Node) -> None:
        """It did, if only with an error."""
        breaker = self._of(node)
        if not breaker.untroubled and breaker.succeeded():
            self._told(node, "closed", None)

    def failed(self, node: Node, error: Unavailable) -> None:
        """It did not, or said that it cannot serve. That all connections to it are in use says that we are busy,
        not that it is dead."""
        if error.code != "pool_exhausted" and self._of(node).failed(self._clock()):
            self._told(node, "open", error)

    def untroubled(self, node: Node) -> bool:
        """Whether nothing is known against it."""
        found = self._table.get(node)
        return found is None or found.untroubled

    def due(self, node: Node) -> bool:
        """Whether it was not asked for a while, and may be again."""
        found = self._table.get(node)
        return found is not None and found.due(self._clock())

    def keep(self, nodes: Collection[Node]) -> None:
        """Forget all nodes but these."""
        for node in self._table.keys() - set(nodes):
            self._table.pop(node, None)

    @property
    def state(self) -> BreakerState:
        """The one server's; of a cluster the worst of its nodes'."""
        states = {breaker.state for breaker in list(self._table.values())}
        for worst in (BreakerState.OPEN, BreakerState.PROBING):
            if worst in states:
                return worst
        return BreakerState.CLOSED


def name_of(node: Node) -> str:
    """host:port; "" for the one server there is."""
    return "" if node is None else f"{node[0]}:{node[1]}"
