"""How long a native key's tags last: until the key ends, by whatever way there is, and no longer. What
overwrites its value keeps them."""

import pytest

from harness.native import (
    assert_bound,
    assert_nothing,
    await_nothing,
    companions,
    kinds,
    make,
    outcome,
    tagged,
)
from harness.resp import ReplyError
from harness.sample import meta
from harness.server import wait_for
from harness.tagged import all_tags, keys_of, tags_of
from harness.topology import assert_verified

since = pytest.mark.since
FIELDS_EXPIRE = since(redis=(7, 4), valkey=(9, 0))
NEVER = (99, 0)


def split(command):
    """The commands of a line, separated by ;"""
    return [part.split() for part in command.split(";")]


def run(server, command):
    """Run them; what expects another type changes nothing."""
    for words in split(command):
        reply = outcome(server, *words)
        assert not isinstance(reply, ReplyError) or str(reply).startswith("WRONGTYPE"), (words, reply)


# --- each type -------------------------------------------------------------------------------------
def test_tags_on_every_type(server):
    for kind in kinds(server):
        make(server, kind, "k")
        assert server("CACHE.UNTAG", "k", "a") == 0 and tags_of(server, "k") == []
        assert server("CACHE.TAG", "k", "a", "b") == 2
        assert server("CACHE.TAG", "k", "b", "c", "c") == 1
        assert server("CACHE.TAG", "k", "a") == 0
        assert server("CACHE.UNTAG", "k", "a", "none") == 1
        found = meta(server, "k")
        assert found["state"] == b"fresh" and found["type"] == server("TYPE", "k"), kind
        assert sorted(found["tags"]) == [b"b", b"c"]
        assert all_tags(server) == {b"b": 1, b"c": 1} and keys_of(server, "b") == [b"k"]
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") == 0
        assert_bound(server, "k", [b"b", b"c"], kind)
        assert_nothing(server, kind)


def test_the_last_tag_taken_off_takes_the_companion(server):
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        assert server("CACHE.UNTAG", "k", "a", "b") == 2
        assert companions(server) == [] and server("EXISTS", "k") == 1, kind
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "b") == 0
        assert server("DBSIZE") == 1 and server("DEL", "k") == 1


# --- how keys end ----------------------------------------------------------------------------------
ENDS = [
    "DEL k",
    "UNLINK k",
    "DEL k other{k}",
    "CACHE.DEL k",
    "EXPIRE k 0",
    "PEXPIRE k -1",
    "PEXPIREAT k 1",
    "FLUSHDB",
    "FLUSHDB ASYNC",
    "FLUSHALL",
    "FLUSHALL ASYNC",
    "MULTI; DEL k; EXEC",
    "MULTI; UNLINK k; PING; EXEC",
]


@pytest.mark.parametrize("command", ENDS)
def test_tags_end_with_their_key(server, command):
    """On every type; and a key of the same name afterwards has none."""
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        run(server, command)
        assert_nothing(server, (kind, command))
        make(server, kind, "k")
        assert tags_of(server, "k") == []
        assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a", "b") == 0
        assert server("DEL", "k") == 1


def test_tags_end_within_scripts(server):
    for kind in kinds(server):
        tagged(server, kind, "k", "a")
        server("EVAL", "redis.call('DEL', KEYS[1])", 1, "k")
        assert_nothing(server, kind)


def test_a_key_that_is_deleted_and_made_anew_in_one_go_has_no_tags(server):
    tagged(server, "hash", "k", "a")
    server("MULTI")
    server("DEL", "k")
    server("HSET", "k", "f", "new")
    server("EXEC")
    assert tags_of(server, "k") == [] and companions(server) == []
    server("EVAL", "redis.call('CACHE.TAG', KEYS[1], 'b') redis.call('UNLINK', KEYS[1])", 1, "k")
    assert_nothing(server)


@pytest.mark.parametrize("how", ["active", "on access", "in a transaction"])
def test_tags_end_when_the_key_expires(server, how):
    server("DEBUG", "SET-ACTIVE-EXPIRE", int(how == "active"))
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        if how == "in a transaction":
            server("MULTI")
            server("PEXPIRE", "k", 1)
            server("CACHE.TAG", "k", "c")
            server("EXEC")
        else:
            server("PEXPIRE", "k", 1)
        if how == "active":
            wait_for(lambda: server("DBSIZE") == 0, "the active expiry")
        else:
            wait_for(lambda: server("EXISTS", "k") == 0, "the end of 1 ms")
        assert_nothing(server, kind)


