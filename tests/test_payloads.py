"""DUMP payloads from an enemy: whatever is accepted must be whole, whatever is not changes nothing.

Falsified with a right checksum, so that the module's own decoder is reached, and without. The second
decoder in harness/payload.py says what must be accepted.
"""

import random
import zlib

import pytest

from harness import payload
from harness.dataset import digest, now_ms, scan
from harness.hostile import HOSTILE, NOW, STRANGE, fuzz
from harness.payload import LAST_TIME, STAMP_LIMIT, Meta, encode, seal
from harness.resp import ReplyError
from harness.sample import BINARY, meta
from harness.server import wait_for

BAD_FORMAT = "ERR Bad data format"
BAD_FOOTER = "ERR DUMP payload version or checksum are wrong"
REFUSED = "ERR refused payload: "


@pytest.fixture(autouse=True)
def nothing_is_remembered(topology):
    """What is restored here has all sorts of births, and its tags must not have been invalidated since:
    by other tests on the same servers, of which replicas forget by themselves."""
    for server in topology.servers:
        server.config("cacheflow.max-tombstones", 0)
    for server in topology.servers:
        wait_for(lambda server=server: server.info()["cacheflow_tags"] == "0", "tombstones to be forgotten")


def dumps(server):
    """Real payloads of everything that an entry can be, by name."""
    for name, value, *options in (
        ("small", "a small value"),
        ("number", 12345),
        ("tagged", "grace, cost, stale by hand, hits", "EX", 1000, "GRACE", 2000, "COST", 1234),
        ("kept", "v", "PX", 60_000),
        ("large", b"large and compressible " * 10_000, "EX", 1000),
        ("wide", random.Random(5).randbytes(70_000), "EX", 1000),
        ("empty", ""),
        ("binary", BINARY, "EX", 1000, "GRACE", 1),
        ("n" * 70_000, "a long name", "EX", 1000, "COST", 5),
        ("one tag", "v", "EX", 1000, "TAGS", "dumped"),
        ("adaptive", "v", "EXAUTO", 500, 5000, "GRACE", 7, "TAGS", "dumped"),
        ("many tags", "v", "GRACE", 9, "COST", 3, "TAGS", "dumped", "", BINARY, *range(20)),
    ):
        assert server("CACHE.SET", name, value, *options) == b"OK"
    server.config("cacheflow.compress-min-size", 64)
    for name, value, *options in (
        ("packed", b"<li>large and compressible</li>" * 40, "EX", 1000, "TAGS", "dumped"),
        ("adaptive, packed", b"<li>of a source</li>" * 500, "EXAUTO", 500, 5000),
    ):
        assert server("CACHE.SET", name, value, *options) == b"OK"
    server.config("cacheflow.compress-min-size", 0)
    assert server.info()["cacheflow_packed_entries"] == "2"
    server("CACHE.GET", "tagged")
    server("CACHE.STALE", "tagged")
    server("CACHE.TOUCH", "adaptive")
    server("CACHE.SET", "kept", "w", "KEEPTTL")
    found = {name[:9].decode(): server("DUMP", name) for name in scan(server.connect())}
    server("FLUSHALL")
    return found


def restore_all(server, payloads):
    """RESTORE each under a name of its own; the names of those accepted, and of those that are not
    dead. The others must be refused with the server's own error, which holds no bytes of theirs."""
    connection, accepted = server.connect(), []
    names = [b"p:%d{t}" % i for i in range(len(payloads))]
    replies = connection.pipeline(
        [("RESTORE", name, 0, data) for name, data in zip(names, payloads, strict=True)]
    )
    alive = []
    for name, data, reply in zip(names, payloads, replies, strict=True):
        if isinstance(reply, ReplyError):
            assert str(reply).startswith((BAD_FORMAT, BAD_FOOTER)), reply
        else:
            assert reply == b"OK"
            accepted.append(name)
            if not payload.meta_of(data).dead:
                alive.append(name)
    server.wait_swept()
    assert sorted(scan(connection)) == sorted(alive), "the dead go, and nobody else"
    return accepted, alive


