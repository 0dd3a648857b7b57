"""No stale read after an acknowledged invalidation, whatever befalls the cluster.

Writers and readers are at work on all shards (harness/workload.py) while nodes are failed over, killed,
paused, restarted, added and removed, and slots move; what they saw is judged by harness/history.py.

Strict is what is promised: always while no failover takes place, and with
cacheflow.invalidate-min-replicas 1 whatever happens. With 0, the default, two windows are there, which
are measured and bounded: a promoted replica may lack the last invalidations until whoever was asked for
them has sent them again, and a primary that was replaced while it was frozen serves until it hears of it.
"""

import os
import re
import time
from contextlib import closing

import pytest

from harness.cluster import Cluster
from harness.cluster_client import slot_of
from harness.engines import ATOMIC_MIGRATION
from harness.nemesis import PERMITTED, configure, kill, min_replicas, note_read, others, promoted_at, run
from harness.resp import Connection, ReplyError
from harness.server import wait_for
from harness.workload import Workload

pytestmark = [pytest.mark.topology("single"), pytest.mark.long]

NODE_TIMEOUT = 2000
NEVER = 60_000  # ms: a node timeout in which nobody is taken for dead


@pytest.fixture(scope="module")
def shared(fleet):
    """One cluster for all tests of this file; each leaves it well, with other roles than it found."""
    with Cluster(fleet, node_timeout=NODE_TIMEOUT, module_args=("debug", "yes")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """It, empty, with the directives that it had at first."""
    shared.wait_ok()
    configure(shared, "cluster-node-timeout", NODE_TIMEOUT)
    configure(shared, "cacheflow.invalidate-min-replicas", 0)
    for node in shared.primaries():
        node.ask("FLUSHALL")
    yield shared
    for node in shared.nodes:
        node.resume()
        node.close_connections()


def test_nothing_happens(cluster):
    run(Workload(cluster, seed=1), 5)


def test_replicas_that_must_acknowledge_are_never_stale_either(cluster):
    """With min-replicas 1 and one replica a primary, as long as nobody fails over."""
    min_replicas(cluster, 1)

    def nemesis(load):
        until, nodes = time.monotonic() + 3, cluster.replicas()
        readers = [node.reader() for node in nodes]
        where = {cluster.primary_of(node): at for at, node in enumerate(nodes)}
        keys = [(row, key, where[cluster.node_of(key)]) for row, keys in enumerate(load.keys) for key in keys]
        while time.monotonic() < until:
            for row, key, at in keys:
                start = time.monotonic()
                note_read(load, row, key, start, readers[at]("CACHE.GET", key), nodes[at])
        hits = [read for read in load.history.reads if read.how == "GET direct" and read.hit]
        assert len(hits) > 100

    run(Workload(cluster, seed=14), 5, nemesis)


def test_the_checker_sees_invalidations_that_reach_one_shard_only(cluster):
    load = Workload(cluster, seed=2, local=True, homes=cluster.primaries())
    load.run(2)
    report = load.settle()
    print(f"\n{report}")
    with pytest.raises(AssertionError, match="stale reads"):
        report.assert_never_stale()
    assert len(report.violations) > 20


def test_the_checker_sees_fills_without_a_lease(cluster):
    load = Workload(cluster, seed=3, leases=False, readers=8)
    load.run(3)
    report = load.settle()
    print(f"\n{report}")
    with pytest.raises(AssertionError, match="stale reads"):
        report.assert_never_stale()


def test_replicas_are_handed_over_to(cluster):
    """CLUSTER FAILOVER of each shard, there and back."""
    min_replicas(cluster, 1)

    def nemesis(load):
        for replica in cluster.replicas()[:3]:
            cluster.failover(replica)
            load.history.event(f"{replica.port} was handed over to")
            time.sleep(0.3)

    run(Workload(cluster, seed=4), 6, nemesis)


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_primary_is_killed(cluster, replicas):
    """kill -9, the replica is promoted, the dead one comes back."""
    min_replicas(cluster, replicas)
    victim = cluster.primaries()[0]
    heir = cluster.replica_of(victim)

    def nemesis(load):
        load.history.event(f"{victim.port} is killed, of which {heir.port} is the replica")
        killed = time.monotonic()
        kill(cluster, load, victim)
        at = promoted_at(load, heir, victim)
        if not replicas:
            load.history.excuse(killed, at, at + PERMITTED, "promotion after kill -9", heir.port)
        cluster.wait_promoted(heir, victim)
        time.sleep(1.5 if replicas == 0 else 0)
        cluster.restart(victim)
        victim.ask("CONFIG", "SET", "cacheflow.invalidate-min-replicas", replicas)
        load.history.event(f"{victim.port} is back")
        wait_for(victim.linked, "its link", 60)

    run(Workload(cluster, seed=5, homes=None if replicas else others(cluster, victim)), 6, nemesis)
    assert cluster.primary_of(victim) is heir


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_primary_is_frozen_until_it_was_replaced(cluster, replicas):
    """SIGSTOP past the node timeout. When it goes on it takes itself for a primary still."""
    min_replicas(cluster, replicas)
    victim = cluster.primaries()[0]
    heir = cluster.replica_of(victim)
    load = Workload(cluster, seed=6, homes=None if replicas else others(cluster, victim))
    own = load.keys_of(victim)

    def nemesis(load):
        readers = [Connection(victim.port, timeout=60) for _ in range(2)]
        load.history.event(f"{victim.port} is frozen")
        frozen = time.monotonic()
        cluster.pause(victim)
        at = promoted_at(load, heir, victim)
        if not replicas:
            load.history.excuse(frozen, at, at + PERMITTED, "promotion while frozen", heir.port)
        cluster.wait_promoted(heir, victim)
        time.sleep(1)
        resumed = time.monotonic()
        if not replicas:
            load.history.excuse(resumed, resumed, resumed + PERMITTED, "zombie", victim.port)
        # One is sent before it can have heard of anything, the other goes on until it has.
        sent = [(row, key, time.monotonic()) for row, key in own if readers[0].send("CACHE.GET", key) is None]
        load.history.event(f"{victim.port} goes on")
        cluster.resume(victim)
        served = 0
        for row, key, start in sent:
            served += note_read(load, row, key, start, readers[0].read(), victim)
        turned = False
        while not turned:
            for row, key in own:
                start = time.monotonic()
                readers[1].send("CACHE.GET", key)
                reply = readers[1].read()
                served += note_read(load, row, key, start, reply, victim)
                turned = turned or isinstance(reply, ReplyError)
        load.history.event(f"{victim.port} says {reply}")
        print(
            f"\nthe zombie turned clients away {1000 * (time.monotonic() - resumed):.1f} ms after it went on"
        )
        for reader in readers:
            reader.close()
        wait_for(victim.linked, "its link", 60)

    report = run(load, 7, nemesis)
    assert cluster.primary_of(victim) is heir
    assert replicas or report.counts["acknowledged"] > 100


def test_a_replica_is_frozen(cluster):
    """Where its primary must have it acknowledged, invalidations are PARTIAL meanwhile."""
    min_replicas(cluster, 1)
    victim = cluster.replicas()[0]

    def nemesis(load):
        load.history.event(f"{victim.port} is frozen")
        cluster.pause(victim)
        time.sleep(NODE_TIMEOUT / 1000 + 1)
        load.history.event(f"{victim.port} goes on")
        cluster.resume(victim)

    run(Workload(cluster, seed=7), 6, nemesis, used=["partial"])


def test_a_primary_hears_nothing_of_the_bus(cluster):
    victim = cluster.primaries()[0]

    def nemesis(load):
        load.history.event(f"{victim.port} is deaf")
        victim.ask("CACHE.DEBUG", "DEAF", 1)
        time.sleep(2.5)
        victim.ask("CACHE.DEBUG", "DEAF", 0)
        load.history.event(f"{victim.port} hears")

    run(Workload(cluster, seed=8), 6, nemesis, used=["partial"])


def move(cluster, load, mover, count):
    """Move slots of our keys from each primary to the next, there and back, by mover(slots, from, to).
    How many."""
    primaries, moved = cluster.primaries(), 0
    for source, target in zip(primaries, primaries[1:] + primaries[:1], strict=True):
        slots = load.slots_of(source)[:count]
        for begin, end in ((source, target), (target, source)):
            load.history.event(f"{len(slots)} slots from {begin.port} to {end.port}")
            mover(slots, begin, end)
            moved += len(slots)
    return moved


def test_slots_are_moved_key_by_key(cluster):
    moved = []

    def nemesis(load):
        moved.append(move(cluster, load, cluster.move_slots, 4))

    run(Workload(cluster, seed=9), 6, nemesis)
    assert moved == [24]


@ATOMIC_MIGRATION
def test_slots_are_moved_in_one_go(cluster):
    moved = []

    def nemesis(load):
        moved.append(move(cluster, load, cluster.move_slots_atomically, 6))

    run(Workload(cluster, seed=10), 6, nemesis)
    assert moved == [36]


@ATOMIC_MIGRATION
def test_slots_go_and_come_back_at_once(cluster):
    """Where a slot moves in one go it may be back before a node has looked whose it is."""
    one, other = cluster.primaries()[:2]

    def nemesis(load):
        slots = load.slots_of(one)[:6]
        for begin, end in ((one, other), (other, one)) * 8:
            cluster.move_slots_atomically(slots, begin, end)
            for node in (begin, cluster.replica_of(begin)):
                wait_for(lambda node=node: not keys_in(node, slots), "the keys to be gone", 5, 0.01)

    run(Workload(cluster, seed=16), 6, nemesis)


def keys_in(node, slots):
    """Keys that a node, a replica maybe, has in slots."""
    with closing(Connection(node.port)) as ask:
        replies = ask.pipeline([("CLUSTER", "GETKEYSINSLOT", slot, 10) for slot in slots])
    return [key for keys in replies for key in keys]


def test_shards_come_and_go(cluster):
    before = set(cluster.nodes)

    def nemesis(load):
        primary, replica = cluster.add_shard()
        load.history.event(f"{primary.port} and {replica.port} have come")
        for source in cluster.primaries():
            if source is not primary:
                cluster.move_slots(load.slots_of(source)[:4], source, primary)
        load.history.event(f"{primary.port} has slots")
        time.sleep(0.7)
        own = primary.view()[primary.id].slots
        assert len(own) > 3 and primary.ask("DBSIZE") > 0
        cluster.remove_shard(primary)
        load.history.event(f"{primary.port} has gone")

    run(Workload(cluster, seed=11), 6, nemesis)
    assert set(cluster.nodes) == before and len(cluster.primaries()) == 3


def persisted(cluster, victim, args, seconds=0.7):
    """A nemesis that kills a primary, and starts it from what it has on disk before anybody is
    promoted. `args` are what it is started with."""

    def nemesis(load):
        time.sleep(seconds)
        load.history.event(f"{victim.port} is killed")
        killed = time.monotonic()
        kill(cluster, load, victim)
        before = victim.args
        victim.args = [*before, *map(str, args)]
        log_from = os.path.getsize(victim.log_path)
        victim.start()
        back = time.monotonic()
        load.history.event(f"{victim.port} is back")
        if "appendonly" not in str(args):
            load.history.excuse(killed, back, back + PERMITTED, "restart from an old RDB file", victim.port)
        cluster.wait_ok()
        assert victim in cluster.primaries()
        assert re.search(r"keys loaded: [1-9]|from append only file", victim.log(log_from)), "it was empty"
        victim.args = before

    return nemesis


def test_a_primary_starts_again_from_its_aof(cluster):
    """With appendfsync always nothing is lost that was acknowledged."""
    configure(cluster, "cluster-node-timeout", NEVER)
    victim = cluster.primaries()[0]
    victim.ask("CONFIG", "SET", "appendfsync", "always")
    victim.ask("CONFIG", "SET", "appendonly", "yes")
    wait_for(lambda: b"aof_rewrite_in_progress:0" in victim.ask("INFO", "persistence"), "the AOF", 60)
    args = ("--appendonly", "yes", "--appendfsync", "always", "--cluster-node-timeout", NEVER)
    try:
        run(Workload(cluster, seed=12), 6, persisted(cluster, victim, args))
    finally:
        victim.ask("CONFIG", "SET", "appendonly", "no")


def test_a_primary_starts_again_from_an_old_rdb_file(cluster):
    """What was invalidated since is there again, until those who were asked have told it."""
    configure(cluster, "cluster-node-timeout", NEVER)
    victim = cluster.primaries()[0]
    restart = persisted(cluster, victim, ("--cluster-node-timeout", NEVER))

    def nemesis(load):
        victim.bgsave()
        restart(load)

    run(Workload(cluster, seed=13, homes=others(cluster, victim)), 6, nemesis)


def test_the_keys_are_where_they_must_be(cluster):
    """Every row has a key on each of three primaries, so that nothing above is vacuous."""
    load = Workload(cluster)
    for keys in load.keys:
        assert len({slot_of(key) * 3 // 16384 for key in keys}) == 3
        assert len({cluster.node_of(key) for key in keys}) == 3
