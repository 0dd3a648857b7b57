"""Clients that wait, and what the server does to clients: CLIENT's commands, caps, crowds, roles."""

import time

import pytest

from harness.leases import (
    Since,
    Waiter,
    end_of,
    expires,
    fetch,
    fetcher,
    fill,
    gauges,
    grant,
    held_for,
    in_line,
    locker,
    promoted,
    waiters,
)
from harness.resp import ReplyError
from harness.server import wait_for
from harness.tagged import figure
from harness.topologies import several_databases
from harness.topology import assert_verified

single = pytest.mark.topology("single")


# --- not answered by others ------------------------------------------------------------------------
def test_the_deadline_answers_busy_and_nil(server):
    holder = server("CACHE.LOCK", "k", 60_000)
    began = time.monotonic()
    line = [fetcher(server, "k", "WITHTAGS", block=200), locker(server, "k", block=250)]
    patient = fetcher(server, "k")
    found = line[0].answer()
    assert found[:3] == (b"BUSY", None, None) and found.ms > 0 and found.tags == []
    assert time.monotonic() - began > 0.19
    assert line[1].answer() is None
    assert time.monotonic() - began > 0.24
    assert patient.waits() and waiters(server, "k") == 1, "BLOCK 0 has no limit"
    fill(server, "k", holder)
    assert patient.answer()[:2] == (b"FRESH", b"v")


@pytest.mark.parametrize("how", ["close", "kill"])
def test_who_has_gone_is_forgotten(server, how):
    token = grant(server, "k")
    line = [*in_line(server, "k", 3), locker(server, "k"), fetcher(server, "k")]
    for waiter in (line[0], line[1], line[3]):
        if how == "close":
            waiter.close()
        else:
            assert server("CLIENT", "KILL", "ID", waiter.id) == 1
    wait_for(lambda: waiters(server, "k") == 2, "the three to be forgotten")
    server("CACHE.UNLOCK", "k", token)
    token = promoted(line[2])
    assert line[4].waits()
    fill(server, "k", token)
    assert line[4].answer()[:2] == (b"FRESH", b"v")


@pytest.mark.parametrize("how", [(), ("TIMEOUT",), ("ERROR",)])
def test_client_unblock(server, how):
    token = grant(server, "k")
    line = [fetcher(server, "k", "WITHTAGS"), locker(server, "k"), fetcher(server, "k")]
    for waiter in line[:2]:
        assert server("CLIENT", "UNBLOCK", waiter.id, *how) == 1
    if how == ("ERROR",):
        assert [end_of(waiter)[:9] for waiter in line[:2]] == ["UNBLOCKED"] * 2
    else:
        found = line[0].answer()
        assert found[:3] == (b"BUSY", None, None) and found.tags == []
        assert line[1].answer() is None
    wait_for(lambda: waiters(server, "k") == 1, "two to be forgotten")
    assert server("CLIENT", "UNBLOCK", line[0].id, *how) == 0
    assert line[0].connection("PING") == b"PONG", "its connection lives"
    fill(server, "k", token)
    assert line[2].answer()[:2] == (b"FRESH", b"v")


@pytest.mark.parametrize("what", ["WRITE", "ALL"])
def test_client_pause(server, what):
    """A lease may end in it and a FETCH be promoted; a LOCK, which is a write, is granted after it."""
    grant(server, "k", "LEASE", 300)
    grant(server, "j", "LEASE", 300)
    line = [fetcher(server, "k", "LEASE", 60_000), locker(server, "j"), locker(server, "j", block=301)]
    # ALL holds UNPAUSE back as well.
    pauser = server.connect()
    assert pauser("CLIENT", "PAUSE", 60_000 if what == "WRITE" else 700, what) == b"OK"
    if what == "WRITE":
        expires(pauser, "j")
        assert line[1].waits(), "the data set must not change"
        assert pauser("CLIENT", "UNPAUSE") == b"OK"
    promoted(line[0])
    assert line[1].answer() > 0
    assert line[2].answer() is None
    assert gauges(server) == (1, 1, 0)


