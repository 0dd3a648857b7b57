"""What a hit costs: get_or_set against redis-py's bare GET, in turns of one run; and a hit in the level.

    python benchmarks/hits.py [--rounds 15] [--calls 1500]

Both sides have the same redis-py, hiredis and server, and one connection each. The value of `text` is 100
characters, which JSON keeps as text; `dict` has five fields, decoded at each hit. The figures are medians of
the rounds. A hit in the level waits for nothing: it is told by the wall clock and in CPU time, which other load on
the machine does not lengthen as much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis
import redis.asyncio
from servers import server

from cacheflow import AsyncCacheFlow, CacheFlow

VALUES: dict[str, Any] = {
    "text": "x" * 100,
    "dict": {"id": 42, "name": "Ada Lovelace", "mail": "ada@example.org", "tags": ["a", "b"], "active": True},
}


def timed(function: Callable[[], Any], calls: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds a call."""
    began = clock()
    for _ in range(calls):
        function()
    return (clock() - began) / calls


async def timed_async(function: Callable[[], Awaitable[Any]], calls: int) -> float:
    """Seconds a call."""
    began = time.perf_counter()
    for _ in range(calls):
        await function()
    return (time.perf_counter() - began) / calls


def report(what: str, ours: list[float], theirs: list[float]) -> None:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"{what:<34} {statistics.median(ours) * 1e6:7.1f} us   GET {statistics.median(theirs) * 1e6:7.1f} us   "
        f"ratio {ratio:.2f}"
    )


def threads(url: str, port: int, rounds: int, calls: int) -> None:
    bare = redis.Redis(port=port)
    with CacheFlow(url, namespace="bench") as cache, CacheFlow(url, namespace="bench", local=True) as leveled:
        for name, value in VALUES.items():
            cache.set(name, value, ttl=3600, tags=["bench"])
            bare.set(name, json.dumps(value, separators=(",", ":")))

            def hit(name: str = name, cache: CacheFlow = cache) -> Any:
                return cache.get_or_set(name, list, ttl=3600, tags=["bench"])

            def leveled_hit(name: str = name) -> Any:
                return hit(name, leveled)

            def get(name: str = name) -> Any:
                return bare.get(name)

            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(timed(hit, calls))
                theirs.append(timed(get, calls))
            report(f"get_or_set hit, {name}", ours, theirs)
            while leveled.core.quick(f"bench:{name}") != value:
                leveled_hit()
            for clock, what in ((time.perf_counter, "wall clock"), (time.thread_time, "CPU")):
                level = [timed(leveled_hit, calls * 10, clock) for _ in range(rounds)]
                print(f"{f'level hit, {name}, {what}':<34} {statistics.median(level) * 1e6:7.2f} us")
    bare.close()


async def coroutines(url: str, port: int, rounds: int, calls: int) -> None:
    bare = redis.asyncio.Redis(port=port)
    async with AsyncCacheFlow(url, namespace="bench") as cache:
        for name in VALUES:
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(await timed_async(lambda name=name: cache.get_or_set(name, list, ttl=3600), calls))
                theirs.append(await timed_async(lambda name=name: bare.get(name), calls))
            report(f"get_or_set hit, {name}, asyncio", ours, theirs)
    await bare.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1500)
    args = parser.parse_args()
    with server() as started:
        url = f"redis://127.0.0.1:{started.port}"
        threads(url, started.port, args.rounds, args.calls)
        asyncio.run(coroutines(url, started.port, args.rounds, args.calls))


if __name__ == "__main__":
    main()
