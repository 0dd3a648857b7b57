"""Loaders as scenarios describe them: they count their calls, wait at gates, and use their context."""

import asyncio
import threading
from concurrent.futures import Future

from . import LIMIT


class ApplicationError(Exception):
    """What a loader raises that is to raise."""


class Gate:
    """Loaders wait at it until it is opened, for good."""

    def __init__(self):
        self._open = Future()
        self._arrived = threading.Semaphore(0)

    def open(self):
        """Let all through."""
        if not self._open.done():
            self._open.set_result(None)

    def wait_for(self, loaders):
        """Wait until so many more have come."""
        for _ in range(loaders):
            assert self._arrived.acquire(timeout=LIMIT), "no loader came to the gate"

    def pass_through(self):
        """A thread's way."""
        self._arrived.release()
        self._open.result(LIMIT)

    async def pass_through_async(self):
        """A task's."""
        self._arrived.release()
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._open)), LIMIT)


class Loader:
    """One loader of a scenario, for all of its actors. It is given a context, or the keys of get_or_set_many."""

    def __init__(self, told, gate):
        self._told, self._gate = told, gate
        self._lock = threading.Lock()
        self.calls = 0
        self.asked = []
        self.complaints = []

    def call(self, given):
        """For threads."""
        self._begin(given)
        if self._gate:
            self._gate.pass_through()
        return self._end(given)

    async def call_async(self, given):
        """For tasks."""
        self._begin(given)
        if self._gate:
            await self._gate.pass_through_async()
        return self._end(given)

    def _begin(self, given):
        with self._lock:
            self.calls += 1
            if isinstance(given, list):
                self.asked.append(sorted(given))

    def _end(self, given):
        if "raises" in self._told:
            raise ApplicationError(self._told["raises"])
        if isinstance(given, list):
            return {key: value for key, value in self._told["returns_each"].items() if key in given}
        return self._end_one(given)

    def _end_one(self, context):
        told = self._told
        seen = context.stale_value if context.has_stale else "nothing"
        if "sees_stale" in told and seen != told["sees_stale"]:
            self.complaints.append(f"a loader saw {seen!r} instead of the stale value")
        if "sees_no_stale" in told and context.has_stale:
            self.complaints.append(f"a loader saw {seen!r} where there was nothing")
        for name, value in told.get("sets", {}).items():
            setattr(context, name, value)
        if "not_modified" in told:
            return context.not_modified()
        if "skip" in told:
            context.skip()
        return told["returns"]
