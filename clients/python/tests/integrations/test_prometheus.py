"""Prometheus metrics of real clients on a real server."""

from __future__ import annotations

import gc

import pytest
from harness.server import wait_for
from prometheus_client import CollectorRegistry, generate_latest

from cacheflow import CacheFlow, InvalidationError
from cacheflow.integrations.prometheus import PrometheusObserver


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def observed(server, namespace, registry):
    """Makes clients whose events are counted under a label."""
    made = []

    def make(name="shop", port=server.port, watch=True, **options):
        observe = PrometheusObserver(name, registry=registry)
        options = {"timeout": 5.0, "observers": [observe], "namespace": namespace, **options}
        client = CacheFlow(f"redis://127.0.0.1:{port}", **options)
        if watch:
            observe.watch(client)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def value(registry):
    def take(metric, cache="shop", **labels):
        found = registry.get_sample_value(f"cacheflow_client_{metric}", {"cache": cache, **labels})
        return 0 if found is None else found

    return take


def test_reads_are_counted_by_how_they_were_answered(observed, value):
    cache = observed()
    for _ in range(3):
        cache.get_or_set("a", lambda: 1, ttl=60, grace=60)
    cache.delete("a", soft=True)
    cache.get_or_set("a", lambda: 2, ttl=60, grace=60)
    wait_for(lambda: value("refreshes_total", outcome="done") == 1, "the refresh", 20)
    assert value("requests_total", result="miss") == 1
    assert value("requests_total", result="fresh") == 2
    assert value("requests_total", result="stale") == 1
    assert value("request_seconds_count", result="fresh") == 2
    assert value("load_seconds_count", outcome="done") == 2
    assert value("fills_total", outcome="stored") == 2
    assert value("writes_total", operation="expire") == 1
    assert value("errors_total", event="load", code="LookupError") == 0


def test_the_level_in_the_process(observed, value):
    cache = observed(local=True)

    def hit():
        cache.get_or_set("a", lambda: 1, ttl=60)
        return value("requests_total", result="local") > 0

    wait_for(hit, "an answer of the level", 20)
    assert value("local_entries") == 1
    assert value("local_bytes") > 0
    assert value("tracking_losses_total") == 0


def test_writes_invalidations_and_locks(observed, value):
    cache = observed()
    cache.set("a", 1, ttl=60, tags=["t"])
    cache.invalidate("t", "u")
    cache.invalidate("t", soft=True)
    with cache.lock("l", ttl=5):
        assert value("locks_total", outcome="taken") == 1
    assert value("locks_total", outcome="released") == 1
    assert value("writes_total", operation="set") == 1
    assert value("invalidations_total", kind="hard", outcome="done") == 2
    assert value("invalidations_total", kind="soft", outcome="done") == 1


def test_errors_have_codes(observed, value):
    cache = observed()

    def fail():
        raise LookupError

    with pytest.raises(LookupError):
        cache.get_or_set("a", fail, ttl=60)
    assert value("errors_total", event="load", code="LookupError") == 1
    assert value("load_seconds_count", outcome="failed") == 1


def test_a_server_that_is_gone(observed, value, own_server):
    cache = observed(port=own_server.port, timeout=0.5, breaker_failures=2, breaker_cooldown=60)
    cache.get_or_set("a", lambda: 1, ttl=60)
    assert value("breaker_state", state="closed") == 1
    own_server.kill9()
    for _ in range(4):
        assert cache.get_or_set("a", lambda: 2, ttl=60) == 2
    with pytest.raises(InvalidationError):
        cache.invalidate("t", retry=True)
    assert value("breaker_openings_total") == 1
    assert value("breaker_state", state="open") == 1
    assert value("breaker_state", state="closed") == 0
    assert value("errors_total", event="degraded", code="breaker_open") >= 1
    assert value("invalidations_total", kind="hard", outcome="failed") == 1
    assert value("queued_invalidations") == 1


def test_clients_share_a_registry_and_are_told_apart(observed, value, registry):
    one, two = observed("one"), observed("two")
    one.get_or_set("a", lambda: 1, ttl=60)
    two.get_or_set("a", lambda: 1, ttl=60)
    assert value("requests_total", cache="one", result="miss") == 1
    assert value("requests_total", cache="two", result="fresh") == 1
    assert value("breaker_state", cache="two", state="closed") == 1
    text = generate_latest(registry).decode()
    assert text.count("# TYPE cacheflow_client_breaker_state gauge") == 1


def test_a_client_that_is_no_more_is_not_shown(server, registry, value):
    observe = PrometheusObserver("gone", registry=registry)
    client = CacheFlow(f"redis://127.0.0.1:{server.port}", observers=[observe])
    observe.watch(client)
    assert value("breaker_state", cache="gone", state="closed") == 1
    client.close()
    del client
    gc.collect()
    assert value("breaker_state", cache="gone", state="closed") == 0
    assert b"breaker_state" not in generate_latest(registry)


def test_no_key_is_a_label(observed, registry):
    cache = observed()
    cache.get_or_set("secret-key", lambda: 1, ttl=60, tags=["secret-tag"])
    cache.invalidate("secret-tag")
    assert b"secret" not in generate_latest(registry)
