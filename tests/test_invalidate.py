"""What an invalidation makes of entries, from its reply on: dead ones, stale ones, and who is spared."""

import pytest

from harness.dataset import now_ms
from harness.payload import Meta, body, dumped_meta, encode, entry, rdb_version, seal
from harness.resp import ReplyError
from harness.sample import meta, state
from harness.server import wait_for
from harness.tagged import DEBUG, await_sweep, figure, hold, let_go, tags_of
from harness.topologies import several_databases
from harness.transcript import play

HOW = {"tag": ("TAGS", "a"), "namespace": ("NAMESPACE", "n")}


@pytest.fixture
def held(fresh_server):
    """A server whose sweep is held: what is dead stays."""
    server = fresh_server(module_args=DEBUG)
    hold(server)
    return server


# --- what it hits ----------------------------------------------------------------------------------
def test_any_of_the_tags_named(server):
    play(
        server,
        """
        CACHE.SET one{t} v TAGS a                  => OK
        CACHE.SET both{t} v EX 100 TAGS a b        => OK
        CACHE.SET other{t} v TAGS c                => OK
        CACHE.SET none{t} v                        => OK
        CACHE.INVALIDATE TAGS a b                  => 3
        CACHE.MGET one{t} both{t} other{t} none{t} => [nil, nil, "v", "v"]
        CACHE.INVALIDATE TAGS a b                  => 0
        CACHE.SET one{t} w TAGS a                  => OK
        CACHE.GET one{t}                           => "w"
        CACHE.INVALIDATE TAGS none2 a a a          => 1
        CACHE.GET one{t}                           => nil
        """,
    )


def test_a_namespace_is_what_stands_before_the_delimiter(server):
    play(
        server,
        """
        CACHE.SET n:1 v                         => OK
        CACHE.SET {n:2}x v                      => OK
        CACHE.SET n:2:3 v TAGS a                => OK
        CACHE.SET nn:1 v                        => OK
        CACHE.SET n v                           => OK
        CACHE.SET :1 v                          => OK
        SET n:native v                          => OK
        CACHE.INVALIDATE NAMESPACE n n          => 3
        CACHE.GET n:1                           => nil
        CACHE.GET {n:2}x                        => nil
        CACHE.GET n:2:3                         => nil
        CACHE.GET nn:1                          => "v"
        CACHE.GET n                             => "v"
        CACHE.GET :1                            => "v"
        CACHE.GET n:native                      => "v"
        CACHE.SET n:1 w                         => OK
        CACHE.GET n:1                           => "w"
        CACHE.INVALIDATE NAMESPACE ""           => 2
        CACHE.GET n                             => nil
        CACHE.GET :1                            => nil
        CACHE.GET nn:1                          => "v"
        CACHE.GET n:1                           => "w"
        CACHE.INVALIDATE NAMESPACE nn n none    => 2
        GET n:native                            => "v"
        """,
    )


def test_the_reply_counts_memberships(held):
    play(
        held,
        """
        CACHE.SET k v TAGS a b c                => OK
        CACHE.SET j v TAGS a                    => OK
        CACHE.INVALIDATE TAGS none              => 0
        CACHE.INVALIDATE SOFT TAGS a b a        => 3
        CACHE.INVALIDATE SOFT TAGS a b a        => 3
        CACHE.INVALIDATE TAGS b b               => 1
        CACHE.INVALIDATE TAGS b                 => 0
        # One that died through another tag may count until it is swept.
        CACHE.INVALIDATE TAGS a                 => 1..2
        CACHE.INVALIDATE TAGS a                 => 0
        """,
    )


@pytest.mark.parametrize("how", HOW)
def test_a_name_that_was_never_seen(server, how):
    kind = HOW[how][0]
    assert server("CACHE.INVALIDATE", kind, "never") == 0
    assert server("CACHE.INVALIDATE", "SOFT", kind, "never", b"\x00\r\n", "") == 0
    server("CACHE.SET", "never:k", "v", "TAGS", "never")
    assert server("CACHE.GET", "never:k") == b"v"
    assert server("CACHE.INVALIDATE", kind, "never") == 1


