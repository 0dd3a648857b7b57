"""The same entries after every way in which a server can lose its memory and read it back."""

import threading
import time

import pytest

from harness.dataset import assert_same, digest, scan, snapshot
from harness.sample import KEYS, WRITES, fill, meta, prepare, state
from harness.server import wait_for
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

AOF = ("--appendonly", "yes")


def assert_kept(server, away):
    """Do something that takes the data out of memory and back; everything must be the same."""
    before, was = snapshot(server), digest(server)
    assert len(before.keys) == KEYS
    away()
    assert_same(before, snapshot(server), "before and after")
    assert digest(server) == was
    assert_verified(server)
    # The index of what was loaded must serve writes too, not only reads.
    assert server("CACHE.SET", "fresh", "again", "EX", 5) == b"OK"
    assert server("CACHE.DEL", "grace", "turned", "endless") == 3
    assert server("CACHE.INCRBY", "count", 2) == -40
    assert server("CACHE.MGET", "dead", "dead too", "doomed:1", "softly") == [None] * 4
    assert server("CACHE.INVALIDATE", "TAGS", "one") == 3
    assert server("CACHE.INVALIDATE", "NAMESPACE", "space") == 2
    assert server("CACHE.MGET", "tagged", "tags", "space:tagged", "nameless") == [None] * 3 + [
        b"the empty tag"
    ]
    assert_verified(server)


def test_save_and_restart(fresh_server):
    server = fresh_server()
    fill(server)
    assert server("SAVE") == b"OK"
    assert_kept(server, server.restart)


def test_bgsave_and_kill9(fresh_server):
    server = fresh_server()
    fill(server)
    server.bgsave()

    def away():
        server.kill9()
        server.restart()

    assert_kept(server, away)


def test_save_at_shutdown(fresh_server):
    server = fresh_server(args=["--save", "3600 1"])
    fill(server)
    assert_kept(server, server.restart)


def test_debug_reload(fresh_server):
    server = fresh_server()
    fill(server)
    assert_kept(server, lambda: server.reload())


