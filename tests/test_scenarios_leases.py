"""The threads in which people served what was stale for good, waited for the dead, or lost a lock that they
held, played again.

Each test is named after the thread it is from.
"""

import os
import queue
import select
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from harness.leases import assert_nothing_held, counted, lease, wait_in_line, waiters
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import DEBUG, turn_clock

LONG = 600_000  # ms: a lease that nothing in a test outlives


def get(connection, key):
    """What a reader is given as fresh, and by one who takes what is stale."""
    return connection("CACHE.GET", key), connection("CACHE.GET", key, "STALE")


# --- FusionCache#535: a tag removed while the first load of an entry runs ----------------------------------
@pytest.mark.parametrize("soft", [[], ["SOFT"]])
@pytest.mark.parametrize("known", [False, True])
def test_fusioncache_535_a_tag_invalidated_during_the_load(server, soft, known):
    """The load read the database before the invalidation, and names the tag only when it is done: it is
    refused, be the tag known or not. Who waited computes anew, and is not given what was refused."""
    if known:
        server("CACHE.SET", "other", "v", "EX", 1000, "TAGS", "product:7")
    token = lease(server, "page", "LEASE", LONG)
    waiting = [wait_in_line(server, "CACHE.FETCH", "page", "BLOCK", 0) for _ in range(5)]
    assert server("CACHE.INVALIDATE", *soft, "TAGS", "product:7") == known
    assert server("CACHE.SET", "page", "old", "LEASE", token, "EX", 1000, "TAGS", "site", "product:7") is None
    assert get(server, "page") == (None, None)
    state, value, token, _ = waiting[0].read()
    assert (state, value) == (b"MISS", None)
    fill = ("CACHE.SET", "page", "new", "LEASE", token, "EX", 1000, "TAGS", "site", "product:7")
    assert waiting[0](*fill) == b"OK"
    assert [waiter.read()[:3] for waiter in waiting[1:]] == [[b"FRESH", b"new", None]] * 4
    assert_nothing_held(server)


# --- FusionCache#628: a tag removed while an eager refresh runs in the background --------------------------
@pytest.mark.topology("single")
@pytest.mark.parametrize("soft", [[], ["SOFT"]])
@pytest.mark.parametrize("by", ["SET", "TOUCH"])
def test_fusioncache_628_a_tag_invalidated_during_an_eager_refresh(fresh_server, by, soft):
    """The entry is still fresh, one reader was elected to refresh it early: what he brings, or says has
    not changed, is from before the invalidation."""
    server = fresh_server(module_args=DEBUG)
    options = ("EX", 100, "GRACE", 10_000, "COST", 60_000, "TAGS", "a", "b")
    server("CACHE.SET", "k", "old", *options)
    turn_clock(server, 90_000)
    state, value, token, _ = wait_for(
        lambda: (found := server("CACHE.FETCH", "k", "BETA", 1000))[2] and found, "an early election"
    )
    assert (state, value) == (b"FRESH", b"old")
    assert server("CACHE.INVALIDATE", *soft, "TAGS", "b") == 1
    if by == "SET":
        assert server("CACHE.SET", "k", "old too", "LEASE", token, *options) is None
    else:
        assert server("CACHE.TOUCH", "k", "LEASE", token, "EX", 1000) == 0
    assert get(server, "k") == (None, b"old" if soft else None), "it stays invalidated"
    state, value, token, _ = server("CACHE.FETCH", "k")
    assert (state, value) == ((b"STALE", b"old") if soft else (b"MISS", None))
    assert server("CACHE.SET", "k", "new", "LEASE", token, *options) == b"OK"
    assert server("CACHE.FETCH", "k", "BETA", 0)[:2] == [b"FRESH", b"new"]


