"""The server's own commands on entries: an entry is a key like any other."""

import pytest

from harness.dataset import scan
from harness.resp import ReplyError
from harness.sample import BINARY, meta
from harness.server import wait_for
from harness.topologies import WITHOUT_CLUSTER, several_databases
from harness.transcript import play


@pytest.fixture
def entry(server):
    """The entry `k`: fresh for 100 s, then stale for 200 s."""
    server("CACHE.SET", "k", "v", "EX", 100, "GRACE", 200, "COST", 7)
    return meta(server, "k")


def same_entry(server, key, before, expires):
    """Whether a key holds what `k` held, its times included."""
    now = meta(server, key)
    moved = {"age-ms", "fresh-ms", "ttl-ms", "hits", "namespace"}
    assert {k: v for k, v in now.items() if k not in moved} == {
        k: v for k, v in before.items() if k not in moved
    }
    assert server("PEXPIRETIME", key) == expires
    assert before["fresh-ms"] - 30_000 <= now["fresh-ms"] <= before["fresh-ms"]
    assert server("CACHE.GET", key) == b"v"


def test_ttl_is_the_end_of_the_grace(server, entry):
    play(
        server,
        """
        TTL k                          => 299..300
        PTTL k                         => 299000..300000
        CACHE.SET endless v            => OK
        TTL endless                    => -1
        CACHE.SET plain v PX 5000      => OK
        PTTL plain                     => 1..5000
        TTL none                       => -2
        """,
    )
    assert server("EXPIRETIME", "k") == (server("PEXPIRETIME", "k") + 500) // 1000


def test_expire_before_the_end_of_freshness_shortens_it(server, entry):
    assert server("EXPIRE", "k", 50) == 1
    now = meta(server, "k")
    assert 0 < now["fresh-ms"] <= 50_000 and 0 < now["ttl-ms"] <= 50_000
    assert server("CACHE.GET", "k") == b"v"


def test_expire_after_the_end_of_freshness_moves_the_grace_only(server, entry):
    assert server("PEXPIRE", "k", 150_000) == 1
    now = meta(server, "k")
    assert 70_000 < now["fresh-ms"] <= 100_000 and 120_000 < now["ttl-ms"] <= 150_000


def test_pexpireat_is_exact(server, entry):
    at = server("PEXPIRETIME", "k") - 12_345
    assert server("PEXPIREAT", "k", at) == 1
    assert server("PEXPIRETIME", "k") == at


def test_expire_conditions_and_past_times(server, entry):
    play(
        server,
        """
        EXPIRE k 1000 NX    => 0
        EXPIRE k 100 GT     => 0
        EXPIRE k 1000 GT    => 1
        EXPIRE k 500 LT     => 1
        EXPIRE k -1         => 1
        EXISTS k            => 0
        CACHE.GET k STALE   => nil
        CACHE.META k        => nil
        """,
    )


def test_an_expired_entry_is_gone(server):
    server("CACHE.SET", "k", "v")
    server("PEXPIRE", "k", 20)
    wait_for(lambda: server("CACHE.GET", "k", "STALE") is None, "the expiry")
    assert server("EXISTS", "k") == 0


def test_persist_takes_the_end_of_the_grace_away(server, entry):
    assert server("PERSIST", "k") == 1
    assert server("TTL", "k") == -1 and server("PERSIST", "k") == 0
    now = meta(server, "k")
    assert now["ttl-ms"] == -1 and 0 < now["fresh-ms"] <= 100_000


def test_del_unlink_exists_touch(server):
    play(
        server,
        """
        CACHE.SET a{t} 1                   => OK
        CACHE.SET b{t} 2                   => OK
        SET c{t} native                    => OK
        EXISTS a{t} b{t} c{t} none{t} a{t} => 4
        TOUCH a{t} c{t} none{t}            => 2
        DBSIZE                             => 3
        DEL a{t} none{t}                   => 1
        UNLINK b{t} c{t}                   => 2
        DBSIZE                             => 0
        CACHE.MGET a{t} b{t} c{t}          => [nil, nil, nil]
        """,
    )


