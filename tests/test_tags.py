"""What tags an entry has, through every command that gives, keeps or takes them, and who lists them."""

import pytest

from harness.resp import ReplyError
from harness.sample import meta, state
from harness.tagged import DEBUG, all_tags, await_sweep, hold, keys_of, let_go, tags_of
from harness.topologies import several_databases
from harness.topology import assert_verified
from harness.transcript import play

BINARY = b"\x00\r\n\xff*[ "


# --- SET … TAGS ------------------------------------------------------------------------------------
def test_set_gives_the_tags_named_and_no_others(server):
    play(
        server,
        r"""
        CACHE.SET k v TAGS a b              => OK
        CACHE.KEYS a 0                      => ["0", ["k"]]
        CACHE.KEYS b 0                      => ["0", ["k"]]
        CACHE.SET k w EX 60 tags c          => OK
        CACHE.GET k                         => "w"
        CACHE.KEYS a 0                      => ["0", []]
        CACHE.KEYS c 0                      => ["0", ["k"]]
        CACHE.SET k x EX 60                 => OK
        CACHE.KEYS c 0                      => ["0", []]
        CACHE.TAGS 0 COUNT 10000                        => ["0", []]
        """,
    )
    assert tags_of(server, "k") == []


@pytest.mark.parametrize("options", [("KEEPTTL",), ("XX",), ("PERSIST",), ("GRACE", 5), ("COST", 9)])
def test_set_without_tags_drops_them_whatever_else_it_keeps(server, options):
    server("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a")
    assert server("CACHE.SET", "k", "w", *options) == b"OK"
    assert tags_of(server, "k") == [] and all_tags(server) == {}


def test_tags_takes_the_rest_of_the_line(server):
    play(
        server,
        """
        CACHE.SET k v TAGS a EX 60 NX TAGS  => OK
        TTL k                               => -1
        CACHE.SET k v TAGS                  => !ERR syntax error
        CACHE.SET k v EX 60 TAGS            => !ERR syntax error
        CACHE.SET k v TAGS EX               => OK
        TTL k                               => -1
        CACHE.KEYS EX 0                     => ["0", ["k"]]
        CACHE.KEYS ex 0                     => ["0", []]
        """,
    )
    server("CACHE.SET", "k", "v", "TAGS", "a", "EX", 60, "NX", "TAGS")
    assert tags_of(server, "k") == [b"60", b"EX", b"NX", b"TAGS", b"a"]


def test_a_set_that_does_not_hold_changes_no_tags(server):
    play(
        server,
        """
        CACHE.SET k v TAGS a                => OK
        CACHE.SET k w NX TAGS b             => nil
        CACHE.SET none w XX TAGS b          => nil
        CACHE.SET k w EX 0 TAGS b           => !ERR invalid expire time in 'cache.set' command
        CACHE.KEYS a 0                      => ["0", ["k"]]
        CACHE.TAGS 0 COUNT 10000                        => ["0", ["a", 1]]
        CACHE.GET k                         => "v"
        """,
    )


def test_repeated_tags_count_once(server):
    play(
        server,
        """
        CACHE.SET k v TAGS a b a a b        => OK
        CACHE.TAGS 0 COUNT 10000 MATCH a                => ["0", ["a", 1]]
        CACHE.TAG k c c a c                 => 1
        CACHE.UNTAG k b b none              => 1
        CACHE.INVALIDATE TAGS a a c         => 2
        """,
    )


def test_the_empty_tag_is_a_tag(server):
    play(
        server,
        """
        CACHE.SET k v TAGS ""               => OK
        CACHE.KEYS "" 0                     => ["0", ["k"]]
        CACHE.TAGS 0 COUNT 10000                        => ["0", ["", 1]]
        CACHE.TAG k "" a                    => 1
        CACHE.UNTAG k a                     => 1
        CACHE.INVALIDATE TAGS ""            => 1
        CACHE.GET k                         => nil
        """,
    )


