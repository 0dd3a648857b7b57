"""Exchanges by blocking sockets, for threads.

A lane is a stack of connections: the one used last is used next. What a connection is asked is read to its end,
or the connection is dropped: no reply can be taken for another's. A process that is forked begins with empty
lanes, for the parent's sockets are the parent's.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import redis
import redis.sentinel
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from ..effects import Exchange, Node
from ..errors import Unavailable
from .address import Address, open_pool


class Lane:
    """So many connections at most, made when they are needed."""

    def __init__(self, make: Callable[[], Any], most: int, timeout: float) -> None:
        self._make, self._most, self._timeout = make, most, timeout
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Any] = []
        # A tenth of what a Semaphore costs, which is written in Python.
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(self._most):
            self._slots.put(None)

    def take(self) -> Any:
        """A connection that is connected; `give` or `drop` it. Unavailable."""
        if self._pid != os.getpid():
            self._begin()
        slots = self._slots
        try:
            slots.get(timeout=self._timeout)
        except queue.Empty:
            message = f"{self._most} connections in use for {self._timeout:g} s"
            raise Unavailable("pool_exhausted", message) from None
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            connection = self._make()
            connection.connect()
        except BaseException:
            slots.put(None)
            raise
        return connection

    def give(self, connection: Any) -> None:
        """It has answered all that it was asked."""
        self._idle.append(connection)
        self._slots.put(None)

    def drop(self, connection: Any, broken: bool) -> None:
        """It has not. Where it broke, those that were idle meanwhile are no better. (A reply that is late says
        nothing of them, and closing one gives up the leases that were taken over it.)"""
        try:
            connection.disconnect()
            if broken:
                self.close()
        finally:
            self._slots.put(None)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return
            connection.disconnect()


class ThreadTransport:
    """The lanes of every node."""

    def __init__(self, address: Address, timeout: float, filling: int, waiting: int) -> None:
        self._address, self._timeout, self._sizes = address, timeout, (filling, waiting)
        self._lanes: dict[Node, tuple[Lane, Lane]] = {}
        self._pools: dict[Node, Any] = {}  # kept, for a Sentinel's connections refer to their pool weakly
        self._lock = threading.Lock()

    def connection(self, node: Node) -> Any:
        """A connection of its own to a node, not yet connected."""
        with self._lock:
            return self._pool(node).make_connection()

    def _pool(self, node: Node) -> Any:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = open_pool(self._address, node, self._timeout, redis, Retry)
        return pool

    def _open(self, node: Node) -> tuple[Lane, Lane]:
        with self._lock:
            lanes = self._lanes.get(node)
            if lanes is None:
                make = self._pool(node).make_connection
                filling, waiting = self._sizes
                lanes = Lane(make, filling, self._timeout), Lane(make, waiting, self._timeout)
                self._lanes[node] = lanes
        return lanes

    def exchange(self, exchange: Exchange) -> list[Any]:
        """See effects.Exchange."""
        lane = (self._lanes.get(exchange.node) or self._open(exchange.node))[1 if exchange.block else 0]
        connection = lane.take()
        requests = exchange.requests
        try:
            if len(requests) == 1:
                connection.send_command(*requests[0], check_health=False)
            else:
                connection.send_packed_command(connection.pack_commands(requests), check_health=False)
            replies: list[Any] = []
            if exchange.block and not connection.can_read(timeout=exchange.block + self._timeout):
                raise RedisTimeout("the server did not answer a command that waits")
            for _ in requests:
                try:
                    replies.append(connection.read_response(disconnect_on_error=True))
                except ResponseError as error:
                    replies.append(error)
        except BaseException as error:
            lane.drop(connection, isinstance(error, redis.ConnectionError))
            raise
        if isinstance(replies[-1], ReadOnlyError):
            lane.drop(connection, True)  # a primary that was demoted: a new connection finds the new one
        else:
            lane.give(connection)
        return replies

    def close(self) -> None:
        """Close what is idle."""
        for lanes in self._lanes.values():
            for lane in lanes:
                lane.close()
