"""A dataset with one of everything that an entry can be, and native keys between them."""

from .resp import fields
from .server import wait_for

BINARY = bytes(range(256)) + b"\r\n$-1\r\n"


def state(server, key):
    """The state that META names, or None."""
    meta = fields(server("CACHE.META", key))
    return meta and meta["state"]


def meta(server, key):
    """META as a dict, or None."""
    return fields(server("CACHE.META", key))


def fill(server, prefix=b""):
    """Write the sample; returns the names of its entries in database 0."""
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
    }
    for name, (value, *options) in entries.items():
        assert server("CACHE.SET", prefix + name, value, *options) == b"OK"
    assert server("CACHE.STALE", prefix + b"turned") == 1
    assert server("CACHE.INCRBY", prefix + b"count", -42) == -42
    server("CACHE.SET", prefix + b"limited", b"v", "EX", 1000, "GRACE", 1000)
    server("EXPIRE", prefix + b"limited", 500)
    server("CACHE.SET", prefix + b"kept", b"v", "EX", 1000, "GRACE", 1000)
    server("PERSIST", prefix + b"kept")
    wait_for(lambda: state(server, prefix + b"late") == b"stale", "the end of 1 ms")

    server("SET", prefix + b"string", "native")
    server("HSET", prefix + b"hash", "field", "value")
    server("ZADD", prefix + b"zset", 1, "one", 2, "two")
    server("SELECT", 3)
    server("CACHE.SET", prefix + b"elsewhere", b"db 3", "EX", 1000, "GRACE", 1000)
    server("SET", prefix + b"native", "db 3", "EX", 1000)
    server("SELECT", 0)
    return [prefix + name for name in (*entries, b"count", b"limited", b"kept")]


def prepare(server, db=0):
    """The keys that WRITES works on; `stale` is stale, `n` a number."""
    connection = server.connect(db=db)
    for key in ("k", "stale"):
        connection("CACHE.SET", key, "v", "EX", 100, "GRACE", 200, "COST", 7)
    connection("CACHE.STALE", "stale")
    connection("CACHE.SET", "n", 5, "PX", 50_000, "PGRACE", 1000)
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
    "CACHE.STALE k n",
    "CACHE.DEL k stale none",
    "CACHE.INCRBY n 37",
    "CACHE.INCRBY new 1",
    "EXPIRE k 50",
    "EXPIRE k 150",
    "PERSIST k",
    "RENAME k other",
    "COPY k other",
]