def test_tags_are_bytes(server):
    names = [BINARY, bytes(range(256)), b"caf\xc3\xa9", b"%s%n", b"{a}", b"a b"]
    server("CACHE.SET", BINARY, "v", "TAGS", *names)
    assert tags_of(server, BINARY) == sorted(names)
    assert all_tags(server) == dict.fromkeys(names, 1)
    for name in names:
        assert keys_of(server, name) == [BINARY]
    assert server("CACHE.UNTAG", BINARY, BINARY) == 1
    assert server("CACHE.INVALIDATE", "TAGS", BINARY, names[1]) == 1
    assert server("CACHE.GET", BINARY) is None


# --- TAG and UNTAG ---------------------------------------------------------------------------------
def test_tag_and_untag(server):
    play(
        server,
        """
        CACHE.TAG none a                    => nil
        CACHE.UNTAG none a                  => nil
        EXISTS none                         => 0
        CACHE.SET k v EX 60                 => OK
        CACHE.TAG k a b                     => 2
        CACHE.TAG k b c                     => 1
        CACHE.TAG k a b c                   => 0
        CACHE.UNTAG k a c x                 => 2
        CACHE.UNTAG k a c x                 => 0
        CACHE.KEYS b 0                      => ["0", ["k"]]
        CACHE.TAGS 0 COUNT 10000                        => ["0", ["b", 1]]
        CACHE.GET k                         => "v"
        TTL k                               => 59..60
        CACHE.TAG k                         => !ERR wrong number of arguments
        CACHE.UNTAG k                       => !ERR wrong number of arguments
        """,
    )


def test_tag_and_untag_change_nothing_else(server):
    server("CACHE.SET", "k", "v", "EX", 100, "GRACE", 100, "COST", 7)
    server("CACHE.SET", "stale", "v", "EX", 100, "GRACE", 100)
    server("CACHE.STALE", "stale")
    server("CACHE.GET", "k")
    was, ends = meta(server, "k"), server("PEXPIRETIME", "k")
    assert server("CACHE.TAG", "k", "a", "b") == 2 and server("CACHE.UNTAG", "k", "a") == 1
    now = meta(server, "k")
    for name in ("state", "type", "bytes", "cost-ms", "hits", "namespace"):
        assert now[name] == was[name], name
    assert server("PEXPIRETIME", "k") == ends and now["fresh-ms"] <= was["fresh-ms"]
    assert now["age-ms"] >= was["age-ms"], "it was not written anew"
    server("CACHE.TAG", "stale", "a")
    assert state(server, "stale") == b"stale" and server("CACHE.GET", "stale") is None
    server("CACHE.UNTAG", "stale", "a")
    assert state(server, "stale") == b"stale"


def test_a_tag_binds_from_then_on(server):
    play(
        server,
        """
        CACHE.SET k v TAGS own              => OK
        CACHE.INVALIDATE TAGS late          => 0
        CACHE.TAG k late                    => 1
        CACHE.GET k                         => "v"
        CACHE.INVALIDATE SOFT TAGS later    => 0
        CACHE.TAG k later                   => 1
        CACHE.GET k                         => "v"
        CACHE.INVALIDATE SOFT TAGS later    => 1
        CACHE.GET k                         => nil
        CACHE.GET k STALE                   => "v"
        CACHE.INVALIDATE TAGS late          => 1
        CACHE.GET k STALE                   => nil
        """,
    )


def test_untag_releases_from_then_on(server):
    play(
        server,
        """
        CACHE.SET k v TAGS a b              => OK
        CACHE.UNTAG k a                     => 1
        CACHE.INVALIDATE TAGS a             => 0
        CACHE.GET k                         => "v"
        CACHE.INVALIDATE SOFT TAGS b        => 1
        CACHE.UNTAG k b                     => 1
        CACHE.GET k                         => nil
        CACHE.GET k STALE                   => "v"
        CACHE.TAG k b                       => 1
        CACHE.GET k                         => nil
        """,
    )


