"""EXAUTO: TTLs chosen by how often the source was found changed. The rules, against a model that follows the
formulas of src/core/adaptive.rs with plain floats; and a real source that changes."""

import math
import random

import pytest

from harness.dataset import digest
from harness.leases import fetch
from harness.resp import fields
from harness.sample import meta
from harness.server import wait_for
from harness.source import Source, best_fixed, read_through
from harness.tagged import DEBUG, await_sweep, hold, let_go, turn_clock
from harness.transcript import play

TARGET = 0.01
HOUR = 3_600_000  # ms
ADAPTIVE = ("exauto", "chosen-ms", "ttl-why", "change-ms", "refills")
single = pytest.mark.topology("single")


def chosen(server, key):
    """META's five fields, or None."""
    found = meta(server, key)
    return found and tuple(found[name] for name in ADAPTIVE if name in found)


class Clocked:
    """A server whose module's clock is turned by hand, and only forward."""

    def __init__(self, server):
        self.server, self.now = server, 0

    def __call__(self, *request):
        return self.server(*request)

    def wait(self, ms):
        self.now += ms
        turn_clock(self.server, self.now)


@pytest.fixture
def clocked(fresh_server):
    return Clocked(fresh_server(module_args=DEBUG))


# --- what is said and shown ------------------------------------------------------------------------
def test_the_first_ttl_is_the_shortest(server):
    play(
        server,
        """
        CACHE.SET k v EXAUTO 50 600 GRACE 30    => OK
        PTTL k                                  => 79000..80000
        CACHE.FETCH k                           => ["FRESH", "v", nil, 49000..50000]
        """,
    )
    assert chosen(server, "k") == ([50, 600], 50_000, b"first", -1, 0)
    assert meta(server, "k")["fresh-ms"] <= 50_000
    server("CACHE.SET", "plain", "v", "EX", 50)
    assert chosen(server, "plain") == (), "who is not adaptive has none of the fields"
    assert list(fields(server.connect(protocol=3)("CACHE.META", "k")))[-5:] == list(ADAPTIVE)


def test_a_namespaces_bounds_hold_where_a_write_names_no_time(server):
    server("CACHE.NAMESPACE", "SET", "shop", "EXAUTO", 50, 600, "TTL", 7000)
    for key, options in (("shop:a", ()), ("shop:b", ("KEEPTTL",)), ("shop:c", ("GRACE", 5))):
        server("CACHE.SET", key, "v", *options)
        assert chosen(server, key) == ([50, 600], 50_000, b"first", -1, 0)
    server("CACHE.SET", "shop:d", "v", "EX", 5)
    server("CACHE.SET", "shop:e", "v", "PERSIST")
    server("CACHE.SET", "other:a", "v")
    assert [chosen(server, key) for key in ("shop:d", "shop:e", "other:a")] == [()] * 3
    server("CACHE.SET", "shop:f", "v", "EXAUTO", 1, 2)
    assert chosen(server, "shop:f")[0] == [1, 2]
    server("CACHE.NAMESPACE", "SET", "shop", "EXAUTO", 0, 0)
    server("CACHE.SET", "shop:a", "w")
    assert chosen(server, "shop:a") == () and 6000 < meta(server, "shop:a")["fresh-ms"] <= 7000


def test_refills_are_counted_whatever_brings_them(server):
    server("CACHE.SET", "k", "v", "EXAUTO", 50, 600)
    server("CACHE.SET", "k", "v", "EXAUTO", 50, 600)
    assert chosen(server, "k")[3:] == (-1, 1)
    server("CACHE.TOUCH", "k")
    assert chosen(server, "k")[3:] == (-1, 2)
    server("CACHE.SET", "k", "w", "EXAUTO", 60, 700)
    bounds, _, _, change, refills = chosen(server, "k")
    assert bounds == [60, 700] and change >= 0 and refills == 3
    token = server("CACHE.LOCK", "k", 10_000)
    assert server("CACHE.SET", "k", "x", "LEASE", token, "EXAUTO", 60, 700) == b"OK"
    token = server("CACHE.LOCK", "k", 10_000)
    assert server("CACHE.TOUCH", "k", "LEASE", token) == 1
    assert chosen(server, "k")[4] == 5
    for refused in (("NX",), ("LEASE", token)):
        assert server("CACHE.SET", "k", "y", *refused, "EXAUTO", 60, 700) is None
    assert chosen(server, "k")[4] == 5 and server("CACHE.GET", "k") == b"x"


