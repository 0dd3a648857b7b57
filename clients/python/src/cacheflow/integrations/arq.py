"""CACHE.REFRESH for arq: a loop takes the keys that are most worth recomputing, and jobs compute them.

    refreshes = ArqRefresh(cache, refresh, concurrency=8)

    class WorkerSettings:
        functions = [refreshes.job]
        on_startup = refreshes.startup
        on_shutdown = refreshes.shutdown

`cache` is an AsyncCacheFlow of the worker's event loop. However many workers there are, the server gives each key
to one loop, and arq each job to one worker. What a loop guarantees is in workers.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from arq.connections import ArqRedis
from arq.worker import Function, func

from ..aio import AsyncCacheFlow
from ..effects import Call, Op
from .refreshers import Refreshers, fill
from .workers import AsyncWorker, Due

log = logging.getLogger("cacheflow")

JOB = "cacheflow_refresh"


class ArqRefresh(AsyncWorker):
    """The loop, and the job that it enqueues. A key whose job has not begun when its lease has run out is dropped:
    give a `lease` where the queue is slow."""

    def __init__(
        self, cache: AsyncCacheFlow, refreshers: Refreshers, *, queue: str | None = None, **options: Any
    ) -> None:
        """`queue`: the name of the jobs' queue, the worker's own if none is named. Options: those of
        workers.Loop; `retry` is that of the process in which a job runs. ConfigError."""
        super().__init__(cache, refreshers, **options)
        self._queue = queue
        self._redis: ArqRedis | None = None
        self._task: asyncio.Task[None] | None = None
        #: The function for WorkerSettings.functions: not tried again by arq, for the server offers the key again.
        self.job: Function = func(cast(Any, self._refresh), name=JOB, keep_result=0, max_tries=1)

    async def _refresh(self, _: dict[Any, Any], full: str, token: int) -> str:
        return await self._cache._run(fill(self._cache.core, self.refreshers, full, token, self.retry))

    def perform(self, due: Due) -> Op[str]:
        """Enqueue the job, and wait for the lease to end."""
        assert self._redis is not None
        send = Call(
            self._redis.enqueue_job,
            JOB,
            due.full,
            due.token,
            _job_id=f"cacheflow:{due.full}:{due.token}",
            _queue_name=self._queue,
            _expires=due.lease,
        )
        return self.dispatch(due, send)

    async def startup(self, ctx: dict[Any, Any]) -> None:
        """For WorkerSettings.on_startup: begin the loop, on the worker's connection."""
        await self.begin(ctx["redis"])

    async def shutdown(self, _: dict[Any, Any]) -> None:
        """For WorkerSettings.on_shutdown: end the loop."""
        await self.end()

    async def begin(self, redis: ArqRedis) -> None:
        """Begin the loop in a task of its own, enqueueing through `redis`."""
        self._redis = redis
        self._task = asyncio.create_task(self.run())
        self._task.add_done_callback(_tell)

    async def end(self) -> None:
        """Stop the loop, and wait for its end."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the refresh worker ended", exc_info=task.exception())
