"""Who is told of an invalidation: channels, WATCH, CLIENT TRACKING, keyspace events, log, counters."""

import pytest

from harness.resp import ReplyError, fields
from harness.server import wait_for
from harness.tagged import DEBUG, await_sweep, figure, hold, let_go

BINARY = b"\x00\r\n\xff"
CHANNELS = {"tag": (b"TAGS", b"cache:"), "namespace": (b"NAMESPACE", b"cache:@")}
MODES = {b"hard": (), b"soft": ("SOFT",)}


def subscriber(server, pattern="cache:*"):
    """A connection that hears what is published there, and then `end`."""
    connection = server.connect()
    connection("PSUBSCRIBE", pattern)
    connection("PSUBSCRIBE", "end")
    return connection


def heard(connection, publisher):
    """All (channel, message) until now, in their order."""
    publisher("PUBLISH", "end", "")
    found = []
    while True:
        _, _, channel, message = connection.read()
        if channel == b"end":
            return found
        found.append((channel, message))


# --- channels --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("mode", MODES)
def test_it_is_published_once_and_before_the_reply(server, kind, mode):
    """What the same connection publishes afterwards comes afterwards."""
    word, channel = CHANNELS[kind]
    ear = subscriber(server)
    server("CACHE.SET", "a:k", "v", "TAGS", "a")
    server("CACHE.INVALIDATE", *MODES[mode], word, "a", "never", "a", BINARY, "")
    expected = [(channel + name, mode) for name in (b"a", b"never", BINARY, b"")]
    assert heard(ear, server) == expected
    await_sweep(server)
    assert heard(ear, server) == [], "the sweep publishes nothing"


def test_what_fails_or_invalidates_nothing_is_not_published(server):
    ear = subscriber(server)
    for request in (("TAGS",), ("SOFT", "TAGS"), ("WHAT", "TAGS", "a"), ("TIMEOUT", "x", "TAGS", "a")):
        server.error("CACHE.INVALIDATE", *request)
    server("CACHE.SET", "k", "v", "TAGS", "a")
    server("CACHE.TAG", "k", "b")
    server("CACHE.STALE", "k")
    server("CACHE.DEL", "k")
    assert heard(ear, server) == []


@pytest.mark.parametrize("how", ["MULTI", "EVAL"])
def test_it_is_published_once_from_within(server, how):
    ear = subscriber(server)
    if how == "MULTI":
        server("MULTI")
        server("CACHE.INVALIDATE", "TAGS", "a")
        server("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "n")
        server("EXEC")
    else:
        script = """
            redis.call('CACHE.INVALIDATE', 'TAGS', 'a')
            redis.call('CACHE.INVALIDATE', 'SOFT', 'NAMESPACE', 'n')
        """
        server("EVAL", script, 0)
    assert heard(ear, server) == [(b"cache:a", b"hard"), (b"cache:@n", b"soft")]


@pytest.mark.topology("replica")
@pytest.mark.parametrize("how", ["plain", "MULTI", "EVAL"])
def test_who_listens_at_a_replica_hears_it_once(topology, how):
    ear, request = subscriber(topology.replica), ("CACHE.INVALIDATE", "TAGS", "a", BINARY)
    primary = topology.primary
    if how == "plain":
        primary(*request)
    elif how == "MULTI":
        primary("MULTI")
        primary(*request)
        primary("EXEC")
    else:
        primary("EVAL", "return redis.call(unpack(ARGV))", 0, *request)
    assert heard(ear, primary) == [(b"cache:a", b"hard"), (b"cache:" + BINARY, b"hard")]


@pytest.mark.topology("single")
def test_a_restart_publishes_nothing_anew(fresh_server):
    """A replica that loads, an AOF that is replayed: what happened was told when it happened."""
    server = fresh_server(args=["--appendonly", "yes"])
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.SET", "k", "v", "TAGS", "a")
    ear = subscriber(server)
    server("DEBUG", "LOADAOF")
    assert heard(ear, server) == []
    assert server("CACHE.GET", "k") == b"v"


def test_keyspace_events(server):
    server.config("notify-keyspace-events", "Ed")
    ear = subscriber(server, "__keyevent@0__:cache.*")
    server("CACHE.SET", "k", "v", "TAGS", "a")
    server("CACHE.SET", "j", "v", "TAGS", "b")
    server("CACHE.TAG", "k", "x")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "b")
    await_sweep(server)
    found = heard(ear, server)
    events = [(channel.rpartition(b":")[2], key) for channel, key in found]
    assert events[:3] == [(b"cache.set", b"k"), (b"cache.set", b"j"), (b"cache.tag", b"k")]
    assert sorted(events[3:]) == [(b"cache.invalidated", b"j"), (b"cache.invalidated", b"k")]


