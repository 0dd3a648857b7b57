/** The level in the process, against a naive model of it. */
import { describe, expect, it } from "vitest";
import { JsonCodec } from "../src/index.js";
import { Local, type Ticket } from "../src/local.js";

const CODEC = new JsonCodec();
const namespaceOf = (key: string): string => key.slice(0, Math.max(0, key.indexOf(":")));

function level(options: { maxBytes?: number; maxTtl?: number; share?: boolean } = {}): {
  local: Local;
  clock: { now: number };
} {
  const clock = { now: 0 };
  const { maxBytes = 1 << 20, maxTtl = 1e9, share = false } = options;
  const local = new Local({ maxBytes, maxTtl, heartbeat: 1000, share }, CODEC, namespaceOf, () => clock.now);
  local.connected();
  return { local, clock };
}

function put(local: Local, key: string, value: unknown, fresh = 1000, grace = 0, tags: string[] = []): boolean {
  return local.put(local.begin(key), value, Buffer.from(CODEC.encode(key, value)), fresh, grace, tags);
}

describe("the level", () => {
  it("serves what is fresh, and in need what is stale", () => {
    const { local, clock } = level();
    put(local, "a:1", 1, 100, 50);
    expect(local.get("a:1")).toEqual({ value: 1 });
    clock.now = 100;
    expect([local.get("a:1"), local.getStale("a:1")]).toEqual([undefined, { value: 1 }]);
    clock.now = 150;
    expect(local.getStale("a:1")).toBeUndefined();
  });

  it("serves nothing for longer than maxTtl, not even what has no end", () => {
    const { local, clock } = level({ maxTtl: 10 });
    put(local, "a:1", null, -1);
    expect(local.get("a:1")).toEqual({ value: null });
    clock.now = 10;
    expect([local.get("a:1"), local.getStale("a:1")]).toEqual([undefined, { value: null }]);
  });

  it("gives each caller a value of its own, or all a frozen one", () => {
    const { local } = level();
    put(local, "a:1", { n: [1] });
    (local.get("a:1")?.value as { n: number[] }).n.push(2);
    expect(local.get("a:1")).toEqual({ value: { n: [1] } });
    const odd = JSON.parse('{"__proto__":{"a":[1]}}') as object;
    put(local, "a:2", odd);
    expect(JSON.stringify(local.get("a:2")?.value)).toBe('{"__proto__":{"a":[1]}}');
    const mine = { n: [1] };
    put(local, "a:3", mine);
    mine.n.push(2);
    expect(local.get("a:3")).toEqual({ value: { n: [1] } });
    const { local: shared } = level({ share: true });
    put(shared, "a:1", { n: [1] });
    expect(shared.get("a:1")?.value).toBe(shared.get("a:1")?.value);
    expect(() => (shared.get("a:1")?.value as { n: number[] }).n.push(2)).toThrow(TypeError);
  });

  it.each<[string, (local: Local) => void]>([
    [
      "its key",
      (local) => {
        local.drop(["a:1"]);
      },
    ],
    [
      "its tag",
      (local) => {
        local.invalidate("t", false);
      },
    ],
    [
      "its tag, softly",
      (local) => {
        local.invalidate("t", true);
      },
    ],
    [
      "its namespace",
      (local) => {
        local.invalidate("@a", false);
      },
    ],
    [
      "a flush",
      (local) => {
        local.flush();
      },
    ],
    [
      "a loss of the connection",
      (local) => {
        local.lost();
        local.connected();
      },
    ],
  ])("keeps no answer that crossed %s", (_, hear) => {
    const { local } = level();
    const ticket = local.begin("a:1");
    hear(local);
    expect(local.put(ticket, 1, Buffer.from("1"), 1000, 0, ["t"])).toBe(false);
    expect(local.getStale("a:1")).toBeUndefined();
    local.validate();
  });

  it("keeps an answer that crossed what does not concern it", () => {
    const { local } = level();
    const other = local.begin("a:2");
    local.invalidate("t", false);
    const ticket = local.begin("a:1");
    local.invalidate("u", false);
    local.invalidate("@b", false);
    local.drop(["a:3"]);
    expect(local.put(ticket, 1, Buffer.from("1"), 1000, 0, ["t"])).toBe(true);
    local.end(other);
    local.validate();
  });

  it("is not filled while nothing is heard, and keeps what there was for need alone", () => {
    const { local } = level();
    put(local, "a:1", 1);
    local.lost();
    expect([local.get("a:1"), local.getStale("a:1"), put(local, "a:2", 2)]).toEqual([undefined, { value: 1 }, false]);
    local.connected();
    expect(local.get("a:1")).toBeUndefined();
  });

  it("refuses what would take more than an eighth of it", () => {
    const { local } = level({ maxBytes: 80_000 });
    expect(put(local, "a:1", "x".repeat(9_000))).toBe(true);
    expect(put(local, "a:2", "x".repeat(10_000))).toBe(false);
    expect(put(local, "a:1", "x".repeat(10_000))).toBe(false);
    local.validate();
  });

  it("agrees with a model, whatever happens in whatever order", () => {
    for (let round = 0; round < 12; round += 1) {
      const { local, clock } = level({ maxBytes: 1 << 24 });
      const model = new Map<string, { value: number; fresh: number; gone: number; tags: string[] }>();
      const open = new Map<Ticket, { void: boolean; heard: Set<string> }>();
      const pick = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)] as T;
      const keys = ["a:1", "a:2", "b:1", "c"];
      const tags = ["t", "u", "@a"];
      const voided = (which: (key: string) => boolean): void => {
        for (const [ticket, state] of open) if (which(ticket.key)) state.void = true;
      };
      for (let step = 0; step < 400; step += 1) {
        const key = pick(keys);
        const does = pick(["begin", "put", "put", "put", "drop", "hard", "soft", "flush", "lost", "time"]);
        if (does === "begin") open.set(local.begin(key), { void: false, heard: new Set() });
        else if (does === "put" && open.size > 0) {
          const [ticket, state] = pick([...open]);
          open.delete(ticket);
          const entry = {
            value: step,
            fresh: clock.now + 50,
            gone: clock.now + 80,
            tags: tags.filter(() => Math.random() < 0.4),
          };
          const kept = local.put(ticket, step, Buffer.from(String(step)), 50, 30, entry.tags);
          expect(kept).toBe(!state.void && !entry.tags.some((tag) => state.heard.has(tag)));
          if (kept) model.set(ticket.key, entry);
        } else if (does === "drop") {
          local.drop([key]);
          model.delete(key);
          voided((one) => one === key);
        } else if (does === "hard" || does === "soft") {
          const name = pick([...tags, "@b", "@"]);
          local.invalidate(name, does === "soft");
          for (const state of open.values()) state.heard.add(name);
          voided((one) => `@${namespaceOf(one)}` === name);
          for (const [one, entry] of model) {
            if (!entry.tags.includes(name) && `@${namespaceOf(one)}` !== name) continue;
            if (does === "soft") entry.fresh = 0;
            else model.delete(one);
          }
        } else if (does === "flush" && Math.random() < 0.2) {
          local.flush();
          model.clear();
          voided(() => true);
        } else if (does === "lost" && Math.random() < 0.2) {
          local.lost();
          local.connected();
          voided(() => true);
          for (const entry of model.values()) entry.fresh = 0;
        } else clock.now += 7;
        for (const one of keys) {
          const entry = model.get(one);
          const value = entry === undefined ? undefined : { value: entry.value };
          expect(local.get(one)).toEqual(entry !== undefined && entry.fresh > clock.now ? value : undefined);
          expect(local.getStale(one)).toEqual(entry !== undefined && entry.gone > clock.now ? value : undefined);
        }
        local.validate();
      }
    }
  });

  it("stays within its bytes, and its index with it", () => {
    const { local } = level({ maxBytes: 20_000 });
    for (let n = 0; n < 2000; n += 1)
      put(local, `a:${String(n % 300)}`, "x".repeat(n % 700), 1000, 0, [`t${String(n % 7)}`]);
    expect(local.bytes).toBeLessThanOrEqual(20_000);
    expect(local.entries).toBeGreaterThan(5);
    local.validate();
    local.flush();
    local.validate();
    expect([local.bytes, local.entries]).toEqual([0, 0]);
  });
});
