"""Django's cache backend, beyond what Django's own suite asks of it (scripts/django-suite): tags, grace, shared
clients, event loops, outages."""

import asyncio
import pickle
import threading

import djangosite
import pytest
from conftest import Background, Loads, wait_for
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from cacheflow import FOREVER, EncodeError, InvalidationError, Unavailable
from cacheflow.integrations.django import CacheFlowCache

NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def cache(server, namespace):
    with djangosite.caching(server, namespace, timeout=5) as cache:
        yield cache


@pytest.fixture(params=["sync", "async"])
def call(cache, request):
    """Calls a method of the backend, or its asynchronous namesake in an event loop of its own."""
    if request.param == "sync":
        return lambda name, *args, **kwargs: getattr(cache, name)(*args, **kwargs)
    return lambda name, *args, **kwargs: asyncio.run(getattr(cache, f"a{name}")(*args, **kwargs))


def test_tags_invalidate(call):
    call("set", "a", 1, tags=["shelf:1"])
    call("set_many", {"b": 2, "c": 3}, tags="all")
    call("add", "d", 4, tags="shelf:1")
    assert call("get_or_set", "e", lambda: 5, tags=lambda value: [f"value:{value}"]) == 5
    assert call("invalidate", "shelf:1") == 2
    assert call("get_many", ["a", "b", "c", "d", "e"]) == {"b": 2, "c": 3, "e": 5}
    assert call("invalidate", "all", "value:5") == 3
    assert call("get_many", ["b", "c", "e"]) == {}


def test_get_or_set_loads_once_for_all(cache):
    loads = Loads("value")
    loads.hold()
    callers = [Background(cache.get_or_set, "k", loads) for _ in range(5)]
    assert loads.begun.wait(20)
    loads.go_on.set()
    assert [caller.result() for caller in callers] == ["value"] * 5
    assert loads.count == 1


def test_an_invalidation_while_loading_is_not_overwritten(cache):
    def load():
        cache.invalidate("row:1")
        return "old"

    assert cache.get_or_set("k", load, tags=["row:1"]) == "old"
    assert cache.get("k") is None


def test_stale_values_with_grace(call, cache):
    call("set", "k", "old", grace=60, tags="t")
    call("invalidate", "t", soft=True)
    assert call("get", "k") is None
    assert call("get_or_set", "k", lambda: "new", grace=60) == "old"
    assert call("get_or_set", "k2", lambda: "new", grace=60, max_stale=0) == "new"


def test_a_stale_value_is_none_to_add(call, cache):
    call("set", "k", "old", grace=60, tags="t")
    assert call("add", "k", "other") is False
    call("invalidate", "t", soft=True)
    assert call("add", "k", "new", 60) is True
    assert call("get", "k") == "new"
    meta = cache.client.meta(cache.make_key("k"))
    assert meta.ttl_ms <= 60_000  # a mark for a minute lasts a minute, without the grace of what was there
    assert meta.lease_ms == 0


def test_for_ever_keeps_tags(call, cache):
    call("set", "k", 1, 60, tags=["t", "u"])
    assert call("touch", "k", None) is True
    meta = cache.client.meta(cache.make_key("k"))
    assert meta.fresh_ms == -1 and set(meta.tags) == {"t", "u"} and meta.lease_ms == 0
    assert call("touch", "none", None) is False
    assert cache.client.meta(cache.make_key("none")) is None
    assert cache.get_backend_timeout(None) == FOREVER


def test_touch_keeps_tags(call, cache):
    call("set", "k", 1, 60, tags="t")
    assert call("touch", "k", 600) is True
    meta = cache.client.meta(cache.make_key("k"))
    assert meta.tags == ("t",) and meta.fresh_ms > 60_000


def test_counting_keeps_tags_and_time(call, cache):
    call("set", "n", 5, 600, tags="t")
    assert call("incr", "n", 3) == 8
    assert call("decr", "n") == 7
    meta = cache.client.meta(cache.make_key("n"))
    assert meta.tags == ("t",) and 0 < meta.fresh_ms <= 600_000
    with pytest.raises(ValueError):
        call("incr", "absent")
    assert cache.client.meta(cache.make_key("absent")) is None
    call("set", "text", "a")
    with pytest.raises(TypeError):
        call("incr", "text")


def test_clear_is_of_the_namespace(server, namespace, cache):
    with djangosite.caching(server, f"{namespace}x") as other:
        other.set("k", 1)
        cache_too = CacheFlowCache(cache.client._address.url, {"OPTIONS": {"namespace": namespace, "timeout": 5}})
        cache_too.set("k", 2)
        cache_too.clear()
        assert cache_too.get("k") is None
        assert other.get("k") == 1


