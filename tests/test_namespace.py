"""CACHE.NAMESPACE: what is set, what GET shows, what becomes of it in a flush, in a file, on a replica; and
the times that writes have from it."""

import pytest

from harness import msgpack
from harness.dataset import namespaces
from harness.leases import fetch, grant
from harness.resp import fields
from harness.sample import BINARY, meta
from harness.server import Server, wait_for
from harness.topologies import several_databases
from harness.topology import assert_verified

single = pytest.mark.topology("single")

ALL = ("MAXMEMORY", 1 << 20, "TTL", 60_000, "GRACE", 5000, "EXAUTO", 10, 60, "MAXFILLS", 8)
ALL += ("BREAKER", 50, 2000, "POLICY", "lru")
SHOWN = {
    "maxmemory": 1 << 20,
    "ttl": 60_000,
    "grace": 5000,
    "exauto": [10, 60],
    "maxfills": 8,
    "breaker": [50, 2000],
    "policy": b"lru",
}
MOST = 1000
LONGEST = 1024


def put(server, name, *settings):
    """CACHE.NAMESPACE SET."""
    assert server("CACHE.NAMESPACE", "SET", name, *settings) == b"OK"


def get(server, name):
    """CACHE.NAMESPACE GET, as a dict; None for nil."""
    found = server("CACHE.NAMESPACE", "GET", name)
    return found if found is None else fields(found)


# --- the commands ----------------------------------------------------------------------------------
def test_what_is_set_is_shown(server):
    assert get(server, "n") is None and server("CACHE.NAMESPACE", "LIST") == []
    put(server, "n", *ALL)
    assert get(server, "n") == SHOWN
    assert server.connect(protocol=3)("CACHE.NAMESPACE", "GET", "n") == {
        name.encode(): value for name, value in SHOWN.items()
    }
    put(server, BINARY, "POLICY", "none")
    put(server, "", "TTL", 1)
    assert server("CACHE.NAMESPACE", "LIST") == sorted([b"n", BINARY, b""])
    assert get(server, BINARY) == {"policy": b"none"} and get(server, "") == {"ttl": 1}
    assert server("CACHE.NAMESPACE", "DEL", "n") == 1 and server("CACHE.NAMESPACE", "DEL", "n") == 0
    assert get(server, "n") is None and server("CACHE.NAMESPACE", "LIST") == sorted([BINARY, b""])


def test_what_is_not_named_stays_and_zero_unsets(server):
    put(server, "n", *ALL)
    put(server, "n", "ttl", 7, "MaxMemory", "2mb", "policy", "COST")
    assert get(server, "n") == SHOWN | {"ttl": 7, "maxmemory": 2 << 20, "policy": b"cost"}
    put(server, "n")
    put(server, "n", "EXAUTO", 0, 0, "BREAKER", 0, 5000, "POLICY", 0, "MAXMEMORY", 0)
    assert get(server, "n") == {"ttl": 7, "grace": 5000, "maxfills": 8}
    put(server, "n", "TTL", 0, "GRACE", 0, "MAXFILLS", 0)
    assert get(server, "n") is None and server("CACHE.NAMESPACE", "LIST") == []
    put(server, "none", "TTL", 0)
    assert server("CACHE.NAMESPACE", "LIST") == []


def test_there_is_an_end_to_them(server):
    """Whoever may set them cannot make the server hold what he likes."""
    put(server, b"n" * LONGEST, "TTL", 1)
    too_long = ("CACHE.NAMESPACE", "SET", b"n" * (LONGEST + 1), "TTL", 1)
    assert server.error(*too_long) == f"ERR name of a namespace exceeds {LONGEST} bytes"
    for n in range(1, MOST):
        put(server, n, "MAXFILLS", 1)
    error = server.error("CACHE.NAMESPACE", "SET", "another", "TTL", 1)
    assert error == f"ERR more than {MOST} namespaces with settings"
    assert len(server("CACHE.NAMESPACE", "LIST")) == MOST
    put(server, 1, "TTL", 1)
    assert server("CACHE.NAMESPACE", "DEL", 1) == 1
    put(server, "another", "TTL", 1)


