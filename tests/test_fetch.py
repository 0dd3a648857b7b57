"""CACHE.FETCH as one client sees it: every row of its table, its options, what it measures."""

import pytest

from harness.leases import Fetched, Since, fetch, grant, held_for
from harness.sample import meta, state
from harness.server import wait_for
from harness.tagged import DEBUG, figure, hold, turn_clock
from harness.transcript import play

single = pytest.mark.topology("single")
LARGE = 1 << 53  # no token is


def assert_token(token):
    assert isinstance(token, int) and 0 < token < LARGE


@pytest.fixture
def clocked(fresh_server):
    """A server whose module's clock can be turned."""
    return fresh_server(module_args=DEBUG)


@pytest.fixture
def pair(fresh_server):
    """A primary and its replica."""
    primary = fresh_server()
    replica = fresh_server(["--replicaof", f"127.0.0.1 {primary.port}"])
    replica.wait_replica_of(primary)
    return primary, replica


# --- the table -------------------------------------------------------------------------------------
def test_fresh(server):
    play(
        server,
        """
        CACHE.SET k v EX 60 GRACE 60        => OK
        CACHE.FETCH k                       => ["FRESH", "v", nil, 50000..60000]
        CACHE.FETCH k BLOCK 1000 LEASE 10   => ["FRESH", "v", nil, 50000..60000]
        CACHE.SET endless "" PERSIST        => OK
        CACHE.FETCH endless                 => ["FRESH", "", nil, -1]
        """,
    )


