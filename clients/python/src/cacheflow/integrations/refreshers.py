"""Which function computes which key: refreshers, registered by a pattern of keys, for workers that keep a cache
warm (workers.py, celery.py, arq.py)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..context import LoadContext, context_parameter
from ..core import Core
from ..decorators import Template
from ..effects import Call, Op
from ..errors import CacheFlowError, ConfigError
from ..options import tag_list
from ..units import AutoTTL, Duration, milliseconds

F = TypeVar("F", bound=Callable[..., Any])

_FIELD = re.compile(r"\{(\w+)(\*?)\}")


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of keys as a regular expression: `{name}` is text without a colon, `{name*}` any text.
    ConfigError `bad_template`."""
    parts, last = [], 0
    for field in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[last : field.start()]))
        parts.append(f"(?P<{field[1]}>{'.+' if field[2] else '[^:]+'})")
        last = field.end()
    parts.append(re.escape(pattern[last:]))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise ConfigError("bad_template", f"{pattern!r}: {error}") from None


@dataclass(frozen=True)
class Refresher:
    """A function that computes the keys of a pattern."""

    function: Callable[..., Any]
    pattern: re.Pattern[str]
    ttl: Duration | AutoTTL | None
    grace: Duration | None
    negative_ttl: Duration | None
    tags: Callable[..., Iterable[str]] | tuple[Template, ...]
    context: str | None

    def tags_of(self, arguments: Mapping[str, str]) -> tuple[str, ...]:
        """The tags of a key, by the parts of its name."""
        if callable(self.tags):
            return tag_list(self.tags(**arguments))
        return tuple(tag(arguments) for tag in self.tags)


class Refreshers:
    """Refreshers in the order in which they were registered: the first whose pattern fits a whole key has it."""

    def __init__(self) -> None:
        self._all: list[Refresher] = []

    def __call__(
        self,
        pattern: str,
        *,
        ttl: Duration | AutoTTL | None = None,
        grace: Duration | None = None,
        tags: Iterable[str] | str | Callable[..., Iterable[str]] = (),
        negative_ttl: Duration | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function for keys such as "user:{user_id}" (without the client's namespace). It
        is called with the parts that the pattern names, as text, and with a LoadContext where a parameter is
        annotated so; with AsyncCacheFlow it may be a coroutine function. The rest is as get_or_set has it; tags
        are templates of the same names, or a function of them. ConfigError `bad_template`.

        Name the same ttl, grace and tags as the reader does: what a worker stores is what readers get.
        """
        expression = compiled(pattern)
        names = tuple(expression.groupindex)

        def register(function: F) -> F:
            self._all.append(
                Refresher(
                    function,
                    expression,
                    ttl,
                    grace,
                    negative_ttl,
                    tags if callable(tags) else tuple(Template(tag, names) for tag in tag_list(tags)),
                    context_parameter(function),
                )
            )
            return function

        return register

    def find(self, key: str) -> tuple[Refresher, dict[str, str]] | None:
        """The refresher of a key, and the parts of the key's name; None where there is none."""
        for refresher in self._all:
            match = refresher.pattern.fullmatch(key)
            if match is not None:
                return refresher, match.groupdict()
        return None

    def __len__(self) -> int:
        return len(self._all)


def fill(core: Core, refreshers: Refreshers, full: str, token: int, retry: Duration) -> Op[str]:
    """Compute a key and store it under the lease `token`: `stored`, `refused` (something newer happened, or Redis
    does not answer), `skipped`, or `unknown` (no refresher has it). What the function raises is raised, after the
    lease was given up with `retry`: nobody computes the key for so long. EncodeError, ServerError, ConfigError."""
    key = core.short(full)
    found = refreshers.find(key) if full.startswith(core.prefix) else None
    if found is None:
        yield from give_up(core, full, token, 0)
        return "unknown"
    refresher, arguments = found
    began = core.clock()
    try:
        context = LoadContext(full, refresher.ttl, refresher.grace, refresher.tags_of(arguments), token, None)
        extra = {} if refresher.context is None else {refresher.context: context}
        value = yield Call(refresher.function, **arguments, **extra)
        if value is None and refresher.negative_ttl is not None:
            context.ttl, context.grace = refresher.negative_ttl, 0
        core.observers.tell("load", full, core.clock() - began)
        outcome = "skipped"
        if context.outcome == "store" and not core.lifetime(context.ttl, context.grace).none:
            stored = yield from core.set(full, value, context.ttl, context.grace, context.tags, "", token, None)
            outcome = "stored" if stored else "refused"
    except BaseException as error:
        # A cancellation is nobody's failure: whoever asks next may compute at once.
        yield from give_up(core, full, token, milliseconds(retry) if isinstance(error, Exception) else 0)
        core.observers.tell("refresh", full, core.clock() - began, error=error)
        raise
    if outcome == "skipped":
        yield from give_up(core, full, token, 0)
    core.observers.tell("refresh", full, core.clock() - began, outcome)
    return outcome


def give_up(core: Core, full: str, token: int, retry: int) -> Op[None]:
    """End a lease; `retry`: ms for which nobody is to have a new one. Where Redis does not answer it runs out by
    itself."""
    try:
        backend = core.backend or (yield from core.find_backend())
        yield from backend.unlock(full, token, retry)
    except CacheFlowError as error:
        core.observers.tell("degraded", full, error=error)