@several_databases
def test_they_hold_in_every_database_and_survive_a_flush(server):
    put(server, "n", "TTL", 60_000)
    for flush in (("FLUSHALL",), ("FLUSHDB",), ("FLUSHALL", "ASYNC"), ("SWAPDB", 0, 1)):
        server(*flush)
        assert get(server, "n") == {"ttl": 60_000}
        for db in (0, 1):
            connection = server.connect(db=db)
            connection("CACHE.SET", "n:1", "v")
            assert 0 < connection("PTTL", "n:1") <= 60_000


def test_in_transactions_and_scripts(server):
    server("MULTI")
    server("CACHE.NAMESPACE", "SET", "n", "TTL", 5000)
    server("CACHE.SET", "n:1", "v")
    server("CACHE.NAMESPACE", "GET", "n")
    assert server("EXEC") == [b"OK", b"OK", [b"ttl", 5000]]
    assert 0 < server("PTTL", "n:1") <= 5000
    script = (
        "redis.call('CACHE.NAMESPACE', 'SET', 'n', 'GRACE', 9); return redis.call('CACHE.NAMESPACE', 'LIST')"
    )
    assert server("EVAL", script, 0) == [b"n"] and get(server, "n") == {"ttl": 5000, "grace": 9}


@single
def test_an_operator_may_under_memory_pressure(server):
    server.config("maxmemory", 1)
    put(server, "n", "MAXMEMORY", "1gb")
    assert server("CACHE.NAMESPACE", "DEL", "n") == 1


# --- the times of writes ---------------------------------------------------------------------------
def times(server, key):
    """How long an entry is fresh, and there, in whole seconds, rounded; -1 without an end."""
    found = meta(server, key)
    return [round(found[name] / 1000) if found[name] >= 0 else -1 for name in ("fresh-ms", "ttl-ms")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [100, 150]),
        ("GRACE 10", [100, 110]),
        ("GRACE 0", [100, 100]),
        ("EX 20", [20, 70]),
        ("EX 20 GRACE 10", [20, 30]),
        ("EX 20 PGRACE 0", [20, 20]),
        ("PERSIST", [-1, -1]),
        ("PERSIST GRACE 10", [-1, -1]),
        ("KEEPTTL", [100, 150]),
        ("TAGS a b", [100, 150]),
    ],
)
def test_a_set_has_the_times_that_it_does_not_name_from_its_namespace(server, options, expected):
    put(server, "n", "TTL", 100_000, "GRACE", 50_000)
    server("CACHE.SET", "n:1", "v", *options.split())
    server("CACHE.SET", "{n:2}:x", "v", *options.split())
    assert times(server, "n:1") == times(server, "{n:2}:x") == expected
    server("CACHE.SET", "other:1", "v")
    server("CACHE.SET", "n", "v")
    assert times(server, "other:1") == times(server, "n") == [-1, -1], "others have none"


def test_the_other_writes_have_them_too(server):
    put(server, "n", "TTL", 100_000, "GRACE", 50_000)
    assert server("CACHE.INCRBY", "n:count", 1) == 1
    assert times(server, "n:count") == [100, 150]
    server("CACHE.SET", "n:kept", "v", "EX", 20)
    server("CACHE.SET", "n:kept", "w", "KEEPTTL")
    assert times(server, "n:kept") == [20, 70], "its own"
    assert server("CACHE.TOUCH", "n:kept") == 1 and times(server, "n:kept") == [20, 70]
    assert server("CACHE.TOUCH", "n:kept", "EX", 30) == 1 and times(server, "n:kept") == [30, 80]
    server("CACHE.SET", "n:ever", "v", "PERSIST")
    assert server("CACHE.TOUCH", "n:ever") == 1 and times(server, "n:ever") == [-1, -1]
    token = grant(server, "n:filled", "LEASE", 60_000)
    assert server("CACHE.SET", "n:filled", "v", "LEASE", token) == b"OK"
    assert times(server, "n:filled") == [100, 150]


def test_they_hold_from_then_on_and_no_longer_than_they_are_set(server):
    server("CACHE.SET", "n:before", "v")
    put(server, "n", "TTL", 100_000)
    assert times(server, "n:before") == [-1, -1]
    put(server, "n", "TTL", 50_000)
    server("CACHE.SET", "n:1", "v")
    assert times(server, "n:1") == [50, 50]
    server("CACHE.NAMESPACE", "DEL", "n")
    server("CACHE.SET", "n:1", "v")
    assert times(server, "n:1") == [-1, -1]


