"""CacheFlow in FastAPI: a middleware for all of an application, and a decorator for one route.

    http = HTTPCache(cache, ttl="1m", grace="5m")
    router = APIRouter(route_class=CachedRoute)

    @router.get("/products/{product_id}", response_model=Product)
    @cached(http, tags=["product:{product_id}"])
    async def product(product_id: int): ...

The decorator only says how; it is the route that caches, so that what is stored is the response with its model
applied, and dependencies are not run for a hit. `uncached()` names endpoints whose route is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

from fastapi.routing import APIRoute

from .asgi import CacheMiddleware, HTTPCache, Policy, add_tags, surrogate_key, uri_tag
from .asgi.policy import Receive, Scope, Send

__all__ = [
    "CacheMiddleware",
    "CachedRoute",
    "HTTPCache",
    "Policy",
    "add_tags",
    "cached",
    "surrogate_key",
    "uncached",
    "uri_tag",
]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__cacheflow__"
_waiting: WeakSet[Callable[..., Any]] = WeakSet()


def cached(http: HTTPCache, **options: Any) -> Callable[[F], F]:
    """Cache a path operation; stands below `@router.get(...)`, whose router has `route_class=CachedRoute`.
    The function itself stays as it is. `options` are those of Policy. ConfigError."""
    http = http.using(**options)

    def decorator(endpoint: F) -> F:
        setattr(endpoint, _MARK, http)
        _waiting.add(endpoint)
        return endpoint

    return decorator


def uncached() -> list[str]:
    """Names of functions that were decorated and are served by no CachedRoute: for a test of the application."""
    return sorted(f"{endpoint.__module__}.{endpoint.__qualname__}" for endpoint in _waiting)


class CachedRoute(APIRoute):
    """Serves decorated endpoints through the cache, and others as APIRoute does."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        _waiting.discard(endpoint)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        http: HTTPCache | None = getattr(self.endpoint, _MARK, None)
        if http is None:
            await super().handle(scope, receive, send)
        else:
            await http.serve(super().handle, scope, receive, send)
