"""The threads in which people computed twice, waited on the dead, or stored what was stale, played again.

Each test is named after the thread it is from.
"""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from harness.engines import ROOT
from harness.leased import assert_nothing_held, counted
from harness.leases import fetch, fetcher, fill, grant, held_for, in_line, locker, promoted, waiters
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import DEBUG, turn_clock
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")


# --- laravel/framework#61328: a flexible refresh stores after the tag was flushed ---
@pytest.mark.parametrize("soft", [(), ("SOFT",)])
def test_laravel_61328_refresh_in_flight_while_the_tag_is_invalidated(server, soft):
    server("CACHE.SET", "users", "old", "EX", 60, "GRACE", 600, "TAGS", "people")
    server("CACHE.STALE", "users")
    refresher, reader = server.connect(), server.connect()
    state, value, token, _ = fetch(refresher, "users")[:4]
    assert (state, value) == (b"STALE", b"old") and token
    server("CACHE.INVALIDATE", *soft, "TAGS", "people")
    assert refresher("CACHE.SET", "users", "old again", "LEASE", token, "EX", 60, "TAGS", "people") is None
    assert reader("CACHE.GET", "users") is None, "what was read before the flush is not served as fresh"
    later = fetch(reader, "users").token
    fill(reader, "users", later, "new", "EX", 60, "TAGS", "people")
    assert server("CACHE.GET", "users") == b"new"


# --- FusionCache#535: a factory that runs while a tag is removed stores an entry that outlives it ---
def test_fusioncache_535_a_fill_of_a_tag_that_the_server_has_never_seen(server):
    """The key is absent and the tag unknown when it is invalidated: only the fill names it."""
    token = grant(server, "product:7", "KEEP")
    assert server("CACHE.INVALIDATE", "TAGS", "shelf:3") == 0
    assert server("CACHE.SET", "product:7", "old", "LEASE", token, "EX", 60, "TAGS", "shelf:3") is None
    assert server("CACHE.GET", "product:7") is None


# --- FusionCache#628: an eager refresh and RemoveByTag ---
def test_fusioncache_628_early_refresh_against_an_invalidation(fresh_server):
    server = fresh_server(module_args=DEBUG)
    server("CACHE.SET", "k", "old", "EX", 100, "COST", 90_000, "TAGS", "t")
    turn_clock(server, 99_000)
    elected = wait_for(lambda: fetch(server, "k", "BETA", 1000).token, "an early election")
    server("CACHE.INVALIDATE", "TAGS", "t")
    assert server("CACHE.TOUCH", "k", "LEASE", elected) == 0
    assert server("CACHE.SET", "k", "old", "LEASE", elected, "EX", 100, "TAGS", "t") is None
    assert fetch(server, "k").state == b"MISS"


# --- caffeine#193: a key deleted during its refresh comes back ---
@pytest.mark.parametrize("command", ["CACHE.DEL", "DEL", "UNLINK"])
def test_caffeine_193_deletion_during_a_refresh(server, command):
    server("CACHE.SET", "k", "old", "EX", 60, "GRACE", 60)
    server("CACHE.STALE", "k")
    token = fetch(server, "k").token
    assert server(command, "k") == 1
    assert server("CACHE.SET", "k", "old", "LEASE", token, "EX", 60) is None
    assert server("EXISTS", "k") == 0


# --- cashews#127: thousands wait on one key with a small pool, and starve or deadlock ---
def test_cashews_127_five_thousand_waiters_and_one_computation(fresh_server):
    server = fresh_server(args=["--maxclients", 6000])
    token = grant(server, "hot", "KEEP", "LEASE", 60_000)
    crowd = [server.connect() for _ in range(5000)]
    for connection in crowd:
        connection.send("CACHE.FETCH", "hot", "BLOCK", 0)
    wait_for(lambda: waiters(server, "hot") == 5000, "5,000 to wait")
    assert server("PING") == b"PONG", "nobody else is held up"
    fill(server, "hot", token, "value", "EX", 60)
    for connection in crowd:
        assert connection.read()[:3] == [b"FRESH", b"value", None]
    assert counted(server, "grants") == 1 and counted(server, "coalesced") == 5000
    assert_nothing_held(server)
    for connection in crowd:
        connection.close()


