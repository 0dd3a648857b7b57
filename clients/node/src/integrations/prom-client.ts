/**
 * Prometheus metrics of caches, by prom-client.
 *
 *     const stop = collect(cache, { name: "shop" });
 *
 * | metric (all with the label `cache`) | labels |
 * | --- | --- |
 * | cacheflow_client_requests_total | result: fresh, stale, local, local_stale, miss |
 * | cacheflow_client_request_seconds (histogram) | result: fresh, stale, miss |
 * | cacheflow_client_wait_seconds (histogram) | |
 * | cacheflow_client_load_seconds (histogram) | outcome: done, failed |
 * | cacheflow_client_refreshes_total | outcome: done, failed |
 * | cacheflow_client_fills_total | outcome: stored, touched, refused, skipped, failed |
 * | cacheflow_client_writes_total | operation: set, touch, delete, incr |
 * | cacheflow_client_invalidations_total | kind: hard, soft; outcome: done, failed |
 * | cacheflow_client_locks_total | outcome: taken, refused, released, lost |
 * | cacheflow_client_errors_total | event, code |
 * | cacheflow_client_breaker_openings_total | |
 * | cacheflow_client_tracking_losses_total | |
 * | cacheflow_client_breaker_state (gauge) | state: closed, open, half-open; 1 for what it is |
 *
 * No label is a key or a tag: there is no end of those. Several caches may share a registry. The server's own metrics
 * (CACHE.METRICS, `cacheflow serve`) have the name cacheflow_ without client_.
 */
import { Counter, Gauge, Histogram, register, type Registry } from "prom-client";
import type { CacheFlow } from "../cache.js";
import type { CacheEvent } from "../events.js";
import { codeOf, RESULTS, STATES } from "./telemetry.js";

/** Seconds: from a hit on loopback to a wait for a slow origin. */
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const BREAKER = ["closed", "open", "half-open"] as const;

export interface CollectOptions {
  /** The label `cache`, which tells this cache from others. Its namespace unless named. */
  readonly name?: string | undefined;
  /** prom-client's own unless named. */
  readonly registry?: Registry | undefined;
}

function metricsIn(registry: Registry) {
  const registers = [registry];
  const counter = (name: string, help: string, ...labels: string[]): Counter =>
    new Counter({ name: `cacheflow_client_${name}_total`, help, labelNames: ["cache", ...labels], registers });
  const histogram = (what: string, help: string, ...labels: string[]): Histogram => {
    const name = `cacheflow_client_${what}_seconds`;
    return new Histogram({ name, help, labelNames: ["cache", ...labels], buckets: BUCKETS, registers });
  };
  return {
    requests: counter("requests", "Reads, by how they were answered.", "result"),
    asking: histogram("request", "Asking Redis for a value.", "result"),
    waiting: histogram("wait", "Waiting for a value that somebody else computes."),
    loading: histogram("load", "Running the factory.", "outcome"),
    refreshes: counter("refreshes", "Loads in the background.", "outcome"),
    fills: counter("fills", "What became of loaded values.", "outcome"),
    writes: counter("writes", "Writes by callers.", "operation"),
    invalidations: counter("invalidations", "Tags and namespaces invalidated.", "kind", "outcome"),
    locks: counter("locks", "Locks.", "outcome"),
    errors: counter("errors", "Errors, by what was being done and their code.", "event", "code"),
    openings: counter("breaker_openings", "How often Redis was given up for a while."),
    losses: counter("tracking_losses", "How often the level's connection was lost."),
    breaker: new Gauge({
      name: "cacheflow_client_breaker_state",
      help: "1 for the state that the breaker is in.",
      labelNames: ["cache", "state"],
      registers,
    }),
  };
}

type Metrics = ReturnType<typeof metricsIn>;

/** A registry takes a name once. */
const known = new WeakMap<Registry, Metrics>();

function shared(registry: Registry): Metrics {
  let metrics = known.get(registry);
  // A registry that was cleared has forgotten them.
  if (metrics === undefined || registry.getSingleMetric("cacheflow_client_breaker_state") === undefined) {
    metrics = metricsIn(registry);
    known.set(registry, metrics);
  }
  return metrics;
}

/** Counts what happens in a cache from now on. The function that is returned ends it. */
export function collect(cache: CacheFlow, options: CollectOptions = {}): () => void {
  const name = options.name ?? cache.namespace;
  const metrics = shared(options.registry ?? register);
  // The one event that may come a hundred thousand times a second is not looked up each time.
  const local = metrics.requests.labels(name, "local");
  const showBreaker = (is: string): void => {
    for (const state of BREAKER) metrics.breaker.labels(name, state).set(state === is ? 1 : 0);
  };
  showBreaker("closed");
  const hear = (event: CacheEvent): void => {
    if (event.name === "l1_hit") local.inc();
    else count(metrics, name, event);
    if (event.name === "breaker") showBreaker(event.detail);
  };
  cache.on("event", hear);
  return () => {
    cache.off("event", hear);
  };
}

function count(metrics: Metrics, cache: string, { name, detail, ms, error }: CacheEvent): void {
  const outcome = error === undefined ? "done" : "failed";
  const result = RESULTS[name];
  if (result !== undefined) {
    metrics.requests.labels(cache, result).inc();
    if (name !== "l1_stale") metrics.asking.labels(cache, result).observe(ms / 1000);
  } else if (name === "wait") metrics.waiting.labels(cache).observe(ms / 1000);
  else if (name === "load") metrics.loading.labels(cache, outcome).observe(ms / 1000);
  else if (name === "refresh") metrics.refreshes.labels(cache, outcome).inc();
  else if (name === "fill") metrics.fills.labels(cache, detail).inc();
  else if (name === "write") metrics.writes.labels(cache, detail).inc();
  else if (name === "invalidate") metrics.invalidations.labels(cache, detail, outcome).inc();
  else if (name === "lock") metrics.locks.labels(cache, detail).inc();
  else if (name === "breaker" && detail === "open") metrics.openings.labels(cache).inc();
  else if (name === "tracking" && detail === "down") metrics.losses.labels(cache).inc();
  if (error !== undefined && !STATES.has(name)) metrics.errors.labels(cache, name, codeOf(error)).inc();
}