# --- laravel#61328: a stale value's refresh, deferred until after the tags were flushed --------------------
@pytest.mark.parametrize(
    "flush", ["CACHE.INVALIDATE TAGS users", "CACHE.INVALIDATE NAMESPACE app", "FLUSHDB"]
)
def test_laravel_61328_a_deferred_refresh_after_the_flush(server, flush):
    """It was promised while the value was stale; when its turn comes the tag has been flushed, and
    perhaps filled anew: it must neither revive the old nor overwrite the new."""
    options = ("EX", 300, "GRACE", 3000, "TAGS", "users")
    for filled_anew in (False, True):
        server("CACHE.SET", "app:users", "old", *options)
        server("CACHE.STALE", "app:users")
        assert server("CACHE.FETCH", "app:users")[:2] == [b"STALE", b"old"]
        deferred = server("CACHE.FETCH", "app:users")[2] or meta(server, "app:users")["lease-ms"]
        assert deferred, "one of them refreshes it"
        server("CACHE.STALE", "app:users")  # whoever it was, it is ours now
        deferred = lease(server, "app:users", "LEASE", LONG)
        server(*flush.split())
        if filled_anew:
            token = lease(server, "app:users", "LEASE", LONG)
            assert server("CACHE.SET", "app:users", "new", "LEASE", token, *options) == b"OK"
        assert server("CACHE.SET", "app:users", "old", "LEASE", deferred, *options) is None
        assert get(server, "app:users") == ((b"new", b"new") if filled_anew else (None, None))
    server("CACHE.DEL", "app:users")
    assert_nothing_held(server)


def test_laravel_61328_two_groups_of_tags_do_not_share_a_refresh(server):
    """A key has one refresh at a time, and only its own."""
    for key in ("one:k", "two:k"):
        server("CACHE.SET", key, "old", "EX", 300, "GRACE", 3000, "TAGS", key)
        server("CACHE.STALE", key)
    one, two = lease(server, "one:k"), lease(server, "two:k")
    assert server("CACHE.FETCH", "one:k")[2] is None
    assert server("CACHE.SET", "two:k", "x", "LEASE", one) is None
    assert server("CACHE.INVALIDATE", "TAGS", "one:k") == 1
    assert server("CACHE.SET", "two:k", "new", "LEASE", two, "EX", 300) == b"OK"


# --- caffeine#193: an entry deleted while its refresh runs came back ---------------------------------------
DELETIONS = ["CACHE.DEL k", "DEL k", "UNLINK k", "PEXPIRE k -1", "RENAME k elsewhere{k}", "CACHE.STALE k"]


@pytest.mark.parametrize("deletion", DELETIONS)
@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
def test_caffeine_193_deleted_during_a_refresh(server, deletion, how):
    """The refresh that was running stores nothing, however often it tries."""
    server("CACHE.SET", "k", "old", "EX", 300, "GRACE", 3000)
    server("CACHE.STALE", "k")
    token = lease(server, "k", "LEASE", LONG) if how == "FETCH" else server("CACHE.LOCK", "k", LONG)
    server(*deletion.split())
    was = get(server, "k")
    for request in (
        ("CACHE.TOUCH", "k", "LEASE", token, "EX", 300),
        ("CACHE.SET", "k", "old", "LEASE", token),
    ):
        assert not server(*request)
        assert get(server, "k") == was
    token = lease(server, "k", "LEASE", LONG)
    assert server("CACHE.SET", "k", "new", "LEASE", token, "EX", 300) == b"OK"
    assert get(server, "k") == (b"new", b"new")


@pytest.mark.parametrize("write", ["CACHE.SET k new EX 300", "CACHE.INCRBY k 1", "CACHE.TOUCH k EX 300"])
def test_caffeine_193_written_during_a_refresh(server, write):
    """Nor does it overwrite what was written since."""
    server("CACHE.SET", "k", "5", "EX", 300, "GRACE", 3000)
    server("CACHE.STALE", "k")
    token = lease(server, "k", "LEASE", LONG)
    server(*write.split())
    was = get(server, "k")
    assert server("CACHE.SET", "k", "old", "LEASE", token, "EX", 300) is None
    assert get(server, "k") == was


# --- cashews#127: five thousand wait, and the pool has few connections -------------------------------------
CROWD = 5000


