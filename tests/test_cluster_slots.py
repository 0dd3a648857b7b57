"""Hash slots that move, by each way there is: what is cached in them arrives as it was, invalidations find
it where it is, and the node that it left has nothing of it any more."""

import itertools
import threading
import time

import pytest

from harness import topology
from harness.cluster import Cluster
from harness.dataset import namespaces
from harness.engines import ATOMIC_MIGRATION
from harness.leases import counted, refused
from harness.moving import WAYS, Moved, classic, gossip
from harness.resp import ReplyError, fields
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import figure, keys_of, tags_of

pytestmark = pytest.mark.topology("single")


@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """Two primaries, the first with a replica."""
    with Cluster(fleet, primaries=2, replicas=1, args=("--cluster-migration-barrier", 1)) as cluster:
        yield cluster


@pytest.fixture(name="cluster")
def fixture_cluster(shared, no_server_broke):
    """The cluster, empty."""
    shared.empty()
    for node in shared.primaries():
        node.config("cacheflow.max-clock-skew", 500)
    return shared


@pytest.fixture(name="move", params=["classic", pytest.param("atomic", marks=ATOMIC_MIGRATION)])
def fixture_move(request, shared):
    """A way to move slots."""
    return WAYS[request.param]


def entries(node):
    """Everything that the index counts."""
    return {name: figure(node, name) for name in ("entries", "memberships", "allocated_entries")}


def assert_verified(cluster):
    """Every node's index is its keyspace."""
    for node in cluster.nodes:
        topology.assert_verified(node)


def test_entries_arrive_as_they_were(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    was = {node: entries(node) for node in (source, moved.target)}
    source("CACHE.SET", key("fresh"), "fresh", "EX", 1000, "GRACE", 500, "COST", 7, "TAGS", moved.a, moved.b)
    source("CACHE.SET", key("endless"), b"\x00\r\n\xff" * 50, "TAGS", moved.a, b"\xff\x00")
    source("CACHE.SET", key("big"), "v" * 100_000, "EX", 1000)
    source("CACHE.SET", key("stale"), "stale", "EX", 1000, "GRACE", 1000)
    source("CACHE.STALE", key("stale"))
    source("CACHE.SET", key("soft"), "soft", "EX", 1000, "GRACE", 1000, "TAGS", f"soft{moved.a}")
    source("CACHE.INVALIDATE", "SOFT", "LOCAL", "TAGS", f"soft{moved.a}")
    source("CACHE.SET", key("limited"), "v", "EX", 1000, "GRACE", 1000)
    source("EXPIRE", key("limited"), 500)
    source("SET", key("native"), "n")
    names = ("fresh", "endless", "big", "stale", "soft", "limited")
    before = {name: (meta(source, key(name)), source("CACHE.GET", key(name), "STALE")) for name in names}
    ends = {name: source("PEXPIRETIME", key(name)) for name in names}
    target = moved.go(move)
    for name in names:
        (had, value), has = before[name], meta(target, key(name))
        assert target("CACHE.GET", key(name), "STALE") == value, name
        # MIGRATE sends the time that is left.
        assert abs(target("PEXPIRETIME", key(name)) - ends[name]) <= (1000 if move is classic else 0), name
        for field in ("state", "bytes", "cost-ms", "namespace", "tags"):
            assert sorted(has["tags"]) == sorted(had["tags"]) if field == "tags" else has[field] == had[field]
        passed = has["age-ms"] - had["age-ms"]
        assert 0 <= passed < 30_000 and (
            had["fresh-ms"] <= 0 or 0 <= had["fresh-ms"] - has["fresh-ms"] <= 30_000
        )
    assert target("CACHE.GET", key("native")) == b"n"
    assert (
        tags_of(target, key("fresh")) == [moved.a.encode(), moved.b.encode()]
        and len(keys_of(target, moved.a)) == 2
    )
    assert_verified(cluster)
    # What it took there is given back here.
    wait_for(lambda: entries(source) == was[source], "the trim, of what is not shown any more")
    # And is whole there: invalidations find it, and it leaves nothing behind.
    assert target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a) == 2
    assert target("CACHE.MGET", key("fresh"), key("endless")) == [None, None]
    target("DEL", *[key(name) for name in ("big", "stale", "soft", "limited", "native")])
    target.wait_swept()
    assert entries(target) == was[moved.target]
    for node in cluster.primaries():
        cluster.replica_of(node).wait_replica_of(node)
    assert_verified(cluster)