def test_a_key_that_has_expired_unseen_is_not_seen(server):
    """Nobody has come by yet: TAG finds no key, and nothing is made to live on."""
    server("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    tagged(server, "hash", "k", "a")
    server("PEXPIRE", "k", 1)
    wait_for(lambda: server("TTL", "k") == -2, "the end of 1 ms")
    assert server("CACHE.META", "k") is None and server("CACHE.TAG", "k", "b") is None
    assert server("CACHE.UNTAG", "k", "a") is None
    make(server, "hash", "k")
    assert tags_of(server, "k") == [] and all_tags(server) == {}


# What takes the last element, or stores nothing, and so ends the key. What is made before it: KEY, by type.
LAST = [
    "RPUSH k a; {}; LPOP k",
    "RPUSH k a; {}; RPOP k",
    "RPUSH k a b; {}; LPOP k 5",
    "RPUSH k a; {}; LREM k 0 a",
    "RPUSH k a b; {}; LTRIM k 1 0",
    "RPUSH k a; {}; BLPOP k 0",
    "RPUSH k a; {}; BRPOP k 0",
    "RPUSH k a; {}; RPOPLPUSH k other{k}; DEL other{k}",
    "RPUSH k a; {}; LMOVE k other{k} LEFT LEFT; DEL other{k}",
    "RPUSH k a; {}; BLMOVE k other{k} LEFT LEFT 0; DEL other{k}",
    "RPUSH k a; {}; LMPOP 1 k LEFT COUNT 10",
    "HSET k f v; {}; HDEL k f",
    "HSET k f v g w; {}; HDEL k f g none",
    pytest.param("HSET k f v; {}; HGETDEL k FIELDS 1 f", marks=since(redis=(8, 0), valkey=(9, 1))),
    pytest.param("HSET k f v; {}; HPEXPIRE k 0 FIELDS 1 f", marks=FIELDS_EXPIRE),
    pytest.param("HSET k f v; {}; HGETEX k PXAT 1 FIELDS 1 f", marks=since(redis=(8, 0), valkey=(9, 0))),
    "SADD k a; {}; SREM k a",
    "SADD k a b; {}; SPOP k 2",
    "SADD k a; {}; SPOP k",
    "SADD k a; {}; SMOVE k other{k} a; DEL other{k}",
    "SADD k a; {}; SINTERSTORE k none{k} k",
    "SADD k a; {}; SDIFFSTORE k k k",
    "SADD k a; {}; SUNIONSTORE k none{k}",
    "ZADD k 1 a; {}; ZREM k a",
    "ZADD k 1 a; {}; ZPOPMIN k",
    "ZADD k 1 a 2 b; {}; ZPOPMAX k 2",
    "ZADD k 1 a; {}; BZPOPMIN k 0",
    "ZADD k 1 a; {}; ZMPOP 1 k MIN COUNT 5",
    "ZADD k 1 a 2 b; {}; ZREMRANGEBYRANK k 0 -1",
    "ZADD k 1 a 2 b; {}; ZREMRANGEBYSCORE k -inf +inf",
    "ZADD k 1 a 1 b; {}; ZREMRANGEBYLEX k - +",
    "ZADD k 1 a; {}; ZRANGESTORE k none{k} 0 -1",
    "ZADD k 1 a; {}; ZINTERSTORE k 2 k none{k}",
    "ZADD k 1 a; {}; ZUNIONSTORE k 1 none{k}",
    "ZADD k 1 a; {}; ZDIFFSTORE k 2 k k",
    "ZADD k 1 a; {}; GEOSEARCHSTORE k none{k} FROMLONLAT 0 0 BYRADIUS 1 m",
    "RPUSH k a; {}; SORT none{k} STORE k",
    "SET k v; {}; GETDEL k",
    "SET k v; {}; GETEX k PXAT 1; EXISTS k",
    "SET k v; {}; BITOP AND k none{k}",
    "SET k v; {}; SET k w PXAT 1; EXISTS k",
    pytest.param("VADD k VALUES 2 1 0 a; {}; VREM k a", marks=since(redis=(8, 0), valkey=NEVER)),
]


@pytest.mark.parametrize("command", LAST)
def test_tags_end_with_the_last_element(server, command):
    commands = split(command.replace("{}", "CACHE.TAG k a b"))
    for words in commands:
        server(*words)
    assert server("EXISTS", "k") == 0
    # A module that deletes its key tells nobody: it is found out in a moment.
    (await_nothing if "VREM" in command else assert_nothing)(server)


@FIELDS_EXPIRE
def test_tags_end_with_the_last_field_that_expires(server):
    server("HSET", "k", "f", "v", "g", "w")
    server("CACHE.TAG", "k", "a")
    server("HPEXPIRE", "k", 1, "FIELDS", 1, "f")
    wait_for(lambda: server("HEXISTS", "k", "f") == 0, "the first field's end")
    assert tags_of(server, "k") == [b"a"]
    server("HPEXPIRE", "k", 1, "FIELDS", 1, "g")
    wait_for(lambda: server("DBSIZE") == 0, "the last field's end")
    assert_nothing(server)


def test_tags_end_where_a_waiting_client_takes_the_last(server):
    """The key that BLPOP empties was made and tagged in one go, or before."""
    waiter = server.connect()
    server("RPUSH", "k", "a")
    server("CACHE.TAG", "k", "t")
    server("LPOP", "k")
    waiter.send("BLPOP", "k", 0)
    wait_for(lambda: server.info("clients")["blocked_clients"] != "0", "the waiter")
    server("MULTI")
    server("RPUSH", "k", "x")
    server("CACHE.TAG", "k", "t")
    server("EXEC")
    assert waiter.read() == [b"k", b"x"]
    assert_nothing(server)


# --- what keeps them -------------------------------------------------------------------------------
KEEP = [
    "SET k w",
    "SET k w EX 100",
    "SET k w KEEPTTL",
    "SETEX k 100 w",
    "GETSET k w",
    "MSET k w",
    "EXPIRE k 100",
    "PERSIST k",
    "TOUCH k",
    "RENAME k k",
    "OBJECT ENCODING k",
    "SADD s{k} a; SUNIONSTORE k s{k}; DEL s{k}",
    "SADD s{k} a; SINTERSTORE k s{k}; DEL s{k}",
    "SADD s{k} a; SDIFFSTORE k s{k} none{k}; DEL s{k}",
    "ZADD z{k} 1 a; ZUNIONSTORE k 1 z{k}; DEL z{k}",
    "ZADD z{k} 1 a; ZRANGESTORE k z{k} 0 -1; DEL z{k}",
    "RPUSH l{k} 2 1; SORT l{k} STORE k; DEL l{k}",
    "SET b{k} x; BITOP NOT k b{k}; DEL b{k}",
    "SET k w NX",
    "SET none{k} w XX",
    "COPY none{k} k",
    "CACHE.SET k v NX",
    "CACHE.TOUCH k",
    "CACHE.STALE k",
    "MULTI; SET k w; EXEC",
    "DEBUG RELOAD",
]


@pytest.mark.parametrize("command", KEEP)
def test_overwriting_keeps_tags(server, command):
    """On every type, whatever type it has afterwards; and they reach what is there now."""
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        run(server, command)
        assert keys_of(server, "a") == [b"k"], (kind, command)
        assert len(companions(server)) == 1 and server("DBSIZE") == 2
        assert meta(server, "k")["type"] == server("TYPE", "k")
        assert_bound(server, "k", [b"a", b"b"], (kind, command))
        assert_nothing(server, (kind, command))


ELEMENTS = [
    "SET k 1; {}; INCR k",
    "SET k v; {}; APPEND k w",
    "SET k v; {}; SETRANGE k 5 x",
    "SET k v; {}; GETEX k EX 100",
    "HSET k f v g w; {}; HDEL k f",
    "RPUSH k a b; {}; LPOP k",
    "RPUSH k a b; {}; LTRIM k 0 0",
    "SADD k a b; {}; SPOP k",
    "SADD k a b; {}; SREM k a",
    "ZADD k 1 a 2 b; {}; ZREM k a",
    "ZADD k 1 a 2 b; {}; ZPOPMIN k",
    "XADD k 1-1 f v; {}; XADD k 2-1 f v",
    "XADD k 1-1 f v; {}; XDEL k 1-1",
    "XADD k 1-1 f v; {}; XTRIM k MAXLEN 0",
    "XADD k 1-1 f v; {}; XGROUP CREATE k g 0; XREADGROUP GROUP g c STREAMS k >",
    "PFADD k a; {}; PFADD k b",
    "GEOADD k 1 1 a; {}; GEOADD k 2 2 b",
    "SETBIT k 7 1; {}; SETBIT k 3 1",
]


@pytest.mark.parametrize("command", ELEMENTS)
def test_changing_keeps_tags(server, command):
    for words in split(command.replace("{}", "CACHE.TAG k a b")):
        server(*words)
    assert keys_of(server, "b") == [b"k"]
    assert_bound(server, "k", [b"a", b"b"])
    assert_nothing(server)


def test_a_ttl_is_the_keys_alone(server):
    """What the companion was born with does not end the key, nor leave it without tags."""
    for then in ("PERSIST k", "EXPIRE k 1000", "SET k w"):
        server("MULTI")
        server("HSET", "k", "f", "v")
        server("PEXPIRE", "k", 60)
        server("CACHE.TAG", "k", "a", "b")
        server(*then.split())
        server("EXEC")
        server("SET", "clock", "v", "PX", 150)
        wait_for(lambda: server("EXISTS", "clock") == 0, "the first end to be over")
        assert server("EXISTS", "k") == 1, then
        assert_bound(server, "k", [b"a", b"b"], then)
    await_nothing(server)


# --- entries and native keys in each other's place ---------------------------------------------------
def test_an_entry_over_a_native_key_has_its_own_tags(server):
    for kind in kinds(server):
        tagged(server, kind, "k", "a", "b")
        assert server("CACHE.SET", "k", "v", "EX", 100, "TAGS", "b", "c") == b"OK"
        assert tags_of(server, "k") == [b"b", b"c"] and all_tags(server) == {b"b": 1, b"c": 1}
        assert companions(server) == []
        tagged(server, "string", "other{k}", "a")
        assert server("CACHE.SET", "other{k}", "v") == b"OK" and tags_of(server, "other{k}") == []
        assert companions(server) == [] and server("CACHE.INVALIDATE", "LOCAL", "TAGS", "a") == 0
        assert server("DEL", "k", "other{k}") == 2


def test_a_native_key_over_an_entry_has_none(server):
    server("CACHE.SET", "k", "v", "TAGS", "a")
    server("SET", "k", "native")
    assert tags_of(server, "k") == [] and all_tags(server) == {} and companions(server) == []
    assert server("CACHE.TAG", "k", "b") == 1
    assert_bound(server, "k", [b"b"])


def test_reads_of_a_tagged_string(server):
    tagged(server, "string", "k", "a", "b")
    assert server("CACHE.GET", "k") == b"v" and server("CACHE.MGET", "k") == [b"v"]
    fetched = server("CACHE.FETCH", "k", "WITHTAGS")
    assert fetched[:2] == [b"FRESH", b"v"] and sorted(fetched[4]) == [b"a", b"b"]
    assert server.error("CACHE.INCRBY", "k", 1).startswith(("WRONGTYPE", "ERR"))
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "b") == 1
    assert server("CACHE.GET", "k") is None and server("CACHE.GET", "k", "STALE") is None