# --- WATCH and CLIENT TRACKING ---------------------------------------------------------------------
@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("mode", MODES)
def test_watch_is_told_when_it_is_swept_at_the_latest(server, kind, mode):
    for key in ("a:k", "x:other"):
        server("CACHE.SET", key, "v", "EX", 100, *(("TAGS", "a") if key == "a:k" else ()))
    watcher, other = server.connect(), server.connect()
    watcher("WATCH", "a:k")
    other("WATCH", "x:other")
    server("CACHE.INVALIDATE", *MODES[mode], CHANNELS[kind][0], "a")
    await_sweep(server)
    for connection, expected in ((watcher, None), (other, [b"PONG"])):
        connection("MULTI")
        connection("PING")
        assert connection("EXEC") == expected


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [(), ("BCAST",), ("BCAST", "PREFIX", "a:")])
def test_tracking_is_told_of_each(server, kind, mode, options):
    names = {f"a:{n}".encode() for n in range(20)}
    for name in names:
        server("CACHE.SET", name, "v", "EX", 100, "TAGS", "a")
    tracker = server.connect(protocol=3)
    tracker("CLIENT", "TRACKING", "ON", *options)
    for name in names:
        tracker("CACHE.GET", name)
    server("CACHE.INVALIDATE", *MODES[mode], CHANNELS[kind][0], "a")
    told = set()
    while told < names:
        kind_of_push, keys = tracker.push()
        assert kind_of_push == b"invalidate"
        told.update(keys)
    assert told == names
    if mode == b"hard":
        await_sweep(server)
        assert server("DBSIZE") == 0


@pytest.mark.topology("replica")
@pytest.mark.parametrize("mode", MODES)
def test_tracking_at_a_replica(topology, mode):
    """A cache in a process that reads there must hear of it there."""
    primary, replica = topology.primary, topology.replica
    primary("CACHE.SET", "k", "v", "EX", 100, "TAGS", "a")
    replica.wait_replica_of(primary, swept=False)
    tracker = replica.connect(protocol=3)
    tracker("CLIENT", "TRACKING", "ON")
    assert tracker("CACHE.GET", "k") == b"v"
    primary("CACHE.INVALIDATE", *MODES[mode], "TAGS", "a")
    assert tracker.push() == [b"invalidate", [b"k"]]
    assert tracker("CACHE.GET", "k") is None


def test_a_refill_is_told_of_only_as_a_write(fresh_server):
    """What was written again before the sweep came by is removed from nobody's cache by it."""
    server = fresh_server(module_args=DEBUG)
    hold(server)
    server("CACHE.SET", "k", "old", "TAGS", "a")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("CACHE.SET", "k", "new", "TAGS", "a")
    watcher = server.connect()
    watcher("WATCH", "k")
    let_go(server)
    watcher("MULTI")
    watcher("CACHE.GET", "k")
    assert watcher("EXEC") == [b"new"]


# --- CACHE.LOG -------------------------------------------------------------------------------------
def log(server, *count):
    """CACHE.LOG as dicts."""
    return [fields(record) for record in server("CACHE.LOG", *count)]


