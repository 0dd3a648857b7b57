"""The shortest proof that the module works on an engine: every engine runs these."""

from harness.resp import fields
from harness.sample import meta, state
from harness.server import wait_for
from harness.tagged import all_tags
from harness.transcript import play

COMMANDS = ["GET", "MGET", "SET", "TOUCH", "DEL", "STALE", "INCRBY", "META", "TAG", "UNTAG", "INVALIDATE"]
COMMANDS += ["TAGS", "KEYS", "LOG", "STATS", "VERIFY", "FETCH", "LOCK", "UNLOCK", "EXTEND"]


def test_the_module_is_loaded_with_its_commands(server):
    modules = server.client().module_list()
    assert b"cacheflow" in [module[b"name"] for module in modules]
    names = [f"CACHE.{name}" for name in COMMANDS]
    found = server("COMMAND", "INFO", *names)
    assert [entry and entry[0].decode().upper() for entry in found] == names


def test_info_has_the_sections(server):
    text = server("INFO", "everything")
    for section in (b"stats", b"memory", b"leases", b"sweep"):
        assert b"# cacheflow_" + section in text


def test_a_session(server):
    play(
        server,
        """
        CACHE.SET k v EX 60 GRACE 300 => OK
        CACHE.GET k                   => "v"
        TTL k                         => 359..360
        TYPE k                        => cacheflow
        GET k                         => !WRONGTYPE
        CACHE.STALE k                 => 1
        CACHE.GET k                   => nil
        CACHE.GET k STALE             => "v"
        CACHE.TOUCH k EX 60           => 1
        CACHE.MGET k none{k}          => ["v", nil]
        CACHE.DEL k none{k}           => 1
        CACHE.GET k STALE             => nil
        CACHE.INCRBY n 41             => 41
        CACHE.INCRBY n 1              => 42
        CACHE.META none               => nil
        """,
    )


def test_tags_and_invalidation(server):
    play(
        server,
        r"""
        CACHE.SET user:1{t} Ada EX 60 TAGS users team:7      => OK
        CACHE.SET user:2{t} Eve EX 60 GRACE 60 TAGS users "" => OK
        CACHE.SET page:/{t} html EX 60                       => OK
        CACHE.TAG page:/{t} team:7 users team:7              => 2
        CACHE.UNTAG page:/{t} users other                    => 1
        CACHE.TAG none a                                     => nil
        CACHE.KEYS team:7 0                                  => ["0", ["page:/{t}", "user:1{t}"]]
        CACHE.KEYS "" 0                                      => ["0", ["user:2{t}"]]
        CACHE.INVALIDATE SOFT TAGS users                     => 2
        CACHE.MGET user:1{t} user:2{t} page:/{t}             => [nil, nil, "html"]
        CACHE.GET user:1{t} STALE                            => "Ada"
        CACHE.INVALIDATE TAGS team:7                         => 2
        CACHE.GET user:1{t} STALE                            => nil
        CACHE.GET page:/{t}                                  => nil
        CACHE.GET user:2{t} STALE                            => "Eve"
        CACHE.SET user:1{t} Ada EX 60 TAGS users team:7      => OK
        CACHE.GET user:1{t}                                  => "Ada"
        CACHE.INVALIDATE NAMESPACE user page                 => 2..3
        CACHE.MGET user:1{t} user:2{t}                       => [nil, nil]
        CACHE.INVALIDATE TAGS users                          => 0..2
        """,
    )
    wait_for(lambda: server("DBSIZE") == 0, "the sweep")
    server("CACHE.SET", "k", "v", "TAGS", "team:7", "other")
    assert all_tags(server, "MATCH", "team:*") == {b"team:7": 1}
    logged = [fields(record)["target"] for record in server("CACHE.LOG")]
    assert logged == [b"users", b"@page", b"@user", b"team:7", b"users"]
    assert fields(server("CACHE.STATS"))["invalidations"] == 5


