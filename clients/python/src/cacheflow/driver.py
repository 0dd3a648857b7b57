"""Performs what operations yield: `ThreadDriver` by blocking, `AsyncDriver` by awaiting. The two differ in
nothing else, and are all that is written twice."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from .core import Core
from .effects import Await, Call, Exchange, Hear, Op, Open, Shut, Sleep, Spawn, Tell
from .options import Options
from .transport.address import Address
from .transport.aio import AsyncTransport
from .transport.threads import ThreadTransport
from .units import seconds

T = TypeVar("T")
log = logging.getLogger("cacheflow")


class ThreadDriver:
    """Runs operations in the caller's thread."""

    def __init__(self, core: Core, address: Address, options: Options) -> None:
        self._core = core
        self.transport = ThreadTransport(
            address, seconds(options.timeout), options.connections, options.waiting_connections
        )
        self._workers, self._queue = options.refresh_workers, options.refresh_queue
        self._closing = threading.Event()
        self._pid = os.getpid()
        self._pool: ThreadPoolExecutor | None = None
        self._room = threading.Semaphore(self._workers + self._queue)
        self._perform: dict[type, Callable[[Any], Any]] = {
            Exchange: self.transport.exchange,
            Call: lambda effect: effect.function(*effect.args, **effect.kwargs),
            Sleep: lambda effect: self._closing.wait(effect.seconds) and None,
            Await: self._await,
            Spawn: self._spawn,
            Open: self._open,
            Tell: lambda effect: effect.handle.send_command(*effect.args, check_health=False),
            Hear: self._hear,
            Shut: lambda effect: effect.handle.disconnect(),
        }

    def run(self, operation: Op[T]) -> T:
        """Its outcome; its error is raised."""
        perform = self._perform
        try:
            effect = next(operation)
            while True:
                try:
                    outcome = perform[type(effect)](effect)
                except BaseException as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(outcome)
        except StopIteration as end:
            value: T = end.value
            return value

    @staticmethod
    def _await(effect: Await) -> bool:
        event = threading.Event()
        effect.signal.listen(event.set)
        return event.wait(effect.seconds)

    def _open(self, effect: Open) -> Any:
        connection = self.transport.connection(effect.node)
        connection.connect()
        return connection

    @staticmethod
    def _hear(effect: Hear) -> tuple[Any] | None:
        if not effect.handle.can_read(timeout=effect.seconds):
            return None
        try:
            return (effect.handle.read_response(),)
        except ResponseError as error:
            return (error,)

    # --- in the background ---------------------------------------------------------------------
    def _spawn(self, effect: Spawn) -> bool:
        operation = effect.operation
        if self._closing.is_set():
            operation.close()
            return False
        run = contextvars.copy_context().run
        if effect.lasting:
            threading.Thread(target=run, args=(self._behind, operation), name="cacheflow", daemon=True).start()
            return True
        if self._pid != os.getpid():  # a forked child has the parent's pool, and none of its threads
            self._pid, self._pool = os.getpid(), None
            self._room = threading.Semaphore(self._workers + self._queue)
        room = self._room
        if not room.acquire(blocking=False):
            operation.close()
            return False
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="cacheflow-refresh")
        try:
            future = self._pool.submit(run, self._behind, operation)
        except RuntimeError:  # the interpreter is ending
            room.release()
            operation.close()
            return False
        future.add_done_callback(lambda _: room.release())
        return True

    def _behind(self, operation: Generator[Any, Any, Any]) -> None:
        try:
            self.run(operation)
        except Exception:
            log.exception("a background operation of cacheflow failed")

    def close(self, wait: float) -> None:
        """Refreshes under way have so many seconds to end; then nothing is sent any more."""
        self._core.closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            deadline = time.monotonic() + wait
            for thread in list(getattr(self._pool, "_threads", ())):
                thread.join(max(0.0, deadline - time.monotonic()))
        self._closing.set()
        self.transport.close()


def _settle(future: asyncio.Future[bool], happened: bool) -> None:
    if not future.done():
        future.set_result(happened)


def _happened(loop: asyncio.AbstractEventLoop, thread: int, future: asyncio.Future[bool]) -> None:
    if threading.get_ident() == thread:
        _settle(future, True)
    else:
        loop.call_soon_threadsafe(_settle, future, True)


class AsyncDriver:
    """Runs operations in the caller's task."""

    def __init__(self, core: Core, address: Address, options: Options) -> None:
        self._core = core
        self.transport = AsyncTransport(
            address, seconds(options.timeout), options.connections, options.waiting_connections
        )
        self._room = options.refresh_workers + options.refresh_queue
        self._workers = asyncio.Semaphore(options.refresh_workers)
        self._refreshes: set[asyncio.Task[None]] = set()
        self._lasting: set[asyncio.Task[None]] = set()
        self._closing = False
        self._perform: dict[type, Callable[[Any], Any]] = {
            Exchange: self.transport.exchange,
            Call: self._call,
            Sleep: lambda effect: asyncio.sleep(effect.seconds),
            Await: self._await,
            Spawn: self._spawn,
            Open: self._open,
            Tell: self.transport.tell,
            Hear: self._hear,
            Shut: lambda effect: effect.handle.disconnect(nowait=True),
        }

    async def run(self, operation: Op[T]) -> T:
        """Its outcome; its error is raised."""
        perform = self._perform
        try:
            effect = next(operation)
            while True:
                try:
                    outcome = await perform[type(effect)](effect)
                except BaseException as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(outcome)
        except StopIteration as end:
            value: T = end.value
            return value

    @staticmethod
    async def _call(effect: Call) -> Any:
        outcome = effect.function(*effect.args, **effect.kwargs)
        return await outcome if inspect.isawaitable(outcome) else outcome

    @staticmethod
    async def _await(effect: Await) -> bool:
        # By hand: wait_for makes a task of each waiter, and a flight may have hundreds.
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(effect.seconds, _settle, future, False)
        effect.signal.listen(functools.partial(_happened, loop, threading.get_ident(), future))
        try:
            return await future
        finally:
            timer.cancel()

    async def _open(self, effect: Open) -> Any:
        connection = self.transport.connection(effect.node)
        await connection.connect()
        return connection

    @staticmethod
    async def _hear(effect: Hear) -> tuple[Any] | None:
        try:
            # None at the end of the time: what is heard here is never nil.
            reply = await effect.handle.read_response(timeout=effect.seconds, disconnect_on_error=False)
        except RedisTimeout:
            return None
        except ResponseError as error:
            return (error,)
        return None if reply is None else (reply,)

    # --- in the background ---------------------------------------------------------------------
    async def _spawn(self, effect: Spawn) -> bool:
        if self._closing or (not effect.lasting and len(self._refreshes) >= self._room):
            effect.operation.close()
            return False
        tasks = self._lasting if effect.lasting else self._refreshes
        task = asyncio.ensure_future(self._behind(effect.operation, effect.lasting))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return True

    async def _behind(self, operation: Generator[Any, Any, Any], lasting: bool) -> None:
        try:
            if lasting:
                await self.run(operation)
            else:
                async with self._workers:
                    await self.run(operation)
        except Exception:
            log.exception("a background operation of cacheflow failed")

    async def close(self, wait: float) -> None:
        """Refreshes under way have so many seconds to end; then nothing is sent any more."""
        self._core.closed = self._closing = True
        if self._refreshes:
            await asyncio.wait(list(self._refreshes), timeout=wait)
        tasks = [*self._refreshes, *self._lasting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.transport.close()
