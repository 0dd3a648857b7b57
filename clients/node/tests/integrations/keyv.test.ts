/** The Keyv adapter: Keyv's own suite, and the caches that are built on Keyv. */
import "reflect-metadata";
import { CACHE_MANAGER, CacheModule } from "@nestjs/cache-manager";
import { Test } from "@nestjs/testing";
import suite from "@keyv/test-suite";
import { Cacheable } from "cacheable";
import { createCache, type Cache } from "cache-manager";
import KeyvModule, { Keyv } from "keyv";
import * as vitest from "vitest";
import { CacheFlow, RawCodec } from "../../src/index.js";
import { CacheFlowStore } from "../../src/integrations/keyv.js";
import { caches } from "../support/caches.js";
import { TestServer } from "../support/servers.js";

const { afterAll, beforeAll, beforeEach, describe, expect, it } = vitest;

describe.each([
  { server: "with the module", module: true },
  { server: "without the module", module: false },
])("$server", ({ module }) => {
  const make = caches();
  let server: TestServer;
  let shared: CacheFlow;

  beforeAll(async () => {
    server = await TestServer.start({ module });
    shared = new CacheFlow({ url: server.url, namespace: "keyv" });
  });
  afterAll(async () => {
    await shared.close();
    await server.stop();
  });

  describe("Keyv's suite", () => {
    suite(vitest, KeyvModule, () => new CacheFlowStore(shared));
  });

  describe("of its own", () => {
    beforeEach(() => server.command("FLUSHALL"));

    it("clears its namespace, and nothing else that the cache holds", async () => {
      const cache = make({ url: server.url });
      const [users, posts] = ["users", "posts"].map(
        (namespace) => new Keyv({ store: new CacheFlowStore(cache), namespace }),
      ) as [Keyv, Keyv];
      await cache.set("mine", 1);
      await users.set("1", "Ada");
      await posts.set("1", "Hello");
      await users.clear();
      expect(await users.get("1")).toBeUndefined();
      expect(await posts.get("1")).toBe("Hello");
      await new CacheFlowStore(cache).clear();
      expect(await posts.get("1")).toBeUndefined();
      expect(await cache.get("mine")).toBe(1);
    });

    it("takes tags, for values to be invalidated by", async () => {
      const cache = make({ url: server.url });
      const store = new CacheFlowStore(cache, { tags: (key) => [`of:${key}`] });
      const keyv = new Keyv({ store, namespace: "users" });
      await keyv.set("1", "Ada");
      expect((await cache.meta("users:1"))?.tags).toEqual(
        expect.arrayContaining(["keyv:shop:", "keyv:shop:users", "of:users:1"]),
      );
      await cache.invalidate("of:users:1");
      expect(await keyv.get("1")).toBeUndefined();
    });

    it("gives times to live to the server", async () => {
      const cache = make({ url: server.url });
      const keyv = new Keyv({ store: new CacheFlowStore(cache) });
      await keyv.set("short", 1, 60_000);
      await keyv.set("long", 1);
      expect((await cache.meta("keyv:short"))?.ttlMs).toBeGreaterThan(50_000);
      expect((await cache.meta("keyv:long"))?.ttlMs).toBe(-1);
    });

    it("reads, asks for and removes many at once", async () => {
      const keyv = new Keyv({ store: new CacheFlowStore(make({ url: server.url })), namespace: "n" });
      expect(await keyv.setMany([1, 2].map((n) => ({ key: String(n), value: { n } })))).toEqual([true, true]);
      expect(await keyv.getMany(["2", "0", "1"])).toEqual([{ n: 2 }, undefined, { n: 1 }]);
      expect(await keyv.hasMany(["2", "0"])).toEqual([true, false]);
      expect(await keyv.deleteMany(["0", "1"])).toBe(true);
      expect(await keyv.deleteMany(["0", "1"])).toBe(false);
    });

    it("tells Keyv's listeners of what cannot be read", async () => {
      const cache = make({ url: server.url });
      const keyv = new Keyv({ store: new CacheFlowStore(cache) });
      const errors: unknown[] = [];
      keyv.on("error", (error: unknown) => errors.push(error));
      await server.command("SET", "shop:keyv:bad", "{");
      expect(await keyv.get("bad")).toBeUndefined();
      expect(errors).toMatchObject([{ name: module ? "DecodeError" : "ServerError", key: "shop:keyv:bad" }]);
      expect(await keyv.set("no", 1, -1)).toBe(false);
      expect(errors).toMatchObject([{}, { code: "bad_duration" }]);
    });

    it("closes the cache that it made, and no other", async () => {
      const own = new CacheFlowStore({ url: server.url, namespace: "own" });
      await own.set("a", 1);
      await own.disconnect();
      await expect(own.delete("a")).rejects.toMatchObject({ code: "closed" });
      const cache = make({ url: server.url });
      await new CacheFlowStore(cache).disconnect();
      expect(await cache.set("a", 1)).toBe(true);
    });

    it("keeps what Keyv does not serialize as the cache's codec does", async () => {
      const cache = make({ url: server.url, codec: new RawCodec() });
      const store = new CacheFlowStore(cache);
      await store.set("raw", Buffer.from([0, 255]));
      expect(await store.get("raw")).toEqual(Buffer.from([0, 255]));
    });

    it("serves cache-manager, alone and behind a store in memory", async () => {
      const slow = new Keyv({ store: new CacheFlowStore(make({ url: server.url })), namespace: "cm" });
      const one = createCache({ stores: [slow], ttl: 60_000 });
      const two = createCache({ stores: [new Keyv(), slow] });
      let loads = 0;
      const load = (): Promise<{ n: number }> => Promise.resolve({ n: (loads += 1) });
      expect(await one.wrap("a", load)).toEqual({ n: 1 });
      expect(await one.wrap("a", load)).toEqual({ n: 1 });
      expect(await two.get("a")).toEqual({ n: 1 });
      await two.mset([
        { key: "b", value: 2 },
        { key: "c", value: 3 },
      ]);
      expect(await one.mget(["b", "c", "d"])).toEqual([2, 3, undefined]);
      expect(await one.ttl("a")).toBeGreaterThan(Date.now());
      await one.mdel(["b"]);
      expect(await one.get("b")).toBeUndefined();
      await one.clear();
      expect(await one.get("c")).toBeUndefined();
    });

    it("serves cacheable as its second level", async () => {
      const secondary = new Keyv({ store: new CacheFlowStore(make({ url: server.url })), namespace: "cacheable" });
      const here = new Cacheable({ secondary });
      const there = new Cacheable({
        secondary: new Keyv({ store: secondary.store as CacheFlowStore, namespace: "cacheable" }),
      });
      expect(await here.set("a", { n: 1 }, "1h")).toBe(true);
      expect(await there.get("a")).toEqual({ n: 1 });
      expect(await there.getOrSet("b", () => Promise.resolve(7))).toBe(7);
      await here.clear();
      expect(await new Cacheable({ secondary }).get("a")).toBeUndefined();
    });

    it("serves NestJS' cache module", async () => {
      const store = new CacheFlowStore(make({ url: server.url }));
      const module = await Test.createTestingModule({
        imports: [CacheModule.register({ stores: [new Keyv({ store, namespace: "nest" })], ttl: 60_000 })],
      }).compile();
      const nest = module.get<Cache>(CACHE_MANAGER);
      await nest.set("a", { n: 1 });
      expect(await nest.get("a")).toEqual({ n: 1 });
      expect((await store.cache.meta("nest:a"))?.ttlMs).toBeGreaterThan(50_000);
      await nest.del("a");
      expect(await nest.get("a")).toBeUndefined();
      await module.close();
    });
  });
});
