"""Malformed requests: each answers the error that COMMANDS.md names and changes nothing at all."""

import random
import re
import time

import pytest

from harness.cluster_client import beside
from harness.dataset import digest
from harness.leases import lease, wait_in_line
from harness.malformed import FORMS, I64_MAX, LAST_TIME, LIMIT, NUMBER, PAYLOAD
from harness.resp import ReplyError, Simple, fields
from harness.sample import BINARY, meta, prepare
from harness.server import wait_for

# An error that ends in a variable part is compared up to it.
OPEN_ENDED = ("TOOBIG", "TOOMANYTAGS", PAYLOAD)


def fill(server):
    """What the requests find: entries, and a native key of every type."""
    prepare(server)
    server("CACHE.SET", "empty", "", "EX", 1000)
    server("CACHE.SET", "binary", BINARY, "EX", 1000)
    server("CACHE.SET", "huge", "9" * 30, "EX", 1000)
    server("CACHE.SET", "low", -(2**63))
    server("RPUSH", "list", "a")
    server("HSET", "hash", "a", 1)
    server("SADD", "set", "a")
    server("ZADD", "zset", 1, "a")
    server("XADD", "stream", "*", "a", 1)


WATCHED = ("k", "stale", "n", "new", "native", "list", "low", "t", "space:t")


class Unchanged:
    """Everything by which a client, a replica, a save point or a file could tell of a change."""

    def __init__(self, topology):
        self.topology, self.server = topology, topology.primary
        topology.hush()
        self.server.config("notify-keyspace-events", "KEA")
        self.events = self.server.connect()
        self.events("PSUBSCRIBE", "__key*", "cache:*", "end")
        self.events.read(), self.events.read()  # the other patterns' answers
        self.watchers = [self.server.connect() for _ in WATCHED]
        for watcher, key in zip(self.watchers, WATCHED, strict=True):
            watcher("WATCH", key)
        # Valkey frees what FLUSHALL took away in the background: entries and bytes still fall.
        wait_for(lambda: self.server.info("memory")["lazyfree_pending_objects"] == "0", "lazy frees")
        # Their tags are let go of by the next tick of the cron.
        wait_for(lambda: self.tags() == (time.sleep(0.12), self.tags())[1], "their tags")
        self.was = self.seen()

    def tags(self):
        """How many tags there are."""
        return self.server.info("cacheflow_memory")["cacheflow_tags"]

    def seen(self):
        """The figures that must not move."""
        info = self.server("INFO", "everything").decode().splitlines()
        names = (
            "rdb_changes_since_last_save:",
            "master_repl_offset:",
            "cacheflow_writes:",
        )
        names += tuple(
            f"cacheflow_{name}:"
            for name in "entries bytes unlinked panics invalidations tags memberships tombstones".split()
        )
        names += tuple(
            f"cacheflow_{name}:"
            for name in "leases locks waiters lease_keys grants fills refused_fills".split()
        )
        # Of what was written before, some may still wait to be flushed.
        aof = ("aof_current_size:", "aof_buffer_length:")
        aof = sum(int(line.split(":")[1]) for line in info if line.startswith(aof))
        logged = self.server("CACHE.LOG", 1000)
        return digest(self.server), aof, logged, [line for line in info if line.startswith(names)]

    def check(self, what):
        """Assert that nothing moved; cheap enough for every request."""
        now = self.seen()
        assert now == self.was, f"{what} changed something: {self.was} became {now}"

    def end(self):
        """Assert that nobody was told of a change."""
        self.server("PUBLISH", "end", "x")
        message = self.events.read()
        assert message[1] == b"end", f"an event of an error: {message}"
        for watcher in self.watchers:
            watcher("MULTI")
            watcher("PING")
            assert watcher("EXEC") == [b"PONG"], "an error broke a WATCH"