def test_limits_are_those_of_entries(server):
    make(server, "hash", "k")
    names = [f"t{n}" for n in range(256)]
    assert server("CACHE.TAG", "k", *names, *names) == 256
    assert server.error("CACHE.TAG", "k", "x").startswith("TOOMANYTAGS")
    make(server, "hash", "j")
    assert server.error("CACHE.TAG", "j", *names, "x").startswith("TOOMANYTAGS")
    assert "cacheflow.max-tag-length" in server.error("CACHE.TAG", "j", "x" * 1025)
    assert tags_of(server, "j") == [] and len(companions(server)) == 1
    assert server("CACHE.TAG", "j", "", b"\x00\r\n\xff") == 2
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", "", "t7", "t8") == 3
    assert_nothing(server)


def test_what_changes_no_tag_is_no_write(server):
    tagged(server, "hash", "k", "a")
    own, watcher = companions(server), server.connect()
    watcher("WATCH", "k", own[0])
    assert server("CACHE.TAG", "k", "a") == 0 and server("CACHE.UNTAG", "k", "none") == 0
    watcher("MULTI")
    watcher("PING")
    assert watcher("EXEC") == [b"PONG"]


def test_a_wrong_request_changes_nothing(server):
    make(server, "hash", "k")
    for request in (("CACHE.TAG", "k"), ("CACHE.UNTAG", "k"), ("CACHE.TAG",)):
        with pytest.raises(ReplyError, match="wrong number"):
            server(*request)
    assert companions(server) == []
    assert_verified(server)
