"""Native keys' tags on replicas, and on those that are promoted: a replica has what its primary has and
ends nothing by itself; promoted, it does what a primary does."""

import pytest

from harness.cluster import Cluster
from harness.native import (
    assert_nothing,
    await_nothing,
    companion,
    companions,
    kinds,
    make,
    outcome,
    tagged,
)
from harness.resp import ReplyError
from harness.sentinel import Sentinel
from harness.server import wait_for
from harness.tagged import all_tags, keys_of, tags_of
from harness.topology import assert_replicated, assert_verified

single = pytest.mark.topology("single")
replicated = pytest.mark.topology("replica")


# --- a replica -------------------------------------------------------------------------------------
@replicated
def test_a_replica_shows_what_its_primary_does(topology):
    primary, replica = topology.primary, topology.replica
    listed = kinds(primary)
    for kind in listed:
        tagged(primary, kind, kind, "a", kind)
        make(primary, kind, f"plain {kind}")
    replica.wait_replica_of(primary)
    for server in (primary, replica):
        assert keys_of(server, "a") == sorted(map(str.encode, listed))
        assert all_tags(server) == {b"a": len(listed), **{kind.encode(): 1 for kind in listed}}
        assert [tags_of(server, kind) for kind in listed] == [
            sorted([b"a", kind.encode()]) for kind in listed
        ]
    assert companions(primary) == companions(replica)
    assert primary("CACHE.INVALIDATE", "TAGS", "a") == len(listed)
    replica.wait_replica_of(primary)
    assert all_tags(replica) == {} and companions(replica) == [] and replica("DBSIZE") == len(listed)


