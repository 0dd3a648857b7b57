"""The loader: called with a lease and its result stored, or without one and stored nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..context import LoadContext, takes_context
from ..effects import Await, Call, Op
from ..errors import CacheFlowError, ServerError, Unavailable
from ..options import Request, tag_list
from ..signals import Flight, Limit
from .base import Base

T = TypeVar("T")


class Loading(Base):
    """Operations that call the application."""

    def _call(self, full: str, loader: Callable[..., Any], context: LoadContext) -> Op[Any]:
        """The loader's value, its context settled: its tags, and the time of a value that is None."""
        began = self.clock()
        try:
            value = yield Call(loader, context) if takes_context(loader) else Call(loader)
        except BaseException as error:
            self.observers.tell("load", full, self.clock() - began, error=error)
            raise
        self.observers.tell("load", full, self.clock() - began)
        return value

    def load_only(self, full: str, loader: Callable[..., Any], request: Request, limit: Limit | None) -> Op[Any]:
        """Load and store nothing: somebody else holds the lease, or Redis is not used. Under a limit a caller
        waits for its turn as long as it would for somebody else's value, and then loads all the same: it must
        be answered."""
        load = self._call(full, loader, LoadContext(full, request.ttl, request.grace, (), None, None))
        return (yield from (load if limit is None else self.under(limit, request.wait, load)))

    @staticmethod
    def under(limit: Limit, wait: float, load: Op[T]) -> Op[T]:
        """A load in its turn, or after `wait` seconds."""
        place = limit.enter()
        try:
            if not place.happened:
                yield Await(place, wait)
            return (yield from load)
        finally:
            limit.leave(place)

    def fill(
        self,
        flight: Flight | None,
        full: str,
        token: int,
        loader: Callable[..., Any],
        request: Request,
        stale: tuple[Any] | None,
    ) -> Op[tuple[Any, bytes | None]]:
        """Load, and store with the token. The value, and its bytes if it was encoded. What the loader raises
        gives the lease up first. A store that fails costs the caller nothing."""
        tags = () if callable(request.tags) else request.tags
        context = LoadContext(full, request.ttl, request.grace, tags, token, stale)
        if flight is not None:
            flight.step += 1
            flight.true_at = flight.step
        try:
            self.lifetime(request.ttl, request.grace)  # what makes no sense is said before loading
            value = yield from self._call(full, loader, context)
            # TOUCH keeps the tags there are; others want the fence, which is SET's.
            touched = context.outcome == "touch" and context.tags == list(tags)
            if callable(request.tags):
                context.tags += request.tags(value)
            if value is None and request.negative_ttl is not None and context.outcome == "store":
                context.ttl, context.grace = request.negative_ttl, 0
            life = self.lifetime(context.ttl, context.grace)
            outcome = "store" if context.outcome == "touch" and not touched else context.outcome
            if life.none and outcome == "store":
                outcome = "skip"
            data = self.encode(full, value) if outcome == "store" else None
        except BaseException as error:
            retry = self.retry_after if isinstance(error, Exception) else 0
            yield from self._give_up(full, token, retry)
            raise
        if outcome == "skip":
            yield from self._give_up(full, token, 0)
            self.observers.tell("fill", full, detail="skipped")
            return value, None
        if flight is not None:
            flight.step += 1
        began = self.clock()
        try:
            backend = yield from self.find_backend()
            if data is None:
                kept = yield from backend.touch(full, life, token)
            else:
                (kept,) = yield from backend.store([(full, data)], life, tag_list(context.tags), token)
                if isinstance(kept, Exception):
                    raise kept
        except (Unavailable, ServerError) as error:
            self.observers.tell("fill", full, self.clock() - began, "failed", error)
            if isinstance(error, ServerError):  # too big, out of memory: who waits must not wait for it
                yield from self._give_up(full, token, 0)
            return value, data
        if kept and flight is not None:
            flight.true_at = flight.step
        stored = "stored" if data is not None else "touched"
        self.observers.tell("fill", full, self.clock() - began, stored if kept else "refused")
        self.drop_local((full,))
        return value, data

    def _give_up(self, full: str, token: int, retry: int) -> Op[None]:
        try:
            backend = yield from self.find_backend()
            yield from backend.unlock(full, token, retry)
        except CacheFlowError as error:
            self.observers.tell("degraded", full, error=error)  # the lease runs out by itself
