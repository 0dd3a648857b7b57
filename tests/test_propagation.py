"""A write reaches whoever listens, by its effect, from the first moment on: src/core/gate.rs.

The module replicates effects only once somebody may listen. Each test makes a listener appear in
another way while entries are written with relative times, and then compares exactly: DUMP shows
birth stamps in microseconds, so that a command which ran a second time anywhere cannot hide.
"""

import os
import random
import signal
import threading
from contextlib import contextmanager

import pytest

from harness import payload
from harness.dataset import assert_same, digest, scan, snapshot
from harness.sample import fill
from harness.server import wait_for
from harness.tagged import hold, let_go

pytestmark = pytest.mark.topology("single")

KEYS, TAGS = 200, 50
SCRIPT = """
redis.call('CACHE.SET', KEYS[1], ARGV[1], 'EX', 1000, 'GRACE', 500, 'TAGS', 'scripted', 't1')
redis.call('CACHE.TAG', KEYS[1], 't2', ARGV[2])
redis.call('CACHE.INVALIDATE', 'SOFT', 'TAGS', ARGV[2])
redis.call('CACHE.TOUCH', KEYS[1], 'PX', 700000)
return redis.call('CACHE.STALE', KEYS[1])
"""


def write(connection, dice, i):
    """One write of some kind, all with relative times. Softly each tag is invalidated once: see
    test_two_soft_invalidations_before_the_sweep."""
    key, tag = f"k{dice.randrange(KEYS)}", f"t{dice.randrange(TAGS)}"
    kind = dice.randrange(14)
    if kind < 2:
        connection("CACHE.SET", key, i, "EX", 1000, "GRACE", 500, "COST", i % 7)
    elif kind == 2:
        connection("CACHE.TOUCH", key, "PX", 900_000 + i)
    elif kind == 3:
        connection("CACHE.STALE", key, f"k{dice.randrange(KEYS)}")
    elif kind == 4:
        connection("CACHE.INCRBY", f"n{dice.randrange(9)}", 1)
    elif kind == 5:
        connection("CACHE.DEL", key)
    elif kind == 6:
        connection("MULTI")
        connection("CACHE.SET", key, i, "PX", 800_000)
        connection("CACHE.INCRBY", "both", 1)
        connection("SET", f"native{i % 5}", i)
        connection("CACHE.TAG", key, tag)
        connection("CACHE.INVALIDATE", "TAGS", f"t{dice.randrange(TAGS)}")
        connection("EXEC")
    elif kind < 9:
        connection("CACHE.SET", key, i, "EX", 1000, "GRACE", 500, "TAGS", tag, f"t{dice.randrange(TAGS)}")
    elif kind == 9:
        connection("CACHE.TAG", key, tag)
    elif kind == 10:
        connection("CACHE.UNTAG", key, tag)
    elif kind == 11:
        connection("CACHE.INVALIDATE", "TAGS", tag)
    elif kind == 12:
        once = f"{key}:{i}:{dice.random()}"
        connection("CACHE.TAG", key, tag, once)
        connection("CACHE.INVALIDATE", "SOFT", "TAGS", once)
    else:
        connection("EVAL", SCRIPT, 1, key, i, f"{key}:{i}:{dice.random()}")


@contextmanager
def writing(server, writers=2):
    """Threads that write until the block ends. Yields a function: how many writes so far."""
    done, counts, failures = threading.Event(), [0] * writers, []

    def run(n):
        connection, dice = server.connect(), random.Random(n)
        try:
            while not done.is_set():
                write(connection, dice, counts[n])
                counts[n] += 1
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures


def exact(server):
    """Every key's end and, of entries, the metadata in microseconds, but for the hits: each counts its
    own. What was invalidated is gone by then."""
    server.wait_swept()
    connection, found = server.connect(), {}
    for key in scan(connection):
        data = connection("DUMP", key)
        meta = payload.dumped_meta(data) if data[0] == payload.MODULE_2 else None
        if meta:
            meta.hits = 0
        found[key] = (connection("PEXPIRETIME", key), meta, connection("DEBUG", "DIGEST-VALUE", key))
    return found


def assert_exactly_the_same(primary, replica):
    """Datasets, digests, and every entry's bytes."""
    replica.wait_replica_of(primary)
    assert_same(snapshot(primary), snapshot(replica), "primary and replica")
    assert digest(primary) == digest(replica)
    one, two = exact(primary), exact(replica)
    assert sum(meta is not None for _, meta, _ in one.values()) > 20
    for key in one:
        assert one[key] == two[key], f"{key!r} is another or has another end"


def stats(server):
    """(full, partial) synchronisations that the server has given."""
    info = server.info("stats")
    return int(info["sync_full"]), int(info["sync_partial_ok"])


