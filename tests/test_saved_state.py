"""What a shard saves beside its entries, from an enemy: RDB aux data and CACHE.APPLYSTATE. There are
the stamps' marks in it, what was invalidated when, the locks, and what is set for namespaces.

Each of its bytes is cut off and flipped, in a real file. What is refused stops the load, as the server
does where a file is not whole, and nothing else; what is taken leaves an index that is whole, entries
that are alive, and the dead dead.
"""

import os
import random

import pytest

from harness import msgpack, payload
from harness.dataset import digest
from harness.resp import ReplyError
from harness.sample import meta
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

AUX = bytes([247]) + payload.type_id()
BEFORE_RDB = b"\x02\x01"  # opcode UINT, when
ALIVE = {b"k": b"v", b"space:k": b"w"}
SET = ("TTL", 5, "EXAUTO", 1, 2, "BREAKER", 50, 1000, "POLICY", "lru")
LOCKS = {b"locked": 3_600_000, b"new": 3_600_000, b"": 3_600_000}
SHOWN = [b"ttl", 5, b"exauto", [1, 2], b"breaker", [50, 1000], b"policy", b"lru"]
LOCK = [0, b"locked", 5, payload.LAST_TIME, 5, True, False]  # database, key, token, end, left, whole, native


def fill(server):
    """Entries that nothing invalidates whose name a flipped bit makes of another, and one that died."""
    for key, value in ALIVE.items():
        server("CACHE.SET", key, value, "EX", 10_000, "TAGS", "a tag that no bit is away from")
    server("CACHE.SET", "dead", "v", "TAGS", "killed")
    dump = server("DUMP", "dead")
    assert server("CACHE.INVALIDATE", "TAGS", "killed", b"\x00\xff") == 1
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "soft")
    server("CACHE.INVALIDATE", "NAMESPACE", "gone")
    for name, length in LOCKS.items():
        server("CACHE.LOCK", name, length)
    server("CACHE.NAMESPACE", "SET", "settings", *SET)
    server.wait_swept()
    return dump


class File:
    """An RDB file with the state in it, taken apart and put together."""

    def __init__(self, server):
        self.path = os.path.join(server.directory, "dump.rdb")
        server("SAVE")
        with open(self.path, "rb") as file:
            data = file.read()
        at = data.index(AUX + BEFORE_RDB) + len(AUX + BEFORE_RDB)
        self.head, self.strings = data[:at], []
        while data[at] != payload.END_OF_VALUE:
            text, at = payload.read_string(data, at)
            self.strings.append(text)
        self.tail = data[at:]

    def write(self, strings, head=None):
        """The same file with these strings in the place of the state's."""
        with open(self.path, "wb") as file:
            file.write((head or self.head) + b"".join(map(payload.string, strings)) + self.tail)


@pytest.fixture
def saved(fresh_server):
    """A server, its file, and the payload of an entry that is dead."""
    # Without checksums, so that what is falsified is read; uncompressed, so that every byte is ours.
    server = fresh_server(args=["--rdbchecksum", "no", "--rdbcompression", "no"])
    dump = fill(server)
    return server, File(server), dump


def loads(server):
    """Start the server with the file that is there; whether it took it. A refusal ends the process by
    the server's own exit, which its log explains: with what its check of the file says, even 0."""
    server.stop()
    try:
        server.start()
    except AssertionError as failure:
        assert "did not start" in str(failure)
        assert server.process.returncode in (0, 1), f"not an exit but {server.process.returncode}: {failure}"
        assert "cacheflow's state" in str(failure) or "AUX data" in str(failure), failure
        return False
    return True


