"""Where a native key's tags go when it goes: RENAME, COPY, MOVE, SWAPDB and RESTORE, onto nothing, onto
native keys with tags of their own, and onto entries."""

import pytest

from harness.native import (
    WITHIN,
    assert_bound,
    assert_nothing,
    companions,
    copied_kinds,
    kinds,
    make,
    outcome,
    tagged,
    within,
)
from harness.resp import ReplyError
from harness.tagged import all_tags, await_sweep, keys_of, tags_of
from harness.topologies import several_databases

OTHER = "other{k}"


def absent(server):
    """Nothing is there."""


def native(server):
    """A native key without tags."""
    make(server, "set", OTHER)


def with_tags(server):
    """A native key with tags, one of them the source's too."""
    tagged(server, "zset", OTHER, "a", "c")


def entry(server):
    """An entry with tags."""
    server("CACHE.SET", OTHER, "v", "EX", 100, "TAGS", "a", "d")


TARGETS = {"absent": absent, "native": native, "native with tags": with_tags, "entry": entry}
targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


# --- RENAME and COPY -------------------------------------------------------------------------------
@targets
@pytest.mark.parametrize("how", WITHIN)
def test_rename_takes_tags_along(server, target, how):
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        target(server)
        assert within(server, how, "RENAME", "k", OTHER) == b"OK"
        assert server("EXISTS", "k") == 0 and server("CACHE.META", "k") is None
        assert keys_of(server, "a") == keys_of(server, "b") == [OTHER.encode()], kind
        assert all_tags(server) == {b"a": 1, b"b": 1} and len(companions(server)) == 1
        assert_bound(server, OTHER, [b"a", b"b"], kind)
        assert_nothing(server, kind)


@targets
def test_rename_of_what_has_no_tags_leaves_none(server, target):
    """It replaces what was there, and with it its tags."""
    for kind in kinds(server):
        make(server, kind, "k")
        target(server)
        assert server("RENAME", "k", OTHER) == b"OK"
        assert tags_of(server, OTHER) == [] and all_tags(server) == {} and companions(server) == [], kind
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "c", "d") == 0
        assert server("DEL", OTHER) == 1


def test_rename_of_an_entry_over_a_tagged_key(server):
    for kind in kinds(server):
        server("CACHE.SET", "k", "v", "TAGS", "e")
        tagged(server, kind, OTHER, "a", "e")
        assert server("RENAME", "k", OTHER) == b"OK"
        assert all_tags(server) == {b"e": 1} and companions(server) == [] and server("DBSIZE") == 1
        assert server("CACHE.GET", OTHER) == b"v" and tags_of(server, OTHER) == [b"e"]
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "e") == 1
        assert server("CACHE.GET", OTHER, "STALE") is None
        server.wait_swept()
        assert_nothing(server, kind)


def test_renames_that_do_not_happen(server):
    tagged(server, "hash", "k", "a")
    tagged(server, "list", OTHER, "b")
    assert server("RENAMENX", "k", OTHER) == 0 and server("COPY", "k", OTHER) == 0
    assert server("RENAME", "k", "k") == b"OK"
    assert isinstance(outcome(server, "RENAME", "none{k}", "k"), ReplyError)
    assert tags_of(server, "k") == [b"a"] and tags_of(server, OTHER) == [b"b"]
    assert len(companions(server)) == 2
    assert server("RENAMENX", "k", "third{k}") == 1 and tags_of(server, "third{k}") == [b"a"]
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "b") == 2
    assert_nothing(server)


def test_names_that_change_places(server):
    tagged(server, "hash", "k", "a")
    tagged(server, "list", OTHER, "b")
    server("MULTI")
    server("RENAME", "k", "third{k}")
    server("RENAME", OTHER, "k")
    server("RENAME", "third{k}", OTHER)
    server("EXEC")
    assert tags_of(server, "k") == [b"b"] and tags_of(server, OTHER) == [b"a"]
    assert server("TYPE", "k") == b"list" and server("TYPE", OTHER) == b"hash"
    assert len(companions(server)) == 2