def test_what_keeps_an_entry_adaptive_and_what_ends_it(server):
    server("CACHE.SET", "k", "1", "EXAUTO", 50, 600, "GRACE", 5, "TAGS", "a")
    server("CACHE.TOUCH", "k")
    before = chosen(server, "k")
    server("CACHE.TAG", "k", "b")
    server("CACHE.UNTAG", "k", "a")
    server("CACHE.STALE", "k")
    server("EXPIRE", "k", 1000)
    server("PERSIST", "k")
    assert chosen(server, "k") == before, "no refill"
    server("CACHE.TOUCH", "k", "GRACE", 7)
    assert chosen(server, "k") == before, "nor one after it was made stale by hand"
    assert server("CACHE.INCRBY", "k", 4) == 5
    assert chosen(server, "k") == before
    server("CACHE.SET", "k", "5", "KEEPTTL")
    kept = chosen(server, "k")
    assert kept[:3] == before[:3] and kept[3:] == (-1, 2), "compared with the sum; its times are kept"
    for end in (("EX", 50), ("PXAT", 4_000_000_000_000), ("PERSIST",), ()):
        server("CACHE.SET", "k", "5", "EXAUTO", 50, 600)
        server("CACHE.SET", "k", "5", *end)
        assert chosen(server, "k") == (), end
    server("CACHE.TOUCH", "k", "EXAUTO", 50, 600)
    assert chosen(server, "k")[4] == 1, "it was there, and has not changed"
    server("CACHE.TOUCH", "k", "EX", 60)
    assert chosen(server, "k") == ()
    server("CACHE.SET", "k", "6", "EXAUTO", 50, 600)
    assert chosen(server, "k")[3] >= 0 and chosen(server, "k")[4] == 1, "there, and changed"


def test_the_bounds_bind(server):
    server.config("cacheflow.stale-target", 0)
    server("CACHE.SET", "k", "v", "EXAUTO", 50, 600)
    server("CACHE.TOUCH", "k")
    assert chosen(server, "k")[1:3] == (50_000, b"min")
    server.config("cacheflow.stale-target", "0.6")
    server("CACHE.SET", "other", "v", "EXAUTO", 50, 50)
    server("CACHE.TOUCH", "other")
    assert chosen(server, "other")[1:3] in ((50_000, b"min"), (50_000, b"max"))


# --- the estimate ----------------------------------------------------------------------------------
class Model:
    """The formulas, in ms: of a key, its first tag and its namespace."""

    def __init__(self, least, most):
        self.least, self.most = least * 1000, most * 1000
        self.keys, self.rates = {}, {}

    def mean(self, tag):
        changes, exposure = self.rates.get(tag, (0, 0))
        if changes >= 3:
            return max(1, exposure / changes)
        changes, exposure = self.rates.get("", (0, 0))
        return (self.least / (2 * TARGET) + exposure) / (1 + changes)

    def refill(self, key, tag, value, now, teaches=True):
        """(the TTL, why)"""
        old, x, t, refills, written = self.keys.get(key, (value, 0, 0, 0, None))
        prior = self.mean(tag)
        if written is not None and teaches:
            waited, changed, refills = now - written, value != old, refills + 1
            exposure = waited
            if changed:
                mean = (prior + t) / (1 + x)
                exposure = mean - waited / math.expm1(waited / mean) if waited / mean > 1e-4 else waited / 2
                x, t = 0.8 * x + 1, 0.8 * t
            t += exposure
            for name in {"", tag}:
                changes, sum_ = self.rates.get(name, (0, 0))
                self.rates[name] = changes + changed, sum_ + exposure
        self.keys[key] = value, x, t, refills, now
        ttl = 2 * TARGET * (prior + t) / (1 + x)
        if refills == 0:
            return self.least, "first"
        if ttl <= self.least:
            return self.least, "min"
        if ttl >= self.most:
            return self.most, "max"
        return ttl, "prior" if x == 0 and t < prior else "estimate"


