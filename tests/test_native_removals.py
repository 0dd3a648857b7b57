"""An INVALIDATE removes native keys before its reply, and for everybody that is a removal as UNLINK's:
lazily freed, replicated, told to WATCH, CLIENT TRACKING, keyspace events and whoever waits on the key."""

import pytest

from harness.native import WITHIN, assert_nothing, kinds, make, tagged, within
from harness.resp import ReplyError, fields
from harness.server import wait_for
from harness.tagged import all_tags, await_sweep, keys_of, tags_of
from harness.topology import assert_verified

MODES = {"hard": (), "soft": ("SOFT",)}
modes = pytest.mark.parametrize("mode", MODES)


# --- before the reply, and counted -----------------------------------------------------------------
@modes
@pytest.mark.parametrize("how", WITHIN)
def test_they_are_gone_when_the_reply_comes(server, mode, how):
    listed = kinds(server)
    for kind in listed:
        tagged(server, kind, kind, "a", "b")
        make(server, kind, f"plain {kind}")
    assert within(server, how, "CACHE.INVALIDATE", *MODES[mode], "TAGS", "a") == len(listed)
    assert not any(server("EXISTS", kind) for kind in listed)
    assert keys_of(server, "a") == keys_of(server, "b") == []
    await_sweep(server)
    assert server("DBSIZE") == len(listed) and all_tags(server) == {}, "those without tags stay"
    assert within(server, how, "CACHE.INVALIDATE", *MODES[mode], "TAGS", "a", "b") == 0


def test_memberships_are_counted(server):
    """Of the tags named; an entry's and a native key's alike."""
    tagged(server, "hash", "k", "a", "b", "c")
    tagged(server, "list", "j", "a")
    server("CACHE.SET", "e", "v", "TAGS", "a", "b")
    assert all_tags(server) == {b"a": 3, b"b": 2, b"c": 1}
    assert keys_of(server, "a", "COUNT", 1) == [b"e", b"j", b"k"]
    assert server("CACHE.INVALIDATE", "TAGS", "a", "b", "a", "none") == 5
    assert server("EXISTS", "k") == server("EXISTS", "j") == 0 and server("CACHE.GET", "e") is None
    await_sweep(server)
    assert_nothing(server)


def test_a_native_key_that_died_counts_no_more(server):
    """Through whatever tag it went: as an entry, once it is swept."""
    tagged(server, "hash", "k", "a", "b")
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 0 and keys_of(server, "b") == []
    await_sweep(server)
    assert server("CACHE.INVALIDATE", "TAGS", "b") == 0


def test_soft_makes_entries_stale_and_removes_native_keys(server):
    tagged(server, "hash", "k", "a")
    server("CACHE.SET", "e", "v", "EX", 100, "GRACE", 100, "TAGS", "a")
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", "a") == 2
    assert server("EXISTS", "k") == 0
    assert server("CACHE.GET", "e") is None and server("CACHE.GET", "e", "STALE") == b"v"
    assert all_tags(server) == {b"a": 1}


@modes
def test_namespaces_touch_entries_alone(server, mode):
    tagged(server, "hash", "n:k", "a")
    tagged(server, "string", "plain", "a")
    server("CACHE.SET", "n:e", "v", "TAGS", "a")
    assert server("CACHE.INVALIDATE", *MODES[mode], "NAMESPACE", "n", "") == 1
    assert tags_of(server, "n:k") == tags_of(server, "plain") == [b"a"]
    await_sweep(server)
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 2 + (mode == "soft")
    assert server("EXISTS", "n:k") == server("EXISTS", "plain") == 0


def test_a_tag_binds_from_then_on(server):
    make(server, "hash", "k")
    assert server("CACHE.INVALIDATE", "TAGS", "late") == 0
    assert server("CACHE.TAG", "k", "late", "other") == 2 and server("EXISTS", "k") == 1
    assert server("CACHE.UNTAG", "k", "other") == 1
    assert server("CACHE.INVALIDATE", "TAGS", "other") == 0 and server("EXISTS", "k") == 1
    assert server("CACHE.TAG", "k", "other") == 1
    assert server("CACHE.INVALIDATE", "TAGS", "other") == 1
    assert_nothing(server)


