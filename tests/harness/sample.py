"""A dataset with one of everything that an entry can be, and native keys between them."""

from .resp import fields
from .server import wait_for

BINARY = bytes(range(256)) + b"\r\n$-1\r\n"
SOFT, HARD = b"soft\x00\xff", b"hard"  # the tags that `fill` invalidates
KEYS = 26  # how many `fill` leaves, in all databases


def state(server, key):
    """The state that META names, or None."""
    meta = fields(server("CACHE.META", key))
    return meta and meta["state"]


def meta(server, key):
    """META as a dict, or None."""
    return fields(server("CACHE.META", key))


def fill(server, prefix=b"", elsewhere=3):
    """Write the sample, and where there are several databases some into another (else None); returns the
    names of its entries in database 0."""
    entries = {
        b"endless": (b"v",),
        b"fresh": (b"fresh", "EX", 1000),
        b"grace": (b"grace", "PX", 600_000, "PGRACE", 900_000),
        b"cost": (b"cost", "EX", 1000, "GRACE", 500, "COST", 1234),
        b"empty": (b"", "EX", 1000),
        b"binary\x00\r\n\xff": (BINARY, "EX", 1000, "GRACE", 1),
        b"big": (b"big" * 300_000, "EX", 1000),
        b"space:name": (b"in a namespace", "EX", 1000),
        b"turned": (b"stale by hand", "EX", 1000, "GRACE", 1000),
        b"late": (b"stale by time", "PX", 1, "GRACE", 1000),
        b"tagged": (b"one tag", "EX", 1000, "GRACE", 1000, "TAGS", "one"),
        b"tags": (b"four tags", "EX", 1000, "TAGS", "one", "two", BINARY, b""),
        b"space:tagged": (b"binary tag", "TAGS", BINARY),
        b"nameless": (b"the empty tag", "PX", 900_000, "TAGS", b""),
        b"softly": (b"stale by its tag", "EX", 1000, "GRACE", 1000, "TAGS", "one", SOFT),
        b"gentle:1": (b"stale by its namespace", "EX", 1000, "GRACE", 1000, "TAGS", "two"),
        b"adaptive": (b"as its source changes", "EXAUTO", 900, 9000, "GRACE", 1000, "TAGS", "two"),
        b"retagged": (b"given one, rid of one", "EX", 1000, "TAGS", "off"),
    }
    # Dead when this returns: by a tag, by one of two, by the namespace.
    dead = {
        b"dead": (b"dead", "EX", 1000, "TAGS", HARD),
        b"dead too": (b"dead", "GRACE", 5, "TAGS", "one", HARD),
        b"doomed:1": (b"dead", "EX", 1000),
    }
    for name, (value, *options) in (entries | dead).items():
        assert server("CACHE.SET", prefix + name, value, *options) == b"OK"
    assert server("CACHE.STALE", prefix + b"turned") == 1
    assert server("CACHE.INCRBY", prefix + b"count", -42) == -42
    server("CACHE.SET", prefix + b"limited", b"v", "EX", 1000, "GRACE", 1000)
    server("EXPIRE", prefix + b"limited", 500)
    server("CACHE.SET", prefix + b"kept", b"v", "EX", 1000, "GRACE", 1000)
    server("PERSIST", prefix + b"kept")
    wait_for(lambda: state(server, prefix + b"late") == b"stale", "the end of 1 ms")

    assert server("CACHE.TOUCH", prefix + b"adaptive") == 1
    assert server("CACHE.TAG", prefix + b"retagged", "on", "one") == 2
    assert server("CACHE.UNTAG", prefix + b"retagged", "off", "one", "other") == 2
    assert server("CACHE.INVALIDATE", "SOFT", "TAGS", SOFT) == 1
    assert server("CACHE.INVALIDATE", "SOFT", "NAMESPACE", prefix + b"gentle") == (b":" not in prefix)
    assert server("CACHE.INVALIDATE", "TAGS", HARD, "nobody's") == 2
    assert server("CACHE.INVALIDATE", "NAMESPACE", prefix + b"doomed") == (b":" not in prefix)
    if b":" in prefix:  # then that is the namespace of all
        server("CACHE.STALE", prefix + b"gentle:1")
        server("CACHE.DEL", prefix + b"doomed:1")
    assert [server("CACHE.GET", prefix + name) for name in dead] == [None] * len(dead)

    server("SET", prefix + b"string", "native")
    server("HSET", prefix + b"hash", "field", "value")
    server("ZADD", prefix + b"zset", 1, "one", 2, "two")
    if elsewhere is not None:
        server("SELECT", elsewhere)
        server("CACHE.SET", prefix + b"elsewhere", b"db 3", "EX", 1000, "GRACE", 1000)
        server("SET", prefix + b"native", "db 3", "EX", 1000)
        server("SELECT", 0)
    server.wait_swept()
    return [prefix + name for name in (*entries, b"count", b"limited", b"kept")]


