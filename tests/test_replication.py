"""What a primary tells its replicas: effects in absolute times, and nothing where nothing changed."""

import os
import signal
import time

import pytest

from harness.dataset import assert_same, digest, snapshot
from harness.resp import ReplyError
from harness.sample import BINARY, WRITES, fill, meta, prepare
from harness.server import wait_for

pytestmark = pytest.mark.topology("replica")


@pytest.fixture
def pair(topology):
    """A primary and its replica, in step, the stream without PINGs."""
    topology.primary.config("repl-ping-replica-period", 3600)
    return topology.primary, topology.replica


@pytest.mark.parametrize("command", WRITES)
def test_a_late_replica_has_the_same_times(pair, command):
    """The replica applies the write later than the primary, and must not notice.

    DUMP shows an entry's own times exactly, PEXPIRETIME the key's."""
    primary, replica = pair
    prepare(primary)
    replica.wait_replica_of(primary)
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        assert primary(*command.split()) is not None
        time.sleep(0.3)  # what a relative time would be off by
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    replica.wait_replica_of(primary)
    before, after = snapshot(primary), snapshot(replica)
    assert_same(before, after, "primary and replica")
    assert digest(primary) == digest(replica)
    for db, name in before.keys:
        one, two = primary.connect(db=db), replica.connect(db=db)
        assert one("PEXPIRETIME", name) == two("PEXPIRETIME", name)
        assert one("DUMP", name) == two("DUMP", name), f"{name!r} has other bytes on the replica"


PUBLIC = ["GET", "MGET", "SET", "TOUCH", "DEL", "STALE", "INCRBY", "META", "TAG", "UNTAG", "INVALIDATE"]
PUBLIC += ["TAGS", "KEYS", "LOG", "STATS", "VERIFY"]

NOTHING = [
    "CACHE.GET k",
    "CACHE.GET stale",
    "CACHE.GET stale STALE",
    "CACHE.GET native",
    "CACHE.GET none",
    "CACHE.MGET k stale none native",
    "CACHE.META k",
    "CACHE.META none",
    "CACHE.SET k w NX",
    "CACHE.SET native w NX",
    "CACHE.SET none w XX",
    "CACHE.SET k w EX 0",
    "CACHE.SET k w EX",
    "CACHE.SET k w EX 10 PX 10",
    "CACHE.SET k w NX XX",
    "CACHE.TOUCH none EX 10",
    "CACHE.TOUCH k EX x",
    "CACHE.DEL none",
    "CACHE.STALE none",
    "CACHE.STALE stale",
    "CACHE.INCRBY k 1",
    "CACHE.INCRBY native 1",
    "CACHE.INCRBY n 9223372036854775807",
    "CACHE.INCRBY n x",
    "CACHE.SET",
    "CACHE.SET t w NX TAGS one",
    "CACHE.SET t w TAGS",
    "CACHE.TAG none one",
    "CACHE.TAG t one two",
    "CACHE.UNTAG native one",
    "CACHE.UNTAG none one",
    "CACHE.UNTAG t three",
    "CACHE.UNTAG k one",
    "CACHE.INVALIDATE",
    "CACHE.INVALIDATE TAGS",
    "CACHE.INVALIDATE SOFT one",
    "CACHE.TAGS 0",
    "CACHE.KEYS one 0",
    "CACHE.LOG",
    "CACHE.LOG RESET",
    "CACHE.HOTKEYS",
    "CACHE.REFRESH",
    "CACHE.STATS",
    "CACHE.STATS NAMESPACE space",
    "CACHE.STATS RESET",
    "CACHE.VERIFY",
]


@pytest.mark.parametrize("command", NOTHING)
def test_what_changed_nothing_is_not_replicated(pair, command):
    primary, replica = pair
    prepare(primary)
    before, was = snapshot(primary), digest(primary)
    changes = primary.info("persistence")["rdb_changes_since_last_save"]
    offset = primary.info("replication")["master_repl_offset"]
    connection = primary.connect()
    connection.send(*command.split())
    connection.read()
    assert primary.info("replication")["master_repl_offset"] == offset
    assert primary.info("persistence")["rdb_changes_since_last_save"] == changes
    assert_same(before, snapshot(primary), "before and after")
    assert digest(primary) == was


