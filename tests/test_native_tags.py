"""Tags on native keys: put, shown, taken along, and what goes with whom."""

import pytest

from harness.dataset import scan
from harness.resp import fields
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import all_tags
from harness.topologies import several_databases

TYPES = {
    "string": (("SET", "k", "v"), ("GETDEL", "k")),
    "hash": (("HSET", "k", "f", "v"), ("HDEL", "k", "f")),
    "list": (("RPUSH", "k", "v"), ("LPOP", "k")),
    "set": (("SADD", "k", "v"), ("SPOP", "k")),
    "zset": (("ZADD", "k", 1, "v"), ("ZREM", "k", "v")),
    "stream": (("XADD", "k", "*", "f", "v"), ("UNLINK", "k")),
}


def tags(server, key):
    """A key's tags, sorted; None where the key is not there."""
    found = meta(server, key)
    return None if found is None else sorted(found["tags"])


def companion(server, key):
    """The name of a native key's companion."""
    ours = [name for name in scan(server) if name.startswith(b"~cf{") and name.endswith(b"}" + key)]
    assert len(ours) == 1, ours
    return ours[0]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_tags_until_it_goes(server, kind):
    make, end = TYPES[kind]
    server(*make)
    assert server("CACHE.TAG", "k", "a", "b", "a") == 2
    assert server("CACHE.TAG", "k", "b", "c") == 1
    assert server("CACHE.UNTAG", "k", "c", "x") == 1
    found = meta(server, "k")
    assert (found["type"].decode(), found["state"], sorted(found["tags"])) == (kind, b"fresh", [b"a", b"b"])
    assert server("CACHE.KEYS", "a", 0) == [b"0", [b"k"]]
    assert all_tags(server) == {b"a": 1, b"b": 1}
    assert fields(server("CACHE.STATS"))["entries"] == 0
    server(*end)
    wait_for(lambda: server("DBSIZE") == 0, "the companion to go with its key")
    assert all_tags(server) == {}


def test_an_invalidation_removes_before_it_replies(server):
    keys = ["{s}" + kind for kind in TYPES]
    for kind, (make, _) in TYPES.items():
        server(make[0], "{s}" + kind, *make[2:])
        assert server("CACHE.TAG", "{s}" + kind, "all", kind) == 2
    server("CACHE.SET", "entry", "v", "TAGS", "all")
    server("SET", "untagged", "v")
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", "list", "hash") == 2
    assert server("EXISTS", *keys) == len(TYPES) - 2
    server("RPUSH", "{s}list", "new")
    # Those that died through another tag may count until they are swept.
    assert len(TYPES) - 1 <= server("CACHE.INVALIDATE", "TAGS", "all") <= len(TYPES) + 1
    assert server("EXISTS", *keys) == 1, "the list is another by now, and bears no tag"
    assert server("CACHE.GET", "entry") is None
    server.wait_swept()
    assert sorted(scan(server)) == [b"untagged", b"{s}list"]


def test_the_last_tag_takes_the_companion_along(server):
    server("SET", "k", "v")
    assert server("CACHE.TAG", "k", "a") == 1 and server("DBSIZE") == 2
    assert server("CACHE.UNTAG", "k", "a") == 1 and server("DBSIZE") == 1
    assert server("CACHE.TAG", "none", "a") is None and server("CACHE.UNTAG", "none", "a") is None


def test_overwriting_keeps_and_replacing_does_not(server):
    server("SET", "{s}k", "v")
    server("CACHE.TAG", "{s}k", "a")
    server("SET", "{s}k", "w")
    server("SADD", "{s}set", "x")
    server("SUNIONSTORE", "{s}k", "{s}set")
    assert tags(server, "{s}k") == [b"a"]
    server("COPY", "{s}k", "{s}copy")
    server("RENAME", "{s}k", "{s}renamed")
    assert tags(server, "{s}copy") == tags(server, "{s}renamed") == [b"a"]
    server("SET", "{s}plain", "v")
    server("RENAME", "{s}plain", "{s}renamed")
    assert tags(server, "{s}renamed") == []
    server("CACHE.SET", "{s}copy", "v", "TAGS", "own")
    assert tags(server, "{s}copy") == [b"own"]
    server("DEL", "{s}copy", "{s}renamed", "{s}set")
    assert server("DBSIZE") == 0


