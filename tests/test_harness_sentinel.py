"""The harness's sentinels: what its methods bring about is so; and what a failover leaves of what the
module promised."""

import pytest

from harness.sentinel import Sentinel
from harness.topology import assert_replicated, assert_verified

pytestmark = pytest.mark.topology("single")


@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """A primary, two replicas, three sentinels."""
    sentinel = Sentinel(fleet)
    yield sentinel
    sentinel.end()


@pytest.fixture(name="sentinel")
def fixture_sentinel(shared, no_server_broke):
    """All well, and empty."""
    for server in shared.servers + shared.sentinels:
        server.close_connections()
    shared.wait_ok()
    shared.primary()("FLUSHALL")
    yield shared
    assert_replicated(shared.primary(), shared.replicas())
    for server in shared.servers:
        assert_verified(server)


def kill(sentinel):
    """kill -9 the primary; the new one is returned once the old one is its replica."""
    old = sentinel.primary()
    sentinel.kill(old)
    new = sentinel.wait_replaced(old)
    sentinel.restart(old)
    return new


HOW = {"failover": Sentinel.failover, "kill": kill}
failovers = pytest.mark.parametrize("how", HOW)


@failovers
def test_another_becomes_the_primary_and_the_old_one_its_replica(sentinel, how):
    old, replicas = sentinel.primary(), sentinel.replicas()
    assert len(replicas) == 2 and len(sentinel.sentinels) == 3
    old("SET", "k", "v")
    for replica in replicas:
        replica.wait_replica_of(old)
    new = HOW[how](sentinel)
    assert new is sentinel.primary() and new in replicas and old in sentinel.replicas()
    assert new("GET", "k") == b"v" and new("SET", "k", "w") == b"OK"
    for replica in sentinel.replicas():
        replica.wait_replica_of(new)
        assert replica("GET", "k") == b"w"
        assert replica.error("SET", "k", "x").startswith("READONLY")


def test_a_dead_replica_and_a_dead_sentinel_come_back(sentinel):
    primary, (replica, _) = sentinel.primary(), sentinel.replicas()
    sentinel.kill(replica)
    assert not sentinel.alive()
    primary("SET", "k", "v")
    sentinel.restart(replica)
    replica.wait_replica_of(primary)
    assert replica("GET", "k") == b"v" and sentinel.primary() is primary
    watcher = sentinel.sentinels[0]
    watcher.kill9()
    watcher.restart()
    sentinel.wait_ok()
    assert sentinel.alive() and watcher.primary_port() == primary.port


@failovers
def test_tokens_grow_and_what_was_invalidated_stays_so(sentinel, how):
    old = sentinel.primary()
    for key, tag in (("dead", "gone"), ("stale", "soft"), ("alive", "other"), ("n:dead", "other")):
        old("CACHE.SET", key, "v", "EX", 1000, "GRACE", 1000, "TAGS", tag)
    dumps = {key: old("DUMP", key) for key in ("dead", "n:dead", "alive")}
    assert old("CACHE.INVALIDATE", "TAGS", "gone") == 1
    assert old("CACHE.INVALIDATE", "SOFT", "TAGS", "soft") == 1
    assert old("CACHE.INVALIDATE", "NAMESPACE", "n") == 1
    held = old("CACHE.LOCK", "held", 600_000)
    for replica in sentinel.replicas():
        replica.wait_replica_of(old)
    last = old("CACHE.FETCH", "k", "LEASE", 600_000)[2]  # of which nobody tells a replica
    assert last > held
    for _ in range(2):
        new = HOW[how](sentinel)
        assert new is not old
        assert new("CACHE.MGET", "dead", "stale", "alive", "n:dead") == [None, None, b"v", None]
        assert new("CACHE.GET", "stale", "STALE") == b"v"
        for key, payload in dumps.items():
            new("RESTORE", f"{key}-restored", 0, payload, "REPLACE")
        restored = [f"{key}-restored" for key in dumps]
        assert new("CACHE.MGET", *restored) == [None, None, b"v"]
        assert new("CACHE.SET", "k", "late", "LEASE", last) is None, "a lease of the old primary"
        assert new("CACHE.LOCK", "held", 1000) is None, "held"
        for key in ("lock", "other"):
            token = new("CACHE.LOCK", key, 600_000)
            assert token > last, "tokens grow"
            last = token
            assert new("CACHE.UNLOCK", key, token) == 1
        for replica in sentinel.replicas():
            replica.wait_replica_of(new)
        old = new
    assert old("CACHE.UNLOCK", "held", held) == 1
