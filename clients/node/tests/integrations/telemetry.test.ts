/** What OpenTelemetry and Prometheus are told of a cache. */
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
  type DataPoint,
  type Histogram,
} from "@opentelemetry/sdk-metrics";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from "@opentelemetry/sdk-trace-base";
import { Registry } from "prom-client";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { CacheFlow } from "../../src/index.js";
import { instrument, type InstrumentOptions } from "../../src/integrations/otel.js";
import { collect } from "../../src/integrations/prom-client.js";
import { caches } from "../support/caches.js";
import { eventually, TestServer } from "../support/servers.js";

const make = caches();
let server: TestServer;
beforeAll(async () => {
  server = await TestServer.start();
});
afterAll(() => server.stop());
beforeEach(() => server.command("FLUSHALL"));

const fail = (): never => {
  throw new TypeError("the origin is down");
};

/** A miss, a hit, a stale one and its refresh, a failure, a write, an invalidation and a lock. */
async function use(cache: CacheFlow): Promise<void> {
  const factory = (): Promise<number> =>
    new Promise((resolve) => {
      setTimeout(resolve, 20, 1);
    });
  const options = { key: "secret", factory, ttl: "60s", grace: "60s", tags: ["t"] } as const;
  await cache.getOrSet(options);
  await cache.getOrSet(options);
  await cache.delete("secret", { soft: true });
  await cache.getOrSet(options);
  await eventually(async () => ((await cache.stats()).client.refresh ?? 0) > 0, "the refresh");
  await expect(cache.getOrSet({ key: "f", factory: fail })).rejects.toThrow(TypeError);
  await cache.set("w", 1);
  await cache.invalidate(["t"]);
  const lock = await cache.lock("l", { ttl: "10s" });
  await lock.release();
}

describe("OpenTelemetry", () => {
  const manager = new AsyncLocalStorageContextManager().enable();
  beforeAll(() => {
    context.setGlobalContextManager(manager);
  });
  afterAll(() => {
    context.disable();
  });

  const spans = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] });
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const meterProvider = new MeterProvider({ readers: [reader] });
  afterAll(async () => {
    await meterProvider.shutdown();
    await tracerProvider.shutdown();
  });
  beforeEach(() => {
    spans.reset();
  });
  const instrumented = (cache: CacheFlow, more: InstrumentOptions = {}): (() => void) =>
    instrument(cache, { tracerProvider, meterProvider, ...more });
  const points = async (name: string): Promise<DataPoint<number | Histogram>[]> => {
    exporter.reset();
    await reader.forceFlush();
    const all = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics));
    return all.filter((metric) => metric.descriptor.name === name).flatMap((metric) => metric.dataPoints as never[]);
  };

  it("draws a span of each command and factory, within the caller's", async () => {
    const cache = make({ url: server.url });
    instrumented(cache, { name: "spans", attributes: { "server.address": "a" } });
    const tracer = tracerProvider.getTracer("test");
    const parent = tracer.startSpan("parent");
    await context.with(trace.setSpan(context.active(), parent), () => use(cache));
    parent.end();
    const finished = spans.getFinishedSpans();
    const named = (name: string): ReadableSpan[] => finished.filter((span) => span.name === name);
    const slow = named("cache.load")[0]?.duration ?? [0, 0];
    expect(slow[0] * 1e9 + slow[1]).toBeGreaterThan(10_000_000);
    const results = named("cache.get").map((span) => span.attributes["cacheflow.result"]);
    expect(results).toEqual(["miss", "fresh", "stale", "miss"]);
    const [get] = named("cache.get");
    expect(get).toMatchObject({ kind: SpanKind.CLIENT });
    expect(get?.attributes).toMatchObject({
      "db.system.name": "redis",
      "db.operation.name": "get",
      "cacheflow.cache": "spans",
      "server.address": "a",
    });
    for (const span of [...named("cache.get"), ...named("cache.load"), ...named("cache.set")]) {
      expect(span.parentSpanContext?.spanId).toBe(parent.spanContext().spanId);
    }
    const failed = named("cache.load").find((span) => span.status.code === SpanStatusCode.ERROR);
    expect(failed).toMatchObject({ kind: SpanKind.INTERNAL, attributes: { "error.type": "TypeError" } });
    expect(named("cache.set").map((span) => span.attributes["cacheflow.outcome"])).toEqual(["stored", "stored"]);
    for (const name of ["cache.refresh", "cache.write", "cache.invalidate", "cache.lock"]) {
      expect(named(name).length, name).toBeGreaterThan(0);
    }
    expect(JSON.stringify(finished.map((span) => span.attributes))).not.toContain("secret");
  });

  it("counts and times, by the conventions' names", async () => {
    const cache = make({ url: server.url });
    instrumented(cache, { name: "metrics", spans: false });
    await use(cache);
    const own = async (name: string): Promise<DataPoint<number | Histogram>[]> =>
      (await points(name)).filter((point) => point.attributes["cacheflow.cache"] === "metrics");
    const requests = (await own("cacheflow.client.requests")).map((point) => [
      point.attributes["cacheflow.result"],
      point.value,
    ]);
    expect(Object.fromEntries(requests)).toEqual({ miss: 2, fresh: 1, stale: 1 });
    const gets = (await own("db.client.operation.duration")).filter(
      (point) => point.attributes["db.operation.name"] === "get",
    );
    expect(gets).toHaveLength(1);
    expect((gets[0]?.value as Histogram).count).toBe(4);
    expect((gets[0]?.value as Histogram).sum).toBeLessThan(60);
    expect((gets[0]?.value as Histogram).buckets.boundaries[0]).toBe(0.001);
    const loads = await own("cacheflow.client.load.duration");
    expect(loads.map((point) => point.attributes["error.type"]).sort()).toEqual(["TypeError", undefined]);
    expect(spans.getFinishedSpans()).toEqual([]);
  });

  it("names keys where it is told to, the level's answers without a span, and ends", async () => {
    const cache = make({ url: server.url, local: true });
    const stop = instrumented(cache, { name: "keys", keys: true });
    await cache.ready();
    const options = { key: "k", factory: () => 1, ttl: "60s" } as const;
    await cache.getOrSet(options);
    await eventually(async () => (await cache.getOrSetEntry(options)).source === "l1", "the level");
    expect(spans.getFinishedSpans().some((span) => span.attributes["cacheflow.key"] === "shop:k")).toBe(true);
    const local = (await points("cacheflow.client.requests")).find(
      (point) => point.attributes["cacheflow.cache"] === "keys" && point.attributes["cacheflow.result"] === "local",
    );
    expect(local?.value).toBe(1);
    stop();
    spans.reset();
    await cache.set("k", 2);
    expect(spans.getFinishedSpans()).toEqual([]);
  });

  it("shows the breaker", async () => {
    const dead = await TestServer.start();
    const cache = make({ url: dead.url, timeout: 50, breaker: { failures: 1, cooldown: "1h" } });
    instrumented(cache, { name: "breaker" });
    const open = async (): Promise<unknown> =>
      (await points("cacheflow.client.breaker.open")).find((point) => point.attributes["cacheflow.cache"] === "breaker")
        ?.value;
    await cache.ready();
    expect(await open()).toBe(0);
    await dead.stop();
    await cache.getOrSet({ key: "k", factory: () => 1 });
    expect(await open()).toBe(1);
  });
});

