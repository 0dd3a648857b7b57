"""Between an invalidation and the sweep: the native keys are gone, their companions are dead and still there.
Nothing of them shows, and whatever is written under those names meanwhile stays when they go."""

import pytest

from harness.native import assert_bound, assert_nothing, companions, kinds, make, tagged
from harness.resp import fields
from harness.server import wait_for
from harness.tagged import DEBUG, all_tags, hold, keys_of, let_go, tags_of
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")


@pytest.fixture(name="held")
def fixture_held(fresh_server):
    """A server that sweeps nothing until it is told; one native key of each type was invalidated there."""
    server = fresh_server(module_args=DEBUG)
    hold(server)
    for kind in kinds(server):
        tagged(server, kind, kind, "a", "b")
    assert server("CACHE.INVALIDATE", "TAGS", "a") == len(kinds(server))
    assert server("EXISTS", *kinds(server)) == 0
    return server


def test_nothing_of_them_shows(held):
    """CACHE.TAGS and INVALIDATE may count what died through another tag until it is swept, as of entries."""
    assert b"a" not in all_tags(held) and keys_of(held, "a") == keys_of(held, "b") == []
    assert held("CACHE.INVALIDATE", "TAGS", "a") == 0
    assert held("CACHE.INVALIDATE", "TAGS", "b") <= len(kinds(held))
    for kind in kinds(held):
        assert held("CACHE.META", kind) is None
        assert held("CACHE.TAG", kind, "c") is None and held("CACHE.UNTAG", kind, "a") is None
    assert fields(held("CACHE.VERIFY"))["problems"] == []
    let_go(held)
    assert_nothing(held)


# What is done once the keys are made anew, and the tags that they have then.
ANEW = {
    "nothing": ((), []),
    "tagged as before": ((("CACHE.TAG", "{}", "a", "b"),), [b"a", b"b"]),
    "tagged by another": ((("CACHE.TAG", "{}", "c"),), [b"c"]),
    "tagged and not": ((("CACHE.TAG", "{}", "c"), ("CACHE.UNTAG", "{}", "c")), []),
    "not tagged": ((("CACHE.UNTAG", "{}", "a"),), []),
    "renamed there and back": ((("RENAME", "{}", "x"), ("RENAME", "x", "{}")), []),
    "a copy of one with tags": (
        (("SET", "x", "v"), ("CACHE.TAG", "x", "c"), ("COPY", "x", "{}", "REPLACE"), ("DEL", "x")),
        [b"c"],
    ),
    "one with tags renamed there": (
        (("SET", "x", "v"), ("CACHE.TAG", "x", "c", "a"), ("RENAME", "x", "{}")),
        [b"a", b"c"],
    ),
    "deleted and made anew": ((("DEL", "{}"), ("SADD", "{}", "a")), []),
    "overwritten": ((("SET", "{}", "v"),), []),
}


@pytest.mark.parametrize("what", ANEW)
def test_what_is_made_anew_stays(held, what):
    """With the tags that it was given, and without those of what it follows."""
    commands, tags = ANEW[what]
    for kind in kinds(held):
        make(held, kind, kind)
        assert tags_of(held, kind) == []
        for words in commands:
            held(*[kind if word == "{}" else word for word in words])
        assert tags_of(held, kind) == tags, kind
    listed = sorted(map(str.encode, kinds(held)))
    assert all(keys_of(held, tag) == (listed if tag in tags else []) for tag in (b"a", b"b", b"c"))
    let_go(held)
    assert held("EXISTS", *listed) == len(listed)
    assert all_tags(held) == dict.fromkeys(tags, len(listed))
    assert len(companions(held)) == (len(listed) if tags else 0)
    assert_verified(held)
    for tag in tags[:1]:
        assert keys_of(held, tag) == listed
        assert held("CACHE.INVALIDATE", "TAGS", tag) == len(listed)
        assert_nothing(held)


@pytest.mark.parametrize("command", [("DEL",), ("UNLINK",), ("PEXPIRE", -1), ("PEXPIRE", 1)], ids=str)
def test_a_dead_companion_that_goes_takes_nobody_along(held, command):
    for kind in kinds(held):
        make(held, kind, kind)
    name, *options = command
    for own in companions(held):
        held(name, own, *options)
    wait_for(lambda: companions(held) == [], "the companions' end")
    assert held("EXISTS", *kinds(held)) == len(kinds(held))
    let_go(held)
    assert held("DBSIZE") == len(kinds(held))


def test_dead_ones_in_payloads_are_dead(held):
    pairs = [(own, held("DUMP", own)) for own in companions(held)]
    let_go(held)
    for own, payload in pairs:
        held("RESTORE", own, 0, payload)
    assert keys_of(held, "a") == keys_of(held, "b") == []
    let_go(held)
    assert_nothing(held)


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_dead_ones_in_files_take_nobody_along(held, how):
    for kind in kinds(held)[::2]:
        make(held, kind, kind)
    if how == "reload":
        held.reload()
    else:
        held("SAVE")
        held.restart()
    left = kinds(held)[::2]
    assert held("EXISTS", *kinds(held)) == len(left) and keys_of(held, "a") == keys_of(held, "b") == []
    let_go(held)
    wait_for(lambda: companions(held) == [], "the companions' end")
    assert held("DBSIZE") == len(left) and [tags_of(held, kind) for kind in left] == [[]] * len(left)
    assert_verified(held)


def test_a_replica_that_is_promoted_meanwhile(fresh_server):
    """It has the dead ones too, and takes them away itself."""
    primary = fresh_server(module_args=DEBUG)
    replica = fresh_server(("--replicaof", f"127.0.0.1 {primary.port}"), module_args=DEBUG)
    for kind in kinds(primary):
        tagged(primary, kind, kind, "a", "b")
    replica.wait_replica_of(primary)
    hold(primary)
    hold(replica)
    primary("CACHE.INVALIDATE", "TAGS", "b")
    make(primary, "hash", "hash")
    assert primary("CACHE.TAG", "hash", "c") == 1
    make(primary, "list", "list")
    replica.wait_replica_of(primary, swept=False)
    replica("REPLICAOF", "NO", "ONE")
    assert keys_of(replica, "c") == [b"hash"] and tags_of(replica, "list") == []
    assert keys_of(replica, "a") == keys_of(replica, "b") == []
    let_go(replica)
    assert replica("EXISTS", "hash", "list") == 2 and len(companions(replica)) == 1
    assert_verified(replica)
    assert replica("DEL", "list") == 1
    assert_bound(replica, "hash", [b"c"])
    assert_nothing(replica)


def test_the_end_of_the_sweep_gives_everything_back(held):
    """Very many dead ones, and the same names again."""
    connection, count = held.connect(), 3000
    connection.pipeline([("HSET", f"k{n}", "f", n) for n in range(count)])
    connection.pipeline([("CACHE.TAG", f"k{n}", "all", f"t{n % 9}") for n in range(count)])
    assert held("CACHE.INVALIDATE", "TAGS", "all") == count
    connection.pipeline([("HSET", f"k{n}", "f", n) for n in range(0, count, 2)])
    connection.pipeline([("CACHE.TAG", f"k{n}", "all") for n in range(0, count, 4)])
    let_go(held)
    assert len(keys_of(held, "all", "COUNT", 5000)) == count // 4 and len(companions(held)) == count // 4
    assert held("DBSIZE") == count // 2 + count // 4
    assert all_tags(held, "COUNT", 1000) == {b"all": count // 4}
    assert_verified(held)
