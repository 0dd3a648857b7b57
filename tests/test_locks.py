"""CACHE.LOCK, UNLOCK and EXTEND on one server: who holds, for how long, and what the token may store."""

import random

import pytest

from harness.leases import expires, fetch, fetcher, fill, gauges, grant, held_for, locker, promoted, waiters
from harness.resp import ReplyError
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import DEBUG, turn_clock
from harness.topologies import several_databases
from harness.transcript import play

single = pytest.mark.topology("single")


def lock(server, key, ms=60_000):
    """A lock that is not held yet."""
    token = server("CACHE.LOCK", key, ms)
    assert isinstance(token, int) and 0 < token < 1 << 53
    return token


# --- held or not -----------------------------------------------------------------------------------
def test_one_holds(server):
    token = lock(server, "k")
    assert server("CACHE.LOCK", "k", 60_000) is None
    assert held_for(server, "k") > 50_000 and gauges(server) == (0, 1, 0)
    assert server("EXISTS", "k") == 0, "a lock is no key"
    for wrong in (token - 1, token + 1, 1, 0, -token, (1 << 53) - 1, (1 << 63) - 1):
        assert server("CACHE.UNLOCK", "k", wrong) == 0
        assert server("CACHE.UNLOCK", "k", wrong, "RETRY", 5000) == 0
        assert server("CACHE.EXTEND", "k", wrong, 5000) == 0
    assert server("CACHE.UNLOCK", "j", token) == 0, "of another key"
    assert server("CACHE.LOCK", "k", 60_000) is None and held_for(server, "k") > 50_000
    assert server("CACHE.UNLOCK", "k", token) == 1
    assert server("CACHE.UNLOCK", "k", token) == 0
    assert gauges(server) == (0, 0, 0) and server("CACHE.META", "k") is None
    assert lock(server, "k") > token


@several_databases
def test_one_of_each_database_holds(server):
    token, other = lock(server, "k"), server.connect(db=1)
    assert other("CACHE.UNLOCK", "k", token) == 0
    assert lock(other, "k") > token and server("CACHE.UNLOCK", "k", token) == 1


def test_what_is_no_request(server):
    play(
        server,
        """
        CACHE.LOCK k                        => !ERR wrong number of arguments
        CACHE.LOCK k 0                      => !ERR value is not an integer or out of range
        CACHE.LOCK k -1                     => !ERR value is not an integer or out of range
        CACHE.LOCK k x                      => !ERR value is not an integer or out of range
        CACHE.LOCK k 1000 BLOCK             => !ERR syntax error
        CACHE.LOCK k 1000 BLOCK -1          => !ERR value is not an integer or out of range
        CACHE.LOCK k 1000 KEEP              => !ERR syntax error
        CACHE.META k                        => nil
        CACHE.UNLOCK k                      => !ERR wrong number of arguments
        CACHE.UNLOCK k x                    => !ERR value is not an integer or out of range
        CACHE.UNLOCK k 5 RETRY              => !ERR syntax error
        CACHE.UNLOCK k 5 RETRY -1           => !ERR value is not an integer or out of range
        CACHE.EXTEND k 5                    => !ERR wrong number of arguments
        CACHE.EXTEND k 5 0                  => !ERR value is not an integer or out of range
        CACHE.EXTEND k 5 x                  => !ERR value is not an integer or out of range
        CACHE.EXTEND k 5 1000               => 0
        """,
    )


def test_a_lock_is_not_bounded_by_lease_max(server):
    server.config("cacheflow.lease-max", 1000)
    token = lock(server, "k", 86_400_000)
    assert held_for(server, "k") > 86_000_000
    assert server("CACHE.EXTEND", "k", token, 2 * 86_400_000) == 1
    assert held_for(server, "k") > 2 * 86_000_000
    lease = grant(server, "j", "LEASE", 500)
    assert server("CACHE.EXTEND", "j", lease, 60_000) == 1
    assert 500 < held_for(server, "j") <= 1000, "a lease is"


