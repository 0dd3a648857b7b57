/** The level in the process on real servers: kept right by tracking and channels, and what is left of it in need. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createClient } from "redis";
import { Redis } from "ioredis";
import type { CacheFlow, RedisClient } from "../src/index.js";
import { caches, counter } from "./support/caches.js";
import { eventually, TestServer } from "./support/servers.js";

/** Clients of both libraries, which stay the application's. */
const CLIENTS: [string, (url: string) => Promise<{ client: RedisClient; end: () => void }>][] = [
  [
    "ioredis",
    (url) => {
      const client = new Redis(url);
      return Promise.resolve({
        client,
        end: () => {
          client.disconnect();
        },
      });
    },
  ],
  [
    "node-redis",
    async (url) => {
      const client = createClient({ url });
      client.on("error", () => undefined);
      await client.connect();
      return {
        client: client as unknown as RedisClient,
        end: () => {
          client.destroy();
        },
      };
    },
  ],
];

describe.each(CLIENTS)("with a client of %s", (_, connect) => {
  const make = caches();
  let server: TestServer;
  let application: Awaited<ReturnType<typeof connect>>;

  beforeAll(async () => {
    server = await TestServer.start();
    application = await connect(server.url);
  });
  afterAll(async () => {
    application.end();
    await server.stop();
  });
  beforeEach(() => server.command("FLUSHALL"));

  async function warm(): Promise<{ cache: CacheFlow; get: () => Promise<string> }> {
    const cache = make({ client: application.client, local: true });
    await cache.ready();
    const factory = counter();
    const get = async (): Promise<string> => {
      const options = { key: "k", factory, ttl: "60s", grace: "60s", tags: ["t"] } as const;
      const { value, source } = await cache.getOrSetEntry(options);
      return `${String(value)} ${source}`;
    };
    expect(await get()).toBe("1 loader");
    // What this process has just written is heard of as any write is.
    await eventually(async () => (await get()) === "1 l1", "the level to have it");
    return { cache, get };
  }

  it("answers from the process", async () => {
    const { cache } = await warm();
    expect(await cache.get("k")).toBe(1);
    expect(await cache.getMany(["k"])).toEqual(new Map([["k", 1]]));
    expect((await cache.stats()).local).toMatchObject({ entries: 1, live: true });
  });

  it.each([
    ["a write", ["CACHE.SET", "shop:k", "7"]],
    ["a native write", ["SET", "shop:k", "7"]],
    ["a hard invalidation", ["CACHE.INVALIDATE", "TAGS", "t"]],
    ["a soft invalidation", ["CACHE.INVALIDATE", "SOFT", "TAGS", "t"]],
    ["the namespace's", ["CACHE.INVALIDATE", "NAMESPACE", "shop"]],
    ["a deletion", ["DEL", "shop:k"]],
    ["an expiry", ["PEXPIRE", "shop:k", "1"]],
    ["FLUSHALL", ["FLUSHALL"]],
  ])("hears of %s by another", async (_name, command) => {
    const { get } = await warm();
    await server.command(command[0] as string, ...command.slice(1));
    await eventually(async () => !(await get()).startsWith("1 l1"), "the level to forget it");
  });

  it("sees what this process did at once", async () => {
    const { cache, get } = await warm();
    await cache.set("k", 7, { ttl: "60s" });
    expect(await cache.get("k")).toBe(7);
    await cache.invalidate("t");
    await eventually(async () => (await get()).endsWith("l1"), "the level");
    await cache.delete("k");
    expect(await cache.get("k")).toBeUndefined();
  });

  it("serves nothing as fresh while the connection that hears is lost, and is right after it", async () => {
    const { cache, get } = await warm();
    const told: string[] = [];
    cache.on("tracking", ({ detail }) => told.push(detail));
    await server.command("CLIENT", "KILL", "TYPE", "pubsub");
    await server.command("CACHE.SET", "shop:k", "7", "EX", 60);
    await eventually(() => told.includes("down"), "the loss to be noticed");
    await eventually(async () => (await get()).startsWith("7 "), "the new value");
    await eventually(() => told.at(-1) === "up", "the connection");
    await eventually(async () => (await get()) === "7 l1", "the level to have it");
  });

  it("leaves the application's client open", async () => {
    const cache = make({ client: application.client });
    await cache.set("x", 1);
    await cache.close();
    await expect(cache.get("x")).resolves.toBeUndefined();
    expect(await make({ client: application.client }).get("x")).toBe(1);
  });
});
