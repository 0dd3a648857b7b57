"""CacheFlow in Starlette: a middleware for all of an application, and a decorator for one endpoint.

    http = HTTPCache(cache, ttl="1m", grace="5m")
    app = Starlette(routes=[...], middleware=[Middleware(CacheMiddleware, cache=http)])

    @cached(http, tags=["product:{product_id}"])
    async def product(request): ...

FastAPI's are in cacheflow.integrations.fastapi.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from .asgi import CacheMiddleware, HTTPCache, Policy, add_tags, surrogate_key, uri_tag
from .asgi.policy import App, Receive, Scope, Send

__all__ = ["CacheMiddleware", "HTTPCache", "Policy", "add_tags", "cached", "surrogate_key", "uri_tag"]


class _Answer(Response):
    """A response that is found, or computed, when it is sent."""

    def __init__(self, http: HTTPCache, app: App) -> None:
        super().__init__()
        self._http, self._app = http, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._http.serve(self._app, scope, receive, send)


def cached(http: HTTPCache, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Awaitable[Response]]]:
    """Cache an endpoint `(request) -> Response`, coroutine function or not, or such a method of an
    HTTPEndpoint. `options` are those of Policy. FastAPI's endpoints take cacheflow.integrations.fastapi's.
    ConfigError."""
    http = http.using(**options)

    def decorator(endpoint: Callable[..., Any]) -> Callable[..., Awaitable[Response]]:
        @functools.wraps(endpoint)
        async def answer(*args: Any) -> Response:
            *bound, request = args
            if not isinstance(request, Request):
                raise TypeError(f"{endpoint.__qualname__} is no endpoint that takes a Request alone")
            return _Answer(http, request_response(functools.partial(endpoint, *bound)))

        return answer

    return decorator
