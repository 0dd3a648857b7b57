"""What a loader may know and say: the context that it is given if it takes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .errors import CacheFlowError
from .units import AutoTTL, Duration


class LoadContext:
    """Given to a loader with one required parameter, and to a decorated function's parameter that is
    annotated with this class.

    `ttl`, `grace` and `tags` begin as the caller named them and may be set while loading: what the value
    turned out to be made from is known only then. The fence covers tags that are set here too: was one
    invalidated since loading began, the value is not stored.
    """

    __slots__ = ("_stale", "grace", "has_stale", "key", "outcome", "tags", "token", "ttl")

    def __init__(
        self,
        key: str,
        ttl: Duration | AutoTTL | None,
        grace: Duration | None,
        tags: Iterable[str],
        token: int | None,
        stale: tuple[Any] | None,
    ) -> None:
        #: The full cache key.
        self.key = key
        self.ttl = ttl
        self.grace = grace
        #: Tags, in a list of this load's own.
        self.tags = list(tags)
        #: The fencing token of this load, greater than every earlier one of the key; None where nothing is
        #: stored (Redis is down, or somebody else holds the lease).
        self.token = token
        #: Whether there is an earlier value, which `stale_value` is.
        self.has_stale = stale is not None
        self._stale = stale
        self.outcome = "store"

    @property
    def stale_value(self) -> Any:
        """The value that this load is to replace; None where there is none (see `has_stale`)."""
        return self._stale[0] if self._stale is not None else None

    def not_modified(self) -> Any:
        """The origin said that the stale value still holds: `return context.not_modified()`. The entry is
        fresh anew without being sent, and keeps its tags; where `tags` were changed it is sent again with
        these. CacheFlowError `no_stale_value` where there is none."""
        if self._stale is None:
            raise CacheFlowError("no_stale_value", "there is no value that could be unmodified", self.key)
        self.outcome = "touch"
        return self._stale[0]

    def skip(self) -> None:
        """Give the value to who asked, and do not store it."""
        self.outcome = "skip"


def takes_context(loader: Callable[..., Any]) -> bool:
    """Whether a loader is to be called with a LoadContext: it has a required positional parameter."""
    code = getattr(loader, "__code__", None)
    if code is not None and getattr(loader, "__wrapped__", None) is None:  # the usual one, in a microsecond
        bound = getattr(loader, "__self__", None) is not None
        return bool(code.co_argcount - len(getattr(loader, "__defaults__", None) or ()) - bound > 0)
    try:
        parameters = inspect.signature(loader).parameters.values()
    except (TypeError, ValueError):  # some builtins do not say
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)


def context_parameter(function: Callable[..., Any]) -> str | None:
    """The name of the parameter that is annotated LoadContext, if there is one."""
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = parameter.annotation
        if annotation is LoadContext:
            return name
        if isinstance(annotation, str) and annotation.split(".")[-1].strip("'\"") == "LoadContext":
            return name
    return None