def test_the_longest_times_are_taken_by_every_write(server):
    put(server, "n", "TTL", 1 << 46, "GRACE", 1 << 46)
    assert server("CACHE.SET", "n:1", "v") == b"OK" and server("CACHE.INCRBY", "n:2", 1) == 1
    assert server("PTTL", "n:1") > 1 << 46 and server("PTTL", "n:2") > 1 << 46


# --- files and replicas ----------------------------------------------------------------------------
AOF = ("--appendonly", "yes", "--appendfsync", "always")


def save(server):
    server("SAVE")


def nothing(server):
    """The AOF has it."""


FILES = {
    "RDB": ((), save),
    "RDB in the background": ((), Server.bgsave),
    "AOF": (AOF, nothing),
    "AOF, rewritten": ((*AOF, "--aof-use-rdb-preamble", "no"), Server.bgrewriteaof),
    "AOF, rewritten with preamble": ((*AOF, "--aof-use-rdb-preamble", "yes"), Server.bgrewriteaof),
}


@single
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("keys", ["none", "native", "entries"])
def test_a_restart_keeps_them(fresh_server, file, keys):
    """Whether there is any entry in the file or none; what was unset since is not set again."""
    args, write = FILES[file]
    server = fresh_server(args)
    put(server, "n", *ALL)
    put(server, BINARY, "TTL", 5)
    put(server, "unset", *ALL)
    if keys == "native":
        server("SET", "k", "v")
    if keys == "entries":
        server("CACHE.SET", "n:1", "v", "TAGS", "a")
    server("CACHE.NAMESPACE", "DEL", "unset")
    write(server)
    was = namespaces(server)
    if "AOF" in file:
        # The state of a file without an entry comes behind it, and the rest behind that.
        put(server, "later", "MAXFILLS", 2)
        server("CACHE.NAMESPACE", "DEL", BINARY)
        was = namespaces(server)
    for _ in range(2):
        server.kill9()
        server.restart()
        assert namespaces(server) == was and get(server, "n") == SHOWN
    server("CACHE.SET", "n:2", "v")
    assert times(server, "n:2") == [10, 15], "of EXAUTO, which goes before TTL, the first is min"
    for n in range(8):
        grant(server, f"n:lease{n}", "LEASE", 60_000)
    assert fetch(server, "n:lease8").state == b"BUSY", "MAXFILLS holds"
    assert_verified(server)


@single
@pytest.mark.parametrize("how", [(), ("NOSAVE",)])
def test_reload(fresh_server, how):
    """With NOSAVE what the file has: nothing that was set after it."""
    server = fresh_server()
    put(server, "n", "TTL", 5)
    if how:
        server("SAVE")
        put(server, "later", "TTL", 5)
        put(server, "n", "TTL", 6)
    server.reload(*how)
    assert server("CACHE.NAMESPACE", "LIST") == [b"n"] and get(server, "n") == {"ttl": 5}


@single
def test_a_file_without_any_unsets_all(fresh_server):
    server = fresh_server()
    server("SAVE")
    put(server, "n", "TTL", 5, "MAXFILLS", 1)
    grant(server, "n:1")
    server.reload("NOSAVE")
    assert server("CACHE.NAMESPACE", "LIST") == []
    grant(server, "n:2"), grant(server, "n:3")
    server("CACHE.SET", "n:4", "v")
    assert server("PTTL", "n:4") == -1


