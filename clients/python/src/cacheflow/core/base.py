"""What all operations stand on: names, sending, and finding out what the server is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakSet

from .. import signals
from ..backends import Backend, Capabilities, ModuleBackend, PlainBackend
from ..breaker import Breakers, name_of
from ..effects import Batch, Command, Node, Op
from ..errors import ConfigError, ServerError
from ..events import Observers
from ..local import LocalCache
from ..options import Lifetime, Options
from ..signals import Flights, Limit
from ..transport.address import Address
from ..transport.routing import ClusterRouter, Router
from ..units import AutoTTL, Duration, milliseconds, seconds, size

_cores: WeakSet[Base] = WeakSet()


def _forked() -> None:
    signals.reset()
    for core in _cores:
        core.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Base:
    """State and sending."""

    def __init__(self, options: Options, address: Address) -> None:
        self.options = options
        self.cluster = cluster = address.cluster
        self.codec = options.codec
        self.prefix = f"{options.namespace}:" if options.namespace else ""
        self.clock = time.monotonic
        self.timeout = seconds(options.timeout)
        self._address = address
        self.default_wait = seconds(options.wait)
        self.retry_after = milliseconds(options.retry_after)
        self.observers = Observers(options.observers)
        self.closed = False
        Base.reset(self)
        _cores.add(self)
        self.backend: Backend | None = None
        if options.mode == "module":
            self.backend = ModuleBackend(self.send, cluster, self.timeout)
        elif options.mode == "plain":
            self.backend = PlainBackend(self.send, cluster, self.namespace_of)

    def reset(self) -> None:
        """What belongs to a process: new here, and in a forked child, whose parent's threads are not there to
        end what they had begun, or to give back the locks that they held."""
        options = self.options
        self.breakers = Breakers(
            options.breaker_failures, seconds(options.breaker_cooldown), self.clock, self._breaker_told
        )
        self.router = (
            ClusterRouter(self._address.nodes, self.timeout, self.clock, self.breakers)
            if self.cluster
            else Router(self.timeout, self.clock, self.breakers)
        )
        self.observers.reset()
        self.flights = Flights()
        self.refreshing: set[str] = set()
        #: Tokens that a SET or TOUCH of this client has ended: a lock's, when its holder publishes with it.
        self.spent: set[int] = set()
        self.local_loads = Limit(options.local_loads)
        local = options.local_options()
        self.local = (
            None if local is None else LocalCache(size(local.max_bytes), seconds(local.max_ttl), self.namespace_of)
        )

    # --- names and times -----------------------------------------------------------------------
    def full(self, key: str) -> str:
        """The key as the server sees it."""
        return self.prefix + key

    def short(self, full: str) -> str:
        """The key as callers name it."""
        return full[len(self.prefix) :]

    @staticmethod
    def namespace_of(full: str) -> str:
        """What stands before the first colon, a leading brace skipped: as the server has it."""
        name, colon, _ = full.partition(":")
        return name.removeprefix("{") if colon else ""

    def lifetime(self, ttl: Duration | AutoTTL | None, grace: Duration | None) -> Lifetime:
        """What is to be stored lives so long; the client's defaults where nothing is named."""
        return Lifetime(self.options.ttl if ttl is None else ttl, self.options.grace if grace is None else grace)

    # --- sending -------------------------------------------------------------------------------
    def send(self, command: Command | Batch) -> Op[Any]:
        """A command, if the node's breaker lets it. Unavailable, ServerError."""
        try:
            if isinstance(command, Command):
                return (yield from self.router.command(command))
            return (yield from self.router.batch(command))
        except ServerError as error:
            if error.code == "err" and "unknown command" in error.detail.lower():
                self._forget_backend()
            raise

    def _breaker_told(self, node: Node, what: str, error: Exception | None) -> None:
        self.observers.tell("breaker", name_of(node), detail=what, error=error)

    # --- what the server is --------------------------------------------------------------------
    def _forget_backend(self) -> None:
        """The server is not what it was: a failover to one without the module. It is asked again."""
        if self.options.mode == "auto":
            self.backend = None

    def find_backend(self) -> Op[Backend]:
        """The backend; the first time the server is asked what it has."""
        if self.backend is not None:
            return self.backend
        try:
            reply = yield from self.send(Command(("COMMAND", "INFO", "CACHE.FETCH"), None))
            module = bool(reply) and any(reply if isinstance(reply, list) else reply.values())
        except ServerError as error:
            if error.code != "noperm":
                raise
            module = True  # a user who may not ask is given what the module's users are
        backend: Backend = (
            ModuleBackend(self.send, self.cluster, self.timeout)
            if module
            else PlainBackend(self.send, self.cluster, self.namespace_of)
        )
        self.backend = backend
        return backend

    @property
    def capabilities(self) -> Capabilities | None:
        """What the server can do; None until it was reached."""
        return None if self.backend is None else self.backend.capabilities

    def connect(self) -> Op[Capabilities]:
        """Reach the server and see what it can do. Unavailable."""
        return (yield from self.find_backend()).capabilities

    def spend(self, token: int | None) -> None:
        """A write with this token ends what was granted, whether it was stored or refused."""
        if token is not None:
            if len(self.spent) >= 4096:  # of loaders that wrote by their context's token; nobody asks for them
                self.spent.clear()
            self.spent.add(token)

    # --- values --------------------------------------------------------------------------------
    def encode(self, full: str, value: object) -> bytes:
        """The bytes for a value. EncodeError."""
        return self.codec.encode(full, value)

    def drop_local(self, keys: Iterable[str]) -> None:
        """This process has changed these keys: it must not see the old values, whatever the channel's pace."""
        if self.local is not None:
            self.local.drop(keys)

    @staticmethod
    def check_targets(targets: Sequence[str]) -> tuple[str, ...]:
        """Tags or namespaces to invalidate; ConfigError where there are none."""
        if not targets:
            raise ConfigError("bad_option", "nothing to invalidate is named")
        return tuple(targets)