@pytest.mark.topology("single")
def test_what_is_dead_has_no_tags(fresh_server):
    server = fresh_server(module_args=DEBUG)
    hold(server)
    play(
        server,
        """
        CACHE.SET k v TAGS a b              => OK
        CACHE.SET other v TAGS b            => OK
        CACHE.INVALIDATE TAGS a             => 1
        CACHE.TAG k c                       => nil
        CACHE.UNTAG k b                     => nil
        CACHE.META k                        => nil
        CACHE.KEYS a 0                      => ["0", []]
        CACHE.KEYS b 0                      => ["0", ["other"]]
        CACHE.GET k                         => nil
        """,
    )
    let_go(server)
    assert all_tags(server) == {b"b": 1} and server("EXISTS", "k") == 0


def test_what_changes_no_tag_is_no_write(server):
    """Nobody is told of it: WATCH holds."""
    server("CACHE.SET", "k", "v", "TAGS", "a")
    watcher = server.connect()
    watcher("WATCH", "k")
    assert server("CACHE.TAG", "k", "a") == 0 and server("CACHE.UNTAG", "k", "b") == 0
    watcher("MULTI")
    watcher("PING")
    assert watcher("EXEC") == [b"PONG"]
    watcher("WATCH", "k")
    assert server("CACHE.TAG", "k", "b") == 1
    watcher("MULTI")
    watcher("PING")
    assert watcher("EXEC") is None


# --- limits ----------------------------------------------------------------------------------------
def test_no_more_tags_than_allowed(server):
    allowed = [f"t{n}" for n in range(256)]
    assert server("CACHE.SET", "k", "v", "TAGS", *allowed, *allowed) == b"OK"
    assert len(tags_of(server, "k")) == 256
    assert server.error("CACHE.SET", "k", "w", "TAGS", *allowed, "x").startswith("TOOMANYTAGS")
    assert server.error("CACHE.SET", "new", "w", "TAGS", *allowed, "x").startswith("TOOMANYTAGS")
    assert server.error("CACHE.TAG", "k", "x").startswith("TOOMANYTAGS")
    assert server("CACHE.GET", "k") == b"v" and server("EXISTS", "new") == 0
    assert server("CACHE.TAG", "k", "t7") == 0
    assert server("CACHE.UNTAG", "k", "t7") == 1 and server("CACHE.TAG", "k", "x") == 1
    assert_verified(server)


def test_a_lowered_limit_takes_nothing_away(server):
    server("CACHE.SET", "k", "v", "TAGS", "a", "b", "c")
    server.config("cacheflow.max-tags-per-entry", 2)
    assert server.error("CACHE.TAG", "k", "d").startswith("TOOMANYTAGS")
    assert server.error("CACHE.SET", "k", "v", "TAGS", "a", "b", "c").startswith("TOOMANYTAGS")
    assert tags_of(server, "k") == [b"a", b"b", b"c"]
    assert server("CACHE.TOUCH", "k", "EX", 60) == 1 and server("CACHE.TAG", "k", "a") == 0
    assert server("CACHE.UNTAG", "k", "a", "b") == 2 and server("CACHE.TAG", "k", "d") == 1
    server.config("cacheflow.max-tags-per-entry", 0)
    assert server("CACHE.SET", "plain", "v") == b"OK"
    assert server.error("CACHE.SET", "k", "v", "TAGS", "a").startswith("TOOMANYTAGS")


def test_no_longer_tags_than_allowed(server):
    longest = "t" * 1024
    assert server("CACHE.SET", "k", "v", "TAGS", longest) == b"OK"
    for command in (("CACHE.SET", "k", "w", "TAGS", "a", longest + "t"), ("CACHE.TAG", "k", longest + "t")):
        error = server.error(*command)
        assert "cacheflow.max-tag-length" in error and "ttt" not in error, error
    assert server("CACHE.GET", "k") == b"v" and tags_of(server, "k") == [longest.encode()]
    server.config("cacheflow.max-tag-length", 3)
    assert "cacheflow.max-tag-length" in server.error("CACHE.TAG", "k", "four")
    assert server("CACHE.TAG", "k", "thr") == 1
    # What is there is there, and can be invalidated.
    assert server("CACHE.UNTAG", "k", "thr", "x" * 5000) == 1
    assert server("CACHE.INVALIDATE", "TAGS", longest) == 1
    assert server("CACHE.GET", "k") is None