def test_commands_behind_a_waiter_come_after_it(server):
    token = grant(server, "k")
    waiter = fetcher(server, "k")
    for command in (("CACHE.GET", "k"), ("CACHE.FETCH", "j", "LEASE", 5), ("RESET",), ("PING",)):
        waiter.connection.send(*command)
    assert waiter.waits() and waiters(server, "k") == 1
    fill(server, "k", token)
    assert waiter.answer()[:2] == (b"FRESH", b"v")
    assert waiter.answer() == b"v"
    assert waiter.answer()[:2] == (b"MISS", None)
    assert waiter.answer() == b"RESET" and waiter.answer() == b"PONG"


def test_reset_keeps_the_lease_of_its_connection(server):
    """It closes nothing; the end of the connection does."""
    holder = server.connect()
    grant(holder, "k", "LEASE", 60_000)
    waiter = fetcher(server, "k")
    assert holder("RESET") == b"RESET"
    assert waiter.waits()
    holder.close()
    promoted(waiter)


# --- many ------------------------------------------------------------------------------------------
def test_caps_answer_busy_and_nil(server):
    server.config("cacheflow.max-waiters-per-key", 2)
    server.config("cacheflow.max-waiters", 3)
    for key in ("k", "j", "i"):
        grant(server, key, "LEASE", 60_000)
    line = [fetcher(server, "k"), locker(server, "k")]
    assert fetch(server, "k", "BLOCK", 0)[:3] == (b"BUSY", None, None), "two for a key"
    assert server("CACHE.LOCK", "k", 1000, "BLOCK", 0) is None
    line.append(fetcher(server, "j"))
    assert fetch(server, "i", "BLOCK", 0)[:3] == (b"BUSY", None, None), "three in all"
    line[0].close()
    wait_for(lambda: waiters(server, "k") == 1, "one to be forgotten")
    line.append(fetcher(server, "i"))
    server.config("cacheflow.max-waiters", 0)
    assert fetch(server, "none").state == b"MISS"
    assert fetch(server, "none", "BLOCK", 0).state == b"BUSY"
    assert line[1].waits(), "who waits goes on"


@single
def test_the_cap_of_leases(fresh_server):
    server = fresh_server()
    server.config("cacheflow.max-leases", 3)
    tokens = [grant(server, key) for key in ("a", "b")] + [server("CACHE.LOCK", "c", 60_000)]
    server("CACHE.SET", "stale", "v", "EX", 60)
    server("CACHE.STALE", "stale")
    assert fetch(server, "d")[:3] == (b"BUSY", None, None)
    assert fetch(server, "d", "BLOCK", 0)[:3] == (b"BUSY", None, None), "nor may it be waited for"
    assert fetch(server, "stale")[:3] == (b"STALE", b"v", None)
    assert server("CACHE.LOCK", "d", 1000, "BLOCK", 0) is None
    assert server("CACHE.UNLOCK", "b", tokens[1]) == 1
    assert grant(server, "d") > tokens[2]
    fill(server, "a", tokens[0])
    assert server("CACHE.LOCK", "e", 1000) > 0
    assert server("CACHE.UNLOCK", "c", tokens[2]) == 1, "what is held made room for nobody"


def test_two_thousand_on_one_key(server):
    counted, token = Since(server), grant(server, "k", "LEASE", 60_000)
    line = [server.connect() for _ in range(2000)]
    for connection in line:
        connection.send("CACHE.FETCH", "k", "BLOCK", 0)
    wait_for(lambda: waiters(server, "k") == 2000, "all to wait")
    fill(server, "k", token, "v" * 1000)
    for connection in line:
        assert connection.read()[:3] == [b"FRESH", b"v" * 1000, None]
    for connection in line[::100]:
        assert connection("PING") == b"PONG", "once"
    assert (counted("grants"), counted("waits"), counted("coalesced")) == (1, 2000, 2000)
    assert gauges(server) == (0, 0, 0)


