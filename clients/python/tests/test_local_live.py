"""The level in the process, kept right by a real server."""

import os
import signal

import pytest
from conftest import Loads, url_of, wait_for

from cacheflow import CacheFlow, LocalOptions


@pytest.fixture
def leveled(another, recorder):
    """A client with a level that is live."""

    def make(**options):
        cache = another(**{"local": "8mb", "observers": [recorder], **options})
        cache.get_or_set("warm", lambda: 1, ttl=60)
        wait_for(lambda: cache.core.local.live, "the tracking connection")
        return cache

    return make


def fill(cache, key, value, **options):
    """Load it, and have it answered by Redis once: then it is in the level."""
    options = {"ttl": 60, **options}
    cache.get_or_set(key, lambda: value, **options)
    hits = cache.client_stats()["l1_hit"]

    def local():
        assert cache.get_or_set(key, lambda: value, **options) == value
        return cache.client_stats()["l1_hit"] > hits

    wait_for(local, "a hit in the level")


def gone(cache, key):
    return cache.core.quick(cache.full_key(key)) is cache.core.missing


def commands(server):
    return int(server.info("stats")["total_commands_processed"])


def test_a_hit_asks_nobody(leveled, server):
    cache = leveled()
    fill(cache, "k", {"a": 1})
    cache.core.local.validate()
    before = cache.client_stats()
    assert [cache.get_or_set("k", lambda: 2, ttl=60) for _ in range(5)] == [{"a": 1}] * 5
    assert cache.get("k") == {"a": 1}
    assert cache.get_many(["k"]) == {"k": {"a": 1}}
    after = cache.client_stats()
    assert after["l1_hit"] == before["l1_hit"] + 7 and after["hit"] == before["hit"]


@pytest.mark.parametrize(
    "change", ["set", "delete", "soft delete", "tag", "soft tag", "clear", "native del", "flush"]
)
def test_what_another_changes_is_dropped(leveled, another, server, change, namespace):
    cache, other = leveled(), another()
    tag = f"{namespace}:t"
    fill(cache, "k", 1, tags=[tag], grace=60)
    {
        "set": lambda: other.set("k", 2, ttl=60),
        "delete": lambda: other.delete("k"),
        "soft delete": lambda: other.delete("k", soft=True),
        "tag": lambda: other.invalidate(tag),
        "soft tag": lambda: other.invalidate(tag, soft=True),
        "clear": other.clear,
        "native del": lambda: server("DEL", cache.full_key("k")),
        "flush": lambda: server("FLUSHDB"),
    }[change]()
    wait_for(lambda: gone(cache, "k"), "the level to hear of it")
    cache.core.local.validate()


@pytest.mark.parametrize("change", ["set", "delete", "incr", "touch", "tag", "soft tag", "clear"])
def test_what_this_process_changes_is_dropped_before_it_returns(leveled, change, namespace):
    cache = leveled()
    tag = f"{namespace}:t"
    for _ in range(5):
        fill(cache, "k", 1, tags=[tag], grace=60)
        {
            "set": lambda: cache.set("k", 1, ttl=60, tags=[tag], grace=60),
            "delete": lambda: cache.delete("k"),
            "incr": lambda: cache.incr("k", 0),
            "touch": lambda: cache.touch("k"),
            "tag": lambda: cache.invalidate(tag),
            "soft tag": lambda: cache.invalidate(tag, soft=True),
            "clear": cache.clear,
        }[change]()
        assert gone(cache, "k")


def test_it_is_fresh_for_as_long_as_the_server_said(leveled):
    cache, loads = leveled(), Loads()
    assert cache.get_or_set("k", loads, ttl=0.4) == 1
    cache.get_or_set("k", loads, ttl=0.4)
    wait_for(lambda: cache.get_or_set("k", loads, ttl=60) == 2, "the end of freshness")


def test_a_reply_that_crosses_an_invalidation_is_not_kept(leveled, another):
    cache = leveled()
    ticket = cache.core.local.begin(cache.full_key("k"))
    another().invalidate("anything")
    wait_for(lambda: cache.core.local._sequence != ticket.sequence, "the level to hear of it")
    from cacheflow.local import Entry

    assert not cache.core.local.put(ticket, Entry(1, b"1", int), 60, 0, ())


def test_when_the_tracking_connection_is_lost_nothing_counts_as_fresh(leveled, server, recorder):
    cache = leveled()
    fill(cache, "k", 1)
    server("CLIENT", "KILL", "TYPE", "pubsub")
    wait_for(lambda: "tracking_down" in recorder.names(), "the loss")
    assert gone(cache, "k")
    wait_for(lambda: cache.core.local.live, "the tracking connection again")
    assert gone(cache, "k"), "what was heard of in between is unknown"
    fill(cache, "k", 1)


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_a_connection_that_is_silent_is_lost(make, own_server, kind):
    cache = make(kind, url_of(own_server), namespace="n", local=LocalOptions(heartbeat=0.1), timeout=0.3)
    cache.get_or_set("k", lambda: 1, ttl=60, grace=60)
    wait_for(lambda: cache.core.local.live, "the tracking connection")
    fill(cache, "k", 1, grace=60)
    beats = commands(own_server)
    wait_for(lambda: int(own_server.info("commandstats")["cmdstat_ping"].split(",")[0][6:]) >= 3, "heartbeats")
    assert cache.core.local.live and commands(own_server) > beats
    own_server.pause()
    wait_for(lambda: not cache.core.local.live, "the loss")
    assert cache.get_or_set("k", lambda: 2, ttl=60, grace=60) == 1, "stale, for Redis does not answer"
    assert cache.client_stats()["l1_stale"] >= 1
    own_server.resume()
    wait_for(lambda: cache.core.local.live, "the tracking connection again")


def test_many_values_stay_within_the_bytes(leveled):
    cache = leveled(local=100_000)
    for number in range(300):
        cache.get_or_set(f"k{number}", lambda: "x" * 500, ttl=60)
        cache.get_or_set(f"k{number}", lambda: "x" * 500, ttl=60)
    stats = cache.client_stats()
    assert 0 < stats["l1_bytes"] <= 100_000
    cache.core.local.validate()


def test_a_forked_child_begins_anew(server, namespace):
    """It shares neither connections nor the level with its parent, and hears for itself."""
    cache = CacheFlow(url_of(server), namespace=namespace, local=True, timeout=5)
    fill_here = lambda: fill(cache, "k", 1)  # noqa: E731
    fill_here()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert gone(cache, "k") and not cache.core.local.live
            assert cache.get_or_set("k", lambda: 2, ttl=60) == 1
            fill_here()
            assert cache.get_or_set("child", lambda: "c", ttl=60) == "c"
            status = 0
        finally:
            os._exit(status)
    for _ in range(50):
        assert cache.get_or_set("k", lambda: 2, ttl=60) == 1
        cache.meta("k")
    pid, status = os.waitpid(child, 0)
    assert (pid, status) == (child, 0), signal.Signals(status).name if 0 < status < 65 else status
    assert cache.get("child") == "c"
    cache.close()
