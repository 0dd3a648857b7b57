"""What CacheFlow says that it holds is what the server has allocated for it, at every size."""

import pytest

from harness.resp import fields
from harness.server import wait_for
from harness.tagged import DEBUG, await_sweep, figure
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

CLOSE = 0.05
FEWEST = 2 << 20  # bytes that are written: what else moves in a server is small against it


@pytest.fixture
def warm(fresh_server):
    """A server that has made once what is made once."""
    server = fresh_server(["--activerehashing", "yes"], module_args=DEBUG)
    server.connect().pipeline([("CACHE.SET", f"warm:{n}", "v", "EX", 100, "TAGS", "w") for n in range(100)])
    server("FLUSHALL")
    server("CACHE.FETCH", "warm:lease")
    server("CACHE.DEL", "warm:lease")
    return server


def used(server):
    return int(server.info("memory")["used_memory"])


def stats(server, *of):
    return fields(server("CACHE.STATS", *of))


def settle(server):
    """Nothing is being resized or freed any more."""
    wait_for(lambda: b"rehashing target" not in server("DEBUG", "HTSTATS", 0), "tables to be resized")
    wait_for(lambda: int(server.info("memory").get("lazyfree_pending_objects", 0)) == 0, "lazy free")


def fill(server, count, size, name=24, options=()):
    """That many entries with values of that size."""
    connection = server.connect()
    for begin in range(0, count, 500):
        lines = [
            ("CACHE.SET", f"space:{n:0{name - 6}}", "v" * size, *options)
            for n in range(begin, min(begin + 500, count))
        ]
        assert set(connection.pipeline(lines)) == {b"OK"}
    connection.close()


SIZES = [10, 100, 1_000, 10_000, 100_000, 1_000_000]
OPTIONS = [(), ("EX", 10_000), ("EX", 10_000, "GRACE", 10_000, "COST", 5, "TAGS", "a", "b")]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "timed", "tagged"])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_what_the_allocator_says(warm, size, options):
    count = max(FEWEST // (size + 150), 8)
    before, was, hot = used(warm), stats(warm)["bytes"], figure(warm, "hot_bytes")
    fill(warm, count, size, options=options)
    settle(warm)
    grown, said = used(warm) - before, stats(warm)["bytes"] - was
    assert abs(said - grown) <= CLOSE * grown, f"{count} x {size}: {said} said, {grown} used"
    info, found = warm.info("cacheflow_memory"), stats(warm)
    assert int(info["cacheflow_total_bytes"]) == found["bytes"]
    of_namespace = stats(warm, "NAMESPACE", "space")["bytes"]
    grown -= figure(warm, "hot_bytes") - hot  # CACHE.HOTKEYS's tables are of no namespace
    assert abs(of_namespace - grown) <= CLOSE * grown, "the namespace's own"
    usage = [warm("MEMORY", "USAGE", f"space:{n:018}") for n in range(0, count, count // 8)]
    assert abs(sum(usage) / len(usage) * count - grown) <= CLOSE * grown + 40 * count, "MEMORY USAGE"
    assert_verified(warm)


@pytest.mark.parametrize("name", [10, 30, 31, 32, 100, 200, 255, 256, 5_000])
def test_names_count(warm, name):
    count = FEWEST // (name + 150)
    before, was = used(warm), stats(warm)["bytes"]
    fill(warm, min(count, 10 ** (name - 6)), 100, name, ("EX", 1000))
    settle(warm)
    grown, said = used(warm) - before, stats(warm)["bytes"] - was
    assert abs(said - grown) <= CLOSE * grown, f"{said} said, {grown} used"


def test_namespaces_add_up_and_return_to_zero(warm):
    chance = [("a", 3000, 50), ("b", 500, 3000), ("c", 40, 60_000)]
    connection = warm.connect()
    for namespace, count, size in chance:
        connection.pipeline([
            ("CACHE.SET", f"{namespace}:{n}", "v" * size, "EX", 100, "TAGS", f"t{n % 7}")
            for n in range(count)
        ])  # fmt: skip
    parts = [stats(warm, "NAMESPACE", namespace)["bytes"] for namespace, _, _ in chance]
    whole = figure(warm, "bytes") + figure(warm, "keyspace_bytes")
    assert abs(sum(parts) - whole) <= CLOSE * whole
    assert parts[1] > 500 * 3000 and parts[2] > 40 * 60_000
    # Rewritten smaller, taken away, moved, made dead: each is counted.
    connection.pipeline([("CACHE.SET", f"b:{n}", "v", "TAGS", f"t{n % 7}") for n in range(500)])
    assert stats(warm, "NAMESPACE", "b")["bytes"] < 500 * 300
    connection.pipeline([("RENAME", f"c:{n}", f"a:c{n}") for n in range(40)])
    assert stats(warm, "NAMESPACE", "c")["bytes"] == 0
    assert stats(warm, "NAMESPACE", "a")["bytes"] >= parts[0] + 40 * 60_000
    warm("CACHE.INVALIDATE", "NAMESPACE", "a")
    await_sweep(warm)
    assert stats(warm, "NAMESPACE", "a")["bytes"] == 0
    warm("FLUSHALL")
    # Valkey 8 frees what is flushed in the background.
    wait_for(lambda: (figure(warm, "bytes"), figure(warm, "keyspace_bytes")) == (0, 0), "the flush")
    assert stats(warm, "NAMESPACE", "b")["bytes"] == 0


def test_leases_and_those_who_wait_are_counted(warm):
    was = stats(warm)["bytes"]
    connection = warm.connect()
    connection.pipeline([("CACHE.LOCK", f"job:{n}", 60_000) for n in range(2000)])
    assert stats(warm)["bytes"] > was + 2000 * 50
    assert figure(warm, "lease_bytes", "cacheflow_leases") > 2000 * 50
    warm("FLUSHALL")
    assert stats(warm)["bytes"] <= was + 65_536
