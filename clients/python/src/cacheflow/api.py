"""What the two clients have in common: how they are made, and how arguments become what the core takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .backends import Capabilities
from .codecs import Codec, JsonCodec
from .core import Core
from .events import Observer
from .options import LocalOptions, Options, Request, tag_list
from .transport.address import parse
from .units import AutoTTL, Duration, seconds

Tags = Iterable[str] | str
#: Tags, or what makes them of the loaded value.
LoadedTags = Tags | Callable[[Any], Iterable[str]]
#: The same for many: of key and value.
ManyTags = Tags | Callable[[str, Any], Iterable[str]]


class Client:
    """Options, and what needs no server."""

    def __init__(
        self,
        where: Any = None,
        *,
        namespace: str = "",
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        codec: Codec | None = None,
        local: LocalOptions | bool | int | str | None = None,
        timeout: Duration = 0.5,
        wait: Duration = 10.0,
        connections: int = 64,
        waiting_connections: int = 16,
        breaker_failures: int = 3,
        breaker_cooldown: Duration = 1.0,
        local_loads: int = 16,
        refresh_workers: int = 4,
        refresh_queue: int = 64,
        retry_after: Duration = 0.0,
        mode: str = "auto",
        observers: Sequence[Observer] = (),
        **connection: Any,
    ) -> None:
        """`where`: a URL (transport/address.py lists the schemes), a redis-py client whose connections to copy,
        or None for CACHEFLOW_URL, else redis://localhost:6379. The options are described at
        `cacheflow.options.Options`; all others are redis-py's for connections (`username`, `ssl_ca_certs`, …).
        Nothing is connected yet. ConfigError."""
        self._address = parse(where or os.environ.get("CACHEFLOW_URL", "redis://localhost:6379"), connection)
        self.options = Options(
            namespace=namespace,
            ttl=ttl,
            grace=grace,
            codec=JsonCodec() if codec is None else codec,
            local=local,
            timeout=timeout,
            wait=wait,
            connections=connections,
            waiting_connections=waiting_connections,
            breaker_failures=breaker_failures,
            breaker_cooldown=breaker_cooldown,
            local_loads=local_loads,
            refresh_workers=refresh_workers,
            refresh_queue=refresh_queue,
            retry_after=retry_after,
            mode=mode,
            observers=tuple(observers),
        )
        self.core = Core(self.options, self._address)
        self._prefix = self.core.prefix
        self._open()

    def _open(self) -> None:
        """Make what performs the core's operations."""
        raise NotImplementedError

    @property
    def namespace(self) -> str:
        """What every key begins with, without the colon; "" for none."""
        return self.options.namespace

    @property
    def capabilities(self) -> Capabilities | None:
        """What the server can do, and with what limits; None until it was reached (see connect)."""
        return self.core.capabilities

    @property
    def breaker_state(self) -> str:
        """closed, open or probing; of a cluster the worst of its nodes'."""
        return self.core.breakers.state.value

    @property
    def queued_invalidations(self) -> int:
        """Failed invalidations that are still sent again (see invalidate)."""
        return len(self.core.queue)

    def full_key(self, key: str) -> str:
        """The key as the server has it: with the namespace before it."""
        return self._prefix + key

    def client_stats(self) -> dict[str, int]:
        """This client's own counters; asks no server."""
        return self.core.client_stats()

    def _request(
        self,
        ttl: Duration | AutoTTL | None,
        grace: Duration | None,
        tags: LoadedTags | ManyTags,
        negative_ttl: Duration | None,
        max_stale: Duration | None,
        lease: Duration | None,
        wait: Duration | None,
        beta: float | None,
    ) -> Request:
        return Request(
            ttl,
            grace,
            tags if callable(tags) else tag_list(tags),
            negative_ttl,
            max_stale,
            lease,
            self.core.default_wait if wait is None else seconds(wait),
            beta,
        )

    def _full_keys(self, keys: Iterable[str]) -> list[str]:
        return [self._prefix + key for key in keys]
