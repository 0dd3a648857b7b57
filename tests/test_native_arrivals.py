"""A native key and its companion travel as two keys: by RESTORE and MIGRATE they may arrive in either order,
with an invalidation in between. What arrives is reached by its tags, or does not stay."""

import itertools

import pytest

from harness.native import (
    assert_bound,
    assert_nothing,
    await_nothing,
    companion,
    companions,
    kinds,
    tagged,
)
from harness.server import wait_for
from harness.tagged import all_tags, keys_of, tags_of
from harness.topology import assert_verified

ORDERS = {"key first": (0, 1), "companion first": (1, 0)}
orders = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
single = pytest.mark.topology("single")


def taken(server, kind, key, *tags):
    """The names and payloads of a tagged key and its companion, which are gone."""
    tagged(server, kind, key, *tags)
    names = [key, companion(server)]
    pair = [(name, server("DUMP", name)) for name in names]
    assert server("DEL", key) == 1
    assert_nothing(server)
    return pair


def restore(server, pair, *options):
    """One of them."""
    name, payload = pair
    assert server("RESTORE", name, 0, payload, *options) == b"OK"


# --- RESTORE ---------------------------------------------------------------------------------------
@orders
def test_restored_in_either_order(server, order):
    for kind in kinds(server):
        pair = taken(server, kind, "k", "a", "b")
        for at in order:
            restore(server, pair[at])
        assert keys_of(server, "b") == [b"k"] and len(companions(server)) == 1
        assert_bound(server, "k", [b"a", b"b"], kind)
        assert_nothing(server, kind)


@orders
@pytest.mark.parametrize(
    "went", [(0, 1), (1, 0), (0,), (1,)], ids=["key, companion", "companion, key", "key", "companion"]
)
def test_gone_and_restored_in_one_turn(server, order, went):
    """What was heard of the first pair's end is not taken for the second's: they come before it is done."""
    connection = server.connect()
    for kind in kinds(server):
        pair = taken(server, kind, "k", "a", "b")
        requests = [("RESTORE", pair[at][0], 0, pair[at][1], "REPLACE") for at in order]
        ends = [("DEL", pair[at][0]) for at in went]
        replies = connection.pipeline([*requests, *ends, *requests])
        assert replies[:2] == replies[-2:] == [b"OK", b"OK"], kind
        assert keys_of(server, "b") == [b"k"] and len(companions(server)) == 1, kind
        assert_bound(server, "k", [b"a", b"b"], kind)
        assert_nothing(server, kind)


@orders
@pytest.mark.parametrize("again", [False, True], ids=["first time", "a second time"])
@pytest.mark.parametrize("how", ["MULTI", "pipeline"])
def test_restored_in_one_turn(server, order, how, again):
    """Both are there before anything else is done, among other pairs; also where the two have been before."""
    connection = server.connect()
    for kind in kinds(server):
        pair = taken(server, kind, "k", "a", "b")
        tagged(server, kind, "other{k}", "c")
        requests = [("RESTORE", pair[at][0], 0, pair[at][1]) for at in order]
        if again:
            assert connection.pipeline(requests) == [b"OK", b"OK"]
            connection.pipeline([("DEL", request[1]) for request in requests])
        if how == "MULTI":
            assert connection.pipeline([("MULTI",), *requests, ("EXEC",)])[-1] == [b"OK", b"OK"], kind
        else:
            assert connection.pipeline(requests) == [b"OK", b"OK"], kind
        assert keys_of(server, "b") == [b"k"] and len(companions(server)) == 2, kind
        assert_bound(server, "k", [b"a", b"b"], kind)
        assert_bound(server, "other{k}", [b"c"], kind)
        assert_nothing(server, kind)