def test_replicas_see_what_their_primaries_got_and_lost(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    source("CACHE.SET", key("k"), "v", "EX", 1000, "TAGS", moved.a)
    source("CACHE.SET", key("dead"), "v", "EX", 1000, "TAGS", moved.b)
    moved.target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.b)
    target = moved.go(move)
    for node in (source, target):
        replica = cluster.replica_of(node)
        replica.wait_replica_of(node)
        wait_for(lambda node=node, replica=replica: entries(replica) == entries(node), "the replica's index")
    reader = cluster.replica_of(target).reader()
    assert reader("CACHE.GET", key("k")) == b"v"
    for connection in (reader, target):
        assert connection("CACHE.GET", key("dead"), "STALE") is None, "born before what its target knows of"
    assert_verified(cluster)


def test_an_entry_younger_than_what_the_target_invalidated_arrives(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    moved.target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a)
    source("CACHE.SET", key("doubtful"), "v", "TAGS", moved.a)
    time.sleep(0.6)
    source("CACHE.SET", key("young"), "v", "TAGS", moved.a)
    target = moved.go(move)
    assert target("CACHE.MGET", key("doubtful"), key("young")) == [None, b"v"]
    target.wait_swept()
    assert_verified(cluster)


def test_an_invalidation_during_the_migration_kills_here_and_there(cluster, move):
    """Sent to both nodes, as one that is not LOCAL is."""
    moved = Moved(cluster)
    source, key, count = moved.source, moved.key, 3000
    source.connect().pipeline(
        [("CACHE.SET", key(n), "v", "TAGS", moved.a, f"{moved.b}{n % 7}") for n in range(count)]
    )
    acknowledged = []
    end = threading.Event()

    def invalidate():
        connections = [node.connect() for node in (source, moved.target)]
        while not end.is_set():
            for connection in connections:
                connection("CACHE.INVALIDATE", "LOCAL", "TAGS", f"{moved.b}{len(acknowledged) % 7}")
            acknowledged.append(f"{moved.b}{len(acknowledged) % 7}")
            time.sleep(0.002)

    thread = threading.Thread(target=invalidate)
    thread.start()
    target = moved.go(move)
    end.set()
    thread.join()
    killed = set(acknowledged)
    assert killed, "at least one came in between"
    left = [n for n in range(count) if target("CACHE.GET", key(n)) is not None]
    assert not [n for n in left if f"{moved.b}{n % 7}" in killed]
    assert len(left) == sum(f"{moved.b}{n % 7}" not in killed for n in range(count)), "and no other died"
    source.wait_swept()
    target.wait_swept()
    assert_verified(cluster)


def test_settings_of_namespaces_stay_with_their_shard(cluster, move):
    """Set before, or meanwhile; a file's worth of the source's state is part of what is sent."""
    moved = Moved(cluster)
    source, key, count = moved.source, moved.key, 2000
    moved.target("CACHE.NAMESPACE", "SET", "both", "TTL", 7)
    source("CACHE.NAMESPACE", "SET", "both", "TTL", 5000, "MAXFILLS", 1)
    source.connect().pipeline([("CACHE.SET", key(n), "v", "EX", 1000) for n in range(count)])
    end = threading.Event()

    def change():
        connection = source.connect()
        for ttl in itertools.count(1):
            connection("CACHE.NAMESPACE", "SET", "changing", "TTL", ttl)
            if end.wait(0.002):
                return

    thread = threading.Thread(target=change)
    thread.start()
    target = moved.go(move)
    end.set()
    thread.join()
    assert sum(target("CACHE.GET", key(n)) == b"v" for n in range(count)) == count
    replica = cluster.replica_of(target)
    replica.wait_replica_of(target)
    assert namespaces(target) == namespaces(replica.reader()) == {b"both": [b"ttl", 7]}
    assert sorted(namespaces(source)) == [b"both", b"changing"]
    for node in cluster.primaries():
        for name in namespaces(node):
            node("CACHE.NAMESPACE", "DEL", name)
    assert_verified(cluster)