def test_options_and_errors(server):
    play(
        server,
        """
        CACHE.SET k v TAGS SOFT                 => OK
        CACHE.INVALIDATE                        => !ERR wrong number of arguments
        CACHE.INVALIDATE TAGS                   => !ERR wrong number of arguments
        CACHE.INVALIDATE SOFT TAGS              => !ERR syntax error
        CACHE.INVALIDATE SOFT LOCAL             => !ERR syntax error
        CACHE.INVALIDATE SOFT NAMESPACE         => !ERR syntax error
        CACHE.INVALIDATE a b                    => !ERR syntax error
        CACHE.INVALIDATE HARD TAGS a            => !ERR syntax error
        CACHE.INVALIDATE TIMEOUT TAGS a         => !ERR
        CACHE.INVALIDATE TIMEOUT x TAGS a       => !ERR
        CACHE.INVALIDATE TIMEOUT -1 TAGS a      => !ERR
        CACHE.GET k                             => "v"
        CACHE.INVALIDATE TAGS TAGS LOCAL        => 0
        CACHE.GET k                             => "v"
        cache.invalidate timeout 5 local soft tags SOFT => 1
        CACHE.GET k                             => nil
        CACHE.GET k STALE                       => "v"
        CACHE.INVALIDATE LOCAL TIMEOUT 1000 TAGS SOFT => 1
        CACHE.GET k STALE                       => nil
        """,
    )


def test_many_names_in_one_line(server):
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"s{n}:k", "v", "TAGS", f"t{n}") for n in range(2000)])
    assert connection("CACHE.INVALIDATE", "TAGS", *[f"t{n}" for n in range(0, 2000, 2)]) == 1000
    assert connection("CACHE.INVALIDATE", "NAMESPACE", *[f"s{n}" for n in range(1, 1000, 2)]) == 500
    values = connection.pipeline([("CACHE.GET", f"s{n}:k") for n in range(2000)])
    assert [n for n in range(2000) if values[n]] == list(range(1001, 2000, 2))


# --- hard: dead at once ----------------------------------------------------------------------------
@pytest.mark.parametrize("how", HOW)
def test_no_cache_command_sees_a_dead_entry(held, how):
    for key in ("n:k", "n:5"):
        held("CACHE.SET", key, 5, "EX", 100, "GRACE", 100, "COST", 9, "TAGS", "a", "b")
    assert held("CACHE.INVALIDATE", *HOW[how]) == 2
    play(
        held,
        """
        CACHE.GET n:k                           => nil
        CACHE.GET n:k STALE                     => nil
        CACHE.MGET n:k n:5                      => [nil, nil]
        CACHE.META n:k                          => nil
        CACHE.TOUCH n:k EX 100                  => 0
        CACHE.STALE n:k n:5                     => 0
        CACHE.TAG n:k c                         => nil
        CACHE.UNTAG n:k a                       => nil
        CACHE.SET n:k w XX                      => nil
        CACHE.KEYS a 0                          => ["0", []]
        CACHE.KEYS b 0                          => ["0", []]
        # Native commands may see the key; what they find is no value.
        EXISTS n:k                              => 0..1
        GET n:k                                 => !WRONGTYPE
        CACHE.INCRBY n:5 7                      => 7
        PTTL n:5                                => -1
        CACHE.DEL n:k                           => 0
        EXISTS n:k                              => 0
        """,
    )
    assert meta(held, "n:5")["cost-ms"] == 0 and tags_of(held, "n:5") == []
    let_go(held)
    assert held("DBSIZE") == 1 and held("CACHE.GET", "n:5") == b"7"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("options", [("NX",), (), ("EX", 100, "TAGS", "a"), ("KEEPTTL",)])
