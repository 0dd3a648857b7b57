"""The server's own maxmemory on entries: what is read stays, what is not goes, as with strings."""

import pytest

from harness.resp import ReplyError
from harness.server import wait_for

VALUE = "v" * 1000
COUNT = 1500


def write(server, prefix, count=COUNT, *options):
    """Write `count` entries of a kilobyte."""
    replies = server.connect().pipeline(
        [("CACHE.SET", f"{prefix}:{i}", VALUE, *options) for i in range(count)]
    )
    assert all(reply == b"OK" for reply in replies), set(map(str, replies))


def read(server, prefix, times=1):
    """Read them all."""
    for _ in range(times):
        replies = server.connect().pipeline([("CACHE.GET", f"{prefix}:{i}") for i in range(COUNT)])
        assert all(replies)


def left(server, prefix):
    """How many are still there; EXISTS touches no access clock."""
    return sum(server.connect().pipeline([("EXISTS", f"{prefix}:{i}") for i in range(COUNT)]))


def limit(server, policy):
    """Full from now on: what is written next pushes something else out."""
    server.config("maxmemory-policy", policy)
    server.config("maxmemory-samples", 10)
    server.config("maxmemory", int(server.info("memory")["used_memory"]))


def push_out(server, prefix, count=COUNT // 2, *options):
    """Write new entries until so many of the old are gone."""
    evicted = int(server.info("stats")["evicted_keys"])
    for i in range(200):
        write(server, f"{prefix}:{i}", 50, *options)
        if int(server.info("stats")["evicted_keys"]) - evicted >= count:
            return
    raise AssertionError("nothing was evicted")


def idle(server, key, seconds):
    """Let a key be idle; the server's access clock ticks in seconds."""
    wait_for(lambda: server("OBJECT", "IDLETIME", key) >= seconds, f"{seconds} idle seconds")


@pytest.mark.parametrize("options", [(), ("EX", 1000, "GRACE", 1000)])
def test_lru_keeps_what_was_read(server, options):
    write(server, "cold", COUNT, *options)
    write(server, "hot", COUNT, *options)
    idle(server, f"hot:{COUNT - 1}", 3)
    read(server, "hot")
    limit(server, "allkeys-lru" if not options else "volatile-lru")
    push_out(server, "new", COUNT // 2, *options)
    hot, cold = left(server, "hot"), left(server, "cold")
    assert hot >= 0.95 * COUNT, f"{hot} of {COUNT} hot entries left, {cold} cold ones"
    assert cold <= 0.7 * COUNT


def test_lru_treats_entries_as_strings(server):
    """Entries and strings of one age are evicted alike: neither is favoured."""
    # Written in turn: the access clock must not tick between the two kinds.
    pairs = [(("CACHE.SET", f"entry:{i}", VALUE), ("SET", f"string:{i}", VALUE)) for i in range(COUNT)]
    server.connect().pipeline([command for pair in pairs for command in pair])
    idle(server, f"string:{COUNT - 1}", 2)
    limit(server, "allkeys-lru")
    push_out(server, "new", COUNT)
    entries, strings = left(server, "entry"), left(server, "string")
    assert min(entries, strings) > 0.1 * COUNT, f"{entries} entries and {strings} strings left"


def test_lfu_keeps_what_is_read_often(server):
    server.config("maxmemory-policy", "allkeys-lfu")
    server.config("lfu-log-factor", 0)  # each read counts
    write(server, "cold")
    write(server, "hot")
    read(server, "hot", times=20)
    limit(server, "allkeys-lfu")
    push_out(server, "new", COUNT)
    hot, cold = left(server, "hot"), left(server, "cold")
    assert hot >= 0.95 * COUNT, f"{hot} of {COUNT} hot entries left, {cold} cold ones"
    assert cold <= 0.8 * COUNT


def test_volatile_ttl_takes_the_nearest_end_first(server):
    write(server, "endless")
    write(server, "long", COUNT, "EX", 100_000, "GRACE", 100_000)
    write(server, "short", COUNT, "EX", 1000, "GRACE", 1000)
    limit(server, "volatile-ttl")
    push_out(server, "new", COUNT // 2, "EX", 200_000)
    assert left(server, "endless") == COUNT
    assert left(server, "long") >= 0.95 * COUNT
    assert left(server, "short") <= 0.7 * COUNT


def test_evicted_entries_are_gone_and_their_memory_is_back(server):
    server.config("maxmemory-policy", "allkeys-random")
    write(server, "k")
    ceiling = int(server.info("memory")["used_memory"])
    server.config("maxmemory", ceiling)
    for i in range(10):
        write(server, f"more:{i}")
    info = server.info("memory")
    # Buffers of the AOF and of replicas are not the server's to evict for.
    assert int(info["used_memory"]) - int(info["mem_not_counted_for_evict"]) <= 1.05 * ceiling
    assert server("DBSIZE") < 2 * COUNT
    assert int(server.info("stats")["evicted_keys"]) >= 9 * COUNT


def test_noeviction_refuses_and_changes_nothing(server):
    server("CACHE.SET", "k", "v", "EX", 100, "GRACE", 100)
    server("CACHE.SET", "n{k}", 1)
    was, size = server("DEBUG", "DIGEST"), server("DBSIZE")
    server.config("maxmemory-policy", "noeviction")
    server.config("maxmemory", 1)
    for command in ("SET k w", "SET new w", "SET new w NX", "INCRBY n{k} 1", "INCRBY new 1"):
        assert server.error(*f"CACHE.{command}".split()).startswith("OOM"), command
    assert server("DEBUG", "DIGEST") == was and server("DBSIZE") == size
    assert server("CACHE.GET", "k") == b"v"
    # What frees memory or needs none still works: else a full cache could not be helped.
    assert server("CACHE.STALE", "k") == 1
    assert server("CACHE.GET", "k", "STALE") == b"v"
    assert server("CACHE.DEL", "k", "n{k}") == 2
    assert server("DBSIZE") == 0


def test_noeviction_in_a_script_and_a_transaction(server):
    server.config("maxmemory", 1)
    with_keys = ("EVAL", "return redis.call('CACHE.SET', KEYS[1], 'v')", 1, "k")
    assert "OOM" in server.error(*with_keys)
    server("MULTI")
    assert server.error("CACHE.SET", "k", "v").startswith("OOM")
    try:
        server("EXEC")
    except ReplyError as error:
        assert str(error).startswith("EXECABORT")
    assert server("EXISTS", "k") == 0