@several_databases
def test_swapdb(server):
    """Waiters stay with the number of their database, and see what is there now."""
    other = server.connect(db=1)
    other("CACHE.SET", "k", "v", "EX", 60)
    token = grant(server, "k", "LEASE", 60_000)
    line = (
        [*in_line(server, "k", 2), fetcher(server, "missing", block=60_000)]
        if grant(server, "missing")
        else []
    )
    server("SWAPDB", 0, 1)
    assert [waiter.answer()[:3] for waiter in line[:2]] == [(b"FRESH", b"v", None)] * 2
    promoted(line[2])
    for connection in (server, other):
        assert connection("CACHE.SET", "k", "old", "LEASE", token) is None
    assert fetch(other, "k").state == b"MISS", "void, in either database"


@several_databases
def test_a_flush_of_another_database_is_none_of_theirs(server):
    grant(server, "k", "LEASE", 60_000)
    waiter = fetcher(server, "k")
    server.connect(db=1)("FLUSHDB")
    assert waiter.waits()
    server("FLUSHDB")
    promoted(waiter)


@single
def test_what_is_only_remembered_makes_room(fresh_server):
    """The oldest first; its token is refused then."""
    server = fresh_server()
    server.config("cacheflow.max-leases", 3)
    tokens = []
    for n in range(10):
        tokens.append(grant(server, f"k{n}", "LEASE", 1))
        expires(server, f"k{n}")
    fill(server, "k9", tokens[9])
    assert server("CACHE.SET", "k0", "v", "LEASE", tokens[0]) is None


def test_tracking_is_told_before_a_waiter_is_answered(server):
    """What it remembers of the key is from when it began to wait: whoever is told of a change before
    the answer comes does not keep the answer."""
    token = grant(server, "k")
    waiter = server.connect(protocol=3)
    waiter("CLIENT", "TRACKING", "ON")
    waiter.send("CACHE.FETCH", "k", "BLOCK", 0)
    wait_for(lambda: waiters(server, "k") == 1, "it to wait")
    fill(server, "k", token)
    assert waiter.read()[:2] == [b"FRESH", b"v"]
    assert waiter.pushed == [[b"invalidate", [b"k"]]]


def test_a_reply_that_is_not_wanted(server):
    """CLIENT REPLY SKIP and OFF: it waits, and nothing comes."""
    token, connection = grant(server, "k"), server.connect()
    connection.send("CLIENT", "REPLY", "SKIP")
    connection.send("CACHE.FETCH", "k", "BLOCK", 0)
    wait_for(lambda: waiters(server, "k") == 1, "it to wait")
    fill(server, "k", token)
    assert connection("PING") == b"PONG"
    grant(server, "j", "LEASE", 60_000)
    connection.send("CLIENT", "REPLY", "OFF")
    connection.send("CACHE.FETCH", "j", "BLOCK", 50)
    assert connection("CLIENT", "REPLY", "ON") == b"OK"


def test_a_server_that_was_held_up(server):
    """What became due meanwhile is done in its order: the lock ended before the FETCH's time was up."""
    lock = server("CACHE.LOCK", "k", 100)
    first, second = fetcher(server, "k", block=150), locker(server, "k", block=50)
    server("DEBUG", "SLEEP", 0.5)
    assert promoted(first) > lock
    assert second.answer() is None


@single
def test_an_orderly_stop(fresh_server):
    """With clients that wait the server ends as it should, and locks are in the file."""
    server = fresh_server(["--save", "60 1"])
    lock = server("CACHE.LOCK", "k", 600_000)
    for _ in range(3):
        fetcher(server, "k"), locker(server, "k", block=60_000)
    server.restart()
    assert waiters(server, "k") == 0
    assert server("CACHE.UNLOCK", "k", lock) == 1


