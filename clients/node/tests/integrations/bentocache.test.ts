/** The bentocache driver and bus: bentocache's own suite of drivers, and bentocache itself on both. */
import { BentoCache, bentostore } from "bentocache";
import { memoryDriver } from "bentocache/drivers/memory";
import { registerCacheDriverTestSuite } from "bentocache/test_suite";
import type { BusDriver, CacheBusMessage, CreateDriverResult, L2CacheDriver } from "bentocache/types";
import { Cluster, Redis } from "ioredis";
import { afterAll, afterEach, assert, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CacheFlow } from "../../src/index.js";
import { cacheflowBus, CacheFlowBus, CacheFlowDriver, cacheflowDriver } from "../../src/integrations/bentocache.js";
import { caches } from "../support/caches.js";
import { eventually, TestCluster, TestServer } from "../support/servers.js";

type Cleanup = () => void | Promise<void>;
type SuiteTest = (context: { assert: typeof assert; cleanup: (after: Cleanup) => void }) => Promise<void>;

/** The suite is written for japa, and is given what it uses of it. */
function runSuite(createDriver: (options?: { prefix?: string }) => CacheFlowDriver): void {
  let teardown: Cleanup | undefined;
  const group = {
    setup: (before: () => Promise<Cleanup>) => {
      beforeAll(async () => {
        teardown = await before();
      });
      afterAll(() => teardown?.());
    },
    tap: () => undefined, // it takes away the limit of time; ours is longer than its pauses
    each: {
      teardown: (after: Cleanup) => {
        afterEach(after);
      },
    },
  };
  const test = (title: string, body: SuiteTest): void => {
    it(title, async () => {
      const after: Cleanup[] = [];
      try {
        await body({ assert, cleanup: (one) => after.push(one) });
      } finally {
        for (const one of after) await one();
      }
    });
  };
  registerCacheDriverTestSuite({ test: test as never, group: group as never, createDriver });
}

describe.each([
  { server: "with the module", module: true },
  { server: "without the module", module: false },
])("$server", ({ module }) => {
  const make = caches();
  const open: { disconnectAll(): Promise<void> }[] = [];
  let server: TestServer;

  beforeAll(async () => {
    server = await TestServer.start({ module });
  });
  afterAll(() => server.stop());
  afterEach(async () => {
    await Promise.all(open.splice(0).map((one) => one.disconnectAll()));
  });

  describe("bentocache's suite", () => {
    runSuite(
      (options) => new CacheFlowDriver({ cache: { url: server.url, namespace: "bento" }, prefix: "suite", ...options }),
    );
  });

  describe("of its own", () => {
    beforeEach(() => server.command("FLUSHALL"));

    function bento(cache: CacheFlow, levels = true) {
      let store = bentostore().useL2Layer(cacheflowDriver({ cache }));
      if (levels) store = store.useL1Layer(memoryDriver({ maxItems: 1000 })).useBus(cacheflowBus({ url: server.url }));
      const made = new BentoCache({ default: "main", stores: { main: store } });
      open.push(made);
      return made;
    }

    it("is what bentocache takes for a driver and a bus", () => {
      const driver: CreateDriverResult<L2CacheDriver> = cacheflowDriver({ cache: make({ url: server.url }) });
      const bus = new CacheFlowBus({ url: server.url });
      const taken: BusDriver = bus;
      expect([driver.factory(driver.options).type, taken]).toEqual(["l2", bus]);
      return bus.disconnect();
    });

    it("is the second level of several processes", async () => {
      const [here, there] = [bento(make({ url: server.url })), bento(make({ url: server.url }))];
      let loads = 0;
      const factory = (): number => (loads += 1);
      expect(await here.getOrSet({ key: "a", factory, ttl: "1h", tags: ["t"] })).toBe(1);
      expect(await there.getOrSet({ key: "a", factory, ttl: "1h", tags: ["t"] })).toBe(1);
      await here.deleteByTag({ tags: ["t"] });
      expect(await bento(make({ url: server.url }), false).get({ key: "a" })).toBeUndefined();
    });

    it("tells the other first levels what has changed", async () => {
      const [here, there] = [bento(make({ url: server.url })), bento(make({ url: server.url }))];
      const heard: CacheBusMessage[] = [];
      there.on("bus:message:received", ({ message }) => heard.push(message as CacheBusMessage));
      expect(await there.get({ key: "a" })).toBeUndefined(); // it listens from its first use on
      await eventually(async () => {
        await here.set({ key: "a", value: 1, ttl: "1h" });
        return heard.length > 0;
      }, "the bus");
      expect(await there.get({ key: "a" })).toBe(1);
      await here.set({ key: "a", value: 2, ttl: "1h" });
      await eventually(async () => (await there.get({ key: "a" })) === 2, "the new value");
      await here.delete({ key: "a" });
      await eventually(async () => (await there.get({ key: "a" })) === undefined, "the deletion");
    });

    it("clears namespaces at any depth, however their keys were named", async () => {
      const cache = make({ url: server.url });
      const root = new CacheFlowDriver({ cache });
      await cache.set("mine", 1);
      await root.set("users:1:name", "Ada");
      await root.set("posts:1", "Hello");
      await root.namespace("users").namespace("1").clear();
      expect(await root.get("users:1:name")).toBeUndefined();
      await new CacheFlowDriver({ cache, prefix: "other" }).clear();
      expect(await root.get("posts:1")).toBe("Hello");
      await root.set(`deep${":x".repeat(300)}`, "yes");
      await root.clear();
      expect([await root.get("posts:1"), await root.get(`deep${":x".repeat(300)}`)]).toEqual([undefined, undefined]);
      expect(await cache.get("mine")).toBe(1);
    });

    it("gives a value that is pulled to one of many", async () => {
      const driver = new CacheFlowDriver({ cache: make({ url: server.url }) });
      await driver.set("a", "once");
      const pulled = await Promise.all(Array.from({ length: 8 }, () => driver.pull("a")));
      expect(pulled.filter((one) => one !== undefined)).toEqual(["once"]);
    });
  });
});

