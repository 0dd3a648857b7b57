"""The topologies of several servers see what differs, and are what they say they are."""

import pytest

from harness.cluster_client import SLOTS, slot_of


def name_in(slot):
    """A name in a slot."""
    return next(f"{slot}-{n}" for n in range(10**6) if slot_of(f"{slot}-{n}") == slot)


def stray(replica):
    """Give a replica a key that its primary has not, of a slot that is theirs."""
    reader = replica.reader()
    for slot in (0, SLOTS - 4, SLOTS - 2):
        name = f"{{{name_in(slot)}}}stray"
        reader.send("EXISTS", name)
        if reader.read() == 0:
            reader("DEBUG", "POPULATE", 1, name)
            return
    raise AssertionError("a replica of no slots")


@pytest.mark.topology("replica", "cluster", "sentinel")
def test_any_replica_that_differs_is_seen(topology):
    topology.primary("CACHE.SET", "k", "v")
    topology.check()
    replicas = [server for server in topology.servers if server.ask("ROLE")[0] == b"slave"]
    for replica in replicas:
        stray(replica)
        with pytest.raises(AssertionError, match="stray:0.*only in the second"):
            topology.check()
        topology.begin()
        topology.check()
    assert len(replicas) >= len(topology.servers) / 2


@pytest.mark.topology("cluster")
def test_the_last_slots_are_other_shards(topology):
    server = topology.primary
    keys = [name_in(slot) for slot in (0, *range(SLOTS - 5, SLOTS))]
    for key in keys:
        assert server("CACHE.SET", key, "v", "TAGS", "t") == b"OK"
    assert [node.ask("DBSIZE") for node in topology.servers[::2]] == [2, 2, 2]
    assert server("CACHE.INVALIDATE", "TAGS", "t") == len(keys), "of the whole cluster"
    assert [server("CACHE.GET", key) for key in keys] == [None] * len(keys)
    server("CACHE.SET", keys[-1], "v")
    topology.begin()
    assert [server("EXISTS", key) for key in keys] == [0] * len(keys)


@pytest.mark.topology("sentinel")
def test_now_and_then_another_becomes_the_primary(topology, monkeypatch):
    old, others = topology.primary, topology.servers[1:]
    old("CACHE.SET", "k", "v")
    monkeypatch.setattr(topology, "EVERY", 1)
    topology.check()
    assert topology.primary in others and old in topology.servers[1:]
    assert topology.primary("CACHE.GET", "k") == b"v"