def prepare(server, db=0):
    """The keys that WRITES works on; `stale` is stale, `n` a number, `t` and `space:t` have tags."""
    connection = server.connect(db=db)
    for key in ("k", "stale"):
        connection("CACHE.SET", key, "v", "EX", 100, "GRACE", 200, "COST", 7)
    connection("CACHE.STALE", "stale")
    connection("CACHE.SET", "n", 5, "PX", 50_000, "PGRACE", 1000)
    connection("CACHE.SET", "t", "v", "EX", 100, "GRACE", 200, "TAGS", "one", "two", BINARY, "")
    connection("CACHE.SET", "space:t", "v", "EX", 100, "TAGS", "two")
    connection(
        "CACHE.SET", "auto", "v", "EXAUTO", 50, 500, "GRACE", 20, "TAGS", "five", "six", "seven", "eight"
    )
    connection("SET", "native", "x")


# Every kind of write after prepare(), with relative times wherever there are any.
WRITES = [
    "CACHE.SET k w",
    "CACHE.SET k w EX 10",
    "CACHE.SET k w PX 12345 GRACE 3",
    "CACHE.SET new w EX 10 PGRACE 777 NX COST 5",
    "CACHE.SET k w EX 10 XX",
    "CACHE.SET k w KEEPTTL",
    "CACHE.SET k w PERSIST",
    "CACHE.SET native w EX 10 GRACE 10",
    "CACHE.SET k w EXAT 1 GRACE 2000000000",
    "CACHE.TOUCH k",
    "CACHE.TOUCH stale",
    "CACHE.TOUCH k EX 20",
    "CACHE.TOUCH k PX 20000 GRACE 20",
    "CACHE.SET k w EXAUTO 10 100",
    "CACHE.SET auto v EXAUTO 10 100 GRACE 7 TAGS five",
    "CACHE.SET auto w KEEPTTL",
    "CACHE.SET auto w EX 10",
    "CACHE.TOUCH auto",
    "CACHE.TOUCH auto GRACE 3",
    "CACHE.TOUCH stale EXAUTO 10 100 GRACE 7",
    "CACHE.STALE auto",
    "CACHE.TAG auto nine",
    "COPY auto other",
    "CACHE.STALE k n",
    "CACHE.DEL k stale none",
    "CACHE.INCRBY n 37",
    "CACHE.INCRBY new 1",
    "EXPIRE k 50",
    "EXPIRE k 150",
    "PERSIST k",
    "RENAME k other",
    "COPY k other",
    "CACHE.SET k w EX 10 TAGS one three",
    "CACHE.SET t w TAGS one TAGS ex",
    "CACHE.SET t w KEEPTTL",
    "CACHE.TOUCH t EX 20",
    "CACHE.STALE t",
    "CACHE.TAG t one three four",
    "CACHE.TAG k one",
    "CACHE.UNTAG t one none",
    "CACHE.UNTAG space:t two",
    "CACHE.INVALIDATE TAGS two",
    "CACHE.INVALIDATE TAGS one three",
    "CACHE.INVALIDATE SOFT TAGS one nobody",
    "CACHE.INVALIDATE SOFT LOCAL TIMEOUT 5 TAGS two",
    "CACHE.INVALIDATE NAMESPACE space",
    "CACHE.INVALIDATE SOFT NAMESPACE space none",
    "CACHE.INVALIDATE TAGS nobody",
    "RENAME t other:t",
    "COPY t space:other",
]