describe("the bus", () => {
  let server: TestServer;
  const buses: CacheFlowBus[] = [];
  const bus = (options: ConstructorParameters<typeof CacheFlowBus>[0], id: string): CacheFlowBus => {
    const one = new CacheFlowBus(options).setId(id);
    buses.push(one);
    return one;
  };

  beforeAll(async () => {
    server = await TestServer.start();
  });
  afterAll(() => server.stop());
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((one) => one.disconnect()));
  });

  it("does not hear itself, nor what it has left", async () => {
    const client = new Redis(server.url);
    const [one, two] = [bus({ client }, "one"), bus({ url: server.url }, "two")];
    const heard: unknown[] = [];
    for (const each of [one, two]) {
      await each.subscribe("c", (payload: unknown) => void heard.push(payload));
    }
    await one.publish("c", { keys: ["a"] });
    await eventually(() => heard.length === 1, "the message");
    await two.publish("c", "last");
    await eventually(() => heard.length === 2, "the message");
    expect(heard).toEqual([{ keys: ["a"] }, "last"]);
    await two.unsubscribe("c");
    await two.subscribe("d", (payload: unknown) => void heard.push(payload));
    await one.publish("c", "unheard");
    await one.publish("d", "heard");
    await eventually(() => heard.length === 3, "the message");
    expect(heard.at(-1)).toBe("heard");
    client.disconnect();
  });

  it("warns of what is no message, and goes on", async () => {
    const [one, two] = [bus({ url: server.url }, "one"), bus({ redis: { port: server.port } }, "two")];
    const heard: unknown[] = [];
    const warnings: Error[] = [];
    const warn = (warning: Error): unknown => warnings.push(warning);
    process.on("warning", warn);
    await two.subscribe("c", (payload: unknown) => void heard.push(payload));
    await server.command("PUBLISH", "c", "no JSON");
    await one.publish("c", 1);
    await eventually(() => heard.length === 1 && warnings.length === 1, "the message and the warning");
    process.off("warning", warn);
  });

  it("says at once when it cannot send, and hears again when the server is back", async () => {
    const own = await TestServer.start();
    const [one, two] = [bus({ url: own.url }, "one"), bus({ url: own.url }, "two")];
    const heard: unknown[] = [];
    let again = 0;
    two.onReconnect(() => (again += 1));
    await two.subscribe("c", (payload: unknown) => void heard.push(payload));
    await own.kill();
    await eventually(() => again > 0, "the loss to be noticed");
    await expect(one.publish("c", 1)).rejects.toThrow();
    await own.start();
    await eventually(async () => {
      await one.publish("c", 2).catch(() => undefined); // until both are back
      return heard.length > 0;
    }, "a message");
    await own.stop();
  });

  it("is subscribed as soon as there is a server, and can be closed before", async () => {
    const own = await TestServer.start();
    await own.kill();
    const [one, two] = [bus({ url: own.url }, "one"), bus({ url: own.url }, "two")];
    const heard: unknown[] = [];
    const never = one.subscribe("c", () => undefined);
    const soon = two.subscribe("c", (payload: unknown) => void heard.push(payload));
    await one.disconnect();
    await never;
    await own.start();
    await soon;
    await own.command("PUBLISH", "c", JSON.stringify({ busId: "three", payload: 1 }));
    await eventually(() => heard.length === 1, "the message");
    await own.stop();
  });

  it("wants to be told where, once", () => {
    expect(() => new CacheFlowBus({})).toThrow(expect.objectContaining({ code: "bad_option" }));
    const client = new Redis({ lazyConnect: true });
    expect(() => new CacheFlowBus({ client, url: "redis://x" })).toThrow(
      expect.objectContaining({ code: "bad_option" }),
    );
  });
});

describe("in a cluster", () => {
  const make = caches();
  it("clears, and tells", async () => {
    const cluster = await TestCluster.start();
    const client = new Cluster(cluster.urls);
    try {
      const driver = new CacheFlowDriver({ cache: make({ url: cluster.urls }), prefix: "app" });
      const keys = Array.from({ length: 20 }, (_, n) => `k${String(n)}`);
      await Promise.all(keys.map((key) => driver.set(key, key)));
      expect(await Promise.all(keys.map((key) => driver.get(key)))).toEqual(keys);
      await driver.clear();
      expect(await Promise.all(keys.map((key) => driver.get(key)))).toEqual(keys.map(() => undefined));
      const [one, two] = ["one", "two"].map((id) => new CacheFlowBus({ client }).setId(id)) as [
        CacheFlowBus,
        CacheFlowBus,
      ];
      const heard: unknown[] = [];
      await two.subscribe("c", (payload: unknown) => void heard.push(payload));
      await eventually(async () => {
        await one.publish("c", 1);
        return heard.length > 0;
      }, "the message");
      await Promise.all([one.disconnect(), two.disconnect()]);
    } finally {
      client.disconnect();
      await cluster.stop();
    }
  });
});
