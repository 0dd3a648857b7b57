"""Budgets of CacheFlow's own: what it holds stays under them, and what goes is what is cheapest to lose."""

import threading

import pytest

from harness.resp import Connection, ReplyError, fields
from harness.server import wait_for
from harness.tagged import DEBUG, await_sweep, figure
from harness.topology import assert_verified

pytestmark = pytest.mark.topology("single")

MB = 1 << 20
VALUE = "v" * 1000
AOF = ("--appendonly", "yes", "--appendfsync", "always")


def stats(server, *of):
    return fields(server("CACHE.STATS", *of))


def write(server, prefix, count, *options, value=VALUE, first=0):
    """Entries prefix:first and so many after it."""
    connection = server.connect()
    replies = connection.pipeline(
        [("CACHE.SET", f"{prefix}:{n}", value, *options) for n in range(first, first + count)]
    )
    connection.close()
    return replies


def left(server, prefix, count):
    """Which of them are still there."""
    replies = server.connect().pipeline([("EXISTS", f"{prefix}:{n}") for n in range(count)])
    return {n for n, there in enumerate(replies) if there}


def held(server):
    return stats(server)["bytes"]


def settle(server):
    """Waits until the turns have evicted what they are going to: some entries in each."""
    looks = iter(lambda: stats(server)["evictions"], None)
    wait_for(lambda: len({next(looks) for _ in range(4)}) == 1, "turns that evict nothing")


# --- max-memory ------------------------------------------------------------------------------------
def test_a_server_stays_under_it(fresh_server):
    server = fresh_server()
    server.config("cacheflow.max-memory", 4 * MB)
    for batch in range(20):
        assert set(write(server, "k", 500, "EX", 1000, "TAGS", "t", first=500 * batch)) == {b"OK"}
        assert held(server) <= 4 * MB, "after every batch"
    settle(server)
    found = stats(server)
    assert found["entries"] > 2000, "it is used, and not emptied"
    assert found["evictions"] == 10_000 - found["entries"] == stats(server, "NAMESPACE", "k")["evictions"]
    assert_verified(server)


