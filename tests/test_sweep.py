"""The sweep: what is dead is removed key by key, on the primary alone, and whatever interrupts it."""

import pytest

from harness.dataset import digest, now_ms, scan
from harness.resp import fields
from harness.server import wait_for
from harness.tagged import DEBUG, all_tags, await_sweep, figure, hold, let_go
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

AOF = ("--appendonly", "yes", "--appendfsync", "always")


def write(server, prefix, count, *options, value="v"):
    """Entries prefix:0 to prefix:count-1."""
    replies = server.connect().pipeline(
        [("CACHE.SET", f"{prefix}:{n}", value, *options) for n in range(count)]
    )
    assert set(replies) == {b"OK"}


def read(server, prefix, count):
    """How many of them CACHE.GET answers."""
    return sum(
        reply is not None
        for reply in server.connect().pipeline(
            [("CACHE.GET", f"{prefix}:{n}", "STALE") for n in range(count)]
        )
    )


def pair(fresh_server, *options):
    """A primary and a replica, both with CACHE.DEBUG."""
    primary = fresh_server(module_args=DEBUG)
    replica = fresh_server(["--replicaof", f"127.0.0.1 {primary.port}", *options], module_args=DEBUG)
    replica.wait_replica_of(primary, swept=False)
    return primary, replica


# --- what it removes -------------------------------------------------------------------------------
@pytest.mark.parametrize("what", [("TAGS", "a", "b"), ("NAMESPACE", "dead"), ("TAGS", "a")])
def test_it_removes_the_dead_and_nobody_else(fresh_server, what):
    server = fresh_server(module_args=DEBUG)
    write(server, "dead", 1500, "EX", 1000, "TAGS", "a", "b", "c")
    write(server, "alive", 700, "TAGS", "c")
    write(server, "plain", 300)
    server("SET", "dead:native", "v")
    hold(server)
    assert server("CACHE.INVALIDATE", *what) == 1500 * (2 if what[-1] == "b" else 1)
    assert server("DBSIZE") == 2501 and read(server, "dead", 1500) == 0
    # Of the dead some are written again, deleted, moved away before it comes by.
    write(server, "dead", 10, "TAGS", "a")
    for n in range(10, 20):
        server("DEL", f"dead:{n}")
        server("RENAME", f"dead:{n + 10}", f"moved:{n}")
        server("MOVE", f"dead:{n + 20}", 1)
    let_go(server)
    await_sweep(server)
    wait_for(lambda: server.connect(db=1)("DBSIZE") == 0, "the moved ones")
    assert server("DBSIZE") == 10 + 700 + 300 + 1
    assert read(server, "dead", 10) == 10 and read(server, "alive", 700) == 700
    assert all_tags(server) == {b"a": 10, b"c": 700}
    assert_verified(server)


def test_it_removes_from_any_database(fresh_server):
    server = fresh_server(module_args=DEBUG)
    hold(server)
    for db in (0, 3, 7):
        connection = server.connect(db=db)
        connection("CACHE.SET", "k", "v", "TAGS", "a")
        connection("CACHE.SET", "j", "v", "TAGS", "b")
        connection("CACHE.INVALIDATE", "TAGS", "a")
    server("SWAPDB", 3, 5)
    server.connect(db=7)("FLUSHDB")
    let_go(server)
    await_sweep(server)
    assert [scan(server.connect(db=db)) for db in (0, 3, 5, 7)] == [[b"j"], [], [b"j"], []]
    assert_verified(server)


def test_soft_removes_nothing(fresh_server):
    server = fresh_server()
    write(server, "k", 500, "EX", 1000, "TAGS", "a")
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", "a") == 500
    await_sweep(server)
    assert read(server, "k", 500) == server("DBSIZE") == 500
    assert figure(server, "sweep_removed", "cacheflow_sweep") == 0


