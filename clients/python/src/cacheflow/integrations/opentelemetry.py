"""OpenTelemetry spans and metrics of clients, by the semantic conventions for databases where they have a word.

    cache = CacheFlow(url, observers=[OpenTelemetryObserver("shop")])

Spans (attributes db.system.name = redis, db.operation.name, cacheflow.cache; error.type where it failed):

    name               kind      is                                    attributes besides
    -----------------  --------  ------------------------------------  ------------------------------------------
    cache.get          CLIENT    asking Redis for a value              cacheflow.result: fresh, stale, miss
    cache.wait         CLIENT    waiting for who computes it
    cache.load         INTERNAL  the loader (no db.*)
    cache.refresh      INTERNAL  a load in the background (no db.*)
    cache.set          CLIENT    storing what was loaded               cacheflow.outcome: stored, touched, refused
    cache.invalidate   CLIENT                                          cacheflow.outcome: hard, soft
    cache.lock         CLIENT    waiting for a lock                    cacheflow.outcome: taken, refused

Metrics, in seconds where they are durations:

    db.client.operation.duration       histogram, of the CLIENT spans: db.system.name, db.operation.name, error.type
    cacheflow.client.load.duration     histogram: error.type
    cacheflow.client.requests          counter: cacheflow.result, local and local_stale too
    cacheflow.client.events            counter of all events: cacheflow.event, cacheflow.outcome, error.type
    cacheflow.client.breaker.open      gauge: 1 while Redis is not asked

Keys, tags and lock names are in no attribute unless `keys=True`, and then in spans alone (cacheflow.key). An event
is told when it is over, so spans are drawn backwards: they are children of the caller's span, and what the
loader itself traces stands beside cache.load, within the same parent. An answer of the level in the process has no
span: it takes less time than a span does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from .telemetry import RESULTS, STATES, code_of

if TYPE_CHECKING:
    from ..events import Event

AttributeValue = str | bool | int | float
_SCOPE = "cacheflow"
#: The conventions' advice for db.client.operation.duration.
_BOUNDARIES = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
#: Events that are commands to the server and say how long they took, by the name of the operation.
_OPERATIONS = {
    "hit": "get",
    "stale": "get",
    "miss": "get",
    "wait": "wait",
    "fill": "set",
    "invalidate": "invalidate",
    "lock": "lock",
}
_INSIDE = frozenset({"load", "refresh"})
#: Details for which nothing was sent, or nothing was timed.
_UNTIMED = frozenset({"skipped", "retry", "released", "lost", "left"})


class OpenTelemetryObserver:
    """Reports a client's events.

    cache: the attribute that tells this client's from others'. attributes: of every span and metric besides,
    such as server.address and db.namespace. keys: whether spans name keys. spans: whether there are any.
    Providers are the global ones unless given.
    """

    def __init__(
        self,
        cache: str = "default",
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        keys: bool = False,
        spans: bool = True,
    ) -> None:
        self._own: dict[str, AttributeValue] = {"cacheflow.cache": cache, **(attributes or {})}
        self._keys, self._spans = keys, spans
        self._open = 0
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._operations = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._loads = meter.create_histogram(
            "cacheflow.client.load.duration",
            unit="s",
            description="Duration of loaders.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._requests = meter.create_counter(
            "cacheflow.client.requests", unit="{request}", description="Reads, by how they were answered."
        )
        self._events = meter.create_counter(
            "cacheflow.client.events", unit="{event}", description="What happened in the client."
        )
        meter.create_observable_gauge(
            "cacheflow.client.breaker.open",
            callbacks=[self._breaker],
            unit="1",
            description="1 while Redis is not asked.",
        )
        self._local = {**self._own, "cacheflow.result": "local"}

    def _breaker(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._open, self._own)]

    def on_event(self, event: Event) -> None:
        """Count it, time it, draw its span."""
        name = event.name
        if name == "l1_hit":
            self._requests.add(1, self._local)
            return
        if name == "breaker":
            self._open = int(event.detail == "open")
        failed: dict[str, AttributeValue] = {}
        if event.error is not None and name not in STATES:
            failed["error.type"] = code_of(event.error)
        happened = {**self._own, "cacheflow.event": name, **failed}
        if event.detail:
            happened["cacheflow.outcome"] = event.detail
        self._events.add(1, happened)
        result = RESULTS.get(name)
        if result is not None:
            self._requests.add(1, {**self._own, "cacheflow.result": result})
        if name in _INSIDE:
            if name == "load":
                self._loads.record(event.seconds, {**self._own, **failed})
            self._span(f"cache.{name}", SpanKind.INTERNAL, event, {**self._own, **failed})
            return
        operation = _OPERATIONS.get(name)
        if operation is None or event.detail in _UNTIMED:
            return
        database = {**self._own, "db.system.name": "redis", "db.operation.name": operation, **failed}
        self._operations.record(event.seconds, database)
        told = dict(database)  # some SDKs keep what a metric is given
        if result is not None:
            told["cacheflow.result"] = result
        if event.detail:
            told["cacheflow.outcome"] = event.detail
        self._span(f"cache.{operation}", SpanKind.CLIENT, event, told)

    def _span(self, name: str, kind: SpanKind, event: Event, attributes: dict[str, AttributeValue]) -> None:
        if not self._spans:
            return
        if self._keys and event.key:
            attributes["cacheflow.key"] = event.key
        end = time.time_ns()
        begin = end - round(event.seconds * 1e9)
        span = self._tracer.start_span(name, kind=kind, attributes=attributes, start_time=begin)
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, code_of(event.error)))
        span.end(end)
