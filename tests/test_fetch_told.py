"""CACHE.FETCH seen from beside it: statistics, META, other databases, protocols, tracking."""

import pytest

from harness.leases import Since, Waiter, fetch, fetcher, grant, held_for
from harness.resp import ReplyError
from harness.sample import meta
from harness.tagged import figure
from harness.topologies import several_databases


def test_statistics(server):
    counted, own, other = Since(server), Since(server, "NAMESPACE", "n"), Since(server, "NAMESPACE", "o")
    token = grant(server, "n:k")
    assert fetch(server, "n:k").state == b"BUSY"
    waiter = fetcher(server, "n:k")
    assert server("CACHE.SET", "n:k", "v", "LEASE", token, "EX", 60) == b"OK"
    assert waiter.answer()[:2] == (b"FRESH", b"v")
    assert fetch(server, "n:k").state == b"FRESH"
    server("CACHE.STALE", "n:k")
    token = fetch(server, "n:k").token
    assert fetch(server, "n:k")[:3] == (b"STALE", b"v", None)
    server("CACHE.DEL", "n:k")
    assert server("CACHE.SET", "n:k", "v", "LEASE", token) is None
    expected = {
        **{"grants": 2, "fills": 1, "refused-fills": 1, "early-elections": 0, "promotions": 0},
        **{"hits": 2, "stale-hits": 2, "misses": 1, "busy": 1, "waits": 1, "coalesced": 1},
    }
    for name, count in expected.items():
        assert (counted(name), own(name), other(name)) == (count, count, 0), name
    assert figure(server, "refused_deleted", "cacheflow_leases") == 1


def test_hits_of_an_entry(server):
    server("CACHE.SET", "k", "v", "EX", 60)
    for _ in range(3):
        fetch(server, "k")
    server("CACHE.STALE", "k")
    fetch(server, "k")
    assert meta(server, "k")["hits"] == 4, "reads answered with this value"


def test_meta_of_what_is_absent(server):
    assert meta(server, "n:k") is None
    token = grant(server, "n:k", "LEASE", 60_000)
    found = meta(server, "n:k")
    assert found["state"] == b"absent" and found["namespace"] == b"n" and found["tags"] == []
    assert 0 < found["lease-ms"] <= 60_000 and found["waiters"] == 0
    waiter = Waiter(server, "CACHE.FETCH", "n:k", "BLOCK", 0)
    assert meta(server, "n:k")["waiters"] == 1
    server("CACHE.SET", "n:k", "v", "LEASE", token)
    assert waiter.answer().state == b"FRESH"
    found = meta(server, "n:k")
    assert (found["state"], found["lease-ms"], found["waiters"]) == (b"fresh", 0, 0)
    lock = server("CACHE.LOCK", "l", 60_000)
    assert meta(server, "l")["state"] == b"absent" and held_for(server, "l") > 0
    server("CACHE.UNLOCK", "l", lock)
    assert meta(server, "l") is None


@several_databases
def test_databases_are_separate(server):
    other = server.connect(db=5)
    mine, theirs = grant(server, "k"), grant(other, "k")
    assert mine != theirs
    assert other("CACHE.SET", "k", "v", "LEASE", mine) is None, "not granted on this key"
    assert server("CACHE.SET", "k", "v", "LEASE", mine) == b"OK"
    assert fetch(other, "k").state == b"BUSY"
    assert other("CACHE.SET", "k", "w", "LEASE", theirs) == b"OK"
    assert fetch(server, "k").value == b"v" and fetch(other, "k").value == b"w"


def test_resp3_has_the_same_shapes(server):
    connection = server.connect(protocol=3)
    server("CACHE.SET", "k", "v", "TAGS", "a")
    assert connection("CACHE.FETCH", "k", "WITHTAGS") == [b"FRESH", b"v", None, -1, [b"a"]]
    missed = connection("CACHE.FETCH", "m", "LEASE", 5000)
    assert missed[:2] == [b"MISS", None] and isinstance(missed[2], int) and missed[3] == 5000
    assert connection("CACHE.FETCH", "m")[:3] == [b"BUSY", None, None]
    assert connection("CACHE.LOCK", "m", 5000) is None
    waiter = Waiter(server, "CACHE.FETCH", "m", "BLOCK", 0, "WITHTAGS", protocol=3)
    server("CACHE.SET", "m", "v", "LEASE", missed[2], "TAGS", "b")
    assert waiter.answer() == (b"FRESH", b"v", None, -1, [b"b"])


@pytest.mark.parametrize("there", [True, False])
def test_tracking_remembers_a_fetch(server, there):
    connection = server.connect(protocol=3)
    connection("CLIENT", "TRACKING", "ON")
    if there:
        server("CACHE.SET", "k", "v", "EX", 60)
    connection("CACHE.FETCH", "k")
    server("CACHE.SET", "k", "w", "EX", 60)
    assert connection.push() == [b"invalidate", [b"k"]]


def test_a_token_only_fills_what_it_is_for(server):
    token = grant(server, "k")
    for key, other in (("j", token), ("k", token - 1), ("k", token + 1), ("k", 1)):
        assert server("CACHE.SET", key, "v", "LEASE", other) is None
    assert fetch(server, "k").state == b"BUSY", "the lease stands"
    with pytest.raises(ReplyError):
        server("CACHE.SET", "k", "v", "LEASE", token, "NX")
    assert server("CACHE.TOUCH", "k", "LEASE", token) == 0, "nothing to touch"
    assert fetch(server, "k").state == b"MISS", "refused, it has ended all the same"
