"""The same exchanges for asyncio. A client is of one event loop, as redis-py's connections are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
from redis.asyncio.retry import Retry
from redis.exceptions import ReadOnlyError, ResponseError

from ..effects import Exchange, Node, Tell
from ..errors import Unavailable
from .address import Address, open_pool

#: What asyncio takes without waiting, and redis-py therefore needs no timeout for: with one it uses wait_for, which
#: costs a task, and before Python 3.12 loses a cancellation that comes when it is about to end.
_BUFFER = 64 << 10


def check(connection: Any) -> None:
    """Raise redis-py's ConnectionError where a connection is known to be lost, before something is sent. asyncio
    of 3.12 and 3.13 answers writelines on a lost transport with AttributeError, and redis-py, which asks only
    whether it has had one, lets that through."""
    writer = connection._writer
    if writer is None or writer.transport.is_closing():
        raise redis.ConnectionError("the connection was lost")


class AsyncLane:
    """So many connections at most, made when they are needed."""

    def __init__(self, make: Callable[[], Any], most: int, timeout: float) -> None:
        self._make, self._most, self._timeout = make, most, timeout
        self._idle: list[Any] = []
        self._slots = asyncio.Semaphore(most)

    async def take(self) -> Any:
        """A connection that is connected; `give` or `drop` it. Unavailable."""
        if self._slots.locked():
            try:
                await asyncio.wait_for(self._slots.acquire(), self._timeout)
            except asyncio.TimeoutError:
                raise Unavailable(
                    "pool_exhausted", f"{self._most} connections in use for {self._timeout:g} s"
                ) from None
        else:
            await self._slots.acquire()
        if self._idle:
            return self._idle.pop()
        try:
            connection = self._make()
            await connection.connect()
        except BaseException:
            self._slots.release()
            raise
        return connection

    def give(self, connection: Any) -> None:
        """It has answered all that it was asked."""
        self._idle.append(connection)
        self._slots.release()

    async def drop(self, connection: Any, broken: bool) -> None:
        """It has not. Where it broke, those that were idle meanwhile are no better."""
        self._slots.release()
        await connection.disconnect(nowait=True)
        if broken:
            await self.close()

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


class AsyncTransport:
    """The lanes of every node."""

    def __init__(self, address: Address, timeout: float, filling: int, waiting: int) -> None:
        self._address, self._timeout, self._sizes = address, timeout, (filling, waiting)
        self._lanes: dict[Node, tuple[AsyncLane, AsyncLane]] = {}
        self._pools: dict[Node, Any] = {}  # kept, for a Sentinel's connections refer to their pool weakly

    def connection(self, node: Node) -> Any:
        """A connection of its own to a node, not yet connected."""
        return self._pool(node).make_connection()

    def _pool(self, node: Node) -> Any:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = open_pool(self._address, node, self._timeout, redis.asyncio, Retry)
        return pool

    def _open(self, node: Node) -> tuple[AsyncLane, AsyncLane]:
        make = self._pool(node).make_connection
        filling, waiting = self._sizes
        lanes = AsyncLane(make, filling, self._timeout), AsyncLane(make, waiting, self._timeout)
        self._lanes[node] = lanes
        return lanes

    async def exchange(self, exchange: Exchange) -> list[Any]:
        """See effects.Exchange."""
        lane = (self._lanes.get(exchange.node) or self._open(exchange.node))[1 if exchange.block else 0]
        connection = await lane.take()
        requests = exchange.requests
        try:
            check(connection)
            packed = (
                connection.pack_command(*requests[0]) if len(requests) == 1 else connection.pack_commands(requests)
            )
            connection.socket_timeout = None if sum(map(len, packed)) < _BUFFER else self._timeout
            await connection.send_packed_command(packed, check_health=False)
            replies: list[Any] = []
            # Not read_response's own timeout, at whose end it returns None, as it does for nil.
            connection.socket_timeout = exchange.block + self._timeout
            for _ in requests:
                try:
                    replies.append(await connection.read_response(disconnect_on_error=True))
                except ResponseError as error:
                    replies.append(error)
        except BaseException as error:
            await lane.drop(connection, isinstance(error, redis.ConnectionError))
            raise
        if isinstance(replies[-1], ReadOnlyError):
            await lane.drop(connection, True)
        else:
            lane.give(connection)
        return replies

    async def tell(self, effect: Tell) -> None:
        """See effects.Tell."""
        check(effect.handle)
        await effect.handle.send_command(*effect.args, check_health=False)

    async def close(self) -> None:
        """Close what is idle."""
        for lanes in self._lanes.values():
            for lane in lanes:
                await lane.close()