def test_set_where_a_dead_one_lies(held, how, options):
    held("CACHE.SET", "n:k", "old", "EX", 1000, "COST", 9, "TAGS", "a")
    held("CACHE.INVALIDATE", *HOW[how])
    assert held("CACHE.SET", "n:k", "new", *options) == b"OK"
    found = meta(held, "n:k")
    assert found["state"] == b"fresh" and found["cost-ms"] == 0
    assert (found["ttl-ms"] == -1) == ("EX" not in options), "nothing is kept of a dead one"
    let_go(held)
    assert held("CACHE.GET", "n:k") == b"new", "the sweep spares who was born later"
    assert held("CACHE.INVALIDATE", *HOW[how]) == (0 if how == "tag" and "TAGS" not in options else 1)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("away", ["COPY", "RENAME", "MOVE", "COPY DB", "DUMP"])
def test_what_is_made_of_a_dead_one_is_dead(held, how, away):
    held("CACHE.SET", "n:k", "secret", "EX", 1000, "TAGS", "a")
    held("CACHE.INVALIDATE", *HOW[how])
    db = 0
    if away == "COPY":
        held("COPY", "n:k", "other")
    elif away == "RENAME":
        held("RENAME", "n:k", "other")
    elif away == "DUMP":
        payload = held("DUMP", "n:k")
        assert b"secret" not in payload and dumped_meta(payload).dead and entry(payload)[1] == b""
        held("RESTORE", "other", 0, payload)
    else:
        db = 1
        held("MOVE", "n:k", 1) if away == "MOVE" else held("COPY", "n:k", "other", "DB", 1)
    connection = held.connect(db=db)
    for key in ("other", "n:k"):
        assert connection("CACHE.GET", key, "STALE") is None and connection("CACHE.META", key) is None
    assert connection("CACHE.SET", "other", "v", "NX") == b"OK"
    held("CACHE.SET", "free", "v")
    let_go(held)
    assert held.connect(db=db)("CACHE.GET", "other") == b"v"
    wait_for(lambda: held("EXISTS", "n:k") == 0, "the dead one to be swept")
    assert figure(held, "entries") == 2


def test_dead_through_save_and_load(held):
    """It is saved without its value, and nothing revives it."""
    held("CACHE.SET", "n:k", "secret", "EX", 1000, "TAGS", "a")
    held("CACHE.SET", "n:alive", "v", "EX", 1000)
    held("CACHE.INVALIDATE", "TAGS", "a")
    held("DEBUG", "RELOAD")
    assert held("CACHE.MGET", "n:k", "n:alive") == [None, b"v"]
    let_go(held)
    assert held("DBSIZE") == 1


# --- soft: stale -----------------------------------------------------------------------------------
@pytest.mark.parametrize("how", HOW)
def test_soft_makes_stale_and_keeps_the_rest(server, how):
    server("CACHE.SET", "n:k{t}", "v", "EX", 100, "GRACE", 100, "COST", 7, "TAGS", "a", "b")
    server("CACHE.SET", "n:endless{t}", "v", "TAGS", "a")
    server("CACHE.SET", "x:other{t}", "v")
    was, ends = meta(server, "n:k{t}"), server("PEXPIRETIME", "n:k{t}")
    assert server("CACHE.INVALIDATE", "SOFT", *HOW[how]) == 2
    now = meta(server, "n:k{t}")
    assert (was["state"], now["state"], now["fresh-ms"]) == (b"fresh", b"stale", 0)
    assert server("PEXPIRETIME", "n:k{t}") == ends and server("TTL", "n:endless{t}") == -1
    assert now["cost-ms"] == 7 and tags_of(server, "n:k{t}") == [b"a", b"b"]
    play(
        server,
        """
        CACHE.GET n:k{t}                          => nil
        CACHE.MGET n:k{t} n:endless{t} x:other{t} => [nil, nil, "v"]
        CACHE.GET n:k{t} STALE                    => "v"
        CACHE.GET n:endless{t} STALE              => "v"
        CACHE.STALE n:k{t}                        => 0
        CACHE.SET n:k{t} w NX                     => nil
        CACHE.TOUCH n:k{t}                        => 1
        CACHE.GET n:k{t}                          => "v"
        CACHE.GET n:endless{t}                    => nil
        CACHE.SET n:endless{t} w                  => OK
        CACHE.GET n:endless{t}                    => "w"
        """,
    )
    assert tags_of(server, "n:k{t}") == [b"a", b"b"]
    await_sweep(server)
    assert server("CACHE.MGET", "n:k{t}", "n:endless{t}") == [b"v", b"w"], "the sweep removes no stale one"


