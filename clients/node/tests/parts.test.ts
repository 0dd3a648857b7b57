/** The parts that need no server. */
import { describe, expect, it, vi } from "vitest";
import { Breaker } from "../src/breaker.js";
import { milliseconds } from "../src/duration.js";
import { classify, ServerError, Unavailable } from "../src/errors.js";
import { Events } from "../src/events.js";
import { Flight } from "../src/flights.js";
import { CacheFlow, type CacheFlowOptions } from "../src/index.js";
import { Limiter } from "../src/limiter.js";
import { Deadlines, Pending } from "../src/timing.js";

describe("durations", () => {
  it.each([
    [0, 0],
    [1.2, 2],
    ["250ms", 250],
    ["60s", 60_000],
    ["1.5m", 90_000],
    ["2h", 7_200_000],
    ["7d", 604_800_000],
  ] as const)("%s is %d ms", (text, ms) => {
    expect(milliseconds(text)).toBe(ms);
    expect(milliseconds(text)).toBe(ms);
  });

  it.each([-1, NaN, Infinity, "", "5", "5 minutes", "-1s", "1e3s"])("%s is none", (text) => {
    expect(() => milliseconds(text as number, "ttl")).toThrow(expect.objectContaining({ code: "bad_duration" }));
  });
});

describe("the breaker", () => {
  function breaker(): { it: Breaker; clock: { now: number }; told: string[] } {
    const clock = { now: 0 };
    const told: string[] = [];
    const it = new Breaker({ failures: 3, cooldown: 100, now: () => clock.now, onChange: (state) => told.push(state) });
    return { it, clock, told };
  }

  it("opens after so many failures in a row, and no sooner", () => {
    const { it: one } = breaker();
    one.failure();
    one.failure();
    one.success();
    one.failure();
    one.failure();
    expect(one.closed).toBe(true);
    one.failure();
    expect(one.state).toBe("open");
  });

  it("lets one probe, after the cool-down, and closes if that succeeds", () => {
    const { it: one, clock, told } = breaker();
    for (let i = 0; i < 3; i += 1) one.failure();
    clock.now = 99;
    expect(one.takeProbe()).toBe(false);
    clock.now = 100;
    expect([one.takeProbe(), one.takeProbe(), one.closed]).toEqual([true, false, false]);
    one.success();
    expect(one.closed).toBe(true);
    expect(told).toEqual(["open", "half-open", "closed"]);
    one.failure();
    expect(one.closed).toBe(true);
  });

  it("opens again if the probe fails, for another cool-down", () => {
    const { it: one, clock } = breaker();
    for (let i = 0; i < 3; i += 1) one.failure();
    clock.now = 150;
    one.takeProbe();
    one.failure();
    clock.now = 249;
    expect(one.takeProbe()).toBe(false);
    clock.now = 250;
    expect(one.takeProbe()).toBe(true);
  });

  it("is not closed by a late success from before it opened", () => {
    const { it: one } = breaker();
    for (let i = 0; i < 3; i += 1) one.failure();
    one.success();
    expect(one.state).toBe("open");
  });
});

describe("the limiter", () => {
  it("lets so many in, and the others in their order", async () => {
    const limiter = new Limiter(2);
    const order: number[] = [];
    let most = 0;
    const work = (n: number) => async (): Promise<void> => {
      most = Math.max(most, limiter.running);
      await Promise.resolve();
      order.push(n);
    };
    await Promise.all([1, 2, 3, 4, 5].map((n) => limiter.run(work(n))));
    expect(order).toEqual([1, 2, 3, 4, 5]);
    expect([most, limiter.running, limiter.waiting]).toEqual([2, 0, 0]);
  });

  it("gives up a place in the queue when the time is over, and no place is lost", async () => {
    const limiter = new Limiter(1);
    expect(await limiter.acquire()).toBe(true);
    expect(await limiter.acquire(1)).toBe(false);
    const next = limiter.acquire(10_000);
    limiter.release();
    expect(await next).toBe(true);
    limiter.release();
    expect([limiter.running, limiter.waiting, limiter.tryAcquire()]).toEqual([0, 0, true]);
  });
});