@pytest.mark.parametrize("wrap", ["plain", "MULTI", "script"])
def test_one_write_is_one_command_in_the_stream(pair, wrap):
    """Neither the request beside its effect, nor an effect twice: seen by the replica's MONITOR."""
    primary, replica = pair
    prepare(primary)
    replica.wait_replica_of(primary)
    watcher = replica.connect()
    assert watcher("MONITOR") == b"OK"
    if wrap == "plain":
        primary("CACHE.SET", "k", "MARK", "EX", 10, "GRACE", 10)
    elif wrap == "MULTI":
        primary("MULTI")
        primary("CACHE.SET", "k", "MARK", "EX", 10, "GRACE", 10)
        primary("CACHE.GET", "k")
        primary("EXEC")
    else:
        script = "return redis.call('CACHE.SET', KEYS[1], 'MA' .. 'RK', 'EX', 10, 'GRACE', 10)"
        primary("EVAL", script, 1, "k")
    primary("SET", "native", "END")
    seen = []
    while not seen or b"END" not in seen[-1]:
        seen.append(watcher.read())
    marked = [line for line in seen if b"MARK" in line]
    assert len(marked) == 1, seen
    assert not [line for line in seen if b"CACHE.GET" in line.upper()]


def test_a_replica_reads_and_does_not_write(pair):
    primary, replica = pair
    prepare(primary)
    replica.wait_replica_of(primary)
    assert replica("CACHE.GET", "k") == b"v"
    assert replica("CACHE.GET", "stale") is None
    assert replica("CACHE.GET", "stale", "STALE") == b"v"
    assert replica("CACHE.MGET", "k", "stale", "n", "native") == [b"v", None, b"5", b"x"]
    assert meta(replica, "k")["cost-ms"] == 7
    assert sorted(meta(replica, "t")["tags"]) == sorted([b"one", b"two", BINARY, b""])
    assert replica("CACHE.KEYS", "one", 0) == [b"0", [b"t"]]
    was = digest(replica)
    for command in (
        *("SET k w", "TOUCH k", "DEL k", "STALE k", "INCRBY n 1", "SET none v XX", "DEL none"),
        *("SET k w TAGS one", "TAG t three", "TAG none one", "UNTAG t one", "UNTAG none one"),
        *("INVALIDATE TAGS one", "INVALIDATE SOFT TAGS none", "INVALIDATE LOCAL NAMESPACE space"),
        *("INVALIDATED 5 HARD TAGS one", "APPLYSTATE x", "APPLY k 0 x"),
    ):
        assert replica.error(*f"CACHE.{command}".split()).startswith("READONLY"), command
    assert digest(replica) == was


def test_a_replica_lets_an_entry_expire_by_itself(pair):
    """A primary that is cut off tells nobody of an expiry: the replica answers nil all the same."""
    primary, replica = pair
    primary("CACHE.SET", "gone", "v", "PX", 300)
    primary("CACHE.SET", "stale", "v", "PX", 300, "GRACE", 100)
    replica.wait_replica_of(primary)
    os.kill(primary.pid, signal.SIGSTOP)
    try:
        # Fresh ends with our clock, the key with the server's, a moment later.
        wait_for(lambda: replica("CACHE.MGET", "gone", "stale") == [None, None], "the times to pass")
        wait_for(lambda: replica("CACHE.META", "gone") is None, "the key to be gone")
        assert replica("CACHE.GET", "gone", "STALE") is None
        assert replica("CACHE.GET", "stale", "STALE") == b"v"
    finally:
        os.kill(primary.pid, signal.SIGCONT)
    replica.wait_replica_of(primary)
    assert_same(snapshot(primary), snapshot(replica), "primary and replica")


def test_a_replica_of_a_replica(pair, fresh_server):
    primary, replica = pair
    last = fresh_server(args=["--replicaof", f"127.0.0.1 {replica.port}"])
    last.wait_replica_of(replica)
    fill(primary)
    replica.wait_replica_of(primary)
    last.wait_replica_of(replica)
    assert_same(snapshot(primary), snapshot(last), "the first and the last")
    assert digest(primary) == digest(last)


def test_a_replica_refuses_what_only_its_primary_may_send(pair):
    """The command that carries an entry in the stream is no way round READONLY."""
    primary, replica = pair
    prepare(primary)
    names = [name for name in primary("COMMAND", "LIST", "FILTERBY", "MODULE", "cacheflow")]
    internal = [name for name in names if name.decode().upper() not in {f"CACHE.{n}" for n in PUBLIC}]
    for name in internal:
        for arguments in ((), ("k",), ("k", "x"), ("k", "x", "y"), ("k", b"\x00" * 64, 0)):
            for server in pair:
                connection = server.connect()
                try:
                    connection(name, *arguments)
                except ReplyError:
                    pass
    assert replica("CACHE.GET", "k") == b"v"
    replica.wait_replica_of(primary)
    assert_same(snapshot(primary), snapshot(replica), "primary and replica")
