/** getOrSet of many keys, on a server with the module and on one without. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ManyContext, type CacheFlow, type ManyLoader } from "../src/index.js";
import { LoadContext } from "../src/context.js";
import { Flight } from "../src/flights.js";
import { Limiter } from "../src/limiter.js";
import { SharedPlace } from "../src/many.js";
import { caches, gate, record } from "./support/caches.js";
import { eventually, TestServer } from "./support/servers.js";

interface Loads extends ManyLoader<unknown> {
  /** The keys of each call. */
  readonly asked: string[][];
}

/** Gives `key, number of the call`, and leaves out what begins with "no"; held until `until` is over. */
function loads(until: Promise<unknown> = Promise.resolve()): Loads {
  const asked: string[][] = [];
  const loader = async (keys: string[]): Promise<Map<string, unknown>> => {
    const call = asked.push(keys);
    await until;
    return new Map(keys.filter((key) => !key.startsWith("no")).map((key) => [key, [key, call]]));
  };
  return Object.assign(loader, { asked });
}

function entries(values: Map<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(values);
}

const ttl = "60s";

describe.each([
  { server: "with the module", module: true },
  { server: "without the module", module: false },
])("$server", ({ module }) => {
  const make = caches();
  let server: TestServer;
  let cache: CacheFlow;

  beforeAll(async () => {
    server = await TestServer.start({ module });
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    await server.command("FLUSHALL");
    cache = make({ url: server.url });
    // Without the module the first fill of a namespace refuses others that are under way.
    await cache.set("used", 1, { ttl });
  });

  it("loads what is missing by one call", async () => {
    const events = record(cache);
    await cache.setMany({ b: "there", n: null }, { ttl });
    const loader = loads();
    const found = await cache.getOrSetMany({ keys: ["a", "b", "c", "n", "a"], loader, ttl });
    expect(entries(found)).toEqual({ a: ["a", 1], b: "there", c: ["c", 1], n: null });
    expect([...found.keys()]).toEqual(["a", "b", "c", "n"]);
    expect(await cache.getOrSetMany({ keys: found.keys(), loader, ttl })).toEqual(found);
    expect(loader.asked).toEqual([["a", "c"]]);
    expect(events.filter(({ name, detail }) => name === "fill" && detail === "stored")).toHaveLength(2);
    expect((await cache.getOrSetMany({ keys: [], loader })).size).toBe(0);
  });

  it("asks for hundreds at once", async () => {
    const keys = Array.from({ length: 500 }, (_, n) => `k${String(n)}`);
    const loader = loads();
    const warnings: unknown[] = [];
    const warned = (warning: unknown): number => warnings.push(warning);
    process.on("warning", warned);
    const found = await cache.getOrSetMany({ keys, loader, ttl, signal: new AbortController().signal });
    await new Promise(setImmediate);
    process.off("warning", warned);
    expect(warnings).toEqual([]);
    expect([...found.keys()]).toEqual(keys);
    expect(loader.asked).toEqual([keys]);
  });

  it("takes null for what the loader leaves out", async () => {
    const loader = loads();
    const found = await cache.getOrSetMany({ keys: ["a", "nobody"], loader, ttl: "600s", negativeTtl: "30s" });
    expect(entries(found)).toEqual({ a: ["a", 1], nobody: null });
    expect((await cache.meta("nobody"))?.freshMs).toBeLessThanOrEqual(30_000);
    expect((await cache.meta("a"))?.freshMs).toBeGreaterThan(500_000);
    await cache.getOrSetMany({ keys: ["none"], loader, ttl, negativeTtl: 0 });
    expect(await cache.get("none")).toBeUndefined();
    await cache.getOrSet({ key: "none", factory: () => 1, ttl });
    expect(await cache.get("none")).toBe(1);
  });

  it("takes an object, of its own names alone", async () => {
    const found = await cache.getOrSetMany({ keys: ["a", "toString"], loader: () => ({ a: 1 }), ttl });
    expect(entries(found)).toEqual({ a: 1, toString: null });
  });

  it("tags each by its key and value", async () => {
    const tags = (key: string, value: unknown): string[] => [`${key}-${String((value as [string, number])[1])}`];
    await cache.getOrSetMany({ keys: ["a", "b"], loader: loads(), ttl, tags });
    await cache.invalidate("a-1");
    expect(entries(await cache.getMany(["a", "b"]))).toEqual({ b: ["b", 1] });
    await cache.getOrSetMany({ keys: ["c", "d"], loader: loads(), ttl, tags: ["both"] });
    await cache.invalidate("both");
    expect((await cache.getMany(["c", "d"])).size).toBe(0);
  });

  it("fences each by itself", async () => {
    const held = gate<undefined>();
    const loader = loads(held.promise);
    const tags = (key: string): string => `of-${key}`;
    const call = cache.getOrSetMany({ keys: ["a", "b"], loader, ttl, tags });
    await eventually(() => loader.asked.length === 1, "the load");
    await make({ url: server.url }).invalidate("of-a");
    held.open(undefined);
    expect(entries(await call)).toEqual({ a: ["a", 1], b: ["b", 1] });
    expect(entries(await cache.getMany(["a", "b"]))).toEqual({ b: ["b", 1] });
  });

  it("answers what is stale, and refreshes it behind by one call and one place", async () => {
    cache = make({ url: server.url, refreshes: 1 });
    await cache.setMany({ a: 1, b: 2, c: 3 }, { ttl, grace: "60s" });
    await cache.delete(["a", "b"], { soft: true });
    const held = gate<undefined>();
    const loader = loads(held.promise);
    const found = await cache.getOrSetMany({ keys: ["a", "b", "c"], loader, ttl, grace: "60s" });
    expect(entries(found)).toEqual({ a: 1, b: 2, c: 3 });
    await eventually(() => loader.asked.length === 1, "the refresh");
    held.open(undefined);
    await eventually(async () => (await cache.getMany(["a", "b", "c"])).size === 3, "all fresh");
    expect(entries(await cache.getMany(["a", "b", "c"]))).toEqual({ a: ["a", 1], b: ["b", 1], c: 3 });
    expect(loader.asked).toEqual([["a", "b"]]);
  });

  it("does not have those who have nothing wait for a refresh", async () => {
    await cache.set("old", 1, { ttl, grace: "60s" });
    await cache.delete("old", { soft: true });
    const held = gate<undefined>();
    const asked: string[][] = [];
    const loader = async (keys: string[]): Promise<Record<string, number>> => {
      asked.push(keys);
      if (keys.includes("old")) await held.promise;
      return Object.fromEntries(keys.map((key) => [key, 2]));
    };
    expect(entries(await cache.getOrSetMany({ keys: ["old", "new"], loader, ttl, grace: "60s" }))).toEqual({
      old: 1,
      new: 2,
    });
    expect(asked).toEqual([["new"], ["old"]]);
    held.open(undefined);
    await eventually(async () => (await cache.get("old")) === 2, "the refresh");
  });

  it("throws what the loader threw, and gives all leases up", async () => {
    const failure = new TypeError("down");
    const keys = ["a", "b"];
    const fail = (): never => {
      throw failure;
    };
    await expect(cache.getOrSetMany({ keys, loader: fail, ttl })).rejects.toBe(failure);
    await expect(cache.getOrSetMany({ keys, loader: () => ({ a: new Date() }), ttl })).rejects.toMatchObject({
      code: "unsupported_type",
      key: "shop:a",
    });
    expect(await cache.delete(keys)).toBe(1); // the other was stored, as null
    for (const nothing of [[1, 2], null, 7]) {
      const wrong = (() => nothing) as unknown as ManyLoader<unknown>;
      await expect(cache.getOrSetMany({ keys, loader: wrong, ttl })).rejects.toMatchObject({ code: "bad_function" });
    }
    const loader = loads();
    await cache.getOrSetMany({ keys, loader, ttl, wait: 0 });
    expect(loader.asked).toEqual([keys]);
    expect(entries(await cache.getMany(keys))).toEqual({ a: ["a", 1], b: ["b", 1] });
  });

  it("waits for what another process loads, after it has loaded its own", async () => {
    const held = gate<undefined>();
    const theirs = loads(held.promise);
    const other = make({ url: server.url }).getOrSetMany({ keys: ["b", "c"], loader: theirs, ttl });
    await eventually(() => theirs.asked.length === 1, "their load");
    const mine = loads();
    const call = cache.getOrSetMany({ keys: ["a", "b", "c"], loader: mine, ttl });
    await eventually(() => mine.asked.length === 1, "what is mine to be loaded first");
    held.open(undefined);
    expect(entries(await call)).toEqual({ a: ["a", 1], b: ["b", 1], c: ["c", 1] });
    await other;
    expect(mine.asked).toEqual([["a"]]);
  });

  it("loads what another process gives up", async () => {
    const held = gate<undefined>();
    let begun = false;
    const fail = async (): Promise<never> => {
      begun = true;
      await held.promise;
      throw new TypeError("down");
    };
    const keys = ["a", "b", "c"];
    const other = make({ url: server.url }).getOrSetMany({ keys, loader: fail, ttl });
    const failed = expect(other).rejects.toThrow("down");
    await eventually(() => begun, "their load");
    const mine = loads();
    const call = cache.getOrSetMany({ keys, loader: mine, ttl });
    held.open(undefined);
    expect([...(await call).keys()]).toEqual(keys);
    await failed;
    expect(mine.asked.flat().sort()).toEqual(keys);
    expect((await cache.getMany(keys)).size).toBe(3);
  });

  it("loads without storing what it has waited for long enough", async () => {
    const held = gate<undefined>();
    const theirs = loads(held.promise);
    const other = make({ url: server.url }).getOrSetMany({ keys: ["a", "b"], loader: theirs, ttl });
    await eventually(() => theirs.asked.length === 1, "their load");
    const mine = loads();
    const found = await cache.getOrSetMany({ keys: ["a", "b"], loader: mine, ttl, wait: 100 });
    expect([...found.keys()]).toEqual(["a", "b"]);
    expect(mine.asked.flat().sort()).toEqual(["a", "b"]);
    expect((await cache.getMany(["a", "b"])).size).toBe(0);
    held.open(undefined);
    await other;
  });

  it("shares the work on each key with the callers of the process", async () => {
    const held = gate<undefined>();
    const [first, second] = [loads(held.promise), loads()];
    const calls = [cache.getOrSetMany({ keys: ["a", "b"], loader: first, ttl })];
    await eventually(() => first.asked.length === 1, "the first load");
    calls.push(cache.getOrSetMany({ keys: ["c", "b", "a"], loader: second, ttl }));
    await eventually(() => second.asked.length === 1, "its own to be loaded");
    const one = cache.getOrSet({ key: "b", factory: () => "own", ttl });
    held.open(undefined);
    const [all, others] = (await Promise.all(calls)) as [Map<string, unknown>, Map<string, unknown>];
    expect(entries(all)).toEqual({ a: ["a", 1], b: ["b", 1] });
    expect(entries(others)).toEqual({ a: ["a", 1], b: ["b", 1], c: ["c", 1] });
    expect(await one).toEqual(["b", 1]);
    expect(others.get("a")).not.toBe(all.get("a"));
    expect([first.asked, second.asked]).toEqual([[["a", "b"]], [["c"]]]);
  });

  it("has no two wait for each other", async () => {
    const loader = loads();
    const calls = [
      ["a", "b", "c"],
      ["c", "b", "d", "a"],
      ["d", "a", "b"],
    ].map((keys) => cache.getOrSetMany({ keys, loader, ttl }));
    const found = await Promise.all(calls);
    expect(found.map((values) => values.size)).toEqual([3, 4, 3]);
    expect(loader.asked.flat().sort()).toEqual(["a", "b", "c", "d"]);
  });

  it("does not give who asks after an invalidation what was loaded before", async () => {
    const held = gate<undefined>();
    const loader = loads(held.promise);
    const early = cache.getOrSetMany({ keys: ["a", "b"], loader, ttl, tags: "t" });
    await eventually(() => loader.asked.length === 1, "the load");
    await cache.invalidate("t");
    const late = cache.getOrSetMany({ keys: ["b", "a"], loader, ttl, tags: "t" });
    held.open(undefined);
    expect(entries(await early)).toEqual({ a: ["a", 1], b: ["b", 1] });
    const values = [...(await late).values()] as [string, number][];
    expect(values.every(([, call]) => call > 1)).toBe(true);
    expect(loader.asked.flat()).toEqual(expect.arrayContaining(["a", "b"]));
  });

  it("replaces what cannot be used, at no cost to the others", async () => {
    await server.command("RPUSH", "shop:list", "x");
    await server.command("SET", "shop:junk", "{");
    const loader = loads();
    const found = await cache.getOrSetMany({ keys: ["a", "list", "junk"], loader, ttl });
    expect(Object.values(entries(found)).map((value) => (value as [string])[0])).toEqual(["a", "list", "junk"]);
    expect(loader.asked.flat().sort()).toEqual(["a", "junk", "list"]);
  });

  it("rejects who waits no longer, and tells the loader once nobody waits", async () => {
    const held = gate<undefined>();
    const seen: AbortSignal[] = [];
    const loader = async (keys: string[], { signal }: ManyContext): Promise<Record<string, number>> => {
      seen.push(signal);
      await held.promise;
      return Object.fromEntries(keys.map((key) => [key, 1]));
    };
    const [first, second] = [new AbortController(), new AbortController()];
    const call = cache.getOrSetMany({ keys: ["a", "b"], loader, ttl, signal: first.signal });
    await eventually(() => seen.length === 1, "the load");
    const other = cache.getOrSetMany({ keys: ["b"], loader, ttl, signal: second.signal });
    first.abort();
    await expect(call).rejects.toMatchObject({ code: "aborted" });
    expect(seen[0]?.aborted).toBe(false);
    second.abort();
    await expect(other).rejects.toMatchObject({ code: "aborted" });
    expect(seen[0]?.aborted).toBe(true);
    held.open(undefined);
    await eventually(async () => (await cache.getMany(["a", "b"])).size === 2, "what was loaded to be stored");
    const slow = cache.getOrSetMany({
      keys: ["c"],
      loader: () => new Promise<never>(() => undefined),
      ttl,
      hardTimeout: 50,
    });
    await expect(slow).rejects.toMatchObject({ code: "timeout" });
  });

  it("has them in the level too", async () => {
    cache = make({ url: server.url, local: true });
    await cache.ready();
    const events = record(cache);
    const loader = loads();
    await eventually(async () => {
      events.length = 0;
      await cache.getOrSetMany({ keys: ["a", "b"], loader, ttl });
      return cache.getOrSetMany({ keys: ["b", "a"], loader, ttl }).then((found) => {
        expect([...found.keys()]).toEqual(["b", "a"]);
        return events.filter(({ name }) => name === "l1_hit").length >= 2;
      });
    }, "both in the level");
    expect(loader.asked).toEqual([["a", "b"]]);
  });

  it("loads by one call and in one place without Redis", async () => {
    const dead = make({ url: "redis://127.0.0.1:1", timeout: "2s", localLoads: 1, wait: "20s" });
    const loader = loads();
    const keys = Array.from({ length: 40 }, (_, n) => `k${String(n)}`);
    const [some, others] = await Promise.all([
      dead.getOrSetMany({ keys, loader, ttl }),
      dead.getOrSetMany({ keys: ["x", "y"], loader, ttl }),
    ]);
    expect([some.size, others.size]).toEqual([40, 2]);
    expect(loader.asked.map((asked) => asked.length).sort()).toEqual([2, 40]);
  });
});

