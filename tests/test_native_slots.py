"""Native keys with tags in hash slots that move, by each way there is: key by key, many in a command, as a
whole. Both halves arrive, whatever order they come in, and what was invalidated meanwhile does not."""

import threading
import time

import pytest

from harness.cluster import Cluster
from harness.engines import ATOMIC_MIGRATION
from harness.moving import WAYS, Moved, gossip
from harness.native import (
    assert_nothing,
    await_nothing,
    companions,
    kinds,
    make,
    tagged,
)
from harness.server import wait_for
from harness.tagged import all_tags, keys_of, tags_of
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")


@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """Two primaries, each with a replica."""
    with Cluster(fleet, primaries=2, replicas=1, module_args=("max-clock-skew", "0")) as cluster:
        yield cluster


@pytest.fixture(name="cluster")
def fixture_cluster(shared, no_server_broke):
    """The cluster, empty; its replicas are compared afterwards, and every index."""
    shared.empty()
    yield shared
    for node in shared.primaries():
        replica = shared.replica_of(node)
        replica.wait_replica_of(node)
        wait_for(lambda a=node, b=replica: all_tags(a) == all_tags(b.reader()), "the replica's tags")
    for node in shared.nodes:
        assert_verified(node)


def in_batches(cluster, slots, source, target):
    """Many keys in one MIGRATE."""
    cluster.move_slots(slots, source, target, count=100)


MOVES = {**WAYS, "batches": in_batches}


@pytest.fixture(
    name="move",
    params=["classic", "batches", pytest.param("atomic", marks=ATOMIC_MIGRATION)],
)
def fixture_move(request, shared):
    """A way to move slots that moves their keys."""
    return MOVES[request.param]


def test_pairs_arrive_as_pairs(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    listed = kinds(source)
    for kind in listed:
        tagged(source, kind, key(kind), moved.a, kind, b"\x00\xff")
        tagged(source, kind, key(f"{kind} ttl"), moved.b)
        source("EXPIRE", key(f"{kind} ttl"), 1000)
        make(source, kind, key(f"{kind} plain"))
    stays = moved.elsewhere()
    tagged(source, "hash", stays, moved.a)
    source("CACHE.SET", key("entry"), "v", "TAGS", moved.a)
    target = moved.go(move)
    for kind in listed:
        assert tags_of(target, key(kind)) == sorted([moved.a.encode(), kind.encode(), b"\x00\xff"])
        assert tags_of(target, key(f"{kind} ttl")) == [moved.b.encode()]
        assert 0 < target("TTL", key(f"{kind} ttl")) <= 1000
        assert tags_of(target, key(f"{kind} plain")) == []
    assert len(companions(target)) == 2 * len(listed) and target("DBSIZE") == 5 * len(listed) + 1
    wait_for(lambda: all_tags(source) == {moved.a.encode(): 1}, "the source to forget them")
    assert len(companions(source)) == 1 and source("DBSIZE") == 2
    assert_verified(source)
    assert source("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a, moved.b) == 1
    assert_nothing(source)
    assert target("DEL", key("hash ttl")) == 1
    assert target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.b) == len(listed) - 1
    assert target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a) == len(listed) + 1
    target.wait_swept()
    assert companions(target) == [] and target("DBSIZE") == len(listed)