@targets
def test_copy_takes_tags_along_and_leaves_them(server, target):
    for kind in copied_kinds(server):
        tagged(server, kind, "k", "a", "b")
        target(server)
        assert server("COPY", "k", OTHER, "REPLACE") == 1, kind
        assert tags_of(server, OTHER) == tags_of(server, "k") == [b"a", b"b"], kind
        assert all_tags(server) == {b"a": 2, b"b": 2} and len(companions(server)) == 2
        assert server("CACHE.UNTAG", OTHER, "b") == 1 and tags_of(server, "k") == [b"a", b"b"]
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "b") == 1 and server("EXISTS", OTHER) == 1
        await_sweep(server)
        assert_bound(server, OTHER, [b"a"], kind)
        assert_nothing(server, kind)


@targets
def test_copy_of_what_has_no_tags_leaves_none(server, target):
    for kind in copied_kinds(server):
        make(server, kind, "k")
        target(server)
        assert server("COPY", "k", OTHER, "REPLACE") == 1
        assert tags_of(server, OTHER) == [] and all_tags(server) == {} and companions(server) == [], kind
        assert server("DEL", "k", OTHER) == 2


def test_what_was_invalidated_before_at_that_name_does_not_touch_it(server):
    """It was valid just now; what comes later does."""
    for kind in copied_kinds(server):
        for command in ("RENAME", "COPY"):
            tagged(server, kind, "k", "a")
            server("CACHE.TAG", "k", "late")
            assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "never") == 0
            server(command, "k", OTHER)
            server("CACHE.TAG", OTHER, "never")
            assert tags_of(server, OTHER) == [b"a", b"late", b"never"]
            assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "late") == 1 + (command == "COPY")
            assert_nothing(server, (kind, command))


# --- RESTORE ---------------------------------------------------------------------------------------
def test_restore_replaces_tags(server):
    """A native payload brings none, an entry's its own."""
    for kind in kinds(server):
        make(server, kind, "from{k}")
        server("CACHE.SET", "entry{k}", "v", "TAGS", "e")
        native, entry = server("DUMP", "from{k}"), server("DUMP", "entry{k}")
        server("DEL", "from{k}", "entry{k}")
        tagged(server, "zset", "k", "a", "b")
        assert server("RESTORE", "k", 0, native, "REPLACE") == b"OK"
        assert tags_of(server, "k") == [] and all_tags(server) == {} and companions(server) == [], kind
        server("CACHE.TAG", "k", "a", "e")
        assert server("RESTORE", "k", 0, entry, "REPLACE") == b"OK"
        assert tags_of(server, "k") == [b"e"] and all_tags(server) == {b"e": 1} and companions(server) == []
        assert server("RESTORE", "k", 0, native, "REPLACE") == b"OK"
        assert tags_of(server, "k") == [] and all_tags(server) == {}
        assert server("DEL", "k") == 1


def test_restores_that_fail_or_are_over_before_they_begin(server):
    tagged(server, "hash", "k", "a")
    payload = server("DUMP", "k")
    assert isinstance(outcome(server, "RESTORE", "k", 0, payload), ReplyError), "BUSYKEY"
    assert isinstance(outcome(server, "RESTORE", "k", 0, b"nonsense", "REPLACE"), ReplyError)
    assert tags_of(server, "k") == [b"a"] and len(companions(server)) == 1
    assert server("RESTORE", "k", 1, payload, "REPLACE", "ABSTTL") == b"OK"
    assert server("EXISTS", "k") == 0, "its time was over"
    assert_nothing(server)