@contextmanager
def stopped(server):
    """The process does nothing within it: what is written meanwhile is applied later."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def replica_of(fresh_server, primary, *args, **options):
    """A new replica; its first synchronisation may still run."""
    return fresh_server(args=["--replicaof", f"127.0.0.1 {primary.port}", *args], **options)


def write_some(server, count=300, seed=9):
    """Writes, one after the other."""
    connection, dice = server.connect(), random.Random(seed)
    for i in range(count):
        write(connection, dice, i)


# --- replicas --------------------------------------------------------------------------------------
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_replica_attached_while_writers_write(fresh_server, diskless):
    primary = fresh_server(args=["--repl-diskless-sync", diskless])
    with writing(primary) as written:
        wait_for(lambda: written() > 500, "writes that nobody hears")
        replica = replica_of(fresh_server, primary)
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "the link")
        before = written()
        wait_for(lambda: written() > before + 500, "writes that the replica hears")
    assert_exactly_the_same(primary, replica)
    assert stats(primary)[0] == 1


def test_a_second_replica_attached_while_writers_write(fresh_server):
    primary = fresh_server()
    replica_of(fresh_server, primary).wait_replica_of(primary)
    with writing(primary) as written:
        second = replica_of(fresh_server, primary)
        wait_for(lambda: second.info("replication")["master_link_status"] == "up", "the link")
        before = written()
        wait_for(lambda: written() > before + 300, "writes that both hear")
    assert_exactly_the_same(primary, second)


def test_what_is_written_while_no_replica_is_connected_comes_by_a_partial_resync(fresh_server):
    primary = fresh_server(args=["--repl-backlog-size", "10mb"])
    replica = replica_of(fresh_server, primary)
    replica.wait_replica_of(primary)
    with stopped(replica):
        primary("CLIENT", "KILL", "TYPE", "replica")
        assert primary.info("replication")["connected_slaves"] == "0"
        write_some(primary)
    assert_exactly_the_same(primary, replica)
    assert stats(primary)[0] == 1 and stats(primary)[1] >= 1


def test_a_promoted_replica_serves_its_sibling_by_a_partial_resync(fresh_server):
    """What the new primary writes before the sibling comes is in the backlog it had as a replica."""
    primary = fresh_server()
    heir, sibling = replica_of(fresh_server, primary), replica_of(fresh_server, primary)
    write_some(primary, seed=1)
    heir.wait_replica_of(primary)
    sibling.wait_replica_of(primary)
    primary.kill9()
    heir("REPLICAOF", "NO", "ONE")
    write_some(heir, seed=2)
    sibling("REPLICAOF", "127.0.0.1", heir.port)
    assert_exactly_the_same(heir, sibling)
    assert stats(heir) == (0, 1)


def test_a_chain_goes_on_when_its_middle_is_promoted(fresh_server):
    """The last of the chain follows by the second replication id, and so does one more behind it."""
    primary = fresh_server()
    middle = replica_of(fresh_server, primary)
    middle.wait_replica_of(primary)
    last = replica_of(fresh_server, middle)
    last.wait_replica_of(middle)
    with writing(primary) as written:
        wait_for(lambda: written() > 300, "writes through the chain")
    middle.wait_replica_of(primary)
    assert_exactly_the_same(middle, last)
    full = stats(middle)[0]
    middle("REPLICAOF", "NO", "ONE")
    write_some(middle, seed=3)
    assert_exactly_the_same(middle, last)
    assert stats(middle)[0] == full, "no full resynchronisation"
    with stopped(primary):  # the old primary comes back as a replica of its replica
        write_some(middle, seed=4)
    primary("REPLICAOF", "127.0.0.1", middle.port)
    assert_exactly_the_same(middle, primary)
    assert stats(middle)[0] == full, "the old primary had the same history"


def test_a_primary_restarted_from_its_file_goes_on_with_its_replica(fresh_server):
    """It inherits a backlog from the file. What it writes before the replica is back must be there."""
    primary = fresh_server(args=["--save", "3600 1000000"])
    replica = replica_of(fresh_server, primary)
    write_some(primary, seed=1)
    replica.wait_replica_of(primary)
    primary.stop()
    with stopped(replica):
        primary.restart()
        assert primary.info("replication")["connected_slaves"] == "0"
        write_some(primary, seed=2)
    assert_exactly_the_same(primary, replica)
    assert stats(primary)[0] == 0 and stats(primary)[1] >= 1, "a partial resynchronisation"


def test_a_replica_that_left_and_came_back_empty(fresh_server):
    primary = fresh_server()
    replica = replica_of(fresh_server, primary)
    replica.wait_replica_of(primary)
    replica("REPLICAOF", "NO", "ONE")
    replica("FLUSHALL")
    write_some(replica, 50, seed=5)
    write_some(primary, seed=6)
    replica("REPLICAOF", "127.0.0.1", primary.port)
    assert_exactly_the_same(primary, replica)


@pytest.mark.parametrize("how", ["the replica's sweep is late", "it comes by a full resynchronisation"])
def test_two_soft_invalidations_before_the_sweep(fresh_server, how):
    """A tag remembers its last soft invalidation alone: since when an entry is stale hangs on whether
    the sweep, or a save, has come by between two of them, and that is each server's own affair. Both are
    right to say that it is stale, and a digest says no more."""
    debug = {"module_args": ("debug", "yes")}
    primary = fresh_server(**debug)
    primary("CACHE.SET", "k", "v", "EX", 1000, "GRACE", 1000, "TAGS", "t")
    late = how.startswith("the replica")
    replica = replica_of(fresh_server, primary, **debug) if late else None
    hold(replica if late else primary)
    if late:
        replica.wait_replica_of(primary)
    primary("CACHE.INVALIDATE", "SOFT", "TAGS", "t")
    if late:
        primary.wait_swept()
    else:
        replica = replica_of(fresh_server, primary, **debug)
        replica.wait_replica_of(primary, swept=False)
    primary("CACHE.INVALIDATE", "SOFT", "TAGS", "t")
    let_go(replica if late else primary)
    replica.wait_replica_of(primary)
    assert digest(primary) == digest(replica)


# --- the AOF ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_an_aof_turned_on_while_writers_write_loses_nothing(fresh_server, preamble):
    args = ["--appendfsync", "always", "--aof-use-rdb-preamble", preamble]
    server = fresh_server(args=args)
    with writing(server) as written:
        wait_for(lambda: written() > 500, "writes that nobody hears")
        server.config("appendonly", "yes")
        before = written()
        wait_for(lambda: written() > before + 500, "writes that go into the file")
    wait_for(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0", "the first rewrite")
    before, was = exact(server), digest(server)
    server.kill9()
    server.restart([*args, "--appendonly", "yes"])
    assert digest(server) == was
    assert exact(server) == before


def test_an_aof_turned_on_off_and_on(fresh_server):
    server = fresh_server(args=["--appendfsync", "always"])
    for seed in range(3):
        write_some(server, 100, seed)
        server.config("appendonly", "yes")
        write_some(server, 100, seed + 10)
        wait_for(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")
        if seed < 2:
            server.config("appendonly", "no")
    before = exact(server)
    server.kill9()
    server.restart(["--appendonly", "yes"])
    assert exact(server) == before


def test_an_aof_from_the_start(fresh_server):
    server = fresh_server(args=["--appendonly", "yes", "--appendfsync", "always"])
    write_some(server)
    before = exact(server)
    server.kill9()
    server.restart()
    assert exact(server) == before
    write_some(server, seed=10)  # after loading the gate has to be asked for anew
    before = exact(server)
    server.kill9()
    server.restart()
    assert exact(server) == before


# --- nobody listens --------------------------------------------------------------------------------
CHANGES = [
    ("CACHE.SET k v", 1),
    ("CACHE.SET k v EX 100 GRACE 5", 1),
    ("CACHE.SET k v XX KEEPTTL", 1),
    ("CACHE.SET k v NX", 0),
    ("CACHE.TOUCH k EX 100", 1),
    ("CACHE.TOUCH none", 0),
    ("CACHE.STALE k", 1),
    ("CACHE.STALE k", 0),
    ("CACHE.INCRBY n 1", 1),
    ("CACHE.GET n", 0),
    ("CACHE.META n", 0),
    ("CACHE.APPLY a 0 \x01\x00\x01 v", 1),
    ("CACHE.SET n v EXAT 1", 1),
    ("CACHE.SET t v EX 100 TAGS one two", 1),
    ("CACHE.TAG t three", 1),
    ("CACHE.TAG t three", 0),
    ("CACHE.TAG none three", 0),
    ("CACHE.UNTAG t three", 1),
    ("CACHE.UNTAG t three", 0),
    ("CACHE.INVALIDATE SOFT TAGS one", 1),
    ("CACHE.INVALIDATE TAGS nobody", 1),  # it is remembered
    ("CACHE.INVALIDATE NAMESPACE none", 1),
    ("CACHE.TAGS 0", 0),
    ("CACHE.DEL k none t", 1),
    ("CACHE.DEL k", 0),
]


@pytest.mark.parametrize("how", ["plain", "MULTI", "script"])
@pytest.mark.parametrize("listener", [False, True])
def test_writes_count_for_save_points(fresh_server, how, listener):
    server = fresh_server(args=["--appendonly", "yes"] if listener else [])

    def changes():
        return int(server.info("persistence")["rdb_changes_since_last_save"])

    for line, counts in CHANGES:
        before, request = changes(), line.split(" ")
        if how == "plain":
            server(*request)
        elif how == "MULTI":
            server("MULTI")
            server(*request)
            server("EXEC")
        else:
            server("EVAL", "return redis.call(unpack(ARGV))", 0, *request)
        grown = changes() - before
        assert (grown >= 1) if counts else (grown == 0), f"{line}: {grown}"


def test_a_save_point_saves(fresh_server):
    server = fresh_server()
    first = server.info("persistence")["rdb_last_save_time"]
    wait_for(lambda: int(server("TIME")[0]) > int(first) + 1, "the save point's second")
    fill(server)
    server.config("save", "1 5")
    wait_for(lambda: server.info("persistence")["rdb_changes_since_last_save"] == "0", "the save point")
    before, was = snapshot(server), digest(server)
    server.kill9()
    server.restart()
    assert_same(before, snapshot(server), "before and after")
    assert digest(server) == was
