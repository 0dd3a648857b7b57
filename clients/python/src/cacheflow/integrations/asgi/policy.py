"""What the application says about the caching of its responses."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError
from ...options import tag_list
from ...units import Duration, seconds, size

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Where in a scope the tags are gathered that the application adds while it computes.
TAGS = "cacheflow.tags"


def add_tags(request: Any, *tags: str) -> None:
    """Tags of the response that is being computed; `request` is a Starlette request or an ASGI scope. Without
    a cache in front it does nothing."""
    scope = request if isinstance(request, Mapping) else request.scope
    gathered = scope.get(TAGS)
    if gathered is not None:
        gathered.extend(tags)


@dataclass(frozen=True)
class Policy:
    """How responses are cached. Durations are seconds, timedeltas, or text such as "5m".

    ttl: fresh for, where the response itself has no max-age, s-maxage or Expires. None: only what says so
    itself is stored. grace: then served stale while one request computes it anew, unless the response forbids
    it or names its own (stale-while-revalidate, stale-if-error). negative_ttl: of 404 and 410, at most.
    tags: of every response; "{product_id}" is the path's parameter. Or a function of the scope, called when
    the response is there.
    vary: headers of the request that are part of every key; those of the response's Vary are besides.
    query: names of query parameters that are part of the key, and all the application sees. None: all.
    max_body: a longer response is passed by.
    credential_headers, credential_cookies: whose presence means that a request is of somebody in particular.
    Of responses to such requests only those are stored, and shared among such requests, that say by public,
    s-maxage or must-revalidate that they are for everybody (RFC 9111, 3.5). Cookies of None: any cookie. Name
    those that log somebody in, and responses are shared by who has others, of preferences and statistics.
    browser_ttl: what browsers are told (max-age), while shared caches are told the freshness (s-maxage);
    None: the same.
    pass_ttl: for how long requests for what cannot be stored do not wait for each other; it is remembered
    per key.
    obey_requests: whether no-cache, max-age and min-fresh of requests have a response computed anew.
    tag_headers: in which the tags are told to a CDN. cache_status: this cache's name in Cache-Status
    (RFC 9211), "" for no such header.
    when: of a scope, whether to cache it at all; None for all.
    invalidate_unsafe: whether a successful POST, PUT, PATCH or DELETE invalidates what is stored of its path.
    """

    ttl: Duration | None = None
    grace: Duration = 0
    negative_ttl: Duration = 10
    tags: Iterable[str] | str | Callable[[Scope], Iterable[str]] = ()
    vary: Sequence[str] = ()
    query: Collection[str] | None = None
    max_body: int | str = "1mb"
    credential_headers: Collection[str] = ("authorization", "x-api-key")
    credential_cookies: Collection[str] | None = None
    browser_ttl: Duration | None = None
    pass_ttl: Duration = 10
    obey_requests: bool = True
    tag_headers: Sequence[str] = ("Surrogate-Key", "Cache-Tag")
    cache_status: str = "cacheflow"
    when: Callable[[Scope], bool] | None = None
    invalidate_unsafe: bool = True

    def __post_init__(self) -> None:
        for name in ("ttl", "grace", "negative_ttl", "browser_ttl", "pass_ttl"):
            value = getattr(self, name)
            if value is not None and math.isinf(seconds(value)):
                raise ConfigError("bad_duration", f"{name} of a response must have an end")
        for name in ("vary", "query", "credential_headers", "credential_cookies", "tag_headers"):
            if isinstance(getattr(self, name), str):
                raise ConfigError("bad_option", f"{name} is a list of names")
        if size(self.max_body) < 1:
            raise ConfigError("bad_option", "max_body must be 1 or more")

    def tags_of(self, scope: Scope) -> tuple[str, ...]:
        """The policy's tags for a scope that the application has routed. ConfigError `bad_template` where a
        path has no such parameter."""
        if callable(self.tags):
            return tag_list(self.tags(scope))
        parameters = scope.get("path_params") or {}
        try:
            return tuple(tag.format_map(parameters) for tag in tag_list(self.tags))
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigError("bad_template", f"a tag of {scope['path']}: {error!r}") from None
