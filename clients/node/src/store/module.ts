/** A server with the CacheFlow module: each method is one command. */
import type { Arg, Link, Reply } from "../link/link.js";
import {
  bySlot,
  bytes,
  fields,
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

const NO_TAGS: readonly string[] = [];
/** The states by their first letters: F, S, M, B. */
const STATES: Partial<Record<number, State>> = { 70: "FRESH", 83: "STALE", 77: "MISS", 66: "BUSY" };

function times(args: Arg[], { ttl, grace }: Times): void {
  if (ttl === "forever") {
    args.push("PERSIST");
    return;
  }
  if (typeof ttl === "number") args.push("PX", String(ttl));
  else if (ttl !== undefined) args.push("EXAUTO", ...ttl.map((ms) => String(Math.max(1, Math.floor(ms / 1000)))));
  if (grace !== undefined) args.push("PGRACE", String(grace));
}

export class ModuleStore implements Store {
  readonly capabilities: Capabilities = {
    module: true,
    blocking: true,
    atomicInvalidation: true,
    clusterInvalidation: true,
    leaseEndsWithConnection: true,
    durableTokens: true,
    earlyRefresh: true,
    nativeTags: true,
  };
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  ping(): Promise<void> {
    return pingAll(this.#link);
  }

  async fetch(key: string, options: FetchOptions, link: Link = this.#link): Promise<Fetched> {
    const args: Arg[] = [key];
    if (options.lease !== undefined) args.push("LEASE", String(options.lease));
    if (options.block !== undefined) args.push("BLOCK", String(options.block));
    if (options.maxStale !== undefined) args.push("MAXSTALE", String(options.maxStale));
    if (options.beta !== undefined) args.push("BETA", String(options.beta));
    if (options.withTags === true) args.push("WITHTAGS");
    const reply = (await link.send("CACHE.FETCH", key, args)) as Reply[];
    const tags = reply[4];
    return {
      state: STATES[(bytes(reply[0]) as Buffer)[0] as number] as State,
      value: bytes(reply[1]),
      token: token(reply[2]),
      ms: Number(reply[3]),
      tags: Array.isArray(tags) && tags.length > 0 ? tags.map(text) : NO_TAGS,
    };
  }

  async get(key: string, stale: boolean): Promise<Buffer | null> {
    return bytes(await this.#link.send("CACHE.GET", key, stale ? [key, "STALE"] : [key]));
  }

  async getMany(keys: readonly string[]): Promise<(Buffer | null)[]> {
    const found = new Array<Buffer | null>(keys.length).fill(null);
    await Promise.all(
      bySlot(keys, this.#link).map(async (group) => {
        const replies = (await this.#link.send("CACHE.MGET", group.keys[0] as string, group.keys)) as Reply[];
        group.places.forEach((place, at) => (found[place] = bytes(replies[at])));
      }),
    );
    return found;
  }

  async set(key: string, value: Buffer | string, options: SetOptions): Promise<boolean> {
    const args: Arg[] = [key, value];
    if (options.token !== undefined) args.push("LEASE", String(options.token));
    else if (options.when !== undefined) args.push(options.when === "absent" ? "NX" : "XX");
    times(args, options);
    if (options.cost !== undefined) args.push("COST", String(options.cost));
    if (options.tags !== undefined && options.tags.length > 0) args.push("TAGS", ...options.tags);
    return (await this.#link.send("CACHE.SET", key, args)) !== null;
  }

  async touch(key: string, options: Times & { readonly token?: number | undefined }): Promise<boolean> {
    const args: Arg[] = [key];
    if (options.token !== undefined) args.push("LEASE", String(options.token));
    // TOUCH has no PERSIST: an entry without end needs no touch, and one that is to have none is written.
    if (options.ttl !== "forever") times(args, options);
    return Number(await this.#link.send("CACHE.TOUCH", key, args)) === 1;
  }

  delete(keys: readonly string[]): Promise<number> {
    return sumBySlot(keys, this.#link, (group) => this.#link.send("CACHE.DEL", group[0] as string, group));
  }

  expire(keys: readonly string[]): Promise<number> {
    return sumBySlot(keys, this.#link, (group) => this.#link.send("CACHE.STALE", group[0] as string, group));
  }

  async increment(key: string, by: number): Promise<number> {
    return Number(await this.#link.send("CACHE.INCRBY", key, [key, String(by)]));
  }

  async lock(key: string, ms: number, block: number | undefined, link: Link = this.#link): Promise<number | null> {
    const args = [key, String(ms)];
    if (block !== undefined) args.push("BLOCK", String(block));
    return token(await link.send("CACHE.LOCK", key, args));
  }

  async unlock(key: string, held: number, retry?: number): Promise<boolean> {
    const args = [key, String(held)];
    if (retry !== undefined) args.push("RETRY", String(retry));
    return Number(await this.#link.send("CACHE.UNLOCK", key, args)) === 1;
  }

  async extend(key: string, held: number, ms: number): Promise<boolean> {
    return Number(await this.#link.send("CACHE.EXTEND", key, [key, String(held), String(ms)])) === 1;
  }

  async invalidate({ tags = [], namespaces = [], soft, timeout }: Invalidation): Promise<number> {
    const words: string[] = [];
    if (soft === true) words.push("SOFT");
    if (timeout !== undefined) words.push("TIMEOUT", String(timeout));
    const sent: Promise<Reply>[] = [];
    // Any node passes it on to the others: the one that some name happens to route to is as good as another.
    if (tags.length > 0) {
      sent.push(this.#link.send("CACHE.INVALIDATE", tags[0] as string, [...words, "TAGS", ...tags]));
    }
    if (namespaces.length > 0) {
      const args = [...words, "NAMESPACE", ...namespaces];
      sent.push(this.#link.send("CACHE.INVALIDATE", namespaces[0] as string, args));
    }
    return (await Promise.all(sent)).reduce<number>((sum, hit) => sum + Number(hit), 0);
  }

  async meta(key: string): Promise<Meta | null> {
    const reply = await this.#link.send("CACHE.META", key, [key]);
    if (reply === null) return null;
    const meta = fields(reply);
    const number = (name: string): number => Number(meta.get(name) ?? 0);
    const tags = meta.get("tags");
    return {
      state: text(meta.get("state")) as Meta["state"],
      type: text(meta.get("type")),
      bytes: number("bytes"),
      freshMs: number("fresh-ms"),
      ttlMs: number("ttl-ms"),
      ageMs: number("age-ms"),
      costMs: number("cost-ms"),
      hits: number("hits"),
      namespace: text(meta.get("namespace")),
      tags: Array.isArray(tags) ? tags.map(text) : NO_TAGS,
      leaseMs: number("lease-ms"),
      waiters: number("waiters"),
    };
  }

  async stats(namespace: string | undefined): Promise<Record<string, number> | null> {
    const args = namespace === undefined ? [] : ["NAMESPACE", namespace];
    const nodes = await this.#link.nodes();
    const sum: Record<string, number> = {};
    for (const reply of await Promise.all(nodes.map((node) => node.send("CACHE.STATS", args)))) {
      for (const [name, value] of fields(reply)) sum[name] = (sum[name] ?? 0) + Number(value);
    }
    return sum;
  }
}
