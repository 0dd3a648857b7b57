"""A panic at every border between the server and the module: an error, a counter, a line in the log.

The borders are read from the sources, so that one without a test here fails. `CACHE.DEBUG FAULT`
(src/module/border.rs) makes a border panic before it does anything.
"""

import re

import pytest

from harness.borders import callbacks, commands, sources
from harness.dataset import assert_same, digest, scan, snapshot
from harness.faults import OF_LEASES, OF_SWEEP, arm, panics
from harness.faults_native import OF_NATIVES
from harness.faults_refresh import OF_REFRESH
from harness.faults_relay import OF_BUS, OF_RELAY, in_a_cluster
from harness.leases import assert_nothing_held, lease, wait_in_line
from harness.resp import ReplyError, fields
from harness.sample import fill
from harness.server import wait_for
from harness.tagged import DEBUG, hold
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

COMMANDS = {
    "cache.get": ("fresh",),
    "cache.mget": ("fresh", "none"),
    "cache.set": ("fresh", "new", "EX", 5),
    "cache.touch": ("fresh", "EX", 5),
    "cache.del": ("fresh", "grace"),
    "cache.stale": ("fresh",),
    "cache.incrby": ("count", 1),
    "cache.meta": ("fresh",),
    "cache.apply": ("fresh", 0, b"\x01\x00\x01", "v"),
    "cache.verify": (),
    "cache.tag": ("tagged", "new"),
    "cache.untag": ("tagged", "one"),
    "cache.invalidate": ("TAGS", "one", "two"),
    "cache.invalidated": (5, "SOFT", "NAMESPACE", "space"),
    "cache.applystate": (b"\x80",),
    "cache.tags": (0,),
    "cache.keys": ("one", 0),
    "cache.log": (),
    "cache.hotkeys": (),
    "cache.metrics": (),
    "cache.refresh": (),
    "cache.stats": (),
    "cache.namespace|set": ("one", "TTL", 5),
    "cache.namespace|get": ("one",),
    "cache.namespace|list": (),
    "cache.namespace|del": ("one",),
    "cache.fetch": ("none", "LEASE", 60_000),
    "cache.lock": ("none", 60_000, "BLOCK", 0),
    "cache.unlock": ("none", 5),
    "cache.extend": ("none", 5, 60_000),
    "cache.applylock": ("none", 5, 2**48 - 2, 1),
}
DEAD = ("dead", "dead too", "doomed:1")  # what fill invalidates
# "load" runs before there is a command that could arm it, and once in a process; "distrust" behind
# another border's panic, whose name is armed then, and so "missed", behind both, and "wake_lost", see
# the test of it.
OUT_OF_REACH = {"load", "distrust", "missed", "wake_lost"}
# Of a cluster alone: in test_arrivals.py.
ELSEWHERE = {"tell_arrivals"}
# Callbacks of the server that cross no border of their own, for they only read or write one atomic.
TRIVIAL = {"get_number", "set_number", "get_choice", "set_choice"}


def test_every_border_has_a_test():
    assert commands() == {*COMMANDS, "cache.debug", "cache.namespace"}
    elsewhere = {*ELSEWHERE, "replication_event", "send_state", "defrag"}
    assert callbacks() == {*CALLBACKS, *OF_BUS, *elsewhere} | OUT_OF_REACH


def test_every_callback_crosses_a_border():
    """What the server calls is `unsafe extern "C" fn`; its body must begin by crossing, near enough."""
    seen = 0
    for path, text in sources().items():
        for found in re.finditer(r'extern "C" fn (\w+)[^{;]*\{(.*?)\n\}', text, re.DOTALL):
            seen += 1
            assert re.search(r"\b(cross|told|told_again)\(", found.group(2)) or found.group(1) in TRIVIAL, (
                f"{path}: {found.group(1)}"
            )
    assert seen >= 18


@pytest.fixture
def filled(fresh_server):
    """A server with the sample in it, and one key of each name that the commands use."""
    server = fresh_server(module_args=DEBUG)
    fill(server)
    return server