def test_an_expired_one_is_expired(fresh_server):
    """Its TTL may pass while it waits to be swept."""
    server = fresh_server(module_args=DEBUG)
    hold(server)
    server("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    server("CACHE.SET", "k", "v", "PX", 1, "TAGS", "a")
    server("CACHE.SET", "j", "v", "TAGS", "a")
    server("CACHE.INVALIDATE", "TAGS", "a")
    wait_for(lambda: server("PTTL", "k") == -2, "the end of 1 ms")
    let_go(server)
    assert server("DBSIZE") == 0
    assert_verified(server)


@pytest.mark.parametrize("how", ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHDB", "DEBUG RELOAD"])
def test_it_ends_where_all_is_gone(fresh_server, how):
    server = fresh_server(module_args=DEBUG)
    write(server, "k", 1000, "TAGS", "a")
    hold(server)
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "b")
    server(*how.split())
    write(server, "k", 10, "TAGS", "a")
    let_go(server)
    wait_for(lambda: server("DBSIZE") == 10, "the rest to be swept")
    assert read(server, "k", 10) == 10
    assert_verified(server)


def test_memory_comes_back(fresh_server):
    server = fresh_server()
    write(server, "k", 100, "TAGS", "a")
    server("FLUSHALL")
    before = int(server.info("memory")["used_memory"])
    write(server, "k", 20_000, "EX", 10_000, "TAGS", "a", "b", value="v" * 500)
    full = int(server.info("memory")["used_memory"])
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 20_000
    await_sweep(server)

    def is_back():
        return int(server.info("memory")["used_memory"]) - before < 0.05 * (full - before)

    wait_for(is_back, "the memory to come back")
    assert server("DBSIZE") == 0 and figure(server, "bytes") == 0


@pytest.mark.slow
@pytest.mark.parametrize("what", [("TAGS", "a"), ("NAMESPACE", "k")])
def test_a_hundred_thousand(fresh_server, what):
    """Others are served meanwhile, and what they write stays."""
    server = fresh_server()
    write(server, "k", 100_000, "EX", 10_000, "TAGS", "a", "b")
    assert server("CACHE.INVALIDATE", *what) == 100_000
    written = 0
    while figure(server, "sweep_queued", "cacheflow_sweep"):
        for n in range(written, written + 10):
            server("CACHE.SET", f"k:{n}", "new", "TAGS", "a")
            assert server("CACHE.GET", f"k:{99_999 - n}") is None
        written += 10
        assert written < 50_000
    wait_for(lambda: server("DBSIZE") == written, "the last slice")
    assert read(server, "k", written) == written
    assert_verified(server)


def test_it_hurries_where_memory_is_short(fresh_server):
    """The same work in fewer slices: they are longer. What is dead is the cheapest to evict."""
    server, slices = fresh_server(), []
    server.config("cacheflow.sweep-budget-us", 20)
    server("SETRANGE", "ballast", 200 << 20, "x")
    for short in (False, True):
        write(server, "k", 20_000, "TAGS", "a")
        if short:
            server.config("maxmemory", int(server.info("memory")["used_memory"]) + (1 << 20))
        was = figure(server, "sweep_slices", "cacheflow_sweep")
        assert server("CACHE.INVALIDATE", "TAGS", "a") == 20_000
        await_sweep(server)
        slices.append(figure(server, "sweep_slices", "cacheflow_sweep") - was)
    assert slices[1] < 0.7 * slices[0], slices


# --- whom it tells ---------------------------------------------------------------------------------
def test_removals_are_replicated_one_key_at_a_time(fresh_server):
    primary, replica = pair(fresh_server)
    write(primary, "k", 200, "TAGS", "a")
    replica.wait_replica_of(primary, swept=False)
    watcher = replica.connect()
    watcher("MONITOR")
    primary("CACHE.INVALIDATE", "TAGS", "a")
    await_sweep(primary)
    primary("SET", "native", "END")
    seen = []
    while not seen or b"END" not in seen[-1]:
        seen.append(watcher.read())
    keys = [line.split(b'"UNLINK" ')[1] for line in seen if b'"UNLINK"' in line]
    assert sorted(keys) == sorted(f'"k:{n}"'.encode() for n in range(200))
    assert len([line for line in seen if b"INVALIDATE" in line]) == 1
    replica.wait_replica_of(primary, swept=False)
    assert digest(primary) == digest(replica) and replica("DBSIZE") == 1
    assert_verified(replica)


def test_a_replica_removes_nothing_by_itself(fresh_server):
    primary, replica = pair(fresh_server)
    write(primary, "k", 300, "EX", 1000, "TAGS", "a")
    write(primary, "j", 10)
    hold(primary)
    primary("CACHE.INVALIDATE", "TAGS", "a")
    replica.wait_replica_of(primary, swept=False)
    slices = figure(replica, "sweep_slices", "cacheflow_sweep")
    wait_for(lambda: figure(replica, "sweep_slices", "cacheflow_sweep") > slices + 3, "it to look")
    assert replica("DBSIZE") == 310 and read(replica, "k", 300) == 0
    assert figure(replica, "sweep_removed", "cacheflow_sweep") == 0
    let_go(primary)
    replica.wait_replica_of(primary, swept=False)
    assert replica("DBSIZE") == 10
    wait_for(lambda: figure(replica, "sweep_queued", "cacheflow_sweep") == 0, "its queue to end")
    assert figure(replica, "sweep_removed", "cacheflow_sweep") == 0
    assert_verified(replica)


@pytest.mark.parametrize("when", ["before it began", "in the middle"])
def test_who_is_promoted_finishes_it(fresh_server, when):
    primary, replica = pair(fresh_server)
    last = fresh_server(["--replicaof", f"127.0.0.1 {replica.port}"])
    write(primary, "k", 5000, "EX", 1000, "TAGS", "a")
    write(primary, "j", 10, "TAGS", "b")
    hold(primary)
    primary.config("cacheflow.sweep-budget-us", 10)
    primary("CACHE.INVALIDATE", "TAGS", "a")
    if when == "in the middle":
        primary("CACHE.DEBUG", "SWEEP", 1)
        wait_for(lambda: replica("DBSIZE") < 5010, "the first removals")
        hold(primary)
    replica.wait_replica_of(primary, swept=False)
    primary.kill9()
    replica("REPLICAOF", "NO", "ONE")
    assert read(replica, "k", 5000) == 0
    wait_for(lambda: replica("DBSIZE") == 10, "the sweep to be finished")
    last.wait_replica_of(replica, swept=False)
    assert read(replica, "j", 10) == read(last, "j", 10) == last("DBSIZE") == 10
    for server in (replica, last):
        assert_verified(server)


def test_a_replica_that_joins_in_the_middle(fresh_server):
    primary = fresh_server(module_args=DEBUG)
    write(primary, "k", 500, "TAGS", "a")
    write(primary, "n", 500)
    write(primary, "j", 10)
    hold(primary)
    primary("CACHE.INVALIDATE", "TAGS", "a")
    primary("CACHE.INVALIDATE", "NAMESPACE", "n")
    replica = fresh_server(["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary, swept=False)
    assert read(replica, "k", 500) == read(replica, "n", 500) == 0
    assert read(replica, "j", 10) == 10 and replica("DBSIZE") == 1010
    let_go(primary)
    replica.wait_replica_of(primary, swept=False)
    assert replica("DBSIZE") == primary("DBSIZE") == 10
    assert digest(primary) == digest(replica)
    assert_verified(replica)


# --- files -----------------------------------------------------------------------------------------
def state(server):
    """What is alive, of which tags, with which payload but for what counts reads."""
    connection, found = server.connect(), {}
    for key in scan(connection):
        meta = fields(connection("CACHE.META", key))
        if meta is not None:
            value = connection("CACHE.GET", key), connection("CACHE.GET", key, "STALE")
            found[key] = (sorted(meta["tags"]), meta["state"], value, connection("PEXPIRETIME", key))
    return found


FILES = {
    "AOF": (AOF, lambda server: None),
    "AOF, rewritten": (
        (*AOF, "--aof-use-rdb-preamble", "no"),
        lambda server: server.bgrewriteaof(),
    ),
    "AOF, rewritten with preamble": (
        (*AOF, "--aof-use-rdb-preamble", "yes"),
        lambda server: server.bgrewriteaof(),
    ),
    "RDB": ((), lambda server: server("SAVE")),
    "RDB in the background": ((), lambda server: server.bgsave()),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("swept", [False, True])
def test_a_restart_comes_to_the_same(fresh_server, file, swept):
    """Entries, stale ones and dead ones, what was invalidated, and stamps."""
    args, save = FILES[file]
    server = fresh_server(args, module_args=DEBUG)
    hold(server)
    write(server, "dead", 50, "EX", 1000, "TAGS", "a", "b", "c")
    write(server, "stale", 50, "EX", 1000, "GRACE", 1000, "TAGS", "b", "c")
    write(server, "n", 50)
    write(server, "m", 50, "EX", 1000)
    write(server, "fresh", 50, "TAGS", "late")
    old = {key: server("DUMP", key) for key in ("dead:0", "stale:0", "n:0", "m:0", "fresh:0")}
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "b", "never")
    server("CACHE.INVALIDATE", "TAGS", "a", "ever")
    server("CACHE.INVALIDATE", "NAMESPACE", "n")
    server("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "m")
    server("CACHE.INVALIDATE", "TAGS", "late")
    write(server, "fresh", 50, "TAGS", "late", "b")
    server("CACHE.TAG", "fresh:1", "a")
    server("CACHE.UNTAG", "stale:1", "b")
    if swept:
        let_go(server)
    before, stones = state(server), figure(server, "tombstones")
    assert len(before) == 150 and {found[1] for found in before.values()} == {b"fresh", b"stale"}
    save(server)
    server.kill9()
    server.restart()
    assert state(server) == before
    assert figure(server, "tombstones") == stones
    await_sweep(server)
    wait_for(lambda: server("DBSIZE") == 150, "the dead to be swept")
    assert state(server) == before
    assert_verified(server)
    # What was invalidated is remembered: payloads from before are what they would have been.
    for key, payload in old.items():
        server("RESTORE", key, 0, payload, "REPLACE")
    seen = {key: (server("CACHE.GET", key), server("CACHE.GET", key, "STALE")) for key in old}
    none, stale = (None, None), (None, b"v")
    assert seen == {"dead:0": none, "stale:0": stale, "n:0": none, "m:0": stale, "fresh:0": none}
    # And what comes now is born later than all of it.
    write(server, "dead", 5, "TAGS", "a", "b", "ever", "never", "late")
    write(server, "n", 5)
    write(server, "m", 5)
    assert [server("CACHE.GET", key) for key in ("dead:0", "n:0", "m:0")] == [b"v"] * 3
    assert server("CACHE.INVALIDATE", "TAGS", "never") == 5


def test_removals_are_in_the_aof(fresh_server):
    """A server without the clock of the first: its file alone says what is left."""
    server = fresh_server(AOF)
    write(server, "k", 300, "TAGS", "a")
    write(server, "j", 10, "TAGS", "a")
    server("CACHE.INVALIDATE", "TAGS", "a")
    write(server, "j", 10, "TAGS", "a")
    await_sweep(server)
    server.kill9()
    server.restart()
    assert server("DBSIZE") == read(server, "j", 10) == 10
    assert figure(server, "sweep_removed", "cacheflow_sweep") == 0, "nothing was left to remove"
    assert_verified(server)


def test_it_stops_while_writes_are_paused(fresh_server):
    """A failover in progress: nothing may change, and it goes on afterwards."""
    primary, replica = pair(fresh_server)
    write(primary, "k", 300, "TAGS", "a")
    hold(primary)
    primary("CACHE.INVALIDATE", "TAGS", "a")
    primary("CLIENT", "PAUSE", 60_000, "WRITE")
    primary("CACHE.DEBUG", "SWEEP", 1)
    paused = now_ms(primary)
    wait_for(lambda: now_ms(primary) > paused + 300, "some turns of the loop")
    assert primary("DBSIZE") == 300
    primary("CLIENT", "UNPAUSE")
    wait_for(lambda: primary("DBSIZE") == 0, "the sweep to go on")
    replica.wait_replica_of(primary, swept=False)
    assert replica("DBSIZE") == 0
