"""CACHE.REFRESH for Celery: a loop takes the keys that are most worth recomputing, and tasks compute them.

    app = Celery("shop", broker="redis://…")
    refreshes = CeleryRefresh(app, cache, refresh, concurrency=8)

    refreshes.run()               # the loop, in a process of its own
    refreshes.run_with_workers()  # or beside every worker of `celery worker`

The module that makes it is imported by the workers too, which have the task `cacheflow.refresh` by that. However
many loops there are, the server gives each key to one. What a loop guarantees is in workers.py.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from ..client import CacheFlow
from ..effects import Call, Op
from ..errors import ConfigError
from .refreshers import Refreshers, fill
from .workers import Due, Worker

TASK = "cacheflow.refresh"


class CeleryRefresh(Worker):
    """The loop, and the task that it sends. A key whose task has not begun when its lease has run out is dropped:
    give a `lease` where the queue is slow."""

    def __init__(
        self,
        app: Celery,
        cache: CacheFlow,
        refreshers: Refreshers,
        *,
        name: str = TASK,
        queue: str | None = None,
        **options: Any,
    ) -> None:
        """`name`: of the task; a second cache of an app needs another. `queue`: of the tasks, the app's default
        if none is named. Options: those of workers.Loop; `retry` is that of the process in which a task runs.
        ConfigError."""
        super().__init__(cache, refreshers, **options)
        self._queue = queue
        if name in app.tasks:  # Celery would take the other one's function for ours
            raise ConfigError("bad_option", f"the app has a task {name!r} already")

        @app.task(name=name, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
        def refresh(full: str, token: int) -> str:
            return cache._run(fill(cache.core, refreshers, full, token, self.retry))

        #: The task: (full key, token) → what became of it; see refreshers.fill.
        self.task = refresh

    def perform(self, due: Due) -> Op[str]:
        """Send the task, and wait for the lease to end."""
        send = Call(self.task.apply_async, (due.full, due.token), queue=self._queue, expires=due.lease)
        return self.dispatch(due, send)

    def run_with_workers(self) -> None:
        """Begin when a worker of Celery's is ready, in a thread of its main process, and end with it."""
        signals.worker_ready.connect(self._begin_beside, weak=False)
        signals.worker_shutting_down.connect(self._end_beside, weak=False)

    def _begin_beside(self, **_: Any) -> None:
        self.start()

    def _end_beside(self, **_: Any) -> None:
        self.stop()