# --- what keeps them -------------------------------------------------------------------------------
KEEP = [
    ("CACHE.TOUCH k", "k"),
    ("CACHE.TOUCH k EX 9 GRACE 9", "k"),
    ("CACHE.INCRBY k 1", "k"),
    ("CACHE.STALE k", "k"),
    ("EXPIRE k 1000", "k"),
    ("PERSIST k", "k"),
    ("RENAME k other{k}", "other{k}"),
    ("RENAME k space:other{k}", "space:other{k}"),
    ("COPY k other{k}", "other{k}"),
    ("COPY k over{k} REPLACE", "over{k}"),
    ("RENAME k over{k}", "over{k}"),
    ("DEBUG RELOAD", "k"),
]


@pytest.mark.parametrize("command,key", KEEP)
def test_what_keeps_tags(server, command, key):
    server("CACHE.SET", "k", 1, "EX", 100, "GRACE", 100, "TAGS", "a", "b")
    server("CACHE.SET", "over{k}", "v", "TAGS", "c")
    server(*command.split())
    assert tags_of(server, key) == [b"a", b"b"]
    assert key in [name.decode() for name in keys_of(server, "a")]
    assert server("CACHE.INVALIDATE", "TAGS", "b") >= 1
    assert server("CACHE.META", key) is None


@pytest.mark.parametrize(
    "command", ["DEL k", "UNLINK k", "CACHE.DEL k", "PEXPIRE k -1", "SET k native", "FLUSHDB"]
)
def test_what_takes_them_away(server, command):
    server("CACHE.SET", "k", "v", "TAGS", "a", "b")
    server("CACHE.SET", "k2" if command != "FLUSHDB" else "k", "v", "TAGS", "b")
    server(*command.split())
    assert all_tags(server) == ({b"b": 1} if command != "FLUSHDB" else {})
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 0


def test_a_payload_brings_them(server):
    server("CACHE.SET", "k", "v", "EX", 100, "TAGS", "a", BINARY, "")
    payload = server("DUMP", "k")
    assert server("RESTORE", "other{k}", 0, payload) == b"OK"
    server("CACHE.SET", "third{k}", "w", "TAGS", "x")
    assert server("RESTORE", "third{k}", 0, payload, "REPLACE") == b"OK"
    assert tags_of(server, "other{k}") == tags_of(server, "third{k}") == sorted([b"a", BINARY, b""])
    assert keys_of(server, "a") == [b"k", b"other{k}", b"third{k}"]
    assert server("CACHE.INVALIDATE", "TAGS", BINARY) == 3
    assert server("CACHE.MGET", "k", "other{k}", "third{k}") == [None] * 3


# --- databases -------------------------------------------------------------------------------------
@several_databases
def test_tags_belong_to_a_database(server):
    zero, one = server.connect(), server.connect(db=1)
    zero("CACHE.SET", "k", "zero", "TAGS", "a")
    one("CACHE.SET", "k", "one", "TAGS", "a", "b")
    assert all_tags(zero) == {b"a": 1} and all_tags(one) == {b"a": 1, b"b": 1}
    assert zero("CACHE.INVALIDATE", "TAGS", "a", "b") == 1
    assert zero("CACHE.GET", "k") is None and one("CACHE.GET", "k") == b"one"
    await_sweep(server)  # what died through another tag may count until then
    assert zero("CACHE.INVALIDATE", "NAMESPACE", "") == 0
    assert one("CACHE.GET", "k") == b"one"