def test_extend(server):
    """From now: longer or shorter; what is over is not revived."""
    token = lock(server, "k", 5000)
    assert server("CACHE.EXTEND", "k", token, 60_000) == 1
    assert 5000 < held_for(server, "k") <= 60_000
    assert server("CACHE.EXTEND", "k", token, 5000) == 1
    assert 0 < held_for(server, "k") <= 5000
    waiter = locker(server, "k")
    assert server("CACHE.EXTEND", "k", token, 1) == 1
    assert waiter.answer() > token, "who waits has it when it is over"
    assert server("CACHE.EXTEND", "k", token, 60_000) == 0
    token = lock(server, "j", 1)
    expires(server, "j")
    assert server("CACHE.EXTEND", "j", token, 60_000) == 0 and held_for(server, "j") == 0
    assert server("CACHE.UNLOCK", "j", token) == 0
    lease = grant(server, "l", "LEASE", 5000)
    assert server("CACHE.EXTEND", "l", lease, 60_000) == 1 and held_for(server, "l") > 5000
    assert server("CACHE.UNLOCK", "l", lease) == 1


def test_tokens_only_grow(topology):
    """Over keys, databases, kinds of grants, and waiters that are promoted."""
    server, db = topology.primary, min(3, topology.databases - 1)
    tokens, other = [], server.connect(db=db)
    for n in range(50):
        tokens += [lock(server, f"a:{n}"), grant(other, f"b:{n}"), lock(other, "c")]
        waiter = locker(server, "c", db=db)
        other("CACHE.UNLOCK", "c", tokens[-1])
        tokens.append(waiter.answer())
        other("CACHE.UNLOCK", "c", tokens[-1])
        waiter.close()
    assert tokens == sorted(set(tokens))


@single
def test_tokens_grow_while_the_clock_goes_back(fresh_server):
    server = fresh_server(module_args=DEBUG)
    tokens, day = [], 86_400_000
    for n, offset in enumerate((0, 2 * day, -30 * day, day, -day, 0)):
        turn_clock(server, offset)
        tokens += [lock(server, f"l:{n}"), grant(server, f"f:{n}")]
    assert tokens == sorted(set(tokens))
    assert max(tokens) < 1 << 53


@single
def test_a_lock_lasts_as_long_as_it_says(fresh_server):
    server = fresh_server(module_args=DEBUG)
    token = lock(server, "k", 100_000)
    turn_clock(server, 90_000)
    assert server("CACHE.LOCK", "k", 1000) is None and 0 < held_for(server, "k") <= 10_000
    turn_clock(server, 101_000)
    assert lock(server, "k") > token


# --- waiting ---------------------------------------------------------------------------------------
@single
def test_time_waiting_does_not_consume_the_lock(fresh_server):
    server = fresh_server(module_args=DEBUG)
    token = lock(server, "k", 200_000)
    waiter = locker(server, "k", 60_000)
    turn_clock(server, 50_000)
    server("CACHE.UNLOCK", "k", token)
    token = waiter.answer()
    assert 40_000 < held_for(server, "k") <= 60_000
    assert server("CACHE.UNLOCK", "k", token) == 1


def test_a_lock_outlives_its_connection(server):
    holder = server.connect()
    token = holder("CACHE.LOCK", "k", 60_000)
    waiter = locker(server, "k")
    holder.close()
    assert waiter.waits() and held_for(server, "k") > 0
    assert server("CACHE.UNLOCK", "k", token) == 1
    token = waiter.answer()
    waiter.close()
    assert server("CACHE.LOCK", "k", 1000) is None
    assert server("CACHE.UNLOCK", "k", token) == 1


def test_a_lock_that_runs_out_is_the_next_ones(server):
    lock(server, "k", 50)
    first, second = locker(server, "k", 50), locker(server, "k", 60_000)
    tokens = [first.answer(), second.answer()]
    assert tokens == sorted(tokens) and held_for(server, "k") > 50


@several_databases
def test_flushes_drop_locks(server):
    other = server.connect(db=2)
    for flush in ("FLUSHDB", "FLUSHALL"):
        mine, theirs = lock(server, "k"), other("CACHE.LOCK", "k", 60_000)
        waiter = locker(server, "k")
        server(flush)
        assert server("CACHE.UNLOCK", "k", mine) == 0
        assert server("CACHE.UNLOCK", "k", waiter.answer()) == 1, "who waits has it"
        assert other("CACHE.UNLOCK", "k", theirs) == (flush == "FLUSHDB"), "of the other database"