def test_the_log_says_who_invalidated_what(server):
    server("CACHE.LOG", "RESET")
    assert log(server) == []
    server("CACHE.SET", "n:k", "v", "TAGS", "a", "b")
    server("ACL", "SETUSER", "deployer", "on", "nopass", "+@all", "~*", "&*")
    deployer = server.connect()
    deployer("AUTH", "deployer", "any")
    address = deployer("CLIENT", "INFO").partition(b" addr=")[2].split()[0]
    began = server("TIME")
    server("CACHE.INVALIDATE", "SOFT", "TAGS", "a", "b", "a")
    deployer("CACHE.INVALIDATE", "NAMESPACE", "n")
    deployer("CACHE.INVALIDATE", "TAGS", BINARY)
    records = log(server)
    assert [r["target"] for r in records] == [BINARY, b"@n", b"b", b"a"], "the newest first"
    assert [r["hits"] for r in records] == [0, 1, 1, 1]
    assert [r["command"] for r in records] == [b"CACHE.INVALIDATE"] * 2 + [b"CACHE.INVALIDATE SOFT"] * 2
    assert [r["user"] for r in records] == [b"deployer"] * 2 + [b"default"] * 2
    assert [r["client"] for r in records[:2]] == [address] * 2 and records[2]["client"] != address
    ids = [r["id"] for r in records]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == 4
    since = int(began[0]) * 1000 + int(began[1]) // 1000
    assert all(since <= r["at-ms"] <= since + 60_000 for r in records)
    assert [list(r) for r in records] == [["id", "at-ms", "command", "target", "hits", "user", "client"]] * 4
    assert log(server, 2) == records[:2] and log(server, 0) == [] and log(server, 99) == records
    three = server.connect(protocol=3)("CACHE.LOG", 1)
    assert isinstance(three[0], dict) and fields(three[0]) == records[0]
    assert server("CACHE.LOG", "reset") == b"OK" and log(server) == []
    server("CACHE.INVALIDATE", "TAGS", "x")
    assert log(server)[0]["id"] > ids[0], "ids are not used again"


def test_the_log_knows_transactions_and_scripts(server):
    server("CACHE.LOG", "RESET")
    server("MULTI")
    server("CACHE.INVALIDATE", "TAGS", "a")
    server("EXEC")
    server("EVAL", "redis.call('CACHE.INVALIDATE', 'TAGS', 'b')", 0)
    assert [(r["target"], r["user"]) for r in log(server)] == [(b"b", b"default"), (b"a", b"default")]


def test_the_log_is_bounded(server):
    server.config("cacheflow.log-max-len", 5)
    for n in range(12):
        server("CACHE.INVALIDATE", "TAGS", n, f"x{n}")
    assert [r["target"] for r in log(server, 100)] == [b"x11", b"11", b"x10", b"10", b"x9"]
    server("CACHE.INVALIDATE", "TAGS", *range(100))
    assert [r["target"] for r in log(server, 100)] == [b"99", b"98", b"97", b"96", b"95"]
    server.config("cacheflow.log-max-len", 2)
    assert len(log(server, 100)) == 2
    server.config("cacheflow.log-max-len", 0)
    server("CACHE.INVALIDATE", "TAGS", "a")
    assert log(server) == []


def test_the_log_takes_a_count_or_reset(server):
    for option in ("x", "-1", "1.5", ""):
        assert server.error("CACHE.LOG", option).startswith("ERR")
    assert server.error("CACHE.LOG", 1, 2).startswith("ERR")
    assert server.error("CACHE.LOG", "RESET", 1).startswith("ERR")


# --- CACHE.STATS and INFO --------------------------------------------------------------------------
COUNTERS = ("hits", "stale-hits", "misses", "invalidations", "invalidated-entries")


def stats(server, *options):
    """CACHE.STATS as a dict."""
    return fields(server("CACHE.STATS", *options))


