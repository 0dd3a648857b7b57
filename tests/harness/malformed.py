"""Malformed requests of every command, each with the error that it must be answered with.

What they are sent to is `fill` of tests/test_bad_input.py, under a cacheflow.max-value-size of LIMIT.
"""

from . import msgpack
from .malformed_words import (
    ARITY,
    CURSOR,
    I64_MAX,
    LAST_TIME,
    LIMIT,
    NATIVE,
    NO_COUNTS,
    NO_INTEGERS,
    NUMBER,
    OVERFLOW,
    PAYLOAD,
    RESERVED,
    STATE,
    SYNTAX,
    TIME,
    WRONGTYPE,
    times,
)
from .payload import STAMP_LIMIT


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
    for line in "LEASE|LEASE 5 NX|XX LEASE 5|LEASE 5 LEASE 5|LEASE 5 LEASE|EX 5 LEASE|LEASE 5 BLOCK 5".split(
        "|"
    ):
        for key in ("k", "new"):
            yield ["CACHE.SET", key, "w", *line.split()], SYNTAX
    yield from _tokens(["CACHE.SET", "k", "w", "LEASE"], [])
    yield from _tokens(["CACHE.SET", "new", "w", "EX", 5, "LEASE"], ["TAGS", "one"])
    # A fill that would be refused is told what is wrong with it all the same.
    yield ["CACHE.SET", "k", "w", "LEASE", 5, "EX", 0], TIME.format("cache.set")
    yield ["CACHE.SET", "k", b"w" * (LIMIT + 1), "LEASE", 5], f"TOOBIG value of {LIMIT + 1} bytes exceeds"
    yield ["CACHE.SET", "k", "w", "LEASE", 5, "TAGS"], SYNTAX
    yield from _tags_of(["CACHE.SET", "k", "w", "LEASE", 5, "TAGS"])
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

    yield from _tags_of(["CACHE.SET", "k", "w", "TAGS"])
    yield from _tags_of(["CACHE.SET", "new", "w", "NX", "EX", 5, "TAGS"])
    for line in ("TAGS", "EX 1 TAGS", "NX KEEPTTL TAGS", "bogus TAGS a", "EX 1 EX 1 TAGS a"):
        yield ["CACHE.SET", "k", "w", *line.split()], SYNTAX
    yield ["CACHE.SET", "k", "w", "EX", "TAGS", "a"], NUMBER
    yield ["CACHE.SET", "k", "w", "EX", 0, "TAGS", "a"], TIME.format("cache.set")


def _tokens(before, after):
    """What stands where a token must and is no integer. (An integer that was granted to nobody is an
    answer: the fill is refused.)"""
    yield from (([*before, text, *after], NUMBER) for text in NO_INTEGERS)


# Lengths of time in ms: past the last that can be carried, and negative.
NO_LENGTHS = [*NO_COUNTS, -(2**63), LAST_TIME + 1, 2**53, I64_MAX, 2**64 - 1, 2**64]


def _lengths(before, after=(), zero=False):
    """What stands where a length must and is none; `zero`: whether that is one."""
    for text in NO_LENGTHS if zero else [0, *NO_LENGTHS]:
        yield [*before, text, *after], NUMBER


def _fetch():
    yield ["CACHE.FETCH"], ARITY.format("cache.fetch")
    for line in (
        "x|LEASE|BLOCK|MAXSTALE|BETA|KEEP KEEP|WITHTAGS WITHTAGS|LEASE 5 LEASE 5|BLOCK 5 BLOCK 5"
        "|BETA 1 BETA 1|MAXSTALE 5 MAXSTALE 5|KEEP 5|5|STALE|LEASE 5 BLOCK|KEEP LEASE|TAGS|NX|WITHTAGS 1"
        "|BLOCK 0 MAXSTALE 0 y|NAMESPACE a|TIMEOUT 5|LEASES 5|KEEPTTL"
    ).split("|"):
        for key in ("k", "new", "stale", "list"):
            yield ["CACHE.FETCH", key, *line.split()], SYNTAX
    for word in ("", b"KEEP\x00", b"\xff"):
        yield ["CACHE.FETCH", "new", word], SYNTAX
    for key in ("new", "k"):
        yield from _lengths(["CACHE.FETCH", key, "LEASE"], ["KEEP"])
        yield from _lengths(["CACHE.FETCH", key, "KEEP", "BLOCK"], zero=True)
        yield from _lengths(["CACHE.FETCH", key, "MAXSTALE"], ["BLOCK", 5], zero=True)
        for text in (
            *(b"x", b"", b" 1", b"1 ", b"0x10", b"1\x00", b"1,5", b"\xff", b"1e", b"--1", b"1_0"),
            *("NaN", "nan", "-nan", "inf", "-inf", "+inf", "infinity", "1e999", "-1", "-0.001", "-1e-300"),
            *("9" * 400, -(2**63), "\u0661"),
        ):
            yield ["CACHE.FETCH", key, "BETA", text], NUMBER
    for key in ("list", "hash", "set", "zset", "stream"):
        for options in ([], ["BLOCK", 0], ["WITHTAGS", "LEASE", 5, "KEEP"]):
            yield ["CACHE.FETCH", key, *options], WRONGTYPE


