"""Malformed requests: each answers the error that COMMANDS.md names and changes nothing at all."""

import random
import re

import pytest

from harness.dataset import digest
from harness.resp import ReplyError, Simple
from harness.sample import BINARY, meta, prepare
from harness.server import wait_for

SYNTAX = "ERR syntax error"
NUMBER = "ERR value is not an integer or out of range"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
OVERFLOW = "ERR increment or decrement would overflow"
PAYLOAD = "ERR refused payload: "
TIME = "ERR invalid expire time in '{}' command"
ARITY = "ERR wrong number of arguments for '{}' command"

I64_MAX = 2**63 - 1
LAST_TIME = 2**48 - 2  # ms: the last that an entry carries (src/core/units.rs)
LIMIT = 1000  # cacheflow.max-value-size in these tests

NO_INTEGERS = [
    b"x",
    b"",
    b" 1",
    b"1 ",
    b"+1",
    b"01",
    b"-0",
    b"1.5",
    b"1e3",
    b"0x10",
    b"NaN",
    b"inf",
    b"1\x00",
]
NO_INTEGERS += [b"9223372036854775808", b"-9223372036854775809", b"9" * 400, b"1\r\n", "\u0661".encode()]
NO_TIMES = [0, -1, -(2**63), I64_MAX]


