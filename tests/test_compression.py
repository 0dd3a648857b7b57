"""Values that are kept packed: nobody sees it but who asks what they take."""

import os
import random
import time

import pytest

from harness import lz4, payload
from harness.dataset import assert_same, digest, snapshot
from harness.leases import fetcher, grant
from harness.leases import fill as fill_lease
from harness.payload import Meta, encode, seal
from harness.resp import fields
from harness.sample import fill, meta
from harness.server import wait_for
from harness.tagged import DEBUG, await_sweep, figure
from harness.topology import assert_verified

single = pytest.mark.topology("single")

MIN, MAX = "cacheflow.compress-min-size", "cacheflow.compress-max-size"
ON = ("compress-min-size", "64", "compress-max-size", "256kb")
AOF = ("--appendonly", "yes")
CORRUPT = "ERR the stored value does not unpack"
REFUSED = "ERR refused payload: the packed value is not what its metadata says"


def page(size, number=0):
    """Records as an API answers them: exactly so many bytes, in a third of which they fit."""
    dice, text = random.Random(number), b"["
    while len(text) < size:
        fields = dice.randrange(1 << 32), dice.randrange(10_000), dice.choice(("red", "green", "blue"))
        text += b'{"id":%d,"price":%d,"colour":"%s","stock":true},' % (*fields[:2], fields[2].encode())
    return text[:size]


def noise(size):
    return random.Random(size).randbytes(size)


@pytest.fixture
def on(server):
    """A server that packs what it can."""
    server.config(MIN, 1)
    server.config(MAX, "256kb")
    return server


def packed(server):
    """INFO's (entries, bytes stored, bytes as they came)."""
    return tuple(figure(server, name) for name in ("packed_entries", "packed_bytes", "unpacked_bytes"))


# --- which values ----------------------------------------------------------------------------------
def test_it_is_off_until_it_is_set(server):
    assert server("CACHE.SET", "k", page(4000)) == b"OK"
    assert packed(server) == (0, 0, 0)
    server.config(MIN, 4000)
    assert packed(server) == (0, 0, 0), "what is there stays"
    assert server("CACHE.SET", "k", page(4000)) == b"OK"
    entries, stored, came = packed(server)
    assert (entries, came) == (1, 4000) and stored < 2000
    server("CACHE.SET", "short", page(3999))
    assert packed(server)[0] == 1
    server.config(MIN, 0)
    assert server("CACHE.GET", "k") == page(4000), "who does not pack unpacks all the same"
    server("CACHE.SET", "k", page(4000))
    assert packed(server) == (0, 0, 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"v",
        b"a" * 63,
        b"12345",
        noise(100),
        noise(100_000),
        page(2000)[:50] + noise(60_000),
        page(300_000),
        # It would be shorter, and lie in as much.
        noise(900) + b" " * 60,
    ],
    ids=lambda value: f"{len(value)} bytes of {value[:4]!r}",
)
def test_what_it_does_not_pay_for_is_not_packed(on, value):
    assert on("CACHE.SET", "k", value) == b"OK"
    assert packed(on) == (0, 0, 0) and on("CACHE.GET", "k") == value


def test_the_longest_that_is_packed(on):
    on.config(MAX, 3000)
    for size, count in ((3001, 0), (3000, 1)):
        on("CACHE.SET", "k", page(size))
        assert packed(on)[0] == count
    on.config(MAX, "2mb")
    on("CACHE.SET", "k", page(1_500_000))
    assert packed(on)[0] == 1 and on("CACHE.GET", "k") == page(1_500_000)
    # Buffers that only such a value needs are not kept.
    assert figure(on, "packing_bytes") < 1_100_000


def test_numbers_are_never_packed(on):
    assert on("CACHE.INCRBY", "n", 41) == 41 and on("CACHE.INCRBY", "n", 1) == 42
    assert packed(on) == (0, 0, 0)
    on("CACHE.SET", "k", page(1000), "EX", 100)
    assert on.error("CACHE.INCRBY", "k", 1).startswith("ERR value is not an integer")
    assert on("CACHE.GET", "k") == page(1000)