@pytest.fixture
def pair(fresh_server):
    """A primary and its replica."""
    primary = fresh_server()
    replica = fresh_server(args=["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary)
    return primary, replica


@single
def test_a_replica_has_what_its_primary_has(pair):
    primary, replica = pair
    put(primary, "n", *ALL)
    put(primary, "unset", "TTL", 5)
    primary("CACHE.NAMESPACE", "DEL", "unset")
    replica.wait_replica_of(primary)
    assert namespaces(replica) == namespaces(primary) != {}
    for request in (("SET", "n", "TTL", 5), ("DEL", "n")):
        assert replica.error("CACHE.NAMESPACE", *request).startswith("READONLY")
    replica("REPLICAOF", "NO", "ONE")
    wait_for(lambda: replica.info("replication")["role"] == "master", "the promotion")
    for n in range(8):
        grant(replica, f"n:{n}", "LEASE", 60_000)
    assert fetch(replica, "n:8").state == b"BUSY"


@single
def test_a_full_resync_replaces_them(pair, fresh_server):
    """What was set where another was the primary is none of this one's, be there nothing set at all."""
    primary, replica = pair
    other = fresh_server()
    put(primary, "n", "TTL", 5)
    put(primary, "old", "MAXFILLS", 5)
    replica.wait_replica_of(primary)
    put(other, "n", "TTL", 6)
    replica("REPLICAOF", "127.0.0.1", other.port)
    replica.wait_replica_of(other)
    assert namespaces(replica) == namespaces(other) == {b"n": [b"ttl", 6]}
    empty = fresh_server()
    replica("REPLICAOF", "127.0.0.1", empty.port)
    replica.wait_replica_of(empty)
    assert namespaces(replica) == {}


@single
def test_what_changes_nothing_is_told_nobody(pair):
    primary, replica = pair
    put(primary, "n", "TTL", 5)
    replica.wait_replica_of(primary)
    primary.config("repl-ping-replica-period", 3600)
    before = primary.info("replication")["master_repl_offset"]
    put(primary, "n", "TTL", 5, "GRACE", 0)
    assert primary("CACHE.NAMESPACE", "DEL", "none") == 0
    primary.error("CACHE.NAMESPACE", "SET", "n", "TTL", 6, "GRACE", -1)
    assert primary.info("replication")["master_repl_offset"] == before
    assert get(primary, "n") == {"ttl": 5}


# --- in a cluster ----------------------------------------------------------------------------------
@pytest.mark.topology("cluster")
def test_they_are_the_shards_that_is_asked(topology):
    first, other = topology.servers[0], topology.servers[2]
    put(first, "n", "TTL", 5)
    assert namespaces(first) == {b"n": [b"ttl", 5]} and namespaces(other) == {}
    assert first("CACHE.NAMESPACE", "LIST") == [b"n"]


def test_what_another_shard_tells_of_its_state_sets_nothing_here(server):
    """Valkey's slot migration sends what an AOF has; where it is no other shard's it is ours."""
    put(server, "ours", "TTL", 7)
    state = msgpack.encode([[b"n", {"ttl": 5, "max_fills": 2}], [b"ours", {"grace": 1}]])
    assert server("CACHE.APPLYSTATE", state) == b"OK"
    if server.info("cluster")["cluster_enabled"] == "1":
        assert namespaces(server) == {b"ours": [b"ttl", 7]}
    else:
        assert get(server, "n") == {"ttl": 5, "maxfills": 2} and get(server, "ours") == {"grace": 1}


def test_a_state_with_too_many_is_refused_whole(server):
    put(server, "n", "TTL", 5)
    many = [[b"%d" % n, {"ttl": 5}] for n in range(MOST)]
    if server.info("cluster")["cluster_enabled"] == "0":
        error = server.error("CACHE.APPLYSTATE", msgpack.encode(many))
        assert error == "ERR refused state: TooMany"
    assert server("CACHE.NAMESPACE", "LIST") == [b"n"]


# --- as the last of many ---------------------------------------------------------------------------
@single
def test_a_namespace_past_those_told_apart_is_protected_all_the_same(fresh_server):
    """Leases in a thousand others first; and what is set and unset for many takes no more memory."""
    server = fresh_server()
    for n in range(MOST):
        server("CACHE.FETCH", f"many{n}:1", "LEASE", 1, "KEEP")
    held = grant(server, "late:1", "LEASE", 600_000)
    grant(server, "late:2", "LEASE", 600_000)
    other = grant(server, "other:1", "LEASE", 600_000)
    put(server, "late", "MAXFILLS", 2)
    assert fields(server("CACHE.STATS", "NAMESPACE", "late"))["leases"] == 2
    assert fetch(server, "late:3").state == b"BUSY" and fetch(server, "other:2").state == b"MISS"
    assert server("CACHE.UNLOCK", "late:1", held) == 1
    grant(server, "late:3", "LEASE", 600_000)
    assert server("CACHE.NAMESPACE", "DEL", "late") == 1
    grant(server, "late:4")
    assert server("CACHE.UNLOCK", "other:1", other) == 1
    sizes = set()
    for n in range(300):
        put(server, f"late{n}", "MAXFILLS", 1)
        server("CACHE.NAMESPACE", "DEL", f"late{n}")
        sizes.add(server.info("cacheflow_leases")["cacheflow_lease_bytes"])
    assert len(sizes) <= 2, "the place of the first is the place of all"
