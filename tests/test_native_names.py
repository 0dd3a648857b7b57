"""What companions are called, and what is shown of them: every key name has one, in its own hash slot, and
none is the user's to write."""

import random

import pytest

from harness.cluster_client import SLOTS, slot_of
from harness.native import (
    assert_nothing,
    await_nothing,
    companion,
    companions,
    kinds,
    make,
    prefix,
    tagged,
)
from harness.resp import ReplyError, fields
from harness.tagged import all_tags, await_sweep, figure, keys_of, tags_of
from harness.topologies import several_databases
from harness.topology import assert_verified

# What Redis hashes of a name is between its first { and the next }, if anything is there.
HOSTILE = [
    b"",
    b"a",
    b"{",
    b"}",
    b"{}",
    b"{}x",
    b"x{}",
    b"{{}}",
    b"}{",
    b"a}{b}c",
    b"{a}b",
    b"a{b}c{d}",
    b"{}{a}",
    b"{a",
    b"a}",
    b"{{a}}",
    b"{a}}",
    b"{ }",
    b"{\x00}\x00",
    b"\x00",
    b"\xff\xfe{\xff}",
    b"a:b:c",
    b"%s%n",
    b"*?[a]\\",
    b"line\r\nbreak",
    b"long:" + b"x" * 5000,
    b"{" + b"y" * 3000,
    b"{" + b"y" * 3000 + b"}tail",
]
PIECES = [b"{", b"}", b"{}", b"a", b"b:", b"\x00", b"\xff", b":", b"long" * 20]


def dealt(seed, count=300):
    """Names of pieces that matter to hash tags, without repetition."""
    dice, found = random.Random(seed), {}
    while len(found) < count:
        found[b"".join(dice.choices(PIECES, k=dice.randrange(8)))] = None
    return list(found)


def at_home(names):
    """Those that are on the topology's first server: of a cluster it has all slots but the last few."""
    return [name for name in names if slot_of(name) < SLOTS - 4]


@pytest.mark.parametrize("names", [HOSTILE, dealt(1), dealt(2)], ids=["hostile", "dealt", "dealt more"])
def test_every_name_has_a_companion_in_its_slot(server, names):
    names, found = at_home(names), {}
    for name in names:
        before = set(companions(server)) if len(names) < 50 else None
        tagged(server, "hash", name, "one", name[:1000])
        if before is not None:
            (found[name],) = set(companions(server)) - before
    for name, other in found.items():
        assert slot_of(other) == slot_of(name), (name, other)
        assert other.startswith(prefix(server)) and other != name
    assert len(companions(server)) == len(names)
    assert sorted(map(slot_of, companions(server))) == sorted(map(slot_of, names))
    assert keys_of(server, "one", "COUNT", 7) == sorted(names)
    for name in names:
        assert tags_of(server, name) == sorted({b"one", name[:1000]}), name
    assert_verified(server)
    half = names[::2]
    for name in half:
        assert server("DEL", name) == 1, name
    assert keys_of(server, "one") == sorted(set(names) - set(half))
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "one") == len(names) - len(half)
    assert_nothing(server)


def test_a_name_may_begin_as_any_other_does(server):
    """Names that contain one another's companions' parts have companions of their own."""
    tagged(server, "string", "k", "a")
    inner = companion(server)
    names = [b"x" + inner, inner[1:], inner[len(prefix(server)) :] + b"x"]
    for name in at_home(names):
        tagged(server, "string", name, "b")
        assert tags_of(server, name) == [b"b"], name
    assert tags_of(server, "k") == [b"a"]
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "b") == len(at_home(names))
    await_sweep(server)
    assert tags_of(server, "k") == [b"a"] and companions(server) == [inner]


def test_names_under_the_prefix_are_refused(server):
    """Those of companions that are there, those of keys that are not, and what could be none."""
    tagged(server, "hash", "k", "a")
    own, begin = companion(server), prefix(server)
    before = server("DUMP", own)
    for name in (own, begin, begin + b"k", begin + own, begin + b"{", begin + b"{}x", begin + b"\x00"):
        for request in (
            ("CACHE.SET", name, "v"),
            ("CACHE.SET", name, "v", "EX", 10, "TAGS", "b"),
            ("CACHE.SET", name, "v", "NX"),
            ("CACHE.TAG", name, "b"),
            ("CACHE.INCRBY", name, 1),
        ):
            assert server.error(*request), (name, request)
            assert name.decode("latin-1") not in server.error(*request) or name == begin, "no echo"
    assert tags_of(server, "k") == [b"a"] and all_tags(server) == {b"a": 1}
    assert server("DUMP", own) == before and server("DBSIZE") == 2