def assert_all_works(server, was):
    """No fault any more: the dataset is what it was, and takes reads and writes, saves and loads, tags
    and invalidations; what was invalidated before stays dead."""
    assert digest(server) == was
    assert server("CACHE.GET", "fresh") == b"fresh"
    server.reload()
    assert digest(server) == was
    assert server("CACHE.SET", "fresh", "again", "EX", 5) == b"OK"
    assert server("CACHE.DEL", "fresh", "grace") == 2
    assert server("CACHE.INCRBY", "count", 1) == -41
    assert server("CACHE.MGET", *DEAD) == [None] * len(DEAD)
    assert server("CACHE.TAG", "retagged", "late") == 1
    assert sorted(server("CACHE.KEYS", "one", 0)[1]) == [b"softly", b"tagged", b"tags"]
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", "late", b"") == 3
    assert server("CACHE.MGET", "retagged", "nameless", "tagged") == [None, None, b"one tag"]
    assert server("CACHE.INVALIDATE", "TAGS", "one") == 3
    assert server("CACHE.INVALIDATE", "NAMESPACE", "space") == 2
    assert server("CACHE.MGET", "tagged", "tags", "softly", "space:tagged", "space:name") == [None] * 5
    server.wait_swept()
    assert_verified(server)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["plain", "MULTI", "script"])
def test_a_panic_in_a_command_is_an_error_and_changes_nothing(filled, command, how):
    was, before = digest(filled), panics(filled)
    request = (*command.split("|"), *COMMANDS[command])
    with filled.expect_panics() as caught:
        arm(filled, command)
        if how == "plain":
            error = filled.error(*request)
        elif how == "MULTI":
            filled("MULTI")
            filled(*request)
            error = str(filled("EXEC")[0])
        else:
            error = filled.error("EVAL", "return redis.call(unpack(ARGV))", 0, *request)
        assert error.startswith(f"ERR internal error in '{command}'"), error
        assert panics(filled) == before + 1
        assert len(caught()) == 1 and command in caught()[0]
        for other in ("cache.get", "cache.meta"):
            if other != command:
                assert filled(other, "fresh") is not None
        arm(filled, "")
    assert_all_works(filled, was)
    assert panics(filled) == before + 1


def test_a_panic_in_debug_itself(fresh_server):
    server = fresh_server(module_args=DEBUG)
    with server.expect_panics():
        arm(server, "cache.debug")
        assert server.error("CACHE.DEBUG", "FAULT", "").startswith("ERR internal error in 'cache.debug'")
        assert server("CACHE.SET", "k", "v") == b"OK" and server("CACHE.GET", "k") == b"v"


# --- callbacks: a function each, that provokes the panic and says what must come of it ---------------
def _rdb_load(server):
    arm(server, "")
    payload = server("DUMP", "fresh")
    arm(server, "rdb_load")
    assert server.error("RESTORE", "new", 0, payload) == "ERR Bad data format"
    assert server.error("RESTORE", "fresh", 0, payload, "REPLACE") == "ERR Bad data format"


def _rdb_save(server):
    """What DUMP then gives is no entry, and RESTORE says so."""
    assert server.error("RESTORE", "new", 0, server("DUMP", "fresh")) == "ERR Bad data format"


def _mem_usage(server):
    assert isinstance(server("MEMORY", "USAGE", "fresh"), int)


def _digest(server):
    assert len(server("DEBUG", "DIGEST")) == 40


def _free(server):
    """What cannot be freed is lost to the process, no more: nobody frees it twice."""
    server("CACHE.SET", "victim", "v")
    assert server("DEL", "victim") == 1


def _free_effort(server):
    server("CACHE.SET", "victim", "v" * 100_000)
    assert server("UNLINK", "victim") == 1


def _unlink(server):
    server("CACHE.SET", "victim", "v")
    assert server("DEL", "victim") == 1
    assert server("CACHE.GET", "victim") is None
    # One that goes from one key to another takes along that it is dead, or dies of the doubt.
    hold_the_sweep(server)
    server("CACHE.SET", "victims:1", "v")
    server("CACHE.INVALIDATE", "NAMESPACE", "victims")
    server("RENAME", "victims:1", "others:1")
    assert server("CACHE.GET", "others:1", "STALE") is None
    server("CACHE.DEBUG", "SWEEP", 1)


def _copy(server):
    try:
        assert server("COPY", "fresh", "copy") == 0
    except ReplyError as error:
        assert "copy" in str(error)
    assert server("EXISTS", "copy") == 0


def _info(server):
    assert b"redis_version:" in server("INFO", "everything")
    assert b"cacheflow_panics" not in server("INFO", "everything")


def _config(server):
    server("CONFIG", "GET", "cacheflow.*")
    assert server("CACHE.META", "space:name") is not None


def _ends_badly(server, begin, running, status):
    """A child that panics while it writes a file must fail: a file without an entry is a loss."""
    server(*begin)
    wait_for(lambda: server.info("persistence")[running] == "0", begin[0])
    assert server.info("persistence")[status] == "err", f"{begin[0]} said ok to a broken file"


