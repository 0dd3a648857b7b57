/** Clusters and Sentinel, by either library. */
import { createCluster } from "redis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CacheFlowOptions, RedisClient } from "../src/index.js";
import { caches, counter, gate } from "./support/caches.js";
import { eventually, TestCluster, TestSentinel, type TestServer } from "./support/servers.js";

const KEYS = Array.from({ length: 60 }, (_, n) => `key ${String(n)}`);

async function moved(node: TestServer): Promise<number> {
  const stats = String(await node.command("INFO", "errorstats"));
  return Number(/errorstat_MOVED:count=(\d+)/.exec(stats)?.[1] ?? 0);
}

describe("a cluster", () => {
  const make = caches();
  let cluster: TestCluster;
  let ours: { url: string[] };
  let theirs: { client: RedisClient };
  let end: () => void;

  beforeAll(async () => {
    cluster = await TestCluster.start();
    ours = { url: cluster.urls };
    const client = createCluster({ rootNodes: cluster.urls.map((url) => ({ url })) });
    client.on("error", () => undefined);
    await client.connect();
    theirs = { client: client };
    end = () => {
      client.destroy();
    };
  });
  afterAll(async () => {
    end();
    await cluster.stop();
  });

  it.each([
    ["ioredis", (): CacheFlowOptions => ours],
    ["node-redis", (): CacheFlowOptions => theirs],
  ])("is used by keys, without MOVED, with %s", async (name, options) => {
    const cache = make({ ...options(), namespace: name });
    expect((await cache.ready()).module).toBe(true);
    await cache.get("warm");
    const before = await Promise.all(cluster.nodes.map(moved));
    await cache.setMany(Object.fromEntries(KEYS.map((key) => [key, key])), { ttl: "60s", tags: ["t"] });
    expect((await cache.getMany(KEYS)).size).toBe(60);
    for (const key of KEYS) expect(await cache.getOrSet({ key, factory: () => "loaded" })).toBe(key);
    expect(await cache.delete(KEYS.slice(0, 10))).toBe(10);
    expect(await cache.invalidate("t")).toBe(50);
    expect((await cache.getMany(KEYS)).size).toBe(0);
    const lock = await cache.lock("some name", { ttl: "10s" });
    expect(await lock.release()).toBe(true);
    expect((await cache.stats()).server?.hits).toBeGreaterThanOrEqual(60);
    expect(await Promise.all(cluster.nodes.map(moved))).toEqual(before);
  });

  it.each([
    ["ioredis", (): CacheFlowOptions => ours],
    ["node-redis", (): CacheFlowOptions => theirs],
  ])("is waited in and listened to on every node, with %s", async (name, options) => {
    const [cache, other] = [make({ ...options(), namespace: name, local: true }), make({ ...ours, namespace: name })];
    await cache.ready();
    const factory = counter();
    for (const key of KEYS.slice(0, 12)) {
      const options = { key, factory, ttl: "60s", tags: ["t"] } as const;
      const value = await cache.getOrSet(options);
      await eventually(async () => (await cache.getOrSetEntry(options)).source === "l1", "the level");
      await other.set(key, -1, { ttl: "60s", tags: ["t"] });
      await eventually(async () => (await cache.getOrSet(options)) !== value, "the write to be heard of");
      await eventually(async () => (await cache.getOrSetEntry(options)).source === "l1", "the level");
    }
    await other.invalidate("t");
    await eventually(async () => (await cache.getMany(KEYS)).size === 0, "the invalidation to be heard of");
    for (const key of KEYS.slice(0, 6)) {
      const opened = gate<string>();
      const first = other.getOrSet({ key, factory: () => opened.promise, ttl: "60s", lease: "60s" });
      await eventually(async () => (await other.meta(key))?.leaseMs, "the lease");
      const second = cache.getOrSet({ key, factory: () => "mine", ttl: "60s" });
      await eventually(async () => (await other.meta(key))?.waiters === 1, "the waiter");
      opened.open("theirs");
      expect(await Promise.all([first, second])).toEqual(["theirs", "theirs"]);
    }
  });
});

describe("Sentinel", () => {
  const make = caches();
  let sentinel: TestSentinel;

  beforeAll(async () => {
    sentinel = await TestSentinel.start();
  });
  afterAll(() => sentinel.stop());

  it("is followed to the primary that it promotes", async () => {
    const cache = make({
      redis: { sentinels: [{ host: "127.0.0.1", port: sentinel.sentinel.port }], name: "main" },
      local: true,
      timeout: "300ms",
      breaker: { cooldown: "100ms" },
    });
    await cache.ready();
    expect(await cache.getOrSet({ key: "a", factory: () => 1, ttl: "60s" })).toBe(1);
    await sentinel.primary.kill();
    expect(await cache.getOrSet({ key: "b", factory: () => 2, ttl: "60s" })).toBe(2);
    await eventually(async () => {
      const { source } = await cache.getOrSetEntry({ key: "c", factory: () => 3, ttl: "60s" });
      return source === "redis" || source === "l1";
    }, "the promoted primary to be used");
    expect(await sentinel.replica.command("CACHE.GET", "shop:c")).toBe("3");
  });
});