STALE = {
    "time": (("PX", 1, "GRACE", 1000), None, 1_000_000),
    "hand": (("EX", 600, "GRACE", 400), ("CACHE.STALE", "n:k"), 1_000_000),
    "hand, without grace": (("EX", 600), ("CACHE.STALE", "n:k"), 600_000),
    "hand, without end": ((), ("CACHE.STALE", "n:k"), -1),
    "a tag": (("EX", 600, "TAGS", "a"), ("CACHE.INVALIDATE", "SOFT", "TAGS", "a"), 600_000),
    "a namespace": (("EX", 600), ("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "n"), 600_000),
}


@pytest.mark.parametrize("by", STALE)
def test_stale(server, by):
    """One caller has the token, everybody the value, and for how long it is there."""
    options, turn, gone = STALE[by]
    server("CACHE.SET", "n:k", "v", *options)
    if turn:
        server(*turn)
    wait_for(lambda: state(server, "n:k") == b"stale", "it to be stale")
    first, second = fetch(server, "n:k"), fetch(server, "n:k", "BLOCK", 0)
    assert first[:2] == second[:2] == (b"STALE", b"v")
    assert_token(first.token)
    assert second.token is None
    assert gone - 60_000 <= second.ms <= first.ms <= gone
    assert server("CACHE.SET", "n:k", "w", "LEASE", first.token, "EX", 60) == b"OK"
    assert fetch(server, "n:k")[:3] == (b"FRESH", b"w", None)


def test_missing(server):
    first, second = fetch(server, "k", "LEASE", 5000), fetch(server, "k")
    assert first._replace(token=None) == Fetched(b"MISS", None, None, 5000)
    assert_token(first.token)
    assert second[:3] == (b"BUSY", None, None) and second.ms > 0
    assert server("EXISTS", "k") == 0, "a lease is no key"
    assert server("CACHE.SET", "k", "v", "LEASE", first.token) == b"OK"
    assert fetch(server, "k") == (b"FRESH", b"v", None, -1, None)


@pytest.mark.parametrize("what", ["TAGS", "NAMESPACE", "CACHE.DEL", "DEL"])
@pytest.mark.parametrize("held", [False, True])
def test_gone_is_missing_at_once(server, what, held):
    """Whoever held a lease: its token fills no more."""
    server("CACHE.SET", "n:k", "v", "EX", 60, "GRACE", 60, "TAGS", "n")
    server("CACHE.STALE", "n:k")
    old = fetch(server, "n:k").token if held else None
    server(*((what, "n:k") if "DEL" in what else ("CACHE.INVALIDATE", what, "n")))
    found = fetch(server, "n:k")
    assert found[:2] == (b"MISS", None)
    assert_token(found.token)
    if held:
        assert found.token > old
        assert server("CACHE.SET", "n:k", "old", "LEASE", old) is None
    assert server("CACHE.SET", "n:k", "new", "LEASE", found.token, "TAGS", "n") == b"OK"


@pytest.mark.parametrize("what", ["TAGS", "NAMESPACE", "CACHE.STALE"])
def test_staled_again_is_elected_again(server, what):
    server("CACHE.SET", "n:k", "v", "EX", 60, "GRACE", 60, "TAGS", "n")
    server("CACHE.STALE", "n:k")
    old = fetch(server, "n:k").token
    server(*((what, "n:k") if "." in what else ("CACHE.INVALIDATE", "SOFT", what, "n")))
    found = fetch(server, "n:k")
    assert found[:2] == (b"STALE", b"v") and found.token > old
    assert server("CACHE.SET", "n:k", "old", "LEASE", old) is None
    assert fetch(server, "n:k")[:3] == (b"STALE", b"v", None), "the later lease stands"


def test_a_lease_on_an_absent_key_is_voided_by_hand(server):
    for command in ("CACHE.DEL", "CACHE.STALE"):
        old = grant(server, "k", "LEASE", 60_000)
        assert server(command, "k") == 0
        assert grant(server, "k") > old
        assert server("CACHE.SET", "k", "v", "LEASE", old) is None
        server("FLUSHALL")
    grant(server, "k", "LEASE", 60_000)
    assert server("DEL", "k") == 0
    assert fetch(server, "k").state == b"BUSY", "native DEL of nothing says nothing"


def test_dead_and_not_yet_swept(clocked):
    """No value comes back from what is dead, and its tags and cost are not told either."""
    hold(clocked)
    clocked("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a")
    clocked("CACHE.INVALIDATE", "TAGS", "a")
    assert clocked("EXISTS", "k") == 1, "the sweep is held"
    found = fetch(clocked, "k", "WITHTAGS")
    assert found[:2] == (b"MISS", None) and found.tags == []
    assert fetch(clocked, "k", "WITHTAGS")[0::4] == (b"BUSY", [])
    assert clocked("CACHE.SET", "k", "w", "LEASE", found.token, "TAGS", "a") == b"OK"
    assert fetch(clocked, "k")[:2] == (b"FRESH", b"w")


def test_expired(server):
    """Past its grace it is missing, whether the server has removed the key or not."""
    server("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    server("CACHE.SET", "k", "v", "PX", 1)
    server("CACHE.SET", "g", "v", "PX", 1, "PGRACE", 1)
    wait_for(lambda: server("PTTL", "k") == server("PTTL", "g") == -2, "the end of 2 ms")
    assert fetch(server, "k").state == fetch(server, "g").state == b"MISS"


def test_native_strings(server):
    play(
        server,
        """
        SET k v                     => OK
        CACHE.FETCH k               => ["FRESH", "v", nil, -1]
        CACHE.FETCH k MAXSTALE 0 BETA 1000000 BLOCK 0 WITHTAGS  => ["FRESH", "v", nil, -1, []]
        SET n 42 PX 60000           => OK
        CACHE.FETCH n               => ["FRESH", "42", nil, 50000..60000]
        """,
    )


def test_other_types(server):
    server("RPUSH", "list", "v")
    server("HSET", "hash", "f", "v")
    server("SADD", "set", "v")
    server("ZADD", "zset", 1, "v")
    server("XADD", "stream", "*", "f", "v")
    for key in ("list", "hash", "set", "zset", "stream"):
        assert server.error("CACHE.FETCH", key, "BLOCK", 0).startswith("WRONGTYPE"), key
        assert held_for(server, key) == 0


def test_what_is_no_request(server):
    play(
        server,
        """
        CACHE.FETCH                         => !ERR wrong number of arguments
        CACHE.FETCH k NOW                   => !ERR syntax error
        CACHE.FETCH k LEASE                 => !ERR syntax error
        CACHE.FETCH k KEEP KEEP             => !ERR syntax error
        CACHE.FETCH k LEASE 0               => !ERR value is not an integer or out of range
        CACHE.FETCH k LEASE -5              => !ERR value is not an integer or out of range
        CACHE.FETCH k LEASE x               => !ERR value is not an integer or out of range
        CACHE.FETCH k BLOCK -1              => !ERR value is not an integer or out of range
        CACHE.FETCH k MAXSTALE -1           => !ERR value is not an integer or out of range
        CACHE.FETCH k BETA -1               => !ERR
        CACHE.FETCH k BETA nan              => !ERR
        CACHE.META k                        => nil
        CACHE.FETCH k beta 0 withtags maxstale 5 block 0 keep lease 77  => ["MISS", nil, _, 77, []]
        """,
    )


# --- its options -----------------------------------------------------------------------------------
def test_withtags(server):
    server("CACHE.SET", "k", "v", "EX", 60, "TAGS", "b", "a", "a")
    assert sorted(fetch(server, "k", "WITHTAGS").tags) == [b"a", b"b"]
    server("CACHE.STALE", "k")
    assert sorted(fetch(server, "k", "WITHTAGS").tags) == [b"a", b"b"]
    server("CACHE.SET", "none", "v")
    assert fetch(server, "none", "WITHTAGS").tags == []
    assert fetch(server, "m", "WITHTAGS")[0::4] == (b"MISS", [])
    assert fetch(server, "m", "WITHTAGS")[0::4] == (b"BUSY", [])
    assert len(server("CACHE.FETCH", "k")) == 4


def test_maxstale_0_insists_on_fresh(server):
    """Also in the very moment in which it became stale."""
    for round_ in range(50):
        key, connection = f"k{round_}", server.connect()
        connection("CACHE.SET", key, "v", "EX", 60)
        replies = connection.pipeline(
            [("CACHE.STALE", key), ("CACHE.FETCH", key, "MAXSTALE", 0), ("CACHE.FETCH", key, "MAXSTALE", 0)]
        )
        assert [reply[:2] for reply in replies[1:]] == [[b"MISS", None], [b"BUSY", None]]
        assert replies[1][2] is not None and replies[2][2] is None
        assert fetch(connection, key)[:3] == (b"STALE", b"v", None), "who accepts it still has it"


@pytest.mark.parametrize("by", ["hand", "time"])
def test_maxstale_counts_from_when_it_became_stale(clocked, by):
    clocked("CACHE.SET", "k", "v", "EX", 1000 if by == "hand" else 10, "GRACE", 1000)
    if by == "hand":
        clocked("CACHE.STALE", "k")
    turn_clock(clocked, 30_000 if by == "hand" else 40_000)
    clocked("CACHE.LOCK", "k", 100_000)  # so that nobody is elected
    assert fetch(clocked, "k", "MAXSTALE", 60_000)[:2] == (b"STALE", b"v")
    assert fetch(clocked, "k", "MAXSTALE", 29_000)[:2] == (b"BUSY", None)


def test_lease_is_its_length(server):
    assert fetch(server, "k", "LEASE", 123_456).ms == 123_456
    assert 60_000 < held_for(server, "k") <= 123_456
    server.config("cacheflow.lease-max", 1000)
    assert fetch(server, "j", "LEASE", 123_456).ms == 1000
    assert held_for(server, "j") <= 1000
    assert held_for(server, "k") > 60_000, "what is granted stays"
    assert fetch(server, "i").ms <= 1000, "one that is derived is no longer either"


def test_a_lease_ends(server):
    first = grant(server, "k", "LEASE", 20)
    wait_for(lambda: held_for(server, "k") == 0, "the end of 20 ms")
    assert grant(server, "k") > first
    assert server("CACHE.SET", "k", "v", "LEASE", first) is None


def test_a_lease_that_ran_out_may_still_fill(server):
    token = grant(server, "k", "LEASE", 1)
    wait_for(lambda: held_for(server, "k") == 0, "the end of 1 ms")
    assert server("CACHE.META", "k") is None, "who is only remembered is nothing"
    assert server("CACHE.SET", "k", "v", "LEASE", token) == b"OK"
    assert fetch(server, "k")[:2] == (b"FRESH", b"v")


def test_beta_elects_one_near_the_end(clocked):
    """Whoever is elected has the value and a token; until it has filled, nobody else is."""
    clocked("CACHE.SET", "k", "v", "EX", 100, "GRACE", 100, "COST", 1_000_000)
    huge = ("BETA", 1_000_000_000)
    assert fetch(clocked, "k", *huge)[:3] == (b"FRESH", b"v", None), "over a fifth of its life to go"
    turn_clock(clocked, 90_000)
    assert fetch(clocked, "k", "BETA", 0).token is None
    counted = Since(clocked)
    first, second = fetch(clocked, "k", *huge), fetch(clocked, "k", *huge)
    assert first[:2] == second[:2] == (b"FRESH", b"v") and 0 < second.ms <= first.ms <= 10_000
    assert_token(first.token)
    assert second.token is None
    assert counted("early-elections") == counted("grants") == 1 and counted("hits") == 2
    assert clocked("CACHE.SET", "k", "w", "LEASE", first.token, "EX", 100) == b"OK"
    assert fetch(clocked, "k", *huge)[:3] == (b"FRESH", b"w", None)
    assert counted("early-elections") == 1 and counted("fills") == 1


def test_beta_by_the_directive(clocked):
    clocked("CACHE.SET", "k", "v", "EX", 100, "COST", 1_000_000)
    turn_clock(clocked, 90_000)
    clocked.config("cacheflow.xfetch-beta", 0)
    assert {fetch(clocked, "k").token for _ in range(50)} == {None}
    clocked.config("cacheflow.xfetch-beta", 1_000_000_000)
    assert fetch(clocked, "k").token is not None


def test_an_election_is_given_up_by_unlock(clocked):
    clocked("CACHE.SET", "k", "v", "EX", 100, "COST", 1_000_000)
    turn_clock(clocked, 90_000)
    token = fetch(clocked, "k", "BETA", 1e9).token
    assert clocked("CACHE.UNLOCK", "k", token, "RETRY", 60_000) == 1
    assert fetch(clocked, "k", "BETA", 1e9)[:3] == (b"FRESH", b"v", None), "in the back-off"


# --- times -----------------------------------------------------------------------------------------
def test_expire_shortens_and_persist_ends_the_end(server):
    server("CACHE.SET", "k", "v", "EX", 100, "GRACE", 100)
    server("EXPIRE", "k", 150)
    assert 90_000 < fetch(server, "k").ms <= 100_000, "after the end of freshness: nothing"
    server("EXPIRE", "k", 50)
    assert 40_000 < fetch(server, "k").ms <= 50_000
    server("CACHE.SET", "j", "v", "EX", 100, "GRACE", 100)
    server("PERSIST", "j")
    server("CACHE.STALE", "j")
    assert fetch(server, "j")[::3] == (b"STALE", -1)


def test_the_derived_length_of_leases(clocked):
    """Ten seconds until fills were measured, then three times what they take, of each namespace."""
    now = 0

    def measure(key, took):
        nonlocal now
        token = grant(clocked, key, "LEASE", 600_000)
        now += took
        turn_clock(clocked, now)
        assert clocked("CACHE.SET", key, "v", "LEASE", token) == b"OK"

    assert fetch(clocked, "slow:a").ms == fetch(clocked, "none:a").ms == 10_000
    measure("slow:1", 5000)
    assert 15_000 <= fetch(clocked, "slow:b").ms <= 25_000
    assert fetch(clocked, "none:b").ms == 10_000
    measure("fast:1", 1)
    assert 1000 <= fetch(clocked, "fast:b").ms <= 10_000
    for n in range(2, 40):
        measure(f"quick:{n}", 1)
    measure("long:1", 300_000)
    assert fetch(clocked, "long:b").ms == 60_000
    assert fetch(clocked, "long:c", "LEASE", 500_000).ms == 500_000


def test_cost_is_measured_from_grant_to_fill(clocked):
    """Smoothed 0.7 to 0.3; a plain SET keeps it, COST overrides it."""
    token = grant(clocked, "k", "LEASE", 600_000)
    turn_clock(clocked, 10_000)
    clocked("CACHE.SET", "k", "v", "LEASE", token)
    assert 10_000 <= meta(clocked, "k")["cost-ms"] <= 13_000
    clocked("CACHE.STALE", "k")
    token = fetch(clocked, "k", "LEASE", 600_000).token
    turn_clock(clocked, 110_000)
    clocked("CACHE.SET", "k", "v", "LEASE", token)
    assert 37_000 <= meta(clocked, "k")["cost-ms"] <= 41_000, "0.7 of 10 s and 0.3 of 100 s"
    clocked("CACHE.SET", "k", "w")
    assert 37_000 <= meta(clocked, "k")["cost-ms"] <= 41_000
    clocked("CACHE.STALE", "k")
    token = fetch(clocked, "k", "LEASE", 600_000).token
    turn_clock(clocked, 210_000)
    assert clocked("CACHE.TOUCH", "k", "LEASE", token) == 1
    assert 55_000 <= meta(clocked, "k")["cost-ms"] <= 60_000, "TOUCH measures too"
    clocked("CACHE.STALE", "k")
    token = fetch(clocked, "k", "LEASE", 600_000).token
    clocked("CACHE.SET", "k", "v", "LEASE", token, "COST", 77)
    assert meta(clocked, "k")["cost-ms"] == 77


# --- where it cannot block -------------------------------------------------------------------------
def test_in_multi_block_is_as_without(server):
    connection = server.connect()
    connection("MULTI")
    connection("CACHE.FETCH", "k", "BLOCK", 0)
    connection("CACHE.FETCH", "k", "BLOCK", 0)
    connection("CACHE.LOCK", "k", 1000, "BLOCK", 0)
    first, second, lock = connection("EXEC")
    assert first[:2] == [b"MISS", None] and second[:3] == [b"BUSY", None, None] and lock is None
    assert server("CACHE.SET", "k", "v", "LEASE", first[2]) == b"OK"


def test_in_a_script_block_is_as_without(server):
    script = "return redis.call('CACHE.FETCH', KEYS[1], 'BLOCK', 0)"
    first, second = server("EVAL", script, 1, "k"), server("EVAL", script, 1, "k")
    assert first[:2] == [b"MISS", None] and second[:3] == [b"BUSY", None, None]
    assert server("CACHE.SET", "k", "v", "LEASE", first[2], "EX", 60) == b"OK"
    assert server("EVAL", script, 1, "k")[:3] == [b"FRESH", b"v", None]


def test_at_maxmemory_it_still_answers(server):
    """A read, and what it grants is bounded by itself."""
    server("CACHE.SET", "k", "v", "EX", 60)
    server("CACHE.STALE", "k")
    server.config("maxmemory-policy", "noeviction")
    server.config("maxmemory", 1)
    assert server.error("CACHE.SET", "j", "v").startswith("OOM")
    assert_token(fetch(server, "k").token)
    assert_token(grant(server, "m"))


# --- replicas --------------------------------------------------------------------------------------
@single
def test_a_replica_reads_and_grants_nothing(pair):
    primary, replica = pair
    primary("CACHE.SET", "k", "v", "EX", 60, "TAGS", "a")
    primary("CACHE.SET", "stale", "v", "EX", 60, "GRACE", 60)
    primary("CACHE.STALE", "stale")
    primary("SET", "native", "v")
    primary("RPUSH", "list", "v")
    replica.wait_replica_of(primary)
    assert fetch(replica, "k", "WITHTAGS", "BETA", 1e9)[:3] == (b"FRESH", b"v", None)
    assert fetch(replica, "k", "WITHTAGS").tags == [b"a"]
    for _ in range(2):
        assert fetch(replica, "stale")[:3] == (b"STALE", b"v", None)
        assert fetch(replica, "missing") == (b"BUSY", None, None, 0, None)
        assert fetch(replica, "missing", "BLOCK", 0, "WITHTAGS") == (b"BUSY", None, None, 0, [])
        assert fetch(replica, "stale", "MAXSTALE", 0)[:3] == (b"BUSY", None, None)
    assert fetch(replica, "native")[:3] == (b"FRESH", b"v", None)
    assert replica.error("CACHE.FETCH", "list").startswith("WRONGTYPE")
    assert figure(replica, "leases", "cacheflow_leases") == 0
    assert_token(fetch(primary, "stale").token)
    assert fetch(replica, "stale").token is None


@single
def test_fetch_leases_are_not_replicated(pair):
    primary, replica = pair
    offset = primary.info("replication")["master_repl_offset"]
    grant(primary, "k", "LEASE", 60_000)
    assert primary.info("replication")["master_repl_offset"] == offset
    assert replica("CACHE.META", "k") is None