# --- databases -------------------------------------------------------------------------------------
@several_databases
@pytest.mark.parametrize("how", ["MOVE", pytest.param("COPY", marks=pytest.mark.since(valkey=(9, 0)))])
def test_they_go_along_to_another_database(server, how):
    """Valkey 8's COPY leaves the client in the other database, and its replicas (valkey#4024)."""
    two = server.connect(db=2)
    for kind in copied_kinds(server):
        tagged(server, kind, "k", "a", "b")
        assert two("CACHE.INVALIDATE", "TAGS", "a") == 0, "earlier, there"
        await_sweep(server)
        request = ("MOVE", "k", 2) if how == "MOVE" else ("COPY", "k", "k", "DB", 2)
        assert server(*request) == 1, kind
        assert all_tags(two) == {b"a": 1, b"b": 1} and len(companions(server, two)) == 1
        assert all_tags(server) == ({} if how == "MOVE" else {b"a": 1, b"b": 1})
        assert server("CACHE.INVALIDATE", "TAGS", "a") == (how == "COPY")
        assert_nothing(server)
        assert tags_of(two, "k") == [b"a", b"b"]
        assert two("CACHE.INVALIDATE", "TAGS", "b") == 1
        await_sweep(server)
        assert two("DBSIZE") == 0, kind


@several_databases
def test_moves_that_do_not_happen(server):
    one = server.connect(db=1)
    tagged(server, "hash", "k", "a")
    tagged(one, "list", "k", "b")
    assert server("MOVE", "k", 1) == 0 and server("COPY", "k", "k", "DB", 1) == 0
    assert tags_of(server, "k") == [b"a"] and tags_of(one, "k") == [b"b"]


@several_databases
@pytest.mark.since(valkey=(9, 0))
def test_a_copy_over_one_in_another_database(server):
    """Valkey 8's replicas are left in the other database (valkey#4024)."""
    one = server.connect(db=1)
    tagged(server, "hash", "k", "a")
    tagged(one, "list", "k", "b")
    assert server("COPY", "k", "k", "DB", 1, "REPLACE") == 1
    assert tags_of(one, "k") == [b"a"] and all_tags(one) == {b"a": 1} and one("DBSIZE") == 2


@several_databases
def test_a_move_that_finds_an_old_companion_there(server):
    """None may be there without its key; what is moved there has its own tags at last."""
    one = server.connect(db=1)
    tagged(one, "string", "k", "old")
    one("DEL", "k")
    tagged(server, "hash", "k", "a")
    assert server("MOVE", "k", 1) == 1
    assert tags_of(one, "k") == [b"a"] and all_tags(one) == {b"a": 1} and server("DBSIZE") == 0


@several_databases
def test_swapdb_exchanges_them(server):
    one = server.connect(db=1)
    tagged(server, "hash", "k", "a")
    tagged(one, "list", "j", "a", "b")
    tagged(one, "list", "k", "b")
    server("SWAPDB", 0, 1)
    assert keys_of(server, "a") == [b"j"] and keys_of(one, "a") == [b"k"]
    assert tags_of(server, "k") == [b"b"] and len(companions(server)) == 2
    assert server("DEL", "k") == 1 and all_tags(server) == {b"a": 1, b"b": 1}
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert_nothing(server)
    assert one("EXISTS", "k") == 1 and one("CACHE.INVALIDATE", "TAGS", "a") == 1
    await_sweep(server)
    assert one("DBSIZE") == 0
    server("SWAPDB", 1, 2)


@several_databases
@pytest.mark.parametrize("how", [("FLUSHDB",), ("FLUSHDB", "ASYNC"), ("FLUSHALL",), ("FLUSHALL", "ASYNC")])
def test_flushes(server, how):
    one = server.connect(db=1)
    tagged(server, "hash", "k", "a")
    tagged(one, "hash", "k", "a", "b")
    server(*how)
    assert_nothing(server, how)
    if how[0] == "FLUSHDB":
        assert tags_of(one, "k") == [b"a", b"b"] and one("DBSIZE") == 2
    else:
        assert all_tags(one) == {} and one("DBSIZE") == 0
    make(server, "hash", "k")
    assert tags_of(server, "k") == []