def test_unlink_of_a_big_value(server):
    server("CACHE.SET", "k", b"x" * 20_000_000)
    assert server("UNLINK", "k") == 1
    assert server("CACHE.GET", "k") is None


@pytest.mark.parametrize("command", ["RENAME", "RENAMENX", "COPY"])
def test_names_change_and_the_entry_stays_the_same(server, entry, command):
    expires = server("PEXPIRETIME", "k")
    assert server(command, "k", "space:other{k}") in (1, b"OK")
    same_entry(server, "space:other{k}", entry, expires)
    assert meta(server, "space:other{k}")["namespace"] == b"space"
    assert server("EXISTS", "k") == (command == "COPY")


def test_rename_and_copy_over_keys(server, entry):
    play(
        server,
        """
        SET string{k} native      => OK
        CACHE.SET other{k} o      => OK
        RENAMENX k other{k}       => 0
        COPY k other{k}           => 0
        CACHE.GET other{k}        => "o"
        COPY k other{k} REPLACE   => 1
        CACHE.GET other{k}        => "v"
        TTL other{k}              => 299..300
        RENAME k string{k}        => OK
        TYPE string{k}            => cacheflow
        CACHE.GET string{k}       => "v"
        RENAME other{k} other{k}  => OK
        CACHE.GET other{k}        => "v"
        SET native{k} n           => OK
        RENAME native{k} other{k} => OK
        CACHE.GET other{k}        => "n"
        TYPE other{k}             => string
        RENAME k any{k}           => !ERR no such key
        """,
    )


def test_a_copy_is_independent(server, entry):
    server("COPY", "k", "copy{k}")
    server("CACHE.STALE", "k")
    assert server("CACHE.GET", "copy{k}") == b"v"
    server("CACHE.SET", "k", "changed")
    server("DEL", "k")
    assert server("CACHE.GET", "copy{k}") == b"v"


def test_a_stale_entry_stays_stale_under_another_name(server, entry):
    server("CACHE.STALE", "k")
    server("COPY", "k", "copy{k}")
    server("RENAME", "k", "renamed{k}")
    for key in ("copy{k}", "renamed{k}"):
        assert server("CACHE.GET", key) is None
        assert server("CACHE.GET", key, "STALE") == b"v"


@several_databases
def test_move_and_copy_to_another_database(server, entry):
    expires = server("PEXPIRETIME", "k")
    assert server("COPY", "k", "copy", "DB", 2) == 1
    assert server("MOVE", "k", 2) == 1
    assert server("EXISTS", "k") == 0 and server("CACHE.GET", "k") is None
    server("SELECT", 2)
    for key in ("k", "copy"):
        same_entry(server, key, entry, expires)
    server("SELECT", 0)
    server("CACHE.SET", "k", "new")
    assert server("MOVE", "k", 2) == 0


@several_databases
def test_swapdb(server, entry):
    play(
        server,
        """
        SWAPDB 0 5          => OK
        CACHE.GET k         => nil
        CACHE.SET k zero    => OK
        SELECT 5            => OK
        CACHE.GET k         => "v"
        TTL k               => 299..300
        CACHE.SET k five    => OK
        SWAPDB 5 0          => OK
        CACHE.GET k         => "zero"
        SELECT 0            => OK
        CACHE.GET k         => "five"
        DEL k               => 1
        CACHE.GET k         => nil
        """,
    )


@pytest.mark.parametrize("value", [b"v", b"", BINARY, b"x" * 100_000])
def test_dump_and_restore(server, value):
    server("CACHE.SET", "k", value, "EX", 100, "GRACE", 200, "COST", 7)
    payload, before = server("DUMP", "k"), meta(server, "k")
    assert server("RESTORE", "copy", 0, payload) == b"OK"
    assert server("TTL", "copy") == -1 and server("CACHE.GET", "copy") == value
    now = meta(server, "copy")
    for name in ("state", "type", "bytes", "cost-ms", "namespace", "tags"):
        assert now[name] == before[name]
    assert before["fresh-ms"] - 30_000 <= now["fresh-ms"] <= before["fresh-ms"]


