"""The index is what the keyspace is, whatever was done: every test ends by CACHE.VERIFY on every
server (harness/topology.py); here is what is hard for it."""

import random
import time

import pytest

from harness.resp import ReplyError, fields
from harness.sample import fill
from harness.server import wait_for
from harness.topology import assert_verified

KEYS = [f"{space}:{n}" for space in ("a", "bb", "") for n in range(6)] + ["long:" + "x" * 300]


def verify(server):
    """CACHE.VERIFY as a dict."""
    return fields(server("CACHE.VERIFY"))


def steps(dice):
    """Commands without end, of every kind that puts an entry somewhere or takes it away."""
    while True:
        one, other = dice.choice(KEYS), dice.choice(KEYS)
        tag, tags = f"t{dice.randrange(6)}", [f"t{dice.randrange(6)}" for _ in range(dice.randrange(1, 5))]
        soft = ["SOFT"] * dice.randrange(2)
        yield dice.choice(
            [
                ["CACHE.SET", one, "v" * dice.randrange(100)],
                ["CACHE.SET", one, "v", "EX", 1000, "GRACE", 1000],
                ["CACHE.SET", one, "v", "PX", dice.randrange(1, 5)],
                ["CACHE.SET", one, "v", "EXAT", 1],
                ["CACHE.TOUCH", one, "EX", 100],
                ["CACHE.STALE", one, other],
                ["CACHE.INCRBY", one, 1],
                ["CACHE.DEL", one, other],
                ["CACHE.SET", one, "v", "EX", 1000, "GRACE", 1000, "TAGS", *tags],
                ["CACHE.SET", other, "v", "KEEPTTL", "TAGS", *tags],
                ["CACHE.TAG", one, *tags],
                ["CACHE.UNTAG", one, *tags],
                ["CACHE.INVALIDATE", *soft, "TAGS", tag, dice.choice(tags)],
                ["CACHE.INVALIDATE", *soft, "NAMESPACE", dice.choice(["a", "bb", "long"])],
                ["SET", one, "native"],
                ["SUNIONSTORE", one, "none"],
                ["DEL", one],
                ["UNLINK", one, other],
                ["PEXPIRE", one, dice.choice([-1, 1, 100_000])],
                ["PERSIST", one],
                ["RENAME", one, other],
                ["RENAMENX", one, other],
                ["COPY", one, other],
                ["COPY", one, other, "REPLACE"],
                ["COPY", one, other, "DB", dice.randrange(3)],
                ["MOVE", one, dice.randrange(3)],
                ["SELECT", dice.randrange(3)],
                ["SWAPDB", dice.randrange(3), dice.randrange(3)],
                ["EVAL", "redis.call('CACHE.SET', KEYS[1], 'v') redis.call('DEL', KEYS[2])", 2, one, other],
                ["RESTORE-OF", one, other],
            ]
            + [["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["FLUSHALL", "ASYNC"], ["DEBUG", "RELOAD"]]
            * (dice.random() < 0.1)
        )


def expire(server):
    """Expire what lives for milliseconds: a reload drops it, and tells no replica."""
    time.sleep(0.01)
    for db in range(3):
        server.connect(db=db)("EXISTS", *KEYS)


def run(server, request):
    """One step; a refusal is as good as any answer."""
    try:
        if request[0] == "RESTORE-OF":
            payload = server("DUMP", request[1])
            if payload is not None:
                server("RESTORE", request[2], random.choice([0, 1, 100_000]), payload, "REPLACE")
        else:
            if request == ["DEBUG", "RELOAD"]:
                expire(server)
            server(*request)
    except ReplyError:
        pass


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_leaves_it_whole(server, seed):
    dice = random.Random(seed)
    for number, request in zip(range(1500), steps(dice), strict=False):
        run(server, request)
        if number % 25 == 0:
            found = verify(server)
            assert found["problems"] == [] and found["keys"] == found["entries"], (number, request, found)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl"])
def test_eviction(server, policy):
    server.config("maxmemory-policy", policy)
    server.config("maxmemory", 6 << 20)
    for n in range(6000):
        server("CACHE.SET", f"k:{n}", b"v" * 1000, "EX", 1000 + n)
    assert int(server.info("stats")["evicted_keys"]) > 1000
    assert_verified(server)


def test_nothing_is_left_behind(server):
    before = server.info("cacheflow")
    fill(server)
    for n in range(20_000):
        server("CACHE.SET", f"space{n % 7}:{n}", "v", "EX", 1000, "TAGS", f"tag{n}", f"some{n % 9}")
    assert verify(server)["entries"] > 20_000
    # Invalidations are remembered over a flush; of a thousand, fill's included, none is but for this.
    for n in range(1000):
        server("CACHE.INVALIDATE", "TAGS", f"tag{n}")
    server("FLUSHALL", "SYNC")  # Valkey's default is to free in the background
    assert int(server.info("cacheflow")["cacheflow_tombstones"]) > 1000
    server.config("cacheflow.max-tombstones", 0)
    wait_for(lambda: server.info("cacheflow")["cacheflow_tombstones"] == "0", "forgetting")
    after = server.info("cacheflow")
    for name in ("entries", "bytes", "tags", "memberships", "sweep_queued"):
        assert after[f"cacheflow_{name}"] == "0", name
    assert int(after["cacheflow_index_bytes"]) < int(before["cacheflow_index_bytes"]) + 4096


def test_names_follow_renames(server):
    """An entry bears its key's name, of whatever length: VERIFY compares them."""
    server("CACHE.SET", "a:short", "v", "EX", 100, "GRACE", 100)
    for name in ("b:longer than before", "c:x", "d" * 400, ""):
        server("RENAME", server("KEYS", "*")[0], name)
        assert_verified(server)
        assert server("CACHE.GET", name) == b"v"
    idle = server("OBJECT", "IDLETIME", "")
    assert idle is not None


@pytest.mark.topology("single")
def test_after_a_crash_and_from_files(fresh_server):
    server = fresh_server(args=["--appendonly", "yes", "--appendfsync", "always"])
    fill(server)
    server.kill9()
    server.restart()
    assert_verified(server)
    assert verify(server)["entries"] > 10
    server.bgrewriteaof()
    server.restart()
    assert_verified(server)


def test_verify_takes_repair_alone(server):
    assert server.error("CACHE.VERIFY", "REPAIRS") == "ERR syntax error"
    assert server.error("CACHE.VERIFY", "REPAIR", "x").startswith("ERR")
    assert fields(server("CACHE.VERIFY", "repair"))["problems"] == []
