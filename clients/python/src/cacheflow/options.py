"""What a client is told at the start, checked and in the units the core counts in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .codecs import Codec, JsonCodec
from .errors import ConfigError
from .events import Observer
from .units import AutoTTL, Duration, milliseconds, seconds, size


@dataclass(frozen=True)
class LocalOptions:
    """The level in the process.

    max_bytes: how much it may take, 64 MiB if nobody says. max_ttl: for how long an entry is served without
    asking Redis, whatever its freshness. heartbeat: every so often the tracking connection is asked for a
    sign of life; one that is missing for as long again counts as lost.
    """

    max_bytes: int | str = "64mb"
    max_ttl: Duration = "60s"
    heartbeat: Duration = "1s"


@dataclass(frozen=True)
class Options:
    """The options of CacheFlow and AsyncCacheFlow. All durations are numbers of seconds, timedeltas, or text
    such as "250ms", "5m".

    namespace: what every key begins with, followed by ":". Tags are not prefixed: they are shared by all who
    use the server.
    ttl, grace: of what is stored without naming them; None leaves it to the namespace's settings on the server
    (no end, where there are none).
    codec: JsonCodec() unless named.
    local: the level in the process: None for none (the default), True, a number of bytes, "64mb", or
    LocalOptions.
    timeout: of every command and of connecting, each. wait: how long a caller waits for a value that somebody
    else computes, before it computes without storing.
    connections: of the filling lane; waiting_connections: of the waiting lane, which are few, for the callers
    of one process share them.
    breaker_failures, breaker_cooldown: see breaker.py.
    local_loads: loaders that run at once while Redis is not used.
    refresh_workers, refresh_queue: background refreshes at once, and waiting; past that the lease is given up.
    retry_after: how long nobody is to try a key whose loader raised, others than who called it; 0 for at once.
    mode: "auto" asks the server whether it has the module; "module" and "plain" insist.
    observers: see events.py.
    """

    namespace: str = ""
    ttl: Duration | AutoTTL | None = None
    grace: Duration | None = None
    codec: Codec = field(default_factory=JsonCodec)
    local: LocalOptions | bool | int | str | None = None
    timeout: Duration = 0.5
    wait: Duration = 10.0
    connections: int = 64
    waiting_connections: int = 16
    breaker_failures: int = 3
    breaker_cooldown: Duration = 1.0
    local_loads: int = 16
    refresh_workers: int = 4
    refresh_queue: int = 64
    retry_after: Duration = 0.0
    mode: str = "auto"
    observers: Sequence[Observer] = ()

    def __post_init__(self) -> None:
        counts = ("connections", "waiting_connections", "breaker_failures", "local_loads", "refresh_workers")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError("bad_option", f"{name} must be 1 or more")
        if self.mode not in ("auto", "module", "plain"):
            raise ConfigError("bad_option", f"mode {self.mode!r} is none of auto, module, plain")
        if ":" in self.namespace:
            # The server's namespace ends at the first colon: clear() would clear the wrong one.
            raise ConfigError("bad_option", "a namespace has no colon in it")
        for name in ("timeout", "wait", "breaker_cooldown", "retry_after"):
            seconds(getattr(self, name))

    def local_options(self) -> LocalOptions | None:
        """The level's options, None where there is to be none."""
        if self.local is None or self.local is False:
            return None
        if self.local is True:
            return LocalOptions()
        if isinstance(self.local, LocalOptions):
            return self.local
        return LocalOptions(max_bytes=size(self.local))


class Lifetime:
    """How long a value lives, in the words of CACHE.SET: milliseconds, or None for the server's defaults."""

    __slots__ = ("auto", "forever", "grace", "ttl")

    def __init__(self, ttl: Duration | AutoTTL | None, grace: Duration | None) -> None:
        self.ttl: int | None = None
        self.forever = False
        self.auto: tuple[int, int] | None = None
        self.grace = None if grace is None else milliseconds(grace)
        if isinstance(ttl, AutoTTL):
            self.auto = milliseconds(ttl.minimum), milliseconds(ttl.maximum)
        elif ttl is not None:
            self.forever = seconds(ttl) == float("inf")
            self.ttl = None if self.forever else milliseconds(ttl)

    @property
    def none(self) -> bool:
        """A time to live of 0: not to be stored."""
        return self.ttl == 0


@dataclass(frozen=True)
class Request:
    """What get_or_set was asked for, beside key and loader. (Tags that are a function: of the value, for
    get_or_set_many of key and value.)"""

    ttl: Duration | AutoTTL | None
    grace: Duration | None
    tags: Sequence[str] | Callable[..., Iterable[str]]
    negative_ttl: Duration | None
    max_stale: Duration | None
    lease: Duration | None
    wait: float
    beta: float | None


def tag_list(tags: Iterable[str] | str | None) -> tuple[str, ...]:
    """Tags as a tuple; one tag may be given as it is."""
    if tags is None:
        return ()
    return (tags,) if isinstance(tags, str) else tuple(tags)
