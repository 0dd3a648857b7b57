"""Stamps only grow: restarts, failovers and clocks that step back let no invalidation hit what came
after it, nor miss what came before."""

import time

import pytest

from harness.payload import Meta, body, dumped_meta, encode, rdb_version, seal
from harness.server import wait_for
from harness.tagged import DEBUG, await_sweep, hold, let_go, turn_clock
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

HOUR = 3_600_000
DAY = 24 * HOUR
# Of a restart: the arguments it is started with, and what is done before it.
FILES = {
    "RDB": ((), lambda server: server("SAVE")),
    "AOF": (("--appendonly", "yes", "--appendfsync", "always"), lambda server: None),
    "AOF, rewritten": (
        ("--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no"),
        lambda server: server.bgrewriteaof(),
    ),
    "AOF, rewritten with preamble": (
        ("--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "yes"),
        lambda server: server.bgrewriteaof(),
    ),
}


def born(server, key="k"):
    """The stamp that an entry was born with, from its payload."""
    return dumped_meta(server("DUMP", key)).born


def assert_exact(server):
    """Each invalidation hits what was written before it, and nothing that is written after it."""
    for how in (("TAGS", "a"), ("NAMESPACE", "n"), ("SOFT", "TAGS", "a"), ("SOFT", "NAMESPACE", "n")):
        server("CACHE.SET", "n:k", "before", "EX", 10**6, "TAGS", "a")
        was = born(server, "n:k")
        assert server("CACHE.INVALIDATE", *how) >= 1
        assert server("CACHE.GET", "n:k") is None, f"{how} missed what was written before it"
        server("CACHE.SET", "n:k", "after", "EX", 10**6, "TAGS", "a")
        assert server("CACHE.GET", "n:k") == b"after", f"{how} hit what was written after it"
        server("CACHE.SET", "n:j", 1, "TAGS", "b")
        server("CACHE.TAG", "n:j", "a")
        server("CACHE.INCRBY", "n:j", 1)
        server("CACHE.TOUCH", "n:j", "EX", 10**6)
        assert server("CACHE.GET", "n:j") == b"2"
        assert born(server, "n:k") > was
    assert_verified(server)


# --- the clock -------------------------------------------------------------------------------------
@pytest.mark.parametrize("offset", [-HOUR, HOUR, -DAY, DAY, -1, 1])
def test_a_clock_that_steps(fresh_server, offset):
    server = fresh_server(module_args=DEBUG)
    hold(server)
    assert_exact(server)
    server("CACHE.SET", "old", "v", "TAGS", "a")
    server("CACHE.SET", "n:old", "v")
    last = born(server, "n:old")
    turn_clock(server, offset)
    server("CACHE.SET", "x:next", "v")
    assert born(server, "x:next") > last
    assert server("CACHE.MGET", "old", "n:old") == [b"v", b"v"]
    assert server("CACHE.INVALIDATE", "TAGS", "a") >= 1
    assert server("CACHE.INVALIDATE", "NAMESPACE", "n") >= 1
    assert server("CACHE.MGET", "old", "n:old") == [None, None]
    assert_exact(server)
    turn_clock(server, 0)
    assert_exact(server)
    let_go(server)
    assert server("CACHE.MGET", "old", "n:old", "n:k") == [None, None, b"after"]


def test_a_clock_that_keeps_stepping(fresh_server):
    server = fresh_server(module_args=DEBUG)
    stamps = []
    for n, offset in enumerate([0, HOUR, -HOUR, 5, -5, DAY, -DAY, 0, HOUR, -1]):
        turn_clock(server, offset)
        for m in range(20):
            server("CACHE.SET", "k", f"{n} {m}", "TAGS", "a")
            stamps.append(born(server))
            assert server("CACHE.GET", "k") == f"{n} {m}".encode()
            if m % 5 == 0:
                assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
                assert server("CACHE.GET", "k") is None
    assert stamps == sorted(stamps) and len(set(stamps)) == len(stamps)
    assert stamps[-1] < 1 << 53


def test_payloads_over_a_clock_that_stepped_back(fresh_server):
    """Before or after the invalidation is a matter of order, not of the clock."""
    server = fresh_server(module_args=DEBUG)
    server("CACHE.SET", "k", "v", "TAGS", "a")
    before = server("DUMP", "k")
    turn_clock(server, -HOUR)
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.SET", "k", "w", "TAGS", "a")
    after = server("DUMP", "k")
    turn_clock(server, -2 * HOUR)
    for payload, value in ((before, None), (after, b"w"), (before, None)):
        server("RESTORE", "k", 0, payload, "REPLACE")
        assert server("CACHE.GET", "k") == value


# --- restart ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("ahead", [0, HOUR])
def test_a_restart(fresh_server, file, ahead):
    """Also of a server whose clock was an hour ahead: started again, it has stepped back."""
    args, save = FILES[file]
    server = fresh_server(args, module_args=DEBUG)
    hold(server)
    turn_clock(server, ahead)
    server("CACHE.SET", "alive", "v", "TAGS", "a")
    server("CACHE.SET", "n:alive", "v")
    server("CACHE.SET", "dead", "v", "TAGS", "gone")
    payload = server("DUMP", "dead")
    server("CACHE.INVALIDATE", "TAGS", "gone")
    server("CACHE.SET", "dead2", "v", "TAGS", "gone")
    last = born(server, "dead2")
    save(server)
    server.kill9()
    server.restart()
    assert server("CACHE.MGET", "alive", "n:alive", "dead", "dead2") == [b"v", b"v", None, b"v"]
    await_sweep(server)
    server("CACHE.SET", "next", "v", "TAGS", "gone")
    assert born(server, "next") > last
    assert server("CACHE.GET", "next") == b"v"
    server("RESTORE", "dead", 0, payload)
    assert server("CACHE.GET", "dead") is None
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert server("CACHE.INVALIDATE", "NAMESPACE", "n") == 1
    assert server("CACHE.MGET", "alive", "n:alive") == [None, None]
    assert_exact(server)


@pytest.mark.parametrize("file", FILES)
def test_a_restart_where_only_invalidations_are_left(fresh_server, file):
    """No entry reminds of the last stamp then."""
    args, save = FILES[file]
    server = fresh_server(args, module_args=DEBUG)
    server("CACHE.SET", "k", "v", "TAGS", "a")
    payload = server("DUMP", "k")
    turn_clock(server, HOUR)
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.INVALIDATE", "NAMESPACE", "n")
    await_sweep(server)
    if file == "AOF, rewritten":
        # It has no place for state but beside an entry: see the next test.
        server("CACHE.SET", "other", "v")
    assert server("EXISTS", "k") == 0
    save(server)
    server.kill9()
    server.restart()
    server("RESTORE", "k", 0, payload)
    assert server("CACHE.GET", "k") is None
    server("CACHE.SET", "n:k", "v", "TAGS", "a")
    assert server("CACHE.GET", "n:k") == b"v"
    assert_exact(server)


def test_a_plain_rewrite_of_nothing_forgets_nothing(fresh_server):
    args, save = FILES["AOF, rewritten"]
    server = fresh_server(args)
    server("CACHE.SET", "k", "v", "TAGS", "a")
    payload = server("DUMP", "k")
    server("CACHE.INVALIDATE", "TAGS", "a")
    await_sweep(server)
    save(server)
    server.kill9()
    server.restart()
    server("RESTORE", "k", 0, payload)
    assert server("CACHE.GET", "k") is None


# --- failover --------------------------------------------------------------------------------------
@pytest.mark.parametrize("offset", [0, HOUR, -HOUR])
@pytest.mark.parametrize("sync", ["full", "stream"])
def test_a_failover(fresh_server, offset, sync):
    """To a replica whose clock is behind the primary's, or ahead of it."""
    primary = fresh_server(module_args=DEBUG)
    replica = fresh_server(module_args=DEBUG)
    turn_clock(primary, offset)
    if sync == "stream":
        replica("REPLICAOF", "127.0.0.1", primary.port)
        replica.wait_replica_of(primary, swept=False)
    hold(primary)
    primary("CACHE.SET", "alive", "v", "TAGS", "a")
    primary("CACHE.SET", "n:alive", "v")
    primary("CACHE.SET", "dead", "v", "TAGS", "gone")
    payload = primary("DUMP", "dead")
    primary("CACHE.INVALIDATE", "TAGS", "gone")
    primary("CACHE.SET", "last", "v", "TAGS", "gone")
    last = born(primary, "last")
    if sync == "full":
        replica("REPLICAOF", "127.0.0.1", primary.port)
    replica.wait_replica_of(primary, swept=False)
    assert born(replica, "last") == last
    primary.kill9()
    replica("REPLICAOF", "NO", "ONE")
    assert replica("CACHE.MGET", "alive", "n:alive", "dead", "last") == [b"v", b"v", None, b"v"]
    await_sweep(replica)
    replica("CACHE.SET", "next", "v", "TAGS", "gone")
    assert born(replica, "next") > last and replica("CACHE.GET", "next") == b"v"
    replica("RESTORE", "dead", 0, payload)
    assert replica("CACHE.GET", "dead") is None
    assert replica("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert replica("CACHE.INVALIDATE", "NAMESPACE", "n") == 1
    assert replica("CACHE.MGET", "alive", "n:alive") == [None, None]
    assert_exact(replica)


def test_there_and_back_again(fresh_server):
    """The old primary, whose clock is an hour ahead, comes back as a replica, and is promoted again."""
    servers = fresh_server(module_args=DEBUG), fresh_server(module_args=DEBUG)
    turn_clock(servers[0], HOUR)
    last = 0
    for turn in range(4):
        primary, replica = servers[turn % 2], servers[1 - turn % 2]
        primary("REPLICAOF", "NO", "ONE")
        replica("REPLICAOF", "127.0.0.1", primary.port)
        replica.wait_replica_of(primary, swept=False)
        primary("CACHE.SET", "k", turn, "TAGS", "a")
        assert born(primary) > last
        assert_exact(primary)
        primary("CACHE.SET", "k", turn, "TAGS", "a")
        last = born(primary)
        replica.wait_replica_of(primary, swept=False)
        assert replica("CACHE.GET", "k") == str(turn).encode()
        assert_verified(replica)


# --- payloads that lie -----------------------------------------------------------------------------
def forged(server, when, *tags):
    """A payload of an entry that says it was born then (microseconds)."""
    server("CACHE.SET", "for its version", "v")
    version = rdb_version(server("DUMP", "for its version"))
    return seal(body(encode(Meta(born=when, tags=tags)), b"v"), version)


@pytest.mark.parametrize("ahead_us", [5_000_000, 60_000_000, HOUR * 1000, (1 << 53) - 1])
def test_a_birth_in_the_future(fresh_server, ahead_us):
    """It pushes no clock past what clocks differ by, and outlives no invalidation."""
    server = fresh_server()
    when = min(int(time.time() * 1_000_000) + ahead_us, (1 << 53) - 1)
    server("RESTORE", "n:k", 0, forged(server, when, b"a", b"b"))
    assert server("CACHE.GET", "n:k") == b"v", "nothing was ever invalidated"
    server("CACHE.SET", "own", "v", "TAGS", "a")
    assert born(server, "own") < time.time() * 1_000_000 + 60_000_000
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 2
    assert server("CACHE.MGET", "n:k", "own") == [None, None]
    for how in (("TAGS", "b"), ("NAMESPACE", "n")):
        server("RESTORE", "n:k", 0, forged(server, when, b"b"), "REPLACE")
        server("CACHE.INVALIDATE", *how)
        assert server("CACHE.GET", "n:k") is None
    assert_exact(server)


def test_a_birth_from_before_everything(fresh_server):
    server = fresh_server()
    server("RESTORE", "k", 0, forged(server, 0, b"a"))
    assert server("CACHE.GET", "k") == b"v"
    server("CACHE.INVALIDATE", "TAGS", "b")
    assert server("CACHE.GET", "k") == b"v"
    server("CACHE.INVALIDATE", "TAGS", "a")
    assert server("CACHE.GET", "k") is None
    server("RESTORE", "k", 0, forged(server, 0, b"b"), "REPLACE")
    assert server("CACHE.GET", "k") is None
    wait_for(lambda: server("EXISTS", "k") == 0, "it to be swept")
    server("RESTORE", "k", 0, forged(server, 0, b"c"), "REPLACE")
    assert server("CACHE.TOUCH", "k") == 1 and server("CACHE.TAG", "k", "a") == 1
    assert server("CACHE.GET", "k") == b"v"


def test_a_stamp_that_a_client_names_kills_nobody_to_come(fresh_server):
    """The internal command in which invalidations are replicated, sent by a client."""
    server = fresh_server()
    server("CACHE.SET", "k", "v", "TAGS", "a")
    for stamp in ((1 << 53) - 1, 0, int(time.time() * 1_000_000) + HOUR * 1000):
        server("CACHE.INVALIDATED", stamp, "HARD", "TAGS", "a")
        assert server("CACHE.GET", "k") is None
        server("CACHE.SET", "k", "v", "TAGS", "a")
        assert server("CACHE.GET", "k") == b"v"
        assert born(server) < time.time() * 1_000_000 + 60_000_000
    assert server.error("CACHE.INVALIDATED", 1 << 53, "HARD", "TAGS", "a").startswith("ERR")
    assert_exact(server)
