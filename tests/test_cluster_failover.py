"""A cluster's replica: what it answers as one, and what it makes of its primary's tokens once promoted."""

import pytest

from harness.cluster import Cluster
from harness.dataset import digest
from harness.leases import Since, counted, fetch, gauges, lease, stats
from harness.resp import fields
from harness.server import wait_for
from harness.tagged import DEBUG, hold, let_go, turn_clock
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")


@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """Three primaries, each with a replica."""
    with Cluster(fleet, primaries=3, replicas=1, node_timeout=1000, module_args=DEBUG) as cluster:
        yield cluster


@pytest.fixture(name="cluster")
def fixture_cluster(shared, no_server_broke):
    """The cluster, empty, nothing held, the clocks alike."""
    for node in shared.nodes:
        turn_clock(node, 0)
    shared.empty()
    for node in shared.replicas():
        node.wait_replica_of(shared.primary_of(node))
    yield shared
    shared.wait_ok()
    for node in shared.nodes:
        assert_verified(node)


def kill(cluster, replica):
    """kill -9; the other primaries elect the replica."""
    old = cluster.primary_of(replica)
    cluster.kill(old)
    cluster.wait_promoted(replica, old)
    cluster.restart(old)


HOW = {
    "manual": lambda cluster, replica: cluster.failover(replica, "manual"),
    "force": lambda cluster, replica: cluster.failover(replica, "force"),
    "takeover": lambda cluster, replica: cluster.failover(replica, "takeover"),
    "kill": kill,
}


@pytest.mark.parametrize("how", HOW)
def test_the_promoted_refuses_fills_by_tokens_of_the_old(cluster, how):
    """Not stored, nil; a lock's token fills, for locks are replicated."""
    tag = f"{{{how}}}"
    old = cluster.node_of(tag)
    new = cluster.replica_of(old)
    keys = [f"{tag}{name}" for name in ("missing", "stale", "locked", "held", "touched")]
    missing, stale, locked, held, touched = keys
    for key in (stale, touched):
        old("CACHE.SET", key, "old", "EX", 1000, "GRACE", 1000, "TAGS", "t")
        old("CACHE.STALE", key)
    tokens = {key: old("CACHE.LOCK", key, 600_000) for key in (locked, held)}
    turn_clock(new, -300)  # its clock is behind
    new.wait_replica_of(old)
    # Last, for nobody tells the replica of them.
    tokens |= {key: lease(old, key, "LEASE", 600_000, "KEEP") for key in (missing, stale, touched)}
    HOW[how](cluster, new)
    assert gauges(new) == (0, 2, 0), "leases are the old primary's, locks the shard's"
    since = Since(new)
    for key in (missing, stale):
        assert new("CACHE.SET", key, "late", "LEASE", tokens[key]) is None
    assert new("CACHE.TOUCH", touched, "LEASE", tokens[touched], "EX", 10) == 0
    assert since("refused-fills") == 3 and since("fills") == 0
    assert new("CACHE.MGET", missing, stale) == [None, None] and new("CACHE.GET", stale, "STALE") == b"old"
    assert new("CACHE.SET", locked, "v", "LEASE", tokens[locked]) == b"OK"
    assert new("CACHE.LOCK", held, 1000) is None
    assert new("CACHE.UNLOCK", held, tokens[held]) == 1
    last = max(tokens.values())
    for key in (missing, stale, touched):
        token = fetch(new, key).token
        assert token > last, "tokens grow"
        last = token
        assert new("CACHE.SET", key, "new", "LEASE", token, "TAGS", "t") == b"OK"
    assert new("CACHE.LOCK", held, 1000) > last
    assert new("CACHE.UNLOCK", held, 1) == 0
    assert new("CACHE.INVALIDATE", "LOCAL", "TAGS", "t") == 3
    new("CACHE.DEL", *keys)


def test_what_was_invalidated_stays_so_after_a_failover(cluster):
    old = cluster.node_of("{inv}")
    new = cluster.replica_of(old)
    old("CACHE.SET", "{inv}k", "v", "TAGS", "inv")
    old("CACHE.SET", "{inv}other", "v", "TAGS", "other")
    payload = old("DUMP", "{inv}k")
    for node in (old, new):
        hold(node)
    assert old("CACHE.INVALIDATE", "LOCAL", "TAGS", "inv") == 1
    turn_clock(new, -300)
    new.wait_replica_of(old, swept=False)
    cluster.failover(new)
    assert new("CACHE.MGET", "{inv}k", "{inv}other") == [None, b"v"]
    new("RESTORE", "{inv}restored", 0, payload)
    assert new("CACHE.GET", "{inv}restored", "STALE") is None
    new("CACHE.SET", "{inv}k", "again", "TAGS", "inv")
    assert new("CACHE.GET", "{inv}k") == b"again"
    for node in (new, old):
        let_go(node)
    wait_for(lambda: new("DBSIZE") == 2, "the sweep that the old one had not done")


