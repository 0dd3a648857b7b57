"""A cluster, and a primary under Sentinels: smoke tests of the same operations, through a failover."""

import pytest
from conftest import wait_for
from harness.cluster import Cluster
from harness.sentinel import NAME, Sentinel

from cacheflow import CacheFlow, CacheFlowError, ConfigError, InvalidationError


@pytest.fixture(scope="module")
def cluster(fleet):
    with Cluster(fleet, primaries=3, replicas=1) as cluster:
        yield cluster


@pytest.fixture
def url(cluster):
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes[:2])
    return f"redis+cluster://{hosts}"


def exercise(cache):
    """The operations that concern several nodes."""
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        assert cache.get_or_set(key, lambda key=key: [key], ttl=60, grace=60, tags=["all", key]) == [key]
    assert cache.get_many(keys) == {key: [key] for key in keys}
    hit = cache.invalidate("all")
    assert hit in (30, None)
    assert cache.get_many(keys) == {}
    assert sorted(cache.set_many(dict.fromkeys(keys, 1), ttl=60, grace=60, tags=["all"])) == sorted(keys)
    assert cache.delete(*keys[:10]) == 10
    cache.invalidate("all", soft=True)
    assert cache.get_many(keys) == {} and cache.get(keys[20], stale=True) == 1
    assert cache.incr("n") == 1
    with cache.lock("x", ttl=30) as lock:
        assert lock.token > 0 and not cache.lock("x", ttl=1, wait=0.05).acquire()
    cache.clear()
    assert cache.get(keys[20], stale=True) is None
    assert cache.meta(keys[20]) is None


def test_cluster(make, url, flavor, namespace):
    kind, mode = flavor
    cache = make(kind, url, namespace=namespace, mode=mode)
    exercise(cache)
    assert cache.capabilities.cluster
    if mode == "module":
        cache.set("k", 1, ttl=60)
        assert cache.stats(namespace).server["entries"] == 1, "summed over the primaries"


def test_the_level_in_a_cluster(make, url, flavor, namespace):
    kind, mode = flavor
    cache = make(kind, url, namespace=namespace, mode=mode, local=True)
    other = make(kind, url, namespace=namespace, mode=mode)
    keys = [f"k{number}" for number in range(6)]
    cache.get_or_set(keys[0], lambda: 1, ttl=60)
    wait_for(lambda: cache.core.local.live, "the tracking connections")
    for change in ("set", "tag"):
        for key in keys:
            cache.get_or_set(key, lambda: 1, ttl=60, tags=[namespace])

        def local():
            for key in keys:
                cache.get_or_set(key, lambda: 1, ttl=60, tags=[namespace])
            return all(cache.core.quick(cache.full_key(key)) == 1 for key in keys)

        wait_for(local, "all of them in the level")
        if change == "set":
            for key in keys:
                other.set(key, 1, ttl=60, tags=[namespace])
        else:
            other.invalidate(namespace)
        wait_for(lambda: not any(cache.core.local.get(cache.full_key(key), 0) for key in keys), "it is heard")


def test_through_a_failover_in_a_cluster(make, cluster, url, namespace):
    cache = make("threads", url, namespace=namespace, timeout=1)
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        cache.get_or_set(key, lambda key=key: key, ttl=600)
    primary = cluster.primaries()[0]
    (replica,) = cluster.replicas_of(primary)
    replica.ask("CLUSTER", "FAILOVER")
    wait_for(lambda: replica in cluster.primaries(), "the failover")
    for key in keys:
        assert cache.get_or_set(key, lambda: "again", ttl=600) in (key, "again")
    wait_for(lambda: _done(lambda: cache.clear()), "an invalidation of all shards")


def _done(use):
    try:
        use()
    except (CacheFlowError, InvalidationError):
        return False
    return True


@pytest.fixture(scope="module")
def sentinel(fleet):
    sentinel = Sentinel(fleet, replicas=1, sentinels=3)
    yield sentinel
    sentinel.end()


@pytest.fixture
def sentinel_url(sentinel):
    hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in sentinel.sentinels)
    return f"redis+sentinel://{hosts}/{NAME}/0"


def test_sentinel(make, sentinel_url, flavor, namespace):
    kind, mode = flavor
    exercise(make(kind, sentinel_url, namespace=namespace, mode=mode))


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_through_a_failover_under_sentinels(make, sentinel, sentinel_url, namespace, kind):
    cache = make(kind, sentinel_url, namespace=namespace, local=True, timeout=1, breaker_cooldown=0.1)
    assert cache.get_or_set("k", lambda: 1, ttl=600) == 1
    old = sentinel.primary()
    sentinel.failover()
    assert sentinel.primary() is not old
    wait_for(lambda: cache.set("new", 1, ttl=60) and cache.get("new") == 1, "the new primary to be used")
    assert cache.get_or_set("k", lambda: 2, ttl=600) in (1, 2)
    wait_for(lambda: _done(lambda: cache.invalidate("t")), "an invalidation")
    wait_for(lambda: cache.core.local.live, "the tracking connection")


def test_clients_of_redis_py(server, sentinel, namespace):
    import redis
    from redis.sentinel import Sentinel as Manager

    single = redis.Redis(port=server.port, decode_responses=True)
    with CacheFlow(single, namespace=namespace) as cache:
        assert cache.get_or_set("k", lambda: {"a": "\u2603"}, ttl=60) == {"a": "\u2603"}
        assert single.execute_command("CACHE.GET", f"{namespace}:k") == '{"a":"\u2603"}'
    manager = Manager([("127.0.0.1", watcher.port) for watcher in sentinel.sentinels])
    with CacheFlow(manager.master_for(NAME), namespace=namespace) as cache:
        assert cache.get_or_set("k", lambda: 1, ttl=60) == 1
        assert cache.get("k") == 1
    single.close()


@pytest.mark.parametrize(
    "where",
    [
        "http://x",
        "redis+magic://x:1",
        "redis+cluster://x",
        "redis+cluster://x:1/3",
        "redis+sentinel://x:1",
        object(),
    ],
)
def test_addresses_that_make_no_sense(where):
    with pytest.raises(ConfigError) as error:
        CacheFlow(where)
    assert error.value.code == "bad_address"


def test_addresses():
    from cacheflow.transport.address import parse

    address = parse("rediss+sentinel://me:p%40ss@h1:1,h2:2/main/3?health_check_interval=5", {"ssl_ca_certs": "x"})
    assert address.kind == "sentinel" and address.nodes == (("h1", 1), ("h2", 2)) and address.service == "main"
    assert address.options == {
        "username": "me",
        "password": "p@ss",
        "ssl": True,
        "ssl_ca_certs": "x",
        "db": 3,
        "health_check_interval": 5,
    }
    assert parse("rediss+cluster://[::1]:7000", {}).nodes == (("::1", 7000),)