def commands(server):
    """How many FETCHes the server has been sent."""
    return int(server.info("commandstats")["cmdstat_cache.fetch"].split(",")[0].removeprefix("calls="))


@pytest.mark.topology("single")
def test_cashews_127_five_thousand_wait(fresh_server):
    """A command each and none while they wait; one computes; others are served meanwhile."""
    server = fresh_server(args=["--maxclients", CROWD + 1000])
    holder = server.connect()
    token = lease(holder, "k", "LEASE", LONG)
    crowd = [server.connect() for _ in range(CROWD)]
    for client in crowd:
        client.send("CACHE.FETCH", "k", "BLOCK", 0)
    wait_for(lambda: waiters(server, "k") == CROWD, "all to wait", 120)
    sent = commands(server)  # newer servers count a command once it is answered
    # Some of the crowd lose patience: their places are nobody's.
    for client in crowd[: CROWD // 10]:
        client.close()
    crowd = crowd[CROWD // 10 :]
    wait_for(lambda: waiters(server, "k") == len(crowd), "them to be forgotten", 60)
    assert server("CACHE.SET", "other", "v") == b"OK" and server("CACHE.GET", "other") == b"v"
    assert commands(server) == sent, "nobody polls"
    assert holder("CACHE.SET", "k", "v" * 100, "LEASE", token, "EX", 300) == b"OK"
    for client in crowd:
        assert client.read()[:3] == [b"FRESH", b"v" * 100, None]
    assert counted(server, "grants") == 1 and counted(server, "coalesced") == len(crowd)
    assert len(crowd) < commands(server) <= CROWD + 1
    assert_nothing_held(server)
    assert server.info()["cacheflow_panics"] == "0"


@pytest.mark.topology("single")
def test_cashews_127_five_thousand_wait_and_every_computation_fails(fresh_server):
    """Each in his turn is told to try, and nobody else: no stampede when the first fails."""
    server = fresh_server(args=["--maxclients", CROWD + 1000])
    token = lease(server, "k", "LEASE", LONG)
    crowd = [server.connect() for _ in range(CROWD)]
    for client in crowd:
        client.send("CACHE.FETCH", "k", "BLOCK", 0, "LEASE", LONG)
    wait_for(lambda: waiters(server, "k") == CROWD, "all to wait", 120)
    left = dict.fromkeys(crowd)
    by_socket = {client.sock: client for client in crowd}
    for _ in range(50):
        assert server("CACHE.UNLOCK", "k", token) == 1
        poll = select.poll()  # select takes 1,024
        for client in left:
            poll.register(client.sock, select.POLLIN)
        (ready,) = poll.poll(20_000)
        client = next(of for of in by_socket.values() if of.sock.fileno() == ready[0])
        state, _, later, _ = client.read()
        assert state == b"MISS" and later > token
        token = later
        del left[client], by_socket[client.sock]
        assert waiters(server, "k") == len(left)
    assert server("CACHE.SET", "k", "v", "LEASE", token, "EX", 300) == b"OK"
    for client in left:
        assert client.read()[:2] == [b"FRESH", b"v"]
    assert_nothing_held(server)


def test_cashews_127_a_pool_smaller_than_those_who_wait(server):
    """Sixty tasks share five connections and wait on them without a limit: who computes stores by the one
    he asked by, so he needs no other, and the others are served by it."""
    pool, loads, got = queue.SimpleQueue(), [], []
    for _ in range(5):
        pool.put(server.connect())

    def task():
        connection = pool.get(timeout=60)
        state, value, token, _ = connection("CACHE.FETCH", "k", "BLOCK", 0, "LEASE", LONG)
        if token is not None:
            wait_for(lambda: waiters(looker, "k") == 4, "the pool to be used up")
            loads.append(token)
            value = b"v"
            assert connection("CACHE.SET", "k", value, "LEASE", token, "EX", 300) == b"OK"
        got.append(value)
        pool.put(connection)

    looker = server.connect()
    tasks = [threading.Thread(target=task, daemon=True) for _ in range(60)]
    for one in tasks:
        one.start()
    for one in tasks:
        one.join(60)
    assert got == [b"v"] * 60 and len(loads) == 1
    assert_nothing_held(server)


def test_cashews_127_a_pool_of_one_connection_cannot_deadlock(server):
    """Who waits on a connection and computes on it as well is promoted on it: nobody else is needed."""
    first = server.connect()
    token = lease(first, "k", "LEASE", 60_000)
    pooled = wait_in_line(server, "CACHE.FETCH", "k", "BLOCK", 0)
    assert first("CACHE.UNLOCK", "k", token) == 1
    state, _, again, _ = pooled.read()
    assert state == b"MISS" and pooled("CACHE.SET", "k", "value", "LEASE", again, "EX", 60) == b"OK"
    assert pooled("CACHE.FETCH", "k")[1] == b"value"


# --- symfony#63592: the process that held the lock was killed, and everybody waited for it -----------------
HOLDER = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(sys.argv[2].encode() + b"\\r\\n")
while True:
    data = sock.recv(1000)
    print(data.count(b"\\r\\n"), flush=True)
"""


@contextmanager
def process(server, request):
    """Another process that sends a request and says when it was answered. Ended at the latest here."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(server.port), request], stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_symfony_63592_the_holder_is_killed(server):
    """Its lease has ten minutes to go: whoever waits is promoted all the same, at once."""
    with process(server, f"CACHE.FETCH k LEASE {LONG}") as holder:
        assert holder.stdout.readline(), "it holds the lease"
        assert server("CACHE.FETCH", "k")[0] == b"BUSY"
        waiting = [wait_in_line(server, "CACHE.FETCH", "k", "BLOCK", 0) for _ in range(3)]
        os.kill(holder.pid, signal.SIGKILL)
        state, _, token, _ = waiting[0].read()
        assert state == b"MISS" and waiters(server, "k") == 2
        assert 0 < meta(server, "k")["lease-ms"] <= 60_000, "a lease of its own"
        assert waiting[0]("CACHE.SET", "k", "v", "LEASE", token, "EX", 300) == b"OK"
        assert [waiter.read()[:2] for waiter in waiting[1:]] == [[b"FRESH", b"v"]] * 2
    assert_nothing_held(server)


def test_symfony_63592_so_are_those_who_would_follow(server):
    """A holder, and four that wait, are killed in any order: the one that lives computes."""
    token = lease(server, "k", "LEASE", LONG)
    requests = [f"CACHE.FETCH k BLOCK 0 LEASE {LONG}"] * 4
    children = []
    with process(server, requests[0]) as one, process(server, requests[1]) as two:
        wait_for(lambda: waiters(server, "k") == 2, "two to wait")
        with process(server, requests[2]) as three, process(server, requests[3]) as four:
            wait_for(lambda: waiters(server, "k") == 4, "four to wait")
            children = [one, two, three, four]
            survivor = wait_in_line(server, "CACHE.FETCH", "k", "BLOCK", 0, "LEASE", LONG)
            os.kill(children[1].pid, signal.SIGKILL)
            wait_for(lambda: waiters(server, "k") == 4, "its place to be given up")
            assert server("CACHE.UNLOCK", "k", token) == 1
            wait_for(lambda: waiters(server, "k") == 3, "the first to be promoted")
            for child in children:
                os.kill(child.pid, signal.SIGKILL)
            state, _, token, _ = survivor.read()
            assert state == b"MISS"
    assert survivor("CACHE.SET", "k", "v", "LEASE", token, "EX", 300) == b"OK"
    assert_nothing_held(server)


@pytest.mark.parametrize("how", ["KEEP", "LOCK"])
def test_symfony_63592_who_says_so_keeps_it(server, how):
    """KEEP is for processes that connect anew for each command, and a lock outlives its connection: they
    end when they said they would, and until then nobody else is let in."""
    request = f"CACHE.FETCH k KEEP LEASE {LONG}" if how == "KEEP" else f"CACHE.LOCK k {LONG}"
    with process(server, request) as holder:
        assert holder.stdout.readline()
        before = int(server.info("clients")["connected_clients"])
        os.kill(holder.pid, signal.SIGKILL)
        wait_for(lambda: int(server.info("clients")["connected_clients"]) < before, "it to be gone")
    assert server("CACHE.FETCH", "k")[0] == b"BUSY" and server("CACHE.LOCK", "k", 1000) is None
    assert meta(server, "k")["lease-ms"] > LONG / 2


# --- rails#54229: what was refreshed in the race window expired with the window ----------------------------
def test_rails_54229_what_a_refresh_stores_has_its_full_time(server):
    server("CACHE.SET", "k", "old", "EX", 100, "GRACE", 10)
    server("CACHE.STALE", "k")
    holder, reader = server.connect(), server.connect()
    token = lease(holder, "k")
    assert reader("CACHE.FETCH", "k")[:3] == [b"STALE", b"old", None], "the others are served"
    assert holder("CACHE.SET", "k", "new", "LEASE", token, "EX", 1000, "GRACE", 50) == b"OK"
    found = meta(server, "k")
    assert 990_000 < found["fresh-ms"] <= 1_000_000 and 1_040_000 < found["ttl-ms"] <= 1_050_000
    assert reader("CACHE.FETCH", "k", "BETA", 0)[3] > 990_000


@pytest.mark.topology("single")
@pytest.mark.parametrize("by", ["SET", "TOUCH", "TOUCH without a time"])
@pytest.mark.parametrize("late", [0, 500, 3000])
def test_rails_54229_a_refresh_has_its_whole_ttl(fresh_server, by, late):
    """Five minutes fresh and five seconds of grace: whenever in the grace it is refreshed, and whoever
    else came in it, the next five minutes are whole."""
    server = fresh_server(module_args=DEBUG)
    server("CACHE.SET", "k", "old", "PX", 300_000, "PGRACE", 5000)
    turn_clock(server, 300_000 + late)
    if server("CACHE.GET", "k", "STALE") is None:  # a slow machine: the grace is over
        return
    found = wait_for(lambda: (it := server("CACHE.FETCH", "k", "BETA", 0))[0] != b"FRESH" and it, "the grace")
    state, value, token, left = found
    if state != b"STALE":
        return
    assert value == b"old" and token and 0 <= left <= 5000
    for _ in range(3):
        state, value, none, _ = server("CACHE.FETCH", "k")
        assert none is None
    if by == "SET":
        stored = server("CACHE.SET", "k", "new", "LEASE", token, "PX", 300_000, "PGRACE", 5000) == b"OK"
    elif by == "TOUCH":
        stored = server("CACHE.TOUCH", "k", "LEASE", token, "PX", 300_000, "PGRACE", 5000) == 1
    else:
        stored = server("CACHE.TOUCH", "k", "LEASE", token) == 1
    assert stored
    state, value, token, left = server("CACHE.FETCH", "k", "BETA", 0)
    assert (state, token) == (b"FRESH", None) and value == (b"new" if by == "SET" else b"old")
    assert 295_000 < left <= 300_000
    turn_clock(server, 300_000 + late + 290_000)
    assert server("CACHE.FETCH", "k", "BETA", 0)[0] == b"FRESH", "long after the window"


@pytest.mark.parametrize(
    "how", ["CACHE.STALE k", "CACHE.INVALIDATE SOFT TAGS t", "CACHE.INVALIDATE SOFT NAMESPACE "]
)
def test_rails_54229_so_has_one_that_was_made_stale(server, how):
    """By hand, too, nothing of the old entry's time is left in the new one's."""
    server("CACHE.SET", "k", "old", "EX", 300, "GRACE", 10, "TAGS", "t")
    server(*how.split(" "))
    token = lease(server, "k", "LEASE", 1000)
    assert server("CACHE.SET", "k", "new", "LEASE", token, "EX", 900, "GRACE", 10, "TAGS", "t") == b"OK"
    assert 890_000 < server("CACHE.FETCH", "k", "BETA", 0)[3] <= 900_000
    assert 900_000 < meta(server, "k")["ttl-ms"] <= 910_000


# --- RedLock.net#101: locks and cached objects in one server, full to its maxmemory ------------------------
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl", "noeviction"])
def test_redlock_net_101_locks_in_a_full_cache(server, policy):
    """The server evicts without end; no lock that is held is ever given to another, none conflicts that is
    not, and who waits for one gets it."""
    server.config("maxmemory-policy", policy)
    names = [f"lock:{n}" for n in range(200)]
    tokens = {name: server("CACHE.LOCK", name, LONG) for name in names}
    leases = {f"page:{n}": lease(server, f"page:{n}", "LEASE", LONG) for n in range(50)}
    waiting = {name: wait_in_line(server, "CACHE.LOCK", name, LONG, "BLOCK", 0) for name in names[:20]}
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + (2 << 20))
    connection = server.connect()
    for turn in range(20):
        connection.pipeline([("CACHE.SET", f"o:{turn}:{n}", b"v" * 1000, "EX", 1000 + n) for n in range(400)])
        for name in names[turn * 10 : turn * 10 + 10]:
            assert server("CACHE.LOCK", name, 1000) is None, "it is held"
            assert server("CACHE.EXTEND", name, tokens[name], LONG) == 1, "by who holds it"
        free = server("CACHE.LOCK", f"free:{turn}", LONG)
        assert free is not None and server("CACHE.UNLOCK", f"free:{turn}", free) == 1, "no conflict"
    if policy != "noeviction":
        assert int(server.info("stats")["evicted_keys"]) > 1000
    assert all(server("CACHE.UNLOCK", name, token) == 1 for name, token in tokens.items())
    for name, waiter in waiting.items():
        token = waiter.read()
        assert token > tokens[name] and server("CACHE.UNLOCK", name, token) == 1
    server.config("maxmemory", 0)
    for name, token in leases.items():
        assert server("CACHE.SET", name, "v", "LEASE", token, "EX", 300) == b"OK", "eviction voids nothing"
    assert_nothing_held(server)


# --- node-redlock#296: a lock that was waited for had run out when it was given ----------------------------
@pytest.mark.topology("single")
def test_node_redlock_296_time_waiting_does_not_consume_the_lock(fresh_server):
    """Ten stand in line for a lock of two seconds, each for longer than that: each has its two seconds
    when it is given, and can extend it."""
    server = fresh_server(module_args=DEBUG)
    token, clock = server("CACHE.LOCK", "resource", LONG), 0
    line = [wait_in_line(server, "CACHE.LOCK", "resource", 2000, "BLOCK", 0) for _ in range(10)]
    for waiter in line:
        clock += 5000
        turn_clock(server, clock)
        assert server("CACHE.UNLOCK", "resource", token) == 1
        token = waiter.read()
        # Whatever the test itself took since, it was not a wait.
        assert meta(server, "resource")["lease-ms"] > 1000
        assert waiter("CACHE.EXTEND", "resource", token, 10_000) == 1
    assert server("CACHE.UNLOCK", "resource", token) == 1
    assert_nothing_held(server)


@pytest.mark.topology("single")
def test_node_redlock_296_nor_does_it_where_the_lock_before_ran_out(fresh_server):
    """Given by time alone, and a lease that was waited for likewise."""
    server = fresh_server(module_args=DEBUG)
    server("CACHE.LOCK", "resource", 30_000)
    locker = wait_in_line(server, "CACHE.LOCK", "resource", 20_000, "BLOCK", 0)
    fetcher = wait_in_line(server, "CACHE.FETCH", "resource", "LEASE", 20_000, "BLOCK", 0)
    turn_clock(server, 31_000)
    assert locker.read() and 10_000 < meta(server, "resource")["lease-ms"] <= 20_000
    turn_clock(server, 52_000)
    state, _, token, length = fetcher.read()
    assert (state, length) == (b"MISS", 20_000) and 10_000 < meta(server, "resource")["lease-ms"] <= 20_000
    assert fetcher("CACHE.SET", "resource", "v", "LEASE", token, "EX", 300) == b"OK"
    assert_nothing_held(server)
