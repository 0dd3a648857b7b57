"""A shard of a cluster does not answer: its keys cost no timeout a call, and those of the others nothing."""

import pytest
from conftest import wait_for
from harness.cluster import Cluster

from cacheflow import InvalidationError, Unavailable


@pytest.fixture(scope="module")
def cluster(fleet):
    """Without replicas, and slow to notice: what is tested is what the client notices."""
    args = ("--cluster-require-full-coverage", "no")
    with Cluster(fleet, primaries=3, replicas=0, node_timeout=120_000, args=args) as cluster:
        yield cluster


@pytest.fixture
def dead(cluster, namespace):
    """One of its nodes, to be stopped by the test. Not the one that has the version of the namespace: without the
    module no entry of it can be read then."""
    node = next(node for node in cluster.nodes if node is not cluster.node_of(f"~cf:n:{namespace}"))
    yield node
    node.resume()


@pytest.fixture
def client(make, cluster, flavor, namespace, recorder):
    """Makes clients of the flavor."""
    kind, mode = flavor
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)
    options = {"namespace": namespace, "mode": mode, "timeout": 0.2, "wait": 1, "breaker_cooldown": 600}
    return lambda **more: make(kind, url, **{**options, "observers": [recorder], **more})


def split(cluster, cache, dead):
    """Twelve keys of the node, and twelve of the others. While all of them answer."""
    keys = [f"k{number}" for number in range(60)]
    its = [key for key in keys if cluster.node_of(cache.full_key(key)) is dead]
    return its[:12], [key for key in keys if key not in its][:12]


def test_the_keys_of_a_dead_shard_are_loaded_and_the_others_are_hits(client, cluster, dead, recorder):
    cache = client()
    its, others = split(cluster, cache, dead)
    for key in others:
        cache.get_or_set(key, lambda: "stored", ttl=600)
    dead.pause()
    for _ in range(2):
        for mine, other in zip(its, others, strict=True):
            assert cache.get_or_set(mine, lambda: "loaded", ttl=600) == "loaded"
            assert cache.get_or_set(other, lambda: "again", ttl=600) == "stored"
    codes = [e.error.code for e in recorder.events if e.name == "degraded"]
    assert len(codes) == 24 and codes.count("timeout") <= 3 and set(codes) == {"timeout", "breaker_open"}
    opened = [e for e in recorder.events if e.name == "breaker"]
    assert [(e.key, e.detail) for e in opened] == [(f"127.0.0.1:{dead.port}", "open")]
    assert cache.breaker_state == "open"
    # What concerns several has what the others answer.
    assert cache.get_many([*its, *others]) == dict.fromkeys(others, "stored")
    assert sorted(cache.set_many(dict.fromkeys([*its, *others], 1), ttl=60)) == sorted(others)
    with pytest.raises(Unavailable):
        cache.delete(*its, *others)
    if cache.capabilities.module:
        with pytest.raises(InvalidationError) as error:
            cache.invalidate("tag")
        assert error.value.code == "partial", "a node that answers was asked, and it was listened to"


def test_it_is_used_when_it_is_back(client, cluster, dead, recorder):
    cache = client(breaker_cooldown=0.05)
    its, _ = split(cluster, cache, dead)
    cache.connect()
    dead.pause()
    wait_for(
        lambda: cache.get_or_set(its[0], lambda: 1, ttl=60) == 1 and cache.breaker_state == "open", "an outage"
    )
    dead.resume()
    wait_for(lambda: cache.set(its[0], 2, ttl=60), "a write")
    assert cache.get(its[0]) == 2 and cache.breaker_state == "closed"


def test_a_seed_that_is_dead_costs_one_timeout(cluster, flavor, make, namespace, dead, recorder):
    kind, mode = flavor
    seeds = [dead, *(node for node in cluster.nodes if node is not dead)]
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in seeds)
    options = {"namespace": namespace, "mode": mode, "timeout": 0.3, "observers": [recorder]}
    cache = make(kind, url, breaker_failures=1, breaker_cooldown=600, **options)
    _, others = split(cluster, cache, dead)
    dead.pause()
    assert [cache.get_or_set(key, lambda: 1, ttl=60) for key in others] == [1] * len(others)
    assert [e.error.code for e in recorder.events if e.name == "degraded"] == ["timeout"]
    assert cache.get_many(others) == dict.fromkeys(others[1:], 1)
