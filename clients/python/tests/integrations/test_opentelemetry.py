"""OpenTelemetry's spans and metrics, by its own SDK, of real clients on a real server."""

from __future__ import annotations

import time

import pytest
from harness.server import wait_for
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cacheflow import AsyncCacheFlow, CacheFlow
from cacheflow.integrations.opentelemetry import OpenTelemetryObserver


class Telemetry:
    """The SDK, with what it was told."""

    def __init__(self):
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader])

    def observer(self, **options):
        return OpenTelemetryObserver("shop", tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self):
        return self._spans.get_finished_spans()

    def points(self, name):
        """Of a metric: its points, by attributes."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            (dict(point.attributes), point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def count(self, name, **attributes):
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(
            getattr(point, "count", None) or getattr(point, "value", 0)
            for found, point in self.points(name)
            if wanted.items() <= found.items()
        )


@pytest.fixture
def telemetry():
    return Telemetry()


@pytest.fixture
def cache(server, namespace, telemetry):
    url = f"redis://127.0.0.1:{server.port}"
    with CacheFlow(url, namespace=namespace, timeout=5.0, observers=[telemetry.observer()]) as made:
        yield made


def test_spans_of_a_miss_and_a_hit_stand_in_the_callers(cache, telemetry):
    tracer = telemetry.tracers.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        cache.get_or_set("a", lambda: 1, ttl=60)
        cache.get_or_set("a", lambda: 1, ttl=60)
    spans = [span for span in telemetry.spans() if span.name != "request"]
    assert [span.name for span in spans] == ["cache.get", "cache.load", "cache.set", "cache.get"]
    assert {span.parent.span_id for span in spans} == {request.get_span_context().span_id}
    get, load, fill, hit = spans
    assert dict(get.attributes) == {
        "cacheflow.cache": "shop",
        "db.system.name": "redis",
        "db.operation.name": "get",
        "cacheflow.result": "miss",
    }
    assert get.kind is SpanKind.CLIENT
    assert (load.kind, dict(load.attributes)) == (SpanKind.INTERNAL, {"cacheflow.cache": "shop"})
    assert fill.attributes["cacheflow.outcome"] == "stored"
    assert hit.attributes["cacheflow.result"] == "fresh"
    assert all(span.start_time <= span.end_time for span in spans)
    assert get.end_time <= load.end_time <= fill.end_time
    assert all(request.start_time <= span.start_time for span in spans)


def test_spans_are_as_long_as_what_they_are_of(cache, telemetry):
    def load():
        time.sleep(0.02)
        return 1

    cache.get_or_set("a", load, ttl=60)
    (span,) = [span for span in telemetry.spans() if span.name == "cache.load"]
    assert span.end_time - span.start_time >= 0.02 * 1e9


def test_errors_have_types(cache, telemetry):
    def fail():
        raise LookupError("secret")

    with pytest.raises(LookupError):
        cache.get_or_set("a", fail, ttl=60)
    (load,) = [span for span in telemetry.spans() if span.name == "cache.load"]
    assert load.attributes["error.type"] == "LookupError"
    assert load.status.status_code is StatusCode.ERROR
    assert not any("secret" in span.to_json() for span in telemetry.spans())
    assert telemetry.count("cacheflow.client.load.duration", error__type="LookupError") == 1


def test_metrics(cache, telemetry):
    cache.get_or_set("a", lambda: 1, ttl=60, tags=["t"])
    for _ in range(3):
        cache.get_or_set("a", lambda: 1, ttl=60, tags=["t"])
    cache.invalidate("t")
    cache.set("b", 1, ttl=60)
    with cache.lock("l", ttl=5):
        pass
    duration = "db.client.operation.duration"
    assert telemetry.count(duration, db__operation__name="get", db__system__name="redis") == 4
    assert telemetry.count(duration, db__operation__name="set") == 1
    assert telemetry.count(duration, db__operation__name="invalidate") == 1
    assert telemetry.count(duration, db__operation__name="lock") == 1
    assert telemetry.count("cacheflow.client.requests", cacheflow__result="fresh") == 3
    assert telemetry.count("cacheflow.client.requests", cacheflow__result="miss") == 1
    assert telemetry.count("cacheflow.client.load.duration") == 1
    assert telemetry.count("cacheflow.client.events", cacheflow__event="write", cacheflow__outcome="set") == 1
    assert telemetry.count("cacheflow.client.events", cacheflow__event="lock", cacheflow__outcome="released") == 1
    bounds = telemetry.points(duration)[0][1].explicit_bounds
    assert bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


def test_keys_are_named_where_they_are_asked_for(server, namespace, telemetry):
    url = f"redis://127.0.0.1:{server.port}"
    observers = [telemetry.observer(attributes={"server.address": "here"})]
    with CacheFlow(url, namespace=namespace, timeout=5.0, observers=observers) as cache:
        cache.get_or_set("who", lambda: 1, ttl=60)
        cache.invalidate("what")
    assert telemetry.spans()
    assert not any("who" in span.to_json() or "what" in span.to_json() for span in telemetry.spans())
    assert all(span.attributes["server.address"] == "here" for span in telemetry.spans())
    with CacheFlow(url, namespace=namespace, timeout=5.0, observers=[telemetry.observer(keys=True)]) as cache:
        cache.get_or_set("who", lambda: 1, ttl=60)
    assert telemetry.spans()[-1].attributes["cacheflow.key"] == f"{namespace}:who"
    assert not any("cacheflow.key" in found for found, _ in telemetry.points("db.client.operation.duration"))


def test_metrics_without_spans(server, namespace, telemetry):
    url = f"redis://127.0.0.1:{server.port}"
    with CacheFlow(url, namespace=namespace, timeout=5.0, observers=[telemetry.observer(spans=False)]) as cache:
        cache.get_or_set("a", lambda: 1, ttl=60)
    assert telemetry.spans() == ()
    assert telemetry.count("cacheflow.client.requests") == 1


def test_the_level_in_the_process_has_no_spans(server, namespace, telemetry):
    url = f"redis://127.0.0.1:{server.port}"
    observers = [telemetry.observer()]
    with CacheFlow(url, namespace=namespace, timeout=5.0, local=True, observers=observers) as cache:

        def hit():
            before = len(telemetry.spans())
            cache.get_or_set("a", lambda: 1, ttl=60)
            return len(telemetry.spans()) == before

        wait_for(hit, "an answer of the level", 20)
    assert telemetry.count("cacheflow.client.requests", cacheflow__result="local") == 1


def test_a_server_that_is_gone(own_server, namespace, telemetry):
    url = f"redis://127.0.0.1:{own_server.port}"
    options = {"timeout": 0.5, "breaker_failures": 1, "breaker_cooldown": 60}
    with CacheFlow(url, namespace=namespace, observers=[telemetry.observer()], **options) as cache:
        cache.connect()
        assert telemetry.count("cacheflow.client.breaker.open") == 0
        own_server.kill9()
        assert cache.get_or_set("a", lambda: 1, ttl=60) == 1
        assert telemetry.count("cacheflow.client.breaker.open") == 1
        assert cache.get_or_set("a", lambda: 1, ttl=60) == 1
        refused = {"cacheflow__event": "degraded", "error__type": "breaker_open"}
        assert telemetry.count("cacheflow.client.events", **refused) == 1


async def test_tasks_have_their_own_parents(server, namespace, telemetry):
    url = f"redis://127.0.0.1:{server.port}"
    tracer = telemetry.tracers.get_tracer("test")
    async with AsyncCacheFlow(url, namespace=namespace, timeout=5.0, observers=[telemetry.observer()]) as cache:
        for name in ("one", "two"):
            with tracer.start_as_current_span(name):
                await cache.get_or_set(name, lambda: 1, ttl=60)
    spans = {span.context.span_id: span for span in telemetry.spans()}
    parents = [spans[span.parent.span_id].name for span in telemetry.spans() if span.name == "cache.load"]
    assert parents == ["one", "two"]
