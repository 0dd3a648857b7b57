"""Decorated functions, and coroutine functions."""

import asyncio
import inspect

import pytest
from conftest import settle, url_of

from cacheflow import AsyncCacheFlow, CacheFlow, ConfigError, LoadContext


def test_by_template(cache):
    calls = []

    @cache.cached(ttl="5m", key="user:{user_id}", tags=["user:{user_id}", "users"], grace="1h")
    def profile(user_id, verbose=False):
        """A user's profile."""
        calls.append(user_id)
        return {"id": user_id, "n": len(calls)}

    assert profile(1) == profile(1) == profile(user_id=1) == {"id": 1, "n": 1}
    assert profile(2) == {"id": 2, "n": 2}
    assert profile.key(1) == profile.key(user_id=1, verbose=True) == "user:1"
    assert set(cache.meta("user:1").tags) == {"user:1", "users"}
    assert profile.__wrapped__.__doc__ == "A user's profile."
    assert profile.__wrapped__(9)["id"] == 9 and calls == [1, 2, 9]
    cache.invalidate("user:1")
    assert profile(1)["n"] == 4
    assert profile(2)["n"] == 2


def test_invalidate_and_refresh(cache):
    calls = []

    @cache.cached(ttl=60, key="k:{a}")
    def load(a):
        calls.append(a)
        return len(calls)

    assert load(1) == 1
    assert load.invalidate(1) == 1 and load.invalidate(1) == 0
    assert load(1) == 2
    assert load.refresh(1) == 3
    assert load(1) == 3


def test_the_context_is_no_argument(cache):
    seen = []

    @cache.cached(ttl=60, grace=60, key="k:{a}")
    def load(a, context: LoadContext):
        seen.append(context.stale_value)
        context.tags.append(f"late:{a}")
        return len(seen)

    assert load(7) == 1
    assert cache.meta("k:7").tags == ("late:7",)
    cache.invalidate("late:7", soft=True)
    assert load(7) == 1
    settle(cache)
    assert seen == [None, 1] and load(7) == 2


def test_tags_by_function(cache):
    @cache.cached(ttl=60, key="k:{a}", tags=lambda a: [f"tag:{a * 2}"])
    def load(a):
        return a

    load(4)
    assert cache.meta("k:4").tags == ("tag:8",)


def test_keys_by_name_and_arguments(cache):
    @cache.cached(ttl=60)
    def load(a, *rest, b=2, **more):
        return [a, list(rest), b, more]

    assert load(1, 3, c=[4, {"d": None}]) == [1, [3], 2, {"c": [4, {"d": None}]}]
    assert load.key(1) == load.key(a=1) == load.key(1, b=2) != load.key("1") != load.key(1, b=3)
    assert load.key(1, c={"x": 1, "y": 2}) == load.key(1, c={"y": 2, "x": 1})
    assert load.key({1, 2}) == load.key({2, 1})
    assert "test_keys_by_name_and_arguments" in load.key(1)
    assert len(load.key("x" * 10_000)) < 250
    with pytest.raises(ConfigError) as error:
        load(object())
    assert error.value.code == "bad_template"


def test_methods(make, server, namespace):
    cache = make("threads", url_of(server), namespace=namespace)

    class Shop:
        def __init__(self, name):
            self.name = name

        @cache.cached(ttl=60, key="{self.name}:{item}")
        def price(self, item):
            return f"{self.name} {item}"

        @staticmethod
        @cache.cached(ttl=60)
        def tax(rate):
            return rate * 2

        @cache.cached(ttl=60)
        def fixed(self, item):
            return item

    a, b = Shop("a"), Shop("b")
    assert (a.price("x"), b.price("x"), a.price("x")) == ("a x", "b x", "a x")
    assert a.price.invalidate(a, "x") == 1
    assert Shop.tax(4) == 8 and cache.get(Shop.tax.key(4)) == 8
    assert Shop.fixed.key(a, 1) == Shop.fixed.key(b, 1), "self names no key unless the template does"


@pytest.mark.parametrize("template", ["user:{nobody}", "user:{", "{}", "{0}"])
def test_templates_that_name_nothing(cache, template):
    with pytest.raises(ConfigError) as error:
        cache.cached(key=template)(lambda user_id: 1)
    assert error.value.code == "bad_template"
    with pytest.raises(ConfigError):
        cache.cached(tags=[template])(lambda user_id: 1)


def test_a_coroutine_function_is_for_the_asynchronous_client(server):
    async def load():
        return 1

    with CacheFlow(url_of(server)) as cache, pytest.raises(ConfigError) as error:
        cache.cached()(load)
    assert error.value.code == "not_async"


async def test_coroutine_functions(server, namespace):
    async with AsyncCacheFlow(url_of(server), namespace=namespace, timeout=5) as cache:
        calls = []

        @cache.cached(ttl=60, key="user:{user_id}", tags=["user:{user_id}"])
        async def profile(user_id: int) -> dict:
            """A user's profile."""
            await asyncio.sleep(0)
            calls.append(user_id)
            return {"id": user_id, "n": len(calls)}

        @cache.cached(ttl=60, key="plain:{a}")
        def plain(a):
            return a

        assert inspect.iscoroutinefunction(profile) and profile.__doc__ == "A user's profile."
        answers = await asyncio.gather(*(profile(1) for _ in range(50)))
        assert answers == [{"id": 1, "n": 1}] * 50
        assert await profile.invalidate(1) == 1
        assert (await profile(1))["n"] == 2
        assert (await profile.refresh(1))["n"] == 3
        assert await plain(5) == 5 and await cache.get("plain:5") == 5


async def test_a_cancelled_caller_cancels_nobody_else(server, namespace):
    async with AsyncCacheFlow(url_of(server), namespace=namespace, timeout=5) as cache:
        begun, loads = asyncio.Event(), []

        async def load():
            loads.append(1)
            begun.set()
            if len(loads) == 1:
                await asyncio.sleep(60)
            return len(loads)

        first = asyncio.ensure_future(cache.get_or_set("k", load, ttl=60))
        await asyncio.wait_for(begun.wait(), 20)
        others = [asyncio.ensure_future(cache.get_or_set("k", load, ttl=60)) for _ in range(5)]
        await asyncio.sleep(0.02)
        first.cancel()
        assert await asyncio.gather(*others) == [2] * 5
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(loads) == 2