describe("prom-client", () => {
  it("counts what happens, of several caches in one registry", async () => {
    const registry = new Registry();
    const cache = make({ url: server.url });
    const stop = collect(cache, { name: "a", registry });
    collect(make({ url: server.url }), { name: "b", registry });
    await use(cache);
    const text = await registry.metrics();
    for (const line of [
      'cacheflow_client_requests_total{cache="a",result="miss"} 2',
      'cacheflow_client_requests_total{cache="a",result="fresh"} 1',
      'cacheflow_client_requests_total{cache="a",result="stale"} 1',
      'cacheflow_client_request_seconds_count{cache="a",result="miss"} 2',
      'cacheflow_client_load_seconds_count{cache="a",outcome="failed"} 1',
      'cacheflow_client_refreshes_total{cache="a",outcome="done"} 1',
      'cacheflow_client_fills_total{cache="a",outcome="stored"} 2',
      'cacheflow_client_writes_total{cache="a",operation="set"} 1',
      'cacheflow_client_invalidations_total{cache="a",kind="hard",outcome="done"} 1',
      'cacheflow_client_locks_total{cache="a",outcome="taken"} 1',
      'cacheflow_client_errors_total{cache="a",event="load",code="TypeError"} 1',
      'cacheflow_client_breaker_state{cache="a",state="closed"} 1',
      'cacheflow_client_breaker_state{cache="b",state="open"} 0',
    ]) {
      expect(text.split("\n")).toContain(line);
    }
    expect(text).not.toContain("secret");
    stop();
    await cache.set("w", 2);
    expect(await registry.metrics()).toBe(text);
    registry.clear();
    collect(cache, { name: "a", registry });
    await cache.set("w", 2);
    expect(await registry.metrics()).toContain('cacheflow_client_writes_total{cache="a",operation="set"} 1');
  });

  it("shows the breaker, and the level's answers", async () => {
    const registry = new Registry();
    const dead = await TestServer.start();
    const cache = make({ url: dead.url, local: true, timeout: 50, breaker: { failures: 1, cooldown: "1h" } });
    collect(cache, { registry });
    await cache.ready();
    const options = { key: "k", factory: () => 1, ttl: "60s" } as const;
    await cache.getOrSet(options);
    await eventually(async () => (await cache.getOrSetEntry(options)).source === "l1", "the level");
    await dead.stop();
    await cache.getOrSet({ key: "other", factory: () => 1 });
    const lines = (await registry.metrics()).split("\n");
    expect(lines).toContain('cacheflow_client_requests_total{cache="shop",result="local"} 1');
    expect(lines).toContain('cacheflow_client_breaker_state{cache="shop",state="open"} 1');
    expect(lines).toContain('cacheflow_client_breaker_state{cache="shop",state="closed"} 0');
    expect(lines.some((line) => line.startsWith('cacheflow_client_errors_total{cache="shop",event="degraded"'))).toBe(
      true,
    );
  });
});