@pytest.mark.parametrize("how", HOW)
def test_stale_goes_along_with_copies_renames_and_payloads(server, how):
    server("CACHE.SET", "n:k", "v", "EX", 100, "TAGS", "a")
    server("CACHE.INVALIDATE", "SOFT", *HOW[how])
    server("COPY", "n:k", "copy{n:k}")
    server("RESTORE", "restored{n:k}", 0, server("DUMP", "n:k"))
    server("RENAME", "n:k", "renamed{n:k}")
    keys = ("copy{n:k}", "restored{n:k}", "renamed{n:k}")
    for key in keys:
        assert (server("CACHE.GET", key), server("CACHE.GET", key, "STALE")) == (None, b"v"), key
    server("DEBUG", "RELOAD")
    assert [state(server, key) for key in keys] == [b"stale"] * 3


@several_databases
@pytest.mark.parametrize("how", HOW)
def test_stale_goes_along_to_another_database(server, how):
    server("CACHE.SET", "n:k", "v", "EX", 100, "TAGS", "a")
    server("CACHE.INVALIDATE", "SOFT", *HOW[how])
    server("COPY", "n:k", "copy", "DB", 1)
    server("MOVE", "n:k", 1)
    one = server.connect(db=1)
    assert [state(one, key) for key in ("copy", "n:k")] == [b"stale"] * 2
    server("DEBUG", "RELOAD")
    assert [state(one, key) for key in ("copy", "n:k")] == [b"stale"] * 2


def test_incrby_of_a_stale_one_keeps_it_stale(server):
    """It keeps its times."""
    server("CACHE.SET", "k", 1, "EX", 100, "TAGS", "a")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "a")
    assert server("CACHE.INCRBY", "k", 1) == 2
    assert state(server, "k") == b"stale" and tags_of(server, "k") == [b"a"]
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1 and server("CACHE.META", "k") is None


@pytest.mark.topology("single")
def test_stale_since_the_first_time(fresh_server):
    """MAXSTALE will count from when it became stale; and what that was, a copy or a file must not
    change. Payloads show it."""
    server = fresh_server()
    server("CACHE.SET", "k", "v", "EX", 1000, "TAGS", "a")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "a")
    first = dumped_meta(server("DUMP", "k")).staled
    await_sweep(server)  # it notes that in the entry: a tag remembers its last stamp alone
    wait_for(lambda: now_ms(server) > first, "the clock to go on")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "a")
    assert dumped_meta(server("DUMP", "k")).staled == first


def test_hard_after_soft_and_soft_after_hard(server):
    play(
        server,
        """
        CACHE.SET k v TAGS a                    => OK
        CACHE.INVALIDATE SOFT TAGS a            => 1
        CACHE.INVALIDATE TAGS a                 => 1
        CACHE.GET k STALE                       => nil
        CACHE.SET j v TAGS a                    => OK
        CACHE.INVALIDATE TAGS a                 => 1
        CACHE.INVALIDATE SOFT TAGS a            => 0
        CACHE.GET j STALE                       => nil
        """,
    )


# --- names that change -----------------------------------------------------------------------------
@pytest.mark.parametrize("mode", [(), ("SOFT",)])
def test_rename_into_a_namespace_invalidated_earlier_does_not_kill(server, mode):
    server("CACHE.SET", "x:k{t}", "v", "EX", 100)
    server("CACHE.INVALIDATE", *mode, "NAMESPACE", "n")
    server("COPY", "x:k{t}", "n:copy{t}")
    server("RENAME", "x:k{t}", "n:k{t}")
    assert server("CACHE.MGET", "n:k{t}", "n:copy{t}") == [b"v", b"v"]
    server("DEBUG", "RELOAD")
    assert server("CACHE.MGET", "n:k{t}", "n:copy{t}") == [b"v", b"v"]
    assert server("CACHE.INVALIDATE", *mode, "NAMESPACE", "x") == 0
    assert server("CACHE.INVALIDATE", *mode, "NAMESPACE", "n") == 2
    assert server("CACHE.MGET", "n:k{t}", "n:copy{t}") == [None, None]