def assert_whole(server, dump):
    """What holds of whatever was taken."""
    assert_verified(server)
    assert server("CACHE.GET", "dead") is None
    assert server("CACHE.MGET", *ALIVE) == list(ALIVE.values())
    server("CACHE.SET", "new", "v", "EX", 100, "TAGS", "killed")
    assert server("CACHE.GET", "new") == b"v", "what is born now is younger than any invalidation"
    assert server("CACHE.INVALIDATE", "TAGS", "killed") == 1 and server("CACHE.GET", "new") is None
    server("RESTORE", "dead", 0, dump, "REPLACE")
    assert server("CACHE.GET", "dead") is None
    for name in LOCKS:
        token = server("CACHE.LOCK", name, 60_000)
        found = token or meta(server, name)
        if not token and (found is None or found["lease-ms"] == 0):
            token = server("CACHE.LOCK", name, 60_000)  # it has ended meanwhile
        assert token or found["lease-ms"] > 0, f"{name}: neither free nor held, {found}"
    # Whatever tokens it had, another is greater, on a key where nothing is held.
    later = [server("CACHE.LOCK", name, 60_000) for name in ("one", "two")]
    assert None not in later and later[0] < later[1]
    assert server("CACHE.SET", "one", "v", "LEASE", later[0], "EX", 60, "TAGS", "killed") == b"OK"
    assert server.info()["cacheflow_panics"] == "0"


def held(server):
    """Which of the locks are, and that they can be taken by nobody else and given up by nobody."""
    found = {name for name in LOCKS if server("CACHE.LOCK", name, 1) is None}
    for name in found:
        assert server("CACHE.UNLOCK", name, 6) == 0
    return found


def test_the_file_is_taken_as_it_is(saved):
    server, file, dump = saved
    assert len(file.strings) == 4, "a head, a part of invalidations, one of locks and one of settings"
    file.write(file.strings)
    assert loads(server)
    assert held(server) == LOCKS.keys()
    assert server("CACHE.NAMESPACE", "GET", "settings") == SHOWN
    server("RESTORE", "dead", 0, dump)
    assert server("CACHE.GET", "dead", "STALE") is None, "the invalidation was in it"
    assert_whole(server, dump)


def broken(strings):
    """The state with a string cut at each of its bytes, and with a bit flipped in each."""
    dice = random.Random(7)
    for number, text in enumerate(strings):
        for at in range(len(text)):
            flipped = bytearray(text)
            flipped[at] ^= 1 << dice.randrange(8)
            for other in (text[:at], bytes(flipped)):
                yield f"string {number} byte {at}", [*strings[:number], other, *strings[number + 1 :]]


def test_every_byte_cut_off_or_flipped_is_refused_or_whole(saved):
    server, file, dump = saved
    taken = refused = 0
    for what, strings in broken(file.strings):
        file.write(strings)
        if not loads(server):
            refused += 1
            continue
        taken += 1
        try:
            assert_whole(server, dump)
        except AssertionError as failure:
            raise AssertionError(f"{what}, {strings}: {failure}") from None
    assert taken > 20 and refused > 100, "both"
    file.write(file.strings)
    assert loads(server)


