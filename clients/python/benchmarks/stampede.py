"""A thousand callers in four processes ask for one cold key at once, whose value takes 200 ms to load.

    python benchmarks/stampede.py [--callers 1000] [--processes 4] [--only cacheflow,cashews]

Printed for each library: how often the value was loaded, when the last caller had it, counted from the first
one's asking, and how many commands the server was sent. Coroutines, but for dogpile.cache, which is of threads
(its callers are threads, as many). Each is used as its documentation protects from stampedes: cashews with
`lock=True`, aiocache with RedLock, dogpile with its Redis backend's distributed lock, redis-py with a Lock
around get, load and set.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing as mp
import threading
import time
from collections.abc import Callable
from typing import Any

from servers import server

KEY, LOAD, TTL = "stampede", 0.2, 60


async def _load(loads: Any) -> str:
    with loads.get_lock():
        loads.value += 1
    await asyncio.sleep(LOAD)
    return "value"


# Each takes (port, callers, go, loads) and waits at `go` when all is connected; the processes' clocks are one.
async def cacheflow(port: int, callers: int, go: Callable[[], Any], loads: Any) -> None:
    from cacheflow import AsyncCacheFlow

    async with AsyncCacheFlow(f"redis://127.0.0.1:{port}", namespace="bench") as cache:
        await cache.connect()
        await go()
        await asyncio.gather(*(cache.get_or_set(KEY, lambda: _load(loads), ttl=TTL) for _ in range(callers)))


async def cashews(port: int, callers: int, go: Callable[[], Any], loads: Any) -> None:
    from cashews import Cache

    cache = Cache()
    cache.setup(f"redis://127.0.0.1:{port}")

    @cache(ttl=f"{TTL}s", key=KEY, lock=True)
    async def get() -> str:
        return await _load(loads)

    await cache.ping()
    await go()
    await asyncio.gather(*(get() for _ in range(callers)))
    await cache.close()


async def aiocache(port: int, callers: int, go: Callable[[], Any], loads: Any) -> None:
    from aiocache import RedisCache
    from aiocache.lock import RedLock

    cache = RedisCache(endpoint="127.0.0.1", port=port, namespace="bench", pool_max_size=callers)

    async def get() -> Any:
        value = await cache.get(KEY)
        if value is None:
            async with RedLock(cache, KEY, lease=10):
                value = await cache.get(KEY)
                if value is None:
                    value = await _load(loads)
                    await cache.set(KEY, value, ttl=TTL)
        return value

    await cache.exists(KEY)
    await go()
    await asyncio.gather(*(get() for _ in range(callers)))
    await cache.close()


async def redis_py_lock(port: int, callers: int, go: Callable[[], Any], loads: Any) -> None:
    import redis.asyncio

    client = redis.asyncio.Redis(
        connection_pool=redis.asyncio.BlockingConnectionPool(
            host="127.0.0.1", port=port, max_connections=64, timeout=300
        )
    )

    async def get() -> Any:
        value = await client.get(KEY)
        if value is None:
            async with client.lock(f"lock:{KEY}", timeout=10):
                value = await client.get(KEY)
                if value is None:
                    value = await _load(loads)
                    await client.set(KEY, value, ex=TTL)
        return value

    await client.ping()
    await go()
    await asyncio.gather(*(get() for _ in range(callers)))
    await client.aclose()


async def dogpile(port: int, callers: int, go: Callable[[], Any], loads: Any) -> None:
    import redis
    from dogpile.cache import make_region

    region = make_region().configure(
        "dogpile.cache.redis",
        expiration_time=TTL,
        arguments={
            "connection_pool": redis.BlockingConnectionPool(
                host="127.0.0.1", port=port, max_connections=64, timeout=300
            ),
            "distributed_lock": True,
            "thread_local_lock": False,
        },
    )

    def load() -> str:
        with loads.get_lock():
            loads.value += 1
        time.sleep(LOAD)
        return "value"

    begin = threading.Event()
    waiting = [
        threading.Thread(target=lambda: begin.wait() and region.get_or_create(KEY, load)) for _ in range(callers)
    ]
    for thread in waiting:
        thread.start()
    region.get("warm")
    await go()
    begin.set()
    for thread in waiting:
        thread.join()


LIBRARIES = {
    "cacheflow": cacheflow,
    "cashews": cashews,
    "dogpile": dogpile,
    "aiocache": aiocache,
    "redis_py_lock": redis_py_lock,
}


def _process(name: str, port: int, callers: int, barrier: Any, loads: Any, times: Any) -> None:
    async def go() -> None:
        await asyncio.to_thread(barrier.wait, 120)
        began.append(time.monotonic())

    began: list[float] = []
    asyncio.run(_run(name, port, callers, go, loads))
    times.put((began[0], time.monotonic()))


async def _run(name: str, port: int, callers: int, go: Callable[[], Any], loads: Any) -> None:
    await LIBRARIES[name](port, callers, go, loads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--only", default=",".join(LIBRARIES))
    args = parser.parse_args()
    print(f"{args.callers} callers in {args.processes} processes, one cold key, a load of {LOAD * 1000:.0f} ms")
    context = mp.get_context("spawn")
    for name in args.only.split(","):
        with server() as started:
            barrier, loads, times = context.Barrier(args.processes + 1), context.Value("i", 0), context.Queue()
            share = args.callers // args.processes
            processes = [
                context.Process(target=_process, args=(name, started.port, share, barrier, loads, times))
                for _ in range(args.processes)
            ]
            for process in processes:
                process.start()
            while barrier.n_waiting < args.processes:
                time.sleep(0.01)
            commands = int(started.info("stats")["total_commands_processed"])
            barrier.wait(120)
            spans = [times.get(timeout=300) for _ in processes]
            sent = int(started.info("stats")["total_commands_processed"]) - commands - 1
            for process in processes:
                process.join()
            last = max(end for _, end in spans) - min(begin for begin, _ in spans)
            print(f"{name:<14} loads {loads.value:4d}   last answer {last * 1000:8.0f} ms   commands {sent:7d}")


if __name__ == "__main__":
    main()