@pytest.mark.parametrize("command", FORMS)
def test_malformed_requests_name_what_is_wrong_and_change_nothing(topology, command):
    server = topology.primary
    fill(server)
    server.config("cacheflow.max-value-size", LIMIT)
    unchanged = Unchanged(topology)
    connection = server.connect()
    for request, error in FORMS[command]():
        shown = [str(part)[:60] for part in request]
        connection.send(*request)
        reply = connection.read()
        assert isinstance(reply, ReplyError), f"{shown}: {reply!r}"
        said = str(reply)
        assert said.startswith(error) if error.startswith(OPEN_ENDED) else said == error, f"{shown}: {said}"
        unchanged.check(shown)
    unchanged.end()


@pytest.mark.parametrize("how", ["MULTI", "script"])
def test_an_error_within_a_transaction_or_a_script_changes_nothing_either(server, how):
    fill(server)
    was = digest(server)
    for request in (
        ["CACHE.SET", "k", "w", "EX", 0],
        ["CACHE.INCRBY", "list", 1],
        ["CACHE.TOUCH", "k", "bogus"],
        ["CACHE.TAG", "list", "x" * 5000],
        ["CACHE.INVALIDATE", "SOFT", "TAGS"],
        ["CACHE.INVALIDATE", "TIMEOUT", "x", "TAGS", "one"],
        ["CACHE.FETCH", "list"],
        ["CACHE.FETCH", "new", "BETA", "NaN"],
        ["CACHE.LOCK", "new", 0, "BLOCK", 0],
        ["CACHE.UNLOCK", "new", "x"],
        ["CACHE.EXTEND", "new", 5, 0],
        ["CACHE.SET", "k", "w", "NX", "LEASE", 5],
    ):
        if how == "MULTI":
            server("MULTI")
            assert server(*request) == b"QUEUED"
            replies = server("EXEC")
            assert len(replies) == 1 and isinstance(replies[0], ReplyError)
        else:
            error = server.error("EVAL", "return redis.call(unpack(ARGV))", 0, *request)
            assert re.match("ERR|WRONGTYPE", error), error
        assert digest(server) == was, request


@pytest.mark.parametrize("how", ["FETCH", "LOCK"])
def test_an_error_leaves_a_lease_and_those_who_wait_as_they_are(server, how):
    """Whatever is wrong with what its holder sends: the grant is not ended by it, nobody is promoted."""
    fill(server)
    server.config("cacheflow.max-value-size", LIMIT)
    token = lease(server, "a", "LEASE", 60_000) if how == "FETCH" else server("CACHE.LOCK", "a", 60_000)
    waiter = wait_in_line(server, "CACHE.FETCH", "a", "BLOCK", 0)
    for request in (
        ["CACHE.SET", "a", "w", "LEASE", token, "EX", 0],
        ["CACHE.SET", "a", "w", "LEASE", token, "NX"],
        ["CACHE.SET", "a", "w", "LEASE", token, "TAGS"],
        ["CACHE.SET", "a", "w", "LEASE", token, "TAGS", *(f"x{n}" for n in range(300))],
        ["CACHE.SET", "a", "w" * (LIMIT + 1), "LEASE", token],
        ["CACHE.SET", "a", "w", "LEASE", token, "COST", -1],
        ["CACHE.TOUCH", "a", "LEASE", token, "EX", 0],
        ["CACHE.TOUCH", "a", "LEASE", token, "XX"],
        ["CACHE.UNLOCK", "a", token, "RETRY", -1],
        ["CACHE.UNLOCK", "a", token, "RETRY"],
        ["CACHE.EXTEND", "a", token, 0],
        ["CACHE.EXTEND", "a", token, 2**63],
    ):
        server.error(*request)
    found = meta(server, "a")
    assert found["waiters"] == 1 and 0 < found["lease-ms"] <= 60_000
    server.config("maxmemory", 1)
    assert server.error("CACHE.SET", "a", "w", "LEASE", token).startswith("OOM")
    server.config("maxmemory", 0)
    assert server("CACHE.SET", "a", "w", "LEASE", token, "EX", 60) == b"OK"
    assert waiter.read()[:3] == [b"FRESH", b"w", None]


