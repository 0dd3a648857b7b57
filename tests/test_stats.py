"""CACHE.STATS and INFO: what ended by its time or was evicted by the server, the origin's time that hits
saved, and the namespaces that share one."""

import pytest

from harness.leases import Since, fill, grant, stats
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import figure

single = pytest.mark.topology("single")
NAMED = (
    "hits stale-hits misses busy waits coalesced grants early-elections fills refused-fills promotions "
    "invalidations invalidated-entries evictions expired origin-ms-saved"
).split()
GAUGES = "entries bytes tags memberships leases locks waiters sweep-queued".split()


def gone(server, *keys):
    """Wait until keys have gone, looking at none of them."""
    wait_for(lambda: server("DBSIZE") == 0, f"the end of {keys}")


def test_all_that_is_promised_is_there(server):
    assert {*NAMED, *GAUGES} <= set(stats(server))
    assert set(NAMED) <= set(stats(server, "NAMESPACE", "any"))


def test_what_ends_by_its_time_is_counted_and_nothing_else(server):
    """EXPIRE to the past aside, which is a deletion to Redis and an end by time to Valkey 9."""
    all_of, ours = Since(server), Since(server, "NAMESPACE", "a")
    for key in ("a:expires", "b:expires", "c"):
        server("CACHE.SET", key, "v", "PX", 10, "PGRACE", 10)
    server("SET", "a:native", "v", "PX", 10)
    server("CACHE.SET", "a:shortened", "v", "EX", 1000)
    server("PEXPIRE", "a:shortened", 10)
    server("CACHE.SET", "a:read", "v", "PX", 10)
    wait_for(lambda: server("CACHE.GET", "a:read") is None, "its end")
    gone(server, "all of them")
    assert (all_of("expired"), ours("expired")) == (5, 3)
    assert all_of("evictions") == 0
    for key in ("a:deleted", "a:unlinked", "a:overwritten", "a:{renamed}"):
        server("CACHE.SET", key, "v", "EX", 1000, "TAGS", "t")
    server("CACHE.DEL", "a:deleted")
    server("UNLINK", "a:unlinked")
    server("SET", "a:overwritten", "v")
    server("RENAME", "a:{renamed}", "b:{renamed}")
    server("CACHE.INVALIDATE", "TAGS", "t")
    server.wait_swept()
    assert (all_of("expired"), ours("expired")) == (5, 3)


@pytest.mark.topology("replica")
def test_a_replica_leaves_it_to_its_primary(topology, server):
    since = Since(server)
    server("CACHE.SET", "k", "v", "PX", 10)
    gone(server, "k")
    assert since("expired") == 1
    gone(topology.replica, "k")
    assert stats(topology.replica)["expired"] == 0


@single
def test_what_the_server_evicts_is_counted_as_its_own(fresh_server):
    server = fresh_server(["--maxmemory-policy", "allkeys-random"])
    for n in range(200):
        server("CACHE.SET", f"a:{n}", "v" * 1000)
    server.config("maxmemory", 1)
    server.error("CACHE.SET", "b", "v")
    wait_for(lambda: server("DBSIZE") == 0, "the server to evict all")
    found = stats(server)
    assert found["evictions"] == figure(server, "evicted_by_server", "cacheflow_stats") == 200
    assert stats(server, "NAMESPACE", "a")["evictions"] == 200
    assert figure(server, "evicted_max_memory", "cacheflow_stats") == 0 and found["expired"] == 0


def test_hits_save_what_their_entry_costs(server):
    server("CACHE.SET", "a:dear", "v", "EX", 1000, "GRACE", 1000, "COST", 300)
    server("CACHE.SET", "b:cheap", "v", "COST", 7)
    server("CACHE.SET", "c:unknown", "v")
    all_of = Since(server)
    each = {name: Since(server, "NAMESPACE", name) for name in "abc"}
    server("CACHE.GET", "a:dear")
    for key in ("a:dear", "b:cheap", "c:unknown"):
        assert server("CACHE.MGET", key) == [b"v"]
    assert server("CACHE.FETCH", "a:dear", "BETA", 0)[0] == b"FRESH"
    server("CACHE.STALE", "a:dear")
    assert server("CACHE.GET", "a:dear") is None and server("CACHE.GET", "a:dear", "STALE") == b"v"
    assert server("CACHE.FETCH", "a:dear", "BETA", 0)[0] == b"STALE"
    assert {name: since("origin-ms-saved") for name, since in each.items()} == {"a": 1500, "b": 7, "c": 0}
    assert all_of("origin-ms-saved") == 1507
    assert figure(server, "origin_ms_saved", "cacheflow_stats") == stats(server)["origin-ms-saved"]


def test_who_was_not_measured_saves_what_is_usual(server):
    since, others = Since(server, "NAMESPACE", "n"), Since(server, "NAMESPACE", "other")
    server("CACHE.SET", "n:unmeasured", "v")
    server("CACHE.SET", "other:unmeasured", "v")
    server("CACHE.GET", "n:unmeasured")
    assert since("origin-ms-saved") == 0, "nothing was ever measured: worth nothing, for good"
    token = grant(server, "n:measured")
    wait_for(lambda: meta(server, "n:measured")["lease-ms"] < 9990, "some time to be measured")
    fill(server, "n:measured", token)
    for _ in range(3):
        server("CACHE.GET", "n:unmeasured")
        server("CACHE.GET", "other:unmeasured")
    least = meta(server, "n:measured")["cost-ms"]
    saved = since("origin-ms-saved")
    assert least >= 10 and saved >= 3 * least and saved % 3 == 0
    assert since("origin-ms-saved") == saved, "once"
    assert others("origin-ms-saved") == 0


def test_a_reset_begins_anew(server):
    server("CACHE.SET", "a", "v", "PX", 10, "COST", 100)
    server("CACHE.GET", "a")
    gone(server, "a")
    assert stats(server)["expired"] > 0 and stats(server)["origin-ms-saved"] >= 100
    assert server("CACHE.STATS", "RESET") == b"OK"
    for found in (stats(server), stats(server, "NAMESPACE", "")):
        assert (found["expired"], found["origin-ms-saved"], found["hits"]) == (0, 0, 0)


@single
def test_namespaces_past_the_limit_share_one(fresh_server):
    server = fresh_server(module_args=("max-namespaces", "2"))
    for name in "abcd":
        server("CACHE.SET", f"{name}:k", "v", "COST", 5)
        server("CACHE.GET", f"{name}:k")
    server("CACHE.GET", "e:absent")
    own, shared = stats(server, "NAMESPACE", "a"), stats(server, "NAMESPACE", "*")
    assert (own["hits"], own["entries"], own["origin-ms-saved"]) == (1, 1, 5)
    assert (shared["hits"], shared["misses"], shared["entries"], shared["origin-ms-saved"]) == (2, 1, 2, 10)
    assert stats(server, "NAMESPACE", "c")["hits"] == 0, "nobody knows"
    server.config("cacheflow.max-namespaces", 100)
    server("CACHE.SET", "f:k", "v")
    assert stats(server, "NAMESPACE", "f")["entries"] == 0, "not before the database is empty"
    assert server("CACHE.INVALIDATE", "NAMESPACE", "d") == 3, "with all that it cannot be told from"
    assert server("CACHE.GET", "a:k") == b"v" and server("CACHE.GET", "c:k") is None
    server("FLUSHALL")
    server("CACHE.SET", "f:k", "v")
    assert stats(server, "NAMESPACE", "f")["entries"] == 1
    assert server("CACHE.VERIFY")[-1] == []
