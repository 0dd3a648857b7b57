"""Who waits for a key whose hash slot goes to another node is sent there, promptly; who came by ASKING
stays; and whoever waits when its node is demoted is told so."""

import time

import pytest

from harness.cluster import Cluster
from harness.engines import ATOMIC_MIGRATION
from harness.leases import assert_nothing_held, counted, end_of, fetch, fetcher, lease, locker
from harness.moving import WAYS, Moved, gossip
from harness.resp import ReplyError
from harness.server import wait_for
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

# Between the node's learning that a slot is another's and the last answer. It looks ten times a second;
# the rest is for a busy machine.
PROMPT = 1.0


@pytest.fixture(name="shared", scope="module")
def fixture_shared(fleet):
    """Two primaries, each with a replica."""
    with Cluster(fleet, primaries=2, replicas=1) as cluster:
        yield cluster


@pytest.fixture(name="cluster")
def fixture_cluster(shared, no_server_broke):
    """The cluster, empty, nothing held."""
    shared.empty()
    yield shared
    for node in shared.nodes:
        assert_verified(node)


@pytest.fixture(name="move", params=["classic", "gossip", pytest.param("atomic", marks=ATOMIC_MIGRATION)])
def fixture_move(request, shared):
    """A way to move slots."""
    return WAYS[request.param]


def moved_to(moved, target=None):
    """The answer to who is to go to the target. Valkey 8 cannot be asked where that is, but tells whoever
    asks again."""
    if "valkey_version:8" in moved.source.ask("INFO", "server").decode():
        return "TRYAGAIN the key's hash slot has moved: ask again"
    return f"MOVED {moved.slot} 127.0.0.1:{(target or moved.target).port}"


def looks(node):
    """How often the node was asked for CLUSTER SLOTS."""
    found = node.info("commandstats").get("cmdstat_cluster|slots", "calls=0")
    return int(found.split("calls=")[1].split(",")[0])


def test_waiters_are_sent_to_where_their_slot_went(cluster, move):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    lease(source.connect(), key("k"), "LEASE", 600_000)
    source("CACHE.LOCK", key("l"), 600_000)
    source("CACHE.SET", key("cached"), "v", "TAGS", "a")
    other = moved.elsewhere()
    lease(source.connect(), other, "LEASE", 600_000)
    waiting = [fetcher(source, key("k")) for _ in range(3)] + [locker(source, key("l"))]
    waiting.append(fetcher(source, key("k"), block=600_000))
    staying = fetcher(source, other)
    moved.go(move)
    assert [end_of(waiter) for waiter in waiting] == [moved_to(moved)] * len(waiting)
    assert staying.waits()
    # Nothing of the slot is known any more; where it went all is as anew.
    assert (counted(source, "leases"), counted(source, "locks"), counted(source, "waiters")) == (1, 0, 1)
    assert waiting[0].connection("PING") == b"PONG"
    assert fetch(moved.target, key("k")).state == b"MISS"
    assert moved.target("CACHE.LOCK", key("l"), 1) > 0
    assert source("CACHE.SET", other, "v") == b"OK" and staying.answer().value == b"v"


def test_it_is_prompt(cluster):
    """From the moment at which the node says that the slot is another's."""
    moved = Moved(cluster)
    source = moved.source
    lease(source.connect(), moved.key("k"), "LEASE", 600_000)
    waiting = [fetcher(source, moved.key("k")) for _ in range(100)]
    moved.target.ask("CLUSTER", "SETSLOT", moved.slot, "IMPORTING", source.id)
    moved.target.ask("CLUSTER", "SETSLOT", moved.slot, "NODE", moved.target.id)
    owns = lambda: source.view()[source.id].owns(moved.slot)  # noqa: E731
    wait_for(lambda: not owns(), "the news", pause=0.001)
    knew = time.monotonic()
    assert {end_of(waiter) for waiter in waiting} == {moved_to(moved)}
    assert time.monotonic() - knew < PROMPT
    cluster.wait_owned([moved.slot], moved.target)


def test_who_came_by_asking_stays_until_the_slot_has_come_and_gone(cluster):
    moved = Moved(cluster)
    source, target, key = moved.source, moved.target, moved.key("k")
    cluster.begin_move(moved.slot, source, target)

    def ask(*command):
        connection = target.connect()
        connection("ASKING")
        connection.send(*command)
        return connection

    holder = ask("CACHE.FETCH", key, "LEASE", 600_000)
    assert holder.read()[0] == b"MISS"
    waiting = [ask("CACHE.FETCH", key, "BLOCK", 0) for _ in range(2)]
    wait_for(lambda: counted(target, "waiters") == 2, "the waiters")
    time.sleep(0.5)  # some looks
    assert counted(target, "waiters") == 2, "the slot was never the target's"
    cluster.end_move(moved.slot, source, target)
    cluster.wait_owned([moved.slot], target)
    time.sleep(0.5)
    assert counted(target, "waiters") == 2, "now it is"
    gossip(cluster, [moved.slot], target, source)
    for waiter in waiting:
        reply = waiter.read()
        assert isinstance(reply, ReplyError) and str(reply) == moved_to(moved, source)
    holder.close()
    wait_for(lambda: counted(target, "leases") == 0, "the end of the lease")


def test_nobody_is_asked_for_slots_where_nothing_depends_on_them(cluster):
    moved = Moved(cluster)
    source, key = moved.source, moved.key("k")
    source("CACHE.SET", key, "v", "EX", 1000)
    assert_nothing_held(source)
    wait_for(
        lambda: not any(int(source.info("cacheflow_leases")[f"cacheflow_{name}"]) for name in ("leases",)), ""
    )
    before = looks(source)
    source.connect().pipeline([("CACHE.FETCH", key)] * 1000)
    time.sleep(0.5)
    assert looks(source) == before
    holder = source.connect()
    lease(holder, moved.key("missing"), "LEASE", 600_000)
    waiter = fetcher(source, moved.key("missing"))
    before, began = looks(source), time.monotonic()
    time.sleep(1.0)
    asked, passed = looks(source) - before, time.monotonic() - began
    if moved_to(moved).startswith("MOVED"):
        assert 3 <= asked
    assert asked <= passed * 10 + 2, "ten times a second while somebody waits"
    waiter.close()
    source("CACHE.DEL", moved.key("missing"))


def test_a_demoted_node_unblocks_and_its_successor_serves(cluster):
    moved = Moved(cluster)
    source, key = moved.source, moved.key
    replica = cluster.replica_of(source)
    token = lease(source.connect(), key("k"), "LEASE", 600_000)
    lock = source("CACHE.LOCK", key("l"), 600_000)
    waiting = [fetcher(source, key("k")), locker(source, key("l"))]
    replica.wait_replica_of(source)
    cluster.failover(replica)
    for waiter in waiting:
        assert end_of(waiter).startswith("UNBLOCKED")
    assert (counted(source, "leases"), counted(source, "locks"), counted(source, "waiters")) == (0, 1, 0)
    assert replica("CACHE.SET", key("k"), "late", "LEASE", token) is None, "the lease was the old primary's"
    assert fetch(replica, key("k")).token > token
    assert replica("CACHE.LOCK", key("l"), 1) is None, "the lock is kept"
    assert replica("CACHE.UNLOCK", key("l"), lock) == 1
    time.sleep(0.5)  # what is a replica now looks, and loses nothing
    source.wait_replica_of(replica)
    assert counted(source, "locks") == 0
    replica("CACHE.DEL", key("k"))
