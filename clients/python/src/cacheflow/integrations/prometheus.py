"""Prometheus metrics of clients, by prometheus_client.

    observe = PrometheusObserver("shop")
    cache = CacheFlow(url, observers=[observe])
    observe.watch(cache)      # what is asked of the client when Prometheus asks: breaker, level, queue

    metric (all with the label `cache`)                   labels
    ----------------------------------------------------  ---------------------------------------------
    cacheflow_client_requests_total                       result: fresh, stale, local, local_stale, miss
    cacheflow_client_request_seconds (histogram)          result: fresh, stale, miss
    cacheflow_client_wait_seconds (histogram)
    cacheflow_client_load_seconds (histogram)             outcome: done, failed
    cacheflow_client_refreshes_total                      outcome: done, failed
    cacheflow_client_fills_total                          outcome: stored, touched, refused, skipped, failed
    cacheflow_client_writes_total                         operation: set, touch, delete, expire, incr
    cacheflow_client_invalidations_total                  kind: hard, soft, retry; outcome: done, failed
    cacheflow_client_locks_total                          outcome: taken, refused, released, lost, left
    cacheflow_client_errors_total                         event, code
    cacheflow_client_breaker_openings_total
    cacheflow_client_tracking_losses_total
    cacheflow_client_breaker_state (gauge, watched)       state: closed, open, probing; 1 for what it is
    cacheflow_client_queued_invalidations (watched)
    cacheflow_client_refreshing (watched)
    cacheflow_client_local_entries, _local_bytes (watched, where there is a level)

No label is a key or a tag: there is no end of those. The server's own metrics (CACHE.METRICS, `cacheflow serve`)
have the name cacheflow_ without client_.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..breaker import BreakerState
from .telemetry import RESULTS, STATES, code_of

if TYPE_CHECKING:
    from ..api import Client
    from ..events import Event

#: Seconds: from a hit on loopback to a wait for a slow origin.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class _Metrics(Collector):
    """All metrics in one registry, and the clients that are asked when Prometheus asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"cacheflow_client_{name}", text, ("cache", *labels), registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            name = f"cacheflow_client_{name}_seconds"
            return Histogram(name, text, ("cache", *labels), registry=registry, buckets=BUCKETS)

        self.requests = counter("requests", "Reads, by how they were answered.", "result")
        self.asking = histogram("request", "Asking Redis for a value.", "result")
        self.waiting = histogram("wait", "Waiting for a value that somebody else computes.")
        self.loading = histogram("load", "Running the loader.", "outcome")
        self.refreshes = counter("refreshes", "Loads in the background.", "outcome")
        self.fills = counter("fills", "What became of loaded values.", "outcome")
        self.writes = counter("writes", "Writes by callers.", "operation")
        self.invalidations = counter("invalidations", "Tags and namespaces invalidated.", "kind", "outcome")
        self.locks = counter("locks", "Locks.", "outcome")
        self.errors = counter("errors", "Errors, by what was being done and their code.", "event", "code")
        self.openings = counter("breaker_openings", "How often Redis was given up for a while.")
        self.losses = counter("tracking_losses", "How often the level's connection was lost.")
        self.clients: list[tuple[str, ref[Client]]] = []
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: what there is depends on the clients."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges of the clients that still are."""

        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"cacheflow_client_{name}", text, labels=("cache", *labels))

        breaker = gauge("breaker_state", "1 for the state that the breaker is in.", "state")
        queued = gauge("queued_invalidations", "Failed invalidations that are sent again.")
        refreshing = gauge("refreshing", "Loads in the background under way.")
        entries = gauge("local_entries", "Entries in the level in the process.")
        size = gauge("local_bytes", "Bytes in the level in the process.")
        self.clients = [(name, reference) for name, reference in self.clients if reference() is not None]
        for name, reference in self.clients:
            client = reference()
            if client is None:
                continue
            stats = client.client_stats()
            for state in BreakerState:
                breaker.add_metric([name, state.value], float(client.breaker_state == state.value))
            queued.add_metric([name], client.queued_invalidations)
            refreshing.add_metric([name], stats["refreshing"])
            if "l1_entries" in stats:
                entries.add_metric([name], stats["l1_entries"])
                size.add_metric([name], stats["l1_bytes"])
        yield from (family for family in (breaker, queued, refreshing, entries, size) if family.samples)


_lock = threading.Lock()
_of_registry: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()


def _metrics(registry: CollectorRegistry) -> _Metrics:
    with _lock:
        if registry not in _of_registry:
            _of_registry[registry] = _Metrics(registry)
        return _of_registry[registry]


class PrometheusObserver:
    """Counts a client's events. `cache`: the label that tells this client's from others'; several may share a
    registry, prometheus_client's own unless named."""

    def __init__(self, cache: str = "default", *, registry: CollectorRegistry = REGISTRY) -> None:
        self._cache, self._metrics = cache, _metrics(registry)
        # The one event that may come a hundred thousand times a second is not looked up each time.
        self._local = self._metrics.requests.labels(cache, "local")

    def watch(self, client: Client) -> None:
        """Show this client's breaker, level, queue and refreshes too, for as long as it is."""
        self._metrics.clients.append((self._cache, ref(client)))

    def on_event(self, event: Event) -> None:
        """Count it."""
        name, cache, metrics = event.name, self._cache, self._metrics
        if name == "l1_hit":
            self._local.inc()
            return
        outcome = "failed" if event.error is not None else "done"
        if name in RESULTS:
            metrics.requests.labels(cache, RESULTS[name]).inc()
            if name != "l1_stale":
                metrics.asking.labels(cache, RESULTS[name]).observe(event.seconds)
        elif name == "wait":
            metrics.waiting.labels(cache).observe(event.seconds)
        elif name == "load":
            metrics.loading.labels(cache, outcome).observe(event.seconds)
        elif name == "refresh":
            metrics.refreshes.labels(cache, outcome).inc()
        elif name == "fill":
            metrics.fills.labels(cache, event.detail).inc()
        elif name == "write":
            metrics.writes.labels(cache, event.detail).inc()
        elif name == "invalidate":
            metrics.invalidations.labels(cache, event.detail, outcome).inc()
        elif name == "lock":
            metrics.locks.labels(cache, event.detail).inc()
        elif name == "breaker" and event.detail == "open":
            metrics.openings.labels(cache).inc()
        elif name == "tracking" and event.detail == "down":
            metrics.losses.labels(cache).inc()
        if event.error is not None and name not in STATES:
            metrics.errors.labels(cache, name, code_of(event.error)).inc()
