"""No stale read after an acknowledged invalidation where nodes cannot reach one another, but clients
reach all of them. See test_cluster_never_stale.py, and harness/partition.py for the network."""

import time
from contextlib import closing

import pytest

from harness.nemesis import PERMITTED, kill, min_replicas, others, promoted_at, run
from harness.partition import Network, Scattered
from harness.resp import Connection, ReplyError
from harness.server import wait_for
from harness.workload import Workload

pytestmark = [pytest.mark.topology("single"), pytest.mark.long, pytest.mark.network_namespace]

NODE_TIMEOUT = 2000


@pytest.fixture(scope="module")
def shared(fleet):
    """A network and a cluster in it."""
    with Network() as network, Scattered(fleet, node_timeout=NODE_TIMEOUT) as cluster:
        yield network, cluster


@pytest.fixture
def network(shared):
    """The network, whole."""
    network, cluster = shared
    cluster.wait_ok()
    for node in cluster.primaries():
        node.ask("FLUSHALL")
    yield network
    network.heal()
    for node in cluster.nodes:
        node.close_connections()


@pytest.fixture
def cluster(shared, network):
    """The cluster, empty."""
    return shared[1]


def turns_away(node, load):
    """Whether a node says of every key that it serves it not."""
    with closing(Connection(node.port)) as ask:
        replies = ask.pipeline([("CACHE.GET", key) for keys in load.keys for key in keys])
    return all(isinstance(reply, ReplyError) for reply in replies)


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_primary_is_cut_off(network, cluster, replicas):
    """It serves until it knows that it is in the minority; by then nobody has taken its place."""
    min_replicas(cluster, replicas)
    victim = cluster.primaries()[0]
    heir = cluster.replica_of(victim)

    def nemesis(load):
        load.history.event(f"{victim.port} is cut off")
        begun = time.monotonic()
        network.cut([victim], others(cluster, victim))
        at = promoted_at(load, heir, victim)
        assert turns_away(victim, load)
        if not replicas:
            load.history.excuse(begun, at, at + PERMITTED, "promotion after a partition", heir.port)
        time.sleep(1)
        assert victim.view()[victim.id].is_primary, "it knows of nothing"
        load.history.event(f"{victim.port} is back")
        network.heal()
        wait_for(victim.linked, "its link", 60)

    run(Workload(cluster, seed=21), 7, nemesis, used=["partial"])
    assert cluster.primary_of(victim) is heir


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_replica_that_lacks_the_last_invalidations_is_promoted(network, cluster, replicas):
    """For a second a replica hears nothing of its primary, which is then killed."""
    min_replicas(cluster, replicas)
    victim = cluster.primaries()[0]
    heir = cluster.replica_of(victim)

    def nemesis(load):
        load.history.event(f"{heir.port} is cut off from {victim.port}")
        network.cut([victim], [heir])
        time.sleep(1)
        load.history.event(f"{victim.port} is killed")
        killed = time.monotonic()
        kill(cluster, load, victim)
        # Not healed before: the kernel goes on sending what a dead process has written.
        at = promoted_at(load, heir, victim)
        network.heal()
        if not replicas:
            load.history.excuse(killed, at, at + PERMITTED, "promotion of a replica 1 s behind", heir.port)
        time.sleep(1)
        cluster.restart(victim)
        wait_for(victim.linked, "its link", 60)

    run(Workload(cluster, seed=22, homes=others(cluster, victim)), 7, nemesis)
    assert cluster.primary_of(victim) is heir


def test_a_minority_invalidates(network, cluster):
    """A shard of two nodes that is cut off tells its callers that it is not done, and sees to it once it
    can."""
    victim = cluster.primaries()[0]
    heir = cluster.replica_of(victim)
    rest = [node for node in cluster.nodes if node not in (victim, heir)]

    def nemesis(load):
        load.history.event(f"{victim.port} and {heir.port} are cut off")
        network.cut([victim, heir], rest)
        wait_for(lambda: turns_away(victim, load), "the minority to know", 60, 0.05)
        time.sleep(1)
        load.history.event("they are back")
        network.heal()
        cluster.wait_ok()

    run(Workload(cluster, seed=23, homes=[victim, heir, *rest]), 6, nemesis, used=["partial"])
    assert victim in cluster.primaries()