def test_versions_prefixes_and_key_functions(server, namespace):
    more = {
        "KEY_PREFIX": "p",
        "VERSION": 3,
        "KEY_FUNCTION": lambda key, prefix, version: f"{prefix}/{version}/{key}",
    }
    with djangosite.caching(server, namespace, more) as cache:
        cache.set("k", 1)
        assert cache.client.get("p/3/k") == 1
        assert cache.incr_version("k") == 4
        assert cache.client.get("p/4/k") == 1 and cache.get("k") is None


def test_threads_share_one_client(cache):
    clients = []

    def ask():
        clients.append(caches["default"].client)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert clients == [cache.client] * 3


def test_an_event_loop_has_a_client_that_ends_with_it(cache):
    async def ask():
        first, again = await cache.aclient(), await cache.aclient()
        assert first is again
        await cache.aset("k", 1)
        return first

    clients = [asyncio.run(ask()) for _ in range(2)]
    assert clients[0] is not clients[1]
    assert all(client.core.closed for client in clients)
    assert cache._clients._async == {}
    assert cache.get("k") == 1


def test_a_loop_ends_while_its_level_begins_to_listen(server, namespace):
    with djangosite.caching(server, namespace, local="1mb", timeout=5) as cache:

        async def ask(turns):
            await cache.aget_or_set("k", lambda: 1)
            for _ in range(turns):
                await asyncio.sleep(0)

        for turns in range(12):
            asyncio.run(ask(turns))
        assert cache._clients._async == {}


def test_what_cannot_be_stored_is_said(cache):
    with pytest.raises(pickle.PickleError) as caught:
        cache.set("k", object())
    assert isinstance(caught.value, EncodeError) and caught.value.code == "unsupported_type"
    assert caught.value.key.endswith(":1:k")


def test_the_level_in_the_process(server, namespace):
    with djangosite.caching(server, namespace, local="1mb", timeout=5) as cache:
        cache.set("k", [1])

        def held():
            assert cache.get_or_set("k", list) == [1]
            return cache.client.client_stats()["l1_entries"] == 1

        wait_for(held, "the value in the level", 20)  # which begins when its own connection is up
        hits = cache.client.client_stats()["l1_hit"]
        assert cache.get("k") == [1]
        assert cache.client.client_stats()["l1_hit"] == hits + 1
        cache.set("k", [2])
        assert cache.get("k") == [2]


@pytest.mark.parametrize("codec", ["pickle", {"serializer": "json", "compress": "zstd"}, "cacheflow.JsonCodec"])
def test_codecs_are_named(server, namespace, codec):
    with djangosite.caching(server, namespace, codec=codec) as cache:
        cache.set_many({"n": 1, "v": "x" * 5000})
        assert cache.get_many(["n", "v"]) == {"n": 1, "v": "x" * 5000}
        assert cache.incr("n") == 2
        edges = {"low": -(1 << 63), "high": (1 << 63) - 1, "more": 1 << 63, "huge": -(10**30)}
        cache.set_many(edges)
        assert cache.get_many(edges) == edges


@pytest.mark.parametrize(
    "setting",
    [
        {"OPTIONS": {"codec": "yaml"}},
        {"OPTIONS": {"codec": "no.such.Codec"}},
        {"OPTIONS": {"codec": {"compress": "bz9"}}},
        {"LOCATION": ["redis://a", "redis://b"]},
    ],
)
def test_settings_that_make_no_sense(setting):
    with override_settings(CACHES={"default": {"BACKEND": djangosite.BACKEND, **setting}}):
        with pytest.raises(ImproperlyConfigured):
            caches["default"]


def test_without_redis(namespace):
    with djangosite.caching(NOWHERE, namespace, timeout=0.2) as cache:
        assert cache.get("k", "default") == "default"
        assert cache.get_many(["k"]) == {}
        cache.set("k", 1)
        assert cache.set_many({"a": 1, "b": 2}) == ["a", "b"]
        assert cache.add("k", 1) is False
        assert cache.get_or_set("k", lambda: "loaded") == "loaded"
        for name, args in (("delete", ["k"]), ("delete_many", [["k"]]), ("touch", ["k"]), ("incr", ["k"])):
            with pytest.raises(Unavailable):
                getattr(cache, name)(*args)
        for name, args in (("clear", []), ("invalidate", ["t"])):
            with pytest.raises(InvalidationError):
                getattr(cache, name)(*args)
