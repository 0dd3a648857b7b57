"""What keeps the level in the process right: one connection to each primary, on which the server says what has
changed.

Each is a RESP2 connection that redirects its own CLIENT TRACKING to itself: BCAST, for the keys of this
client's namespace, so that the connections that fetch need no state of their own; and a subscription to
`cache:*`, where invalidations of tags and namespaces are said before they are acknowledged. Every write in the
namespace is heard by every process with a level, which is what BCAST costs. (The default mode hears of keys that
were read alone, and must be switched on for every connection of every pool, and again after each loss.)

A sign of life is asked for when nothing was heard for a heartbeat; without one for as long again the connection
is lost. As long as any primary's is, nothing in the level counts as fresh.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError, ResponseError

from ..effects import Hear, Node, Op, Open, Shut, Sleep, Spawn, Tell
from ..errors import CacheFlowError
from ..transport.replies import BROKEN, translate
from ..units import seconds
from .base import Base

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries to connect
LOOK = 5.0  # seconds between two looks at who the primaries are
_CHANGED = b"__redis__:invalidate"


class Tracking(Base):
    """Operations that listen."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._wanted: set[Node] = set()
        self._up: set[Node] = set()
        self._tracking = False

    def reset(self) -> None:
        """In a forked child: nobody listens here yet."""
        super().reset()
        self._wanted, self._up, self._tracking = set(), set(), False

    def track(self) -> Op[None]:
        """Begin to listen, if there is a level and nobody does."""
        if self.local is None or self._tracking or self.closed:
            return
        self._tracking = True
        self._tracking = bool((yield Spawn(self._supervise(), lasting=True)))

    def _supervise(self) -> Op[None]:
        """Listen to every primary there is, also to those that come."""
        try:
            while not self.closed:
                try:
                    nodes = set((yield from self.router.nodes()))
                except CacheFlowError:
                    nodes = self._wanted  # it is the followers that tell what is down
                for node in nodes - self._wanted:
                    self._wanted.add(node)
                    self._changed()
                    yield Spawn(self._follow(node), lasting=True)
                self._wanted &= nodes  # a follower of another ends by itself
                self._changed()
                if self._wanted and not self.cluster:
                    return
                yield Sleep(LOOK if self._wanted else LONGEST_PAUSE)
        finally:
            if self.closed:
                self._tracking = False

    def _changed(self, error: Exception | None = None) -> None:
        local = self.local
        assert local is not None
        live = bool(self._wanted) and self._wanted <= self._up
        if live and not local.live:
            local.connected()
            self.observers.tell("tracking", detail="up")
        elif local.live and not live:
            local.lost()
            self.observers.tell("tracking", detail="down", error=error)

    def _follow(self, node: Node) -> Op[None]:
        """Listen to one primary, again and again, as long as it is one."""
        pause = FIRST_PAUSE
        try:
            while node in self._wanted and not self.closed:
                failure: Exception | None = None
                handle = None
                try:
                    handle = yield Open(node)
                    yield from self._listen(handle, node)
                except (*BROKEN, RedisError) as error:
                    failure = translate(error, None)
                finally:
                    if node in self._up:
                        pause = FIRST_PAUSE
                        self._up.discard(node)
                        self._changed(failure)
                    if handle is not None:
                        yield Shut(handle)
                if node in self._wanted and not self.closed:
                    yield Sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._wanted.discard(node)

    def _said(self, handle: Any, *args: Any) -> Op[Any]:
        yield Tell(handle, *args)
        heard = yield Hear(handle, self.timeout)
        if heard is None:
            raise TimeoutError("no answer on the tracking connection")
        if isinstance(heard[0], ResponseError):
            raise heard[0]
        return heard[0]

    def _listen(self, handle: Any, node: Node) -> Op[None]:
        me = yield from self._said(handle, "CLIENT", "ID")
        words: tuple[Any, ...] = ("CLIENT", "TRACKING", "ON", "REDIRECT", me, "BCAST")
        if self.prefix:
            words += ("PREFIX", self.prefix)
        yield from self._said(handle, *words)
        yield from self._said(handle, "SUBSCRIBE", _CHANGED)
        yield from self._said(handle, "PSUBSCRIBE", "cache:*")
        options = self.options.local_options()
        assert options is not None
        heartbeat, asked = seconds(options.heartbeat), False
        self._up.add(node)
        self._changed()
        while node in self._wanted and not self.closed:
            heard = yield Hear(handle, heartbeat)
            if heard is not None:
                asked = False
                self._hear(heard[0])
            elif asked:
                raise TimeoutError(f"no sign of life on the tracking connection for {heartbeat:g} s")
            else:
                asked = True
                yield Tell(handle, "PING")

    def _hear(self, message: Any) -> None:
        local = self.local
        assert local is not None
        if isinstance(message, Exception):
            raise message
        kind = message[0]
        if kind == b"message" and message[1] == _CHANGED:
            if message[2] is None:
                local.flush()
            else:
                local.drop([key.decode("utf-8", "surrogateescape") for key in message[2]])
        elif kind == b"pmessage":
            target = message[2].removeprefix(b"cache:").decode("utf-8", "surrogateescape")
            local.invalidate(target, soft=message[3] == b"soft")