def test_the_errors_of_a_full_server_change_nothing(server):
    fill(server)
    was = digest(server)
    server.config("maxmemory", 1)
    for request in (
        "CACHE.SET k w",
        "CACHE.SET new w EX 5",
        "CACHE.TOUCH k",
        "CACHE.INCRBY n 1",
        "CACHE.TAG t x",
    ):
        assert server.error(*request.split()).startswith("OOM"), request
    assert server("CACHE.GET", "k") == b"v"
    assert digest(server) == was
    assert server("CACHE.STALE", "k") == server("CACHE.DEL", "k") == server("CACHE.DEL", "n") == 1
    assert server("CACHE.UNTAG", "t", "one") == 1, "what gives memory back is done"
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", "two") == 2
    assert server("CACHE.INVALIDATE", "TAGS", "two") == 2 and server("CACHE.GET", "t", "STALE") is None
    server.config("maxmemory", 0)


# --- what looks hostile and is legal ---------------------------------------------------------------
FORGED = [0, 1, 5, -1, -(2**63), 2**53 - 1, 2**53, I64_MAX]


def test_forged_tokens_are_answered_and_do_nothing(server):
    """An integer that was granted to nobody is no error: it is not the current token."""
    fill(server)
    leased, lock = lease(server, "a", "LEASE", 60_000), server("CACHE.LOCK", "b", 60_000)
    was = digest(server)
    for key in ("a", "b", "k", "none", "native", "list"):
        for token in (*FORGED, leased - 1, leased + 1, lock - 1, lock + 1, lock if key == "a" else leased):
            assert server("CACHE.SET", key, "w", "EX", 60, "LEASE", token) is None, (key, token)
            assert server("CACHE.TOUCH", key, "LEASE", token) == 0, (key, token)
            assert server("CACHE.UNLOCK", key, token, "RETRY", 60_000) == 0, (key, token)
            assert server("CACHE.EXTEND", key, token, 5) == 0, (key, token)
            if token < 2**53 - 1:
                assert server("CACHE.APPLYLOCK", key, token, 0, 0) == b"OK", (key, token)
    assert digest(server) == was
    assert server("CACHE.EXTEND", "a", leased, 60_000) == server("CACHE.EXTEND", "b", lock, 60_000) == 1
    assert server("CACHE.SET", "a", "w", "EX", 60, "LEASE", leased) == b"OK"
    assert server("CACHE.SET", "b", "w", "EX", 60, "LEASE", lock) == b"OK"
    assert server("CACHE.LOCK", "later", 1000) > lock


def test_the_ends_of_lengths_and_betas(server):
    server("CACHE.SET", "k", "v", "EX", 100, "COST", 2**32 - 1)
    for beta in ("0", "-0", "-0.0", "0.0", "5e-324", "1e-400"):
        assert server("CACHE.FETCH", "k", "BETA", beta)[:3] == [b"FRESH", b"v", None], "nobody is elected"
    assert server("CACHE.FETCH", "k", "BETA", "1e308")[:2] == [b"FRESH", b"v"]
    for key, length in (("one", 1), ("most", LAST_TIME)):
        state, _, token, ms = server("CACHE.FETCH", key, "LEASE", length, "KEEP", "MAXSTALE", LAST_TIME)
        assert (state, ms) == (b"MISS", min(length, 600_000)) and token
    token = server("CACHE.LOCK", "lock", LAST_TIME)
    assert 0 < meta(server, "lock")["lease-ms"] <= LAST_TIME
    assert server("CACHE.EXTEND", "lock", token, LAST_TIME) == 1
    assert server("CACHE.UNLOCK", "lock", token, "RETRY", LAST_TIME) == 1
    assert server("CACHE.FETCH", "lock")[0] == b"BUSY", "the back-off has no end"
    waiter = wait_in_line(server, "CACHE.FETCH", "lock", "BLOCK", LAST_TIME)
    server("CACHE.SET", "lock", "v", "EX", 100)
    assert waiter.read()[:2] == [b"FRESH", b"v"]


