/**
 * OpenTelemetry spans and metrics of caches, by the semantic conventions for databases where they have a word.
 *
 *     const stop = instrument(cache, { name: "shop" });
 *
 * Spans (attributes db.system.name = redis, db.operation.name, cacheflow.cache; error.type where it failed):
 *
 * | name | kind | is | attributes besides |
 * | --- | --- | --- | --- |
 * | cache.get | CLIENT | asking Redis for a value | cacheflow.result: fresh, stale, miss |
 * | cache.wait | CLIENT | waiting for who computes it | |
 * | cache.load | INTERNAL | the factory (no db.*) | |
 * | cache.refresh | INTERNAL | a load in the background (no db.*) | |
 * | cache.set | CLIENT | storing what was loaded | cacheflow.outcome: stored, touched, refused, failed |
 * | cache.write | CLIENT | a write by a caller | cacheflow.outcome: set, touch, delete, incr |
 * | cache.invalidate | CLIENT | | cacheflow.outcome: hard, soft |
 * | cache.lock | CLIENT | waiting for a lock | cacheflow.outcome: taken, refused |
 *
 * Metrics, in seconds where they are durations:
 *
 * | name | is | attributes |
 * | --- | --- | --- |
 * | db.client.operation.duration | histogram, of the CLIENT spans | db.system.name, db.operation.name, error.type |
 * | cacheflow.client.load.duration | histogram | error.type |
 * | cacheflow.client.requests | counter | cacheflow.result, local and local_stale too |
 * | cacheflow.client.events | counter of all events | cacheflow.event, cacheflow.outcome, error.type |
 * | cacheflow.client.breaker.open | gauge: 1 while Redis is not asked | |
 *
 * Keys, tags and lock names are in no attribute unless `keys` is true, and then in spans alone (cacheflow.key). An event
 * is told when it is over, so spans are drawn backwards: they are children of the caller's span, and what the factory
 * itself traces stands beside cache.load, within the same parent. An answer of the level in the process has no span: it
 * takes less time than a span does.
 */
import {
  metrics,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Histogram,
  type Meter,
  type MeterProvider,
  type Tracer,
  type TracerProvider,
} from "@opentelemetry/api";
import type { CacheFlow } from "../cache.js";
import type { CacheEvent, EventName } from "../events.js";
import { codeOf, RESULTS, STATES } from "./telemetry.js";

const SCOPE = "cacheflow";
/** The conventions' advice for db.client.operation.duration. */
const BOUNDARIES = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10];
/** Events that are commands to the server and say how long they took, by the name of the operation. */
const OPERATIONS: Partial<Readonly<Record<EventName, string>>> = {
  hit: "get",
  stale: "get",
  miss: "get",
  wait: "wait",
  fill: "set",
  write: "write",
  invalidate: "invalidate",
  lock: "lock",
};
/** Details for which nothing was sent, or nothing was timed. */
const UNTIMED: ReadonlySet<string> = new Set(["skipped", "released", "lost"]);

export interface InstrumentOptions {
  /** The attribute cacheflow.cache, which tells this cache from others. Its namespace unless named. */
  readonly name?: string | undefined;
  /** The global ones unless named. */
  readonly tracerProvider?: TracerProvider | undefined;
  readonly meterProvider?: MeterProvider | undefined;
  /** Of every span and metric besides, such as server.address and db.namespace. */
  readonly attributes?: Attributes | undefined;
  /** Whether spans name keys. False unless named. */
  readonly keys?: boolean | undefined;
  /** Whether there are spans. True unless named. */
  readonly spans?: boolean | undefined;
}

/** Reports what happens in a cache from now on. The function that is returned ends it. */
export function instrument(cache: CacheFlow, options: InstrumentOptions = {}): () => void {
  const reporter = new Reporter(cache, options);
  const hear = (event: CacheEvent): void => {
    reporter.report(event);
  };
  cache.on("event", hear);
  return () => {
    cache.off("event", hear);
    reporter.end();
  };
}

function durations(meter: Meter, name: string, description: string): Histogram {
  return meter.createHistogram(name, { unit: "s", description, advice: { explicitBucketBoundaries: BOUNDARIES } });
}

class Reporter {
  readonly #own: Attributes;
  readonly #keys: boolean;
  readonly #tracer: Tracer | undefined;
  readonly #report: (event: CacheEvent) => void;
  readonly #end: () => void;

  constructor(cache: CacheFlow, options: InstrumentOptions) {
    this.#own = { "cacheflow.cache": options.name ?? cache.namespace, ...options.attributes };
    this.#keys = options.keys ?? false;
    if (options.spans !== false) this.#tracer = (options.tracerProvider ?? trace).getTracer(SCOPE);
    const meter = (options.meterProvider ?? metrics).getMeter(SCOPE);
    const operations = durations(meter, "db.client.operation.duration", "Duration of database client operations.");
    const loads = durations(meter, "cacheflow.client.load.duration", "Duration of factories.");
    const requests = meter.createCounter("cacheflow.client.requests", {
      unit: "{request}",
      description: "Reads, by how they were answered.",
    });
    const events = meter.createCounter("cacheflow.client.events", {
      unit: "{event}",
      description: "What happened in the client.",
    });
    const breaker = meter.createObservableGauge("cacheflow.client.breaker.open", {
      unit: "1",
      description: "1 while Redis is not asked.",
    });
    let open = 0;
    const observe: Parameters<typeof breaker.addCallback>[0] = (result) => {
      result.observe(open, this.#own);
    };
    breaker.addCallback(observe);
    this.#end = () => {
      breaker.removeCallback(observe);
    };
    const local = { ...this.#own, "cacheflow.result": "local" };

    this.#report = (event) => {
      const { name, detail, ms, error } = event;
      if (name === "l1_hit") {
        requests.add(1, local);
        return;
      }
      if (name === "breaker") open = detail === "open" ? 1 : 0;
      const failed: Attributes = error === undefined || STATES.has(name) ? {} : { "error.type": codeOf(error) };
      const outcome: Attributes = detail === "" ? {} : { "cacheflow.outcome": detail };
      events.add(1, { ...this.#own, "cacheflow.event": name, ...outcome, ...failed });
      const result: Attributes = RESULTS[name] === undefined ? {} : { "cacheflow.result": RESULTS[name] };
      if (RESULTS[name] !== undefined) requests.add(1, { ...this.#own, ...result });
      if (name === "load" || name === "refresh") {
        if (name === "load") loads.record(ms / 1000, { ...this.#own, ...failed });
        this.#span(`cache.${name}`, SpanKind.INTERNAL, event, failed);
        return;
      }
      const operation = OPERATIONS[name];
      if (operation === undefined || UNTIMED.has(detail)) return;
      const database = { "db.system.name": "redis", "db.operation.name": operation, ...failed };
      operations.record(ms / 1000, { ...this.#own, ...database });
      this.#span(`cache.${operation}`, SpanKind.CLIENT, event, { ...database, ...result, ...outcome });
    };
  }

  report(event: CacheEvent): void {
    this.#report(event);
  }

  end(): void {
    this.#end();
  }

  #span(name: string, kind: SpanKind, event: CacheEvent, attributes: Attributes): void {
    if (this.#tracer === undefined) return;
    const key: Attributes = this.#keys && event.key !== "" ? { "cacheflow.key": event.key } : {};
    const end = performance.timeOrigin + performance.now();
    const span = this.#tracer.startSpan(name, {
      kind,
      startTime: end - event.ms,
      attributes: { ...this.#own, ...attributes, ...key },
    });
    if (event.error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: codeOf(event.error) });
    span.end(end);
  }
}
