"""Where a companion goes, its key goes: a value that no tag reaches any more may not survive. Whatever a
user does to a companion by the server's own commands, a tag reaches its key or the key is not there."""

import pytest

from harness.cluster_client import beside
from harness.native import assert_nothing, await_nothing, companion, companions, kinds, make, outcome, tagged
from harness.resp import ReplyError
from harness.server import wait_for
from harness.tagged import all_tags, keys_of, tags_of
from harness.topologies import several_databases
from harness.topology import assert_verified

GO = [
    "DEL {}",
    "UNLINK {}",
    "EXPIRE {} 0",
    "PEXPIREAT {} 1",
    "PEXPIRE {} 1",
    "SET {} x; DEL {}",
    "MULTI; DEL {}; EXEC",
]


def run(server, command, name):
    """Run commands about a companion."""
    for words in command.split(";"):
        server(*[name if word == "{}" else word for word in words.split()])


@pytest.mark.parametrize("command", GO)
def test_where_a_companion_goes_its_key_goes(server, command):
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        run(server, command, companion(server))
        wait_for(lambda: server("EXISTS", "k") == 0, f"the end of the key: {kind}, {command}")
        await_nothing(server, (kind, command))


def test_within_scripts(server):
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        server("EVAL", "redis.call('DEL', KEYS[1])", 1, companion(server))
        await_nothing(server, kind)


def test_only_its_own_key_goes(server):
    tagged(server, "hash", "k", "a")
    own = companion(server)
    tagged(server, "hash", "j", "a")
    make(server, "hash", "plain")
    assert server("DEL", own) == 1
    assert server("EXISTS", "k") == 0 and tags_of(server, "j") == [b"a"] and server("EXISTS", "plain") == 1
    assert keys_of(server, "a") == [b"j"] and all_tags(server) == {b"a": 1}


def test_both_in_one_command(server):
    """Whichever of them it names first."""
    for first in (0, 1):
        tagged(server, "hash", "{k}", "a")
        names = ["{k}", companion(server)]
        assert server("UNLINK", names[first], names[1 - first]) in (1, 2)
        assert_nothing(server, first)


@pytest.mark.parametrize("how", ["MULTI", "pipeline"])
@pytest.mark.parametrize("first", ["key", "companion"])
def test_both_deleted_and_the_key_made_anew_in_one_turn(server, how, first):
    """As a slot's new owner hears of it: the new key is not taken along with the old one's companion."""
    connection = server.connect()
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        tagged(server, "hash", "other{k}", "b")
        (own,) = (name for name in companions(server) if name.endswith(b"}k"))
        ends = [("DEL", "k"), ("UNLINK", own)][:: 1 if first == "key" else -1]
        requests = [*ends, ("SET", "k", "new")]
        connection.pipeline([("MULTI",), *requests, ("EXEC",)] if how == "MULTI" else requests)
        assert tags_of(server, "k") == [] and server("GET", "k") == b"new", kind
        server("CACHE.TAG", "k", "a")
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "b") == 2
        assert_nothing(server, kind)


def test_what_is_written_over_a_companion_takes_its_place(server):
    """It is the user's, and its key is gone."""
    for write in (("SET", "x"), ("SADD", "x")):
        tagged(server, "hash", "k", "a")
        own = companion(server)
        if write[0] == "SET":
            server("SET", own, "x")
            wait_for(lambda: server("EXISTS", "k") == 0, "the key's end")
            assert server("GET", own) == b"x" and server("DBSIZE") == 1
            assert server("DEL", own) == 1
        else:
            assert str(outcome(server, "SADD", own, "x")).startswith("WRONGTYPE")
            assert server("DEL", "k") == 1
        assert_nothing(server, write)


def test_renamed_away(server):
    """Under another name it is nobody's companion."""
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        own = companion(server)
        reply = outcome(server, "RENAME", own, beside(own, "away"))
        assert isinstance(reply, ReplyError) or reply == b"OK"
        assert_verified(server)
        if not isinstance(reply, ReplyError):
            wait_for(lambda: server("EXISTS", "k") == 0, "the key's end")
        server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a")
        await_nothing(server, kind)


def test_copied(server):
    """The copy is nobody's companion, and lets nobody count a key twice."""
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        own = companion(server)
        outcome(server, "COPY", own, beside(own, "copy"))
        assert_verified(server)
        assert keys_of(server, "a") == [b"k"] and tags_of(server, "k") == [b"a"]
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") >= 1
        assert server("EXISTS", "k") == 0
        await_nothing(server, kind)


def test_renamed_over_anothers(server):
    """k's companion is put in j's place: k has none, and j's is not its own."""
    tagged(server, "hash", "{s}k", "a")
    own = companion(server)
    tagged(server, "hash", "{s}j", "b")
    (other,) = set(companions(server)) - {own}
    outcome(server, "RENAME", own, other)
    assert_verified(server)
    wait_for(lambda: server("EXISTS", "{s}k") == 0, "the end of what has no companion")
    if server("EXISTS", "{s}j"):
        assert tags_of(server, "{s}j"), "what is there a tag reaches"
    server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "b")
    await_nothing(server)


@several_databases
def test_moved_away(server):
    one = server.connect(db=1)
    tagged(server, "hash", "k", "a")
    outcome(server, "MOVE", companion(server), 1)
    assert_verified(server)
    wait_for(lambda: server("EXISTS", "k") == 0, "the key's end")
    await_nothing(server)
    wait_for(lambda: one("DBSIZE") == 0, "what is nobody's to go")
    assert all_tags(one) == {}


def test_one_that_expires_by_an_operators_ttl(server):
    server("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        own = companion(server)
        server("PEXPIRE", own, 1)
        wait_for(lambda name=own: server("EXISTS", name) == 0, "the end of 1 ms")
        wait_for(lambda: server("EXISTS", "k") == 0, "its key's end")
        await_nothing(server, kind)


def test_a_persisted_or_touched_one_is_as_it_was(server):
    tagged(server, "hash", "k", "a")
    own = companion(server)
    for command in ("PERSIST", "TOUCH", "EXISTS", "TYPE", "DUMP", "STRLEN", "GET"):
        outcome(server, command, own)
    server("EXPIRE", own, 1000)
    server("PERSIST", own)
    assert tags_of(server, "k") == [b"a"] and keys_of(server, "a") == [b"k"]
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") == 1
    assert_nothing(server)