def test_expiry_takes_the_companion_along(server):
    server("SET", "k", "v", "PX", 30)
    server("CACHE.TAG", "k", "a")
    wait_for(lambda: server("DBSIZE") == 0, "key and companion to end")


def test_a_companion_takes_its_key_along(server):
    for end in (("DEL",), ("PEXPIRE", 20), ("RENAME",), ("SET", "x")):
        server("HSET", "k", "f", "v")
        server("CACHE.TAG", "k", "a")
        name = companion(server, b"k")
        if end[0] == "RENAME":
            server("RENAME", name, b"{" + name[4:7] + b"}other")
        else:
            server(end[0], name, *end[1:])
        wait_for(lambda: server("EXISTS", "k") == 0, f"the key to go after {end[0]}")
        server("DEL", name, b"{" + name[4:7] + b"}other")


@several_databases
def test_databases(server):
    server("SET", "k", "v")
    server("CACHE.TAG", "k", "a")
    assert server("MOVE", "k", 5) == 1
    five = server.connect(db=5)
    assert five("CACHE.KEYS", "a", 0)[1] == [b"k"] and server("DBSIZE") == 0
    server("SWAPDB", 0, 5)
    assert server("CACHE.KEYS", "a", 0)[1] == [b"k"] and five("CACHE.INVALIDATE", "TAGS", "a") == 0
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    server.wait_swept()
    assert server("DBSIZE") == five("DBSIZE") == 0


@pytest.mark.parametrize("first", ["key", "companion"])
@pytest.mark.parametrize("invalidated", [False, True])
def test_payloads_in_either_order(server, first, invalidated):
    server("HSET", "k", "f", "v")
    server("CACHE.TAG", "k", "a")
    name = companion(server, b"k")
    payloads = [(b"k", server("DUMP", "k")), (name, server("DUMP", name))]
    server("DEL", "k")
    if first == "companion":
        payloads.reverse()
    server("RESTORE", payloads[0][0], 0, payloads[0][1])
    if invalidated:
        server("CACHE.INVALIDATE", "TAGS", "a")
    server("RESTORE", payloads[1][0], 0, payloads[1][1])
    if invalidated:
        wait_for(lambda: server("DBSIZE") == 0, "both to go")
    else:
        assert tags(server, "k") == [b"a"]
        assert server("CACHE.INVALIDATE", "TAGS", "a") == 1 and server("EXISTS", "k") == 0


def test_a_companion_waits_for_its_key_for_a_time(server):
    server.config("cacheflow.tombstone-ttl", 50)
    server("SET", "k", "v")
    server("CACHE.TAG", "k", "a")
    name = companion(server, b"k")
    payload = server("DUMP", name)
    server("DEL", "k")
    server("RESTORE", name, 0, payload)
    wait_for(lambda: server("DBSIZE") == 0, "the companion to wait in vain")


def test_reserved_names(server):
    server("SET", "k", "v")
    server("CACHE.TAG", "k", "a")
    name = companion(server, b"k")
    for request in (("CACHE.SET", name, "v"), ("CACHE.TAG", name, "b"), ("CACHE.INCRBY", name, 1)):
        assert server.error(*request).startswith("ERR names that begin with cacheflow.companion-prefix")
    assert server.error("CACHE.GET", name).startswith("WRONGTYPE")
    assert tags(server, "k") == [b"a"]
    server("DEL", "k")


def test_reload(server):
    for number in range(50):
        server("SET", f"k{number}", "v")
        server("CACHE.TAG", f"k{number}", "all", f"t{number}")
    server.reload()
    assert server("CACHE.INVALIDATE", "TAGS", "t7") == 1 and server("EXISTS", "k7") == 0
    assert server("CACHE.INVALIDATE", "TAGS", "all") in (49, 50)
    server.wait_swept()
    assert server("DBSIZE") == 0


def test_fetch_tells_the_tags(server):
    server("SET", "k", "v")
    server("CACHE.TAG", "k", "a")
    assert server("CACHE.FETCH", "k", "WITHTAGS") == [b"FRESH", b"v", None, -1, [b"a"]]
    server("DEL", "k")
