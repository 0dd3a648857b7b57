"""Locks through files and to replicas: held on with the time they had left; FETCH leases are not."""

import os
import time

import pytest

from harness.leases import expires, fetch, fetcher, fill, gauges, grant, held_for, locker
from harness.server import Server, wait_for
from harness.tagged import DEBUG, hold, let_go, turn_clock
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

AOF = ("--appendonly", "yes", "--appendfsync", "always")
LONG = 600_000


def prepare(server, entries=True):
    """Locks of every fate, and leases; answers the tokens of those that are held."""
    other = server.connect(db=3)
    if entries:
        server("CACHE.SET", "cached", "v", "EX", 1000, "TAGS", "a")
        server("SET", "native", "n")
    tokens = {key: server("CACHE.LOCK", key, LONG) for key in ("none", "cached", "native", b"\x00\xff")}
    tokens["extended"] = server("CACHE.LOCK", "extended", 1000)
    assert server("CACHE.EXTEND", "extended", tokens["extended"], LONG) == 1
    tokens["shortened"] = server("CACHE.LOCK", "shortened", 100 * LONG)
    assert server("CACHE.EXTEND", "shortened", tokens["shortened"], LONG) == 1
    gone = server("CACHE.LOCK", "unlocked", LONG)
    server("CACHE.UNLOCK", "unlocked", gone)
    gone = server("CACHE.LOCK", "filled", LONG)
    assert server("CACHE.SET", "filled", "v", "LEASE", gone) == b"OK"
    gone = server("CACHE.LOCK", "refused", LONG)
    server("CACHE.SET", "refused", "v")
    assert server("CACHE.SET", "refused", "w", "LEASE", gone) is None
    if not entries:
        server("CACHE.DEL", "filled", "refused")
    holder = server("CACHE.LOCK", "inherited", LONG)
    waiter = locker(server, "inherited", LONG)
    server("CACHE.UNLOCK", "inherited", holder)
    tokens["inherited"] = waiter.answer()
    server.connect(db=2)("CACHE.LOCK", "flushed", LONG)
    server.connect(db=2)("FLUSHDB")
    tokens["elsewhere"] = other("CACHE.LOCK", "elsewhere", LONG)
    grant(server, "lease", "LEASE", LONG, "KEEP")
    return tokens


FREE = ("unlocked", "filled", "refused", "lease")


def assert_held(server, tokens):
    """Every lock is where it was, opens by its token alone, and what comes is later."""
    locks = {key: (server.connect(db=3) if key == "elsewhere" else server, key) for key in tokens}
    assert gauges(server)[:2] == (0, len(tokens)), "locks, and no leases"
    for connection, key in locks.values():
        assert LONG / 2 < held_for(connection, key) <= LONG, key
        assert connection("CACHE.LOCK", key, 1000) is None, key
    assert server("CACHE.UNLOCK", "elsewhere", tokens["elsewhere"]) == 0, "of the other database"
    for key in FREE:
        token = server("CACHE.LOCK", key, 1000)
        assert token > max(tokens.values()), key
        assert server("CACHE.UNLOCK", key, token) == 1
    assert server.connect(db=2)("CACHE.LOCK", "flushed", 1) > 0
    waiter = locker(server, "none")
    for connection, key in locks.values():
        assert connection("CACHE.UNLOCK", key, tokens[key] - 1) == 0
        assert connection("CACHE.UNLOCK", key, tokens[key]) == 1, key
    assert waiter.answer() > max(tokens.values())
    assert_verified(server)


def save(server):
    server("SAVE")


def nothing(server):
    pass


