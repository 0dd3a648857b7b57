/** What the cache does, on a server with the module and on one without: the same. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CacheFlowError, LockError } from "../src/index.js";
import { caches, counter, gate, record } from "./support/caches.js";
import { eventually, TestServer } from "./support/servers.js";

describe.each([
  { server: "with the module", module: true },
  { server: "without the module", module: false },
])("$server", ({ module }) => {
  const make = caches();
  let server: TestServer;

  beforeAll(async () => {
    server = await TestServer.start({ module });
  });
  afterAll(() => server.stop());
  beforeEach(() => server.command("FLUSHALL"));

  it("says what the server can do", async () => {
    const cache = make({ url: server.url });
    expect(cache.capabilities).toBeUndefined();
    expect((await cache.ready()).module).toBe(module);
    expect(cache.capabilities?.blocking).toBe(module);
  });

  it("loads once, and answers from Redis after that", async () => {
    const cache = make({ url: server.url });
    const factory = counter();
    const options = { key: "a", factory, ttl: "60s", grace: "60s", tags: ["t"] } as const;
    expect(await cache.getOrSetEntry(options)).toEqual({ value: 1, source: "loader", state: "fresh" });
    expect(await cache.getOrSetEntry(options)).toEqual({ value: 1, source: "redis", state: "fresh" });
    const other = make({ url: server.url });
    expect(await other.get("a")).toBe(1);
    const meta = await cache.meta("a");
    expect(meta).toMatchObject({ state: "fresh", type: "cacheflow", bytes: 1, namespace: "shop", tags: ["t"] });
    expect(meta?.freshMs).toBeGreaterThan(50_000);
    expect(meta?.ttlMs).toBeGreaterThan(110_000);
  });

  it.each([null, true, 0, "", "text", [], [1, null], {}, { a: { b: ["ü", 1.5] } }])("gives %j back", async (value) => {
    const cache = make({ url: server.url });
    expect(await cache.getOrSet({ key: "v", factory: () => value, ttl: "60s" })).toEqual(value);
    expect(await cache.get("v")).toEqual(value);
    expect(await cache.set("w", value)).toBe(true);
    expect(await cache.get("w")).toEqual(value);
  });

  it("takes null for a value and undefined for none", async () => {
    const cache = make({ url: server.url });
    expect(await cache.get("nothing")).toBeUndefined();
    let calls = 0;
    const nothing = (): string | undefined => {
      calls += 1;
      return undefined;
    };
    expect([await cache.getOrSet({ key: "u", factory: nothing, ttl: "60s" })]).toEqual([undefined]);
    expect([await cache.getOrSet({ key: "u", factory: nothing, ttl: "60s" })]).toEqual([undefined]);
    expect(calls).toBe(2);
    await expect(cache.set("u", undefined)).rejects.toMatchObject({ code: "bad_option" });
    const none = counter();
    expect(await cache.getOrSet({ key: "n", factory: () => none().then(() => null), ttl: "60s" })).toBeNull();
    expect(await cache.getOrSet({ key: "n", factory: () => none().then(() => null), ttl: "60s" })).toBeNull();
    expect(none.calls).toBe(1);
  });

  it("keeps a null for negativeTtl, without grace", async () => {
    const cache = make({ url: server.url });
    await cache.getOrSet({ key: "n", factory: () => null, ttl: "1h", grace: "1h", negativeTtl: "20s" });
    const meta = await cache.meta("n");
    expect(meta?.ttlMs).toBeLessThanOrEqual(20_000);
    await cache.getOrSet({ key: "v", factory: () => 1, ttl: "1h", grace: "1h", negativeTtl: "20s" });
    expect((await cache.meta("v"))?.ttlMs).toBeGreaterThan(3_600_000);
  });

  it("throws what the factory threw, and lets the next one try", async () => {
    const cache = make({ url: server.url });
    const failure = new TypeError("the origin is down");
    const fail = (): never => {
      throw failure;
    };
    await expect(cache.getOrSet({ key: "f", factory: fail, ttl: "60s" })).rejects.toBe(failure);
    expect(await cache.getOrSet({ key: "f", factory: () => "up", ttl: "60s" })).toBe("up");
  });

  it("refuses a value that would not come back as it was, and gives the lease up", async () => {
    const cache = make({ url: server.url });
    const date = cache.getOrSet<unknown>({ key: "d", factory: () => new Date(), ttl: "60s" });
    await expect(date).rejects.toMatchObject({ code: "unsupported_type", key: "shop:d" });
    expect(await cache.getOrSet({ key: "d", factory: () => "text", ttl: "60s" })).toBe("text");
  });

  it("gives stale values while it refreshes behind", async () => {
    const cache = make({ url: server.url });
    const events = record(cache);
    const factory = counter();
    const options = { key: "s", factory, ttl: "60s", grace: "60s" } as const;
    await cache.getOrSet(options);
    expect(await cache.delete("s", { soft: true })).toBe(1);
    expect(await cache.get("s")).toBeUndefined();
    expect(await cache.get("s", { stale: true })).toBe(1);
    expect(await cache.getOrSetEntry(options)).toEqual({ value: 1, source: "redis", state: "stale" });
    await eventually(() => events.some((event) => event.name === "refresh"), "the refresh");
    expect(await cache.getOrSetEntry(options)).toEqual({ value: 2, source: "redis", state: "fresh" });
  });

  it("waits for the new value as long as softTimeout, and no longer", async () => {
    const cache = make({ url: server.url });
    await cache.set("s", "old", { ttl: "60s", grace: "60s" });
    await cache.delete("s", { soft: true });
    const base = { key: "s", ttl: "60s", grace: "60s" } as const;
    expect(await cache.getOrSet({ ...base, factory: () => "new", softTimeout: "10s" })).toBe("new");
    await cache.delete("s", { soft: true });
    const slow = gate<string>();
    expect(await cache.getOrSet({ ...base, factory: () => slow.promise, softTimeout: 1 })).toBe("new");
    slow.open("newer");
    await eventually(async () => (await cache.get("s")) === "newer", "the refresh");
  });

  it("gives the stale value if refreshing fails", async () => {
    const cache = make({ url: server.url });
    const events = record(cache);
    await cache.set("s", "old", { ttl: "60s", grace: "60s" });
    await cache.delete("s", { soft: true });
    const factory = (): never => {
      throw new Error("down");
    };
    const options = { key: "s", factory, ttl: "60s", grace: "60s", softTimeout: "10s" } as const;
    expect(await cache.getOrSet(options)).toBe("old");
    expect(events.find((event) => event.name === "refresh")?.error).toBeInstanceOf(Error);
  });

  it("coalesces the callers of a process, and gives each a value of its own", async () => {
    const cache = make({ url: server.url });
    const events = record(cache);
    const opened = gate<{ n: number }>();
    let calls = 0;
    const factory = (): Promise<{ n: number }> => {
      calls += 1;
      return opened.promise;
    };
    const all = Array.from({ length: 50 }, () => cache.getOrSet({ key: "c", factory, ttl: "60s" }));
    await eventually(() => calls === 1, "the load");
    all.push(...Array.from({ length: 50 }, () => cache.getOrSet({ key: "c", factory, ttl: "60s" })));
    opened.open({ n: 1 });
    const values = await Promise.all(all);
    expect(calls).toBe(1);
    expect(events.filter((event) => event.name === "miss")).toHaveLength(1);
    expect(values).toHaveLength(100);
    (values[0] as { n: number }).n = 2;
    expect(values.slice(1)).toEqual(Array.from({ length: 99 }, () => ({ n: 1 })));
  });

  it("loads once for two processes, and the second waits for the first", async () => {
    const [one, two] = [make({ url: server.url }), make({ url: server.url })];
    const events = record(two);
    const opened = gate<string>();
    const first = one.getOrSet({ key: "w", factory: () => opened.promise, ttl: "60s", lease: "60s" });
    await eventually(async () => (await one.meta("w"))?.leaseMs, "the lease");
    const never = counter();
    const second = two.getOrSet({ key: "w", factory: never, ttl: "60s" });
    await eventually(async () => !module || (await two.meta("w"))?.waiters === 1, "the waiter");
    opened.open("value");
    expect(await Promise.all([first, second])).toEqual(["value", "value"]);
    expect(never.calls).toBe(0);
    // Without the module nobody can see that the second waits: it may come when the value is there.
    if (module) expect(events.map((event) => event.name)).toContain("wait");
  });

  it("computes without storing when the wait is over", async () => {
    const [one, two] = [make({ url: server.url }), make({ url: server.url })];
    const opened = gate<string>();
    const first = one.getOrSet({ key: "w", factory: () => opened.promise, ttl: "60s", lease: "60s" });
    await eventually(async () => (await one.meta("w"))?.leaseMs, "the lease");
    expect(await two.getOrSet({ key: "w", factory: () => "mine", ttl: "60s", wait: 30 })).toBe("mine");
    opened.open("stored");
    await first;
    expect(await two.get("w")).toBe("stored");
  });

  it.each([
    ["a tag", { tags: "t" }, {}],
    ["a tag, softly", { tags: "t" }, { soft: true }],
    ["the namespace", { namespaces: "shop" }, {}],
  ])("stores nothing that began before %s was invalidated", async (_, targets, options) => {
    const [one, two] = [make({ url: server.url }), make({ url: server.url })];
    const events = record(one);
    await one.set("warm", 1, { tags: ["t"] });
    const opened = gate<string>();
    const first = one.getOrSet({ key: "f", factory: () => opened.promise, ttl: "60s", lease: "60s", tags: ["t"] });
    await eventually(async () => (await one.meta("f"))?.leaseMs, "the lease");
    await two.invalidate(targets, options);
    opened.open("old");
    expect(await first).toBe("old");
    expect(events.find((event) => event.name === "fill")?.detail).toBe("refused");
    expect(await two.get("f", { stale: true })).toBeUndefined();
  });

  it("gives nobody who comes after an invalidation what began before it", async () => {
    const cache = make({ url: server.url });
    const opened = gate<string>();
    const options = { key: "f", ttl: "60s", lease: "60s", tags: ["t"] } as const;
    const first = cache.getOrSet({ ...options, factory: () => opened.promise });
    await eventually(async () => (await cache.meta("f"))?.leaseMs, "the lease");
    await cache.invalidate("t");
    const second = cache.getOrSet({ ...options, factory: () => "new" });
    opened.open("old");
    expect(await Promise.all([first, second])).toEqual(["old", "new"]);
    expect(await cache.get("f")).toBe("new");
  });

  it.each([
    ["delete", (cache: ReturnType<typeof make>) => cache.delete("f")],
    ["set", (cache: ReturnType<typeof make>) => cache.set("f", "newer", { ttl: "60s" })],
  ])("stores nothing that began before %s", async (_, write) => {
    const [one, two] = [make({ url: server.url }), make({ url: server.url })];
    const opened = gate<string>();
    const first = one.getOrSet({ key: "f", factory: () => opened.promise, ttl: "60s", lease: "60s" });
    await eventually(async () => (await one.meta("f"))?.leaseMs, "the lease");
    await write(two);
    opened.open("old");
    await first;
    expect(await two.get("f")).not.toBe("old");
  });

  it("invalidates by tag and namespace, hard and soft", async () => {
    const cache = make({ url: server.url });
    const other = make({ url: server.url, namespace: "other" });
    const times = { ttl: "60s", grace: "60s" } as const;
    await cache.set("a", 1, { ...times, tags: ["x", "y"] });
    await cache.set("b", 2, { ...times, tags: "y" });
    await cache.set("c", 3, times);
    await other.set("c", 4, times);
    const hit = await cache.invalidate(["x"], { soft: true });
    expect(hit).toBe(module ? 1 : null);
    expect([await cache.get("a"), await cache.get("a", { stale: true })]).toEqual([undefined, 1]);
    await cache.invalidate("y");
    expect([await cache.get("a", { stale: true }), await cache.get("b"), await cache.get("c")]).toEqual([
      undefined,
      undefined,
      3,
    ]);
    await cache.clear();
    expect([await cache.get("c"), await other.get("c")]).toEqual([undefined, 4]);
    await cache.set("a", 5, { ...times, tags: "x" });
    expect(await cache.get("a")).toBe(5);
  });

  it("takes tags, ttl and grace from the factory's context", async () => {
    const cache = make({ url: server.url });
    await cache.getOrSet({
      key: "c",
      factory: (context) => {
        expect(context).toMatchObject({ key: "shop:c", ttl: "1h", tags: ["base"], hasStale: false });
        expect(context.token).toBeGreaterThan(0);
        context.ttl = "10s";
        context.grace = "5s";
        context.tags.push("late");
        return 1;
      },
      ttl: "1h",
      tags: ["base"],
    });
    const meta = await cache.meta("c");
    expect(meta?.tags.toSorted()).toEqual(["base", "late"]);
    expect(meta?.ttlMs).toBeLessThanOrEqual(15_000);
    await cache.getOrSet({ key: "d", factory: () => ({ id: 7 }), ttl: "1h", tags: ({ id }) => [`id:${String(id)}`] });
    expect((await cache.meta("d"))?.tags).toEqual(["id:7"]);
  });

  it("skips storing", async () => {
    const cache = make({ url: server.url });
    const skip = (context: { skip(): void }): string => {
      context.skip();
      return "once";
    };
    expect(await cache.getOrSet({ key: "k", factory: skip, ttl: "60s" })).toBe("once");
    expect(await cache.getOrSet({ key: "k", factory: () => "never", ttl: 0 })).toBe("never");
    expect(await cache.meta("k")).toBeNull();
  });

  it("makes an entry fresh anew when the origin says not modified", async () => {
    const cache = make({ url: server.url });
    const events = record(cache);
    await cache.set("m", { v: 1 }, { ttl: "60s", grace: "60s", tags: ["t"] });
    await cache.delete("m", { soft: true });
    const value = await cache.getOrSet<{ v: number }>({
      key: "m",
      factory: (context) => {
        expect(context.staleValue).toEqual({ v: 1 });
        return context.notModified();
      },
      ttl: "60s",
      grace: "60s",
      softTimeout: "10s",
    });
    expect(value).toEqual({ v: 1 });
    expect(events.find((event) => event.name === "fill")?.detail).toBe("touched");
    expect(await cache.get("m")).toEqual({ v: 1 });
    expect((await cache.meta("m"))?.tags).toEqual(["t"]);
    const nothing = cache.getOrSet({ key: "no", factory: (context) => context.notModified(), ttl: "60s" });
    await expect(nothing).rejects.toMatchObject({ code: "no_stale_value" });
  });

  it("sets, gets, counts, touches and deletes", async () => {
    const cache = make({ url: server.url });
    const many = { a: 1, b: { c: [2] }, d: null };
    expect(await cache.setMany(many, { ttl: "60s" })).toEqual(["a", "b", "d"]);
    expect(await cache.getMany(["d", "b", "x", "a", "b"])).toEqual(
      new Map(Object.entries({ d: null, b: { c: [2] }, a: 1 })),
    );
    expect(await cache.set("a", 5, { when: "absent" })).toBe(false);
    expect(await cache.set("a", 5, { when: "present", ttl: "10s" })).toBe(true);
    expect(await cache.touch("a", { ttl: "100s" })).toBe(true);
    expect((await cache.meta("a"))?.freshMs).toBeGreaterThan(50_000);
    expect(await cache.touch("x", { ttl: "100s" })).toBe(false);
    expect(await cache.incr("a")).toBe(6);
    expect(await cache.incr("a", -10)).toBe(-4);
    expect(await cache.get("a")).toBe(-4);
    expect((await cache.meta("a"))?.freshMs).toBeGreaterThan(50_000);
    expect(await cache.incr("new")).toBe(1);
    expect(await cache.delete(["a", "b", "x"])).toBe(2);
    expect(await cache.getMany(["a", "b", "d"])).toEqual(new Map([["d", null]]));
    expect(await cache.delete([])).toBe(0);
    await cache.set("for ever", 1, { ttl: "forever", grace: "60s" });
    expect(await cache.meta("for ever")).toMatchObject({ freshMs: -1, ttlMs: -1 });
  });

  it("locks, with tokens that grow", async () => {
    const [one, two] = [make({ url: server.url }), make({ url: server.url })];
    const events = record(one);
    const first = await one.lock("job", { ttl: "30s" });
    expect(await two.tryLock("job", { ttl: "30s" })).toBeUndefined();
    await expect(two.lock("job", { ttl: "30s", wait: 20 })).rejects.toMatchObject({ code: "locked", key: "shop:job" });
    await first.extend("60s");
    const waiting = two.lock("job", { ttl: "30s", wait: "10s" });
    expect(await first.release()).toBe(true);
    expect(await first.release()).toBe(false);
    await expect(first.extend("1s")).rejects.toBeInstanceOf(LockError);
    const second = await waiting;
    expect(second.token).toBeGreaterThan(first.token);
    {
      await using held = second;
      expect(held.name).toBe("shop:job");
    }
    expect(await one.tryLock("job", { ttl: "1s" })).toBeDefined();
    expect(events.filter((event) => event.name === "lock").map((event) => event.detail)).toEqual([
      "taken",
      "released",
      "lost",
      "lost",
      "taken",
    ]);
  });

  it("publishes under a lock, unless somebody wrote meanwhile", async () => {
    const cache = make({ url: server.url });
    const lock = await cache.lock("p", { ttl: "30s" });
    expect(await lock.publish("mine", { ttl: "60s" })).toBe(true);
    expect(await cache.get("p")).toBe("mine");
    const next = await cache.lock("p", { ttl: "30s" });
    await cache.set("p", "theirs");
    expect(await next.publish("mine again", { ttl: "60s" })).toBe(false);
    expect(await cache.get("p")).toBe("theirs");
    expect(await cache.tryLock("p", { ttl: "1s" })).toBeDefined();
  });

  it("wraps a function", async () => {
    const cache = make({ url: server.url });
    const calls: string[] = [];
    const load = (id: number, lang = "en"): Promise<{ id: number; call: number }> => {
      calls.push(`${String(id)}${lang}`);
      return Promise.resolve({ id, call: calls.length });
    };
    const wrapped = cache.wrap(load, {
      key: (id, lang = "en") => `u:${String(id)}:${lang}`,
      tags: (id) => [`u:${String(id)}`],
      ttl: "60s",
    });
    expect(await wrapped(1)).toEqual({ id: 1, call: 1 });
    expect(await wrapped(1)).toEqual({ id: 1, call: 1 });
    expect(await wrapped(1, "de")).toEqual({ id: 1, call: 2 });
    expect(await wrapped.refresh(1)).toEqual({ id: 1, call: 3 });
    expect(await wrapped(1)).toEqual({ id: 1, call: 3 });
    expect(await wrapped.invalidate(1)).toBe(true);
    expect(await wrapped.invalidate(1)).toBe(false);
    expect(await wrapped(1)).toEqual({ id: 1, call: 4 });
    await cache.invalidate("u:1");
    expect(await wrapped(1, "de")).toEqual({ id: 1, call: 5 });
    expect(wrapped.unwrapped).toBe(load);
  });

  it("takes what it cannot decode for a miss, and replaces it", async () => {
    const cache = make({ url: server.url });
    const events = record(cache);
    const { RawCodec } = await import("../src/index.js");
    const raw = make({ url: server.url, codec: new RawCodec() });
    await raw.set("bad", Buffer.from("x"), { ttl: "60s" });
    const bytes = await cache.get("bad");
    expect(bytes).toEqual(Buffer.from("x"));
    await server.command("DEL", "shop:bad");
    const { JsonCodec, KeyRing } = await import("../src/index.js");
    const secret = make({
      url: server.url,
      codec: new JsonCodec({ keys: new KeyRing("k", { k: KeyRing.generateKey() }) }),
    });
    await secret.set("bad", { a: 1 }, { ttl: "60s" });
    await expect(cache.get("bad")).rejects.toMatchObject({ code: "no_keys", key: "shop:bad" });
    expect(await cache.getOrSet({ key: "bad", factory: () => "good", ttl: "60s" })).toBe("good");
    expect(await cache.get("bad")).toBe("good");
    expect(events.filter((event) => event.name === "decode")).toHaveLength(2);
    expect((await cache.stats()).client.decode).toBe(2);
  });

  it("ends for who aborts, and aborts the factory when nobody waits any more", async () => {
    const cache = make({ url: server.url });
    const [a, b] = [new AbortController(), new AbortController()];
    let aborted = false;
    const opened = gate<number>();
    const factory = (context: { signal: AbortSignal }): Promise<number> => {
      context.signal.addEventListener("abort", () => (aborted = true));
      return opened.promise;
    };
    const first = cache.getOrSet({ key: "x", factory, ttl: "60s", signal: a.signal });
    const second = cache.getOrSet({ key: "x", factory, ttl: "60s", signal: b.signal });
    await eventually(async () => (await cache.meta("x"))?.leaseMs, "the load");
    a.abort(new Error("enough"));
    await expect(first).rejects.toMatchObject({ code: "aborted", key: "shop:x", cause: new Error("enough") });
    expect(aborted).toBe(false);
    b.abort();
    await expect(second).rejects.toBeInstanceOf(CacheFlowError);
    expect(aborted).toBe(true);
    await expect(cache.getOrSet({ key: "x", factory, signal: a.signal })).rejects.toMatchObject({ code: "aborted" });
    await expect(cache.get("x", { signal: a.signal })).rejects.toMatchObject({ code: "aborted" });
    opened.open(1);
  });

  it("ends at hardTimeout", async () => {
    const cache = make({ url: server.url });
    const opened = gate<number>();
    const slow = cache.getOrSet({ key: "x", factory: () => opened.promise, ttl: "60s", hardTimeout: 30 });
    await expect(slow).rejects.toMatchObject({ name: "CancelledError", code: "timeout" });
    opened.open(7);
    await eventually(async () => (await cache.get("x")) === 7, "the value that was computed all the same");
  });

  it("stops waiting in the server when nobody waits here", async () => {
    const [one, two] = [make({ url: server.url }), make({ url: server.url })];
    const opened = gate<number>();
    const first = one.getOrSet({ key: "q", factory: () => opened.promise, ttl: "60s", lease: "60s" });
    await eventually(async () => (await one.meta("q"))?.leaseMs, "the lease");
    const abort = new AbortController();
    const waits = two.getOrSet({ key: "q", factory: () => 2, ttl: "60s", signal: abort.signal });
    await eventually(async () => !module || (await one.meta("q"))?.waiters === 1, "the waiter");
    abort.abort();
    await expect(waits).rejects.toMatchObject({ code: "aborted" });
    await eventually(async () => (await one.meta("q"))?.waiters === 0, "the waiter to be gone");
    opened.open(1);
    expect(await first).toBe(1);
  });
});