NAMES = [b"", b"\x00", b"a\x00b", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"{", b"%s%n%d", b"\xff\xfe", BINARY]
NAMES += [b"n" * size for size in (255, 256, 65535, 65536)]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name[:8]!r}-{len(name)}")
def test_any_bytes_are_a_key_and_a_value(server, name):
    assert server("CACHE.SET", name, name, "EX", 100, "GRACE", 100) == b"OK"
    assert server("CACHE.GET", name) == name
    none, other = beside(name, "none"), beside(name, "other")
    assert server("CACHE.MGET", name, none, name) == [name, None, name]
    found = meta(server, name)
    assert found["state"] == b"fresh" and found["bytes"] == len(name)
    assert server("CACHE.TOUCH", name) == 1
    assert server("CACHE.STALE", name) == 1
    assert server("CACHE.GET", name) is None and server("CACHE.GET", name, "STALE") == name
    assert server.error("CACHE.INCRBY", name, 1) == NUMBER
    assert server("RENAME", name, other) == b"OK"
    assert server("CACHE.GET", other, "STALE") == name
    assert server("COPY", other, name) == 1
    assert server("CACHE.DEL", name, other) == 2
    assert server("CACHE.FETCH", name, "LEASE", 60_000, "KEEP")[0] == b"MISS"
    assert server("CACHE.UNLOCK", name, server("CACHE.FETCH", name)[2] or 0) == 0
    server("CACHE.DEL", name)
    token = server("CACHE.LOCK", name, 60_000)
    assert server("CACHE.SET", name, name, "LEASE", token) == b"OK"
    assert server("CACHE.FETCH", name)[:3] == [b"FRESH", name, None]
    assert server("CACHE.SET", name, name, "PX", 100_000, "COST", 7) == b"OK"  # left for the topology's check


@pytest.mark.parametrize("name", [*(name for name in NAMES if len(name) < 1025), b"@x", b"*", b"[", b"TAGS"])
def test_any_bytes_are_a_tag_and_a_namespace(server, name):
    assert server("CACHE.SET", "k", "v", "EX", 100, "TAGS", name, "other", name) == b"OK"
    assert server("CACHE.SET", "plain", "v", "EX", 100) == b"OK"
    assert server("CACHE.TAG", "plain", name, name) == 1 and server("CACHE.TAG", "plain", name) == 0
    assert meta(server, "k")["tags"] == [name, b"other"] and meta(server, "plain")["tags"] == [name]
    assert sorted(server("CACHE.KEYS", name, 0)[1]) == [b"k", b"plain"]
    assert server("CACHE.UNTAG", "plain", name, name) == 1
    listener = server.connect()
    listener("SUBSCRIBE", b"cache:" + name)
    listener("SUBSCRIBE", b"cache:@" + name)
    assert server("CACHE.INVALIDATE", "TAGS", name, name) == 1
    assert listener.read() == [b"message", b"cache:" + name, b"hard"]
    assert server("CACHE.GET", "k") is None and server("CACHE.GET", "plain") == b"v"
    for key in (name + b":1", b"{" + name + b":2"):
        server("CACHE.SET", key, "v", "EX", 100)
    server.wait_swept()
    metas = [meta(server, key) for key in server("KEYS", "*")]
    within = sum(found["namespace"] == name for found in metas)
    assert within >= 1 or b":" in name, "a namespace has no delimiter in its name"
    assert server("CACHE.INVALIDATE", "SOFT", "NAMESPACE", name) == within
    assert listener.read() == [b"message", b"cache:@" + name, b"soft"]
    targets = [fields(record)["target"] for record in server("CACHE.LOG")]
    assert targets == [b"@" + name, name]


