"""Clients that wait in CACHE.FETCH and CACHE.LOCK: each is answered, in its turn, whatever happens."""

import time

import pytest

from harness.leases import (
    Since,
    end_of,
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
from harness.server import wait_for
from harness.tagged import DEBUG, turn_clock
from harness.topologies import several_databases

single = pytest.mark.topology("single")


@pytest.fixture(autouse=True)
def nobody_is_left(request):
    """When all clients of a test have gone, nobody waits."""
    yield
    server = request.node.funcargs.get("server")
    if server is not None and server.running:
        server.close_connections()
        wait_for(lambda: gauges(server)[2] == 0, "the last waiter to be gone")


# --- woken by a value ------------------------------------------------------------------------------
def test_a_fill_answers_all_with_its_value(server):
    counted = Since(server)
    token = grant(server, "k")
    line = [*in_line(server, "k", 5), fetcher(server, "k", "WITHTAGS", block=60_000)]
    assert waiters(server, "k") == 6 and line[0].waits()
    fill(server, "k", token, "v", "EX", 60, "TAGS", "b", "a")
    for waiter in line:
        found = waiter.answer()
        assert found[:3] == (b"FRESH", b"v", None) and 0 < found.ms <= 60_000
    assert sorted(found.tags) == [b"a", b"b"]
    assert (counted("grants"), counted("coalesced"), counted("waits")) == (1, 6, 6)
    assert gauges(server) == (0, 0, 0) and waiters(server, "k") == 0


VALUES = {
    "CACHE.SET": (("CACHE.SET", "k", "v"), b"v"),
    "CACHE.SET with a time": (("CACHE.SET", "k", "v", "PX", 30_000), b"v"),
    "CACHE.INCRBY": (("CACHE.INCRBY", "k", 42), b"42"),
    "RENAME": (("RENAME", "entry{k}", "k"), b"e"),
    "RENAMENX": (("RENAMENX", "entry{k}", "k"), b"e"),
    "COPY": (("COPY", "entry{k}", "k"), b"e"),
    "RENAME of a string": (("RENAME", "native{k}", "k"), b"n"),
    "COPY of a string": (("COPY", "native{k}", "k"), b"n"),
}


@pytest.mark.parametrize("how", VALUES)
def test_any_value_wakes(server, how):
    """Whoever writes it, by whatever command that CacheFlow hears of: it voids the lease."""
    server("CACHE.SET", "entry{k}", "e", "EX", 60)
    server("SET", "native{k}", "n")
    command, value = VALUES[how]
    token = grant(server, "k", "LEASE", 60_000)
    line = in_line(server, "k", 2)
    server(*command)
    assert [waiter.answer()[:3] for waiter in line] == [(b"FRESH", value, None)] * 2
    assert held_for(server, "k") == 0
    assert server("CACHE.SET", "k", "old", "LEASE", token) is None


MADE = {"entry": ("CACHE.SET", "made", "v", "EX", 60), "native": ("SET", "made", "v")}


@pytest.mark.parametrize("of", MADE)
def test_what_is_restored_wakes(server, of):
    server(*MADE[of])
    grant(server, "k")
    waiter = fetcher(server, "k")
    server("RESTORE", "k", 0, server("DUMP", "made"))
    assert waiter.answer()[:3] == (b"FRESH", b"v", None)


@several_databases
@pytest.mark.parametrize("of", MADE)
def test_what_is_moved_wakes(server, of):
    server(*MADE[of])
    grant(server.connect(db=1), "made")
    waiter = fetcher(server, "made", db=1)
    assert server("MOVE", "made", 1) == 1
    assert waiter.answer()[:3] == (b"FRESH", b"v", None)


@pytest.mark.parametrize("by", ["SET k n", "MSET k n"])
def test_a_native_string_over_an_entry_wakes(server, by):
    server("CACHE.SET", "k", "v", "EX", 60)
    server("CACHE.STALE", "k")
    token = fetch(server, "k").token
    line = in_line(server, "k", 2, "MAXSTALE", 0)
    server(*by.split())
    assert [waiter.answer()[:3] for waiter in line] == [(b"FRESH", b"n", None)] * 2
    assert server("CACHE.SET", "k", "old", "LEASE", token) is None
    assert server("GET", "k") == b"n"


def test_expiry_of_what_is_stale_wakes_nobody(server):
    """It voids nothing: the fill is still awaited."""
    server("CACHE.SET", "k", "v", "EX", 60)
    server("CACHE.STALE", "k")
    token = fetch(server, "k", "LEASE", 60_000).token
    waiter = fetcher(server, "k", "MAXSTALE", 0)
    server("PEXPIRE", "k", 1)
    wait_for(lambda: server("EXISTS", "k") == 0, "the end of 1 ms")
    assert waiter.waits() and held_for(server, "k") > 0
    fill(server, "k", token)
    assert waiter.answer()[:2] == (b"FRESH", b"v")


@pytest.mark.parametrize("stale_by", ["CACHE.STALE k", "CACHE.INVALIDATE SOFT TAGS a"])
def test_who_insists_on_fresh_waits_for_what_is_stale(server, stale_by):
    server("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a")
    server(*stale_by.split())
    token = fetch(server, "k").token
    line = in_line(server, "k", 2, "MAXSTALE", 0)
    assert fetch(server, "k", "BLOCK", 0)[:3] == (b"STALE", b"v", None), "who does not, does not"
    # Staled again: the lease is void, the first may compute; its value answers the other.
    server(*stale_by.split())
    token = promoted(line[0])
    assert line[1].waits()
    fill(server, "k", token, "new")
    assert line[1].answer()[:2] == (b"FRESH", b"new")


def test_touch_wakes(server):
    server("CACHE.SET", "k", "v", "EX", 60)
    server("CACHE.STALE", "k")
    token = fetch(server, "k").token
    waiter = fetcher(server, "k", "MAXSTALE", 0)
    assert server("CACHE.TOUCH", "k", "LEASE", token) == 1
    assert waiter.answer()[:3] == (b"FRESH", b"v", None)


def test_one_that_turned_into_a_list(server):
    """By RENAME it is heard of, by RPUSH it is found when the turn comes."""
    grant(server, "k")
    line = in_line(server, "k", 2)
    server("RPUSH", "list{k}", "x")
    server("RENAME", "list{k}", "k")
    assert all(end_of(waiter).startswith("WRONGTYPE") for waiter in line)
    token = grant(server, "j")
    line = in_line(server, "j", 2)
    server("RPUSH", "j", "x")
    assert server("CACHE.UNLOCK", "j", token) == 1
    assert all(end_of(waiter).startswith("WRONGTYPE") for waiter in line)
    assert gauges(server) == (0, 0, 0)


# --- promoted, first come first served -------------------------------------------------------------
def unlock(server, token, holder):
    assert server("CACHE.UNLOCK", "k", token) == 1


def cache_del(server, token, holder):
    assert server("CACHE.DEL", "k") == 0


def flush(server, token, holder):
    server("FLUSHALL")


def flush_database(server, token, holder):
    server("FLUSHDB", "ASYNC")


def refused(server, token, holder):
    server("CACHE.INVALIDATE", "TAGS", "a")
    assert server("CACHE.SET", "k", "v", "LEASE", token, "TAGS", "a") is None


def shortened(server, token, holder):
    assert server("CACHE.EXTEND", "k", token, 1) == 1


def closed(server, token, holder):
    holder.close()


def killed(server, token, holder):
    assert server("CLIENT", "KILL", "ID", holder("CLIENT", "ID")) == 1


ENDS = [unlock, cache_del, flush, flush_database, refused, shortened, closed, killed]


@pytest.mark.parametrize("end", ENDS)
def test_the_longest_waiter_is_promoted(server, end):
    """One alone, with a new token, and in order of arrival; the last one's value is for the rest."""
    counted, holder = Since(server), server.connect()
    tokens = [grant(holder, "k", "LEASE", 60_000)]
    first, second, third, fourth = line = in_line(server, "k", 4)
    end(server, tokens[-1], holder)
    tokens.append(promoted(first))
    assert second.waits() and third.waits() and waiters(server, "k") == 3
    end(server, tokens[-1], first.connection)
    tokens.append(promoted(second))
    assert third.waits() and waiters(server, "k") == 2
    fill(server, "k", tokens[-1])
    assert third.answer()[:2] == fourth.answer()[:2] == (b"FRESH", b"v")
    assert tokens == sorted(set(tokens)) and len(line) == 4
    assert (counted("promotions"), counted("grants"), counted("fills")) == (2, 3, 1)
    for old in tokens:
        assert server("CACHE.SET", "k", "old", "LEASE", old) is None


def test_a_lease_that_runs_out_promotes(server):
    began = time.monotonic()
    token = grant(server, "k", "LEASE", 100)
    first, second = fetcher(server, "k", "LEASE", 100), fetcher(server, "k", "LEASE", 60_000)
    promoted(first)
    assert time.monotonic() - began > 0.09
    last = promoted(second)
    assert time.monotonic() - began > 0.19
    assert 1000 < held_for(server, "k") <= 60_000, "its full length begins with the promotion"
    assert server("CACHE.SET", "k", "old", "LEASE", token) is None
    fill(server, "k", last)


@pytest.mark.parametrize("what", ["DEL", "INVALIDATE"])
def test_what_kills_a_stale_entry_promotes(server, what):
    server("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a")
    server("CACHE.STALE", "k")
    fetch(server, "k", "LEASE", 60_000)
    first, second = in_line(server, "k", 2, "MAXSTALE", 0)
    server(*(("DEL", "k") if what == "DEL" else ("CACHE.INVALIDATE", "TAGS", "a")))
    token = promoted(first)
    assert second.waits()
    fill(server, "k", token, "new", "TAGS", "a")
    assert second.answer()[:2] == (b"FRESH", b"new")


def test_a_closed_connection_ends_only_fetch_leases(server):
    """Not with KEEP, and no lock; and without a successor the token may still fill."""
    holder = server.connect()
    token, kept = grant(holder, "k", "LEASE", 60_000), grant(holder, "kept", "KEEP", "LEASE", 60_000)
    lock = holder("CACHE.LOCK", "lock", 60_000)
    line = [fetcher(server, "kept"), fetcher(server, "lock")]
    holder.close()
    wait_for(lambda: held_for(server, "k") == 0, "the lease to be given up")
    assert all(waiter.waits() for waiter in line)
    assert held_for(server, "kept") > 0 and held_for(server, "lock") > 0
    fill(server, "k", token)
    fill(server, "kept", kept)
    fill(server, "lock", lock)
    assert [waiter.answer()[:2] for waiter in line] == [(b"FRESH", b"v")] * 2


def test_a_promoted_waiters_lease_is_its_connections(server):
    token = grant(server, "k")
    first, kept, third = fetcher(server, "k"), fetcher(server, "k", "KEEP"), fetcher(server, "k")
    server("CACHE.UNLOCK", "k", token)
    promoted(first)
    first.close()
    token = promoted(kept)
    kept.close()
    assert third.waits()
    fill(server, "k", token)
    assert third.answer()[:2] == (b"FRESH", b"v")


def test_fetches_and_locks_stand_in_one_queue(server):
    lock = server("CACHE.LOCK", "k", 60_000)
    line = [fetcher(server, "k"), locker(server, "k"), locker(server, "k"), fetcher(server, "k")]
    assert waiters(server, "k") == 4
    server("CACHE.UNLOCK", "k", lock)
    tokens = [promoted(line[0])]
    assert line[1].waits()
    for waiter in line[1:3]:
        server("CACHE.UNLOCK", "k", tokens[-1])
        tokens.append(waiter.answer())
        assert line[3].waits()
    server("CACHE.UNLOCK", "k", tokens[-1])
    tokens.append(promoted(line[3]))
    assert tokens == sorted(tokens)


def test_a_fill_passes_locks_and_leaves_them_their_turn(server):
    token = grant(server, "k")
    line = [locker(server, "k"), fetcher(server, "k"), locker(server, "k")]
    fill(server, "k", token)
    assert line[1].answer()[:2] == (b"FRESH", b"v")
    lock = line[0].answer()
    assert lock > token and line[2].waits()
    fill(server, "k", lock, "w")
    assert line[2].answer() > lock


def test_retry_keeps_waiters_until_the_back_off_is_over(server):
    token = grant(server, "k")
    first, second = in_line(server, "k", 2)
    began = time.monotonic()
    assert server("CACHE.UNLOCK", "k", token, "RETRY", 300) == 1
    found = fetch(server, "k")
    assert found[:3] == (b"BUSY", None, None) and 0 < found.ms <= 300
    assert first.waits() and waiters(server, "k") == 2
    token = promoted(first)
    assert time.monotonic() - began > 0.29
    assert second.waits()
    fill(server, "k", token)
    assert second.answer()[:2] == (b"FRESH", b"v")


def test_a_write_ends_the_back_off(server):
    token = grant(server, "k")
    waiter = fetcher(server, "k")
    assert server("CACHE.UNLOCK", "k", token, "RETRY", 600_000) == 1
    lock = server("CACHE.LOCK", "k", 60_000)
    assert lock > token and waiter.waits(), "a LOCK is not refused"
    assert server("CACHE.UNLOCK", "k", lock) == 1
    assert waiter.waits(), "the back-off goes on"
    server("CACHE.SET", "k", "v")
    assert waiter.answer()[:2] == (b"FRESH", b"v")
    server("CACHE.STALE", "k")
    assert fetch(server, "k").token is not None


@pytest.mark.parametrize("soft", [(), ("SOFT",)])
@pytest.mark.parametrize("there", [True, False])
def test_a_namespaces_invalidation_promotes(server, soft, there):
    """Also where nothing lies under the key: the fill that is awaited would be refused."""
    if there:
        server("CACHE.SET", "n:k", "v", "EX", 60)
        server("CACHE.STALE", "n:k")
    old = fetch(server, "n:k", "LEASE", 60_000).token
    grant(server, "other:k", "LEASE", 60_000)
    first, second = in_line(server, "n:k", 2, "MAXSTALE", 0)
    other = fetcher(server, "other:k")
    server("CACHE.INVALIDATE", *soft, "NAMESPACE", "n", "none")
    token = promoted(first)
    assert second.waits() and other.waits()
    assert server("CACHE.SET", "n:k", "old", "LEASE", old) is None
    fill(server, "n:k", token, "new")
    assert second.answer()[:2] == (b"FRESH", b"new")


@single
def test_a_woken_waiter_is_never_elected(fresh_server):
    server = fresh_server(module_args=DEBUG)
    server("CACHE.SET", "near its end", "v", "EX", 100, "COST", 1_000_000)
    turn_clock(server, 90_000)
    grant(server, "k")
    waiter = fetcher(server, "k", "BETA", 1e9)
    server("RENAME", "near its end", "k")
    assert waiter.answer()[:3] == (b"FRESH", b"v", None)
    assert fetch(server, "k", "BETA", 1e9).token is not None, "whoever reads is"


def test_all_leases_of_a_connection_end_with_it(topology, server):
    holder, databases = server.connect(), min(5, topology.databases)
    for db in range(databases):
        holder("SELECT", db)
        for n in range(100 // databases):
            grant(holder, f"k{n}", "LEASE", 60_000)
    waiter = fetcher(server, "k7")
    assert gauges(server) == (100, 0, 1)
    holder.close()
    promoted(waiter)
    wait_for(lambda: gauges(server) == (1, 0, 0), "all to be given up")


def test_a_lease_of_a_transaction_is_its_connections(server):
    holder = server.connect()
    holder("MULTI")
    holder("CACHE.FETCH", "k", "LEASE", 60_000)
    assert holder("EXEC")[0][0] == b"MISS"
    waiter = fetcher(server, "k")
    holder.close()
    promoted(waiter)


def test_a_lease_of_a_script_is_kept(server):
    """The server tells a module nothing of whose script it is: as with KEEP it lasts until it is filled,
    given up, or has run out."""
    holder = server.connect()
    script = "return redis.call('CACHE.FETCH', KEYS[1], 'LEASE', 60000)"
    state, _, token, _ = holder("EVAL", script, 1, "k")
    assert state == b"MISS"
    clients = int(server.info("clients")["connected_clients"])
    holder.close()
    wait_for(lambda: int(server.info("clients")["connected_clients"]) < clients, "the connection to be gone")
    assert held_for(server, "k") > 0
    fill(server, "k", token)