describe("deadlines", () => {
  it("expire what was not done, in order, and nothing else", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    try {
      const deadlines = new Deadlines(100);
      const expired: number[] = [];
      const all = [0, 1, 2, 3, 4].map((n) => new Pending(() => expired.push(n)));
      for (const one of all.slice(0, 3)) deadlines.add(one);
      vi.advanceTimersByTime(50);
      for (const one of all.slice(3)) deadlines.add(one);
      deadlines.delete(all[1] as Pending);
      deadlines.delete(all[4] as Pending);
      vi.advanceTimersByTime(50);
      expect(expired).toEqual([0, 2]);
      deadlines.delete(all[0] as Pending);
      vi.advanceTimersByTime(50);
      expect(expired).toEqual([0, 2, 3]);
      const late = new Pending(() => expired.push(9));
      deadlines.add(late);
      vi.advanceTimersByTime(200);
      expect(expired).toEqual([0, 2, 3, 9]);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("flights", () => {
  it("answer who joined before what was asked, not who joined after", async () => {
    const flight = new Flight();
    const early = flight.join();
    const step = flight.asks();
    const sameTurn = flight.join();
    await Promise.resolve();
    const late = flight.join();
    flight.trueAt = step;
    flight.land(() => 1);
    await flight.landed;
    expect([early, sameTurn, late].map((at) => flight.answers(at))).toEqual([true, true, false]);
  });

  it("abort when nobody wants them any more", () => {
    const flight = new Flight();
    flight.join();
    const { signal } = flight;
    flight.leave("one");
    expect(signal.aborted).toBe(false);
    flight.leave("two");
    expect([signal.aborted, signal.reason]).toEqual([true, "two"]);
    const unasked = new Flight();
    unasked.leave("gone");
    expect(unasked.signal.aborted).toBe(true);
  });
});

describe("events", () => {
  it("count, are told to who listens, and survive him", () => {
    const events = new Events();
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    const told: string[] = [];
    const listen = (event: { name: string; detail: string }): number => told.push(event.name + event.detail);
    events.on("fill", listen);
    events.on("event", () => {
      throw new Error("a bug");
    });
    events.tell("fill", "k", 1, "stored");
    events.off("fill", listen);
    events.tell("fill", "k", 1, "stored", new Error("x"));
    events.l1Hit("k");
    expect(told).toEqual(["fillstored"]);
    expect(events.counts()).toEqual({ fill_stored: 2, fill_errors: 1, l1_hit: 1 });
    expect(warn).toHaveBeenCalledTimes(3);
    warn.mockRestore();
  });
});

describe("errors", () => {
  it.each([
    ["WRONGTYPE Operation against", ServerError, "wrongtype"],
    ["ERR syntax error", ServerError, "err"],
    ["LOADING Redis is loading", Unavailable, "loading"],
    ["UNBLOCKED force unblock", Unavailable, "unblocked"],
    ["connect ECONNREFUSED 127.0.0.1:1", Unavailable, "connection"],
    ["Connection is closed.", Unavailable, "connection"],
  ])("%s", (message, kind, code) => {
    const error = classify(new Error(message), "k");
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ code, key: "k" });
    expect(classify(error)).toBe(error);
  });
});

describe("options", () => {
  it.each<[string, CacheFlowOptions]>([
    ["no address", {}],
    ["two addresses", { url: "redis://x", client: {} as never }],
    ["a client of neither library", { client: {} as never }],
    ["a namespace with a colon", { redis: { lazyConnect: true }, namespace: "a:b" }],
    ["no waiting connections", { redis: { lazyConnect: true }, waitingConnections: 0 }],
    ["a mode that is none", { redis: { lazyConnect: true }, mode: "fast" as never }],
  ])("refuse %s", (_, options) => {
    expect(() => new CacheFlow(options)).toThrow(expect.objectContaining({ code: "bad_option" }));
  });

  it("refuse to clear where there is no namespace", async () => {
    const cache = new CacheFlow({ redis: { lazyConnect: true } });
    expect(() => cache.clear()).toThrow(expect.objectContaining({ code: "bad_option" }));
    await cache.close();
    await expect(cache.delete("k")).rejects.toMatchObject({ code: "closed" });
  });
});
