"""CACHE.HOTKEYS: which keys are read most, save most, move most bytes, are waited for most."""

import random

import pytest

from harness.leases import fetcher, fill, grant
from harness.server import wait_for
from harness.tagged import DEBUG, figure, turn_clock
from harness.topologies import several_databases

single = pytest.mark.topology("single")


def hot(connection, *options):
    """Keys with their figures, in order."""
    return [(key, figure) for key, figure in connection("CACHE.HOTKEYS", *options)]


def read(connection, key, times):
    """Read a key so many times."""
    assert None not in connection.pipeline([("CACHE.GET", key)] * times)


@pytest.fixture
def connection(server):
    """A connection of its own, that pipelines."""
    return server.connect()


def test_hits_are_the_reads_of_every_command(server, connection):
    for key in ("a", "b", "c", "unread"):
        server("CACHE.SET", key, "v", "EX", 100, "GRACE", 100)
    read(connection, "a", 7)
    for _ in range(3):
        assert server("CACHE.MGET", "b") == [b"v"]
        assert server("CACHE.FETCH", "b")[0] == b"FRESH"
    server("CACHE.STALE", "c")
    assert server("CACHE.GET", "c") is None, "no hit"
    assert server("CACHE.GET", "c", "STALE") == b"v"
    assert server("CACHE.FETCH", "c", "BETA", 0)[0] == b"STALE"
    server("CACHE.META", "unread")
    assert hot(server) == hot(server, "BY", "HITS") == [(b"a", 7), (b"b", 6), (b"c", 2)]
    assert hot(server, "COUNT", 1) == [(b"a", 7)]
    assert hot(server, "count", 2, "by", "hits") == [(b"a", 7), (b"b", 6)]


def test_ten_are_shown_where_nobody_says(server):
    for n in range(12):
        server("CACHE.SET", f"k{n}", "v")
        server("CACHE.GET", f"k{n}")
    assert len(hot(server)) == 10 and len(hot(server, "COUNT", 5000)) == 12


def test_cost_is_the_load_that_the_origin_is_spared(server, connection):
    server("CACHE.SET", "cheap", "v", "COST", 2)
    server("CACHE.SET", "dear", "v", "COST", 300)
    server("CACHE.SET", "never-filled:k", "v")
    read(connection, "cheap", 20)
    read(connection, "dear", 3)
    read(connection, "never-filled:k", 50)
    assert hot(server, "BY", "COST") == [(b"dear", 900), (b"cheap", 40)]
    token = grant(server, "space:filled")
    fill(server, "space:filled", token)  # measured: a millisecond at least
    server("CACHE.SET", "space:other", "v")
    read(connection, "space:other", 5)
    costs = dict(hot(server, "BY", "COST"))
    assert costs[b"space:other"] >= 5, "the namespace's usual cost"


def test_bytes_are_those_sent_and_stored(server, connection):
    server("CACHE.SET", "written", "v" * 1000)
    server("CACHE.SET", "read", "v" * 10)
    read(connection, "read", 9)
    server("CACHE.TOUCH", "written")
    server("CACHE.SET", "absent", "v" * 5000)
    server("CACHE.DEL", "absent")
    assert hot(server, "BY", "BYTES") == [(b"written", 1000), (b"read", 100)]


def test_waits_are_of_absent_keys_too(server):
    token = grant(server, "k")
    line = [fetcher(server, "k") for _ in range(3)]
    assert hot(server, "BY", "WAITS") == [(b"k", 3)]
    fill(server, "k", token)
    assert [waiter.answer().state for waiter in line] == [b"FRESH"] * 3
    server("CACHE.DEL", "k")
    assert hot(server, "BY", "WAITS") == [(b"k", 3)], "nothing is there, and it was waited for"
    assert hot(server) == []


def test_only_what_can_be_read_is_shown(server):
    for key in ("deleted", "dead", "stale", "native", "list"):
        server("CACHE.SET", key, "v", "EX", 100, "GRACE", 100, "TAGS", key)
        server("CACHE.GET", key)
    server("DEL", "deleted")
    server("CACHE.INVALIDATE", "TAGS", "dead")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "stale")
    server("SET", "native", "v")
    server("DEL", "list")
    server("RPUSH", "list", "v")
    assert sorted(hot(server)) == [(b"native", 1), (b"stale", 1)]


