"""When two servers (or one before and after a restart) hold the same dataset.

`snapshot(server)` reads every key of every database, once a primary has removed what was invalidated;
`differences(a, b)` names what is not the same. Keys whose expiry falls between the readings, and
entries that turn stale between them, are left out of the comparison by their own absolute times, so
that no test is flaky near a second's end. Native keys are compared by DEBUG DIGEST-VALUE and not by
DUMP: a reload may give a hash table another order.
"""

from dataclasses import dataclass, field

from .resp import ReplyError, fields
from .server import wait_for

# What META says that belongs to the process and the moment, not to the entry.
VOLATILE = {"hits", "age-ms", "fresh-ms", "ttl-ms", "lease-ms", "waiters", "state"}
# fresh-ms is relative to the moment of the reading, which is known to this many ms only.
FRESH_TOLERANCE = 500


@dataclass
class Key:
    """One key: what is compared exactly, and the times."""

    type: bytes
    expires: int  # PEXPIRETIME: absolute ms, -1 without
    digest: bytes
    meta: dict | None = None
    value: bytes | None = None
    fresh_until: int | None = None  # absolute ms, None without an end
    known_to: int = 0  # ms in which that was read, by a server that may have been held up
    state: bytes | None = None
    tags: list | None = None  # of a native key


@dataclass
class Snapshot:
    """All keys by (db, name), when the reading began and ended (server's ms)."""

    began: int
    ended: int = 0
    keys: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)  # of namespaces, by name


def now_ms(connection):
    """The server's clock."""
    return _ms(connection("TIME"))


def _ms(time):
    """What TIME answers, in ms."""
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


def databases(connection):
    """The numbers of the databases that hold keys."""
    text = connection("INFO", "keyspace").decode()
    return [int(line[2:].split(":")[0]) for line in text.splitlines() if line.startswith("db")]


def scan(connection, *options):
    """All key names of the connection's database."""
    found, cursor = set(), b"0"
    while True:
        cursor, names = connection("SCAN", cursor, "COUNT", 1000, *options)
        found.update(names)
        if cursor == b"0":
            return sorted(found)


def snapshot(server):
    """Read everything, on a connection of its own to this very server."""
    server.wait_swept()
    connection = server.reader()
    result = Snapshot(began=now_ms(connection))
    for db in databases(connection):
        connection("SELECT", db)
        names = scan(connection)
        for name, key in zip(names, _read(connection, names), strict=True):
            if key is not None:
                result.keys[db, name] = key
    if connection("MODULE", "LIST"):
        result.settings = namespaces(connection)
    result.ended = now_ms(connection)
    return result


def namespaces(connection):
    """What is set for namespaces, by name."""
    names = connection("CACHE.NAMESPACE", "LIST")
    return {name: connection("CACHE.NAMESPACE", "GET", name) for name in names}


def _read(connection, names):
    common = connection.pipeline(
        [
            command
            for name in names
            for command in (
                ("TYPE", name),
                ("PEXPIRETIME", name),
                ("DEBUG", "DIGEST-VALUE", name),
            )
        ]
    )
    keys = [
        None if common[at] == b"none" else Key(common[at], common[at + 1], common[at + 2][0])
        for at in range(0, len(common), 3)
    ]
    if connection("MODULE", "LIST"):
        _read_tags(connection, names, keys)
    entries = [i for i, key in enumerate(keys) if key is not None and key.type == b"cacheflow"]
    replies = connection.pipeline(
        [
            command
            for i in entries
            for command in (("TIME",), ("CACHE.META", names[i]), ("TIME",), ("CACHE.GET", names[i], "STALE"))
        ]
    )
    for at, i in enumerate(entries):
        began, meta, ended, value = replies[4 * at : 4 * at + 4]
        if meta is None:  # gone since TYPE: its time, or dead
            keys[i] = None
            continue
        assert not isinstance(meta, ReplyError), f"CACHE.META {names[i]!r}: {meta}"
        meta, key = fields(meta), keys[i]
        if meta["state"] == b"fresh" and meta["fresh-ms"] >= 0:
            key.fresh_until = _ms(began) + meta["fresh-ms"]
            key.known_to = _ms(ended) - _ms(began)
        # A companion has no value: a GET of it is answered by an error.
        key.state, key.value = meta["state"], str(value) if isinstance(value, ReplyError) else value
        key.meta = {name: part for name, part in meta.items() if name not in VOLATILE}
        if isinstance(key.meta.get("tags"), list):
            key.meta["tags"] = sorted(key.meta["tags"])
    return keys


