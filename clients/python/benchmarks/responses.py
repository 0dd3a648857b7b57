"""What a cached response costs: requests of an ASGI application without a server before it, one after the other.

    python benchmarks/responses.py [--requests 3000]

Prints CPU time a request, of this process: the bare application, a hit from Redis, a hit from the level in the
process, a 304; the best of five rounds each, in turn. Kilobytes of text, with two tags.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from servers import server

from cacheflow import AsyncCacheFlow
from cacheflow.integrations.asgi import CacheMiddleware, add_tags

BODY = b"x" * 2048


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Two kilobytes."""
    add_tags(scope, "product:7", "shelf:3")
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def receive() -> Any:
    """No body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:
    """To nobody."""


def scope(**headers: str) -> dict[str, Any]:
    """A request."""
    pairs = [(b"host", b"shop.example")] + [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
    return {"type": "http", "method": "GET", "path": "/a", "query_string": b"page=2", "headers": pairs}


async def main(port: int, requests: int) -> None:
    """Measure and print."""
    url = f"redis://127.0.0.1:{port}"
    async with (
        AsyncCacheFlow(url, namespace="far") as far,
        AsyncCacheFlow(url, namespace="near", local=True) as near,
    ):
        from_redis, from_level = (CacheMiddleware(application, cache=c, ttl=600) for c in (far, near))
        for app in (from_redis, from_level):
            await app(scope(), receive, send)
        while not near.client_stats()["l1_hit"]:
            await from_level(scope(), receive, send)
            await asyncio.sleep(0.01)
        apps = {
            "application": (application, scope()),
            "hit, Redis": (from_redis, scope()),
            "hit, level": (from_level, scope()),
            "304, Redis": (from_redis, scope(if_none_match="*")),
        }
        best = dict.fromkeys(apps, float("inf"))
        for _ in range(5):
            for name, (app, request) in apps.items():
                began = time.process_time()
                for _ in range(requests):
                    await app(dict(request), receive, send)
                best[name] = min(best[name], (time.process_time() - began) / requests)
        for name, seconds in best.items():
            print(f"{name:12} {seconds * 1e6:8.1f} µs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    with server() as started:
        asyncio.run(main(started.port, options.requests))