@pytest.mark.parametrize("size", [10, 100, 5_000, 60_000])
def test_at_every_size(fresh_server, size):
    server = fresh_server()
    used = int(server.info("memory")["used_memory"])
    server.config("cacheflow.max-memory", 6 * MB)
    for batch in range(6):
        write(server, f"k{batch}", max(3 * MB // (size + 200), 10), value="v" * size)
    assert held(server) <= 6 * MB
    assert held(server) > 5 * MB, "nor far under it"
    grown = int(server.info("memory")["used_memory"]) - used
    assert grown <= 6 * MB * 1.06 + 300_000, "and the allocator agrees"


def test_a_budget_that_is_lowered(fresh_server):
    server = fresh_server()
    write(server, "k", 8000)
    assert held(server) > 8 * MB and stats(server)["evictions"] == 0
    server.config("cacheflow.max-memory", 5 * MB)
    wait_for(lambda: held(server) <= 5 * MB, "the rest to go")
    assert held(server) > 4 * MB
    server.config("cacheflow.max-memory", 0)
    write(server, "more", 3000)
    assert stats(server)["entries"] > 6000, "without one nothing goes"


def test_a_value_larger_than_the_budget_is_refused_and_costs_nobody_anything(fresh_server):
    server = fresh_server()
    server.config("cacheflow.max-memory", 2 * MB)
    write(server, "k", 1000)
    was = stats(server)
    assert server.error("CACHE.SET", "big", "v" * (2 * MB)).startswith("OOM")
    now = stats(server)
    assert (now["entries"], now["evictions"]) == (was["entries"], was["evictions"])
    assert server("EXISTS", "big") == 0
    assert server("CACHE.SET", "half", "v" * MB) == b"OK" and held(server) <= 2 * MB


def test_native_keys_are_not_touched(fresh_server):
    server = fresh_server()
    server.connect().pipeline([("SET", f"n:{n}", VALUE) for n in range(3000)])
    server.config("cacheflow.max-memory", 2 * MB)
    write(server, "k", 6000)
    assert len(left(server, "n", 3000)) == 3000


# --- what goes -------------------------------------------------------------------------------------
def test_the_dead_go_first(fresh_server):
    server = fresh_server(module_args=DEBUG)
    server("CACHE.DEBUG", "SWEEP", 0)
    write(server, "dead", 1500, "TAGS", "t")
    write(server, "good", 1500)
    server("CACHE.INVALIDATE", "TAGS", "t")
    server.config("cacheflow.max-memory", held(server))
    write(server, "more", 700)
    assert len(left(server, "good", 1500)) > 1350 > 1000 > len(left(server, "dead", 1500))


@pytest.mark.parametrize("policy", ["cost", "lru"])
def test_what_is_read_stays(fresh_server, policy):
    server = fresh_server()
    server.config("cacheflow.evict-policy", policy)
    server.config("cacheflow.max-memory", 4 * MB)
    write(server, "hot", 400)
    for batch in range(30):
        write(server, "cold", 300, first=300 * batch)
        server.connect().pipeline([("CACHE.GET", f"hot:{n}") for n in range(400)])
    assert len(left(server, "hot", 400)) > 390


def test_what_is_dear_stays(fresh_server):
    server = fresh_server()
    server.config("cacheflow.max-memory", 4 * MB)
    chance = [("dear", 10_000), ("cheap", 1)]
    for batch in range(20):
        for prefix, cost in chance:
            write(server, prefix, 200, "COST", cost, first=200 * batch)
    dear, cheap = (len(left(server, prefix, 4000)) for prefix, _ in chance)
    assert dear > 4 * cheap, f"{dear} dear, {cheap} cheap"
    server("FLUSHALL")
    server.config("cacheflow.evict-weight", "none")
    for batch in range(20):
        for prefix, cost in chance:
            write(server, prefix, 200, "COST", cost, first=200 * batch)
    dear, cheap = (len(left(server, prefix, 4000)) for prefix, _ in chance)
    assert dear < 2 * cheap, "where the weight is none it is worth no more"


def test_policy_none_refuses_what_has_no_room(fresh_server):
    server = fresh_server()
    server.config("cacheflow.evict-policy", "none")
    server.config("cacheflow.max-memory", 2 * MB)
    replies = write(server, "k", 4000)
    refused = [reply for reply in replies if isinstance(reply, ReplyError)]
    assert refused and all(str(reply).startswith("OOM") for reply in refused)
    assert stats(server)["evictions"] == 0 and held(server) <= 2 * MB
    assert server("CACHE.GET", "k:0") == VALUE.encode(), "what was there stays"
    assert server("CACHE.DEL", *(f"k:{n}" for n in range(50))) == 50
    assert server("CACHE.SET", "again", VALUE) == b"OK"


def test_a_leased_key_is_never_evicted(fresh_server):
    server = fresh_server()
    write(server, "leased", 20, "EX", 1000, "GRACE", 1000)
    server("CACHE.STALE", *(f"leased:{n}" for n in range(20)))
    holder = server.connect()
    tokens = [holder("CACHE.FETCH", f"leased:{n}", "LEASE", 60_000)[2] for n in range(20)]
    assert all(tokens)
    lock = server("CACHE.LOCK", "locked:1", 60_000)
    write(server, "locked", 2)
    server.config("cacheflow.max-memory", MB)
    write(server, "k", 5000)
    assert left(server, "leased", 20) == set(range(20)) and server("EXISTS", "locked:1") == 1
    assert server("CACHE.SET", "leased:3", "v", "LEASE", tokens[3]) == b"OK"
    assert server("CACHE.UNLOCK", "locked:1", lock) == 1


# --- namespaces ------------------------------------------------------------------------------------
def test_what_is_remembered_of_leases_is_a_small_part(fresh_server):
    """Who fetches and then writes without the token, or never writes, drives nobody out."""
    server, budget = fresh_server(), 4 * MB
    server.config("cacheflow.max-memory", budget)
    connection = server.connect()
    for batch in range(20):
        keys = [f"k:{n}" for n in range(1000 * batch, 1000 * (batch + 1))]
        connection.pipeline([("CACHE.FETCH", key) for key in keys])
        assert set(connection.pipeline([("CACHE.SET", key, VALUE) for key in keys])) == {b"OK"}
        connection.pipeline([("CACHE.FETCH", f"never:{key}", "LEASE", 1) for key in keys])
        wait_for(lambda: figure(server, "leases", "cacheflow_leases") == 0, "leases that run out")
    settle(server)
    assert held(server) <= budget
    assert figure(server, "lease_bytes", "cacheflow_leases") < budget / 8
    assert stats(server)["entries"] > 2000
    assert_verified(server)


def test_a_namespace_has_its_own(fresh_server):
    server = fresh_server()
    server("CACHE.NAMESPACE", "SET", "small", "MAXMEMORY", MB)
    write(server, "small", 4000)
    write(server, "large", 4000)
    assert stats(server, "NAMESPACE", "small")["bytes"] <= MB
    assert stats(server, "NAMESPACE", "small")["entries"] > 600
    assert len(left(server, "large", 4000)) == 4000
    server("CACHE.NAMESPACE", "SET", "large", "MAXMEMORY", 2 * MB)
    wait_for(lambda: stats(server, "NAMESPACE", "large")["bytes"] <= 2 * MB, "a namespace over its budget")
    server("CACHE.NAMESPACE", "DEL", "small")
    write(server, "small", 4000)
    assert len(left(server, "small", 4000)) == 4000


def test_a_small_namespace_among_many_entries(fresh_server):
    """Its entries are one in a hundred of the table's, and are found all the same."""
    server = fresh_server()
    write(server, "large", 60_000, value="v")
    server("CACHE.NAMESPACE", "SET", "small", "MAXMEMORY", 200_000)
    for batch in range(30):
        write(server, "small", 200, first=200 * batch)
        assert stats(server, "NAMESPACE", "small")["bytes"] <= 200_000
    assert stats(server, "NAMESPACE", "small")["entries"] > 100
    assert len(left(server, "large", 60_000)) == 60_000


def test_a_namespaces_policy(fresh_server):
    server = fresh_server()
    server("CACHE.NAMESPACE", "SET", "kept", "POLICY", "none")
    server.config("cacheflow.max-memory", 4 * MB)
    write(server, "kept", 1000)
    write(server, "k", 8000)
    assert len(left(server, "kept", 1000)) == 1000 and held(server) <= 4 * MB
    server("CACHE.NAMESPACE", "SET", "kept", "MAXMEMORY", MB)
    assert any(isinstance(reply, ReplyError) for reply in write(server, "kept", 1000, first=1000))
    assert len(left(server, "kept", 1000)) == 1000


def test_in_every_database_together(fresh_server):
    server = fresh_server()
    server("CACHE.NAMESPACE", "SET", "n", "MAXMEMORY", MB)
    for db in (0, 3):
        connection = server.connect(db=db)
        connection.pipeline([("CACHE.SET", f"n:{n}", VALUE) for n in range(2000)])
    assert stats(server, "NAMESPACE", "n")["bytes"] <= MB
    assert_verified(server)


# --- evict-at: a cache beside durable data ---------------------------------------------------------
def test_durable_data_is_never_touched_nor_refused(fresh_server):
    server = fresh_server(["--maxmemory-policy", "noeviction"])
    room = int(server.info("memory")["used_memory"]) + 24 * MB
    server.config("maxmemory", room)
    server.config("cacheflow.evict-at", 85)
    write(server, "k", 18_000)
    wait_for(lambda: int(server.info("memory")["used_memory"]) <= 0.86 * room, "entries to go")
    assert stats(server)["evictions"] > 0
    # Twelve megabytes of durable data, by several clients at once, where there are as many of entries.
    refused = []

    def client(number):
        connection = Connection(server.port)
        for batch in range(30):
            lines = [("SET", f"durable:{number}:{100 * batch + n}", VALUE) for n in range(25)]
            refused.extend(reply for reply in connection.pipeline(lines) if reply != b"OK")
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    names = [
        f"durable:{number}:{100 * batch + n}" for number in range(8) for batch in range(30) for n in range(25)
    ]
    assert server("EXISTS", *names) == len(names) == 6000
    assert int(server.info("stats")["evicted_keys"]) == 0, "the server itself evicted nothing"
    # Once there is nothing to give, the server refuses as it always did.
    replies = server.connect().pipeline([("SET", f"more:{n}", VALUE) for n in range(40_000)])
    assert any(isinstance(reply, ReplyError) for reply in replies)
    assert stats(server)["entries"] < 100, "not before the entries were given"


def test_it_is_off_unless_asked_for(fresh_server):
    server = fresh_server(["--maxmemory-policy", "noeviction"])
    server.config("maxmemory", int(server.info("memory")["used_memory"]) + 4 * MB)
    replies = write(server, "k", 6000)
    assert any(isinstance(reply, ReplyError) for reply in replies) and stats(server)["evictions"] == 0


# --- who is told -----------------------------------------------------------------------------------
def test_evictions_are_replicated_saved_and_told(fresh_server):
    primary = fresh_server(AOF)
    replica = fresh_server(["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.config("cacheflow.max-memory", MB)
    replica.wait_replica_of(primary)
    primary.config("notify-keyspace-events", "KEAd")
    listener = primary.connect()
    listener("SUBSCRIBE", "__keyevent@0__:cache.evicted")
    primary.config("cacheflow.max-memory", 3 * MB)
    write(primary, "k", 6000, "EX", 1000)
    settle(primary)
    replica.wait_replica_of(primary)
    entries = stats(primary)["entries"]
    assert stats(replica)["entries"] == entries and held(replica) > MB, "a replica evicts nothing by itself"
    assert listener.read()[2].startswith(b"k:")
    primary.restart()
    assert stats(primary)["entries"] == entries
    assert_verified(primary)
    replica("REPLICAOF", "NO", "ONE")
    wait_for(lambda: held(replica) <= MB, "a replica that was promoted")


def test_tracking_is_told(fresh_server):
    server = fresh_server()
    reader = server.connect(3)
    reader("CLIENT", "TRACKING", "ON")
    server("CACHE.SET", "watched", VALUE)
    assert reader("CACHE.GET", "watched") == VALUE.encode()
    server.config("cacheflow.max-memory", 2 * MB)
    for batch in range(12):
        write(server, "k", 1000, first=1000 * batch)
    wait_for(lambda: server("EXISTS", "watched") == 0, "it to be evicted")
    assert list(reader.push()) == [b"invalidate", [b"watched"]]


def test_by_reason(fresh_server):
    server = fresh_server(["--maxmemory-policy", "noeviction"])
    server("CACHE.NAMESPACE", "SET", "n", "MAXMEMORY", MB)
    write(server, "n", 3000)
    server.config("cacheflow.max-memory", 3 * MB)
    write(server, "k", 5000)
    settle(server)
    info = server.info("cacheflow_stats")
    of_namespace, of_all = (int(info[f"cacheflow_evicted_{why}"]) for why in ("namespace", "max_memory"))
    assert of_namespace > 1000 and of_all > 1000
    assert of_namespace + of_all + int(info["cacheflow_evicted_server"]) == stats(server)["evictions"]


def test_in_transactions_and_scripts(fresh_server):
    server = fresh_server(AOF)
    server.config("cacheflow.max-memory", 2 * MB)
    script = "for n = 1, 3000 do redis.call('CACHE.SET', 'k:' .. n, ARGV[1]) end return redis.call('DBSIZE')"
    assert server("EVAL", script, 0, VALUE) < 2000
    assert held(server) <= 2 * MB
    connection = server.connect()
    lines = [("MULTI",), *(("CACHE.SET", f"m:{n}", VALUE) for n in range(3000)), ("EXEC",)]
    assert connection.pipeline(lines)[-1] == [b"OK"] * 3000
    assert held(server) <= 2 * MB
    # The turns go on to three percent below.
    wait_for(lambda: len({stats(server)["entries"] for _ in range(20)}) == 1, "evictions to end")
    entries = stats(server)["entries"]
    server.restart()
    assert stats(server)["entries"] == entries
    assert_verified(server)


def test_what_restore_and_copy_bring_counts(fresh_server):
    server = fresh_server(module_args=DEBUG)
    write(server, "k", 100)
    payload = server("DUMP", "k:1")
    server.config("cacheflow.max-memory", 2 * MB)
    server.connect().pipeline([("RESTORE", f"r:{n}", 0, payload) for n in range(3000)])
    wait_for(lambda: held(server) <= 2 * MB, "what came by RESTORE")
    for n in range(3000):
        server("COPY", "k:1", f"c:{n}") if n == 0 else None
    server("CACHE.INVALIDATE", "NAMESPACE", "r")
    await_sweep(server)
    assert figure(server, "entries") < 200
