"""Tasks that are cancelled take nobody along, and leave nothing behind."""

import asyncio

import pytest
from conftest import url_of

from cacheflow import AsyncCacheFlow


@pytest.fixture
async def cache(server, namespace):
    async with AsyncCacheFlow(url_of(server), namespace=namespace, local=True, timeout=5) as cache:
        await cache.connect()
        yield cache


async def until(condition):
    async def look():
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(look(), 20)


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def use(cache, how, load):
    if how == "one":
        return cache.get_or_set("k", load, ttl=60, lease=60)
    return cache.get_or_set_many(["k", "l"], lambda keys: load(), ttl=60, lease=60)


@pytest.mark.parametrize("how", ["one", "many"])
async def test_while_it_loads_the_lease_is_given_up(cache, how):
    begun = asyncio.Event()

    async def load():
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(use(cache, how, load))
    await begun.wait()
    assert (await cache.meta("k")).lease_ms > 0
    await cancelled(task)
    assert await cache.meta("k") is None
    assert cache.client_stats().get("degraded", 0) == 0


@pytest.mark.parametrize("how", ["one", "many"])
async def test_who_waited_for_it_begins_anew(cache, how):
    begun = asyncio.Event()

    async def load():
        begun.set()
        await asyncio.Event().wait()

    async def again():
        return 2 if how == "one" else {"k": 2, "l": 3}

    task = asyncio.ensure_future(use(cache, how, load))
    await begun.wait()
    other = asyncio.ensure_future(use(cache, how, again))
    await asyncio.sleep(0)
    await cancelled(task)
    assert await other in (2, {"k": 2, "l": 3})
    assert len(cache.core.flights) == 0


@pytest.mark.parametrize("how", ["one", "many"])
async def test_while_redis_is_asked_nothing_is_left(own_server, how):
    async def load():
        raise AssertionError("nobody is to load")

    async with AsyncCacheFlow(url_of(own_server), local=True, timeout=30) as cache:
        await cache.connect()
        own_server.pause()
        task = asyncio.ensure_future(use(cache, how, load))
        await until(lambda: cache.core.local._pending)
        await cancelled(task)
        assert cache.core.local._pending == {} and len(cache.core.flights) == 0
        own_server.resume()
