"""Native keys with tags: one of each type there is, and the companions that carry their tags.

What a companion is called is the module's affair but for its prefix, which a directive names: tests find
companions by it, as an operator would.
"""

from .dataset import databases, scan
from .resp import ReplyError
from .server import wait_for
from .tagged import all_tags, await_sweep, tags_of

PREFIX = "cacheflow.companion-prefix"  # the directive

# What makes a key of each type; of what has elements, two.
MAKE = {
    "string": ("SET", "{}", "v"),
    "hash": ("HSET", "{}", "f", "v", "g", "w"),
    "list": ("RPUSH", "{}", "a", "b"),
    "set": ("SADD", "{}", "a", "b"),
    "zset": ("ZADD", "{}", 1, "a", 2, "b"),
    "stream": ("XADD", "{}", "1-1", "f", "v"),
    # Of a module of Redis 8's own: another module's type, as far as this one knows.
    "vectorset": ("VADD", "{}", "VALUES", 2, 1, 0, "a"),
}
KINDS = tuple(MAKE)
UNCOPIED = ("vectorset",)  # refused by COPY

# What takes everything out of such a key, but for a stream, which may be empty.
TAKE = {
    "string": ("GETDEL", "{}"),
    "hash": ("HDEL", "{}", "f", "g"),
    "list": ("LPOP", "{}", 9),
    "set": ("SPOP", "{}", 9),
    "zset": ("ZPOPMAX", "{}", 9),
    "vectorset": ("VREM", "{}", "a"),
}


def knows(server, command):
    """Whether the engine has a command."""
    return server("COMMAND", "INFO", command)[0] is not None


def kinds(server):
    """The types that this engine has, and can write: a Redis 8 that rewrites an AOF without preamble crashes
    on vector sets, whatever else is loaded."""
    found = [kind for kind in KINDS if knows(server, MAKE[kind][0])]
    return found if server.config("appendonly") == "no" else [kind for kind in found if kind != "vectorset"]


def copied_kinds(server):
    """Those that COPY copies."""
    return [kind for kind in kinds(server) if kind not in UNCOPIED]


def make(connection, kind, key):
    """A native key of this type."""
    command = [key if word == "{}" else word for word in MAKE[kind]]
    connection(*command)


def tagged(connection, kind, key, *tags):
    """A native key of this type, with tags."""
    make(connection, kind, key)
    assert connection("CACHE.TAG", key, *tags) == len(set(tags)), (kind, key)


def prefix(server):
    """What the names of companions begin with."""
    return server.config(PREFIX).encode()


def _pattern(server):
    special = b"*?[]\\^-"
    escaped = [b"\\%c" % byte if byte in special else b"%c" % byte for byte in prefix(server)]
    return b"".join(escaped) + b"*"


def companions(server, connection=None):
    """The names of all companions in a connection's database, by default database 0: what SCAN shows."""
    return scan(connection or server, "MATCH", _pattern(server))


def companions_everywhere(server):
    """How many there are in all databases of this very server, what else is under the prefix aside."""
    connection, found = server.reader(), 0
    for db in databases(connection):
        connection("SELECT", db)
        found += len(scan(connection, "MATCH", _pattern(server), "TYPE", "cacheflow"))
    connection.close()
    return found


def companion(server, connection=None):
    """The name of the only companion."""
    (name,) = companions(server, connection)
    return name


def assert_nothing(server, what=""):
    """No key, no tag, no companion is left in the database, once the sweep has taken those of keys that an
    invalidation has removed."""
    await_sweep(server)
    assert all_tags(server) == {}, what
    assert companions(server) == [], what
    assert server("DBSIZE") == 0, (what, scan(server))


def await_nothing(server, what=""):
    """The same, soon: of a slot that was moved as a whole the tags are known until it has been trimmed."""
    wait_for(lambda: server("DBSIZE") == 0 and all_tags(server) == {}, f"nothing to be left: {what}")
    assert_nothing(server, what)


def assert_bound(server, key, tags, what=""):
    """A native key is there with these tags and no others, and the first reaches it: the key is gone when
    this returns."""
    assert tags_of(server, key) == sorted(tags), what
    assert server("CACHE.INVALIDATE", "LOCAL", "TAGS", tags[0]) == 1, what
    assert server("EXISTS", key) == 0, what


def outcome(connection, *command):
    """A reply, or its error as a ReplyError."""
    try:
        return connection(*command)
    except ReplyError as error:
        return error


WITHIN = ("plain", "MULTI", "EVAL")


def within(connection, how, *command):
    """A command's reply, sent as it is, in a transaction or by a script."""
    if how == "EVAL":
        return connection("EVAL", "return redis.call(unpack(ARGV))", 0, *command)
    if how == "plain":
        return connection(*command)
    connection("MULTI")
    connection(*command)
    return connection("EXEC")[0]
