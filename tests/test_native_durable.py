"""Native keys' tags through files and restarts: what was tagged is, what was invalidated does not come back,
and neither half of a pair is there without the other."""

import pytest

from harness.native import UNCOPIED, assert_nothing, await_nothing, companions, kinds, make, tagged
from harness.server import wait_for
from harness.tagged import all_tags, await_sweep, keys_of, tags_of
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

RDB = ()
AOF = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
TEXT = (*AOF, "--aof-use-rdb-preamble", "no")


def saved(server):
    """An RDB file, and a restart from it."""
    server("SAVE")
    server.restart()


def reloaded(server):
    """In place, all of it."""
    server.reload()


def restarted(server):
    """From the AOF as it was written."""
    server.restart()


def crashed(server):
    """kill -9, and a restart from the AOF."""
    server.kill9()
    server.restart()


def rewritten(server):
    """From a rewritten AOF."""
    server.bgrewriteaof()
    server.restart()


WAYS = {
    "rdb": (RDB, saved),
    "reload": (RDB, reloaded),
    "aof": (AOF, restarted),
    "kill -9": (AOF, crashed),
    "rewrite": (AOF, rewritten),
    "rewrite without preamble": (TEXT, rewritten),
    "aof without preamble": (TEXT, restarted),
}


@pytest.fixture(name="again", params=WAYS)
def fixture_again(request, fresh_server):
    """A server, and a way to lose its memory and have it back."""
    args, way = WAYS[request.param]
    server = fresh_server(args)
    return server, lambda: way(server)


def write(server):
    """Native keys of every type with tags, changed, renamed, invalidated and ended since; what must be."""
    listed = kinds(server)
    for kind in listed:
        for name in ("kept", "over", "gone", "dead", "from", "copied", "expiring"):
            tagged(server, kind, f"{kind} {name}", "all", kind)
        server("CACHE.TAG", f"{kind} dead", f"dead {kind}")
        server("CACHE.INVALIDATE", "TAGS", f"dead {kind}")
        server("DEL", f"{kind} gone")
        server("SET", f"{kind} over", "new")
        server("RENAME", f"{kind} from", f"{kind} to")
        if kind in UNCOPIED:
            tagged(server, kind, f"{kind} copy", "all", kind)
        else:
            server("COPY", f"{kind} copied", f"{kind} copy")
        server("PEXPIRE", f"{kind} expiring", 1)
        server("CACHE.UNTAG", f"{kind} kept", "all")
        server("CACHE.TAG", f"{kind} kept", b"\x00\r\n\xff", "")
        tagged(server, kind, f"{kind} with a TTL", "all")
        server("EXPIRE", f"{kind} with a TTL", 1000)
        make(server, kind, f"{kind} plain")
    wait_for(lambda: not any(server("EXISTS", f"{kind} expiring") for kind in listed), "the end of 1 ms")
    expected = {}
    for kind in map(str.encode, listed):
        expected |= {kind + b" " + name: [b"all", kind] for name in (b"over", b"to", b"copied", b"copy")}
        expected[kind + b" kept"] = sorted([b"\x00\r\n\xff", b"", kind])
        expected[kind + b" with a TTL"] = [b"all"]
        expected[kind + b" plain"] = []
    return {name: sorted(tags) for name, tags in expected.items()}


def assert_as(server, expected):
    """The keys are there with these tags, each with a companion where it has any, and no other key is."""
    await_sweep(server)
    tags = {}
    for name, own in expected.items():
        assert tags_of(server, name) == own, name
        for tag in own:
            tags[tag] = tags.get(tag, 0) + 1
    assert all_tags(server) == tags
    pairs = sum(map(bool, expected.values()))
    assert len(companions(server)) == pairs and server("DBSIZE") == len(expected) + pairs
    assert_verified(server)


def test_tags_are_as_they_were(again):
    server, lose = again
    expected = write(server)
    assert_as(server, expected)
    for _ in range(2):
        lose()
        assert_as(server, expected)
    reached = [name for name, tags in expected.items() if b"all" in tags]
    assert server("CACHE.INVALIDATE", "TAGS", "all") == len(reached)
    expected = {name: tags for name, tags in expected.items() if name not in reached}
    assert_as(server, expected)
    lose()
    assert_as(server, expected)
    # Life goes on as it would have.
    for name, tags in expected.items():
        if tags:
            assert server("DEL", name) == 1
    assert all_tags(server) == {} and companions(server) == []


def test_a_key_that_expires_while_the_server_is_down(fresh_server):
    """It is not loaded, and nobody is told; its companion, which has no end of its own, goes too."""
    server = fresh_server()
    server("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    for kind in kinds(server):
        tagged(server, kind, kind, "a", kind)
        server("PEXPIRE", kind, 1)
    tagged(server, "hash", "stays", "a")
    for how in (saved, reloaded):
        how(server)
        assert server("EXISTS", *kinds(server)) == 0
        wait_for(lambda: len(companions(server)) == 1, "companions of no key to go")
        assert tags_of(server, "stays") == [b"a"] and all_tags(server) == {b"a": 1}
        assert_verified(server)
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    await_nothing(server)


def test_what_was_invalidated_between_a_save_and_a_crash(fresh_server):
    """An old RDB file is an old state: whole, with its tags."""
    server = fresh_server()
    tagged(server, "hash", "k", "a")
    server("SAVE")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server.kill9()
    server.restart()
    assert tags_of(server, "k") == [b"a"]
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert_nothing(server)


def test_a_rewrite_while_keys_come_and_go(fresh_server):
    """What is written meanwhile stands behind what the child wrote."""
    server = fresh_server(TEXT)
    connection, count = server.connect(), 3000
    names = [f"k{n}" for n in range(count)]
    connection.pipeline([("HSET", name, "f", "v" * 100) for name in names])
    connection.pipeline([("CACHE.TAG", name, "all", f"t{n % 10}") for n, name in enumerate(names)])
    server("BGREWRITEAOF")
    connection.pipeline([("DEL", name) for name in names[::3]])
    connection.pipeline([("CACHE.TAG", name, "late") for name in names[1::3]])
    server("CACHE.INVALIDATE", "TAGS", "t1", "t2")
    state = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
    wait_for(lambda: all(server.info("persistence")[name] == "0" for name in state), "the rewrite")
    left = {name.encode() for n, name in enumerate(names) if n % 3 and n % 10 not in (1, 2)}
    late = {name.encode() for name in names[1::3]} & left
    for _ in range(2):
        assert set(keys_of(server, "all", "COUNT", 10_000)) == left
        assert set(keys_of(server, "late", "COUNT", 10_000)) == late
        await_sweep(server)
        assert server("DBSIZE") == 2 * len(left)
        assert_verified(server)
        server.restart()


def test_many_load_whole(fresh_server):
    """Companions and keys come in whatever order a file has them; all are pairs again."""
    server = fresh_server()
    connection, count = server.connect(), 5000
    connection.pipeline([("HSET", f"k{n}", "f", n) for n in range(count)])
    connection.pipeline([("CACHE.TAG", f"k{n}", "all", f"t{n % 100}") for n in range(count)])
    for how in (saved, reloaded):
        how(server)
        assert_verified(server)
        assert all_tags(server, "COUNT", 1000)[b"all"] == count and server("DBSIZE") == 2 * count
    assert server("CACHE.INVALIDATE", "TAGS", "t1", "t2") == count // 50
    await_sweep(server)
    assert server("CACHE.INVALIDATE", "TAGS", "all") == count - count // 50
    assert_nothing(server)