def _lock():
    for arguments in ([], ["new"]):
        yield ["CACHE.LOCK", *arguments], ARITY.format("cache.lock")
    for line in "5 BLOCK|5 5|5 x|5 BLOCK 5 BLOCK 5|5 BLOCK 5 x|5 RETRY 5|5 KEEP|5 LEASE 5|5 NX".split("|"):
        for key in ("new", "k", "list"):
            yield ["CACHE.LOCK", key, *line.split()], SYNTAX
    yield ["CACHE.LOCK", "new", 5, ""], SYNTAX
    for key in ("new", "k", "list"):
        yield from _lengths(["CACHE.LOCK", key])
        yield from _lengths(["CACHE.LOCK", key], ["BLOCK", 0])
        yield from _lengths(["CACHE.LOCK", key, 5, "BLOCK"], zero=True)


def _unlock():
    for arguments in ([], ["new"]):
        yield ["CACHE.UNLOCK", *arguments], ARITY.format("cache.unlock")
    for line in "5 RETRY|5 5|5 x|5 RETRY 5 RETRY 5|5 RETRY 5 x|5 BLOCK 5|5 KEEP".split("|"):
        yield ["CACHE.UNLOCK", "new", *line.split()], SYNTAX
    yield from _tokens(["CACHE.UNLOCK", "new"], [])
    yield from _tokens(["CACHE.UNLOCK", "k"], ["RETRY", 5])
    yield from _lengths(["CACHE.UNLOCK", "k", 5, "RETRY"], zero=True)


def _extend():
    for arguments in ([], ["new"], ["new", 5], ["new", 5, 5, 5], ["new", 5, "BLOCK", 5]):
        yield ["CACHE.EXTEND", *arguments], ARITY.format("cache.extend")
    yield from _tokens(["CACHE.EXTEND", "new"], [5])
    yield from _lengths(["CACHE.EXTEND", "new", 5])


def _applylock():
    for arguments in ([], ["new"], ["new", 5], ["new", 5, 0], ["new", 5, 0, 0, 0]):
        yield ["CACHE.APPLYLOCK", *arguments], ARITY.format("cache.applylock")
    for ends in (0, LAST_TIME):
        yield from _tokens(["CACHE.APPLYLOCK", "new"], [ends, 0])
        # It would have the shard's clock stand still for years.
        yield ["CACHE.APPLYLOCK", "new", STAMP_LIMIT - 1, ends, 0], STATE + "Stamp"
    for ends in NO_LENGTHS:
        yield ["CACHE.APPLYLOCK", "new", 5, ends, 0], NUMBER
    for marks in (*NO_COUNTS, 4, 5, 2**32, 2**64 - 1):
        yield ["CACHE.APPLYLOCK", "new", 5, LAST_TIME, marks], NUMBER


def _tags_of(request):
    """Too many tags and too long ones, behind a request that ends where tags begin."""
    yield (
        [*request, *(f"x{n}" for n in range(300))],
        "TOOMANYTAGS 300 tags exceed cacheflow.max-tags-per-entry",
    )
    for size in (1025, 65535, 65536):
        yield [*request, "a", b"x" * size], f"ERR tag of {size} bytes exceeds cacheflow.max-tag-length (1024)"


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
    for line in "LEASE|LEASE 5 LEASE 5|EX 5 LEASE|LEASE 5 NX|LEASE 5 TAGS one|LEASE 5 COST 5".split("|"):
        yield ["CACHE.TOUCH", "k", *line.split()], SYNTAX
        yield ["CACHE.TOUCH", "new", *line.split()], SYNTAX
    yield from _tokens(["CACHE.TOUCH", "k", "EX", 5, "LEASE"], [])
    yield from _tokens(["CACHE.TOUCH", "new", "LEASE"], ["GRACE", 5])
    yield ["CACHE.TOUCH", "k", "LEASE", 5, "EX", 0], TIME.format("cache.touch")


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
    for key in NATIVE:
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