@orders
@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.parametrize("mode", [(), ("SOFT",)], ids=["hard", "soft"])
def test_invalidated_on_the_way(server, order, when, mode):
    """What was taken before an invalidation does not come back by it."""
    for kind in kinds(server):
        pair = taken(server, kind, "k", "a", "b")
        if when == "before":
            server("CACHE.INVALIDATE", *mode, "LOCAL", "TAGS", "b")
        restore(server, pair[order[0]])
        if when == "between":
            server("CACHE.INVALIDATE", *mode, "LOCAL", "TAGS", "b")
        restore(server, pair[order[1]])
        wait_for(lambda: server("EXISTS", "k") == 0, f"the end of what was invalidated: {kind}")
        await_nothing(server, kind)


@orders
def test_invalidated_by_another_tag_on_the_way(server, order):
    for kind in kinds(server):
        pair = taken(server, kind, "k", "a", "b")
        restore(server, pair[order[0]])
        server("CACHE.INVALIDATE", "LOCAL", "TAGS", "none", "c")
        restore(server, pair[order[1]])
        assert_bound(server, "k", [b"a", b"b"], kind)


def test_a_companion_without_a_key_is_not_the_users(server):
    """While it waits for its key, no tag has a key by it; VERIFY knows it for what it is."""
    pair = taken(server, "hash", "k", "a")
    restore(server, pair[1])
    assert_verified(server)
    assert server("CACHE.META", "k") is None and server("CACHE.TAG", "k", "b") is None
    assert server("EXISTS", "k") == 0
    restore(server, pair[0])
    assert_bound(server, "k", [b"a"])
    assert_nothing(server)


def test_a_companion_over_anothers_tags(server):
    """RESTORE … REPLACE of a companion: its tags are the key's from then on."""
    for kind in kinds(server):
        pair = taken(server, kind, "k", "a", "b")
        tagged(server, kind, "k", "b", "c")
        restore(server, pair[1], "REPLACE")
        assert all_tags(server) == {b"a": 1, b"b": 1}
        assert_bound(server, "k", [b"a", b"b"], kind)
        assert_nothing(server, kind)


def test_a_companion_for_an_entry_is_for_nobody(server):
    pair = taken(server, "hash", "k", "a")
    server("CACHE.SET", "k", "v", "TAGS", "e")
    restore(server, pair[1])
    assert server("CACHE.GET", "k") == b"v" and tags_of(server, "k") == [b"e"]
    assert_verified(server)
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") in (0, 1)
    assert server("CACHE.GET", "k") == b"v", "not its tag"
    assert server("DEL", "k") == 1
    await_nothing(server)


def test_a_companion_under_anothers_name_is_nobodys(server):
    """A payload under a name that is not its key's companion's binds nobody."""
    _, payload = taken(server, "hash", "k{s}", "a")[1]
    tagged(server, "hash", "j{s}", "b")
    own = companion(server)
    server("RESTORE", "stray{s}", 0, payload)
    server("RESTORE", own, 0, payload, "REPLACE")
    assert_verified(server)
    if server("EXISTS", "j{s}"):
        assert tags_of(server, "j{s}"), "what is there a tag reaches"
    server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "b")
    server("DEL", "j{s}")
    await_nothing(server)


# --- MIGRATE ---------------------------------------------------------------------------------------
@pytest.fixture(name="two", scope="module")
def fixture_two(fleet):
    """Two servers that know nothing of each other."""
    servers = [fleet.start(name="migrate") for _ in range(2)]
    yield servers
    for server in servers:
        fleet.discard(server)


@pytest.fixture(name="pair")
def fixture_pair(two, no_server_broke):
    """The same, empty."""
    for server in two:
        server.close_connections()
        server("FLUSHALL")
    yield two
    for server in two:
        assert_verified(server)


