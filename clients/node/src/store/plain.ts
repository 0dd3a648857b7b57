/**
 * A server without the module: the same methods by scripts (scripts.ts), with weaker guarantees.
 *
 * - Reading is several steps: the entry, and the marks of its namespace and tags. An invalidation that comes between
 *   them is seen by the next reader.
 * - Times of different servers of a cluster are compared, so that what is promised holds up to how their clocks differ.
 * - A lease of a process that died runs out, and nobody waits in the server: waiters ask again and again.
 * - A failover may lose tokens, leases and invalidations.
 */
import { createHash } from "node:crypto";
import type { Arg, Link, Reply } from "../link/link.js";
import * as scripts from "./scripts.js";
import {
  bytes,
  pingAll,
  sumBySlot,
  text,
  token,
  type Capabilities,
  type Fetched,
  type FetchOptions,
  type Invalidation,
  type Meta,
  type SetOptions,
  type State,
  type Store,
  type Times,
} from "./store.js";

/** As the server with the module does before it has measured anything. */
const LEASE = 10_000;
/** What an invalidation is remembered for where no entry needs it for longer. */
const MARK_KEPT = 3_600_000;
/** Later than any birth. */
const EVER = "9007199254740991";
const MARK_PREFIX = "~cft:";

const digests = new Map<string, string>();

function digest(script: string): string {
  let sha = digests.get(script);
  if (sha === undefined) digests.set(script, (sha = createHash("sha1").update(script).digest("hex")));
  return sha;
}

/** When an entry's tags and its namespace were invalidated, as the scripts take it. */
interface Marks {
  readonly hard: string;
  readonly soft: string;
}

const NO_MARKS: Marks = { hard: "0", soft: "0" };

function later(a: Marks, b: Marks): Marks {
  return {
    hard: Number(a.hard) >= Number(b.hard) ? a.hard : b.hard,
    soft: Number(a.soft) >= Number(b.soft) ? a.soft : b.soft,
  };
}

export class PlainStore implements Store {
  readonly capabilities: Capabilities = {
    module: false,
    blocking: false,
    atomicInvalidation: false,
    clusterInvalidation: true,
    leaseEndsWithConnection: false,
    durableTokens: false,
    earlyRefresh: false,
    nativeTags: false,
  };
  readonly #link: Link;
  readonly #delimiter: string;

  constructor(link: Link, delimiter: string) {
    this.#link = link;
    this.#delimiter = delimiter;
  }

