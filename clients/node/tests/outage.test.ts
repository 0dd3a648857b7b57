/** Redis is killed, stopped, and back. Faults of the network between are in clients/conformance. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { InvalidationError, Unavailable, type CacheFlow } from "../src/index.js";
import { caches, counter, record } from "./support/caches.js";
import { eventually, TestServer } from "./support/servers.js";

const make = caches();
let server: TestServer;

beforeEach(async () => {
  server = await TestServer.start();
});
afterEach(() => server.stop());

function cacheOf(options: { local?: boolean; localLoads?: number } = {}): CacheFlow {
  return make({ url: server.url, timeout: "300ms", breaker: { cooldown: "100ms" }, ...options });
}

const OUTAGES: [string, () => Promise<void>, () => Promise<void>][] = [
  ["killed", () => server.kill(), () => server.start()],
  [
    "stopped",
    () => {
      server.pause();
      return Promise.resolve();
    },
    () => {
      server.resume();
      return Promise.resolve();
    },
  ],
];

describe.each(OUTAGES)("Redis is %s", (_, down, up) => {
  it("is survived: every getOrSet is answered, and Redis is used again", async () => {
    const cache = cacheOf();
    const events = record(cache);
    await cache.ready();
    await down();
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_one, n) => cache.getOrSet({ key: `k${String(n)}`, factory: () => n, ttl: "60s" })),
    );
    expect(answers).toEqual(Array.from({ length: 200 }, (_one, n) => n));
    for (let n = 0; n < 20; n += 1) expect(await cache.getOrSet({ key: "k", factory: () => n, ttl: "60s" })).toBe(n);
    expect(events.some(({ name, detail }) => name === "breaker" && detail === "open")).toBe(true);
    await up();
    const factory = counter();
    await eventually(async () => {
      const { source } = await cache.getOrSetEntry({ key: "after", factory, ttl: "60s" });
      return source === "redis";
    }, "Redis to be used again");
    expect((await cache.stats()).breaker).toBe("closed");
  });

  it("leaves what the level in the process has", async () => {
    const cache = cacheOf({ local: true });
    await cache.ready();
    const options = { key: "k", factory: counter(), ttl: "60s", grace: "60s" } as const;
    await cache.getOrSet(options);
    await eventually(async () => (await cache.getOrSetEntry(options)).source === "l1", "the level");
    await down();
    await eventually(async () => (await cache.getOrSetEntry(options)).source === "l1_stale", "the loss");
    expect(await cache.getOrSet(options)).toBe(1);
    expect(await cache.get("k")).toBe(1);
    expect(options.factory.calls).toBe(1);
    await up();
  });

  it("makes writes say no, and what removes or counts reject", async () => {
    const cache = cacheOf();
    await cache.ready();
    await down();
    expect(await cache.set("k", 1)).toBe(false);
    expect(await cache.setMany({ k: 1 })).toEqual([]);
    expect(await cache.get("k")).toBeUndefined();
    await expect(cache.delete("k")).rejects.toBeInstanceOf(Unavailable);
    await expect(cache.incr("k")).rejects.toBeInstanceOf(Unavailable);
    await expect(cache.lock("k", { ttl: "1s" })).rejects.toBeInstanceOf(Unavailable);
    await expect(cache.invalidate("t")).rejects.toMatchObject({
      name: "InvalidationError",
      queued: false,
      targets: ["t"],
    });
    await up();
  });

  it("has queued invalidations sent when it is back", async () => {
    const cache = cacheOf();
    await cache.ready();
    await down();
    const failed: unknown = await cache
      .invalidate({ tags: ["t"], namespaces: ["n"] }, { retry: true })
      .catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(InvalidationError);
    expect(failed).toMatchObject({ queued: true, targets: ["t", "@n"], key: "t" });
    expect((await cache.stats()).queued).toBe(1);
    await up();
    await eventually(async () => (await cache.stats()).queued === 0, "the queue to be empty");
    const log = String(await server.command("CACHE.LOG", 10));
    expect(log).toContain("@n");
  });
});

it("loads under the local limit, and not more", async () => {
  const cache = cacheOf({ localLoads: 3 });
  await server.kill();
  let [running, most] = [0, 0];
  const factory = async (): Promise<number> => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, 2));
    running -= 1;
    return 1;
  };
  const all = Array.from({ length: 40 }, (_, n) => cache.getOrSet({ key: `k${String(n)}`, factory }));
  expect(await Promise.all(all)).toEqual(Array.from({ length: 40 }, () => 1));
  expect(most).toBe(3);
});

it("promotes a waiter when the process that computes is gone", async () => {
  const [one, two] = [make({ url: server.url }), make({ url: server.url })];
  const never = one.getOrSet({
    key: "k",
    factory: () => new Promise<string>(() => undefined),
    ttl: "60s",
    lease: "60s",
  });
  never.catch(() => undefined);
  await eventually(async () => (await two.meta("k"))?.leaseMs, "the lease");
  const second = two.getOrSet({ key: "k", factory: () => "promoted", ttl: "60s" });
  await eventually(async () => (await two.meta("k"))?.waiters === 1, "the waiter");
  await one.close();
  expect(await second).toBe("promoted");
  expect(await two.get("k")).toBe("promoted");
});

it("gives back a lease whose grant came too late", async () => {
  const [slow, other] = [cacheOf(), make({ url: server.url, timeout: "10s" })];
  await Promise.all([slow.ready(), other.ready()]);
  server.pause();
  // Sent, and granted as soon as the server goes on, when nobody here waits for it any more.
  expect(await slow.getOrSet({ key: "k", factory: () => "alone", ttl: "60s", lease: "60s" })).toBe("alone");
  server.resume();
  await eventually(async () => ((await other.meta("k"))?.leaseMs ?? 0) === 0, "the lease to be given back");
  expect(await other.getOrSet({ key: "k", factory: () => "next", ttl: "60s" })).toBe("next");
});
