"""The shortest proof that the module works on an engine: every engine runs these."""

from harness.sample import meta, state
from harness.server import wait_for
from harness.transcript import play

COMMANDS = ["GET", "MGET", "SET", "TOUCH", "DEL", "STALE", "INCRBY", "META"]


def test_the_module_is_loaded_with_its_commands(server):
    modules = server.client().module_list()
    assert b"cacheflow" in [module[b"name"] for module in modules]
    names = [f"CACHE.{name}" for name in COMMANDS]
    found = server("COMMAND", "INFO", *names)
    assert [entry and entry[0].decode().upper() for entry in found] == names


def test_info_has_the_sections(server):
    text = server("INFO", "everything")
    for section in (b"stats", b"memory"):
        assert b"# cacheflow_" + section in text


def test_a_session(server):
    play(
        server,
        """
        CACHE.SET k v EX 60 GRACE 300   => OK
        CACHE.GET k                     => "v"
        TTL k                           => 359..360
        TYPE k                          => cacheflow
        GET k                           => !WRONGTYPE
        CACHE.STALE k                   => 1
        CACHE.GET k                     => nil
        CACHE.GET k STALE               => "v"
        CACHE.TOUCH k EX 60             => 1
        CACHE.MGET k none               => ["v", nil]
        CACHE.DEL k none                => 1
        CACHE.GET k STALE               => nil
        CACHE.INCRBY n 41               => 41
        CACHE.INCRBY n 1                => 42
        CACHE.META none                 => nil
        """,
    )


def test_fresh_then_stale_then_gone(server):
    server("CACHE.SET", "k", "v", "PX", 500, "PGRACE", 500)
    assert meta(server, "k")["state"] == b"fresh"
    wait_for(lambda: state(server, "k") == b"stale", "the end of freshness")
    assert server("CACHE.GET", "k") is None
    wait_for(lambda: server("EXISTS", "k") == 0, "the end of the grace")
    assert server("CACHE.GET", "k", "STALE") is None


def test_restart(server):
    server("CACHE.SET", "k", "v", "EX", 60, "GRACE", 300)
    expires = server("PEXPIRETIME", "k")
    server("SAVE")
    server.restart()
    assert server("CACHE.GET", "k") == b"v"
    assert server("PEXPIRETIME", "k") == expires
    assert 0 < meta(server, "k")["fresh-ms"] <= 60_000


def test_dump_and_restore(server):
    server("CACHE.SET", "k", b"\x00\r\n\xff", "EX", 60, "GRACE", 300)
    payload = server("DUMP", "k")
    assert server("RESTORE", "copy", 360_000, payload) == b"OK"
    assert server("CACHE.GET", "copy") == b"\x00\r\n\xff"
    assert 0 < meta(server, "copy")["fresh-ms"] <= 60_000