def test_there_and_back(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    for kind in kinds(source):
        tagged(source, kind, key(kind), moved.a)
    target = moved.go(move)
    assert target("CACHE.UNTAG", key("hash"), moved.a) == 1 and target("CACHE.TAG", key("hash"), moved.b) == 1
    move(cluster, [moved.slot], target, source)
    assert tags_of(source, key("hash")) == [moved.b.encode()]
    assert len(keys_of(source, moved.a)) == len(kinds(source)) - 1
    wait_for(lambda: all_tags(target) == {}, "the other node to forget them")
    assert source("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a, moved.b) == len(kinds(source))
    await_nothing(source)
    await_nothing(target)


@pytest.mark.parametrize("halves", ["key", "companion"])
@pytest.mark.parametrize("invalidated", ["no", "between", "before", "by another"])
def test_the_halves_one_after_the_other(cluster, halves, invalidated):
    """A slot on its way, MIGRATE of one half at a time: what the source removes because it is elsewhere takes
    nothing along."""
    moved = Moved(cluster)
    source, target, key = moved.source, moved.target, moved.key
    for kind in kinds(source):
        tagged(source, kind, key(kind), moved.a, moved.b)
    cluster.begin_move(moved.slot, source, target)
    own = companions(source)
    names = [name.decode() for name in own], [key(kind) for kind in kinds(source)]
    first, second = names if halves == "companion" else names[::-1]
    if invalidated == "before":
        target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a)
    for part in (first, second):
        for name in part:
            source("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", name)
        if part is first and invalidated == "between":
            for node in (source, target):
                node("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a)
        if part is first and invalidated == "by another":
            for node in (source, target):
                node("CACHE.INVALIDATE", "LOCAL", "TAGS", f"other {moved.a}")
    cluster.end_move(moved.slot, source, target)
    cluster.wait_owned([moved.slot], target)
    await_nothing(source)
    if invalidated in ("before", "between"):
        await_nothing(target, "what was invalidated does not arrive")
    else:
        count = len(kinds(source))
        assert all_tags(target) == {moved.a.encode(): count, moved.b.encode(): count}
        assert target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.b) == count
        assert_nothing(target)


def test_invalidations_during_the_migration(cluster, move):
    """Sent to both nodes, as one that is not LOCAL is: nothing that they name is left, all else is."""
    moved = Moved(cluster)
    source, key, count = moved.source, moved.key, 1000
    connection = source.connect()
    connection.pipeline([("HSET", key(n), "f", n) for n in range(count)])
    connection.pipeline([("CACHE.TAG", key(n), moved.a, f"{moved.b}{n % 7}") for n in range(count)])
    acknowledged, end = [], threading.Event()

    def invalidate():
        connections = [node.connect() for node in (source, moved.target)]
        while not end.is_set():
            for connection in connections:
                connection("CACHE.INVALIDATE", "LOCAL", "TAGS", f"{moved.b}{len(acknowledged) % 5}")
            acknowledged.append(len(acknowledged) % 5)
            time.sleep(0.01)

    thread = threading.Thread(target=invalidate)
    thread.start()
    wait_for(lambda: acknowledged, "the first")
    target = moved.go(move)
    end.set()
    thread.join()
    killed = set(acknowledged)
    expected = {key(n).encode() for n in range(count) if n % 7 not in killed}
    wait_for(lambda: target("DBSIZE") == 2 * len(expected), "what was invalidated to be gone")
    assert set(keys_of(target, moved.a, "COUNT", 10_000)) == expected
    await_nothing(source)
    assert target("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a) == len(expected)
    assert_nothing(target)


@pytest.mark.since(valkey=(9, 0))
def test_writes_during_the_migration(cluster, move):
    """Keys that are deleted, tagged and made anew while their slot moves. Valkey 8 tells nobody which slots
    are on their way: TAG would make a second companion there. One that is deleted between its companion's
    move and its own, of which the target hears nothing, and made anew there has the old tags besides."""
    moved = Moved(cluster)
    source, key, count = moved.source, moved.key, 300
    connection = source.connect()
    connection.pipeline([("HSET", key(n), "f", b"v" * 300) for n in range(count)])
    connection.pipeline([("CACHE.TAG", key(n), moved.a) for n in range(count)])
    client, end, tags = cluster.connect(home=source), threading.Event(), {}

    def write():
        for n in range(10**9):
            if end.is_set():
                return
            name = key(n % count)
            match n % 3:
                case 0:
                    client("DEL", name)
                    tags[name] = None
                case 1:
                    client("DEL", name)
                    client("SET", name, n)
                    client("CACHE.TAG", name, "late")
                    tags[name] = [b"late"]
                case 2:
                    if client("CACHE.TAG", name, "more") is not None:
                        tags[name] = sorted([moved.a.encode(), b"more"])

    thread = threading.Thread(target=write)
    thread.start()
    wait_for(lambda: len(tags) > 20, "writes")
    target = moved.go(move)
    end.set()
    thread.join()
    for name, own in tags.items():
        found = tags_of(target, name)
        assert found == own or (own == [b"late"] and found == sorted([moved.a.encode(), b"late"])), name
    await_nothing(source)


def test_a_slot_that_is_lost_by_gossip_leaves_nothing(cluster):
    """Its keys are deleted and nobody is told; pairs go as pairs, and other slots' stay."""
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    for kind in kinds(source):
        tagged(source, kind, key(kind), moved.a)
    stays = moved.elsewhere()
    tagged(source, "hash", stays, moved.a)
    moved.go(gossip)
    wait_for(lambda: source("DBSIZE") == 2, "the keys to be deleted")
    assert keys_of(source, moved.a) == [stays.encode()]
    assert source("CACHE.INVALIDATE", "LOCAL", "TAGS", moved.a) == 1
    assert_nothing(source)
    source("FLUSHALL")  # Redis 7.0 tells its replica of no key that it deletes so
