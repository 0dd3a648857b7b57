"""The harness's clusters: what its methods bring about is so, and its client finds its way."""

import threading
import time

import pytest

from harness.cluster import SLOTS, Cluster, ranges
from harness.cluster_client import slot_of
from harness.engines import ATOMIC_MIGRATION
from harness.resp import ReplyError
from harness.server import wait_for

pytestmark = pytest.mark.topology("single")

VALUE = b"\x00\r\n\xff value"


@pytest.fixture(scope="module")
def cluster(fleet):
    """One for all tests of this file; each leaves it well, in other roles than it found maybe."""
    with Cluster(fleet, module=None) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def empty(cluster):
    """No keys, and a client."""
    cluster.wait_ok()
    for node in cluster.primaries():
        node.ask("FLUSHALL")
    yield
    for node in cluster.nodes:
        node.close_connections()


def in_slot_of(node, count):
    """Keys of one slot that a node owns, with bytes in them."""
    first, _ = node.view()[node.id].slots[0]
    tag = next(f"{n}" for n in range(10**6) if slot_of(f"{n}") == first)
    return first, [b"%d\x00\r\n{%s}\xff" % (n, tag.encode()) for n in range(count)]


def test_slots_are_the_servers(cluster):
    node = cluster.nodes[0]
    for key in ("", "a", "a{b}c", "{}x", "{x", "a{}{b}", "{{b}}", b"\x00{\xff\r\n}", "123456789"):
        assert slot_of(key) == node.ask("CLUSTER", "KEYSLOT", key), key
    assert ranges([3, 1, 2, 9, 11, 10, 5]) == [1, 3, 5, 5, 9, 11]