@several_databases
def test_swapdb_exchanges_them(server):
    zero, one = server.connect(), server.connect(db=1)
    zero("CACHE.SET", "k", "zero", "TAGS", "a")
    one("CACHE.SET", "j", "one", "TAGS", "a", "b")
    zero("SWAPDB", 0, 1)
    assert keys_of(zero, "a") == [b"j"] and keys_of(one, "a") == [b"k"]
    assert zero("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert zero("CACHE.GET", "j") is None and one("CACHE.GET", "k") == b"zero"
    zero("SWAPDB", 1, 2)
    assert server.connect(db=2)("CACHE.INVALIDATE", "TAGS", "a") == 1


@several_databases
@pytest.mark.parametrize("how", ["MOVE", "COPY"])
def test_they_go_along_to_another_database(server, how):
    zero, two = server.connect(), server.connect(db=2)
    zero("CACHE.SET", "k", "v", "EX", 100, "TAGS", "a", "b")
    assert (zero("MOVE", "k", 2) if how == "MOVE" else zero("COPY", "k", "k", "DB", 2)) == 1
    assert all_tags(two) == {b"a": 1, b"b": 1}
    assert all_tags(zero) == ({} if how == "MOVE" else {b"a": 1, b"b": 1})
    assert zero("CACHE.INVALIDATE", "TAGS", "a") == (0 if how == "MOVE" else 1)
    assert two("CACHE.GET", "k") == b"v" and tags_of(two, "k") == [b"a", b"b"]
    assert two("CACHE.INVALIDATE", "TAGS", "b") == 1
    assert two("CACHE.GET", "k") is None


@several_databases
@pytest.mark.parametrize("how", ["MOVE", "COPY"])
@pytest.mark.parametrize("what", [("TAGS", "a"), ("NAMESPACE", "n")])
def test_an_earlier_invalidation_there_does_not_touch_what_comes(server, how, what):
    """It was valid just now; what comes later does."""
    zero, two = server.connect(), server.connect(db=2)
    zero("CACHE.SET", "n:k", "v", "EX", 100, "TAGS", "a")
    assert two("CACHE.INVALIDATE", *what) == 0
    assert (zero("MOVE", "n:k", 2) if how == "MOVE" else zero("COPY", "n:k", "n:k", "DB", 2)) == 1
    assert two("CACHE.GET", "n:k") == b"v"
    assert two("CACHE.INVALIDATE", *what) == 1
    assert two("CACHE.GET", "n:k") is None


# --- CACHE.TAGS and CACHE.KEYS ---------------------------------------------------------------------
def test_listing_in_pages(server):
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"k{n}", "v", "TAGS", f"t{n}", "all") for n in range(1000)])
    expected = {f"t{n}".encode(): 1 for n in range(1000)} | {b"all": 1000}
    keys = sorted(f"k{n}".encode() for n in range(1000))
    for count in (1, 7, 100, 1000, 10**15):
        assert all_tags(connection, "COUNT", count) == expected
        assert keys_of(connection, "all", "COUNT", count) == keys
    assert all_tags(connection) == expected and keys_of(connection, "all") == keys
    cursor, page = connection("CACHE.TAGS", 0, "COUNT", 10)
    assert cursor != b"0" and len(page) <= 20
    cursor, page = connection("CACHE.KEYS", "all", 0, "COUNT", 10)
    assert cursor != b"0" and len(page) <= 10


def test_tags_match_a_pattern(server):
    server("CACHE.SET", "k", "v", "TAGS", "user:1", "user:2", "team:1", "", BINARY)
    for pattern, found in (
        ("user:*", {b"user:1", b"user:2"}),
        ("*:1", {b"user:1", b"team:1"}),
        ("", {b""}),
        ("user:?", {b"user:1", b"user:2"}),
        ("[tu]*:1", {b"user:1", b"team:1"}),
        (b"\x00*", {BINARY}),
        ("none", set()),
        ("*" * 5000 + "x", set()),
    ):
        assert set(all_tags(server, "match", pattern)) == found, pattern
        assert set(all_tags(server, "COUNT", 1, "MATCH", pattern)) == found, pattern