@several_databases
def test_of_the_selected_database(server):
    other = server.connect(db=1)
    server("CACHE.SET", "k", "v")
    other("CACHE.SET", "k", "v")
    server("CACHE.GET", "k")
    for _ in range(3):
        other("CACHE.GET", "k")
    assert (hot(server), hot(other)) == ([(b"k", 1)], [(b"k", 3)])
    server("SWAPDB", 0, 1)
    assert (hot(server), hot(other)) == ([(b"k", 3)], [(b"k", 1)])
    server("FLUSHDB")
    assert (hot(server), hot(other)) == ([], [(b"k", 1)])
    server("FLUSHALL")
    assert hot(other) == []


def test_a_flush_leaves_nothing(server, connection):
    empty = figure(server, "hot_bytes")
    for n in range(100):
        server("CACHE.SET", f"k{n}", "v", "COST", 5)
        server("CACHE.GET", f"k{n}")
    assert figure(server, "hot_bytes") > empty
    server("FLUSHALL")
    assert figure(server, "hot_bytes") == empty and hot(server) == []


@single
def test_figures_halve_in_five_minutes(fresh_server):
    server = fresh_server(module_args=DEBUG)
    server("CACHE.SET", "k", "v", "EX", 10_000)
    read(server.connect(), "k", 100)
    assert hot(server) == [(b"k", 100)]
    turn_clock(server, 5 * 60_000 + 500)
    assert hot(server) == [(b"k", 50)]
    turn_clock(server, 10 * 60_000 + 500)
    assert hot(server) == [(b"k", 25)]
    turn_clock(server, 3 * 3600_000)
    assert hot(server) == []
    wait_for(lambda: figure(server, "refresh_candidates", "cacheflow_leases") == 0, "the candidate to go")


@single
def test_very_many_keys_leave_the_heaviest(fresh_server):
    """More keys than counters: the error is bounded, so is the memory, and the heavy ones are found."""
    server = fresh_server()
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"k{n}", "v") for n in range(5000)])
    reads = [f"k{n}" for n in range(5000)] + [f"k{n}" for n in range(3) for _ in range(20_000)]
    random.Random(7).shuffle(reads)
    for at in range(0, len(reads), 500):
        connection.pipeline([("CACHE.GET", key) for key in reads[at : at + 500]])
    found = hot(server, "COUNT", 3)
    # Who reads so fast is sampled, one in a hundred or so: of 20,000 some 200, give or take 14.
    assert {key for key, _ in found} == {b"k0", b"k1", b"k2"}, found
    assert all(10_000 < hits < 40_000 for _, hits in found), found
    for n in range(3000):
        name = "n" * 900 + str(n)
        connection("CACHE.SET", name, "v")
        connection("CACHE.GET", name)
    assert figure(server, "hot_bytes") < 12_000_000
    assert connection("CACHE.SET", "n" * 2000, "v") == b"OK" and connection("CACHE.GET", "n" * 2000) == b"v"
    assert b"n" * 2000 not in dict(hot(server, "COUNT", 1024)), "a name that is too long to be kept"


def test_what_is_wrong_is_answered(server):
    for words in ("BY", "BY KEYS", "COUNT", "COUNT 0", "BY HITS BY COST", "COUNT 1 COUNT 2", "HITS", "5"):
        assert server.error("CACHE.HOTKEYS", *words.split()) == "ERR syntax error", words
    for count in ("-1", "x", "1.5", ""):
        error = server.error("CACHE.HOTKEYS", "COUNT", count)
        assert error == "ERR value is not an integer or out of range", count


@pytest.mark.topology("replica")
def test_a_replica_counts_its_own_reads(topology):
    primary, replica = topology.primary, topology.replica
    primary("CACHE.SET", "k", "v")
    replica.wait_replica_of(primary)
    for _ in range(4):
        assert replica("CACHE.GET", "k") == b"v"
    assert (hot(primary), hot(replica)) == ([], [(b"k", 4)])


@pytest.mark.topology("cluster")
def test_of_the_shard_that_was_asked(topology):
    home, other = topology.cluster.primaries()[:2]
    connection = home.connect()
    connection("CACHE.SET", "k", "v")
    assert connection("CACHE.GET", "k") == b"v"
    owner = topology.cluster.node_of("k")
    assert owner is home and (hot(home.ask), hot(other.ask)) == ([(b"k", 1)], [])