# --- beside FETCH ----------------------------------------------------------------------------------
def test_a_lock_and_a_lease_exclude_each_other(server):
    lease = grant(server, "k", "LEASE", 60_000)
    assert server("CACHE.LOCK", "k", 60_000) is None
    assert server("CACHE.UNLOCK", "k", lease) == 1
    token = lock(server, "k")
    assert fetch(server, "k")[:3] == (b"BUSY", None, None)
    server("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a")
    assert fetch(server, "k", "BETA", 1e9)[:3] == (b"FRESH", b"v", None)
    server("CACHE.STALE", "k")
    assert fetch(server, "k")[:3] == (b"STALE", b"v", None)
    assert fetch(server, "k", "MAXSTALE", 0)[:3] == (b"BUSY", None, None)
    server("CACHE.INVALIDATE", "TAGS", "a")
    assert fetch(server, "k")[:3] == (b"BUSY", None, None), "a lock keeps it so"
    server("CACHE.DEL", "k")
    assert fetch(server, "k")[:3] == (b"BUSY", None, None)
    assert server("CACHE.UNLOCK", "k", token) == 1
    grant(server, "k")


def test_retry_of_a_lock(server):
    """The origin failed under it: no lease for that long, but a lock."""
    token = lock(server, "k")
    assert server("CACHE.UNLOCK", "k", token, "RETRY", 60_000) == 1
    assert fetch(server, "k")[:3] == (b"BUSY", None, None)
    token = lock(server, "k")
    server("CACHE.SET", "k", "v", "LEASE", token, "EX", 60)
    server("CACHE.STALE", "k")
    assert fetch(server, "k").token is not None, "a write ends it"
    server("FLUSHALL")
    token = lock(server, "k")
    assert server("CACHE.UNLOCK", "k", token, "RETRY", 30) == 1
    wait_for(lambda: fetch(server, "k").state == b"MISS", "the end of 30 ms")


def test_the_writers_pattern(server):
    """Lock, write the database, publish; a reader who had loaded before it stores nothing."""
    reader = grant(server, "k", "LEASE", 50)  # loads the old value, slowly
    writer = locker(server, "k", 60_000)
    token = writer.answer()
    assert fetch(server, "k").state == b"BUSY"
    waiting = fetcher(server, "k")
    assert server("CACHE.SET", "k", "old", "LEASE", reader) is None
    fill(server, "k", token, "new", "EX", 60)
    assert waiting.answer()[:2] == (b"FRESH", b"new")
    assert fetch(server, "k")[:2] == (b"FRESH", b"new")
    assert held_for(server, "k") == 0, "the fill ended the lock"
    assert server("CACHE.UNLOCK", "k", token) == 0
    assert meta(server, "k")["cost-ms"] == 0, "what a lock lasts is not what a fill costs"


def test_a_writer_on_what_is_cached(server):
    server("CACHE.SET", "k", "old", "EX", 60)
    token = lock(server, "k")
    assert fetch(server, "k")[:2] == (b"FRESH", b"old"), "readers are not held up"
    fill(server, "k", token, "new", "EX", 60)
    assert fetch(server, "k")[:2] == (b"FRESH", b"new")
    token = lock(server, "k")
    assert server("CACHE.TOUCH", "k", "LEASE", token) == 1
    assert held_for(server, "k") == 0


# --- the fence of a lock ---------------------------------------------------------------------------
BREAKS = [
    "CACHE.SET k w",
    "CACHE.TOUCH k",
    "CACHE.INCRBY k 1",
    "SET k w",
    "RENAME other{n:k} k",
    "COPY other{n:k} k REPLACE",
    "CACHE.STALE k",
    "CACHE.DEL k",
    "DEL k",
    "UNLINK k",
    "RENAME k other{n:k}",
    pytest.param("MOVE k 1", marks=several_databases),
    "CACHE.INVALIDATE TAGS a",
    "CACHE.INVALIDATE SOFT TAGS a",
    "CACHE.INVALIDATE NAMESPACE n",
    "CACHE.INVALIDATE TAGS named",
]