READS = [
    "CACHE.GET {}",
    "CACHE.GET {} STALE",
    "CACHE.MGET {} {}",
    "CACHE.META {}",
    "DUMP {}",
    "MEMORY USAGE {}",
    "DEBUG DIGEST-VALUE {}",
    "OBJECT ENCODING {}",
    "OBJECT IDLETIME {}",
    "PEXPIRETIME {}",
    "TYPE {}",
    "STRLEN {}",
]
WRITES = [
    "CACHE.TOUCH {}",
    "CACHE.STALE {}",
    "CACHE.TOUCH {} GRACE 5",
    "CACHE.INCRBY {} 1",
    "EXPIRE {} 1000",
    "CACHE.SET {} 5 KEEPTTL XX",
    "CACHE.INCRBY {} 1",
    "CACHE.STALE {}",
    "CACHE.TAG {} new another",
    "CACHE.UNTAG {} another dumped fuzz1",
    "CACHE.INVALIDATE SOFT TAGS new fuzz",
    "PERSIST {}",
    "CACHE.TOUCH {} EX 100 GRACE 5",
    "CACHE.INVALIDATE TAGS new",
    "CACHE.SET {} w EX 10 NX",
    "RENAME {} other{t}",
    "CACHE.META other{t}",
    "CACHE.DEL other{t}",
]


def use_all(server, names):
    """Every command on every key: reads on the key itself, writes on a copy."""
    commands = []
    for name in names:
        commands += [[part.replace("{}", name.decode()) for part in line.split()] for line in READS]
        commands.append(["COPY", name, "copy{t}", "REPLACE"])
        commands += [[part.replace("{}", "copy{t}") for part in line.split()] for line in WRITES]
    legal = (
        "WRONGTYPE",
        "ERR value is not an integer",
        "ERR invalid expire time in 'cache.touch'",
        "TOOMANYTAGS",
    )
    for command, reply in zip(commands, server.connect().pipeline(commands), strict=True):
        assert not isinstance(reply, ReplyError) or str(reply).startswith(legal), f"{command}: {reply}"
        if command[0] == "DUMP":
            assert payload.dumped_meta(reply) is not None, f"{command}: {reply[:80]!r}"
    assert server.info()["cacheflow_panics"] == "0"


def survive(server, names):
    """Use the keys, reload them, and (on a server with an AOF) rewrite it and start from it."""
    use_all(server, names)
    was = digest(server)
    server.reload()
    assert digest(server) == was, "DEBUG RELOAD changed something"
    if server.info("persistence")["aof_enabled"] == "1":
        for preamble in ("no", "yes"):
            server.config("aof-use-rdb-preamble", preamble)
            server.bgrewriteaof()
            server.restart()
            assert digest(server) == was, f"a restart from the rewritten AOF, preamble {preamble}"
    assert server("CACHE.SET", "after", "v", "EX", 100) == b"OK" and server("CACHE.GET", "after") == b"v"


@pytest.fixture
def durable(topology, fresh_server):
    """A server with an AOF: of its own, or in the topology aof the shared one; elsewhere the shared."""
    if type(topology).__name__ == "Single":
        return fresh_server(args=["--appendonly", "yes", "--auto-aof-rewrite-percentage", 0])
    return topology.primary


def cuts(data):
    """Every length to cut at; of a long payload those near its ends and some between."""
    if len(data) < 3000:
        return range(len(data))
    middle = random.Random(1).sample(range(300, len(data) - 300), 100)
    return [*range(200), *sorted(middle), *range(len(data) - 200, len(data))]


def test_every_truncation_is_refused(server):
    """But for those that Redis makes whole: it reads on into the footer, whose bytes may stand in for
    what is missing of the value and be the mark of the end by chance."""
    broken, by_chance = [], set()
    for data in dumps(server).values():
        body, version = data[: -payload.FOOTER], payload.rdb_version(data)
        broken += [data[:at] for at in cuts(data)]
        for at in cuts(body):
            cut = seal(body[:at], version)
            if at >= len(body) - payload.FOOTER and payload.entry(cut):
                by_chance.add(b"p:%d{t}" % len(broken))
            broken.append(cut)
    assert len(broken) > 3000 and len(by_chance) < 30
    accepted, alive = restore_all(server, broken)
    assert by_chance.issuperset(accepted)
    assert int(server.info()["cacheflow_refused_payloads"]) > 300, "the module's decoder was reached"
    use_all(server, alive)