def times(command, words_of, ok=()):
    """Requests with a time that is none, for `command` with `words_of(word, text)` behind it."""
    for word in ("EX", "PX", "EXAT", "PXAT", "ex", "pXaT"):
        yield from ((words_of(word, text), NUMBER) for text in NO_INTEGERS)
        yield from ((words_of(word, n), TIME.format(command)) for n in NO_TIMES)
    # One past the last that can be carried, by itself or added to now.
    yield words_of("PXAT", LAST_TIME + 1), TIME.format(command)
    yield words_of("EXAT", LAST_TIME // 1000 + 1), TIME.format(command)
    yield words_of("PX", LAST_TIME), TIME.format(command)
    yield words_of("EX", LAST_TIME // 1000), TIME.format(command)
    for word in ("GRACE", "PGRACE"):
        yield from (([*words_of(word, text), "EX", 1], NUMBER) for text in NO_INTEGERS)
        yield from (([*words_of(word, n), "EX", 1], TIME.format(command)) for n in (-1, -(2**63), I64_MAX))
        yield ["EX", 1, word, LAST_TIME], TIME.format(command)


def _get():
    yield ["CACHE.GET"], ARITY.format("cache.get")
    for options in (
        ["x"],
        ["STALER"],
        [""],
        ["STALE", "STALE"],
        ["STALE", "x"],
        ["STALE\x00"],
        ["k", "k", "k"],
    ):
        yield ["CACHE.GET", "k", *options], SYNTAX
    for key in ("list", "hash", "set", "zset", "stream"):
        yield ["CACHE.GET", key], WRONGTYPE
        yield ["CACHE.GET", key, "STALE"], WRONGTYPE


def _mget():
    yield ["CACHE.MGET"], ARITY.format("cache.mget")


def _set():
    for arguments in ([], ["k"]):
        yield ["CACHE.SET", *arguments], ARITY.format("cache.set")
    for line in (
        "bogus|EX|PX|EXAT|PXAT|GRACE|PGRACE|COST|NX XX|XX NX|NX EX|EX 1 PX 1|EX 1 EX 1|EX 1 EXAT 1"
        "|PXAT 1 PX 1|EX 1 KEEPTTL|KEEPTTL EX 1|KEEPTTL KEEPTTL|KEEPTTL PERSIST|PERSIST EX 1|PERSIST PERSIST"
        "|EX 1 GRACE|GRACE 1 PGRACE 1|GRACE 1 GRACE 1 EX 1|COST 1 COST 1|KEEPTTL GRACE 1"
        "|GRACE 0 KEEPTTL|EX 1 x|1|EX 1 1|STALE|EXX 1|E 1|EX 1 NX GRACE 1 COST 1 bogus"
    ).split("|"):
        yield ["CACHE.SET", "k", "w", *line.split()], SYNTAX
    yield ["CACHE.SET", "k", "w", ""], SYNTAX
    yield ["CACHE.SET", "k", "w", b"EX\x00", 1], SYNTAX
    for options, error in times("cache.set", lambda word, text: [word, text]):
        yield ["CACHE.SET", "k", "w", *options], error
    for condition, key in (("NX", "new"), ("XX", "k"), ("NX", "k"), ("XX", "new")):
        yield ["CACHE.SET", key, "w", condition, "EX", 0], TIME.format("cache.set")
        yield ["CACHE.SET", key, "w", condition, "PX", I64_MAX], TIME.format("cache.set")
    for cost in (*NO_INTEGERS, -1, 2**32, I64_MAX):
        yield ["CACHE.SET", "k", "w", "COST", cost], NUMBER
    for size in (LIMIT + 1, LIMIT * 50):
        yield (
            ["CACHE.SET", "k", b"\xff" * size],
            f"TOOBIG value of {size} bytes exceeds cacheflow.max-value-size",
        )
        yield ["CACHE.SET", "new", b"w" * size, "NX", "EX", 5], f"TOOBIG value of {size} bytes exceeds"


def _touch():
    yield ["CACHE.TOUCH"], ARITY.format("cache.touch")
    for (
        line
    ) in "bogus|EX|PX|GRACE|NX|XX|KEEPTTL|PERSIST|COST 5|EX 1 EX 1|EX 1 PXAT 1|GRACE 1 PGRACE 1|x 1".split(
        "|"
    ):
        yield ["CACHE.TOUCH", "k", *line.split()], SYNTAX
        yield ["CACHE.TOUCH", "new", *line.split()], SYNTAX
    for options, error in times("cache.touch", lambda word, text: [word, text]):
        yield ["CACHE.TOUCH", "k", *options], error


def _del():
    yield ["CACHE.DEL"], ARITY.format("cache.del")


def _stale():
    yield ["CACHE.STALE"], ARITY.format("cache.stale")


def _incrby():
    for arguments in ([], ["n"], ["n", 1, 1]):
        yield ["CACHE.INCRBY", *arguments], ARITY.format("cache.incrby")
    for text in NO_INTEGERS:
        yield ["CACHE.INCRBY", "n", text], NUMBER
        yield ["CACHE.INCRBY", "new", text], NUMBER
    for key in ("k", "empty", "binary", "huge"):
        yield ["CACHE.INCRBY", key, 1], NUMBER
    yield ["CACHE.INCRBY", "n", I64_MAX], OVERFLOW
    yield ["CACHE.INCRBY", "low", -1], OVERFLOW
    for key in ("native", "list", "hash", "set", "zset", "stream"):
        yield ["CACHE.INCRBY", key, 1], WRONGTYPE


def _meta():
    for arguments in ([], ["k", "k"], ["k", "STALE"]):
        yield ["CACHE.META", *arguments], ARITY.format("cache.meta")


def _apply():
    good = b"\x01\x00\x01"
    for arguments in ([], ["k"], ["k", 0]):
        yield ["CACHE.APPLY", *arguments], ARITY.format("cache.apply")
    yield ["CACHE.APPLY", "k", 0, good, "v", "v"], SYNTAX
    for at in (*NO_INTEGERS, -1):
        yield ["CACHE.APPLY", "k", at, good, "v"], NUMBER
    for at in (LAST_TIME + 1, I64_MAX):
        yield ["CACHE.APPLY", "k", at, good, "v"], TIME.format("cache.apply")
    for bad in (
        b"",
        b"\x01",
        b"\x02\x00\x01",
        good + b"\x00",
        b"\x01\x80\x01",
        b"\xff" * 300,
        b"\r\n",
        good * 50,
    ):
        yield ["CACHE.APPLY", "k", 0, bad, "v"], PAYLOAD
        yield ["CACHE.APPLY", "new", 0, bad, "v"], PAYLOAD
        yield ["CACHE.APPLY", "k", 0, bad], PAYLOAD
    for key in ("new", "native", "list"):
        yield ["CACHE.APPLY", key, 0, good], "ERR no entry to apply this to"
    size = LIMIT + 1
    yield ["CACHE.APPLY", "k", 0, good, b"w" * size], f"TOOBIG value of {size} bytes exceeds"


# An error that ends in a variable part is compared up to it.
OPEN_ENDED = ("TOOBIG", PAYLOAD)


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


class Unchanged:
    """Everything by which a client, a replica, a save point or a file could tell of a change."""

    def __init__(self, topology):
        self.topology, self.server = topology, topology.primary
        for server in topology.servers:
            server.config("repl-ping-replica-period", 3600)
        self.server.config("notify-keyspace-events", "KEA")
        self.events = self.server.connect()
        self.events("PSUBSCRIBE", "__key*", "end")
        self.events.read()  # the second pattern's answer
        self.watcher = self.server.connect()
        self.watcher("WATCH", "k", "stale", "n", "new", "native", "list", "low")
        # Valkey frees what FLUSHALL took away in the background: entries and bytes still fall.
        wait_for(lambda: self.server.info("memory")["lazyfree_pending_objects"] == "0", "lazy frees")
        self.was = self.seen()

    def seen(self):
        """The figures that must not move."""
        info = self.server("INFO", "everything").decode().splitlines()
        names = (
            "rdb_changes_since_last_save:",
            "master_repl_offset:",
            "cacheflow_writes:",
        )
        names += ("cacheflow_entries:", "cacheflow_bytes:", "cacheflow_unlinked:", "cacheflow_panics:")
        # Of what was written before, some may still wait to be flushed.
        aof = ("aof_current_size:", "aof_buffer_length:")
        aof = sum(int(line.split(":")[1]) for line in info if line.startswith(aof))
        return digest(self.server), aof, [line for line in info if line.startswith(names)]

    def check(self, what):
        """Assert that nothing moved; cheap enough for every request."""
        now = self.seen()
        assert now == self.was, f"{what} changed something: {self.was} became {now}"

    def end(self):
        """Assert that nobody was told of a change."""
        self.server("PUBLISH", "end", "x")
        message = self.events.read()
        assert message[1] == b"end", f"an event of an error: {message}"
        self.watcher("MULTI")
        self.watcher("PING")
        assert self.watcher("EXEC") == [b"PONG"], "an error broke a WATCH"


FORMS = {
    form.__name__[1:]: form for form in (_get, _mget, _set, _touch, _del, _stale, _incrby, _meta, _apply)
}


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


def test_the_errors_of_a_full_server_change_nothing(server):
    fill(server)
    was = digest(server)
    server.config("maxmemory", 1)
    for request in ("CACHE.SET k w", "CACHE.SET new w EX 5", "CACHE.TOUCH k", "CACHE.INCRBY n 1"):
        assert server.error(*request.split()).startswith("OOM"), request
    assert server("CACHE.GET", "k") == b"v"
    assert digest(server) == was
    assert server("CACHE.STALE", "k") == 1 and server("CACHE.DEL", "k", "n") == 2
    server.config("maxmemory", 0)


# --- what looks hostile and is legal ---------------------------------------------------------------
NAMES = [b"", b"\x00", b"a\x00b", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"{", b"%s%n%d", b"\xff\xfe", BINARY]
NAMES += [b"n" * size for size in (255, 256, 65535, 65536)]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name[:8]!r}-{len(name)}")
def test_any_bytes_are_a_key_and_a_value(server, name):
    assert server("CACHE.SET", name, name, "EX", 100, "GRACE", 100) == b"OK"
    assert server("CACHE.GET", name) == name
    assert server("CACHE.MGET", name, "none", name) == [name, None, name]
    found = meta(server, name)
    assert found["state"] == b"fresh" and found["bytes"] == len(name)
    assert server("CACHE.TOUCH", name) == 1
    assert server("CACHE.STALE", name) == 1
    assert server("CACHE.GET", name) is None and server("CACHE.GET", name, "STALE") == name
    assert server.error("CACHE.INCRBY", name, 1) == NUMBER
    assert server("RENAME", name, b"other") == b"OK"
    assert server("CACHE.GET", b"other", "STALE") == name
    assert server("COPY", b"other", name) == 1
    assert server("CACHE.DEL", name, b"other") == 2
    assert server("CACHE.SET", name, name, "PX", 100_000, "COST", 7) == b"OK"  # left for the topology's check


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
    r"|ERR value is not an integer or out of range"
    r"|ERR invalid expire time in 'cache\.(set|touch|apply)' command"
    r"|WRONGTYPE Operation against a key holding the wrong kind of value"
    r"|TOOBIG value of \d+ bytes exceeds cacheflow\.max-value-size \(\d+\)"
    r"|ERR wrong number of arguments for 'cache\.[a-z]+' command"
    r"|ERR increment or decrement would overflow"
    r"|ERR no entry to apply this to"
    r"|ERR refused payload: [a-zA-Z0-9 ,-]+)"
)


def requests(seed, count):
    """Random requests: some valid, most not."""
    dice = random.Random(seed)
    for _ in range(count):
        command = f"CACHE.{dice.choice(list(FORMS))}"
        request = [command.upper() if dice.random() < 0.8 else command.title()]
        for at in range(dice.choice((0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 9))):
            kinds = (
                (KEYS,) if at == 0 and dice.random() < 0.9 else (WORDS, WORDS, NUMBERS, NUMBERS, ODD, KEYS)
            )
            word = dice.choice(dice.choice(kinds))
            request.append(word.lower() if isinstance(word, str) and dice.random() < 0.2 else word)
        yield request


@pytest.mark.parametrize("seed", [1, 2])
def test_random_requests_are_answered_and_echo_nothing(server, seed):
    fill(server)
    server.config("cacheflow.max-value-size", LIMIT)
    sent = list(requests(seed, 4000))
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
