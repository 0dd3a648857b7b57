"""An application that counts, and clients of it, for the tests of the HTTP cache."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx

from cacheflow import AsyncCacheFlow
from cacheflow.integrations.asgi import CacheMiddleware, HTTPCache

HOST = "http://shop.example"


@asynccontextmanager
async def caching(server, namespace, observers=(), client=None, **options):
    """An HTTPCache on a server."""
    settings = {"timeout": 5.0, **(client or {})}
    cache = AsyncCacheFlow(f"redis://127.0.0.1:{server.port}", namespace=namespace, observers=observers, **settings)
    async with cache:
        yield HTTPCache(cache, **options)


def browser(app):
    """A client of an ASGI application, in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOST)


class Origin:
    """An ASGI application whose every answer has a number. `headers` and `status` are of the next answers."""

    def __init__(self, **headers):
        self.count, self.status, self.body = 0, 200, None
        self.headers = headers
        self.seen = []
        self.hold: asyncio.Event | None = None
        self.begun = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.count += 1
        number = self.count
        self.seen.append(scope)
        self.begun.set()
        if self.hold is not None:
            await self.hold.wait()
        body = f"answer {number}".encode() if self.body is None else self.body
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        for name, value in self.headers.items():
            headers += [
                (name.replace("_", "-").encode(), one.encode())
                for one in (value if isinstance(value, list) else [value])
            ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def shop(server, namespace, origin=None, client=None, observers=(), **options):
    """The origin behind the middleware, and a browser of it: (origin, browser, the HTTPCache)."""
    origin = Origin() if origin is None else origin
    async with caching(server, namespace, client=client, observers=observers, **options) as http:
        async with browser(CacheMiddleware(origin, cache=http)) as asking:
            yield origin, asking, http