def migrate(source, target, *names, copy=False):
    """MIGRATE some keys."""
    options = ("COPY",) * copy
    assert source("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, *options, "KEYS", *names) == b"OK"


@single
@orders
def test_migrated_together(pair, order):
    source, target = pair
    for kind in kinds(source):
        tagged(source, kind, "k", "a", "b")
        names = ["k", companion(source)]
        migrate(source, target, *[names[at] for at in order])
        assert_nothing(source, kind)
        assert_bound(target, "k", [b"a", b"b"], kind)
        assert_nothing(target, kind)


@single
@orders
@pytest.mark.parametrize("invalidated", [False, True])
def test_migrated_one_after_the_other(pair, order, invalidated):
    """COPY leaves both, so that the second can follow."""
    source, target = pair
    for kind in kinds(source):
        tagged(source, kind, "k", "a", "b")
        names = ["k", companion(source)]
        migrate(source, target, names[order[0]], copy=True)
        if invalidated:
            target("CACHE.INVALIDATE", "TAGS", "b")
        migrate(source, target, names[order[1]], copy=True)
        if not invalidated:
            assert_bound(target, "k", [b"a", b"b"], kind)
        wait_for(lambda: target("EXISTS", "k") == 0, f"the end of what was invalidated: {kind}")
        await_nothing(target, kind)
        assert tags_of(source, "k") == [b"a", b"b"]
        source("DEL", "k")
        assert_nothing(source, kind)


@single
def test_migrated_in_every_order_of_many(pair):
    """Pairs whose halves come in all orders among each other's."""
    source, target = pair
    names = []
    for key in ("x", "y"):
        tagged(source, "hash", key, "a", key)
    names = ["x", "y", *companions(source)]
    for order in itertools.permutations(names):
        for name in order:
            migrate(source, target, name, copy=True)
        assert all_tags(target) == {b"a": 2, b"x": 1, b"y": 1}, order
        assert target("CACHE.INVALIDATE", "TAGS", "y") == 1 and keys_of(target, "a") == [b"x"]
        target.wait_swept()
        assert target("CACHE.INVALIDATE", "TAGS", "a") == 1
        assert_nothing(target, order)
        # What was taken before that is not to come back: the next round is of keys tagged anew.
        for key in ("x", "y"):
            assert source("CACHE.UNTAG", key, "a") == 1 and source("CACHE.TAG", key, "a") == 1


@single
@orders
def test_sent_one_after_the_other(pair, order):
    """Without COPY: the half that is left behind waits to be sent too."""
    source, target = pair
    for kind in kinds(source):
        tagged(source, kind, "k", "a", "b")
        names = ["k", companion(source)]
        for at in order:
            migrate(source, target, names[at])
        assert_nothing(source, kind)
        assert_bound(target, "k", [b"a", b"b"], kind)
        assert_nothing(target, kind)


@single
@orders
def test_an_invalidation_where_one_half_was_left_behind(pair, order):
    """Of what has gone ahead it is the other server's affair; what is still here goes."""
    source, target = pair
    for kind in kinds(source):
        tagged(source, kind, "k", "a", "b")
        names = ["k", companion(source)]
        migrate(source, target, names[order[0]])
        source("CACHE.INVALIDATE", "TAGS", "a")
        wait_for(lambda: source("EXISTS", "k") == 0, f"the end of what was invalidated: {kind}")
        target("FLUSHALL")
        source("DEL", *names)
        await_nothing(source, kind)


@single
@orders
def test_what_is_not_followed_does_not_stay_for_ever(pair, order):
    """A companion without a key, a key whose companion is elsewhere: while invalidations are remembered."""
    source, target = pair
    for server in pair:
        server.config("cacheflow.tombstone-ttl", 50)
    try:
        for kind in kinds(source):
            tagged(source, kind, "k", "a")
            migrate(source, target, ["k", companion(source)][order[0]])
            await_nothing(source, kind)
            if order[0]:
                await_nothing(target, kind)
            else:
                assert tags_of(target, "k") == [] and target("DEL", "k") == 1
    finally:
        for server in pair:
            server.config("cacheflow.tombstone-ttl", 300_000)