def test_parts_that_are_missing_or_too_many(saved):
    server, file, _ = saved
    head, part, locks, settings = file.strings
    state = {"stamp": 1, "low_water": 1, "locks": 1}
    four = state | {"parts": 1, "settings": 1}
    for what, strings in {
        "no settings": [head, part, locks],
        "settings before locks": [head, part, settings, locks],
        "locks in the place of settings": [head, part, locks, locks],
        "settings in the place of a part": [head, settings, locks, settings],
        "settings more": [head, part, locks, settings, settings],
        "a million parts of settings promised": [
            msgpack.encode(four | {"settings": 1_000_000}),
            part,
            locks,
            settings,
        ],
        "2^64-1 parts of settings promised": [
            msgpack.encode(four | {"settings": 2**64 - 1}),
            part,
            locks,
            settings,
        ],
        "no settings promised": [msgpack.encode(four | {"settings": 0}), part, locks, settings],
        "an array of 2^32 settings": [head, part, locks, b"\xdd\xff\xff\xff\xff"],
        "settings nested without end": [head, part, locks, b"\x91" * 100_000],
        "a name past the longest": [head, part, locks, msgpack.encode([[b"n" * 1025, {"ttl": 5}]])],
        "a time past the last": [head, part, locks, msgpack.encode([[b"n", {"ttl": 2**46 + 1}]])],
        "bounds the wrong way": [
            head,
            part,
            locks,
            msgpack.encode([[b"n", {"exauto_min": 2, "exauto_max": 1}]]),
        ],
        "a share past the whole": [
            head,
            part,
            locks,
            msgpack.encode([[b"n", {"breaker_percent": 101, "breaker_cooldown": 1}]]),
        ],
        "a policy that there is not": [head, part, locks, msgpack.encode([[b"n", {"policy": 4}]])],
        "too many": [head, part, locks, msgpack.encode([[b"%d" % n, {"ttl": 5}] for n in range(1001)])],
    }.items():
        file.write(strings)
        assert not loads(server), what
    later = msgpack.encode([[b"n", {"ttl": 5, "later": 7}]])
    file.write([head, part, locks, later])
    assert loads(server) and server("CACHE.NAMESPACE", "LIST") == [b"n"], "a later version's field is skipped"
    head = msgpack.encode(state | {"parts": 1})  # as of before there were settings
    file.write([head, part, locks])
    assert loads(server) and server("CACHE.NAMESPACE", "LIST") == []
    for what, strings in {
        "nothing": [],
        "no part": [head],
        "a part alone": [part],
        "no locks": [head, part],
        "locks alone": [head, locks],
        "a part more": [head, part, part, locks],
        "locks more": [head, part, locks, locks],
        "locks before": [head, locks, part],
        "locks in the place of a part": [head, locks, locks],
        "a part in the place of locks": [head, part, part],
        "a head twice": [head, head],
        "a head between": [head, part, head],
        "the other way round": [part, head, locks],
        "a million parts promised": [msgpack.encode(state | {"parts": 1_000_000}), part, locks],
        "2^32 parts promised": [msgpack.encode(state | {"parts": 2**32}), part, locks],
        "2^64-1 parts promised": [msgpack.encode(state | {"parts": 2**64 - 1}), part, locks],
        "none promised": [msgpack.encode(state | {"parts": 0}), part, locks],
        "a million locks promised": [msgpack.encode(state | {"parts": 1, "locks": 1_000_000}), part, locks],
        "2^64-1 locks promised": [msgpack.encode(state | {"parts": 1, "locks": 2**64 - 1}), part, locks],
        "no locks promised": [msgpack.encode(state | {"parts": 1, "locks": 0}), part, locks],
        "a million bytes": [b"\x80" * 1_000_000, part, locks],
        "an array of 2^32 records": [head, b"\xdd\xff\xff\xff\xff"],
        "a name of 2^32 bytes": [head, b"\x91\x95\x00\xc2\xc6\xff\xff\xff\xffab"],
        "nested without end": [head, b"\x91" * 100_000],
        "stamps past the last": [head, msgpack.encode([[0, False, b"t", payload.STAMP_LIMIT, 0]])],
        "a database past the last": [head, msgpack.encode([[2**31, False, b"t", 1, 0]])],
        "a name past the longest": [head, msgpack.encode([[0, False, b"t" * 65536, 1, 0]])],
        "an array of 2^32 locks": [head, part, b"\xdd\xff\xff\xff\xff"],
        "a key of 2^32 bytes": [head, part, b"\x91\x97\x00\xc6\xff\xff\xff\xffab"],
        "locks nested without end": [head, part, b"\x91" * 100_000],
        "a token past the last": [head, part, lock(token=payload.STAMP_LIMIT)],
        "a lock's database past the last": [head, part, lock(db=2**31)],
        "an end past the last": [head, part, lock(ends=payload.LAST_TIME + 1)],
        "an end of 2^64-1": [head, part, lock(ends=2**64 - 1)],
    }.items():
        file.write(strings)
        assert not loads(server), what
    version_2 = file.head.replace(payload.type_id(), payload.type_id(version=2))
    file.write(file.strings, version_2)
    assert not loads(server), "a version that this build does not know"
    del state["locks"]
    file.write([msgpack.encode(state)])
    assert loads(server), "a field that is not there is 0"
    file.write([msgpack.encode(state | {"parts": 0, "later": [1, b"x", {"y": True}]})])
    assert loads(server), "a field of a later version is skipped"