def test_a_native_key_under_the_prefix_has_no_tags(server):
    """The server's own commands write where they like; TAG refuses."""
    name = prefix(server) + b"mine"
    make(server, "hash", name)
    assert server.error("CACHE.TAG", name, "a")
    assert server("HGET", name, "f") == b"v" and all_tags(server) == {}
    assert server("DEL", name) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("CACHE.GET",),
        ("CACHE.GET", "STALE"),
        ("CACHE.FETCH",),
        ("CACHE.TOUCH",),
        ("CACHE.TOUCH", "EX", "10"),
        ("CACHE.STALE",),
        ("CACHE.UNTAG", "a"),
        ("CACHE.UNTAG", "b"),
        ("CACHE.MGET",),
        ("CACHE.LOCK", "1000"),
    ],
    ids=" ".join,
)
def test_no_command_sees_an_entry_in_a_companion(server, command):
    """Nothing is read from it, and nothing it carries is changed but through its key."""
    tagged(server, "hash", "k", "a")
    own = companion(server)
    name, *options = command
    connection = server.connect()
    connection.send(name, own, *options)
    reply = connection.read()
    flat = reply if isinstance(reply, list) else [reply]
    values = [part for part in flat if isinstance(part, bytes) and part not in (b"MISS", b"BUSY")]
    assert isinstance(reply, ReplyError) or not values, reply
    assert tags_of(server, "k") == [b"a"] and keys_of(server, "a") == [b"k"]
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") == 1
    assert_nothing(server)


def test_what_shows_companions_and_what_does_not(server):
    before = {name: figure(server, name) for name in ("entries", "bytes", "memberships")}
    listed = kinds(server)
    for kind in listed:
        tagged(server, kind, kind, "a", kind)
    count = len(listed)
    assert len(companions(server)) == count and server("DBSIZE") == 2 * count
    assert {server("TYPE", name) for name in companions(server)} == {b"cacheflow"}
    stats = fields(server("CACHE.STATS"))
    assert stats["entries"] == 0 and stats["memberships"] == 2 * count and stats["bytes"] > 0
    assert all_tags(server) == {b"a": count, **{kind.encode(): 1 for kind in listed}}
    assert keys_of(server, "a") == sorted(kind.encode() for kind in listed)
    assert server("CACHE.HOTKEYS", "BY", "BYTES") == server("CACHE.HOTKEYS") == []
    assert server("CACHE.REFRESH", "COUNT", 10) == []
    assert figure(server, "bytes") > before["bytes"] and figure(server, "entries") == before["entries"]
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") == count
    await_sweep(server)
    assert {name: figure(server, name) for name in before} == before, "counters are back"
    assert_nothing(server)


def test_bytes_grow_with_tags_and_come_back(server):
    was = figure(server, "bytes")
    tagged(server, "hash", "k", "t0")
    one = figure(server, "bytes")
    server("CACHE.TAG", "k", *[f"t{n}" for n in range(100)])
    many = figure(server, "bytes")
    assert was < one < many
    server("CACHE.UNTAG", "k", *[f"t{n}" for n in range(1, 100)])
    assert figure(server, "bytes") == one
    server("CACHE.UNTAG", "k", "t0")
    assert figure(server, "bytes") == was and companions(server) == [], "without tags no companion"
    assert server("HGET", "k", "f") == b"v"


@several_databases
def test_companions_are_in_their_keys_database(server):
    one = server.connect(db=1)
    tagged(one, "hash", "k", "a")
    assert companions(server) == [] and len(companions(server, one)) == 1
    assert all_tags(server) == {} and all_tags(one) == {b"a": 1}
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 0 and one("CACHE.INVALIDATE", "TAGS", "a") == 1
    await_sweep(server)
    assert one("DBSIZE") == 0


@pytest.mark.topology("single")
@pytest.mark.parametrize("begin", [b"__tags:", b"a", b"*?[a]", b"-" * 32])
def test_the_prefix_is_the_operators(fresh_server, begin):
    """Whatever it is: SCAN finds what begins with it, and slots are kept apart from it."""
    server = fresh_server(module_args=("companion-prefix", begin.decode()))
    assert prefix(server) == begin
    names = [name for name in HOSTILE if not name.startswith(begin)]
    for name in names:
        tagged(server, "string", name, "a")
    found = companions(server)
    assert [name for name in found if name.startswith(begin)] == found
    shown = set(found) - set(names)
    assert sorted(map(slot_of, shown)) == sorted(map(slot_of, names))
    assert server.error("CACHE.SET", begin + b"x", "v") and server.error("CACHE.TAG", begin + b"x", "a")
    assert_verified(server)
    assert server("CACHE.INVALIDATE", "TAGS", "a") == len(names)
    await_nothing(server)