@replicated
def test_a_replica_removes_what_its_primary_removes_and_nothing_else(topology):
    """Expiry: the replica's clock ends no key; a companion goes when its primary says so."""
    primary, replica = topology.primary, topology.replica
    for kind in kinds(primary):
        tagged(primary, kind, "k", "a")
        primary("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        primary("PEXPIRE", "k", 1)
        replica.wait_replica_of(primary)
        wait_for(lambda: replica("EXISTS", "k") == 0, "the end of 1 ms")
        # The primary's walk may have found it meanwhile.
        assert len(companions(replica)) == 1 or companions(primary) == [], "the primary has not said so"
        assert replica("CACHE.META", "k") is None
        assert primary("EXISTS", "k") == 0
        replica.wait_replica_of(primary)
        assert_nothing(primary, kind)
        assert_nothing(replica, kind)
    for request in (("CACHE.TAG", "k", "a"), ("CACHE.UNTAG", "k", "a"), ("CACHE.INVALIDATE", "TAGS", "a")):
        assert isinstance(outcome(replica, *request), ReplyError), request


@replicated
@pytest.mark.parametrize(
    "command",
    ["DEL k", "UNLINK k", "RENAME k other", "COPY k other", "SET k w", "SPOP k 9", "PEXPIRE k 1", "MOVE k 1"],
)
def test_one_removal_on_each(topology, command):
    """The pair goes by the same commands on both: compared by the digest afterwards."""
    primary, replica = topology.primary, topology.replica
    tagged(primary, "set", "k", "a", "b")
    replica.wait_replica_of(primary)
    primary(*command.split())
    wait_for(lambda: not command.startswith("PEXPIRE") or primary("EXISTS", "k") == 0, "the end of 1 ms")
    assert_replicated(primary, [replica])
    assert all_tags(primary) == all_tags(replica)
    assert companions(primary) == companions(replica)


@replicated
@pytest.mark.parametrize("link", ["partial", "full"])
def test_a_replica_that_was_away(topology, link):
    primary, replica = topology.primary, topology.replica
    listed = kinds(primary)
    for kind in listed:
        for name in ("stays", "goes", "dies", "new"):
            make(primary, kind, f"{kind} {name}")
        primary("CACHE.TAG", f"{kind} stays", "a")
        primary("CACHE.TAG", f"{kind} goes", "a", "b")
        primary("CACHE.TAG", f"{kind} dies", "c", "a")
    replica.wait_replica_of(primary)
    replica.pause()
    try:
        for kind in listed:
            primary("DEL", f"{kind} goes")
            primary("CACHE.TAG", f"{kind} new", "a", kind)
        primary("CACHE.INVALIDATE", "TAGS", "c")
        if link == "full":
            primary("DEBUG", "CHANGE-REPL-ID")
        primary("CLIENT", "KILL", "TYPE", "replica")
    finally:
        replica.resume()
    replica.wait_replica_of(primary)
    assert all_tags(replica) == all_tags(primary)
    assert all_tags(replica)[b"a"] == 2 * len(listed)
    assert replica("DBSIZE") == 4 * len(listed)


@replicated
def test_promoted_it_ends_pairs_itself(topology):
    """REPLICAOF NO ONE, then back: what it did as a primary is undone by its own."""
    primary, replica = topology.primary, topology.replica
    for kind in kinds(primary):
        tagged(primary, kind, f"{kind} a", "a")
        tagged(primary, kind, f"{kind} b", "a")
        tagged(primary, kind, f"{kind} c", "b", "c")
    replica.wait_replica_of(primary)
    replica("REPLICAOF", "NO", "ONE")
    try:
        for kind in kinds(primary):
            assert replica("DEL", f"{kind} a") == 1
            replica("PEXPIRE", f"{kind} b", 1)
        wait_for(lambda: not any(replica("EXISTS", f"{kind} b") for kind in kinds(replica)), "expiry")
        count = len(kinds(replica))
        assert all_tags(replica) == {b"b": count, b"c": count} and replica("DBSIZE") == 2 * count
        assert replica("DEL", *[f"{kind} c" for kind in kinds(replica)]) == count
        assert_nothing(replica)
        tagged(replica, "hash", "own", "x")
    finally:
        replica("REPLICAOF", "127.0.0.1", primary.port)
    replica.wait_replica_of(primary)
    assert tags_of(replica, "own") is None and all_tags(replica) == all_tags(primary)


# --- sentinels -------------------------------------------------------------------------------------
@single
@pytest.mark.slow
@pytest.mark.parametrize("how", ["failover", "kill"])
def test_under_sentinels(fleet, no_server_broke, how):
    sentinel = Sentinel(fleet)
    try:
        old = sentinel.primary()
        listed = kinds(old)
        for kind in listed:
            tagged(old, kind, f"{kind} k", "a", kind)
            tagged(old, kind, f"{kind} j", "b")
            tagged(old, kind, f"{kind} dead", "c", "a")
        assert old("CACHE.INVALIDATE", "TAGS", "c") == len(listed)
        for replica in sentinel.replicas():
            replica.wait_replica_of(old)
        if how == "kill":
            sentinel.kill(old)
            new = sentinel.wait_replaced(old)
            sentinel.restart(old)
        else:
            new = sentinel.failover()
        assert all_tags(new) == {b"a": len(listed), b"b": len(listed)} | {kind.encode(): 1 for kind in listed}
        assert new("CACHE.INVALIDATE", "TAGS", "b") == len(listed)
        assert new("DEL", *[f"{kind} k" for kind in listed]) == len(listed)
        assert_nothing(new)
        tagged(new, "hash", "later", "a")
        assert_replicated(new, sentinel.replicas())
        for server in sentinel.servers:
            assert_verified(server)
            assert tags_of(server, "later") == [b"a"]
    finally:
        sentinel.end()


# --- a cluster -------------------------------------------------------------------------------------
@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """Three primaries, each with a replica."""
    with Cluster(fleet, primaries=3, replicas=1, node_timeout=1000) as cluster:
        yield cluster


@pytest.fixture(name="cluster")
def fixture_cluster(shared, no_server_broke):
    """The cluster, empty; checked afterwards."""
    shared.empty()
    for node in shared.replicas():
        node.wait_replica_of(shared.primary_of(node))
    yield shared
    shared.wait_ok()
    for node in shared.nodes:
        assert_verified(node)


@single
@pytest.mark.parametrize("how", ["manual", "takeover"])
def test_a_promoted_node_of_a_cluster(cluster, how):
    old = cluster.node_of(f"{{{how}}}")
    new = cluster.replica_of(old)
    names = [f"{{{how}}}{kind}" for kind in kinds(old)]
    for kind, name in zip(kinds(old), names, strict=True):
        tagged(old, kind, name, "a", "b")
        tagged(old, kind, f"{name} other", "b")
    old("CACHE.INVALIDATE", "LOCAL", "TAGS", "none")
    new.wait_replica_of(old)
    cluster.failover(new, how)
    assert keys_of(new, "a") == sorted(map(str.encode, names))
    assert new("DEL", names[0]) == 1
    assert new("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") == len(names) - 1
    new.wait_swept()
    assert new("CACHE.INVALIDATE", "LOCAL", "TAGS", "b") == len(names)
    await_nothing(new)


@single
def test_an_invalidation_reaches_native_keys_of_every_shard(cluster):
    """Sent to any node, also in a transaction; removed there as here, and on their replicas."""
    client = cluster.connect()
    for at, node in enumerate(cluster.primaries()):
        names = [f"k{n}" for n in range(60)]
        for name in names:
            client("HSET", name, "f", "v")
            assert client("CACHE.TAG", name, "a", f"n{at}") == 2
        assert node("CACHE.INVALIDATE", "TIMEOUT", 0, "TAGS", "a") == len(names)
        assert sum(client("EXISTS", name) for name in names) == 0
        for primary in cluster.primaries():
            assert_nothing(primary)
            cluster.replica_of(primary).wait_replica_of(primary)
            assert cluster.replica_of(primary).reader()("DBSIZE") == 0


@single
def test_a_companion_is_routed_as_its_key(cluster):
    """A client that deletes a companion finds it where the key is."""
    client = cluster.connect()
    for name in ("a", "{}b", "c{d}e", "{", b"\x00{}\xff"):
        client("HSET", name, "f", "v")
        assert client("CACHE.TAG", name, "t") == 1
        node = cluster.node_of(name)
        own = companion(node)
        assert cluster.node_of(own) is node and client("DEL", own) == 1
        wait_for(lambda name=name: client("EXISTS", name) == 0, "its key's end")
        await_nothing(node, name)