def test_cashews_127_a_pool_of_one_connection_cannot_deadlock(server):
    """Who waits on a connection and computes on it as well is promoted on it: nobody else is needed."""
    first = server.connect()
    token = grant(first, "k", "LEASE", 60_000)
    pooled = fetcher(server, "k")
    assert first("CACHE.UNLOCK", "k", token) == 1
    again = promoted(pooled)
    fill(pooled.connection, "k", again, "value", "EX", 60)
    assert fetch(pooled.connection, "k").value == b"value"


# --- symfony#63592: the holder is killed, the others wait for the lock's whole time ---
HOLDER = """
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from harness.resp import Connection
    connection = Connection(int(sys.argv[1]))
    print(connection("CACHE.FETCH", "k", "LEASE", 600000)[2], flush=True)
    time.sleep(600)
"""


def test_symfony_63592_the_holder_is_killed(server):
    program = [sys.executable, "-c", textwrap.dedent(HOLDER), str(server.port), os.path.join(ROOT, "tests")]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as holder:
        token = int(holder.stdout.readline())
        waiting = in_line(server, "k", 3)
        assert held_for(server, "k") > 500_000
        holder.send_signal(signal.SIGKILL)
        later = promoted(waiting[0])
    assert later > token
    fill(server, "k", later, "value", "EX", 60)
    assert [waiter.answer().value for waiter in waiting[1:]] == [b"value"] * 2
    assert counted(server, "grants") == 2


# --- rails#54229: what is stored in the race window lives for the window, not for its time ---
def test_rails_54229_what_a_refresh_stores_has_its_full_time(server):
    server("CACHE.SET", "k", "old", "EX", 100, "GRACE", 10)
    server("CACHE.STALE", "k")
    holder, reader = server.connect(), server.connect()
    token = fetch(holder, "k").token
    stale = fetch(reader, "k")
    assert (stale.state, stale.value, stale.token) == (b"STALE", b"old", None), "the others are served"
    fill(holder, "k", token, "new", "EX", 1000, "GRACE", 50)
    found = meta(server, "k")
    assert 990_000 < found["fresh-ms"] <= 1_000_000 and 1_040_000 < found["ttl-ms"] <= 1_050_000
    assert fetch(reader, "k").ms > 990_000


# --- RedLock.net#101: the lock's key is evicted under maxmemory ---
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl", "noeviction"])
def test_redlock_net_101_locks_under_maxmemory(server, policy):
    tokens = {f"lock:{n}": server("CACHE.LOCK", f"lock:{n}", 600_000) for n in range(50)}
    server.config("maxmemory-policy", policy)
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + (2 << 20))
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"k:{n}", b"v" * 1000, "EX", 1000) for n in range(6000)])
    if policy != "noeviction":
        assert int(server.info("stats")["evicted_keys"]) > 1000
    for name, token in tokens.items():
        assert server("CACHE.LOCK", name, 1000) is None, "still held"
        assert server("CACHE.UNLOCK", name, token) == 1
    late = server("CACHE.LOCK", "lock:late", 1000)
    assert late > max(tokens.values()), "and can be taken where memory is short"
    server("CACHE.UNLOCK", "lock:late", late)
    assert_nothing_held(server)


# --- node-redlock#296: the time that one waits for a lock is taken off it ---
def test_node_redlock_296_time_waiting_does_not_consume_the_lock(fresh_server):
    server = fresh_server(module_args=DEBUG)
    first = server("CACHE.LOCK", "k", 50_000)
    waiter = locker(server, "k", 60_000)
    turn_clock(server, 40_000)
    assert server("CACHE.UNLOCK", "k", first) == 1
    second = waiter.answer()
    assert second > first
    assert 55_000 < held_for(server, "k") <= 60_000, "all of it is left, and 40 s were waited"
    assert_verified(server)