def _tag():
    for arguments in ([], ["t"]):
        yield ["CACHE.TAG", *arguments], ARITY.format("cache.tag")
    # With the four that it has they are 256 + 4, of which 256 may be.
    yield (
        ["CACHE.TAG", "t", *(f"x{n}" for n in range(256))],
        "TOOMANYTAGS 260 tags exceed cacheflow.max-tags-per-entry",
    )
    for size in (1025, 65536):
        yield (
            ["CACHE.TAG", "t", "new", b"x" * size],
            f"ERR tag of {size} bytes exceeds cacheflow.max-tag-length (1024)",
        )
    for key in ("~cf", "~cf{@@@}", b"~cf\x00"):
        yield ["CACHE.TAG", key, "one"], RESERVED


def _untag():
    for arguments in ([], ["t"]):
        yield ["CACHE.UNTAG", *arguments], ARITY.format("cache.untag")


def _invalidate():
    for arguments in ([], ["TAGS"], ["one"], ["NAMESPACE"]):
        yield ["CACHE.INVALIDATE", *arguments], ARITY.format("cache.invalidate")
    for line in (
        "SOFT TAGS|SOFT NAMESPACE|SOFT LOCAL|TIMEOUT 5|TIMEOUT 5 TAGS|LOCAL SOFT TIMEOUT 5|one two|TAG one"
        "|SOFT SOFT TAGS one|LOCAL LOCAL TAGS one|TIMEOUT 1 TIMEOUT 1 TAGS one|SOFT one TAGS two"
        "|HARD TAGS one|one TAGS two|SOFT TIMEOUT|NAMESPACES space|LOCAL bogus NAMESPACE space|5 TAGS one"
    ).split("|"):
        yield ["CACHE.INVALIDATE", *line.split()], SYNTAX
    for word in ("", b"TAGS\x00", b"\xff"):
        yield ["CACHE.INVALIDATE", word, "one"], SYNTAX
    for text in (*NO_COUNTS, "TAGS"):
        yield ["CACHE.INVALIDATE", "TIMEOUT", text, "TAGS", "one"], NUMBER
    for what in ("TAGS", "NAMESPACE"):
        yield (
            ["CACHE.INVALIDATE", what, "one", "space", b"x" * 65536],
            "ERR tag of 65536 bytes exceeds cacheflow.max-tag-length (65535)",
        )


def _invalidated():
    for arguments in ([], [5], [5, "HARD", "TAGS"]):
        yield ["CACHE.INVALIDATED", *arguments], ARITY.format("cache.invalidated")
    for stamp in (*NO_COUNTS, STAMP_LIMIT, I64_MAX, 2**64 - 1):
        yield ["CACHE.INVALIDATED", stamp, "HARD", "TAGS", "one"], NUMBER
    for line in ("HARDER TAGS one", "HARD TAG one", "TAGS HARD one", "SOFT SOFT one", "LOCAL TAGS one"):
        yield ["CACHE.INVALIDATED", 5, *line.split()], SYNTAX
    yield ["CACHE.INVALIDATED", 5, "", "TAGS", "one"], SYNTAX
    yield (
        ["CACHE.INVALIDATED", 5, "HARD", "TAGS", "one", b"x" * 65536],
        "ERR tag of 65536 bytes exceeds cacheflow.max-tag-length (65535)",
    )