def test_very_many_at_once(server):
    connection, count = server.connect(), 10_000
    connection.pipeline([("HSET", f"h:{n}{{t}}", "f", n) for n in range(count)])
    connection.pipeline([("CACHE.TAG", f"h:{n}{{t}}", "all", f"t{n % 7}") for n in range(count)])
    connection.pipeline([("CACHE.SET", f"e:{n}{{t}}", n, "TAGS", "all") for n in range(100)])
    assert all_tags(connection, "COUNT", 10_000)[b"all"] == count + 100
    assert len(keys_of(connection, "all", "COUNT", 5000)) == count + 100
    assert server("CACHE.INVALIDATE", "TAGS", "t3") == len(range(3, count, 7))
    left = count - len(range(3, count, 7))
    await_sweep(server)
    assert server("CACHE.INVALIDATE", "TAGS", "all") == left + 100
    await_sweep(server)
    assert_nothing(server)


def test_counters_and_log(server):
    listed = kinds(server)
    for kind in listed:
        tagged(server, kind, kind, "a")
    before = fields(server("CACHE.STATS"))
    server("CACHE.INVALIDATE", "TAGS", "a")
    await_sweep(server)
    after = fields(server("CACHE.STATS"))
    assert after["invalidations"] - before["invalidations"] == 1
    assert after["memberships"] == 0
    assert fields(server("CACHE.LOG", 1)[0])["hits"] == len(listed)


# --- who is told -----------------------------------------------------------------------------------
@modes
@pytest.mark.parametrize("how", WITHIN)
def test_watch(server, mode, how):
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        watcher = server.connect()
        watcher("WATCH", "k")
        assert within(server, how, "CACHE.INVALIDATE", *MODES[mode], "TAGS", "a") == 1
        watcher("MULTI")
        watcher("PING")
        assert watcher("EXEC") is None, kind
        watcher.close()


@modes
@pytest.mark.parametrize("options", [(), ("BCAST",), ("BCAST", "PREFIX", "k")], ids=" ".join)
def test_tracking(server, mode, options):
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        tracker = server.connect(protocol=3)
        tracker("CLIENT", "TRACKING", "ON", *options)
        tracker("TYPE", "k")
        tracker("OBJECT", "ENCODING", "k")
        tracker("EXISTS", "k")
        server("CACHE.INVALIDATE", *MODES[mode], "TAGS", "a")
        while b"k" not in tracker.push()[1]:  # what goes in one turn may be told in one message
            pass
        tracker.close()


@modes
def test_keyspace_events(server, mode):
    """The same as for UNLINK, once for each key."""
    server.config("notify-keyspace-events", "Kg$lshztx")
    ear = server.connect()
    ear("PSUBSCRIBE", "__keyspace@0__:k")
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        server("CACHE.INVALIDATE", *MODES[mode], "TAGS", "a", "b")
    server("PUBLISH", "__keyspace@0__:k", "end")
    heard = []
    while (message := ear.read()[3]) != b"end":
        heard.append(message)
    assert heard.count(b"del") == len(kinds(server)), heard


def test_large_values_are_freed_lazily(server):
    connection = server.connect()
    connection.pipeline([("HSET", "big", f"f{n}", n) for n in range(5000)])
    connection.pipeline([("ZADD", "huge", n, f"m{n}") for n in range(5000)])
    for key in ("big", "huge"):
        server("CACHE.TAG", key, "a")
    before = int(server.info("memory")["lazyfreed_objects"])
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 2
    wait_for(lambda: int(server.info("memory")["lazyfreed_objects"]) >= before + 2, "lazily freed objects")
    assert_nothing(server)


def test_channels_hear_of_it_once(server):
    ear = server.connect()
    ear("PSUBSCRIBE", "cache:*")
    for kind in kinds(server):
        tagged(server, kind, kind, "a")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "a")
    server("PUBLISH", "cache:end", "")
    assert [ear.read()[2:] for _ in range(2)] == [[b"cache:a", b"soft"], [b"cache:end", b""]]