def _aof_rewrite(server):
    server.config("aof-use-rdb-preamble", "no")
    _ends_badly(server, ["BGREWRITEAOF"], "aof_rewrite_in_progress", "aof_last_bgrewrite_status")


def _aux_save(server):
    _ends_badly(server, ["BGSAVE"], "rdb_bgsave_in_progress", "rdb_last_bgsave_status")


def _aux_load(server):
    """A full resync is how a living server loads; see the test of loading below."""


def _key_event(server):
    server("COPY", "fresh", "copy")
    assert fields(server("CACHE.VERIFY"))["problems"] == [], "it is told once more"
    server("DEL", "copy")
    # What was moved bore the tags of the database it came from; what has become of it goes along.
    server("CACHE.SET", "victim", "v", "TAGS", "one")
    server("CACHE.SET", "victims:1", "v")
    server("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "victims")
    assert server("RENAME", "victims:1", "others:1") == b"OK" and server("MOVE", "victim", 5) == 1
    assert server("CACHE.MGET", "fresh", "others:1") == [b"fresh", None]
    other = server.connect(db=5)
    other("CACHE.INVALIDATE", "TAGS", "one")
    assert other("CACHE.GET", "victim", "STALE") is None
    server("CACHE.DEBUG", "SWEEP", 1)
    wait_for(lambda: other("DBSIZE") == 0, "the sweep")
    assert server("DEL", "others:1") == 1


def test_what_came_from_elsewhere_and_was_missed_twice_is_dead(filled):
    """Nobody knows whether it was invalidated where it was, nor do its tags bind it where it is."""
    was = digest(filled)
    filled("CACHE.SET", "victim", "v", "EX", 1000, "TAGS", "one")
    filled("CACHE.SET", "other", "v", "EX", 1000)
    with filled.expect_panics() as caught:
        arm(filled, "key_event,distrust")
        filled("MOVE", "victim", 5)
        filled("SELECT", 0)  # whom Valkey 8 leaves there is brought back by what panicked
        filled("RENAME", "other", "another")
        assert filled("COPY", "fresh", "copy") == 1
        arm(filled, "")
        assert len(caught()) >= 6
    five = filled.connect(db=5)
    assert five("CACHE.GET", "victim", "STALE") is None
    assert filled("CACHE.MGET", "another", "copy") == [None, b"fresh"]
    filled("CACHE.VERIFY", "REPAIR")
    assert fields(filled("CACHE.VERIFY"))["problems"] == []
    wait_for(lambda: five("DBSIZE") == 0 and filled("EXISTS", "another") == 0, "the sweep")
    filled("DEL", "copy")
    assert_all_works(filled, was)


def _flush_event(server):
    server("SELECT", 5)
    server("CACHE.SET", "k", "v")
    server("FLUSHDB")
    server("SELECT", 0)


def _swap_event(server):
    server.connect(db=5)("CACHE.SET", "k", "five", "TAGS", "five", "both")
    server.connect(db=6)("CACHE.SET", "k", "six", "TAGS", "six", "both")
    server("SWAPDB", 5, 6)
    five, six = server.connect(db=5), server.connect(db=6)
    assert (five("CACHE.GET", "k"), six("CACHE.GET", "k")) == (b"six", b"five")
    six("CACHE.INVALIDATE", "TAGS", "six")
    assert six("CACHE.GET", "k") == b"five", "a tag belongs to a database"
    six("CACHE.INVALIDATE", "TAGS", "five")
    assert six("CACHE.GET", "k") is None and five("CACHE.GET", "k") == b"six"
    five("FLUSHDB")
    six("FLUSHDB")


def hold_the_sweep(server):
    """What is dead stays where it is."""
    hold(server)


def _scan(server):
    server("CACHE.VERIFY")


CALLBACKS = {
    function.__name__[1:]: function
    for function in (
        *(_rdb_load, _rdb_save, _mem_usage, _digest, _free, _free_effort, _unlink, _copy, _info, _config),
        *(_aof_rewrite, _aux_save, _aux_load),
        *(_key_event, _flush_event, _swap_event, _scan),
        *OF_SWEEP,
        *OF_LEASES,
        *OF_RELAY,
        *OF_REFRESH,
        *OF_NATIVES,
    )
}
# In a child of the server's: its panics are in the log, and in the child's own counter.
IN_A_CHILD = {"aof_rewrite", "aux_save"}


@pytest.mark.parametrize("name", sorted(CALLBACKS.keys() - {"aux_load"}))
def test_a_panic_in_a_callback_costs_that_operation_alone(filled, name):
    was, before = digest(filled), panics(filled)
    with filled.expect_panics() as caught:
        arm(filled, name)
        CALLBACKS[name](filled)
        arm(filled, "")
        assert all(f": {name}" in line for line in caught())
    # Whatever it missed, the index holds nothing that is gone, and is whole again when told to be.
    filled("CACHE.VERIFY", "REPAIR")
    assert fields(filled("CACHE.VERIFY"))["problems"] == []
    assert panics(filled) > before or name in IN_A_CHILD
    assert_all_works(filled, was)


@pytest.mark.topology("single")
@pytest.mark.parametrize("name", OF_BUS)
def test_a_panic_on_the_bus_costs_that_message_alone(fleet, name):
    in_a_cluster(fleet, name, OF_BUS[name])


@pytest.mark.parametrize("name", sorted(CALLBACKS.keys() - {"aux_load"}))
def test_a_panic_revives_nothing_and_saves_nothing_from_death(filled, name):
    """Dead and not yet swept when it comes, or tagged before it and invalidated after it."""
    filled("CACHE.SET", "doomed:2", "v", "EX", 1000, "TAGS", "late")
    payload = filled("DUMP", "doomed:2")
    for key in ("unswept:1", "unswept:2"):
        filled("CACHE.SET", key, "v", "EX", 1000, "TAGS", key)
    hold_the_sweep(filled)
    filled("CACHE.INVALIDATE", "TAGS", "unswept:1")
    filled("CACHE.INVALIDATE", "NAMESPACE", "unswept")
    with filled.expect_panics():
        arm(filled, name)
        CALLBACKS[name](filled)
        arm(filled, "")
    unswept = ("unswept:1", "unswept:2")
    assert filled("CACHE.MGET", *unswept, *DEAD) == [None] * 5
    assert filled("CACHE.GET", "doomed:2") == b"v"
    for key in unswept:
        assert filled("CACHE.GET", key, "STALE") is None and filled("CACHE.TAG", key, "x") is None
    filled("CACHE.INVALIDATE", "TAGS", "late", "one")
    assert filled("CACHE.MGET", "doomed:2", "tagged", "tags", "fresh") == [None] * 3 + [b"fresh"]
    filled("CACHE.VERIFY", "REPAIR")
    assert filled("CACHE.MGET", *unswept, *DEAD, "doomed:2", "tagged", "tags") == [None] * 8
    filled("CACHE.DEBUG", "SWEEP", 1)
    wait_for(lambda: filled("EXISTS", *unswept, "doomed:2", "tagged", "tags") == 0, "the sweep")
    filled("RESTORE", "doomed:3", 0, payload)
    assert filled("CACHE.GET", "doomed:3", "STALE") is None, "it is remembered"
    filled.wait_swept()
    assert_verified(filled)


def test_who_can_neither_be_answered_nor_told_so_is_let_go_of_when_it_leaves(filled):
    """Two panics in a row: the connection hears nothing, and takes nothing with it when it closes."""
    token = lease(filled, "held", "LEASE", 600_000)
    unlucky = wait_in_line(filled, "CACHE.FETCH", "held", "BLOCK", 0)
    lucky = wait_in_line(filled, "CACHE.FETCH", "held", "BLOCK", 0)
    with filled.expect_panics() as caught:
        arm(filled, "wake,wake_lost")
        assert filled("CACHE.UNLOCK", "held", token) == 1
        wait_for(lambda: len(caught()) >= 2, "both panics")
        arm(filled, "")
    assert filled("PING") == b"PONG"
    unlucky.close()
    state, _, token, _ = lucky.read()
    assert state == b"MISS" and filled("CACHE.SET", "held", "v", "LEASE", token) == b"OK"
    assert filled("CACHE.DEL", "held") == 1
    assert_nothing_held(filled)
    assert_verified(filled)


@pytest.mark.parametrize("begin", ["BGSAVE", "BGREWRITEAOF", "a full resync"])
def test_a_panic_in_saving_makes_the_save_fail(filled, fresh_server, begin):
    """Not: a file that says it is whole and cannot be loaded, with the last good one overwritten."""
    was = digest(filled)
    filled("SAVE")
    with filled.expect_panics():
        arm(filled, "rdb_save")
        if begin == "BGSAVE":
            _ends_badly(filled, [begin], "rdb_bgsave_in_progress", "rdb_last_bgsave_status")
        elif begin == "BGREWRITEAOF":
            filled.config("aof-use-rdb-preamble", "yes")
            _ends_badly(filled, [begin], "aof_rewrite_in_progress", "aof_last_bgrewrite_status")
        else:
            replica = fresh_server()
            replica("REPLICAOF", "127.0.0.1", filled.port)
            wait_for(lambda: "panic caught" in filled.log(), "the panic in the child")
        arm(filled, "")
    if begin == "a full resync":
        replica.wait_replica_of(filled)
        assert digest(replica) == was
    assert_all_works(filled, was)


def test_a_panic_in_loading_ends_that_synchronisation_alone(filled, fresh_server):
    """A replica that loads straight from the socket lives on; without the fault the next one serves.

    Of an entry that could not be read, or of a file, the server's own rule is to end the process:
    what was to be loaded is then still where it was."""
    replica = fresh_server(args=["--repl-diskless-load", "on-empty-db"], module_args=DEBUG)
    with replica.expect_panics() as caught:
        arm(replica, "aux_load")
        replica("REPLICAOF", "127.0.0.1", filled.port)
        wait_for(caught, "the panic")
        wait_for(lambda: replica.info("persistence")["loading"] == "0", "the end of the loading")
        assert panics(replica) > 0
        replica("REPLICAOF", "NO", "ONE")
        arm(replica, "")
    replica("REPLICAOF", "127.0.0.1", filled.port)
    replica.wait_replica_of(filled)
    assert_same(snapshot(filled), snapshot(replica), "primary and replica")
    assert digest(filled) == digest(replica)


def test_a_panic_at_an_event_loses_no_write(fresh_server):
    """The gate then stays as it was: open to whoever listens, or to be asked again."""
    primary, replica = fresh_server(module_args=DEBUG), fresh_server()
    primary("CACHE.SET", "before", "v", "EX", 1000)  # the gate is known, and closed
    with primary.expect_panics():
        arm(primary, "replication_event")
        replica("REPLICAOF", "127.0.0.1", primary.port)
        replica.wait_replica_of(primary)
        primary("CACHE.SET", "during", "v", "EX", 1000, "GRACE", 1000)
        arm(primary, "")
    assert panics(primary) > 0
    primary("CACHE.SET", "after", "v", "EX", 1000, "GRACE", 1000)
    replica.wait_replica_of(primary)
    assert scan(replica.connect()) == [b"after", b"before", b"during"]


def test_a_panic_before_the_state_is_sent(fresh_server):
    """A file that is rewritten without an entry lacks what was invalidated; the next one has it."""
    server = fresh_server(["--appendonly", "yes", "--aof-use-rdb-preamble", "no"], module_args=DEBUG)
    server("CACHE.SET", "k", "v", "TAGS", "a")
    payload = server("DUMP", "k")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server.wait_swept()
    with server.expect_panics() as caught:
        arm(server, "send_state")
        server.bgrewriteaof()
        wait_for(caught, "the panic")
        arm(server, "")
    server.bgrewriteaof()
    server.restart()
    server("RESTORE", "k", 0, payload)
    assert server("CACHE.GET", "k") is None


def test_a_panic_in_defrag_leaves_the_entry_where_it_is(fresh_server):
    server = fresh_server(module_args=DEBUG)
    try:
        server.config("activedefrag", "yes")
    except ReplyError as error:  # a server built without it never calls us
        assert "cannot be enabled" in str(error) or "not compiled" in str(error)
        return
    server.config("activedefrag", "no")
    for name, value in (
        ("active-defrag-ignore-bytes", "1"),
        ("active-defrag-threshold-lower", "0"),
        ("active-defrag-threshold-upper", "1"),
        ("active-defrag-cycle-min", "99"),
        ("active-defrag-cycle-max", "99"),
    ):
        server.config(name, value)
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"k{i}", "v" * 200, "EX", 10_000) for i in range(40_000)])
    connection.pipeline([("DEL", f"k{i}") for i in range(40_000) if i % 4])
    was = digest(server)
    with server.expect_panics() as caught:
        arm(server, "defrag")
        server.config("activedefrag", "yes")
        wait_for(caught, "a panic in defrag")
        arm(server, "")
    assert digest(server) == was
    wait_for(lambda: int(server.info("stats")["active_defrag_key_hits"]) > 0, "an entry moved")
    assert digest(server) == was and server("CACHE.GET", "k0") == b"v" * 200