def test_restore_options(server, entry):
    payload, at = server("DUMP", "k"), server("PEXPIRETIME", "k")
    server("SET", "string", "native")
    assert server.error("RESTORE", "string", 0, payload).startswith("BUSYKEY")
    assert server("RESTORE", "string", 0, payload, "REPLACE") == b"OK"
    assert server("TYPE", "string") == b"cacheflow"
    server("RESTORE", "exact", at, payload, "ABSTTL")
    assert server("PEXPIRETIME", "exact") == at
    server("RESTORE", "short", 20_000, payload)
    assert 0 < meta(server, "short")["fresh-ms"] <= 20_000
    server("RESTORE", "idle", 0, payload, "IDLETIME", 1000)
    assert server("OBJECT", "IDLETIME", "idle") >= 1000
    server("RESTORE", "past", 1, payload, "ABSTTL")
    assert server("EXISTS", "past") == 0
    server("CACHE.STALE", "k")
    server("RESTORE", "k", 0, server("DUMP", "k"), "REPLACE")
    assert server("CACHE.GET", "k") is None and server("CACHE.GET", "k", "STALE") == b"v"


def test_restore_refuses_a_broken_payload(server, entry):
    payload = server("DUMP", "k")
    flipped = bytes([payload[0], payload[1] ^ 1]) + payload[2:]
    for broken in (flipped, payload[:-1], b""):
        assert server.error("RESTORE", "copy", 0, broken).startswith("ERR")
    assert server("EXISTS", "copy") == 0


def test_object_and_memory(server, entry):
    assert server("OBJECT", "ENCODING", "k") == b"raw"
    assert server("OBJECT", "REFCOUNT", "k") == 1
    small = server("MEMORY", "USAGE", "k")
    server("CACHE.SET", "k", b"x" * 10_000)
    assert 20 < small < 400
    assert 10_000 <= server("MEMORY", "USAGE", "k") <= 13_000
    assert b"serializedlength:" in server("DEBUG", "OBJECT", "k")


def test_idletime_follows_reads_but_not_meta(server, entry):
    wait_for(lambda: server("OBJECT", "IDLETIME", "k") >= 2, "two idle seconds")
    server("CACHE.META", "k")
    assert server("OBJECT", "IDLETIME", "k") >= 2
    server("CACHE.GET", "k")
    assert server("OBJECT", "IDLETIME", "k") <= 1
    wait_for(lambda: server("OBJECT", "IDLETIME", "k") >= 2, "two idle seconds")
    server("CACHE.MGET", "k")
    assert server("OBJECT", "IDLETIME", "k") <= 1


def test_freq_follows_reads_but_not_meta(server):
    server.config("maxmemory-policy", "allkeys-lfu")
    server.config("lfu-log-factor", 0)  # each access counts
    server("CACHE.SET", "k", "v")
    before = server("OBJECT", "FREQ", "k")
    for _ in range(3):
        server("CACHE.META", "k")
    assert server("OBJECT", "FREQ", "k") == before
    for _ in range(10):
        server("CACHE.GET", "k")
    assert before + 10 <= server("OBJECT", "FREQ", "k") <= before + 11


def test_scan_keys_randomkey(server):
    entries = {b"entry:%d" % i for i in range(100)}
    for key in entries:
        server("CACHE.SET", key, "v")
    for i in range(50):
        server("SET", f"string:{i}", "v")
    assert set(scan(server.connect(), "TYPE", "cacheflow")) == entries
    assert len(scan(server.connect(), "TYPE", "string")) == 50
    assert set(server("KEYS", "entry:*")) == entries
    assert server("RANDOMKEY") is not None


WRONG_TYPE = [
    "GET k", "STRLEN k", "APPEND k x", "INCR k", "GETRANGE k 0 1", "GETEX k", "GETDEL k", "SETBIT k 1 1",
    "LPUSH k x", "HGET k f", "SADD k x", "ZADD k 1 x", "XLEN k", "SORT k", "LLEN k", "SET k x GET",
]  # fmt: skip