def test_a_lease_is_filled_and_wakes_who_waits(server):
    state, value, token, length = server("CACHE.FETCH", "k", "LEASE", 60_000)
    assert (state, value, length) == (b"MISS", None, 60_000) and 0 < token < 2**53
    assert server("CACHE.FETCH", "k")[:3] == [b"BUSY", None, None]
    waiters = [server.connect() for _ in range(3)]
    for waiter in waiters:
        waiter.send("CACHE.FETCH", "k", "BLOCK", 0)
    wait_for(lambda: meta(server, "k")["waiters"] == 3, "the waiters")
    assert server("CACHE.SET", "k", "v", "LEASE", token + 1) is None
    assert server("CACHE.SET", "k", "v", "LEASE", token, "EX", 60, "GRACE", 60, "TAGS", "t") == b"OK"
    for waiter in waiters:
        state, value, token, left = waiter.read()
        assert (state, value, token) == (b"FRESH", b"v", None) and 0 < left <= 60_000
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "t")
    state, value, token, left = server("CACHE.FETCH", "k")
    assert (state, value) == (b"STALE", b"v") and token and 0 < left <= 120_000
    server("CACHE.INVALIDATE", "TAGS", "t")
    assert server("CACHE.TOUCH", "k", "LEASE", token) == 0, "invalidated since"
    assert server("CACHE.FETCH", "k", "WITHTAGS")[::4] == [b"MISS", []]


def test_a_lock_is_handed_on_and_survives_a_restart(server):
    first = server("CACHE.LOCK", "lock", 600_000)
    assert server("CACHE.LOCK", "lock", 1000) is None
    other = server.connect()
    other.send("CACHE.LOCK", "lock", 600_000, "BLOCK", 0)
    wait_for(lambda: meta(server, "lock")["waiters"] == 1, "the waiter")
    assert server("CACHE.EXTEND", "lock", first, 700_000) == 1
    assert server("CACHE.UNLOCK", "lock", first) == 1 and server("CACHE.UNLOCK", "lock", first) == 0
    second = other.read()
    assert second > first
    server("SAVE")
    server.restart()
    assert server("CACHE.LOCK", "lock", 1000) is None
    assert 0 < meta(server, "lock")["lease-ms"] <= 600_000
    assert server("CACHE.UNLOCK", "lock", second) == 1
    assert server("CACHE.LOCK", "lock", 600_000) > second


def test_fresh_then_stale_then_gone(server):
    server("CACHE.SET", "k", "v", "PX", 500, "PGRACE", 500)
    assert meta(server, "k")["state"] == b"fresh"
    wait_for(lambda: state(server, "k") == b"stale", "the end of freshness")
    assert server("CACHE.GET", "k") is None
    wait_for(lambda: server("EXISTS", "k") == 0, "the end of the grace")
    assert server("CACHE.GET", "k", "STALE") is None


def test_restart(server):
    server("CACHE.SET", "k", "v", "EX", 60, "GRACE", 300, "TAGS", "one", "two")
    server("CACHE.SET", "dead{k}", "v", "EX", 60, "TAGS", "dead")
    server("CACHE.SET", "stale{k}", "v", "EX", 60, "TAGS", "soft")
    payload = server("DUMP", "dead{k}")
    server("CACHE.INVALIDATE", "TAGS", "dead")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "soft")
    expires = server("PEXPIRETIME", "k")
    server("SAVE")
    server.restart()
    assert server("CACHE.GET", "k") == b"v"
    assert server("PEXPIRETIME", "k") == expires
    assert 0 < meta(server, "k")["fresh-ms"] <= 60_000
    assert meta(server, "k")["tags"] == [b"one", b"two"]
    assert server("CACHE.MGET", "dead{k}", "stale{k}") == [None, None]
    assert server("CACHE.GET", "stale{k}", "STALE") == b"v"
    server("RESTORE", "dead{k}", 0, payload, "REPLACE")
    assert server("CACHE.GET", "dead{k}", "STALE") is None, "what was invalidated is remembered"


def test_dump_and_restore(server):
    server("CACHE.SET", "k", b"\x00\r\n\xff", "EX", 60, "GRACE", 300, "TAGS", "one", b"\xff\x00")
    payload = server("DUMP", "k")
    assert server("RESTORE", "copy{k}", 360_000, payload) == b"OK"
    assert server("CACHE.GET", "copy{k}") == b"\x00\r\n\xff"
    assert 0 < meta(server, "copy{k}")["fresh-ms"] <= 60_000
    assert meta(server, "copy{k}")["tags"] == [b"one", b"\xff\x00"]
    assert server("CACHE.INVALIDATE", "TAGS", b"\xff\x00") == 2
    assert server("CACHE.MGET", "k", "copy{k}") == [None, None]
    assert server("RESTORE", "late", 360_000, payload) == b"OK"
    assert server("CACHE.GET", "late", "STALE") is None, "dumped before the invalidation"