# --- reads -----------------------------------------------------------------------------------------
OPTIONS = [
    (),
    ("EX", 1000, "GRACE", 1000, "COST", 5),
    ("EX", 1000, "TAGS", "a"),
    ("EXAUTO", 100, 1000, "TAGS", *range(9)),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "timed", "tagged", "adaptive"])
@pytest.mark.parametrize("size", [64, 250, 1000, 10_000, 65_535, 65_536, 200_000])
def test_reads_answer_what_was_written(on, size, options):
    value = page(size) if size > 64 else b"a" * 64
    assert on("CACHE.SET", "k", value, *options) == b"OK"
    on("CACHE.SET", "plain{k}", "v")
    assert packed(on)[::2] == (1, size)
    assert on("CACHE.GET", "k") == on("CACHE.GET", "k", "STALE") == value
    assert on("CACHE.MGET", "plain{k}", "k", "none{k}", "k") == [b"v", value, None, value]
    tags = (
        sorted(str(tag).encode() for tag in options[options.index("TAGS") + 1 :]) if "TAGS" in options else []
    )
    assert on("CACHE.FETCH", "k")[:3] == [b"FRESH", value, None]
    *found, told = on("CACHE.FETCH", "k", "WITHTAGS")
    assert found[:2] == [b"FRESH", value] and sorted(told) == tags
    assert meta(on, "k")["bytes"] == size
    if "EX" in options:
        assert on("CACHE.STALE", "k") == 1
        assert on("CACHE.GET", "k") is None and on("CACHE.GET", "k", "STALE") == value
        if "GRACE" in options:
            state, got, token, _ = on("CACHE.FETCH", "k")
            assert (state, got) == (b"STALE", value) and token
    assert on("CACHE.DEL", "k") == 1 and packed(on) == (0, 0, 0)


def test_who_waited_gets_it(on):
    token = grant(on, "k")
    line = [fetcher(on, "k", block=60_000) for _ in range(3)]
    wait_for(lambda: meta(on, "k")["waiters"] == 3, "three that wait")
    fill_lease(on, "k", token, page(5000), "EX", 60)
    for waiter in line:
        assert waiter.answer()[:2] == (b"FRESH", page(5000))
    assert packed(on)[0] == 1


def test_hot_keys_count_what_is_sent(on):
    on("FLUSHALL")
    on("CACHE.SET", "k", page(20_000), "EX", 100)
    assert on.connect().pipeline([("CACHE.GET", "k")] * 4) == [page(20_000)] * 4
    assert on("CACHE.HOTKEYS", "BY", "BYTES") == [[b"k", 5 * 20_000]]


# --- writes that leave the value -------------------------------------------------------------------
@pytest.mark.parametrize(
    "command",
    [
        "CACHE.TOUCH k EX 50",
        "CACHE.TOUCH k EXAUTO 5 50",
        "CACHE.STALE k",
        "CACHE.TAG k x y z w",
        "CACHE.UNTAG k a",
        "CACHE.INVALIDATE SOFT TAGS a",
        "PERSIST k",
        "RENAME k other{k}",
        "COPY k other{k}",
        "COPY k other{k} REPLACE",
    ],
)
def test_it_stays_as_it_is_stored(on, command):
    on("CACHE.SET", "k", page(3000), "EX", 100, "GRACE", 100, "TAGS", "a")
    was = packed(on)
    on.config(MIN, 0)
    assert on(*command.split()) is not None
    on.wait_swept()
    name = "other{k}" if "other" in command else "k"
    assert on("CACHE.GET", name, "STALE") == page(3000) and meta(on, name)["bytes"] == 3000
    assert packed(on) == tuple(n * (2 if command.startswith("COPY") else 1) for n in was)
    assert payload.dumped_meta(on("DUMP", name)).unpacked == 3000
    on("FLUSHALL")
    wait_for(lambda: packed(on) == (0, 0, 0), "all to be freed")