def lock(**changes):
    """A part with one lock, some of it changed."""
    names = ("db", "key", "token", "ends", "left", "whole", "native")
    return msgpack.encode([[changes.get(name, of) for name, of in zip(names, LOCK, strict=True)]])


def test_strange_locks_that_are_sound(saved):
    """What no server writes and none need refuse: the table stays what it is, and time ends it all."""
    server, file, dump = saved
    head, part, _, settings = file.strings
    now = int(server("TIME")[0]) * 1000
    for what, strange, is_held in (
        ("a lock that has run out", lock(ends=1), False),
        ("one that ends now", lock(ends=now, left=1000), False),
        ("one with nothing left", lock(ends=now + 3_600_000, left=0), False),
        ("one with more left than until its end", lock(ends=now + 60_000, left=2**64 - 1), True),
        ("one that ends when time does", lock(ends=payload.LAST_TIME, left=payload.LAST_TIME), True),
        ("a token of 0", lock(token=0, left=60_000), None),
        ("a key of 64 KB", lock(key=b"k" * 65536, left=60_000), False),
        ("a database that there is not", lock(db=2**31 - 1, left=60_000), False),
        ("no locks after all", msgpack.encode([]), False),
        ("one twice", msgpack.encode([[*LOCK[:4], 60_000, *LOCK[5:]]] * 2), True),
        ("one with a broken fence", lock(left=60_000, whole=False), True),
    ):
        file.write([head, part, strange, settings])
        assert loads(server), what
        found = held(server)
        assert is_held is None or found == ({b"locked"} if is_held else set()), what
        if what == "one with a broken fence":
            assert server("CACHE.SET", "locked", "v", "LEASE", LOCK[2]) is None
            assert server("CACHE.GET", "locked") is None
        assert_whole(server, dump)


def test_more_locks_than_the_table_grants(saved):
    """They were granted once, so they are held; no more are given, and in time all is gone."""
    server, file, dump = saved
    head, part, _, _ = file.strings
    many = [[0, b"lock %d" % n, n + 1, payload.LAST_TIME, 60_000, True, False] for n in range(150_000)]
    lots = [msgpack.encode(many[at : at + 500]) for at in range(0, len(many), 500)]
    file.write([msgpack.encode({"stamp": 1, "low_water": 1, "parts": 1, "locks": len(lots)}), part, *lots])
    assert loads(server)
    assert server.info()["cacheflow_locks"] == str(len(many))
    assert len(many) > int(server.config("cacheflow.max-leases"))
    assert server("CACHE.LOCK", "one more", 60_000) is None
    assert server("CACHE.FETCH", "one more")[0] == b"BUSY"
    server("FLUSHALL")
    assert server.info()["cacheflow_locks"] == "0"


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_every_bit_flipped_in_applystate_is_answered(saved, which):
    """The way of the AOF, open to clients: what they send cannot make the clock stand still."""
    server, file, dump = saved
    text, refused = file.strings[which], 0
    for at in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[at] ^= 1 << bit
            try:
                assert server("CACHE.APPLYSTATE", bytes(flipped)) == b"OK"
            except ReplyError as error:
                assert str(error) in ("ERR refused state: Malformed", "ERR refused state: Stamp")
                refused += 1
    assert 0 < refused < 8 * len(text)
    assert_whole(server, dump)


def test_applying_a_state_again_changes_nothing(saved):
    server, file, dump = saved
    was, stones = digest(server), server.info()["cacheflow_tombstones"]
    for _ in range(2):
        for text in file.strings:
            assert server("CACHE.APPLYSTATE", text) == b"OK"
    assert digest(server) == was and server.info()["cacheflow_tombstones"] == stones
    assert held(server) == LOCKS.keys() and server.info()["cacheflow_locks"] == str(len(LOCKS))
    assert_whole(server, dump)
