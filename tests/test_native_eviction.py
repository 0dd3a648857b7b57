"""Eviction by every policy of native keys with tags: whichever half of a pair the server chooses, none is
left without the other, and what is left its tags reach. And what evicts entries alone leaves them."""

import pytest

from harness.native import assert_nothing, companions, kinds, make, prefix, tagged
from harness.resp import ReplyError
from harness.server import wait_for
from harness.tagged import all_tags, await_sweep, figure, keys_of
from harness.topology import assert_verified

POLICIES = [f"{which}-{how}" for which in ("allkeys", "volatile") for how in ("lru", "lfu", "random")]
POLICIES += ["volatile-ttl"]


def counted(server):
    """What maxmemory looks at."""
    memory = server.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])


def evicted(server):
    """How many keys were."""
    return int(server.info("stats")["evicted_keys"])


def press(server, at_least, more):
    """Write what `more` makes until so many keys were evicted."""
    before = evicted(server)
    server.config("repl-backlog-size", 1 << 20)
    for number in range(400):
        server.config("maxmemory", counted(server))
        for reply in server.connect().pipeline(more(number)):
            assert not isinstance(reply, ReplyError) or str(reply).startswith("OOM"), reply
        if evicted(server) - before >= at_least:
            server.config("maxmemory", 0)
            return
    raise AssertionError("nothing was evicted")


def assert_pairs(server, tag):
    """Every key that is left has its companion, every companion its key, and the tag lists them."""
    own, begin = companions(server), prefix(server)
    left = [key for key in server("KEYS", "k:*") if not key.startswith(begin)]
    assert len(own) == len(left)
    assert keys_of(server, tag, "COUNT", 10_000) == sorted(left)
    assert_verified(server)
    return left


@pytest.mark.parametrize("policy", POLICIES)
def test_pairs_are_evicted_as_pairs(server, policy):
    server.config("maxmemory-policy", policy)
    server.config("maxmemory-samples", 10)
    connection, listed = server.connect(), kinds(server)
    for n in range(600):
        kind = listed[n % len(listed)]
        tagged(connection, kind, f"k:{n}{{t}}", "all", f"t{n % 5}")
        connection("EXPIRE", f"k:{n}{{t}}", 1000 + n)
    press(
        server,
        300,
        lambda number: [
            command
            for n in range(number * 20, number * 20 + 20)
            for command in (
                ("HSET", f"k:x{n}{{t}}", "f", b"v" * 200),
                ("CACHE.TAG", f"k:x{n}{{t}}", "all"),
                ("EXPIRE", f"k:x{n}{{t}}", 1000 + n),
                # A key that was evicted between two of these has neither tags nor an end; it is not meant.
                ("EVAL", UNTAGGED_GO, 1, f"k:x{n}{{t}}"),
            )
        ],
    )
    left = assert_pairs(server, "all")
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "all") == len(left)
    assert_nothing(server)


UNTAGGED_GO = """
if redis.call('TTL', KEYS[1]) == -1 then redis.call('DEL', KEYS[1]) end
return 1
"""


def test_a_companion_that_is_chosen_takes_its_key_along(server):
    """By chance it may be, however often its key is read: both go."""
    server.config("maxmemory-policy", "allkeys-random")
    connection = server.connect()
    for n in range(300):
        tagged(connection, "hash", f"k:{n}{{t}}", "all", f"own{n}")

    def more(number):
        reads = [("HGET", f"k:{n}{{t}}", "f") for n in range(300)]
        return [*reads, *[("SET", f"filler:{number}:{n}", b"v" * 500) for n in range(20)]]

    press(server, 100, more)
    left = assert_pairs(server, "all")
    assert sum(all_tags(server, "COUNT", 1000).values()) == 2 * len(left)


def companion_of(server, key):
    """The name of a key's companion."""
    return next(name for name in companions(server) if name.endswith(key))