def _applystate():
    for arguments in ([], [b"\x80", b"\x80"]):
        yield ["CACHE.APPLYSTATE", *arguments], ARITY.format("cache.applystate")
    good = {"stamp": 1, "low_water": 1, "parts": 0}
    record = [0, False, b"one", 1, 0]
    for state in (
        *(b"", b"\x00", b"\xc1", b"\xff" * 300, b"\r\n", b"\xdd\xff\xff\xff\xff", b"\xdf" * 9),
        *(msgpack.encode(good)[:at] for at in range(1, len(msgpack.encode(good)))),
        *(msgpack.encode([record])[:at] for at in range(1, len(msgpack.encode([record])))),
        msgpack.encode(good | {"stamp": -1}),
        msgpack.encode(good | {"stamp": "1"}),
        msgpack.encode(good | {"parts": 2**22 + 1}),
        msgpack.encode([[2**31, False, b"one", 1, 0]]),
        msgpack.encode([[-1, False, b"one", 1, 0]]),
        msgpack.encode([[0, 1, b"one", 1, 0]]),
        msgpack.encode([[0, False, b"one", 1]]),
        msgpack.encode([[0, False, b"one", 1, 0, 0]]),
        msgpack.encode([[0, False, b"x" * 65536, 1, 0]]),
        msgpack.encode([record, [0, True, b"space", 1]]),
    ):
        yield ["CACHE.APPLYSTATE", state], STATE + "Malformed"
    yield ["CACHE.APPLYSTATE", msgpack.encode(good | {"locks": 2**22 + 1})], STATE + "Malformed"
    yield ["CACHE.APPLYSTATE", msgpack.encode(good | {"locks": -1})], STATE + "Malformed"
    lock = [0, b"new", 5, LAST_TIME, 5, True, False]
    for at in range(1, len(msgpack.encode([lock]))):
        yield ["CACHE.APPLYSTATE", msgpack.encode([lock])[:at]], STATE + "Malformed"
    for place, value in (
        *((0, 2**31), (0, -1), (0, True), (1, 5), (1, [5]), (2, -1), (2, b"5"), (3, LAST_TIME + 1)),
        *((3, 2**64 - 1), (3, -1), (4, -1), (4, b""), (5, 1), (6, 0), (6, "true")),
    ):
        broken = [value if at == place else part for at, part in enumerate(lock)]
        yield ["CACHE.APPLYSTATE", msgpack.encode([broken])], STATE + "Malformed"
        yield ["CACHE.APPLYSTATE", msgpack.encode([lock, broken])], STATE + "Malformed"
    yield ["CACHE.APPLYSTATE", msgpack.encode([lock[:-1]])], STATE + "Malformed"
    yield ["CACHE.APPLYSTATE", msgpack.encode([[*lock, 0]])], STATE + "Malformed"
    yield ["CACHE.APPLYSTATE", msgpack.encode([lock, record])], STATE + "Malformed"
    yield ["CACHE.APPLYSTATE", msgpack.encode([record, lock])], STATE + "Malformed"
    # What no clock draws, and what none will for years: it would have the shard's clock stand still.
    for stamp in (STAMP_LIMIT - 1, STAMP_LIMIT, 2**64 - 1):
        late = [0, b"late", stamp, LAST_TIME, 5, True, False]
        yield ["CACHE.APPLYSTATE", msgpack.encode([lock, late])], STATE + "Stamp"
    for stamp in (STAMP_LIMIT - 1, STAMP_LIMIT, 2**64 - 1):
        for field in ("stamp", "low_water"):
            yield ["CACHE.APPLYSTATE", msgpack.encode(good | {field: stamp})], STATE + "Stamp"
        for stamps in ((stamp, 0), (0, stamp), (stamp, stamp)):
            part = [record, [0, True, b"space", *stamps]]
            yield ["CACHE.APPLYSTATE", msgpack.encode(part)], STATE + "Stamp"


def _pages(request, matches):
    """Cursors and what may stand behind them."""
    for text in (*NO_COUNTS, "MATCH", "COUNT", 2**64):
        yield [*request, text], CURSOR
    for line in "COUNT|x|COUNT 0|COUNT 1 COUNT 2|x y|COUNT 1 x|COUNT 5 MATCH|1 2|STALE 5".split("|"):
        yield [*request, 0, *line.split()], SYNTAX
    for line in ("MATCH a MATCH b", "MATCH") if matches else ("MATCH a", "MATCH a COUNT 5"):
        yield [*request, 0, *line.split()], SYNTAX
    for text in (*NO_COUNTS, "MATCH", 2**64):
        yield [*request, 0, "COUNT", text], NUMBER


def _tags():
    yield ["CACHE.TAGS"], ARITY.format("cache.tags")
    yield from _pages(["CACHE.TAGS"], True)


def _keys():
    for arguments in ([], ["one"]):
        yield ["CACHE.KEYS", *arguments], ARITY.format("cache.keys")
    yield from _pages(["CACHE.KEYS", "one"], False)
    yield from _pages(["CACHE.KEYS", "none"], False)