def test_what_is_there_throughout_is_listed(server):
    """Tags and keys come and go between the pages."""
    connection = server.connect()
    names = [f"k{n}" for n in range(300)]
    connection.pipeline([("CACHE.SET", name, "v", "TAGS", name, "all") for name in names])
    going, staying = names[::2], {name.encode() for name in names[1::2]}
    tags, keys, tag_cursor, key_cursor, step = set(), set(), b"0", b"0", 0
    while True:
        if step == 0 or tag_cursor != b"0":
            tag_cursor, found = connection("CACHE.TAGS", tag_cursor, "COUNT", 9)
            tags.update(found[::2])
        if step == 0 or key_cursor != b"0":
            key_cursor, found = connection("CACHE.KEYS", "all", key_cursor, "COUNT", 9)
            keys.update(found)
        if tag_cursor == key_cursor == b"0":
            break
        for name in going[step * 4 : step * 4 + 4]:
            connection("DEL", name)
        connection("CACHE.SET", f"new{step}", "v", "TAGS", f"new{step}", "all")
        step += 1
        assert step < 1000, "an iteration without end"
    assert tags >= staying | {b"all"} and keys >= staying


# A page is so many steps, as SCAN's is: it may be empty and not the last.
def test_listing_of_nothing_and_with_errors(server):
    play(
        server,
        """
        CACHE.TAGS 0 COUNT 10000                        => ["0", []]
        CACHE.KEYS none 0                   => ["0", []]
        CACHE.TAGS 123456789                => ["0", []]
        CACHE.KEYS none 9223372036854775807 => ["0", []]
        CACHE.TAGS x                        => !ERR invalid cursor
        CACHE.KEYS a x                      => !ERR invalid cursor
        CACHE.TAGS -1                       => !ERR invalid cursor
        CACHE.TAGS                          => !ERR wrong number of arguments
        CACHE.KEYS a                        => !ERR wrong number of arguments
        CACHE.TAGS 0 COUNT                  => !ERR syntax error
        CACHE.TAGS 0 COUNT 0                => !ERR syntax error
        CACHE.TAGS 0 COUNT x                => !ERR value is not an integer
        CACHE.TAGS 0 MATCH                  => !ERR syntax error
        CACHE.TAGS 0 WHAT x                 => !ERR syntax error
        CACHE.KEYS a 0 MATCH x              => !ERR syntax error
        CACHE.KEYS a 0 COUNT -1             => !ERR value is not an integer
        """,
    )


def test_listing_after_an_invalidation(server):
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"k{n}", "v", "TAGS", "a", "b") for n in range(50)])
    # In one go: whatever the sweep has done by then, nothing of it shows.
    connection("MULTI")
    connection("CACHE.INVALIDATE", "TAGS", "a")
    connection("CACHE.KEYS", "a", 0, "COUNT", 1000)
    connection("CACHE.KEYS", "b", 0, "COUNT", 1000)
    connection("CACHE.SET", "new", "v", "TAGS", "a")
    connection("CACHE.KEYS", "a", 0, "COUNT", 1000)
    assert connection("EXEC") == [50, [b"0", []], [b"0", []], b"OK", [b"0", [b"new"]]]
    connection("CACHE.INVALIDATE", "SOFT", "TAGS", "a")
    assert keys_of(connection, "a") == [b"new"], "a stale one carries it still"


def test_resp3_shapes_are_the_same(server):
    server("CACHE.SET", "k", "v", "TAGS", "a")
    three = server.connect(protocol=3)
    listed = ("CACHE.TAGS", 0, "COUNT", 10_000)
    assert three(*listed) == server(*listed) == [b"0", [b"a", 1]]
    assert three("CACHE.KEYS", "a", 0) == [b"0", [b"k"]]
    assert three("CACHE.TAG", "none", "a") is None
    try:
        three("CACHE.TAG", "k")
    except ReplyError as error:
        assert str(error).startswith("ERR wrong number")