@pytest.mark.parametrize("command", WRONG_TYPE)
def test_commands_of_other_types_are_refused(server, entry, command):
    expires = server("PEXPIRETIME", "k")
    assert server.error(*command.split()).startswith("WRONGTYPE")
    same_entry(server, "k", entry, expires)


def test_native_writes_over_entries_and_entries_over_native_keys(server, entry):
    play(
        server,
        """
        SET k x NX             => nil
        SET k x KEEPTTL        => OK
        TTL k                  => 299..300
        CACHE.GET k            => "x"
        CACHE.SET k y          => OK
        TYPE k                 => cacheflow
        TTL k                  => -1
        SETNX k z              => 0
        MGET k                 => [nil]
        RPUSH list{k} x        => 1
        CACHE.GET list{k}      => !WRONGTYPE
        CACHE.MGET list{k} k   => [nil, "y"]
        CACHE.SET list{k} over => OK
        CACHE.GET list{k}      => "over"
        SADD set{k} a          => 1
        CACHE.SET k z          => OK
        SUNIONSTORE k set{k}   => 1
        TYPE k                 => set
        """,
    )


@pytest.mark.topology(*WITHOUT_CLUSTER)
def test_sort_sees_no_values_of_entries(server, entry):
    """By GET it would name keys of any slot: denied in a cluster."""
    server("RPUSH", "list", "k", "none")
    assert server("SORT", "list", "BY", "nosort", "GET", "*") == [None, None]


@pytest.mark.topology("single")
def test_migrate_between_two_servers(server, entry, fresh_server):
    other, expires = fresh_server(), server("PEXPIRETIME", "k")
    server("CACHE.SET", "stale", BINARY, "EX", 100, "GRACE", 100)
    server("CACHE.STALE", "stale")
    there = ("MIGRATE", "127.0.0.1", other.port)
    assert server(*there, "k", 0, 10_000, "COPY") == b"OK"
    assert server.error(*there, "k", 0, 10_000).find("BUSYKEY") >= 0
    assert server(*there, "", 0, 10_000, "REPLACE", "KEYS", "k", "stale") == b"OK"
    assert server("EXISTS", "k", "stale") == 0 and server("CACHE.GET", "k") is None
    assert abs(other("PEXPIRETIME", "k") - expires) <= 2_000  # MIGRATE sends the time left
    assert other("CACHE.GET", "k") == b"v" and other("CACHE.GET", "stale") is None
    assert other("CACHE.GET", "stale", "STALE") == BINARY


def test_multi_exec(server):
    play(
        server,
        """
        MULTI                   => OK
        CACHE.SET k v EX 100    => QUEUED
        CACHE.GET k             => QUEUED
        CACHE.INCRBY k 1        => QUEUED
        CACHE.DEL k             => QUEUED
        EXEC                    => [OK, "v", _, 1]
        CACHE.GET k             => nil
        MULTI                   => OK
        CACHE.SET k             => !ERR wrong number of arguments
        EXEC                    => !EXECABORT
        """,
    )


CHANGES = [
    "CACHE.SET k w", "CACHE.DEL k", "CACHE.STALE k", "CACHE.TOUCH k EX 5", "DEL k", "EXPIRE k 10", "SET k x",
    "CACHE.INCRBY n{k} 1", "RENAME k l{k}", "FLUSHALL",
]  # fmt: skip
NO_CHANGES = [
    "CACHE.GET k", "CACHE.GET k STALE", "CACHE.MGET k n{k}", "CACHE.META k", "CACHE.SET k w NX",
    "CACHE.SET none{k} w XX", "CACHE.DEL none{k}", "CACHE.STALE none{k}", "CACHE.TOUCH none{k}",
    "CACHE.INCRBY k 1", "CACHE.SET k w EX 0", "CACHE.SET k w EX", "CACHE.INCRBY n{k} 9223372036854775807",
]  # fmt: skip


def do(connection, command):
    """Send a command that may answer an error."""
    connection.send(*command.split())
    return connection.read()