def test_who_waits_on_a_stream_is_told_that_it_is_gone(server):
    """As by DEL: XREADGROUP does not wait for a group that is there no more."""
    server("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
    server("CACHE.TAG", "k", "a")
    waiter = server.connect()
    waiter.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "k", ">")
    wait_for(lambda: server.info("clients")["blocked_clients"] != "0", "the waiter")
    assert server("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert isinstance(waiter.read(), ReplyError)


def test_a_waiting_client_gets_what_is_written_afterwards(server):
    waiter = server.connect()
    waiter.send("BLPOP", "k", 0)
    wait_for(lambda: server.info("clients")["blocked_clients"] != "0", "the waiter")
    server("MULTI")
    server("RPUSH", "k", "old")
    server("CACHE.TAG", "k", "a")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("RPUSH", "k", "new")
    server("EXEC")
    assert waiter.read() == [b"k", b"new"]
    assert_nothing(server)


def test_fills_in_flight_are_refused(server):
    """One that began before the invalidation, of a key that was native then or absent."""
    tagged(server, "hash", "other", "a")
    token = server("CACHE.FETCH", "k")[2]
    assert token and server("CACHE.INVALIDATE", "TAGS", "a") == 1
    assert server("CACHE.SET", "k", "v", "LEASE", token, "TAGS", "a") is None
    assert server("EXISTS", "k") == 0
    assert_verified(server)


# --- who may ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", WITHIN)
def test_who_may_publish_the_tag_needs_no_key_and_no_unlink(server, how):
    for kind in kinds(server):
        tagged(server, kind, kind, "a", "b")
    server("ACL", "SETUSER", "u", "on", "nopass", "resetkeys", "resetchannels", "&cache:a", "-@all")
    server("ACL", "SETUSER", "u", "+cache.invalidate", "+multi", "+exec", "+eval")
    user = server.connect()
    user("AUTH", "u", "")
    with pytest.raises(ReplyError, match="NOPERM|permission"):
        user("UNLINK", "hash")
    with pytest.raises(ReplyError):
        user("CACHE.INVALIDATE", "TAGS", "a", "b")
    assert tags_of(server, "hash") == [b"a", b"b"], "an error changes nothing"
    assert within(user, how, "CACHE.INVALIDATE", "TAGS", "a") == len(kinds(server))
    assert_nothing(server)


def test_who_may_write_a_key_may_tag_it(server):
    """Its companion lies under no pattern of the user's."""
    make(server, "hash", "mine:k")
    make(server, "hash", "yours:k")
    server(
        "ACL", "SETUSER", "u", "on", "nopass", "resetkeys", "~mine:*", "-@all", "+cache.tag", "+cache.untag"
    )
    server("ACL", "SETUSER", "u", "+cache.meta", "+del")
    user = server.connect()
    user("AUTH", "u", "")
    assert user("CACHE.TAG", "mine:k", "a", "b") == 2 and user("CACHE.UNTAG", "mine:k", "b") == 1
    for request in (
        ("CACHE.TAG", "yours:k", "a"),
        ("CACHE.UNTAG", "yours:k", "a"),
        ("CACHE.META", "yours:k"),
    ):
        with pytest.raises(ReplyError, match="NOPERM"):
            user(*request)
    assert tags_of(server, "mine:k") == [b"a"] and tags_of(server, "yours:k") == []
    assert user("DEL", "mine:k") == 1
    assert all_tags(server) == {} and server("DBSIZE") == 1


def test_who_may_only_read_may_not_tag(server):
    make(server, "hash", "k")
    server("ACL", "SETUSER", "u", "on", "nopass", "resetkeys", "%R~*", "+@all")
    user = server.connect()
    user("AUTH", "u", "")
    for command in ("CACHE.TAG", "CACHE.UNTAG"):
        with pytest.raises(ReplyError, match="NOPERM"):
            user(command, "k", "a")
    assert tags_of(server, "k") == [] and server("DBSIZE") == 1
