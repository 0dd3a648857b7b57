"""get, set and their like, on every kind of client."""

import pytest
from conftest import wait_for

from cacheflow import FOREVER, AutoTTL, ConfigError, EncodeError, ServerError


def test_get_and_default(cache):
    assert cache.get("k") is None
    assert cache.get("k", "default") == "default"
    assert cache.set("k", {"a": 1}, ttl=60) is True
    assert cache.get("k") == {"a": 1}
    cache.set("none", None, ttl=60)
    assert cache.get("none", "default") is None


def test_only_where_absent_or_present(cache):
    assert not cache.set("k", 1, ttl=60, only="present")
    assert cache.set("k", 1, ttl=60, only="absent")
    assert not cache.set("k", 2, ttl=60, only="absent")
    assert cache.set("k", 3, ttl=60, only="present")
    assert cache.get("k") == 3
    with pytest.raises(ConfigError):
        cache.set("k", 1, only="sometimes")


def test_a_stale_value_is_there_and_one_that_was_invalidated_is_not(cache, namespace):
    cache.set("k", 1, ttl=60, grace=60, tags=[namespace])
    cache.delete("k", soft=True)
    assert not cache.set("k", 2, ttl=60, only="absent")
    assert cache.set("k", 3, ttl=60, tags=[namespace], only="present")
    cache.invalidate(namespace)
    assert not cache.set("k", 4, ttl=60, only="present")
    assert cache.set("k", 5, ttl=60, only="absent")
    assert cache.get("k") == 5


def test_a_native_key_is_there_and_is_overwritten(cache, server):
    server("SET", cache.full_key("k"), "1")
    assert not cache.set("k", 2, ttl=60, only="absent")
    assert cache.set("k", 3, ttl=60) and cache.get("k") == 3
    server("DEL", cache.full_key("list"))
    server("RPUSH", cache.full_key("list"), "x")
    assert cache.set("list", 4, ttl=60) and cache.get("list") == 4


def test_times(cache):
    cache.set("k", 1, ttl="90s", grace="5m")
    meta = cache.meta("k")
    assert 89_000 < meta.fresh_ms <= 90_000 and 389_000 < meta.ttl_ms <= 390_000
    cache.set("k", 1, ttl=FOREVER)
    assert cache.meta("k").fresh_ms == -1
    cache.set("k", 1, ttl=AutoTTL("10s", "1h"))
    assert 9_000 < cache.meta("k").fresh_ms <= 10_000
    with pytest.raises(ConfigError):
        cache.set("k", 1, ttl=0)


def test_defaults_of_the_client(another):
    cache = another(ttl="2m", grace="1m")
    cache.set("k", 1)
    meta = cache.meta("k")
    assert 119_000 < meta.fresh_ms <= 120_000 and 179_000 < meta.ttl_ms <= 180_000


def test_many(cache):
    stored = cache.set_many({"a": 1, "b": None, "c": [3]}, ttl=60, tags=["t"])
    assert sorted(stored) == ["a", "b", "c"]
    assert cache.get_many(["c", "nobody", "a", "b", "a"]) == {"c": [3], "a": 1, "b": None}
    assert cache.get_many([]) == {} and cache.set_many({}) == []
    cache.invalidate("t")
    assert cache.get_many(["a", "b", "c"]) == {}


def test_nothing_of_many_is_stored_if_one_cannot_be_encoded(cache):
    with pytest.raises(EncodeError):
        cache.set_many({"a": 1, "b": object()}, ttl=60)
    assert cache.get("a") is None


def test_many_of_which_one_is_no_value(cache, server):
    cache.set("a", 1, ttl=60)
    server("RPUSH", cache.full_key("list"), "x")
    assert cache.get_many(["a", "list"]) == {"a": 1}
    with pytest.raises(ServerError) as error:
        cache.get("list")
    assert error.value.code == "wrongtype"


def test_delete(cache):
    cache.set_many({"a": 1, "b": 2}, ttl=60)
    assert cache.delete("a", "b", "nobody") == 2
    assert cache.get_many(["a", "b"]) == {}
    assert cache.delete() == 0


def test_soft_delete_leaves_it_to_be_served_stale(cache):
    cache.set("a", 1, ttl=60, grace=60)
    assert cache.delete("a", soft=True) == 1
    assert cache.delete("a", soft=True) == 0
    assert cache.get("a") is None and cache.get("a", stale=True) == 1