def test_rename_out_of_a_namespace_does_not_revive(held):
    play(
        held,
        """
        CACHE.SET n:k v EX 100                  => OK
        CACHE.SET n:soft v EX 100               => OK
        CACHE.SET m:k v EX 100                  => OK
        CACHE.INVALIDATE SOFT NAMESPACE n       => 2
        RENAME n:soft x:soft                    => OK
        CACHE.GET x:soft                        => nil
        CACHE.INVALIDATE NAMESPACE n            => 1
        RENAME n:k x:k                          => OK
        CACHE.GET x:k STALE                     => nil
        CACHE.GET x:soft STALE                  => "v"
        RENAME x:k n:k                          => OK
        CACHE.GET n:k STALE                     => nil
        RENAME m:k n:k                          => OK
        CACHE.GET n:k                           => "v"
        """,
    )


def test_another_delimiter(fresh_server):
    server = fresh_server(module_args=("namespace-delimiter", "/"))
    server("CACHE.SET", "n/k", "v")
    server("CACHE.SET", "n:k", "v")
    assert server("CACHE.INVALIDATE", "NAMESPACE", "n") == 1
    assert server("CACHE.MGET", "n/k", "n:k") == [None, b"v"]


# --- RESTORE of what was dumped before -------------------------------------------------------------
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mode", [(), ("SOFT",)])
def test_a_payload_from_before_is_hit_as_long_as_it_is_remembered(server, how, mode):
    server("CACHE.SET", "n:k", "v", "EX", 100, "TAGS", "a")
    payload = server("DUMP", "n:k")
    server("CACHE.INVALIDATE", *mode, *HOW[how])
    server("DEL", "n:k")
    await_sweep(server)
    server("RESTORE", "n:k", 0, payload)
    # Of a namespace in the key's name alone: elsewhere that has nothing to say.
    server("RESTORE", "x:k", 0, payload)
    seen = server("CACHE.GET", "n:k"), server("CACHE.GET", "n:k", "STALE")
    assert seen == (None, b"v" if mode else None)
    assert server("CACHE.GET", "x:k") == (b"v" if how == "namespace" else None)
    server("CACHE.SET", "n:k", "w", "TAGS", "a")
    after = server("DUMP", "n:k")
    server("RESTORE", "n:k", 0, after, "REPLACE")
    assert server("CACHE.GET", "n:k") == b"w"


def test_a_forgotten_invalidation_hits_no_payload(fresh_server):
    """After cacheflow.tombstone-ttl older payloads are the caller's affair."""
    server = fresh_server(module_args=(*DEBUG, "tombstone-ttl", "60000"))
    server("CACHE.SET", "k", "v", "TAGS", "a")
    payload = server("DUMP", "k")
    server("CACHE.INVALIDATE", "TAGS", "a")
    await_sweep(server)
    server("CACHE.DEBUG", "CLOCK", 50_000)
    assert figure(server, "tombstones") == 1
    server("RESTORE", "k", 0, payload)
    assert server("CACHE.GET", "k") is None
    await_sweep(server)
    server("CACHE.DEBUG", "CLOCK", 70_000)
    wait_for(lambda: figure(server, "tombstones") == 0, "the tombstone to be forgotten")
    server("RESTORE", "k", 0, payload)
    assert server("CACHE.GET", "k") == b"v"
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1 and server("CACHE.GET", "k") is None


