import { setMaxListeners } from "node:events";
import { LockError, ConfigError } from "./errors.js";
import { milliseconds } from "./duration.js";
import { Events, type EventName, type Listener } from "./events.js";
import { IoredisLink } from "./link/ioredis.js";
import type { Link } from "./link/link.js";
import { adapt } from "./link/open.js";
import { Loader } from "./loader.js";
import { Local } from "./local.js";
import { Lock, type LockOptions } from "./lock.js";
import type { GetOrSetManyOptions } from "./many.js";
import { resolve, type CacheFlowOptions, type Resolved } from "./options.js";
import { Reader } from "./reader.js";
import { request, type Entry, type GetOrSetOptions, type LoadOptions } from "./request.js";
import { Server } from "./server.js";
import type { Capabilities, Meta } from "./store/store.js";
import { unlessAborted } from "./timing.js";
import { Lane } from "./waiting.js";
import { Watcher } from "./watcher.js";
import { wrap, type Wrapped, type WrapOptions } from "./wrap.js";
import { Writer, type InvalidateOptions, type SetOptions, type Targets } from "./writer.js";

/** For operations that may be given up while they run. What was sent is not taken back. */
export interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** What this client and its server have counted. */
export interface Stats {
  /** Events of this cache, as `name` or `name_detail`; see {@link CacheEvent}. */
  readonly client: Readonly<Record<string, number>>;
  /** The level in the process; null if there is none. */
  readonly local: { readonly entries: number; readonly bytes: number; readonly live: boolean } | null;
  readonly breaker: "closed" | "open" | "half-open";
  /** Invalidations that are still to be sent. */
  readonly queued: number;
  /** CACHE.STATS of the namespace, added up over the primaries; null without the module or without an answer. */
  readonly server: Readonly<Record<string, number>> | null;
}

function connect(options: CacheFlowOptions): { link: Link; owned: boolean } {
  const { client, url, redis = {} } = options;
  if (client !== undefined) {
    if (url !== undefined) throw new ConfigError("bad_option", "url or client, not both");
    return { link: adapt(client), owned: false };
  }
  if (url === undefined && options.redis === undefined) throw new ConfigError("bad_option", "url, redis or client");
  const nodes = url === undefined ? [] : typeof url === "string" ? [url] : url;
  return { link: IoredisLink.connect(nodes, options.cluster ?? nodes.length > 1, redis), owned: true };
}

/**
 * A cache on Redis or Valkey, with the CacheFlow module or without.
 *
 * Keys are given without the namespace. Durations are milliseconds or text ("60s"). `null` is a value; `undefined` is
 * none: it is what `get` answers where there is nothing, and a factory that returns it has nothing stored.
 */
export class CacheFlow implements AsyncDisposable {
  readonly #options: Resolved;
  readonly #events = new Events();
  readonly #server: Server;
  readonly #lane: Lane;
  readonly #local: Local | undefined;
  readonly #watcher: Watcher | undefined;
  readonly #reader: Reader;
  readonly #writer: Writer;

  /** @throws ConfigError `bad_option`, `bad_duration` */
  constructor(options: CacheFlowOptions) {
    const resolved = (this.#options = resolve(options));
    const { link, owned } = connect(options);
    this.#server = new Server(link, resolved, this.#events, owned);
    this.#lane = new Lane(link, resolved.waitingConnections);
    if (resolved.local !== undefined) {
      this.#local = new Local(resolved.local, resolved.codec, (key) => this.namespaceOf(key));
      this.#watcher = new Watcher(link, this.#local, this.#events, {
        prefix: resolved.prefix,
        heartbeat: resolved.local.heartbeat,
        timeout: Math.max(resolved.timeout, 1000),
      });
      void this.#watcher.start();
    }
    const loader = new Loader(this.#server, this.#local, this.#events, resolved);
    this.#reader = new Reader(this.#server, this.#lane, this.#local, loader, this.#events, resolved);
    this.#writer = new Writer(this.#server, this.#local, this.#events, resolved);
  }

  /** The prefix of keys, without `:`. */
  get namespace(): string {
    return this.#options.namespace;
  }

  /** What the server can do; undefined until something has been asked of it. `ready()` asks. */
  get capabilities(): Capabilities | undefined {
    return this.#server.store?.capabilities;
  }

  /** The whole key of a key. */
  fullKey(key: string): string {
    return this.#options.prefix + key;
  }

