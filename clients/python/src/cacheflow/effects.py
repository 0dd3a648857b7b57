"""What the core asks of the world. Operations are generators that yield these; a driver performs each and
sends the outcome back, or throws the error in. So there is one core, for threads and for asyncio.

An operation may yield in its `except` and `finally` blocks, to give a lease up: drivers throw what befell the
caller (a cancellation, KeyboardInterrupt) into it and go on performing until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar, Union

from .signals import Signal

T = TypeVar("T")


class Command:
    """A command for Redis, as backends make it and routing.py sends it; the reply is as RESP2 has it, with
    bytes for strings.

    `key` routes it in a cluster (None: any node). `safe`: may be sent again when the connection broke.
    `block`: seconds for which the server may hold the reply; such a command has a connection of the waiting
    lane, so that who waits never takes one from who fills. `everywhere`: to every primary, the outcome is the
    list of replies.
    """

    __slots__ = ("args", "block", "everywhere", "key", "safe")

    def __init__(
        self,
        args: tuple[Any, ...],
        key: str | None,
        safe: bool = True,
        block: float = 0.0,
        everywhere: bool = False,
    ) -> None:
        self.args = args
        self.key = key
        self.safe = safe
        self.block = block
        self.everywhere = everywhere


class Batch:
    """Several commands in one round trip (in a cluster: one a node). The outcome is a list in their order; a
    command that was refused has its ServerError there, and in a cluster one whose node does not answer its
    Unavailable. Where none was answered, Unavailable is raised."""

    __slots__ = ("commands",)

    def __init__(self, commands: list[Command]) -> None:
        self.commands = commands


#: A node of a cluster; None is the one server there is (or the Sentinels' primary).
Node = Union[tuple[str, int], None]  # noqa: UP007 - evaluated at run time on 3.10


class Exchange:
    """Send these over one connection to a node, and read as many replies. The outcome is the list of replies,
    with redis-py's ResponseError where the server refused. What breaks the connection is thrown in as redis-py
    raises it, and the connection is gone. `block`: over one of the waiting lane, whose replies may be so much
    later than others."""

    __slots__ = ("block", "node", "requests")

    def __init__(self, node: Node, requests: list[tuple[Any, ...]], block: float = 0.0) -> None:
        self.node = node
        self.requests = requests
        self.block = block


class Call:
    """Call the application's function, and await what it returns if that is awaitable and the driver can. The
    outcome is what it returned."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs


class Sleep:
    """Pass so many seconds."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Await:
    """Wait for a signal, so many seconds at the most. The outcome is whether it happened."""

    __slots__ = ("seconds", "signal")

    def __init__(self, signal: Signal, seconds: float) -> None:
        self.signal = signal
        self.seconds = seconds


class Spawn:
    """Run an operation in the background, in a bounded pool. The outcome is whether there was room; where
    there was none the operation was closed without having begun. `lasting`: outside of the pool, for what
    goes on until it succeeds or the client is closed."""

    __slots__ = ("lasting", "operation")

    def __init__(self, operation: Generator[Any, Any, Any], lasting: bool = False) -> None:
        self.operation = operation
        self.lasting = lasting


class Open:
    """Connect to a node by a connection outside of the lanes. The outcome is its handle; `Shut` it."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node


class Tell:
    """Send a command over such a connection, and read nothing."""

    __slots__ = ("args", "handle")

    def __init__(self, handle: Any, *args: Any) -> None:
        self.handle = handle
        self.args = args


class Hear:
    """Read what comes over it: the outcome is a one-tuple of that, or None where nothing came for so many
    seconds."""

    __slots__ = ("handle", "seconds")

    def __init__(self, handle: Any, seconds: float) -> None:
        self.handle = handle
        self.seconds = seconds


class Shut:
    """Close it."""

    __slots__ = ("handle",)

    def __init__(self, handle: Any) -> None:
        self.handle = handle


Effect = Union[Exchange, Call, Sleep, Await, Spawn, Open, Tell, Hear, Shut]  # noqa: UP007 - run time on 3.10

#: An operation of the core that ends with a T.
Op = Generator[Effect, Any, T]