def _read_tags(connection, names, keys):
    native = [i for i, key in enumerate(keys) if key is not None and key.type != b"cacheflow"]
    found = connection.pipeline([("CACHE.META", names[i]) for i in native])
    for i, meta in zip(native, found, strict=True):
        if meta is not None:  # else gone since TYPE
            keys[i].tags = sorted(fields(meta)["tags"])


def _entry_differences(a, b, window):
    if a.meta != b.meta:
        yield f"META {a.meta} against {b.meta}"
    if a.value != b.value:
        yield f"value {a.value!r} against {b.value!r}"
    ends = [end for end in (a.fresh_until, b.fresh_until) if end is not None]
    turning = any(window[0] <= end <= window[1] for end in ends)
    if a.state != b.state and not turning:
        yield f"state {a.state!r} against {b.state!r}"
    if a.state == b.state == b"fresh":
        if (a.fresh_until is None) != (b.fresh_until is None):
            yield f"end of freshness {a.fresh_until} against {b.fresh_until}"
        elif len(ends) == 2 and abs(ends[0] - ends[1]) > FRESH_TOLERANCE + a.known_to + b.known_to:
            yield f"end of freshness {ends[0]} against {ends[1]}"


def differences(a, b):
    """What differs between two snapshots, a line each; empty if they are the same."""
    window = min(a.began, b.began) - FRESH_TOLERANCE, max(a.ended, b.ended) + FRESH_TOLERANCE
    found = []
    if a.settings != b.settings:
        found.append(f"what is set for namespaces: {a.settings} against {b.settings}")
    for at in sorted(a.keys.keys() | b.keys.keys()):
        one, two = a.keys.get(at), b.keys.get(at)
        ends = [key.expires for key in (one, two) if key and isinstance(key.expires, int)]
        if any(0 <= end <= window[1] for end in ends):
            continue  # it may have expired between the readings
        where = f"db {at[0]} key {at[1][:80]!r}"
        if one is None or two is None:
            found.append(f"{where}: only in the {'second' if one is None else 'first'}")
            continue
        for name in ("type", "expires", "digest", "tags"):
            if getattr(one, name) != getattr(two, name):
                found.append(f"{where}: {name} {getattr(one, name)} against {getattr(two, name)}")
        if one.meta is not None and two.meta is not None:
            found += [f"{where}: {text}" for text in _entry_differences(one, two, window)]
    return found


def assert_same(a, b, what):
    """Fail with the first differences, if there are any."""
    found = differences(a, b)
    assert not found, f"{what}: {len(found)} differences\n  " + "\n  ".join(found[:20])


def digest(server):
    """DEBUG DIGEST, of every database at once, without what the sweep has yet to remove. Expires
    nothing."""
    server.wait_swept()
    return server.connect()("DEBUG", "DIGEST")


def assert_same_digest(one, two, what):
    """The same digest on both, soon: a key that expired on one may still be on its way out."""
    last = []

    def equal():
        last[:] = [digest(one), digest(two)]
        return last[0] == last[1]

    try:
        wait_for(equal, "equal digests", seconds=5)
    except AssertionError:
        raise AssertionError(f"{what}: DEBUG DIGEST {last[0]} against {last[1]}") from None
