"""Functions that are cached by their arguments."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import hashlib
import inspect
import string
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from .context import LoadContext, context_parameter
from .errors import ConfigError
from .options import Request, tag_list

if TYPE_CHECKING:
    from .aio import AsyncCacheFlow
    from .client import CacheFlow

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

_SCALARS = (str, bytes, int, float, type(None), decimal.Decimal, uuid.UUID, enum.Enum)
_DATES = (datetime.date, datetime.time, datetime.timedelta)
_LONGEST = 120  # characters of arguments in a key, past which they are a digest


class Cached(Protocol[P, R_co]):
    """A decorated function. All take the arguments of the function."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The cached value."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Remove the entry; how many there were."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Load and store it now."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key, without the namespace."""
        ...


class AsyncCached(Protocol[P, R_co]):
    """A decorated coroutine function. All take the arguments of the function."""

    __wrapped__: Callable[..., Any]

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The cached value."""
        ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Remove the entry; how many there were."""
        ...

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Load and store it now."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key, without the namespace."""
        ...


class Template:
    """Text with the names of parameters in braces."""

    def __init__(self, text: str, names: Iterable[str]) -> None:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
        except ValueError as error:
            raise ConfigError("bad_template", f"{text!r}: {error}") from None
        for field in fields:
            name = field.split(".")[0].split("[")[0]
            if name not in names:
                raise ConfigError("bad_template", f"{text!r} names {name!r}, which is no parameter")
        self._text = text
        self.fixed = text.format() if not fields else None

    def __call__(self, arguments: Mapping[str, Any]) -> str:
        """The text for these arguments."""
        return self._text.format_map(arguments) if self.fixed is None else self.fixed


class Plan:
    """How a function's calls become keys, tags and loaders."""

    def __init__(
        self,
        function: Callable[..., Any],
        key: str | None,
        tags: Iterable[str] | str | Callable[..., Iterable[str]],
        request: Request,
        asynchronous: bool,
    ) -> None:
        if not asynchronous and inspect.iscoroutinefunction(function):
            raise ConfigError("not_async", f"{function.__qualname__} is a coroutine function: AsyncCacheFlow's")
        if isinstance(function, staticmethod | classmethod):
            raise ConfigError("bad_function", "cached stands below staticmethod and classmethod, not above")
        self.function = function
        self._context = context_parameter(function)
        signature = inspect.signature(function)
        parameters = [p for name, p in signature.parameters.items() if name != self._context]
        self._signature = signature.replace(parameters=parameters)
        self._names = tuple(self._signature.parameters)
        simple = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
        self._simple = all(p.kind in simple for p in parameters)
        self._method = bool(self._names) and self._names[0] in ("self", "cls")
        self._key = None if key is None else Template(key, self._names)
        self._tags = tags if callable(tags) else [Template(tag, self._names) for tag in tag_list(tags)]
        self._request = request
        if not callable(self._tags) and all(tag.fixed is not None for tag in self._tags):
            self._request = replace(request, tags=tuple(tag.fixed or "" for tag in self._tags))
            self._tags = []

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """By name, defaults included. TypeError as the function's own."""
        if self._simple and not kwargs and len(args) == len(self._names):
            return dict(zip(self._names, args, strict=True))
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def key(self, arguments: dict[str, Any]) -> str:
        """The key of a call."""
        if self._key is not None:
            return self._key(arguments)
        shown = [(name, arguments[name]) for name in self._names[self._method :]]
        text = ",".join(f"{name}={self._show(value)}" for name, value in shown)
        if len(text) > _LONGEST:
            text = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest()
        return f"{self.function.__module__}.{self.function.__qualname__}:{text}"

    def _show(self, value: Any) -> str:
        if isinstance(value, enum.Enum):
            return str(value)
        if isinstance(value, _SCALARS):
            return repr(value)
        if isinstance(value, _DATES):
            return value.isoformat() if hasattr(value, "isoformat") else repr(value)
        if isinstance(value, tuple | list):
            return f"({','.join(map(self._show, value))})"
        if isinstance(value, set | frozenset):
            return f"{{{','.join(sorted(map(self._show, value)))}}}"
        if isinstance(value, Mapping):
            parts = sorted(f"{self._show(k)}:{self._show(v)}" for k, v in value.items())
            return f"{{{','.join(parts)}}}"
        raise ConfigError(
            "bad_template",
            f"an argument of {self.function.__qualname__} is a {type(value).__name__}, which names no key: "
            "give the decorator a key",
        )

    def request(self, arguments: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        """What the core is asked for."""
        if callable(self._tags):
            return replace(self._request, tags=tag_list(self._tags(*args, **kwargs)))
        if self._tags:
            return replace(self._request, tags=tuple(tag(arguments) for tag in self._tags))
        return self._request

    def loader(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        """What loads the value of a call."""
        if self._context is None:
            return lambda: self.function(*args, **kwargs)
        name = self._context

        def load(context: LoadContext) -> Any:
            return self.function(*args, **kwargs, **{name: context})

        return load


def decorate(cache: CacheFlow, plan: Plan) -> Cached[Any, Any]:
    """A function in place of the plan's."""
    core, run = cache.core, cache._run

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = plan.arguments(args, kwargs)
        full = core.full(plan.key(arguments))
        value = core.quick(full)
        if value is not core.missing:
            return value
        request = plan.request(arguments, args, kwargs)
        return run(core.get_or_set(full, plan.loader(args, kwargs), request))

    def invalidate(*args: Any, **kwargs: Any) -> int:
        return run(core.delete([core.full(plan.key(plan.arguments(args, kwargs)))], False))

    def refresh(*args: Any, **kwargs: Any) -> Any:
        arguments = plan.arguments(args, kwargs)
        request = plan.request(arguments, args, kwargs)
        return run(core.refresh(core.full(plan.key(arguments)), plan.loader(args, kwargs), request))

    sync: Cached[Any, Any] = _dress(call, plan, invalidate, refresh)
    return sync


def decorate_async(cache: AsyncCacheFlow, plan: Plan) -> AsyncCached[Any, Any]:
    """A coroutine function in place of the plan's."""
    core, run = cache.core, cache._run

    async def call(*args: Any, **kwargs: Any) -> Any:
        arguments = plan.arguments(args, kwargs)
        full = core.full(plan.key(arguments))
        value = core.quick(full)
        if value is not core.missing:
            return value
        request = plan.request(arguments, args, kwargs)
        return await run(core.get_or_set(full, plan.loader(args, kwargs), request))

    async def invalidate(*args: Any, **kwargs: Any) -> int:
        return await run(core.delete([core.full(plan.key(plan.arguments(args, kwargs)))], False))

    async def refresh(*args: Any, **kwargs: Any) -> Any:
        arguments = plan.arguments(args, kwargs)
        request = plan.request(arguments, args, kwargs)
        return await run(core.refresh(core.full(plan.key(arguments)), plan.loader(args, kwargs), request))

    coroutine: AsyncCached[Any, Any] = _dress(call, plan, invalidate, refresh)
    return coroutine


def _dress(
    call: Callable[..., Any],
    plan: Plan,
    invalidate: Callable[..., int | Awaitable[int]],
    refresh: Callable[..., Any],
) -> Any:
    dressed: Any = functools.wraps(plan.function)(call)
    dressed.invalidate, dressed.refresh = invalidate, refresh
    dressed.key = lambda *args, **kwargs: plan.key(plan.arguments(args, kwargs))
    return dressed
