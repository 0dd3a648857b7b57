/**
 * What the cache asks of a server: the commands of CacheFlow as methods, on a server with the module (module.ts)
 * and on one without (plain.ts). Keys are whole keys, times milliseconds, values bytes. No timeouts and no retries.
 */
import type { Link, Reply } from "../link/link.js";

export type State = "FRESH" | "STALE" | "MISS" | "BUSY";

export interface Fetched {
  readonly state: State;
  readonly value: Buffer | null;
  readonly token: number | null;
  /** FRESH: fresh for so long, -1 for ever; STALE: gone after so long; MISS: the lease; BUSY: ask again after. */
  readonly ms: number;
  readonly tags: readonly string[];
}

export interface FetchOptions {
  /** Hold the reply for so long where it would be BUSY. Only on a connection of the pool. */
  readonly block?: number | undefined;
  readonly lease?: number | undefined;
  readonly maxStale?: number | undefined;
  readonly beta?: number | undefined;
  readonly withTags?: boolean | undefined;
}

export interface Times {
  /**
   * Fresh for so long; for ever (`"forever"`); as long as the server learns from how often the value changes, between
   * two bounds. Without: as the namespace says, else without end.
   */
  readonly ttl?: number | "forever" | readonly [least: number, most: number] | undefined;
  /** Stale for so long after that. */
  readonly grace?: number | undefined;
}

export interface SetOptions extends Times {
  readonly token?: number | undefined;
  readonly when?: "absent" | "present" | undefined;
  readonly tags?: readonly string[] | undefined;
  /** Milliseconds that computing it took, where the server is not to go by its own measurement. */
  readonly cost?: number | undefined;
}

export interface Invalidation {
  readonly tags?: readonly string[] | undefined;
  readonly namespaces?: readonly string[] | undefined;
  readonly soft?: boolean | undefined;
  /** How long the server may wait for the other primaries. */
  readonly timeout?: number | undefined;
}

/** What CACHE.META tells of a key. */
export interface Meta {
  readonly state: "fresh" | "stale" | "absent";
  /** `cacheflow` for an entry, else the key's Redis type. */
  readonly type: string;
  /** Of the value, as stored. */
  readonly bytes: number;
  /** Milliseconds; -1: no end. */
  readonly freshMs: number;
  /** Milliseconds until it is gone; -1: never. */
  readonly ttlMs: number;
  /** Milliseconds since it was written or touched. */
  readonly ageMs: number;
  /** Milliseconds that computing it takes. */
  readonly costMs: number;
  readonly hits: number;
  readonly namespace: string;
  readonly tags: readonly string[];
  /** Milliseconds left on a lease or lock; 0: there is none. */
  readonly leaseMs: number;
  readonly waiters: number;
}

/** What a server can do for this cache; see the README for what each is worth. */
export interface Capabilities {
  /** The CacheFlow module is there. All below is true with it, and what is false without is weaker, not absent. */
  readonly module: boolean;
  /** Waiters are held by the server and answered by the fill; else they ask again and again. */
  readonly blocking: boolean;
  /** Invalidating is one atomic step on a shard; else it is several, and a reader may come between. */
  readonly atomicInvalidation: boolean;
  /** An invalidation reaches every primary of a cluster before it is answered. */
  readonly clusterInvalidation: boolean;
  /** A lease ends with the connection that took it; else it runs out. */
  readonly leaseEndsWithConnection: boolean;
  /** Tokens grow across restarts and failovers. */
  readonly durableTokens: boolean;
  /** The server elects one reader to refresh early, by the measured cost. */
  readonly earlyRefresh: boolean;
  /** Native keys can have tags. */
  readonly nativeTags: boolean;
}

export interface Store {
  readonly capabilities: Capabilities;
  /** A sign of life of every primary. */
  ping(): Promise<void>;
  fetch(key: string, options: FetchOptions, link?: Link): Promise<Fetched>;
  get(key: string, stale: boolean): Promise<Buffer | null>;
  getMany(keys: readonly string[]): Promise<(Buffer | null)[]>;
  set(key: string, value: Buffer | string, options: SetOptions): Promise<boolean>;
  touch(key: string, options: Times & { readonly token?: number | undefined }): Promise<boolean>;
  /** How many there were. */
  delete(keys: readonly string[]): Promise<number>;
  /** How many were fresh and are stale now. */
  expire(keys: readonly string[]): Promise<number>;
  increment(key: string, by: number): Promise<number>;
  lock(key: string, ms: number, block: number | undefined, link?: Link): Promise<number | null>;
  unlock(key: string, token: number, retry?: number): Promise<boolean>;
  extend(key: string, token: number, ms: number): Promise<boolean>;
  /** How many entries it hit; null where the server cannot say. */
  invalidate(what: Invalidation): Promise<number | null>;
  meta(key: string): Promise<Meta | null>;
  /** Counters of the server, added up over the primaries; null where it keeps none. */
  stats(namespace: string | undefined): Promise<Record<string, number> | null>;
}

/** Keys by hash slot, with their places in the list: a command with many keys must stay within a slot. */
export function bySlot(keys: readonly string[], link: Link): { keys: string[]; places: number[] }[] {
  const slots = new Map<number, { keys: string[]; places: number[] }>();
  keys.forEach((key, place) => {
    const slot = link.slot(key);
    let group = slots.get(slot);
    if (group === undefined) slots.set(slot, (group = { keys: [], places: [] }));
    group.keys.push(key);
    group.places.push(place);
  });
  return [...slots.values()];
}

/** The sum of what a command answers for each slot's keys. */
export async function sumBySlot(
  keys: readonly string[],
  link: Link,
  send: (keys: string[]) => Promise<Reply>,
): Promise<number> {
  const counts = await Promise.all(bySlot(keys, link).map((group) => send(group.keys)));
  return counts.reduce<number>((sum, count) => sum + Number(count), 0);
}

export async function pingAll(link: Link): Promise<void> {
  const nodes = await link.nodes();
  await Promise.all(nodes.map((node) => node.send("PING", [])));
}

export function text(reply: Reply | undefined): string {
  return reply === null || reply === undefined ? "" : String(reply);
}

export function bytes(reply: Reply | undefined): Buffer | null {
  if (reply === null || reply === undefined) return null;
  return Buffer.isBuffer(reply) ? reply : Buffer.from(text(reply));
}

export function token(reply: Reply | undefined): number | null {
  return reply === null || reply === undefined ? null : Number(reply);
}

/** A flat array of names and values as a map. */
export function fields(reply: Reply): Map<string, Reply> {
  const map = new Map<string, Reply>();
  if (!Array.isArray(reply)) return map;
  for (let at = 0; at + 1 < reply.length; at += 2) map.set(text(reply[at]), reply[at + 1] as Reply);
  return map;
}
