"""CACHE.METRICS: well-formed by others' judgement, the same figures as CACHE.STATS, and bounded."""

import pytest

from harness.leases import fetcher, fill, grant, stats
from harness.metrics import check, families, samples, value
from harness.server import wait_for

single = pytest.mark.topology("single")
# Of CACHE.STATS to the metric, where that is not cacheflow_<name>(_total).
COUNTERS = (
    "hits stale-hits misses writes busy waits coalesced grants early-elections fills refused-fills "
    "promotions failed-fills protected breaker-opened invalidations invalidated-entries evictions expired"
).split()
GAUGES = "tags memberships locks waiters leases open-breakers sweep-queued".split()


def scrape(server):
    """The text."""
    return server("CACHE.METRICS").decode()


def load(server):
    """Something of everything."""
    server("CACHE.STATS", "RESET")
    for name in ("a", "b"):
        for n in range(3):
            key = f"{name}:{n}"
            server("CACHE.SET", key, "v", "EX", 1000, "GRACE", 1000, "COST", 1500, "TAGS", "t", "u")
            server("CACHE.GET", key)
    server("CACHE.GET", "a:none")
    server("CACHE.GET", "elsewhere:none")
    server("SET", "native", "v")
    server("CACHE.GET", "native")
    token = grant(server, "a:filled")
    waiter = fetcher(server, "a:filled")
    fill(server, "a:filled", token)
    assert waiter.answer().state == b"FRESH"
    token = grant(server, "b:refused")
    server("CACHE.DEL", "b:refused")
    assert server("CACHE.SET", "b:refused", "v", "LEASE", token) is None
    server("CACHE.STALE", "a:0")
    server("CACHE.GET", "a:0", "STALE")
    server("CACHE.SET", "b:brief", "v", "PX", 5)
    wait_for(lambda: server("EXISTS", "b:brief") == 0, "its end")
    server("CACHE.INVALIDATE", "TAGS", "u")
    server("CACHE.INVALIDATE", "NAMESPACE", "b")
    server.wait_swept()
    server("CACHE.LOCK", "a:locked", 600_000)
    grant(server, "a:leased", "LEASE", 600_000)


def test_others_can_read_it(server):
    assert check(scrape(server)) == "", "promtool check metrics: nothing was counted yet"
    load(server)
    server("CACHE.NAMESPACE", "SET", "a", "MAXMEMORY", 10_000_000, "BREAKER", 50, 1000)
    text = scrape(server)
    assert check(text) == "", "promtool check metrics"
    for name, family in families(text).items():
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram"), name
        for unit in ("seconds", "bytes"):
            assert not name.endswith(unit) or unit in family.documentation, name


def test_it_says_what_stats_say(server):
    load(server)
    text, found = scrape(server), stats(server)
    for name in COUNTERS:
        metric = f"cacheflow_{name.replace('-', '_')}_total"
        assert value(text, metric) == found[name], name
    for name in GAUGES:
        assert value(text, f"cacheflow_{name.replace('-', '_')}") == found[name], name
    saved = round(value(text, "cacheflow_origin_saved_seconds_total") * 1000)
    assert saved == found["origin-ms-saved"] > 9000
    assert value(text, "cacheflow_memory_bytes") == pytest.approx(found["bytes"], rel=0.02)
    for name in ("a", "b"):
        own = stats(server, "NAMESPACE", name)
        for of in ("hits", "misses", "expired", "fills", "grants", "coalesced"):
            metric = f"cacheflow_{of.replace('-', '_')}_total"
            assert value(text, metric, namespace=name) == own[of], (name, of)
        assert value(text, "cacheflow_entries", namespace=name) == own["entries"]
        assert value(text, "cacheflow_namespace_bytes", namespace=name) == own["bytes"]
        assert value(text, "cacheflow_leases", namespace=name) == own["leases"]
    rest = {"namespace": "*"}
    assert value(text, "cacheflow_hits_total", **rest) == 1, "the native key"
    assert value(text, "cacheflow_misses_total", **rest) >= 1
    assert value(text, "cacheflow_refused_fills_total", namespace="b", reason="deleted") == 1
    assert value(text, "cacheflow_evictions_total", reason="max-memory") == 0


def test_times_of_fills_and_waits(server):
    load(server)
    text = scrape(server)
    for name in ("fill", "wait"):
        metric = f"cacheflow_{name}_duration_seconds"
        assert value(text, f"{metric}_count", namespace="a") == 1
        assert value(text, f"{metric}_bucket", namespace="a", le="+Inf") == 1
        assert value(text, f"{metric}_bucket", namespace="a", le="60") == 1
        assert value(text, f"{metric}_count", namespace="*") == 0
        assert (f"{metric}_count", ("namespace", "b")) not in samples(text), "nothing was measured there"
    assert stats(server)["wait-ms"] / 1000 == value(text, "cacheflow_wait_duration_seconds_sum")


@single
def test_names_of_any_bytes(server):
    server("CACHE.STATS", "RESET")
    names = [b"plain", b'q"uo\\te', b"new\nline", b"\xff\x00", b"\\xff\\x00", "käse".encode(), b""]
    for name in names:
        server("CACHE.SET", name + b":k", "v")
        server("CACHE.GET", name + b":k")
    server("CACHE.SET", b"x" * 300 + b":k", "v")
    server("CACHE.SET", "*:k", "v")
    text = scrape(server)
    assert check(text) == ""
    shown = {
        dict(labels)["namespace"]
        for (name, *labels), of in samples(text).items()
        if name == "cacheflow_hits_total" and of == 1
    }
    assert {"plain", 'q"uo\\te', "new\nline", "\\xff\\x00", "käse", ""} <= shown
    assert len(shown) == len(names), "each has its own"
    assert value(text, "cacheflow_entries", namespace="*") == 2, "the endless one, and one that is called so"


@single
def test_namespaces_are_bounded_and_stay(fresh_server):
    server = fresh_server(module_args=("metrics-namespaces", "3"))
    for n in range(10):
        server("CACHE.SET", f"n{n}:k", "v")
        for _ in range(n):
            server("CACHE.GET", f"n{n}:k")

    def shown():
        return {
            dict(labels)["namespace"]
            for name, *labels in samples(scrape(server))
            if name == "cacheflow_hits_total"
        }

    assert shown() == {"n7", "n8", "n9", "*"}, "the most used"
    assert value(scrape(server), "cacheflow_hits_total", namespace="*") == sum(range(7))
    for _ in range(50):
        server("CACHE.GET", "n1:k")
    assert shown() == {"n7", "n8", "n9", "*"}, "no counter falls"
    server.config("cacheflow.metrics-namespaces", 4)
    assert shown() == {"n1", "n7", "n8", "n9", "*"}
    server("CACHE.STATS", "RESET")
    server.config("cacheflow.metrics-namespaces", 0)
    assert shown() == {"*"}
    assert value(scrape(server), "cacheflow_entries") == 10


@single
def test_databases_are_one(server):
    server("CACHE.STATS", "RESET")
    other = server.connect(db=1)
    for connection in (server, other):
        connection("CACHE.SET", "two:k", "v")
        connection("CACHE.GET", "two:k")
    text = scrape(server)
    assert value(text, "cacheflow_hits_total", namespace="two") == 2
    assert value(text, "cacheflow_entries", namespace="two") == 2


@single
def test_it_takes_no_words(server):
    assert "wrong number of arguments" in server.error("CACHE.METRICS", "now")