def test_it_is_formed(cluster):
    primaries, replicas = cluster.primaries(), cluster.replicas()
    assert (len(primaries), len(replicas)) == (3, 3)
    for primary in primaries:
        replica = cluster.replica_of(primary)
        assert cluster.primary_of(replica) is primary and replica in replicas
    assert len({cluster.node_of_slot(slot) for slot in (0, SLOTS // 2, SLOTS - 1)}) == 3
    assert cluster.node_of("a") is cluster.node_of("b{a}c")


def test_the_client_routes_by_key_and_asks_home_without_one(cluster):
    connection = cluster.connect(home=cluster.primaries()[2])
    keys = [f"key-{n}" for n in range(90)]
    assert connection.pipeline([("SET", key, n) for n, key in enumerate(keys)]) == [b"OK"] * 90
    assert [connection("GET", key) for key in keys] == [b"%d" % n for n in range(90)]
    for node in cluster.primaries():
        owned = [key for key in keys if cluster.node_of(key) is node]
        assert 10 < len(owned) == node.ask("DBSIZE")
    assert connection("DBSIZE") == cluster.primaries()[2].ask("DBSIZE")
    for key in keys[:20]:
        assert connection("OBJECT", "ENCODING", key) == b"int", "a subcommand's key"
        assert connection("EVAL", "return redis.call('GET', KEYS[1])", 1, key), "a key that is counted"
        assert connection("XADD", f"x{key}", "*", "f", "v")
        assert connection("XREAD", "COUNT", 1, "STREAMS", f"x{key}", 0), "a key after a word"
    with pytest.raises(ReplyError, match="CROSSSLOT"):
        connection("MGET", "a", "b")
    with pytest.raises(ReplyError, match="wrong number"):
        connection("GET")


def test_the_client_sends_first_and_reads_later(cluster):
    connection = cluster.connect()
    for n in range(30):
        connection.send("SET", f"k{n}", n)
        connection.send("GET", f"k{n}")
    for n in range(30):
        assert connection.read() == b"OK" and connection.read() == b"%d" % n
    for key in ("a", "b", "c", "d"):
        assert connection("WATCH", key) == connection("MULTI") == b"OK"
        assert connection("SET", key, 1) == b"QUEUED"
        assert connection("EXEC") == [b"OK"]
        assert connection.transaction(("INCR", key), ("GET", key)) == [2, b"2"]


def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica(cluster):
    old = cluster.node_of("a")
    replica = cluster.replica_of(old)
    connection = cluster.connect(home=cluster.node_of("b"))
    assert connection("SET", "a", VALUE) == b"OK" and old is not cluster.node_of("b")
    replica.wait_replica_of(old)
    cluster.kill(old)
    assert old not in cluster.primaries()
    cluster.wait_promoted(replica, old)
    assert connection("GET", "a") == VALUE, "found the new one"
    cluster.restart(old)
    cluster.wait_ok()
    assert cluster.primary_of(old) is replica


@pytest.mark.parametrize("how", ["manual", "force", "takeover"])
def test_failover(cluster, how):
    key = {"manual": "b", "force": "c", "takeover": "d"}[how]  # a and d are of one shard
    old = cluster.node_of(key)
    replica = cluster.replica_of(old)
    connection = cluster.connect()
    connection("SET", key, VALUE)
    replica.wait_replica_of(old)
    cluster.failover(replica, how)
    assert cluster.node_of(key) is replica and cluster.primary_of(old) is replica
    assert connection("GET", key) == VALUE, "MOVED"
    cluster.wait_ok()


def test_a_paused_node_is_not_asked(cluster):
    replica = cluster.replicas()[0]
    cluster.pause(replica)
    assert replica not in cluster.replicas() and len(cluster.nodes) == 6
    cluster.resume(replica)
    cluster.wait_ok()
    assert replica in cluster.replicas()


def test_slots_are_moved_key_by_key(cluster):
    source, target, _ = cluster.primaries()
    slot, keys = in_slot_of(source, 30)
    connection = cluster.connect(home=source)
    for key in keys:
        connection("SET", key, VALUE)
    cluster.begin_move(slot, source, target)
    assert connection("SET", keys[0] + b"new", "v") == b"OK", "ASK"
    assert target.ask("DBSIZE") == 1 and cluster.node_of_slot(slot) is source
    threading.Timer(0.3, cluster.move_keys, (slot, source, target, 7)).start()
    assert connection("MGET", keys[0], keys[0] + b"new") == [VALUE, b"v"], "TRYAGAIN"
    wait_for(lambda: source.ask("DBSIZE") == 0, "the keys' move")
    assert connection.transaction(("GET", keys[1]), ("GET", keys[2])) == [VALUE, VALUE]
    cluster.end_move(slot, source, target)
    cluster.move_slots([slot + 1, slot + 2], source, target)
    cluster.wait_ok()
    assert cluster.node_of_slot(slot) is cluster.node_of_slot(slot + 2) is target
    assert [connection("GET", key) for key in keys] == [VALUE] * 30
    assert target.ask("DBSIZE") == 31


@ATOMIC_MIGRATION
def test_slots_are_moved_in_one_go(cluster):
    source, target, _ = cluster.primaries()
    slot, keys = in_slot_of(source, 30)
    connection = cluster.connect(home=source)
    for key in keys:
        connection("SET", key, VALUE)
    for slots in ([slot, slot + 2, slot + 3], [slot + 1]):
        cluster.move_slots_atomically(slots, source, target)
    cluster.wait_ok()
    assert cluster.node_of_slot(slot) is cluster.node_of_slot(slot + 3) is target
    assert [connection("GET", key) for key in keys] == [VALUE] * 30
    wait_for(lambda: source.ask("DBSIZE") == 0, "the source to forget them")


def test_shards_come_and_go(cluster):
    connection = cluster.connect()
    before = set(cluster.nodes)
    primary, replica = cluster.add_shard()
    assert cluster.replica_of(primary) is replica and len(cluster.primaries()) == 4
    source = cluster.node_of("a")
    connection("SET", "a", VALUE)
    cluster.move_slots([slot_of("a")], source, primary)
    assert connection("GET", "a") == VALUE and cluster.node_of("a") is primary
    cluster.remove_shard(primary)
    assert set(cluster.nodes) == before and connection("GET", "a") == VALUE
    assert all(len(node.view()) == 6 for node in cluster.nodes)


def test_it_is_not_ok_while_a_node_is_gone(cluster):
    assert cluster.ok()
    node = cluster.node_of("b")
    replica = cluster.replica_of(node)
    cluster.pause(node)
    try:
        assert not cluster.ok(), "its replica has no primary"
        cluster.wait_promoted(replica, node)
    finally:
        cluster.resume(node)
    cluster.wait_ok()
    assert cluster.primary_of(node) is replica


def test_a_client_gives_up_in_its_time(cluster):
    node = cluster.node_of("a")
    slot = slot_of("a")
    connection = cluster.connect(patience=0.3)
    node.ask("CLUSTER", "DELSLOTS", slot)
    began = time.monotonic()
    with pytest.raises(ReplyError, match="CLUSTERDOWN"):
        connection("SET", "a", 1)
    assert 0.3 <= time.monotonic() - began < 5
    node.ask("CLUSTER", "ADDSLOTS", slot)
    assert cluster.connect()("SET", "a", 1) == b"OK", "waited until it is up again"