def test_a_payload_that_says_dead_is_dead(server):
    server("CACHE.SET", "k", "v")
    version = rdb_version(server("DUMP", "k"))
    payload = seal(body(encode(Meta(born=1, dead=True, tags=(b"a",))), b"v"), version)
    server("MULTI")
    server("RESTORE", "dead", 0, payload)
    server("CACHE.GET", "dead", "STALE")
    server("CACHE.META", "dead")
    server("CACHE.TOUCH", "dead")
    assert server("EXEC") == [b"OK", None, None, 0]
    wait_for(lambda: server("EXISTS", "dead") == 0, "the dead one to be swept")


# --- in one go with others -------------------------------------------------------------------------
def test_in_a_transaction(server):
    connection = server.connect()
    connection("MULTI")
    for line in (
        "CACHE.SET k v TAGS a",
        "CACHE.INVALIDATE TAGS a",
        "CACHE.GET k STALE",
        "CACHE.SET k w TAGS a",
        "CACHE.GET k",
        "CACHE.INVALIDATE SOFT TAGS a",
        "CACHE.GET k",
        "CACHE.TOUCH k",
        "CACHE.GET k",
    ):
        connection(*line.split())
    assert connection("EXEC") == [b"OK", 1, None, b"OK", b"w", 1, None, 1, b"w"]


def test_in_a_script(server):
    server("CACHE.SET", "k", "v", "TAGS", "a")
    script = """
        local before = redis.call('CACHE.GET', KEYS[1])
        local hit = redis.call('CACHE.INVALIDATE', 'TIMEOUT', '10', 'TAGS', 'a', 'b')
        local after = redis.call('CACHE.GET', KEYS[1])
        return {before, hit, after}
    """
    assert server("EVAL", script, 1, "k") == [b"v", 1, None]
    assert server("CACHE.GET", "k") is None


def test_it_works_where_memory_is_out(server):
    server("CACHE.SET", "k", "v", "TAGS", "a", "b")
    server.config("maxmemory", 1)
    assert server.error("CACHE.TAG", "k", "c").startswith("OOM")
    assert server("CACHE.UNTAG", "k", "b") == 1
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1 and server("CACHE.GET", "k") is None


@pytest.mark.topology("replica")
def test_a_replica_shows_it_and_takes_none(topology):
    primary, replica = topology.primary, topology.replica
    for key in ("n:k", "n:soft"):
        primary("CACHE.SET", key, "v", "EX", 100, "TAGS", key)
    replica.wait_replica_of(primary)
    assert replica.error("CACHE.INVALIDATE", "TAGS", "n:k").startswith("READONLY")
    for command in (("CACHE.TAG", "n:k", "a"), ("CACHE.UNTAG", "n:k", "a")):
        assert replica.error(*command).startswith("READONLY")
    assert replica("CACHE.KEYS", "n:k", 0) == [b"0", [b"n:k"]]
    primary("CACHE.INVALIDATE", "TAGS", "n:k")
    primary("CACHE.INVALIDATE", "SOFT", "TAGS", "n:soft")
    replica.wait_replica_of(primary)
    assert replica("CACHE.MGET", "n:k", "n:soft") == [None, None]
    assert replica("CACHE.GET", "n:soft", "STALE") == b"v" and replica("CACHE.GET", "n:k", "STALE") is None


def test_who_may_not_publish_may_not_invalidate(server):
    """Tags are no keys: the channel's permission decides, for all names or none."""
    for key in ("a", "b"):
        server("CACHE.SET", f"{key}:k{{t}}", "v", "TAGS", key)
    server("ACL", "SETUSER", "tester", "reset", "on", "nopass", "+@all", "&cache:a", "&cache:@b")
    connection = server.connect()
    connection("AUTH", "tester", "any")
    for request in (("TAGS", "b"), ("TAGS", "a", "b"), ("SOFT", "TAGS", "b"), ("NAMESPACE", "a")):
        with pytest.raises(ReplyError, match="^NOPERM"):
            connection("CACHE.INVALIDATE", *request)
    assert server("CACHE.MGET", "a:k{t}", "b:k{t}") == [b"v", b"v"]
    assert connection("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert connection("CACHE.INVALIDATE", "NAMESPACE", "b") == 1
    assert server("CACHE.MGET", "a:k{t}", "b:k{t}") == [None, None]