def test_debug_reload_over_what_is_there(fresh_server):
    server = fresh_server()
    fill(server)
    assert_kept(server, lambda: server.reload("NOFLUSH", "MERGE"))


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewrite", [True, False])
def test_aof_and_restart(fresh_server, preamble, rewrite):
    """Without the rewrite the log of commands is replayed, with it the module's aof_rewrite (no
    preamble) or an RDB (preamble), and the commands after it in both."""
    server = fresh_server(args=[*AOF, "--aof-use-rdb-preamble", preamble])
    fill(server)
    if rewrite:
        server.bgrewriteaof()
    server("CACHE.SET", "fresh", "after the rewrite", "EX", 500, "GRACE", 500)
    assert_kept(server, server.restart)


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_rewrite_while_writing(fresh_server, preamble):
    server = fresh_server(args=[*AOF, "--aof-use-rdb-preamble", preamble])
    for i in range(2000):
        server("CACHE.SET", f"k{i}", "v" * 100, "EX", 1000)
    server("BGREWRITEAOF")
    for i in range(0, 2000, 3):
        server("CACHE.SET", f"k{i}", "w", "EX", 1000, "GRACE", 1000)
        server("CACHE.STALE", f"k{i + 1}")
        server("CACHE.DEL", f"k{i + 2}")
    wait_for(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")
    before = snapshot(server)
    server.restart()
    assert_same(before, snapshot(server), "before and after")


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_kill9_loses_nothing_acknowledged(fresh_server, preamble):
    """With appendfsync always, what a client was told is on disk."""
    server = fresh_server(args=[*AOF, "--appendfsync", "always", "--aof-use-rdb-preamble", preamble])
    acknowledged = {}

    def write(connection, name):
        try:
            for i in range(1_000_000):
                connection("CACHE.SET", f"{name}:{i % 500}", i, "EX", 1000, "GRACE", 1000)
                acknowledged[name, i % 500] = i
        except (OSError, ConnectionError, ValueError):
            pass  # the server is gone

    writers = [threading.Thread(target=write, args=(server.connect(), name)) for name in "abc"]
    for writer in writers:
        writer.start()
    wait_for(lambda: len(acknowledged) >= 600, "some hundred writes")
    server("BGREWRITEAOF")
    wait_for(lambda: len(acknowledged) >= 1200, "some more")
    server.process.kill()
    for writer in writers:
        writer.join()
    server.kill9()
    server.restart()
    for (name, i), written in acknowledged.items():
        found = server("CACHE.GET", f"{name}:{i}")
        # One more write of each writer may have been stored and not acknowledged.
        assert found is not None and int(found) in (written, written + 500)


@pytest.mark.parametrize("how", ["rdb", "aof", "aof rewritten without preamble"])
def test_time_goes_on_while_the_server_is_down(fresh_server, how):
    server = fresh_server(args=[] if how == "rdb" else [*AOF, "--aof-use-rdb-preamble", "no"])
    server("CACHE.SET", "gone", "v", "PX", 400)
    server("CACHE.SET", "gone-too", "v", "PX", 200, "PGRACE", 200)
    server("CACHE.SET", "stale", "v", "PX", 400, "GRACE", 100)
    server("CACHE.SET", "fresh", "v", "EX", 100)
    expires = [server("PEXPIRETIME", key) for key in ("stale", "fresh")]
    if how == "rdb":
        server("SAVE")
    elif how != "aof":
        server.bgrewriteaof()
    server.stop()
    wait_for(lambda: time.time() * 1000 > expires[1] - 100_000 + 600, "the times to pass")
    server.restart()
    assert server("EXISTS", "gone", "gone-too") == 0
    assert server("CACHE.MGET", "gone", "gone-too", "stale", "fresh") == [None, None, None, b"v"]
    assert server("CACHE.GET", "stale", "STALE") == b"v" and state(server, "stale") == b"stale"
    assert [server("PEXPIRETIME", key) for key in ("stale", "fresh")] == expires
    assert meta(server, "fresh")["fresh-ms"] < 100_000 - 500


def test_what_was_loaded_is_saved_the_same(fresh_server):
    """A save of what was loaded, again and again: nothing grows, nothing is lost."""
    server = fresh_server()
    fill(server)
    first = snapshot(server)
    for _ in range(3):
        server("SAVE")
        server.restart()
    assert_same(first, snapshot(server), "after three rounds")


def test_the_log_of_commands_has_absolute_times(fresh_server):
    """A server that replays its AOF later has the same times: each write in a database of its own."""
    server = fresh_server(args=[*AOF, "--databases", len(WRITES)])

    def payloads(db):
        connection = server.connect(db=db)
        return {key: (connection("PEXPIRETIME", key), connection("DUMP", key)) for key in scan(connection)}

    for db, command in enumerate(WRITES):
        prepare(server, db)
        connection = server.connect(db=db)
        assert connection(*command.split()) is not None, command
    server.wait_swept()
    before = [payloads(db) for db in range(len(WRITES))]
    time.sleep(0.3)  # what relative times would be off by
    server.restart()
    for db, command in enumerate(WRITES):
        assert payloads(db) == before[db], command


# --- replicas --------------------------------------------------------------------------------------
@pytest.mark.parametrize("diskless_sync", ["yes", "no"])
@pytest.mark.parametrize("diskless_load", ["disabled", "on-empty-db", "swapdb"])
def test_full_resync(fresh_server, diskless_sync, diskless_load):
    primary = fresh_server(args=["--repl-diskless-sync", diskless_sync])
    fill(primary)
    replica = fresh_server(args=["--repl-diskless-load", diskless_load])
    if diskless_load != "on-empty-db":
        fill(replica, b"old:")  # all of this must go
    replica("REPLICAOF", "127.0.0.1", primary.port)
    replica.wait_replica_of(primary)
    assert_same(snapshot(primary), snapshot(replica), "primary and replica")
    assert digest(primary) == digest(replica)
    primary("CACHE.SET", "later", "v", "EX", 100, "GRACE", 100)
    replica.wait_replica_of(primary)
    assert_same(snapshot(primary), snapshot(replica), "primary and replica, later")
    assert primary.info("stats")["sync_full"] == "1"


def test_partial_resync(fresh_server):
    primary = fresh_server(args=["--repl-backlog-size", "10mb"])
    replica = fresh_server(args=["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary)
    replica("CLIENT", "KILL", "TYPE", "master")
    fill(primary)
    replica.wait_replica_of(primary)
    stats = primary.info("stats")
    assert stats["sync_full"] == "1" and int(stats["sync_partial_ok"]) >= 1
    assert_same(snapshot(primary), snapshot(replica), "primary and replica")
    assert digest(primary) == digest(replica)


def test_a_replica_restarts_from_its_own_file(fresh_server):
    primary = fresh_server()
    replica = fresh_server(args=["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary)
    fill(primary)
    replica.wait_replica_of(primary)
    replica("SAVE")
    replica.restart()
    replica.wait_replica_of(primary)
    assert_same(snapshot(primary), snapshot(replica), "primary and replica")
    assert primary.info("stats")["sync_full"] == "1"


def test_a_promoted_replica_has_it_all(fresh_server):
    primary = fresh_server()
    fill(primary)
    replica = fresh_server(args=["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary)
    before = snapshot(primary)
    primary.kill9()
    replica("REPLICAOF", "NO", "ONE")
    assert_same(before, snapshot(replica), "the primary and its successor")
    assert replica("CACHE.TOUCH", "turned") == 1
    assert replica("CACHE.GET", "turned") == b"stale by hand"