def flips(data, dice, count):
    """Copies with one bit flipped, half of them in the first 64 bytes: the metadata is there. Not in
    the first byte: another type of Redis's own is decoded by Redis's own decoders."""
    for _ in range(count):
        end = len(data) if dice.random() < 0.5 else min(64, len(data))
        broken = bytearray(data)
        broken[dice.randrange(1, end)] ^= 1 << dice.randrange(8)
        yield bytes(broken)


def test_what_ten_thousand_bit_flips_leave_is_whole(durable):
    dice, broken, plain = random.Random(2), [], []
    for name, data in dumps(durable).items():
        body, version = data[: -payload.FOOTER], payload.rdb_version(data)
        count = 40 if len(data) > 3000 else 1500
        broken += [seal(flipped, version) for flipped in flips(body, dice, count)]
        plain += list(flips(data, dice, count // 5))
        assert durable("RESTORE", name, 0, seal(body, version)) == b"OK", "a checksum of our own is right"
    assert len(broken) > 10_000 and len(plain) > 2000
    durable("FLUSHALL")
    assert restore_all(durable, plain) == ([], []), "refused by their checksums"
    accepted, alive = restore_all(durable, broken)
    assert 500 < len(accepted) < len(broken) - 500 and len(alive) > 500
    survive(durable, alive)


# --- metadata by hand ------------------------------------------------------------------------------
def hand_made(server, metas):
    """Payloads of these metadata that this server's checksum and version allow."""
    server("CACHE.SET", "model", "v")
    version = payload.rdb_version(server("DUMP", "model"))
    server("DEL", "model")
    return [seal(payload.body(data, b"value %d" % i), version) for i, data in enumerate(metas)]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused(server, name):
    data = HOSTILE[name]
    assert not payload.sound(data), "the test's own decoder"
    (hostile,) = hand_made(server, [data])
    server("CACHE.SET", "k", "v", "EX", 100)
    was = digest(server)
    refused = int(server.info()["cacheflow_refused_payloads"])
    assert server.error("RESTORE", "new", 0, hostile).startswith(BAD_FORMAT)
    assert server.error("RESTORE", "k", 0, hostile, "REPLACE").startswith(BAD_FORMAT)
    for request in (("k", 0, data, "v"), ("new", 0, data, "v"), ("k", 0, data)):
        error = server.error("CACHE.APPLY", *request)
        assert error.startswith(REFUSED) and error.isprintable()
    assert digest(server) == was
    assert int(server.info()["cacheflow_refused_payloads"]) > refused


def test_strange_metadata_that_is_sound_is_taken_and_whole(durable):
    metas = [encode(strange) for strange in STRANGE.values()]
    assert all(map(payload.sound, metas))
    accepted, alive = restore_all(durable, hand_made(durable, metas))
    assert len(accepted) == len(alive) == len(metas)
    for name, strange in zip(accepted, STRANGE.values(), strict=True):
        assert meta(durable, name)["tags"] == list(strange.tags)
    survive(durable, alive)


def test_a_payload_that_is_dead_is_taken_and_dead(server):
    """As a dead entry's DUMP is, whatever else it says: no command sees it, and the sweep takes it."""
    metas = [Meta(born=1, dead=True), Meta(born=1, dead=True, end=LAST_TIME, tags=(b"a", b"b"))]
    payloads = hand_made(server, [encode(dead) for dead in metas])
    server("CACHE.SET", "k", "v", "EX", 100, "TAGS", "a")
    for number, data in enumerate(payloads):
        assert server("RESTORE", "new{k}", 0, data) == b"OK"
        assert server("RESTORE", "k", 0, data, "REPLACE") == b"OK"
        assert server("CACHE.MGET", "new{k}", "k") == [None, None]
        assert server("CACHE.GET", "k", "STALE") is None and meta(server, "k") is None
        assert server("CACHE.TAG", "k", "c") is None and server("CACHE.TOUCH", "k") == 0
        server.wait_swept()
        assert server("DBSIZE") == 0
        assert server("CACHE.APPLY", "k", 0, encode(metas[number]), "v") == b"OK"
        assert server("CACHE.GET", "k", "STALE") is None
        server.wait_swept()
        assert server("DBSIZE") == 0


def test_random_metadata_is_taken_where_it_is_sound(durable):
    metas = list(fuzz(random.Random(3), 5000))
    accepted, alive = restore_all(durable, hand_made(durable, metas))
    expected = [b"p:%d{t}" % i for i, data in enumerate(metas) if payload.sound(data)]
    assert accepted == expected
    assert 300 < len(accepted) < 4700 and 200 < len(alive) < len(accepted) - 50
    assert sum(bool(meta(durable, name)["tags"]) for name in alive) > 50
    survive(durable, alive[:600])


def test_random_metadata_by_apply_is_taken_where_it_is_sound(durable):
    dice = random.Random(4)
    metas = list(fuzz(dice, 5000))
    times = [0, 0, 1, NOW * 2, LAST_TIME]
    names = [b"p:%d{t}" % i for i in range(len(metas))]
    requests = [
        ("CACHE.APPLY", name, dice.choice(times), data, b"v") for name, data in zip(names, metas, strict=True)
    ]
    replies = durable.connect().pipeline(requests)
    for data, reply in zip(metas, replies, strict=True):
        assert (reply == b"OK") is payload.sound(data), f"{data!r}: {reply}"
    # Those of 1970 go now, and the replica hears of it: a reload would drop them in silence.
    durable("EXISTS", *names)
    durable.wait_swept()
    survive(durable, [name for name in scan(durable.connect()) if name != b"after"][:600])


# --- the rest of a payload by hand -----------------------------------------------------------------
def test_other_encodings_types_and_parts_are_refused(server):
    good = encode(Meta(born=1))
    (right,) = hand_made(server, [good])
    version, body = payload.rdb_version(right), right[: -payload.FOOTER]
    # In a namespace of its own: with a birth of 1 it is older than what other tests invalidated.
    assert server("RESTORE", "payload:right", 0, right) == b"OK"
    string, end = payload.string, bytes([payload.END_OF_VALUE])
    head = body[:10]
    broken = {
        "encoding version 0": payload.body(good, b"v", version=0),
        "encoding version 2": payload.body(good, b"v", version=2),
        "encoding version 1023": payload.body(good, b"v", version=1023),
        "another type": payload.body(good, b"v", name="cacheflou"),
        "nothing": head + end,
        "metadata alone": head + string(good) + end,
        "a third string": head + string(good) + string(b"v") + string(b"w") + end,
        "no end": head + string(good) + string(b"v"),
        "a number for the metadata": head + b"\x02\x01" + string(b"v") + end,
        "a float for the value": head + string(good) + b"\x03\x00\x00\x00\x00" + end,
        "a length of 2^32": head + b"\x05" + payload.length(1 << 32) + good,
        "a length of 2^64-1": head + string(good) + b"\x05" + payload.length(2**64 - 1) + b"v",
        "compressed to 2^63": head + b"\x05\xc3" + payload.length(5) + payload.length(2**63) + b"abcde" + end,
        "compressed nonsense": head + string(good) + b"\x05\xc3\x03\x50\xff\xff\xff" + end,
        "a million bytes of metadata": head + string(b"\x01" * 1_000_000) + string(b"v") + end,
        "bytes behind the end": body + b"\x00" * 100,
    }
    for what, data in broken.items():
        if what == "bytes behind the end":
            continue  # Redis itself takes them: not ours to refuse
        error = server.error("RESTORE", "k", 0, seal(data, version))
        assert error.startswith(BAD_FORMAT), f"{what}: {error}"
    assert server("DBSIZE") == 1 and server("CACHE.GET", "payload:right") == b"value 0"


def test_random_bytes_behind_a_right_head(server):
    (right,) = hand_made(server, [encode(Meta(born=1))])
    version, head, dice = payload.rdb_version(right), right[:10], random.Random(6)
    broken = [seal(head + dice.randbytes(dice.randrange(60)), version) for _ in range(3000)]
    assert restore_all(server, broken) == ([], [])


# --- stamps from the future ------------------------------------------------------------------------
def born(server, key):
    """The birth stamp that DUMP shows."""
    return payload.dumped_meta(server("DUMP", key)).born


def assert_clock_is_sane(server, why):
    """What is written now was born now, and later writes later."""
    before = now_ms(server)
    server("CACHE.SET", "one", "v", "EX", 100)
    server("CACHE.SET", "two", "v", "EX", 100)
    one, two, after = born(server, "one"), born(server, "two"), now_ms(server)
    assert before * 1000 <= one < two <= (after + 1) * 1000 + 10_000, f"{why}: {one}, {two}"
    assert 0 <= meta(server, "one")["age-ms"] <= after - before + 1000


# What lies is taken for older than anything that was invalidated: in a namespace where nothing was.
LIAR = "liar:k"
FUTURE = Meta(born=STAMP_LIMIT - 1, end=LAST_TIME, grace=5)


@pytest.mark.parametrize(
    "how", ["RESTORE", "APPLY", "APPLY in MULTI", "APPLY in a script", "APPLY of metadata"]
)
def test_a_birth_in_the_future_does_not_push_the_clock(topology, how):
    server, data = topology.primary, encode(FUTURE)
    if how == "RESTORE":
        assert server("RESTORE", LIAR, 0, *hand_made(server, [data])) == b"OK"
    elif how == "APPLY in MULTI":
        server("MULTI")
        server("CACHE.APPLY", LIAR, 0, data, "v")
        assert server("EXEC") == [b"OK"]
    elif how == "APPLY in a script":
        script = "return redis.call('CACHE.APPLY', KEYS[1], 0, ARGV[1], 'v')"
        assert server("EVAL", script, 1, LIAR, data) == b"OK"
    else:
        server("CACHE.SET", LIAR, "v")
        rest = () if how == "APPLY of metadata" else ("v",)
        assert server("CACHE.APPLY", LIAR, 0, data, *rest) == b"OK"
    assert born(server, LIAR) <= now_ms(server) * 1000 + 1_000_000
    assert_clock_is_sane(server, "after it came")
    assert meta(server, LIAR)["age-ms"] == 0 and meta(server, LIAR)["state"] == b"fresh"
    server.reload()
    assert_clock_is_sane(server, "after a reload")


@pytest.mark.topology("single")
def test_a_birth_in_the_future_does_not_push_the_clock_after_a_restart_from_the_aof(fresh_server):
    """RESTORE stands in the AOF as it came: its payload is no more to be trusted when it is replayed."""
    server = fresh_server(args=["--appendonly", "yes"])
    assert server("RESTORE", LIAR, 0, *hand_made(server, [encode(FUTURE)])) == b"OK"
    was = digest(server)
    server.restart()
    assert_clock_is_sane(server, "after a restart")
    server("DEL", "one", "two")
    assert digest(server) == was


@pytest.mark.topology("replica")
def test_a_birth_in_the_future_is_the_same_on_the_replica(topology):
    """And the replica's clock, once it is promoted, is no more pushed than the primary's."""
    primary, replica = topology.primary, topology.replica
    assert primary("RESTORE", LIAR, 0, *hand_made(primary, [encode(FUTURE)])) == b"OK"
    replica.wait_replica_of(primary)
    assert digest(primary) == digest(replica)
    assert born(replica, LIAR) == born(primary, LIAR)


def test_the_checksum_is_the_servers_own():
    assert payload.crc64(b"123456789") == 0xE9C6D914C4B8D9CA  # crc64.c's own test
    assert payload.crc64(b"56789", payload.crc64(b"1234")) == payload.crc64(b"123456789")
    assert payload.crc64(b"x") != zlib.crc32(b"x")


def test_the_second_decoder_reads_what_the_server_writes(server):
    server("CACHE.SET", "k", "v", "PX", 5000, "PGRACE", 700, "COST", 9, "TAGS", "b", "", BINARY, "a")
    server("CACHE.STALE", "k")
    server("CACHE.GET", "k", "STALE")
    found = payload.dumped_meta(server("DUMP", "k"))
    assert (found.grace, found.cost, found.hits) == (700, 9, 1)
    assert found.tags == (b"b", b"", BINARY, b"a") and not found.dead
    assert found.end + 700 == server("PEXPIRETIME", "k") and found.end - found.born // 1000 == 5000
    assert found.born // 1000 <= found.staled <= now_ms(server)
    server("CACHE.SET", "k", "v", "EXAUTO", 60, 600, "GRACE", 9, "TAGS", "b")
    server("CACHE.SET", "k", "w", "EXAUTO", 70, 700, "GRACE", 9, "TAGS", "b")
    least, most, _, _, refills, marks = payload.dumped_meta(server("DUMP", "k")).auto
    assert (least, most, refills, marks & 31) == (70, 700, 1, 1), "one refill, and it found a change"