def test_touch(cache):
    assert cache.touch("k") is False
    cache.set("k", 1, ttl=60, grace=60, tags=["t"])
    cache.delete("k", soft=True)
    assert cache.touch("k") is True
    assert 59_000 < cache.meta("k").fresh_ms <= 60_000
    assert cache.touch("k", ttl=30, grace=0)
    assert cache.meta("k").ttl_ms <= 30_000
    assert cache.get("k") == 1
    cache.invalidate("t")
    assert cache.get("k") is None, "touch kept the tags"


def test_incr(cache):
    assert [cache.incr("n"), cache.incr("n", 5), cache.incr("n", -10)] == [1, 6, -4]
    assert cache.get("n") == -4
    cache.set("m", 41, ttl=60, tags=["t"])
    assert cache.incr("m") == 42
    assert 0 < cache.meta("m").fresh_ms <= 60_000
    cache.invalidate("t")
    assert cache.incr("m") == 1, "the tags stayed, and the entry died"
    cache.set("text", "x", ttl=60)
    with pytest.raises(ServerError):
        cache.incr("text")


def test_clear_is_of_this_namespace(cache, another, namespace):
    neighbour = another(namespace=f"{namespace}x")
    cache.set("k", 1, ttl=60)
    neighbour.set("k", 2, ttl=60)
    cache.clear()
    assert cache.get("k") is None and neighbour.get("k") == 2
    cache.set("k", 3, ttl=60)
    cache.invalidate_namespace(namespace, soft=True)
    assert cache.get("k") is None
    neighbour.invalidate_namespace(namespace, f"{namespace}x")
    assert neighbour.get("k") is None


def test_without_a_namespace_keys_name_their_own(another, namespace):
    cache = another(namespace="")
    cache.set(f"{namespace}:a", 1, ttl=60)
    assert cache.get(f"{namespace}:a") == 1
    cache.invalidate_namespace(namespace)
    assert cache.get(f"{namespace}:a") is None


def test_invalidating_nothing_is_a_mistake(cache):
    with pytest.raises(ConfigError):
        cache.invalidate()


def test_meta(cache):
    assert cache.meta("nobody") is None
    cache.set("k", "abc", ttl=60, tags=["b", "a"])
    meta = cache.meta("k")
    assert (meta.state, meta.bytes, set(meta.tags)) == ("fresh", 5, {"a", "b"})
    assert meta.namespace == cache.namespace
    with cache.lock("only a lock", ttl=30):
        meta = cache.meta("only a lock")
        assert meta.state == "absent" and 0 < meta.lease_ms <= 30_000


def test_stats(cache):
    cache.get_or_set("k", lambda: 1, ttl=60)
    cache.get_or_set("k", lambda: 1, ttl=60)
    stats = cache.stats(cache.namespace)
    assert stats.client["miss"] == stats.client["hit"] == stats.client["load"] == 1
    if cache.capabilities.module:
        assert stats.server["entries"] == 1 and stats.server["hits"] == 1
        assert cache.stats().server["entries"] >= 1
    else:
        assert stats.server == {} and cache.capabilities.limits


def test_capabilities(another, flavor):
    cache = another(mode="auto")
    assert cache.capabilities is None
    assert cache.connect().module is True
    plain = another(mode="plain")
    assert plain.connect() == plain.capabilities
    assert not plain.capabilities.module and not plain.capabilities.cluster


def test_a_write_frees_who_waits(cache, another, loads):
    from conftest import Background

    loads.hold()
    first = Background(cache.get_or_set, "k", loads, ttl=60)
    assert loads.begun.wait(20)
    second = Background(another().get_or_set, "k", loads, ttl=60)
    another().set("k", "written", ttl=60)
    assert second.result() == "written"
    loads.go_on.set()
    assert first.result() == 1
    assert cache.get("k") == "written", "the older load was refused"


def test_keys_of_every_kind(cache):
    for key in ("with space", "snow \u2603", "a:b:c", "{tag}:x", "a{b", "a}b", "x" * 500):
        assert cache.set(key, key, ttl=60, tags=[key])
        assert cache.get(key) == key
        assert cache.meta(key).tags == (key,)
        cache.invalidate(key)
        assert cache.get(key) is None


def test_the_end_of_a_value(cache):
    cache.set("k", 1, ttl=0.05, grace=0.05)
    wait_for(lambda: cache.get("k", stale=True) is None, "its end")
    assert cache.meta("k") is None