@pytest.mark.parametrize("command", BREAKS)
def test_a_write_by_another_breaks_the_fence_and_not_the_lock(server, command):
    command = command.replace(" k", " n:k").split()
    for last in ("UNLOCK", "SET"):
        server("CACHE.SET", "n:k", 7, "EX", 60, "TAGS", "a")
        server("CACHE.SET", "other{n:k}", "o")
        token = lock(server, "n:k")
        server(*command)
        assert server("CACHE.EXTEND", "n:k", token, 50_000) == 1
        assert server("CACHE.LOCK", "n:k", 1000) is None
        if last == "UNLOCK":
            assert server("CACHE.UNLOCK", "n:k", token) == 1
        else:
            before = server("CACHE.GET", "n:k", "STALE")
            waiter = locker(server, "n:k")
            assert server("CACHE.SET", "n:k", "late", "LEASE", token, "TAGS", "named", "a") is None
            assert server("CACHE.GET", "n:k", "STALE") == before
            assert waiter.answer() > token, "the refusal ended the lock"
        server("FLUSHALL")


KEEPS = {
    "TAG": [("CACHE.TAG", "k", "b")],
    "UNTAG": [("CACHE.UNTAG", "k", "a")],
    "EXPIRE": [("EXPIRE", "k", 5000)],
    "PERSIST": [("PERSIST", "k")],
    "expiry": [("PEXPIRE", "k", 1)],
    "reads": [
        ("CACHE.GET", "k"),
        ("CACHE.FETCH", "k"),
        ("CACHE.META", "k"),
        ("DUMP", "k"),
        ("COPY", "k", "j{k}"),
    ],
    "refused writes": [("CACHE.SET", "k", "w", "NX"), ("CACHE.SET", "k", "w", "LEASE", 5)],
    "invalidation of another": [
        ("CACHE.INVALIDATE", "TAGS", "other"),
        ("CACHE.INVALIDATE", "NAMESPACE", "n"),
    ],
    "writes to another": [("CACHE.SET", "j", "w"), ("CACHE.DEL", "j"), ("CACHE.STALE", "j")],
}


@pytest.mark.parametrize("what", KEEPS)
def test_what_voids_nothing(server, what):
    server("CACHE.SET", "k", "v", "EX", 1000, "GRACE", 1000, "TAGS", "a")
    token = lock(server, "k")
    for command in KEEPS[what]:
        server(*command)
    if what == "expiry":
        wait_for(lambda: server("EXISTS", "k") == 0, "the end of 1 ms")
    assert held_for(server, "k") > 0
    fill(server, "k", token, "w", "TAGS", "a", "b")
    assert server("CACHE.GET", "k") == b"w"


@single
def test_eviction_voids_nothing(fresh_server):
    server = fresh_server(["--maxmemory-policy", "allkeys-random"])
    server("CACHE.SET", "k", "v", "EX", 1000)
    token = lock(server, "k")
    server.config("maxmemory", 1)
    server.connect().pipeline([("CACHE.SET", "k2", "v")])
    wait_for(lambda: server("EXISTS", "k") == 0, "it to be evicted")
    server.config("maxmemory", 0)
    assert held_for(server, "k") > 0
    fill(server, "k", token)


# --- names of any kind -----------------------------------------------------------------------------
def test_locks_on_native_keys(server):
    """Of any type; what was there at the grant may be replaced, and nothing else."""
    server("SET", "string", "v")
    server("RPUSH", "list", "v")
    server("HSET", "hash", "f", "v")
    server("SADD", "set", "v")
    server("ZADD", "zset", 1, "v")
    server("XADD", "stream", "*", "f", "v")
    for key in ("string", "list", "hash", "set", "zset", "stream"):
        token = lock(server, key)
        assert server("CACHE.LOCK", key, 1000) is None
        assert server("CACHE.EXTEND", key, token, 50_000) == 1
        assert meta(server, key)["lease-ms"] > 0 and meta(server, key)["state"] == b"fresh"
        assert server("CACHE.UNLOCK", key, token) == 1
        fill(server, key, lock(server, key), "now an entry")
        assert fetch(server, key)[:2] == (b"FRESH", b"now an entry")
    token = lock(server, "none")
    server("RPUSH", "none", "v")
    assert server("CACHE.SET", "none", "w", "LEASE", token) is None
    assert server("TYPE", "none") == b"list"