def test_companions_count_as_used(server):
    """Nobody reads them: to LRU and LFU they would be cold, and would take keys along that are in use."""
    server.config("maxmemory", 1 << 30)
    server.config("maxmemory-policy", "allkeys-lru")
    tagged(server, "hash", "k:1{t}", "all")
    companion = companion_of(server, b"k:1{t}")
    wait_for(lambda: server("OBJECT", "IDLETIME", "k:1{t}") >= 6, "the key to be idle")
    assert server("OBJECT", "IDLETIME", companion) < server("OBJECT", "IDLETIME", "k:1{t}")
    server.config("maxmemory-policy", "allkeys-lfu")
    wait_for(lambda: server("OBJECT", "FREQ", companion) == 255, "it to be warmed")
    tagged(server, "hash", "k:2{t}", "all")
    assert server("OBJECT", "FREQ", companion_of(server, b"k:2{t}")) == 255


@pytest.mark.topology("single")  # links and backlogs take memory too: once what is idle has gone, all goes
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_tagged_keys_that_are_read_stay(server, policy):
    """What goes are those that nobody reads, and their companions with them."""
    server.config("maxmemory", 1 << 30)
    server.config("maxmemory-policy", policy)
    server.config("maxmemory-samples", 10)
    connection = server.connect()
    # Names of its own: the server chooses who was sampled in the last test, if one of that name is there.
    names = [f"k:{policy}:{n}{{t}}" for n in range(600)]
    for n, name in enumerate(names):
        tagged(connection, "hash", name, "all", f"own{n}")
        connection("SET", f"old:{n}", b"v" * 300)
    if policy == "allkeys-lru":
        wait_for(lambda: server("OBJECT", "IDLETIME", names[0]) >= 6, "them to be idle")

    def more(number):
        reads = [("HGET", name, "f") for name in names[:300]]
        return [*reads, *[("SET", f"filler:{number}:{n}", b"v" * 500) for n in range(20)]]

    for _ in range(20):
        connection.pipeline([("HGET", name, "f") for name in names[:300]])
    press(server, 300, more)
    left = assert_pairs(server, "all")
    # By chance a sample has none that is idle. Were companions not warmed, 60 to 110 of these would go.
    assert len({name.encode() for name in names[:300]} & set(left)) > 270
    assert sum(all_tags(server, "COUNT", 2000).values()) == 2 * len(left)


def test_full_and_noeviction(server):
    """No tag is put on, one may be taken off, and an invalidation gives room."""
    connection = server.connect()
    for n in range(200):
        tagged(connection, "hash", f"k:{n}{{t}}", "all")
        connection("HSET", f"k:{n}{{t}}", "f", b"v" * 2000)
    make(connection, "hash", "plain{t}")
    server.config("maxmemory-policy", "noeviction")
    server.config("maxmemory", 1 << 20)
    for request in (("CACHE.TAG", "plain{t}", "a"), ("CACHE.TAG", "k:1{t}", "a")):
        assert server.error(*request).startswith("OOM")
    assert "a" not in all_tags(server)
    assert server("CACHE.UNTAG", "k:0{t}", "all") == 1
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "all") == 199
    await_sweep(server)
    assert server("DBSIZE") == 2 and companions(server) == []
    server.config("maxmemory", 0)
    assert_verified(server)


@pytest.mark.parametrize("how", ["max-memory", "evict-at", "namespace"])
def test_budgets_of_the_cache_evict_entries_alone(server, how):
    """A native key is data that somebody wrote: only the server's own maxmemory may choose it."""
    connection = server.connect()
    for n in range(200):
        tagged(connection, "hash", f"n:{n}{{t}}", "all")
    connection.pipeline([("CACHE.SET", f"n:e{n}{{t}}", b"v" * 1000, "TAGS", "all") for n in range(500)])
    if how == "max-memory":
        server.config("cacheflow.max-memory", figure(server, "bytes") // 2)
    elif how == "namespace":
        server("CACHE.NAMESPACE", "SET", "n", "MAXMEMORY", figure(server, "bytes") // 2)
    else:
        server.config("maxmemory-policy", "noeviction")
        server.config("cacheflow.evict-at", 50)
        server.config("maxmemory", 2 * counted(server) - 600_000)
    connection.pipeline([("CACHE.SET", f"n:more{n}{{t}}", b"v" * 1000, "TAGS", "all") for n in range(200)])
    wait_for(lambda: figure(server, "entries") < 600, "entries to be evicted")
    assert len(companions(server)) == 200
    assert connection("EXISTS", *[f"n:{n}{{t}}" for n in range(200)]) == 200