@single
@pytest.mark.parametrize("seed", range(3))
def test_a_random_life_is_as_the_formulas_say(clocked, seed):
    """Refills by SET and TOUCH over what is there, fresh or stale; two tags, one namespace."""
    dice, model, values, now = random.Random(seed), Model(10, 3000), {}, 0
    seen = set()
    for _ in range(400):
        wait = int(dice.expovariate(1 / 60_000)) + 1000
        now += wait
        clocked.wait(wait)
        key = f"n:{dice.randrange(6)}"
        tag = "slow" if key < "n:3" else "fast"
        if key in values and dice.random() < 0.7:
            how = dice.choice(("TOUCH", "SET"))
        else:
            values[key], how = dice.random(), "SET"
        if how == "TOUCH":
            assert clocked("CACHE.TOUCH", key) == 1
        else:
            clocked("CACHE.SET", key, values[key], "EXAUTO", 10, 3000, "TAGS", tag, "other")
        ttl, why = model.refill(key, tag, values[key], now)
        _, got, reason, change, refills = chosen(clocked, key)
        _, x, t, counted, _ = model.keys[key]
        # The clock ticks on between two turns of it.
        assert abs(got - ttl) <= 0.02 * ttl + 5 and refills == counted, (key, got, ttl)
        near = min(abs(ttl - bound) / bound for bound in (model.least, model.most)) < 0.02
        assert reason.decode() == why or near or why in ("prior", "estimate"), (reason, why)
        assert (change == -1) is (x == 0) and (x == 0 or abs(change - t / x) <= 0.02 * t / x + 20)
        seen.add(reason)
    assert seen >= {b"first", b"prior", b"estimate"}, seen