// --- its parts -----------------------------------------------------------------------------------
it("takes a shared place with the first and gives it back with the last", async () => {
  const limiter = new Limiter(1);
  const [one, two] = [new SharedPlace(limiter), new SharedPlace(limiter)];
  expect([one.tryAcquire(), one.tryAcquire(), await one.acquire(0)]).toEqual([true, true, true]);
  expect(two.tryAcquire()).toBe(false);
  const waiting = [two.acquire(), two.acquire()];
  expect(limiter.waiting).toBe(1);
  one.release();
  one.release();
  expect(limiter.waiting).toBe(1);
  one.release();
  expect(await Promise.all(waiting)).toEqual([true, true]);
  expect(await Promise.all([one.acquire(1), one.acquire(1)])).toEqual([false, false]);
  two.release();
  two.release();
  expect([limiter.running, one.tryAcquire()]).toEqual([0, true]);
});

it("tells a loader that was called when nobody waits any more", () => {
  const flight = new Flight();
  const rest = { ttl: undefined, grace: undefined, tags: [], token: undefined, stale: undefined };
  const context = new LoadContext({ key: "k", ...rest, flight });
  flight.leave("gone");
  expect(new ManyContext([context]).signal.aborted).toBe(true);
  expect(new ManyContext([context, new LoadContext({ key: "l", ...rest, flight: new Flight() })]).signal.aborted).toBe(
    false,
  );
});