def test_exauto_compares_what_was_written_and_not_how_it_is_stored(on):
    value = page(2000)

    def refilled(*options):
        assert on("CACHE.SET", "k", value, "EXAUTO", 10, 1000) == b"OK"
        found = meta(on, "k")
        return found["refills"], found["change-ms"]

    on("CACHE.SET", "k", value, "EX", 100)
    assert packed(on)[0] == 1 and refilled() == (1, -1), "packed, and without EXAUTO before"
    on.config(MIN, 0)
    assert refilled() == (2, -1) and packed(on)[0] == 0
    on.config(MIN, 1)
    assert refilled() == (3, -1) and packed(on)[0] == 1


# --- what it takes ---------------------------------------------------------------------------------
@single
@pytest.mark.parametrize("size", [300, 2_000, 20_000, 200_000])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "timed", "tagged", "adaptive"])
def test_memory_is_what_is_allocated(fresh_server, size, options):
    server = fresh_server(["--activerehashing", "yes"], module_args=(*DEBUG, *ON))

    def write(first, count):
        connection = server.connect()
        lines = [("CACHE.SET", f"k:{n:09}", page(size, n), *options) for n in range(first, first + count)]
        for at in range(0, count, 50):
            assert set(connection.pipeline(lines[at : at + 50])) == {b"OK"}
        assert connection("CACHE.GET", f"k:{first:09}") == page(size, first)
        connection.close()  # and its buffers, that are no entry's

    def settled():
        wait_for(lambda: server.info("clients")["connected_clients"] == "1", "clients to be gone")
        wait_for(lambda: b"rehashing target" not in server("DEBUG", "HTSTATS", 0), "tables to be resized")
        return int(server.info("memory")["used_memory"]), fields(server("CACHE.STATS"))["bytes"]

    # What is made once is made; the names of tags are, and the buffers of such sizes.
    write(0, 60)
    before, was = settled()
    count = max((2 << 20) // (size // 3 + 200), 20)
    write(100, count)
    used, said = settled()
    assert abs((said - was) - (used - before)) <= 0.05 * (used - before), (
        f"{said - was} said, {used - before}"
    )
    assert size < 2000 or used - before < 0.75 * count * size, "and it is less than the values were"
    usage = [server("MEMORY", "USAGE", f"k:{n:09}") for n in range(100, 100 + count, 7)]
    assert abs(sum(usage) / len(usage) * count - (used - before)) <= 0.05 * (used - before) + 40 * count
    entries, stored, came = packed(server)
    assert (entries, came) == (count + 60, (count + 60) * size) and stored < 0.75 * came
    server("CACHE.INVALIDATE", "NAMESPACE", "k")
    await_sweep(server)
    wait_for(lambda: packed(server) == (0, 0, 0), "all to be freed")
    assert_verified(server)


@single
def test_budgets_see_what_is_stored(fresh_server):
    server = fresh_server(module_args=ON)
    server.config("cacheflow.max-memory", "2mb")
    values = [("CACHE.SET", f"k:{n}", page(16_000, n), "EX", 1000) for n in range(250)]
    assert set(server.connect().pipeline(values)) == {b"OK"}
    assert fields(server("CACHE.STATS"))["evictions"] == 0, "4 MB in 2"
    server.config(MIN, 0)
    assert set(server.connect().pipeline(values)) == {b"OK"}
    assert fields(server("CACHE.STATS"))["evictions"] > 100


# --- away and back ---------------------------------------------------------------------------------
def restart(server):
    server("SAVE")
    server.restart()


def rewrite(preamble):
    def away(server):
        server.config("aof-use-rdb-preamble", preamble)
        server.bgrewriteaof()
        server.restart()

    return away


@single
@pytest.mark.parametrize(
    ("args", "away"),
    [
        ((), restart),
        ((), lambda server: server.reload()),
        (AOF, lambda server: server.restart()),
        (AOF, rewrite("yes")),
        (AOF, rewrite("no")),
    ],
    ids=["restart", "DEBUG RELOAD", "AOF", "rewritten AOF", "rewritten AOF of commands"],
)
def test_it_is_read_back_as_it_was_stored(fresh_server, args, away):
    server = fresh_server(args=args)
    for name, value in ((MIN, 64), (MAX, "2mb")):
        server.config(name, value)
    fill(server)
    server("CACHE.SET", "adaptive, packed", page(9000), "EXAUTO", 900, 9000, "GRACE", 1000, "TAGS", *range(7))
    server("CACHE.SET", "packed", page(90_000), "EX", 1000)
    before, was, held = snapshot(server), digest(server), packed(server)
    assert held[0] == 3
    # A restart forgets the directives: who does not pack reads it all the same.
    away(server)
    assert_same(before, snapshot(server), "before and after")
    assert digest(server) == was and packed(server) == held
    assert_verified(server)
    assert int(server.info()["cacheflow_corrupt_values"]) == 0


@pytest.mark.topology("replica")
def test_a_replica_has_what_its_primary_has(topology):
    primary, replica = topology.primary, topology.replica
    primary.config(MIN, 64)
    primary("CACHE.SET", "before", page(5000), "EX", 1000, "TAGS", "t")
    replica.config(MIN, 0)
    for n in range(20):
        primary("CACHE.SET", f"k:{n}", page(200 << n // 3, n), "EX", 1000, "TAGS", "t")
    primary("CACHE.TOUCH", "before", "EX", 500)
    primary("CACHE.TAG", "before", "u")
    primary.config(MIN, 0)
    primary("CACHE.SET", "plain", page(5000), "EX", 1000)
    replica.config(MIN, 64)
    primary("CACHE.SET", "plain", page(5000, 1), "EX", 1000)
    replica.wait_replica_of(primary)
    assert packed(primary) == packed(replica) and packed(primary)[0] == 21
    assert digest(primary) == digest(replica)
    for name in ("before", "plain", "k:0", "k:19"):
        one, two = primary.reader(), replica.reader()
        assert one("DUMP", name) == two("DUMP", name)
        assert one("CACHE.GET", name) == two("CACHE.GET", name) is not None


@single
def test_payloads_travel_between_servers_that_pack_and_that_do_not(fresh_server):
    packs, does_not = fresh_server(module_args=ON), fresh_server()
    for server in (packs, does_not):
        server("CACHE.SET", "k", page(6000), "EX", 1000, "TAGS", "t")
    for source, target, count in ((packs, does_not, 1), (does_not, packs, 1)):
        data = source("DUMP", "k")
        assert target("RESTORE", "copy", 1000, data) == b"OK"
        assert target("CACHE.GET", "copy") == page(6000)
        assert packed(target)[0] == count, "as it was stored where it comes from"
        assert payload.unpack(target("DUMP", "copy"))[1] == payload.unpack(data)[1]


# --- from an enemy ---------------------------------------------------------------------------------
def hand_made(server, value, length, **more):
    """A payload of that packed value which this server's version allows."""
    server("CACHE.SET", "model", "v")
    version = payload.rdb_version(server("DUMP", "model"))
    server("DEL", "model")
    return seal(payload.body(encode(Meta(born=1, unpacked=length, **more)), value), version)


def test_a_value_that_others_have_packed_is_taken_where_it_unpacks(server):
    for length in (100, 5000, 70_000, 1_000_000):
        data = hand_made(server, lz4.run(length), length)
        assert server("RESTORE", "payload:k", 0, data, "REPLACE") == b"OK"
        assert server("CACHE.GET", "payload:k") == b"a" * (length - 7) + b"the end"
        assert payload.unpack(server("DUMP", "payload:k"))[1] == lz4.run(length), "as it came"


def test_what_does_not_unpack_is_refused(server):
    good, length = lz4.run(5000), 5000
    assert lz4.intact(good, length)
    server("CACHE.SET", "k", "v", "EX", 100)
    dice, was = random.Random(7), digest(server)
    cases = [(good, length + 1), (good, length - 1), (good, 255 * len(good)), (good, 64), (good[:-1], length)]
    cases += [(good + b"\x00", length), (b"", 64), (b"\x00" * 40, 64), (b"\xff" * 4000, 512 << 20)]
    cases += [(dice.randbytes(dice.randrange(1, 99)), dice.randrange(64, 5000)) for _ in range(500)]
    for _ in range(500):
        flipped = bytearray(good)
        flipped[dice.randrange(len(good))] ^= 1 << dice.randrange(8)
        cases.append((bytes(flipped), length))
    refused = figure(server, "refused_payloads", "cacheflow_stats")
    for value, said in cases:
        read = lz4.intact(value, said)
        data = hand_made(server, value, said) if read is None or dice.random() < 0.1 else None
        if read is not None:
            if data:
                assert server("RESTORE", "payload:k{k}", 0, data, "REPLACE") == b"OK"
                assert server("CACHE.GET", "payload:k{k}") == read
            continue
        assert server.error("RESTORE", "new{k}", 0, data).startswith("ERR Bad data format")
        given = encode(Meta(born=1, unpacked=said))
        assert server.error("CACHE.APPLY", "k", 0, given, value) == REFUSED
    assert server.error("CACHE.APPLY", "k", 0, encode(Meta(born=1, unpacked=100))) == REFUSED, "of no value"
    server("DEL", "payload:k{k}")
    assert digest(server) == was and figure(server, "refused_payloads", "cacheflow_stats") > refused + 1000


def test_the_limit_is_on_what_a_client_unpacks(server):
    server.config("cacheflow.max-value-size", 10_000)
    # Born now: whatever was invalidated before, it is not dead.
    born = time.time_ns() // 1000
    request = ("CACHE.APPLY", "k", 0, encode(Meta(born=born, unpacked=1_000_000)), lz4.run(1_000_000))
    assert server.error(*request).startswith("TOOBIG value of 1000000 bytes")
    server.config("cacheflow.max-value-size", 1_000_000)
    assert server(*request) == b"OK" and meta(server, "k")["bytes"] == 1_000_000


@single
def test_a_file_that_was_falsified_gives_errors_and_never_wrong_bytes(fresh_server):
    """No checksum was asked for, so the server loads it; what does not unpack is an error to each reader."""
    plain = ["--rdbchecksum", "no", "--rdbcompression", "no"]
    server = fresh_server(args=plain, module_args=ON)
    server("CACHE.SET", "good", page(900), "EX", 1000)
    server("CACHE.SET", "bad", page(5000), "EX", 1000, "GRACE", 1000)
    value = payload.unpack(server("DUMP", "bad"))[1]
    server("SAVE")
    server.stop()
    path = os.path.join(server.directory, "dump.rdb")
    with open(path, "rb") as file:
        data = file.read()
    assert data.count(value) == 1
    broken = bytearray(value)
    broken[-300:] = b"\x00" * 300  # offsets of zero
    assert lz4.unpack(bytes(broken), 5000) is None
    with open(path, "wb") as file:
        file.write(data.replace(value, bytes(broken)))
    server.start()
    assert packed(server)[0] == 2
    for command in ("CACHE.GET bad", "CACHE.GET bad STALE", "CACHE.FETCH bad", "CACHE.FETCH bad WITHTAGS"):
        assert server.error(*command.split()).startswith(CORRUPT), command
    one, two = server("CACHE.MGET", "good", "bad")
    assert one == page(900) and str(two).startswith(CORRUPT)
    assert meta(server, "bad")["bytes"] == 5000
    found = fields(server("CACHE.VERIFY"))
    assert found["problems"] == [b"db 0: 1 packed values do not unpack"]
    assert figure(server, "corrupt_values", "cacheflow_stats") >= 6
    # Nothing is granted by an answer that is an error; whoever writes puts it right.
    assert server("CACHE.STALE", "bad") == 1
    assert server.error("CACHE.FETCH", "bad").startswith(CORRUPT)
    assert fields(server("CACHE.STATS"))["leases"] == 0
    assert server("CACHE.TOUCH", "bad", "EX", 100) == 1 and server.error("CACHE.GET", "bad")
    assert server("CACHE.SET", "bad", page(5000), "EXAUTO", 10, 100) == b"OK"
    assert server("CACHE.GET", "bad") == page(5000)
    assert_verified(server)