  async #eval(script: string, key: string, args: readonly Arg[] = []): Promise<Reply> {
    try {
      return await this.#link.send("EVALSHA", key, [digest(script), "1", key, ...args]);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return this.#link.send("EVAL", key, [script, "1", key, ...args]);
    }
  }

  /** The namespace of a key as a mark's name: a tag of that name shares its mark, as it does its channel. */
  #namespace(key: string): string {
    const from = key.startsWith("{") ? 1 : 0;
    const end = key.indexOf(this.#delimiter, from);
    return `@${end < 0 ? "" : key.slice(from, end)}`;
  }

  async #marks(names: readonly string[]): Promise<Marks> {
    const all = await Promise.all(
      names.map(async (name) => {
        const key = MARK_PREFIX + name;
        const [h, s, c] = (await this.#link.send("HMGET", key, [key, "h", "s", "c"])) as Reply[];
        if (c === null || c === undefined) return { hard: EVER, soft: "0" };
        const before = String(Number(text(c)) - 1);
        return later({ hard: text(h ?? null) || "0", soft: text(s ?? null) || "0" }, { hard: before, soft: "0" });
      }),
    );
    return all.reduce(later, NO_MARKS);
  }

  /** The marks of an entry that is about to be stored, made where they are missing. */
  async #ensure(key: string, tags: readonly string[], keep: number | undefined): Promise<Marks> {
    const names = new Set([this.#namespace(key), ...tags]);
    const all = await Promise.all(
      [...names].map(async (name) => {
        const kept = keep === undefined ? "" : String(Math.max(keep + MARK_KEPT, MARK_KEPT));
        const [h, s] = (await this.#eval(scripts.ENSURE, MARK_PREFIX + name, [kept])) as Reply[];
        return { hard: text(h ?? null) || "0", soft: text(s ?? null) || "0" };
      }),
    );
    return all.reduce(later, NO_MARKS);
  }

  /** What a key holds and what has become of its tags; the entry may be dead by them. */
  async #look(key: string): Promise<{ entry: Reply[] | null; marks: Marks }> {
    const [reply, own] = await Promise.all([
      this.#eval(scripts.READ, key, [NO_MARKS.hard, NO_MARKS.soft]),
      this.#marks([this.#namespace(key)]),
    ]);
    if (!Array.isArray(reply)) {
      // What comes to lie there from now on has come with its mark: one that was missing says nothing about it.
      return { entry: null, marks: own.hard === EVER ? NO_MARKS : own };
    }
    const tags = JSON.parse(text(reply[3])) as string[];
    return { entry: reply, marks: tags.length === 0 ? own : later(own, await this.#marks(tags)) };
  }

  async #judged(key: string): Promise<{ entry: Reply[] | null; marks: Marks }> {
    const { entry, marks } = await this.#look(key);
    if (entry === null) return { entry, marks };
    const born = Number(text(entry[4]));
    if (born > Number(marks.hard) && born > Number(marks.soft)) return { entry, marks };
    const anew = await this.#eval(scripts.READ, key, [marks.hard, marks.soft]);
    return { entry: Array.isArray(anew) ? anew : null, marks };
  }

  ping(): Promise<void> {
    return pingAll(this.#link);
  }

  async fetch(key: string, options: FetchOptions): Promise<Fetched> {
    const { entry, marks } = await this.#judged(key);
    if (entry !== null && text(entry[5]) === "FRESH") {
      return { state: "FRESH", value: bytes(entry[0]), token: null, ms: Number(entry[1]), tags: tagsOf(entry[3]) };
    }
    const args = [marks.hard, marks.soft, String(options.lease ?? LEASE), String(options.maxStale ?? -1)];
    const reply = (await this.#eval(scripts.FETCH, key, args)) as Reply[];
    return {
      state: text(reply[0]) as State,
      value: bytes(reply[1]),
      token: token(reply[2]),
      ms: Number(reply[3]),
      tags: tagsOf(reply[4]),
    };
  }

  async get(key: string, stale: boolean): Promise<Buffer | null> {
    const { entry } = await this.#judged(key);
    return entry !== null && (stale || text(entry[5]) === "FRESH") ? bytes(entry[0]) : null;
  }

  getMany(keys: readonly string[]): Promise<(Buffer | null)[]> {
    return Promise.all(keys.map((key) => this.get(key, false)));
  }

  async set(key: string, value: Buffer | string, options: SetOptions): Promise<boolean> {
    const { grace = 0, tags = [] } = options;
    const ttl = length(options.ttl);
    const marks = await this.#ensure(key, tags, ttl === undefined ? undefined : ttl + grace);
    const reply = await this.#eval(scripts.SET, key, [
      value,
      options.token === undefined ? "" : String(options.token),
      options.when ?? "",
      ttl === undefined ? "" : String(ttl),
      String(grace),
      JSON.stringify([...new Set(tags)]),
      marks.hard,
      marks.soft,
    ]);
    return Number(reply) === 1;
  }

  async touch(key: string, options: Times & { readonly token?: number | undefined }): Promise<boolean> {
    const { entry, marks } = await this.#look(key);
    const { grace, token: held } = options;
    const ttl = length(options.ttl);
    if (entry !== null && ttl !== undefined) await this.#ensure(key, tagsOf(entry[3]), ttl + (grace ?? 0));
    const reply = await this.#eval(scripts.TOUCH, key, [
      held === undefined ? "" : String(held),
      ttl === undefined ? "" : String(ttl),
      grace === undefined ? "" : String(grace),
      marks.hard,
      marks.soft,
    ]);
    return Number(reply) === 1;
  }

  #each(keys: readonly string[], script: string): Promise<number> {
    const one = async (key: string): Promise<Reply> => {
      const { marks } = await this.#look(key);
      return this.#eval(script, key, [marks.hard, marks.soft]);
    };
    return sumBySlot(keys, this.#link, async (group) => {
      const counts = await Promise.all(group.map(one));
      return counts.reduce<number>((sum, count) => sum + Number(count), 0);
    });
  }

  delete(keys: readonly string[]): Promise<number> {
    return this.#each(keys, scripts.DELETE);
  }

  expire(keys: readonly string[]): Promise<number> {
    return this.#each(keys, scripts.EXPIRE);
  }

  async increment(key: string, by: number): Promise<number> {
    const { marks } = await this.#look(key);
    await this.#ensure(key, [], undefined);
    return Number(await this.#eval(scripts.INCREMENT, key, [String(by), marks.hard, marks.soft]));
  }

  async lock(key: string, ms: number): Promise<number | null> {
    return token(await this.#eval(scripts.LOCK, key, [String(ms)]));
  }

  async unlock(key: string, held: number, retry?: number): Promise<boolean> {
    const args = [String(held), retry === undefined ? "" : String(retry)];
    return Number(await this.#eval(scripts.UNLOCK, key, args)) === 1;
  }

  async extend(key: string, held: number, ms: number): Promise<boolean> {
    return Number(await this.#eval(scripts.EXTEND, key, [String(held), String(ms)])) === 1;
  }

  /** How many entries a mark hits, nobody knows. */
  async invalidate({ tags = [], namespaces = [], soft }: Invalidation): Promise<null> {
    const names = [...tags, ...namespaces.map((name) => `@${name}`)];
    await Promise.all(
      names.map(async (name) => {
        await this.#eval(scripts.MARK, MARK_PREFIX + name, [soft === true ? "s" : "h", String(MARK_KEPT)]);
        const channel = `cache:${name}`;
        await this.#link.send("PUBLISH", channel, [channel, soft === true ? "soft" : "hard"]);
      }),
    );
    return null;
  }

  async meta(key: string): Promise<Meta | null> {
    const { marks } = await this.#look(key);
    const reply = await this.#eval(scripts.META, key, [marks.hard, marks.soft]);
    if (!Array.isArray(reply)) return null;
    const [state, size, fresh, ttl, age, tags, lease] = reply;
    const absent = text(state) === "absent";
    return {
      state: text(state) as Meta["state"],
      type: absent ? "none" : "cacheflow",
      bytes: Number(size),
      freshMs: Number(fresh),
      ttlMs: Number(ttl),
      ageMs: Number(age),
      costMs: 0,
      hits: 0,
      namespace: this.#namespace(key).slice(1),
      tags: tagsOf(tags),
      leaseMs: Number(lease),
      waiters: 0,
    };
  }

  stats(): Promise<null> {
    return Promise.resolve(null);
  }
}

/** Nothing is learned here: the least of two bounds. */
function length(ttl: Times["ttl"]): number | undefined {
  if (ttl === "forever") return undefined;
  return typeof ttl === "object" ? ttl[0] : ttl;
}

function tagsOf(reply: Reply | undefined): readonly string[] {
  return reply === null || reply === undefined ? [] : (JSON.parse(text(reply)) as string[]);
}