@pytest.mark.parametrize(
    ("command", "aborts"), [(c, True) for c in CHANGES] + [(c, False) for c in NO_CHANGES]
)
def test_watch(server, entry, command, aborts):
    server("CACHE.SET", "n{k}", 1)
    watching = server.connect()
    watching("WATCH", "k", "n{k}", "none{k}")
    do(server.connect(), command)
    watching("MULTI")
    watching("PING")
    assert (watching("EXEC") is None) is aborts


def test_watch_is_told_of_an_expiry(server):
    server("CACHE.SET", "k", "v", "PX", 300)
    watching = server.connect()
    watching("WATCH", "k")
    wait_for(lambda: server("EXISTS", "k") == 0, "the expiry")
    watching("MULTI")
    watching("PING")
    assert watching("EXEC") is None


def test_scripts(server):
    def run(script, *args, command="EVAL"):
        return server(command, script, 1, "k", *args)

    assert run("return redis.call('CACHE.SET', KEYS[1], ARGV[1], 'EX', 100)", BINARY) == b"OK"
    assert run("return redis.call('CACHE.GET', KEYS[1])") == BINARY
    assert run("return redis.call('CACHE.GET', KEYS[1])", command="EVAL_RO") == BINARY
    assert run("return redis.call('CACHE.MGET', KEYS[1], 'none{k}')") == [BINARY, None]
    assert run("return redis.call('CACHE.GET', 'none{k}') == false") == 1
    assert run("return redis.call('TTL', KEYS[1])") in (99, 100)
    assert run("return redis.pcall('CACHE.INCRBY', KEYS[1], 1)['err'] ~= nil") == 1
    assert run("return redis.call('CACHE.DEL', KEYS[1])") == 1
    with pytest.raises(ReplyError):
        run("return redis.call('CACHE.SET', KEYS[1], 'v')", command="EVAL_RO")
    assert server("EXISTS", "k") == 0


def silent(connection):
    """Whether no push message came before the reply to a PING."""
    assert connection("PING") == b"PONG"
    return connection.pushed == []


def test_tracking_tells_of_every_change_once(server, entry):
    tracking = server.connect(protocol=3)
    tracking("CLIENT", "TRACKING", "ON")
    for command in ("CACHE.SET k w EX 50 GRACE 50", "CACHE.STALE k", "CACHE.TOUCH k EX 9", "DEL k"):
        tracking("CACHE.GET", "k")
        server(*command.split())
        assert tracking.push() == [b"invalidate", [b"k"]], command
        server("CACHE.SET", "k", "v", "EX", 100, "GRACE", 100)
        assert silent(tracking), f"after {command} the client had no copy left"
    tracking("CACHE.MGET", "k", "none{k}")
    server("CACHE.SET", "none{k}", "v")
    assert tracking.push() == [b"invalidate", [b"none{k}"]]
    server("PEXPIRE", "k", 1)
    assert tracking.push() == [b"invalidate", [b"k"]]


@pytest.mark.parametrize("command", NO_CHANGES)
def test_tracking_is_silent_where_nothing_changed(server, entry, command):
    server("CACHE.SET", "n{k}", 1)
    tracking = server.connect(protocol=3)
    tracking("CLIENT", "TRACKING", "ON")
    tracking("CACHE.MGET", "k", "n{k}", "none{k}")
    do(server.connect(), command)
    assert silent(tracking)


def test_tracking_optin(server, entry):
    tracking = server.connect(protocol=3)
    tracking("CLIENT", "TRACKING", "ON", "OPTIN")
    tracking("CACHE.GET", "k")
    server("CACHE.SET", "k", "w")
    assert silent(tracking)
    tracking("CLIENT", "CACHING", "YES")
    tracking("CACHE.GET", "k")
    server("CACHE.SET", "k", "x")
    assert tracking.push() == [b"invalidate", [b"k"]]


def test_tracking_broadcasts_by_prefix(server):
    tracking = server.connect(protocol=3)
    tracking("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "product:")
    server("CACHE.SET", "user:1", "v")
    server("CACHE.SET", "product:1", "v")
    assert tracking.push() == [b"invalidate", [b"product:1"]]
    server("CACHE.DEL", "product:1")
    assert tracking.push() == [b"invalidate", [b"product:1"]]