def do_some(server):
    """Something of each; the counters that it leaves."""
    for n in range(3):
        server("CACHE.SET", f"n:{n}{{t}}", "v", "EX", 100, "TAGS", "a", "b")
    server("CACHE.MGET", "n:0{t}", "n:1{t}", "n:none{t}", "other:x{t}")
    server("CACHE.GET", "n:2{t}")
    server("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "n")
    server("CACHE.GET", "n:0{t}", "STALE")
    server("CACHE.GET", "n:0{t}")
    server("CACHE.INVALIDATE", "TAGS", "a", "none")
    server("CACHE.GET", "n:0{t}", "STALE")


def test_counters(server):
    assert server("CACHE.STATS", "RESET") == b"OK"
    do_some(server)
    found = stats(server)
    assert [found[name] for name in COUNTERS] == [3, 1, 4, 3, 6]
    await_sweep(server)
    found = stats(server)
    assert [found[name] for name in ("entries", "memberships", "sweep-queued")] == [0, 0, 0]
    three = server.connect(protocol=3)("CACHE.STATS")
    assert isinstance(three, dict) and set(fields(three)) == set(found)
    server("CACHE.STATS", "RESET")
    assert [stats(server)[name] for name in COUNTERS] == [0] * 5


def test_a_namespaces_writes_are_what_all_writes_are(server):
    """Values written: not what is made stale or tagged, nor fills that are refused."""
    server("CACHE.STATS", "RESET")
    server("CACHE.SET", "n:k", "5", "EX", 100, "GRACE", 100)
    server("CACHE.INCRBY", "n:k", 1)
    server("CACHE.TOUCH", "n:k")
    server("CACHE.STALE", "n:k")
    server("CACHE.TAG", "n:k", "t")
    token = server("CACHE.FETCH", "n:k")[2]
    assert server("CACHE.SET", "n:k", "6", "LEASE", token + 1) is None
    assert server("CACHE.SET", "n:k", "6", "LEASE", token) == b"OK"
    assert stats(server)["writes"] == stats(server, "NAMESPACE", "n")["writes"] == 4


def test_gauges(topology):
    server = topology.primary
    await_sweep(server)
    was = stats(server)
    server("CACHE.SET", "k", "v", "TAGS", "a", "b")
    server("CACHE.SET", "j", "v", "TAGS", "b")
    server.connect(db=min(3, topology.databases - 1))("CACHE.SET", "i", "v", "TAGS", "b")
    found = stats(server)
    assert (found["entries"], found["memberships"]) == (3, 4) and found["bytes"] > was["bytes"]
    assert server("CACHE.STATS", "reset") == b"OK"
    assert stats(server)["entries"] == 3, "gauges are not reset"
    for name in ("entries", "memberships"):
        assert figure(server, name) == found[name]


def test_counters_of_a_namespace(server):
    server("CACHE.STATS", "RESET")
    do_some(server)
    server("CACHE.SET", "m:k", "v", "TAGS", "a")
    found = stats(server, "NAMESPACE", "n")
    assert [found[name] for name in COUNTERS[:2]] == [3, 1] and found["invalidations"] == 1
    assert found["misses"] == 3 and found["invalidated-entries"] == 3
    found = stats(server, "namespace", "m")
    assert found["entries"] == 1 and found["hits"] == 0
    found = stats(server, "NAMESPACE", "never seen")
    assert set(found.values()) == {0}
    assert server("CACHE.STATS", "RESET") == b"OK"
    assert [stats(server, "NAMESPACE", "n")[name] for name in COUNTERS] == [0] * 5
    for options in (("NAMESPACE",), ("WHAT",), ("RESET", "x"), ("NAMESPACE", "a", "b")):
        with pytest.raises(ReplyError, match="^ERR syntax error"):
            server("CACHE.STATS", *options)


@pytest.mark.topology("single")
def test_the_sweep_in_info(fresh_server):
    server = fresh_server(module_args=DEBUG)
    connection = server.connect()
    connection.pipeline([("CACHE.SET", f"k{n}", "v", "TAGS", "a") for n in range(500)])
    hold(server)
    server("CACHE.INVALIDATE", "TAGS", "a")
    assert figure(server, "sweep_queued", "cacheflow_sweep") == 500 == stats(server)["sweep-queued"]
    assert figure(server, "sweep_removed", "cacheflow_sweep") == 0
    let_go(server)
    wait_for(lambda: figure(server, "sweep_removed", "cacheflow_sweep") == 500, "what was removed")
    assert server("DBSIZE") == 0
    assert figure(server, "sweep_slices", "cacheflow_sweep") >= 1
    assert figure(server, "sweep_longest_slice_us", "cacheflow_sweep") >= 1