def _log():
    for text in NO_COUNTS:
        yield ["CACHE.LOG", text], NUMBER
    for line in ("5 5", "RESET RESET", "RESET 5", "5 RESET", "x y"):
        yield ["CACHE.LOG", *line.split()], SYNTAX
    yield ["CACHE.LOG", "RESETS"], NUMBER


def _hotkeys():
    for line in ("BY", "BY x", "COUNT", "COUNT 0", "HITS", "BY HITS BY HITS", "COUNT 5 COUNT 5", "x y"):
        yield ["CACHE.HOTKEYS", *line.split()], SYNTAX
    for text in NO_COUNTS:
        yield ["CACHE.HOTKEYS", "COUNT", text], NUMBER


def _refresh():
    for line in ("NAMESPACE", "COUNT", "LEASE", "BLOCK", "COUNT 0", "KEEP", "BLOCK 1 BLOCK 1", "x y"):
        yield ["CACHE.REFRESH", *line.split()], SYNTAX
    for line in ("LEASE 0", "LEASE x", "LEASE -1", "BLOCK x", "BLOCK -1"):
        yield ["CACHE.REFRESH", *line.split()], NUMBER
    for text in NO_COUNTS:
        yield ["CACHE.REFRESH", "COUNT", text], NUMBER


def _stats():
    for line in ("x", "NAMESPACE", "RESETS", "RESET RESET", "NAMESPACE a b", "a b", "NAMESPACE a RESET", "5"):
        yield ["CACHE.STATS", *line.split()], SYNTAX
    yield ["CACHE.STATS", ""], SYNTAX


def _namespace():
    for words in ([], ["SET"], ["GET"], ["DEL"], ["GET", "n", "n"], ["LIST", "n"], ["DEL", "n", "n"]):
        name = "|".join(["cache.namespace", *(word.lower() for word in words[:1])])
        yield ["CACHE.NAMESPACE", *words], ARITY.format(name)
    yield ["CACHE.NAMESPACE", "PUT", "n"], "ERR unknown subcommand 'PUT'. Try CACHE.NAMESPACE HELP."
    change = ["CACHE.NAMESPACE", "SET", "n", "TTL", 5]
    for line in (
        "x|GRACE|EX 5|TTL 5|MAXFILLS|EXAUTO|EXAUTO 5|BREAKER|BREAKER 5|POLICY|POLICY lfu|POLICY 1"
        "|POLICY COST x|GRACE 5 GRACE 5|POLICY LRU POLICY LRU|MAXMEMORY 5 x|KEEPTTL|NX"
    ).split("|"):
        yield [*change, *line.split()], SYNTAX
    for text in [*NO_INTEGERS, "TTL"]:
        for before, after in (
            *(([word], []) for word in ("GRACE", "MAXFILLS", "MAXMEMORY")),
            *((["EXAUTO"], [5]), (["EXAUTO", 5], []), (["BREAKER"], [5]), (["BREAKER", 5], [])),
        ):
            yield [*change, *before, text, *after], NUMBER
    numbers = "MAXFILLS -1|MAXMEMORY -1|MAXMEMORY 1tb|BREAKER 101 5|BREAKER -1 5|BREAKER 5 0|BREAKER 5 -1"
    for line in numbers.split("|"):
        yield [*change, *line.split()], NUMBER
    for line in (
        f"GRACE -1|GRACE {2**46 + 1}|GRACE {I64_MAX}|EXAUTO 0 5|EXAUTO 6 5|EXAUTO 5 0|EXAUTO -1 5|EXAUTO 5 -1"
        f"|EXAUTO 5 {2**46}|EXAUTO 5 {I64_MAX}"
    ).split("|"):
        yield [*change, *line.split()], TIME.format("cache.namespace|set")
    yield ["CACHE.NAMESPACE", "SET", b"n" * 1025, "TTL", 5], "ERR name of a namespace exceeds 1024 bytes"


def _verify():
    for line in ("x", "REPAIRS", "REPAIR x", "REPAIR REPAIR", "0"):
        yield ["CACHE.VERIFY", *line.split()], SYNTAX


FORMS = {
    form.__name__[1:]: form
    for form in (
        *(_get, _mget, _set, _touch, _del, _stale, _incrby, _meta, _apply),
        *(_fetch, _lock, _unlock, _extend, _applylock),
        *(_tag, _untag, _invalidate, _invalidated, _applystate, _tags, _keys, _log),
        *(_hotkeys, _refresh, _stats, _verify, _namespace),
    )
}