@single
def test_the_like_say_what_to_expect(clocked):
    """By three changes under the tag; of a namespace of its own nothing is known."""
    for n in range(12):
        clocked.wait(100_000)
        clocked("CACHE.SET", "page:a", n // 2, "EXAUTO", 1, 86_400, "TAGS", "news")
    for key in ("page:b", "other:b"):
        clocked("CACHE.SET", key, "v", "EXAUTO", 1, 86_400, "TAGS", "news" if key[0] == "p" else "olds")
        assert chosen(clocked, key)[1:3] == (1000, b"first")
        clocked("CACHE.TOUCH", key)
    of_news, of_olds = chosen(clocked, "page:b"), chosen(clocked, "other:b")
    assert of_news[2] == b"prior" and 1000 < of_news[1] - 1000 < 4000, of_news
    assert of_olds[1] < of_news[1]


# --- what teaches nothing --------------------------------------------------------------------------
INVALIDATIONS = {
    "STALE": ("CACHE.STALE", "n:k"),
    "a tag, softly": ("CACHE.INVALIDATE", "SOFT", "TAGS", "t"),
    "a namespace, softly": ("CACHE.INVALIDATE", "SOFT", "NAMESPACE", "n"),
    "a tag": ("CACHE.INVALIDATE", "TAGS", "t"),
    "a namespace": ("CACHE.INVALIDATE", "NAMESPACE", "n"),
    "CACHE.DEL": ("CACHE.DEL", "n:k"),
    "UNLINK": ("UNLINK", "n:k"),
}


@single
@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize("by", INVALIDATIONS)
def test_an_invalidation_is_no_example_and_takes_nothing_away(clocked, by, swept):
    """What was learnt stays; what was invalidated says nothing of the changes that nobody tells."""
    server = clocked.server
    for value in (1, 2, 2, 3):
        clocked.wait(50_000)
        clocked("CACHE.SET", "n:k", value, "EXAUTO", 10, 3000, "GRACE", 50, "TAGS", "t")
    before = chosen(server, "n:k")
    assert before[3] > 0 and before[4] == 3
    hold(server)
    assert clocked(*INVALIDATIONS[by]) == 1
    if swept:
        let_go(server)
    clocked.wait(1000)
    clocked("CACHE.SET", "n:k", "another", "EXAUTO", 10, 3000, "GRACE", 50, "TAGS", "t")
    assert chosen(server, "n:k") == before
    clocked.wait(50_000)
    clocked("CACHE.TOUCH", "n:k")
    assert chosen(server, "n:k")[4] == 4, "the next one is an example again"
    let_go(server)


# --- what is remembered ----------------------------------------------------------------------------
def test_what_went_with_its_time_is_remembered(server):
    """Without grace nothing is left of an entry but that."""
    for key in ("same", "other", "deleted", "native"):
        server("CACHE.SET", key, "v", "EXAUTO", 1, 600)
        server("CACHE.TOUCH", key)
    assert server("CACHE.DEL", "deleted") == 1
    wait_for(lambda: not any(server("EXISTS", key) for key in ("same", "other")), "the second to be over")
    server("SET", "native", "n")
    for key, value in (("same", "v"), ("other", "w"), ("deleted", "w"), ("native", "w")):
        server("CACHE.SET", key, value, "EXAUTO", 1, 600, "GRACE", 600)
    assert chosen(server, "same")[3:] == (-1, 2)
    assert chosen(server, "other")[3] >= 400 and chosen(server, "other")[4] == 2
    assert chosen(server, "deleted")[3:] == (-1, 1), "it was not left to change"
    assert chosen(server, "native")[3:] == (-1, 0), "over a native key nothing is known"


GONE = {
    "nothing": (),
    "a tag of others": ("CACHE.INVALIDATE", "TAGS", "other"),
    "its tag": ("CACHE.INVALIDATE", "TAGS", "t"),
    "its tag, softly": ("CACHE.INVALIDATE", "SOFT", "TAGS", "t"),
    "its namespace": ("CACHE.INVALIDATE", "NAMESPACE", "n"),
    "CACHE.DEL": ("CACHE.DEL", "n:k"),
    "CACHE.STALE": ("CACHE.STALE", "n:k"),
    "EX": ("CACHE.SET", "n:k", "w", "PX", 1),
}


@single
@pytest.mark.parametrize("by", GONE)
def test_what_is_invalidated_when_it_has_gone_is_no_example_either(server, by):
    server("CACHE.SET", "n:k", "v", "EXAUTO", 1, 600, "TAGS", "s", "t")
    wait_for(lambda: server("EXISTS", "n:k") == 0, "the second to be over")
    if GONE[by]:
        server(*GONE[by])
        wait_for(lambda: server("EXISTS", "n:k") == 0, "a millisecond to be over")
    server("CACHE.SET", "n:k", "w", "EXAUTO", 1, 600, "TAGS", "s", "t")
    assert chosen(server, "n:k")[4] == (by in ("nothing", "a tag of others"))


@single
def test_a_flush_forgets_and_gives_the_memory_back(fresh_server):
    server = fresh_server()
    held = int(server.info("cacheflow_memory")["cacheflow_index_bytes"])
    for key in range(1000):
        server("CACHE.SET", key, "v", "EXAUTO", 1000, 6000)
        server("CACHE.TOUCH", key)
    server("DEL", *range(1000))
    assert int(server.info("cacheflow_memory")["cacheflow_index_bytes"]) > held + 1000 * 40
    for key in range(100):
        server("CACHE.SET", key, "v", "EXAUTO", 1000, 6000)
    assert sum(chosen(server, key)[4] == 1 for key in range(100)) > 90, (
        "but for whom a later one took the place"
    )
    server("FLUSHALL")
    server("CACHE.SET", 7, "v", "EXAUTO", 1000, 6000)
    assert chosen(server, 7)[4] == 0
    server("FLUSHALL")
    await_sweep(server)
    assert int(server.info("cacheflow_memory")["cacheflow_index_bytes"]) < held + 4096


def learnt(clocked):
    """An entry that has seen changes."""
    for value in (1, 2, 2, 3, 3, 3):
        clocked("CACHE.SET", "k", value, "EXAUTO", 10, 3000, "GRACE", 100_000, "TAGS", *range(5))
        clocked.wait(200_000)
    found = chosen(clocked.server, "k")
    assert found[3] > 0 and found[4] == 5
    return found


@single
@pytest.mark.parametrize("away", ["RDB", "AOF", "AOF rewritten", "DUMP", "COPY", "RENAME"])
def test_what_was_learnt_travels(fresh_server, away):
    clocked = Clocked(fresh_server(args=["--appendonly", "yes"] if "AOF" in away else (), module_args=DEBUG))
    server, before, key = clocked.server, learnt(clocked), "k"
    was = digest(server)
    if away == "DUMP":
        payload, ttl = server("DUMP", "k"), server("PTTL", "k")
        server("FLUSHALL")
        assert server("RESTORE", "k", ttl, payload) == b"OK"
    elif away in ("COPY", "RENAME"):
        key = "other"
        assert server(away, "k", key) in (1, b"OK")
    else:
        if away == "AOF rewritten":
            server.config("aof-use-rdb-preamble", "no")
            server.bgrewriteaof()
        elif away == "RDB":
            server("SAVE")
        server.restart()
        assert digest(server) == was
        turn_clock(server, clocked.now)
    assert chosen(server, key) == before
    server("CACHE.TOUCH", key)
    assert chosen(server, key)[4] == 6


@single
def test_a_promoted_replica_goes_on(fresh_server):
    clocked = Clocked(fresh_server(module_args=DEBUG))
    replica = fresh_server(["--replicaof", f"127.0.0.1 {clocked.server.port}"], module_args=DEBUG)
    replica.wait_replica_of(clocked.server)
    before = learnt(clocked)
    replica.wait_replica_of(clocked.server)
    turn_clock(replica, clocked.now)
    assert chosen(replica, "k") == before and digest(replica) == digest(clocked.server)
    assert replica("CONFIG", "SET", "cacheflow.stale-target", "0.02") == b"OK"
    replica("REPLICAOF", "NO", "ONE")
    replica("CACHE.TOUCH", "k")
    _, ttl, _, _, refills = chosen(replica, "k")
    assert refills == 6 and ttl > 1.5 * before[1], "by its own target"


# --- jitter ----------------------------------------------------------------------------------------
def test_jitter_spreads_what_was_written_together(server):
    server.config("cacheflow.ttl-jitter", 10)
    ends = set()
    for key in range(100):
        server("CACHE.SET", key, "v", "PX", 1_000_000, "PGRACE", 5_000_000)
        left = server("PTTL", key)
        assert 5_890_000 <= left <= 6_100_000, "a tenth of the length, nothing of the grace"
        ends.add(left // 1000)
    assert len(ends) > 50 and max(ends) > 6_020 > 5_980 > min(ends)
    left = server("PTTL", 5)
    for _ in range(20):
        server("CACHE.TOUCH", 5)
    assert left - 1 <= server("PTTL", 5) <= left + 10_000, "a repeated length is the same length"
    server("CACHE.SET", "at", "v", "PXAT", 4_000_000_000_000)
    assert server("PEXPIRETIME", "at") == 4_000_000_000_000, "a point in time is one"
    for key in range(20):
        server("CACHE.SET", key, "v", "EXAUTO", 1000, 1050)
        assert 1_000_000 <= chosen(server, key)[1] <= 1_050_000
    server.config("cacheflow.ttl-jitter", 0)
    server("CACHE.SET", "exact", "v", "PX", 1_000_000)
    assert server("PTTL", "exact") > 1_000_000 - 10_000


# --- a real source ---------------------------------------------------------------------------------
@single
def test_a_source_that_changes_is_read_less_than_by_the_best_single_ttl(clocked):
    """Half of the rows change every two hours, half every four days, at random. As stale as asked for, and
    the one TTL for all rows that is as stale reads the source far more often."""
    source = Source(seed=5, means=[2 * HOUR] * 6 + [96 * HOUR] * 6, tick=60_000, ticks=5000)
    seen = read_through(clocked, source, ("EXAUTO", 1, 86_400), skip=1000)
    assert seen.wrong == 0, "a value that the source never had"
    assert 0.6 * TARGET <= seen.stale / seen.hits <= 1.5 * TARGET, seen
    fixed = best_fixed(source, seen.stale / seen.hits, skip=1000)
    assert seen.reads < 0.8 * fixed.reads, (seen, fixed)
    found = [chosen(clocked.server, key)[1] for key in source.keys]
    assert max(found[:6]) < min(found[6:]), "each row by its own pace"
    assert fetch(clocked.server, "row:0").state in (b"FRESH", b"STALE")