  /** The namespace that the server counts a whole key to. */
  namespaceOf(key: string): string {
    const from = key.startsWith("{") ? 1 : 0;
    const end = key.indexOf(this.#options.delimiter, from);
    return end < 0 ? "" : key.slice(from, end);
  }

  /**
   * Waits until Redis has answered, and the level in the process hears of changes, if there is one. Nobody has to:
   * everything works before, as it does when Redis is down. @throws Unavailable, ServerError
   */
  async ready(): Promise<Capabilities> {
    const { capabilities } = await this.#server.insist((store) => Promise.resolve(store));
    if (this.#local?.live === false) {
      await new Promise<void>((up) => {
        const hear: Listener = ({ detail }) => {
          if (detail !== "up") return;
          this.#events.off("tracking", hear);
          up();
        };
        this.#events.on("tracking", hear);
      });
    }
    return capabilities;
  }

  // --- reading -------------------------------------------------------------------------------
  /**
   * The value, computed by the factory if need be: by one caller of all processes, while the others wait or have the
   * stale one. Rejects with what the factory threw, EncodeError, and CancelledError for `signal` and `hardTimeout`;
   * never because of Redis.
   */
  getOrSet<T>(options: GetOrSetOptions<T>): Promise<T> {
    const key = this.#options.prefix + options.key;
    const found = this.#local?.get(key);
    if (found !== undefined) {
      this.#events.l1Hit(key);
      return Promise.resolve(found.value as T);
    }
    return this.#reader.getOrSet(this.#request(key, options)).then((entry) => entry.value as T);
  }

  /** The same, with where the value came from and whether it is fresh. */
  getOrSetEntry<T>(options: GetOrSetOptions<T>): Promise<Entry<T>> {
    const key = this.#options.prefix + options.key;
    const found = this.#local?.get(key);
    if (found !== undefined) {
      this.#events.l1Hit(key);
      return Promise.resolve({ value: found.value as T, source: "l1", state: "fresh" });
    }
    return this.#reader.getOrSet(this.#request(key, options)) as Promise<Entry<T>>;
  }

  /**
   * The values of many keys, asked for at once: one call of the loader for all that are to be loaded by this caller,
   * each stored under its own lease and fence. What somebody else loads is waited for, and loaded by further calls if
   * that comes to nothing; what is stale is answered, and refreshed behind by one call. What the loader leaves out is
   * `null`, a value like others (`negativeTtl`). Rejects as getOrSet does; ConfigError `bad_function` for a loader that
   * returns no mapping.
   */
  async getOrSetMany<T>(options: GetOrSetManyOptions<T>): Promise<Map<string, T | null>> {
    const { keys, loader, tags, signal: given, ...rest } = options;
    // One that each key may listen to: of more than ten who listen to the caller's own Node would warn.
    const signal = given && AbortSignal.any([given]);
    if (signal !== undefined) setMaxListeners(0, signal);
    const found = new Map<string, T | null>();
    const left: string[] = [];
    for (const key of new Set(keys)) {
      const there = this.#local?.get(this.#options.prefix + key);
      found.set(key, (there?.value ?? null) as T | null); // in the order of the keys
      if (there === undefined) left.push(key);
      else this.#events.l1Hit(this.#options.prefix + key);
    }
    const batch = this.#reader.batch(loader, left.length);
    const reading = left.map(async (key) => {
      const { part, factory } = batch.member(key);
      const own = typeof tags === "function" ? (value: unknown) => tags(key, value as T | null) : tags;
      const load = { ...rest, signal, key, factory, tags: own } as GetOrSetOptions<unknown>;
      try {
        const asked = request(this.#options.prefix + key, load, this.#options, part);
        found.set(key, (await this.#reader.getOrSet(asked)).value as T | null);
      } finally {
        part.decided();
      }
    });
    try {
      await Promise.all(reading);
    } catch (error) {
      // By when it is told, the leases of all that were to be loaded are given up.
      await Promise.allSettled(reading.filter((_, at) => batch.loaded.has(left[at] as string)));
      throw error;
    }
    return found;
  }

  #request<T>(key: string, options: GetOrSetOptions<T>): ReturnType<typeof request> {
    return request(key, options as GetOrSetOptions<unknown>, this.#options);
  }

  /**
   * The value, undefined where there is none or Redis does not answer. Fresh ones only, unless `stale`.
   * @throws DecodeError, ServerError
   */
  get<T = unknown>(key: string, options: Abortable & { readonly stale?: boolean } = {}): Promise<T | undefined> {
    const full = this.#options.prefix + key;
    const found = this.#local?.get(full);
    if (found !== undefined) {
      this.#events.l1Hit(full);
      return Promise.resolve(found.value as T);
    }
    const value = this.#reader.get(full, options.stale ?? false) as Promise<T | undefined>;
    return unlessAborted(value, options.signal, full);
  }

  /** The fresh values by their keys, as far as there are any. @throws DecodeError, ServerError */
  async getMany<T = unknown>(keys: readonly string[], options: Abortable = {}): Promise<Map<string, T>> {
    const distinct = [...new Set(keys)];
    const reading = this.#reader.getMany(distinct.map((key) => this.#options.prefix + key));
    const values = (await unlessAborted(reading, options.signal)) as (T | undefined)[];
    const found = new Map<string, T>();
    distinct.forEach((key, at) => {
      const value = values[at];
      if (value !== undefined) found.set(key, value);
    });
    return found;
  }

  // --- writing -------------------------------------------------------------------------------
  /**
   * Stores a value. False: Redis did not take it, `when` did not hold, or the token was superseded.
   * @throws EncodeError, ServerError, ConfigError for undefined
   */
  async set(key: string, value: unknown, options: SetOptions & Abortable = {}): Promise<boolean> {
    const full = this.#options.prefix + key;
    const [stored] = await unlessAborted(this.#writer.set([[full, value]], options), options.signal, full);
    return stored as boolean;
  }

  /** Stores values, all with the same options; the keys of those that were. @throws EncodeError, ServerError */
  async setMany(
    values: Iterable<readonly [key: string, value: unknown]> | Readonly<Record<string, unknown>>,
    options: Omit<SetOptions, "token"> & Abortable = {},
  ): Promise<string[]> {
    const entries =
      Symbol.iterator in values ? [...(values as Iterable<readonly [string, unknown]>)] : Object.entries(values);
    const full = entries.map(([key, value]) => [this.#options.prefix + key, value] as const);
    const stored = await unlessAborted(this.#writer.set(full, options), options.signal);
    return entries.filter((_, at) => stored[at]).map(([key]) => key);
  }

  /**
   * Makes an entry fresh anew without sending its value: for as long as it was last, unless `ttl` says otherwise. False
   * where there is none. @throws Unavailable, ServerError
   */
  touch(key: string, options: Pick<SetOptions, "ttl" | "grace" | "token"> & Abortable = {}): Promise<boolean> {
    const full = this.#options.prefix + key;
    return unlessAborted(this.#writer.touch(full, options), options.signal, full);
  }

  /**
   * Removes entries, and refuses what is being computed for them; `soft`: makes them stale. How many there were (soft:
   * how many were fresh). @throws Unavailable, ServerError: it may not be done, and is to be tried again
   */
  delete(keys: string | readonly string[], options: Abortable & { readonly soft?: boolean } = {}): Promise<number> {
    const full = (typeof keys === "string" ? [keys] : keys).map((key) => this.#options.prefix + key);
    return unlessAborted(this.#writer.delete(full, options.soft ?? false), options.signal, full[0]);
  }

  /** Adds to a counter, which keeps its tags and times; one that is not there counts from 0. @throws Unavailable, ServerError */
  incr(key: string, by = 1, options: Abortable = {}): Promise<number> {
    const full = this.#options.prefix + key;
    return unlessAborted(this.#writer.increment(full, by), options.signal, full);
  }

  // --- invalidation --------------------------------------------------------------------------
  /**
   * Makes every entry with one of the tags (or in one of the namespaces) dead at once, in the whole cluster; `soft`:
   * stale. How many entries it hit, null where the server cannot say. Tags are shared by all who use the server.
   * @throws InvalidationError: it is not known to be done
   */
  invalidate(
    what: string | readonly string[] | Targets,
    options: InvalidateOptions & Abortable = {},
  ): Promise<number | null> {
    const targets =
      typeof what === "string" || Array.isArray(what) ? { tags: what as string | string[] } : (what as Targets);
    return unlessAborted(this.#writer.invalidate(targets, options), options.signal);
  }

  /** Invalidates all of this cache's namespace. @throws InvalidationError; ConfigError where it has none */
  clear(options: InvalidateOptions & Abortable = {}): Promise<number | null> {
    if (this.namespace === "") throw new ConfigError("bad_option", "clear needs a cache with a namespace");
    return this.invalidate({ namespaces: this.namespace }, options);
  }

  // --- locks ---------------------------------------------------------------------------------
  /**
   * Takes the lock of that name, which is a key's: a fill of the key cannot be stored over its holder's write.
   * @throws LockError `locked` where it is held by somebody else for as long as we would wait; Unavailable, ServerError
   */
  async lock(name: string, options: LockOptions): Promise<Lock> {
    const lock = await this.tryLock(name, options);
    if (lock === undefined) {
      throw new LockError("locked", "held by somebody else", { key: this.#options.prefix + name });
    }
    return lock;
  }

  /** The same; undefined where it is held. */
  async tryLock(name: string, options: LockOptions): Promise<Lock | undefined> {
    const full = this.#options.prefix + name;
    const ttl = milliseconds(options.ttl, "ttl");
    if (ttl === 0) throw new ConfigError("bad_duration", "a lock of no length", { key: full });
    const began = performance.now();
    const wait = milliseconds(options.wait ?? 0, "wait");
    const token = await this.#reader.lock(full, ttl, wait, options.signal);
    this.#events.tell("lock", full, performance.now() - began, token === null ? "refused" : "taken");
    if (token === null) return undefined;
    return new Lock(full, token, this.#server, this.#events, (value, set) => this.set(name, value, set));
  }

  // --- functions -----------------------------------------------------------------------------
  /** A function whose results are cached: `cache.wrap(loadProfile, { key: (id) => `user:${id}`, ttl: "5m" })`. */
  wrap<F extends (...args: never[]) => unknown>(
    unwrapped: F,
    options: WrapOptions<Parameters<F>, Awaited<ReturnType<F>>>,
  ): Wrapped<Parameters<F>, Awaited<ReturnType<F>>> {
    return wrap(
      {
        getOrSet: <T>(key: string, factory: () => T | Promise<T>, load: LoadOptions<T>) =>
          this.getOrSet({ ...load, key, factory }),
        refresh: <T>(key: string, factory: () => T | Promise<T>, load: LoadOptions<T>) =>
          this.refresh({ ...load, key, factory }),
        delete: (key) => this.delete(key),
      },
      unwrapped as (...args: Parameters<F>) => Awaited<ReturnType<F>>,
      options,
    );
  }

  /** Computes the value now, whatever there is, and stores it; other callers wait or have the old one. */
  refresh<T>(options: GetOrSetOptions<T>): Promise<T> {
    const full = this.#options.prefix + options.key;
    const loading = this.#reader.refresh(this.#request(full, options)) as Promise<T>;
    return unlessAborted(loading, options.signal, full);
  }

  // --- looking -------------------------------------------------------------------------------
  /** What the server knows of a key; null where there is nothing. @throws Unavailable, ServerError */
  meta(key: string, options: Abortable = {}): Promise<Meta | null> {
    const full = this.#options.prefix + key;
    return unlessAborted(
      this.#server.call((store) => store.meta(full), full),
      options.signal,
      full,
    );
  }

  /** Counters of this client, and of the server for its namespace (of all, where it has none). Never rejects. */
  async stats(): Promise<Stats> {
    const namespace = this.namespace === "" ? undefined : this.namespace;
    let server: Record<string, number> | null = null;
    try {
      server = await this.#server.call((store) => store.stats(namespace));
    } catch (error) {
      this.#events.tell("degraded", "", 0, "", error);
    }
    const local = this.#local;
    return {
      client: this.#events.counts(),
      local: local === undefined ? null : { entries: local.entries, bytes: local.bytes, live: local.live },
      breaker: this.#server.breaker,
      queued: this.#writer.queued,
      server,
    };
  }

  /** Hears of what happens; `"event"` is all of it. */
  on(name: EventName | "event", listener: Listener): this {
    this.#events.on(name, listener);
    return this;
  }

  off(name: EventName | "event", listener: Listener): this {
    this.#events.off(name, listener);
    return this;
  }

  /** Closes the connections that were made here; a client that was given stays open. */
  async close(): Promise<void> {
    this.#writer.close();
    this.#watcher?.close();
    await this.#lane.close();
    await this.#server.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