def test_writes_during_an_atomic_migration_arrive(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    source.connect().pipeline(
        [("CACHE.SET", key(n), "v" * 300, "EX", 1000, "TAGS", moved.a) for n in range(2000)]
    )
    written, end = {}, threading.Event()
    client = cluster.connect(home=source)

    def write():
        for n in itertools.count():
            if end.is_set():
                return
            name = key(n % 500)
            match n % 4:
                case 0:
                    assert client("CACHE.SET", name, n, "EX", 1000, "TAGS", "w") == b"OK"
                    written[name] = b"%d" % n
                case 1:
                    client("CACHE.TAG", name, "late")
                case 2:
                    client("CACHE.TOUCH", name, "EX", 2000)
                case 3:
                    client("CACHE.DEL", name)
                    written[name] = None

    thread = threading.Thread(target=write)
    thread.start()
    wait_for(lambda: len(written) > 20, "writes")
    target = moved.go(move)
    end.set()
    thread.join()
    for name, value in written.items():
        assert target("CACHE.GET", name) == value, name
    assert_verified(cluster)


@ATOMIC_MIGRATION
def test_an_atomic_migration_that_is_cancelled_leaves_nothing_behind(cluster):
    """The index knows of what is on its way here, which the server shows to nobody; and forgets it."""
    moved = Moved(cluster)
    # So many that it is not over before it is cancelled.
    source, target, key, count = moved.source, moved.target, moved.key, 20_000
    was = entries(target)
    source.connect().pipeline([("CACHE.SET", key(n), "v" * 3000, "TAGS", moved.a) for n in range(count)])
    try:
        target("CLUSTER", "MIGRATION", "IMPORT", moved.slot, moved.slot)
        cancel = (target, "CLUSTER", "MIGRATION", "CANCEL", "ALL")
    except ReplyError:
        source("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", moved.slot, moved.slot, "NODE", target.id)
        cancel = (source, "CLUSTER", "CANCELSLOTMIGRATIONS")
    wait_for(lambda: figure(target, "entries") > 0, "the first to arrive", pause=0.001)
    assert fields(target("CACHE.VERIFY"))["problems"] == []
    node, *command = cancel
    node(*command)
    assert cluster.node_of(moved.tag) is source
    wait_for(lambda: entries(target) == was, "the target to forget them")
    assert source("CACHE.GET", key(1)) == b"v" * 3000
    assert source("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a) == count
    source.wait_swept()
    assert_verified(cluster)


def test_locks_end_with_their_slot_and_tokens_grow(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    source("CACHE.SET", key("cached"), "v", "EX", 1000)
    other = moved.elsewhere()
    source("CACHE.LOCK", other, 600_000)
    tokens = {name: source("CACHE.LOCK", key(name), 600_000) for name in ("cached", "absent")}
    tokens["lease"] = source("CACHE.FETCH", key("lease"), "LEASE", 600_000)[2]
    target = moved.go(move)
    wait_for(lambda: (counted(source, "locks"), counted(source, "leases")) == (1, 0), "the end of what moved")
    assert counted(target, "locks") == 0, "neither a moved one nor another's"
    replicas = [cluster.replica_of(node) for node in (source, target)]
    for replica, node in zip(replicas, (source, target), strict=True):
        replica.wait_replica_of(node)
    assert [counted(replica, "locks") for replica in replicas] == [1, 0]
    for name, token in tokens.items():
        assert target("CACHE.UNLOCK", key(name), token) == 0
        assert target("CACHE.SET", key(name), "late", "LEASE", token) is None, "a fill of another node's"
        new = target("CACHE.LOCK", key(name), 1000)
        assert new > token
        assert target("CACHE.UNLOCK", key(name), new) == 1
    assert target("CACHE.MGET", *map(key, tokens)) == [b"v", None, None]
    assert source("CACHE.DEL", other) == 0
    assert_verified(cluster)


def test_a_token_does_not_fill_when_its_slot_is_back(cluster, move):
    """What the other node did with the key meanwhile nobody here knows."""
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    token = source("CACHE.FETCH", key("k"), "LEASE", 600_000)[2]
    target = moved.go(move)
    assert target("CACHE.SET", key("k"), "newer") == b"OK" and target("CACHE.DEL", key("k")) == 1
    wait_for(lambda: counted(source, "leases") == 0, "the end of the lease")
    move(cluster, [moved.slot], target, source)
    assert source("CACHE.SET", key("k"), "older", "LEASE", token) is None
    assert "unknown" in refused(source)


def test_a_slot_that_is_lost_by_gossip_leaves_nothing(cluster):
    """Another node claims it with a newer epoch, its keys are deleted, and nobody is told of them."""
    moved = Moved(cluster)
    source, target, key = moved.source, moved.target, moved.key
    was = entries(source)
    for n in range(100):
        source("CACHE.SET", key(n), "v", "EX", 1000, "TAGS", moved.a, f"{moved.b}{n}")
    source("CACHE.SET", moved.elsewhere(), "v", "TAGS", moved.a)
    source("CACHE.LOCK", key("lock"), 600_000)
    moved.go(gossip)
    wait_for(lambda: source("DBSIZE") == 1, "the keys to be deleted")
    wait_for(lambda: counted(source, "locks") == 0, "the end of the lock")
    assert_verified(cluster)
    assert len(keys_of(source, moved.a)) == 1
    assert source("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a) == 1
    source.wait_swept()
    assert entries(source) == was
    assert target("CACHE.GET", key(1)) is None