# --- reads on a replica -----------------------------------------------------------------------------
READS = (
    ("CACHE.GET", "{r}fresh"),
    ("CACHE.GET", "{r}stale"),
    ("CACHE.GET", "{r}stale", "STALE"),
    ("CACHE.GET", "{r}dead", "STALE"),
    ("CACHE.GET", "{r}native"),
    ("CACHE.MGET", "{r}fresh", "{r}stale", "{r}none", "{r}native", "{r}dead"),
    ("CACHE.FETCH", "{r}fresh", "WITHTAGS"),
    ("CACHE.FETCH", "{r}stale"),
    ("CACHE.FETCH", "{r}stale", "MAXSTALE", 0),
    ("CACHE.FETCH", "{r}none", "BLOCK", 60_000),
    ("CACHE.FETCH", "{r}dead", "BLOCK", 0),
    ("CACHE.META", "{r}fresh"),
)
WRITES = (
    ("CACHE.SET", "{r}fresh", "w"),
    ("CACHE.DEL", "{r}fresh"),
    ("CACHE.LOCK", "{r}fresh", 1000),
    ("CACHE.TAG", "{r}fresh", "x"),
    ("CACHE.APPLY", "{r}fresh", 0, b"\x01\x00\x01", "v"),
)


@pytest.fixture(name="shard")
def fixture_shard(cluster):
    """A primary with one of everything, and its replica in step."""
    primary = cluster.node_of("{r}")
    replica = cluster.replica_of(primary)
    for node in (primary, replica):
        hold(node)
    primary("CACHE.SET", "{r}fresh", "v", "EX", 1000, "GRACE", 1000, "TAGS", "t")
    primary("CACHE.SET", "{r}stale", "s", "EX", 1000, "GRACE", 1000)
    primary("CACHE.STALE", "{r}stale")
    primary("CACHE.SET", "{r}dead", "d", "TAGS", "dead")
    primary("CACHE.INVALIDATE", "LOCAL", "TAGS", "dead")
    primary("SET", "{r}native", "n")
    replica.wait_replica_of(primary, swept=False)
    yield primary, replica
    for node in (primary, replica):
        let_go(node)


def test_a_replica_answers_by_the_rules_of_its_primary_after_readonly(shard):
    primary, replica = shard
    reader = replica.reader()
    for command in READS:
        if command[0] in ("CACHE.GET", "CACHE.MGET"):
            assert reader(*command) == primary(*command), command
    assert fetch(reader, "{r}fresh", "WITHTAGS")[:3] == (b"FRESH", b"v", None)
    assert fetch(reader, "{r}fresh", "WITHTAGS").tags == [b"t"]
    assert fetch(reader, "{r}stale")[:3] == (b"STALE", b"s", None), "never a token"
    assert fetch(reader, "{r}stale", "MAXSTALE", 0) == (b"BUSY", None, None, 0, None)
    for key in ("{r}none", "{r}dead"):
        assert fetch(reader, key, "BLOCK", 60_000) == (b"BUSY", None, None, 0, None), "nor a wait"


def test_without_readonly_it_sends_to_the_primary(shard):
    primary, replica = shard
    connection = replica.connect()
    slot = connection("CLUSTER", "KEYSLOT", "{r}")
    for command in (*READS, *WRITES):
        connection.send(*command)
        assert str(connection.read()) == f"MOVED {slot} 127.0.0.1:{primary.port}", command
    reader = replica.reader()
    for command in WRITES:
        reader.send(*command)
        assert str(reader.read()) == f"MOVED {slot} 127.0.0.1:{primary.port}", command


def test_a_replica_changes_nothing_on_its_own(shard):
    primary, replica = shard
    reader = replica.reader()

    def state(node):
        counters = ("grants", "fills", "waits", "promotions", "early-elections")
        return (
            [fields(node("CACHE.VERIFY")), gauges(node), counted(node, "leases")],
            [stats(node)[name] for name in counters],
            node.info("replication")["master_repl_offset"],
        )

    primary.config("repl-ping-replica-period", 3600)
    replica.wait_replica_of(primary, swept=False)
    before = state(replica)
    for _ in range(3):
        for command in READS:
            reader(*command)
    assert reader("EXISTS", "{r}dead") == 1, "its primary sweeps it"
    assert state(replica) == before
    let_go(primary)
    let_go(replica)
    replica.wait_replica_of(primary)
    assert digest(replica) == digest(primary)
    assert reader("EXISTS", "{r}dead") == 0
    primary.config("repl-ping-replica-period", 10)