def test_names_are_bytes_of_any_kind(server):
    names = [b"", b"\x00\r\n\xff", b"x" * 5000, b"{a}b", "schlüssel".encode()]
    tokens = [lock(server, name) for name in names]
    assert [server("CACHE.LOCK", name, 1000) for name in names] == [None] * len(names)
    pairs = zip(names, tokens, strict=True)
    assert [server("CACHE.UNLOCK", name, token) for name, token in pairs] == [1] * len(names)


def test_in_transactions_and_scripts(server):
    connection = server.connect()
    connection("MULTI")
    connection("CACHE.LOCK", "k", 60_000)
    connection("CACHE.LOCK", "k", 60_000, "BLOCK", 0)
    token, refused = connection("EXEC")
    assert token > 0 and refused is None
    script = "return redis.call('CACHE.UNLOCK', KEYS[1], ARGV[1])"
    assert server("EVAL", script, 1, "k", token) == 1
    script = "return redis.call('CACHE.LOCK', KEYS[1], 60000, 'BLOCK', 0)"
    token = server("EVAL", script, 1, "k")
    assert server("CACHE.UNLOCK", "k", token) == 1, "a number that Lua keeps whole"


# --- where memory is short -------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl"])
def test_locks_are_never_evicted(server, policy):
    server.config("maxmemory-policy", policy)
    server("CACHE.SET", "cached", "v", "EX", 1)
    tokens = {name: lock(server, name) for name in ["cached", *(f"l:{n}" for n in range(200))]}
    leases = {f"f:{n}": grant(server, f"f:{n}", "LEASE", 60_000) for n in range(200)}
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + (1 << 20))
    dice, connection = random.Random(policy), server.connect()
    for first in range(0, 6000, 500):
        connection.pipeline(
            [
                ("CACHE.SET", f"k:{n}", b"v" * 500, "EX", 100 + dice.randrange(1000))
                for n in range(first, first + 500)
            ]
        )
    assert int(server.info("stats")["evicted_keys"]) > 1000
    server.config("maxmemory", 0)
    assert gauges(server) == (200, 201, 0)
    for name, token in tokens.items():
        assert server("CACHE.LOCK", name, 1000) is None
        assert server("CACHE.UNLOCK", name, token) == 1
    for name, token in leases.items():
        fill(server, name, token)


def test_locks_work_where_memory_is_used_up(server):
    """Who guards something needs his lock most then."""
    held = lock(server, "held")
    server.config("maxmemory-policy", "noeviction")
    server.config("maxmemory", 1)
    assert server.error("CACHE.SET", "k", "v").startswith("OOM")
    token = lock(server, "k")
    assert server("CACHE.EXTEND", "k", token, 50_000) == 1
    with pytest.raises(ReplyError, match="OOM"):
        server("CACHE.SET", "k", "v", "LEASE", token)
    assert server("CACHE.LOCK", "k", 1000) is None, "an error changes nothing"
    waiter = locker(server, "k")
    assert server("CACHE.UNLOCK", "k", token) == server("CACHE.UNLOCK", "held", held) == 1
    assert server("CACHE.UNLOCK", "k", waiter.answer()) == 1


def test_a_wait_that_is_served_by_promotion_takes_its_own_length(server):
    token = lock(server, "k", 100_000)
    line = [locker(server, "k", 5000), fetcher(server, "k", "LEASE", 70_000)]
    server("CACHE.UNLOCK", "k", token)
    token = line[0].answer()
    assert 0 < held_for(server, "k") <= 5000 and waiters(server, "k") == 1
    server("CACHE.UNLOCK", "k", token)
    promoted(line[1])
    assert 5000 < held_for(server, "k") <= 70_000


def test_a_lock_that_a_client_applies_is_bound_by_the_cap(server):
    """What a primary or a file says is taken whatever the cap; who plays one is not."""
    server.config("cacheflow.max-leases", 2)
    ends = (server("CACHE.LOCK", "one", 1000) // 1000) + 60_000
    assert server("CACHE.APPLYLOCK", "two", 5, ends, 1) == b"OK"
    assert server.error("CACHE.APPLYLOCK", "three", 5, ends, 1).startswith("OOM ")
    assert server("CACHE.APPLYLOCK", "two", 6, ends, 1) == b"OK", "of a key that is known"
    assert server("CACHE.UNLOCK", "two", 6) == 1