@single
def test_the_longest_times(fresh_server):
    """Neither overflows, in memory or in a file."""
    server = fresh_server()
    locks = {f"k{ms}": (ms, server("CACHE.LOCK", f"k{ms}", ms)) for ms in (1 << 40, 1 << 46, (1 << 48) - 2)}
    for key, (ms, lock) in locks.items():
        assert server("CACHE.EXTEND", key, lock, ms) == 1
        line = [fetcher(server, key, "LEASE", ms, block=ms), locker(server, key, ms, block=ms)]
        assert all(waiter.waits() for waiter in line)
    assert fetch(server, "m", "LEASE", (1 << 48) - 2).ms == 600_000
    server("SAVE")
    server.kill9()
    server.restart()
    for key, (_, lock) in locks.items():
        assert held_for(server, key) > 1 << 39
        assert server("CACHE.UNLOCK", key, lock) == 1


# --- roles -----------------------------------------------------------------------------------------
@single
def test_a_demotion_unblocks(fresh_server):
    """-UNBLOCKED or a closed connection, as the server does it; afterwards all is forgotten but locks."""
    server, other = fresh_server(), fresh_server()
    grant(server, "k", "LEASE", 60_000)
    lock = server("CACHE.LOCK", "l", 60_000)
    line = [fetcher(server, "k"), fetcher(server, "k", block=60_000), locker(server, "l")]
    server("REPLICAOF", "127.0.0.1", other.port)
    for waiter in line:
        end = end_of(waiter)
        assert end == "CLOSED" or end.startswith("UNBLOCKED"), end
    server.wait_replica_of(other)
    assert gauges(server)[2] == 0 and gauges(server)[0] == 0
    assert fetch(server, "k", "BLOCK", 0) == (b"BUSY", None, None, 0, None)
    server("REPLICAOF", "NO", "ONE")
    assert grant(server, "k") > lock
    assert_verified(server)


@single
def test_gauges_and_memory_return_to_zero(fresh_server):
    server = fresh_server()

    def level():
        return [figure(server, f"{name}", "cacheflow_leases") for name in ("leases", "locks", "waiters")]

    def burst():
        tokens = [grant(server, f"k{n % 7}:{n}", "LEASE", 60_000) for n in range(300)]
        locks = [server("CACHE.LOCK", f"l:{n}", 60_000) for n in range(300)]
        line = [fetcher(server, f"k{n % 7}:{n}") for n in range(50)]
        line += [locker(server, f"l:{n}") for n in range(50)]
        assert level() == [300, 300, 100]
        for n, token in enumerate(tokens):
            fill(server, f"k{n % 7}:{n}", token)
        for n, lock in enumerate(locks):
            assert server("CACHE.UNLOCK", f"l:{n}", lock) == 1
        for waiter in line[:50]:
            assert waiter.answer().state == b"FRESH"
        for n, waiter in enumerate(line[50:]):
            assert server("CACHE.UNLOCK", f"l:{n}", waiter.answer()) == 1
        assert level() == [0, 0, 0]
        assert figure(server, "lease_keys", "cacheflow_leases") == 0
        for waiter in line:
            waiter.close()
        server("FLUSHALL")
        return figure(server, "lease_bytes", "cacheflow_leases")

    first = burst()
    assert [burst() for _ in range(3)] == [first] * 3
    assert_verified(server)


def test_wrong_requests_wait_for_nothing(server):
    grant(server, "k")
    for command in (
        ("CACHE.LOCK", "k", 1000, "BLOCK"),
        ("CACHE.LOCK", "k", 0, "BLOCK", 0),
        ("CACHE.LOCK", "k"),
    ):
        with pytest.raises(ReplyError):
            server(*command)
    assert waiters(server, "k") == 0
    waiter = Waiter(server, "CACHE.LOCK", "k", 1000, "block", 0)
    assert waiter.waits()