def test_the_ends_of_time(server):
    server("CACHE.SET", "last", "v", "PXAT", LAST_TIME)
    server("CACHE.SET", "last-s", "v", "EXAT", LAST_TIME // 1000)
    server("CACHE.SET", "last-grace", "v", "PXAT", LAST_TIME - 5, "PGRACE", 5)
    assert server("PEXPIRETIME", "last") == server("PEXPIRETIME", "last-grace") == LAST_TIME
    assert server("CACHE.GET", "last-s") == b"v"
    assert 0 < meta(server, "last")["fresh-ms"] <= LAST_TIME
    assert server("CACHE.STALE", "last") == 1 and server("CACHE.GET", "last", "STALE") == b"v"
    server("CACHE.SET", "past", "v")
    assert server("CACHE.SET", "past", "w", "EXAT", 1) == b"OK"
    assert server("EXISTS", "past") == 0
    assert server("CACHE.SET", "past", "w", "PXAT", 1, "PGRACE", LAST_TIME - 1) == b"OK"
    assert server("CACHE.GET", "past") is None and server("CACHE.GET", "past", "STALE") == b"w"
    assert server("CACHE.TOUCH", "past", "PXAT", 1) == 1
    assert server("EXISTS", "past") == 0
    for words in ("GRACE 0", "PX 1000000 GRACE 0", "PX 100000 COST 4294967295"):
        assert server("CACHE.SET", "k", "v", *words.split()) == b"OK", words
    assert meta(server, "k")["cost-ms"] == 2**32 - 1


def test_the_limit_on_values_is_exact_and_is_none_on_what_is_there(server):
    server.config("cacheflow.max-value-size", LIMIT)
    assert server("CACHE.SET", "k", b"w" * LIMIT) == b"OK"
    assert server.error("CACHE.SET", "k", b"w" * (LIMIT + 1)).startswith("TOOBIG value of 1001 bytes exceeds")
    server.config("cacheflow.max-value-size", 1)
    assert server("CACHE.GET", "k") == b"w" * LIMIT
    assert server("CACHE.TOUCH", "k", "EX", 100) == 1 and server("CACHE.STALE", "k") == 1
    assert server("CACHE.SET", "k", "") == b"OK"


def test_a_value_of_64_megabytes(server):
    value = bytes(range(256)) * (64 << 12)
    assert len(value) == 64 << 20
    assert server("CACHE.SET", "k", value, "EX", 100, "GRACE", 100) == b"OK"
    assert server("CACHE.GET", "k") == value
    assert server("CACHE.TOUCH", "k") == 1 and server("CACHE.STALE", "k") == 1
    assert meta(server, "k")["bytes"] == len(value)
    assert server("CACHE.DEL", "k") == 1


# --- anything at all -------------------------------------------------------------------------------
MARK = b"MARK"  # in every argument that no error may echo
WORDS = "EX PX EXAT PXAT GRACE PGRACE COST NX XX KEEPTTL PERSIST STALE LEASE TAGS EXAUTO".split()
WORDS += "SOFT HARD LOCAL TIMEOUT NAMESPACE MATCH COUNT RESET REPAIR one two space".split()
WORDS += "KEEP MAXSTALE BETA WITHTAGS RETRY".split()  # no BLOCK: it would have them wait
WORDS += "MAXMEMORY TTL MAXFILLS BREAKER POLICY".split()
KEYLESS = "invalidate invalidated applystate tags keys log stats verify namespace".split()
NUMBERS = [
    0,
    1,
    5,
    60,
    1000,
    -1,
    2**31,
    2**32,
    2**48 - 2,
    2**48,
    2**53,
    I64_MAX,
    -(2**63),
    2**64,
    "1e9",
    "NaN",
]
ODD = [b"", MARK, MARK + b"\r\n-ERR x\r\n", MARK + b"\x00" * 9, MARK * 1000, MARK + b"%s%n", b"\x01\x00\x01"]
KEYS = ["k", "stale", "n", "new", "native", "list", "hash", "stream", "", MARK + b"\x00\r\n", MARK * 300]
KNOWN_ERRORS = re.compile(
    r"(ERR syntax error"
    r"|CROSSSLOT Keys in request don't hash to the same slot"
    r"|ERR value is not an integer or out of range"
    r"|ERR invalid expire time in 'cache\.(set|touch|apply|namespace\|set)' command"
    r"|WRONGTYPE Operation against a key holding the wrong kind of value"
    r"|TOOBIG value of \d+ bytes exceeds cacheflow\.max-value-size \(\d+\)"
    r"|ERR wrong number of arguments for 'cache\.[a-z|]+' command"
    r"|ERR increment or decrement would overflow"
    r"|ERR no entry to apply this to"
    r"|ERR refused payload: [a-zA-Z0-9 ,-]+"
    r"|ERR refused state: (Malformed|Stamp)"
    r"|ERR invalid cursor"
    r"|TOOMANYTAGS \d+ tags exceed cacheflow\.max-tags-per-entry \(\d+\)"
    r"|ERR tag of \d+ bytes exceeds cacheflow\.max-tag-length \(\d+\))"
)


def requests(seed, count):
    """Random requests: some valid, most not."""
    dice = random.Random(seed)
    for _ in range(count):
        name = dice.choice(list(FORMS))
        command, keyed = f"CACHE.{name}", name not in KEYLESS
        request = [command.upper() if dice.random() < 0.8 else command.title()]
        for at in range(dice.choice((0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 9))):
            kinds = (WORDS, WORDS, NUMBERS, NUMBERS, ODD, KEYS)
            if at == 0 and keyed and dice.random() < 0.9:
                kinds = (KEYS,)
            elif at == 0 and name == "invalidate" and dice.random() < 0.5:
                kinds = (["TAGS", "SOFT", "NAMESPACE"],)
            elif at == 0 and name == "namespace":
                kinds = (["SET", "GET", "LIST", "DEL"],)  # else the server echoes what it does not know
            word = dice.choice(dice.choice(kinds))
            request.append(word.lower() if isinstance(word, str) and dice.random() < 0.2 else word)
        yield request


@pytest.mark.parametrize("seed", [1, 2])
def test_random_requests_are_answered_and_echo_nothing(server, seed):
    fill(server)
    server.config("cacheflow.max-value-size", LIMIT)
    sent = list(requests(seed, 9000))
    connection = server.connect()
    replies = connection.pipeline(sent)
    errors = 0
    for request, reply in zip(sent, replies, strict=True):
        if isinstance(reply, ReplyError):
            errors += 1
            assert KNOWN_ERRORS.fullmatch(str(reply)), f"{request}: {reply}"
            assert MARK.decode() not in str(reply)
        else:
            assert reply is None or type(reply) in (int, bytes, list) or reply == b"OK", (
                f"{request}: {reply!r}"
            )
    ok = sum(reply == Simple(b"OK") for reply in replies)
    assert errors > 1000 and ok > 50, "a fuzz that reaches both sides"
    done = sum(
        type(reply) is int and request[0].upper().startswith("CACHE.INVALIDATE")
        for request, reply in zip(sent, replies, strict=True)
    )
    assert done > 20, "invalidations that were done"
    assert connection("PING") == b"PONG"
    assert server.info()["cacheflow_panics"] == "0"


def test_broken_protocol_ends_the_connection_and_nothing_else(server):
    server("CACHE.SET", "k", "v")
    for data in (
        b"*3\r\n$9\r\nCACHE.SET\r\n$1\r\nk\r\n$999999999999\r\n",
        b"*99999999999\r\n",
        b"*3\r\n$9\r\nCACHE.SET\r\n$-1\r\n",
        b"*2\r\n:1\r\n",
    ):
        connection = server.connect()
        connection.raw(data)
        assert str(connection.read()).startswith("ERR Protocol error")
    connection = server.connect()
    connection.raw(b"*3\r\n$9\r\nCACHE.SET\r\n$1\r\nk\r\n$5\r\nlo")  # and gone in the middle of the value
    connection.close()
    connection = server.connect()
    connection.raw(b'CACHE.SET inline "a\\x00b" EX 100\r\nCACHE.GET inline\r\n')
    assert connection.read() == b"OK" and connection.read() == b"a\x00b"
    assert server("CACHE.GET", "k") == b"v"