FILES = {
    "RDB": ((), save),
    "RDB in the background": ((), Server.bgsave),
    "AOF": (AOF, nothing),
    "AOF, rewritten": ((*AOF, "--aof-use-rdb-preamble", "no"), Server.bgrewriteaof),
    "AOF, rewritten with preamble": ((*AOF, "--aof-use-rdb-preamble", "yes"), Server.bgrewriteaof),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("entries", [True, False])
def test_a_restart_keeps_locks(fresh_server, file, entries):
    """Whether there is any key in the file or none."""
    args, write = FILES[file]
    server = fresh_server(args)
    tokens = prepare(server, entries)
    write(server)
    server.kill9()
    server.restart()
    assert_held(server, tokens)


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_what_comes_after_a_rewrite(fresh_server, preamble):
    """Its file and the increments go on from each other; twice."""
    server = fresh_server((*AOF, "--aof-use-rdb-preamble", preamble))
    first, second = server("CACHE.LOCK", "first", LONG), server("CACHE.LOCK", "second", LONG)
    server.bgrewriteaof()
    server("CACHE.UNLOCK", "first", first)
    third = server("CACHE.LOCK", "third", LONG)
    for _ in range(2):
        server.kill9()
        server.restart()
        assert held_for(server, "first") == 0 and held_for(server, "second") > 0
        assert server("CACHE.EXTEND", "third", third, LONG) == 1
        server.bgrewriteaof()
    assert server("CACHE.UNLOCK", "second", second) == server("CACHE.UNLOCK", "third", third) == 1


@pytest.mark.parametrize("how", [(), ("NOSAVE",)])
def test_reload(fresh_server, how):
    """With NOSAVE what the file has: a lock of before, not one of after it."""
    server = fresh_server()
    token = server("CACHE.LOCK", "k", LONG)
    grant(server, "lease", "LEASE", LONG)
    if how:
        server("SAVE")
        server("CACHE.UNLOCK", "k", token)
        server("CACHE.LOCK", "later", LONG)
    server.reload(*how)
    assert gauges(server)[:2] == (0, 1)
    assert server("CACHE.LOCK", "k", 1000) is None
    assert server("CACHE.UNLOCK", "k", token) == 1
    assert grant(server, "lease") > token


def test_the_time_left_is_kept(fresh_server):
    """A lock ends after a restart as it would have without one."""
    server = fresh_server(AOF)
    began = time.monotonic()
    server("CACHE.LOCK", "short", 3000)
    server("CACHE.LOCK", "over", 1)
    expires(server, "over")
    server.kill9()
    server.restart()
    assert held_for(server, "over") == 0
    waiter = locker(server, "short")
    assert waiter.answer() > 0
    assert 2.9 < time.monotonic() - began


def test_tokens_grow_over_restarts_whatever_the_clock(fresh_server):
    """The server's clock may be behind what it was when it stopped."""
    for args, write in FILES.values():
        server = fresh_server(args, module_args=DEBUG)
        turn_clock(server, 86_400_000)
        last = server("CACHE.LOCK", "k", 1)
        server("CACHE.SET", "e", "v")
        write(server)
        server.kill9()
        server.restart()  # the clock is as it was: a day behind the file's
        for key in ("k", "l"):
            token = server("CACHE.LOCK", key, 1000)
            if token is not None:  # k may be held: its end is a day away
                assert token > last
                last = token
        assert grant(server, "f") > last
        server.stop()


def test_a_lease_does_not_survive(fresh_server):
    server = fresh_server(AOF)
    token = grant(server, "k", "LEASE", LONG, "KEEP")
    server("CACHE.SET", "other", "v")
    server.kill9()
    server.restart()
    assert server("CACHE.SET", "k", "v", "LEASE", token) is None
    assert grant(server, "k") > token


@pytest.mark.parametrize("file", FILES)
def test_the_fence_of_a_lock_survives(fresh_server, file):
    """Whole or broken, as it was."""
    args, write = FILES[file]
    server = fresh_server(args)
    server("CACHE.SET", "broken", "v")
    server("SET", "native", "n")
    keys = ("whole", "broken", "native", "late", "cached", "tagged", "staled")
    server("CACHE.SET", "staled", "v", "EX", 1000)
    server("CACHE.SET", "cached", "v", "EX", 1000, "TAGS", "c")
    tokens = {key: server("CACHE.LOCK", key, LONG) for key in keys}
    server("CACHE.SET", "broken", "w")
    server("RPUSH", "late", "native")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.STALE", "staled")
    write(server)
    server.kill9()
    server.restart()
    stored = {key: server("CACHE.SET", key, "new", "LEASE", tokens[key], "TAGS", "b") for key in keys[:5]}
    assert stored == {"whole": b"OK", "broken": None, "native": b"OK", "late": None, "cached": b"OK"}
    assert server("CACHE.SET", "tagged", "new", "LEASE", tokens["tagged"], "TAGS", "a") is None
    assert server("CACHE.SET", "staled", "new", "LEASE", tokens["staled"]) is None
    assert server("CACHE.GET", "broken") == b"w" and server("TYPE", "late") == b"list"


# --- replicas --------------------------------------------------------------------------------------
@pytest.fixture
def pair(fresh_server):
    """A primary and its replica."""
    primary = fresh_server()
    return primary, join(fresh_server, primary)


def join(fresh_server, primary, *args, **options):
    replica = fresh_server(["--replicaof", f"127.0.0.1 {primary.port}", *args], **options)
    replica.wait_replica_of(primary)
    return replica


@pytest.mark.parametrize("joins", ["before", "after", "of a replica"])
@pytest.mark.parametrize("entries", [True, False])
def test_who_is_promoted_holds_what_was_held(fresh_server, joins, entries):
    """By the stream and by a full resync; the token still unlocks."""
    primary = fresh_server()
    if joins != "after":
        replica = join(fresh_server, primary)
    tokens = prepare(primary, entries)
    if joins == "after":
        replica = join(fresh_server, primary)
    replica.wait_replica_of(primary)
    if joins == "of a replica":
        middle, replica = replica, join(fresh_server, replica)
        replica.wait_replica_of(middle)
    assert held_for(replica, "none") > LONG / 2 and held_for(replica, "unlocked") == 0
    primary.kill9()
    replica("REPLICAOF", "NO", "ONE")
    assert_held(replica, tokens)


def test_a_failover_back_and_forth(pair):
    """Tokens only grow, whoever gives them."""
    primary, replica = pair
    tokens = []
    for n in range(4):
        tokens += [primary("CACHE.LOCK", f"l:{n}", LONG), grant(primary, f"f:{n}")]
        tokens.append(primary("CACHE.LOCK", f"m:{n}", LONG))
        replica.wait_replica_of(primary)
        replica("REPLICAOF", "NO", "ONE")
        primary("REPLICAOF", "127.0.0.1", replica.port)
        primary.wait_replica_of(replica)
        primary, replica = replica, primary
    assert tokens == sorted(set(tokens))
    for n in range(4):
        assert primary("CACHE.UNLOCK", f"l:{n}", tokens[3 * n]) == 1
    replica.wait_replica_of(primary)
    assert held_for(replica, "l:0") == 0 and held_for(replica, "m:0") > 0


def test_tokens_grow_where_the_promoted_clock_is_behind(fresh_server):
    primary = fresh_server(module_args=DEBUG)
    replica = join(fresh_server, primary, module_args=DEBUG)
    turn_clock(primary, 86_400_000)
    last = primary("CACHE.LOCK", "k", LONG)
    replica.wait_replica_of(primary)
    primary.kill9()
    replica("REPLICAOF", "NO", "ONE")
    assert replica("CACHE.UNLOCK", "k", last) == 1
    assert replica("CACHE.LOCK", "k", LONG) > last
    assert grant(replica, "j") > last


def test_replicas_are_told_of_every_end(pair):
    """UNLOCK, fill, refused fill, EXTEND, flush, and time."""
    primary, replica = pair
    keys = ("unlocked", "filled", "refused", "short", "expired")
    tokens = {key: primary("CACHE.LOCK", key, LONG) for key in keys[:4]}
    primary("CACHE.LOCK", "expired", 1)
    other = primary.connect(db=4)
    other("CACHE.LOCK", "flushed", LONG)
    replica.wait_replica_of(primary)
    assert all(held_for(replica, key) > 0 for key in keys[:4])
    assert held_for(replica.connect(db=4), "flushed") > 0
    primary("CACHE.UNLOCK", "unlocked", tokens["unlocked"])
    fill(primary, "filled", tokens["filled"])
    primary("CACHE.SET", "refused", "v")
    assert primary("CACHE.SET", "refused", "w", "LEASE", tokens["refused"]) is None
    primary("CACHE.EXTEND", "short", tokens["short"], 1)
    other("FLUSHDB")
    replica.wait_replica_of(primary)
    for key in keys:
        expires(replica, key)
    assert held_for(replica.connect(db=4), "flushed") == 0
    assert replica("CACHE.GET", "refused") == b"v"
    wait_for(lambda: gauges(replica) == (0, 0, 0), "the last to end")


def test_replicas_refuse_writes(pair):
    primary, replica = pair
    token = primary("CACHE.LOCK", "k", LONG)
    replica.wait_replica_of(primary)
    for command in (
        ("CACHE.LOCK", "k", 1000),
        ("CACHE.LOCK", "free", 1000, "BLOCK", 0),
        ("CACHE.UNLOCK", "k", token),
        ("CACHE.EXTEND", "k", token, 5),
        ("CACHE.SET", "k", "v", "LEASE", token),
        ("CACHE.TOUCH", "k", "LEASE", token),
    ):
        assert replica.error(*command).startswith("READONLY"), command
    assert fetch(replica, "k") == (b"BUSY", None, None, 0, None)
    assert held_for(replica, "k") > 0


@pytest.mark.parametrize("begin", ["BGSAVE", "BGREWRITEAOF"])
def test_a_replica_does_not_save_because_its_primary_does(pair, begin):
    """Without an entry what is saved is sent as well; the command that began it is not."""
    primary, replica = pair
    primary("CACHE.LOCK", "k", LONG)
    replica.wait_replica_of(primary)
    wait_for(lambda: primary.info("persistence")["rdb_bgsave_in_progress"] == "0", "the resync's child")
    primary.bgsave() if begin == "BGSAVE" else primary.bgrewriteaof()
    primary("SET", "native", "n")
    replica.wait_replica_of(primary)
    assert f"cmdstat_{begin.lower()}" not in replica.info("commandstats")
    assert held_for(replica, "k") > 0


def test_a_lock_that_changes_nothing_is_not_told(pair):
    primary, _ = pair
    token = primary("CACHE.LOCK", "k", LONG)
    offset = primary.info("replication")["master_repl_offset"]
    primary("CACHE.LOCK", "k", LONG)
    primary("CACHE.UNLOCK", "k", token - 1)
    primary("CACHE.EXTEND", "k", token - 1, LONG)
    primary("CACHE.UNLOCK", "j", token)
    assert primary.info("replication")["master_repl_offset"] == offset


def test_in_a_transaction_they_are_told_in_order(pair):
    primary, replica = pair
    connection = primary.connect()
    connection("MULTI")
    connection("CACHE.LOCK", "k", LONG)
    connection("CACHE.SET", "e", "v")
    connection("CACHE.LOCK", "j", LONG)
    k, _, j = connection("EXEC")
    primary("EVAL", "return redis.call('CACHE.UNLOCK', KEYS[1], ARGV[1])", 1, "j", j)
    replica.wait_replica_of(primary)
    assert held_for(replica, "k") > 0 and held_for(replica, "j") == 0
    replica("REPLICAOF", "NO", "ONE")
    assert replica("CACHE.UNLOCK", "k", k) == 1


def test_swapdb_takes_locks_along(pair):
    primary, replica = pair
    token = primary("CACHE.LOCK", "k", LONG)
    primary("SWAPDB", 0, 1)
    replica.wait_replica_of(primary)
    for server in pair:
        assert held_for(server, "k") == 0 and held_for(server.connect(db=1), "k") > 0
    assert primary.connect(db=1)("CACHE.UNLOCK", "k", token) == 1


def test_a_demoted_server_learns_the_others_locks(fresh_server):
    """Its own that the new primary does not know are gone with its data."""
    server, other = fresh_server(), fresh_server()
    mine = server("CACHE.LOCK", "mine", LONG)
    theirs = other("CACHE.LOCK", "theirs", LONG)
    server("REPLICAOF", "127.0.0.1", other.port)
    server.wait_replica_of(other)
    assert held_for(server, "mine") == 0 and held_for(server, "theirs") > 0
    server("REPLICAOF", "NO", "ONE")
    assert server("CACHE.UNLOCK", "mine", mine) == 0
    assert server("CACHE.UNLOCK", "theirs", theirs) == 1
    assert server("CACHE.LOCK", "mine", LONG) > max(mine, theirs)


def test_who_waits_where_a_primary_is_restarted(fresh_server):
    """The wait ends with the connection; the lock is there again, and can be waited for anew."""
    server = fresh_server(AOF)
    token = server("CACHE.LOCK", "k", LONG)
    waiter = fetcher(server, "k")
    server.kill9()
    with pytest.raises((ConnectionError, ValueError, OSError)):
        waiter.answer()
    server.restart()
    waiter = fetcher(server, "k")
    assert waiter.waits()
    fill(server, "k", token)
    assert waiter.answer()[:2] == (b"FRESH", b"v")


def test_five_thousand_locks_are_saved(fresh_server):
    server = fresh_server()
    tokens = server.connect().pipeline([("CACHE.LOCK", f"l:{n}", LONG) for n in range(5000)])
    server("SAVE")
    size = os.path.getsize(os.path.join(server.directory, "dump.rdb"))
    server.kill9()
    server.restart()
    assert gauges(server) == (0, 5000, 0) and size < 5000 * 100
    done = server.connect().pipeline([("CACHE.UNLOCK", f"l:{n}", token) for n, token in enumerate(tokens)])
    assert set(done) == {1} and gauges(server) == (0, 0, 0)


KEEPS = {
    "nothing": (),
    "TAG": (("CACHE.TAG", "k", "b"),),
    "UNTAG": (("CACHE.UNTAG", "k", "a"),),
    "EXPIRE": (("EXPIRE", "k", 500),),
    "PERSIST": (("PERSIST", "k"),),
    "expiry": (("PEXPIRE", "k", 1),),
    "eviction": (("CONFIG", "SET", "maxmemory", 1), ("CACHE.GET", "k"), ("CACHE.SET", "j", "v")),
}


@pytest.mark.parametrize("what", [*KEEPS, "sweep"])
@pytest.mark.parametrize("way", ["a replica", "AOF"])
def test_what_voids_nothing_voids_nothing_elsewhere(fresh_server, what, way):
    """Expiry and eviction are told to others as deletions, tags as writes."""
    args = (*AOF, "--maxmemory-policy", "allkeys-random")
    server = fresh_server(args, module_args=DEBUG)
    replica = join(fresh_server, server)
    server("CACHE.SET", "k", "v", "EX", 1000, "GRACE", 1000, "TAGS", "a")
    if what == "sweep":  # of what had died before the grant
        hold(server)
        server("CACHE.INVALIDATE", "TAGS", "a")
    token = server("CACHE.LOCK", "k", LONG)
    if what == "sweep":
        let_go(server)
    for command in KEEPS.get(what, ()):
        server.connect().pipeline([command])
    if what in ("expiry", "eviction", "sweep"):
        wait_for(lambda: server("EXISTS", "k") == 0, "it to go")
    server.config("maxmemory", 0)
    replica.wait_replica_of(server)
    server.kill9()
    if way == "AOF":
        replica = server
        server.restart()
    else:
        replica("REPLICAOF", "NO", "ONE")
    assert held_for(replica, "k") > LONG / 2
    assert replica("CACHE.SET", "k", "new", "LEASE", token, "TAGS", "a") == b"OK"
