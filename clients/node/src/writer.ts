/**
 * What changes entries, and what invalidates them.
 *
 * Writes of values answer false when Redis does not take them: a cache that is down must not take the application down.
 * What removes or counts rejects: who invalidates relies on it. An invalidation that failed may be queued here. It
 * still rejects, for readers may see the old value until it is done; it is sent again, in order, until the server has
 * it or the cache is closed.
 */
import { milliseconds, type Duration } from "./duration.js";
import { CacheFlowError, ConfigError, InvalidationError, Unavailable } from "./errors.js";
import type { Events } from "./events.js";
import type { Local } from "./local.js";
import { lifetime, tagList, type Resolved, type Ttl } from "./options.js";
import type { CallOptions, Server } from "./server.js";
import type { SetOptions as StoreSetOptions, Store } from "./store/store.js";

export interface SetOptions {
  readonly ttl?: Ttl | undefined;
  readonly grace?: Duration | undefined;
  readonly tags?: string | readonly string[] | undefined;
  /** Only where there is no live entry or key; or only where there is. */
  readonly when?: "absent" | "present" | undefined;
  /** The token of a lock or lease: stored only if nothing newer has happened since it was given. */
  readonly token?: number | undefined;
  /** What computing it took, where the server is not to go by its own measurement. */
  readonly cost?: Duration | undefined;
}

/** What to invalidate. */
export interface Targets {
  readonly tags?: string | readonly string[] | undefined;
  /** Namespaces of the server: what stands before the first `:` of keys. */
  readonly namespaces?: string | readonly string[] | undefined;
}

export interface InvalidateOptions {
  /** Entries become stale rather than dead. */
  readonly soft?: boolean | undefined;
  /** Where it fails: queue it here too, to be sent again until the server has it. It rejects all the same. */
  readonly retry?: boolean | undefined;
  /** How long the server may wait for the other primaries of a cluster before it answers `partial`. */
  readonly timeout?: Duration | undefined;
}

interface Queued {
  readonly tags: readonly string[];
  readonly namespaces: readonly string[];
  readonly soft: boolean;
  readonly timeout: number | undefined;
}

/** Invalidations that wait for the server to come back. */
const QUEUE = 4096;
/** Between two tries, in ms. */
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 2000;
/** What the server waits for other primaries unless told (`cacheflow.invalidate-timeout`), in ms. */
const SERVER_TIMEOUT = 1000;

export class Writer {
  readonly #server: Server;
  readonly #local: Local | undefined;
  readonly #events: Events;
  readonly #options: Resolved;
  readonly #queue: Queued[] = [];
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(server: Server, local: Local | undefined, events: Events, options: Resolved) {
    this.#server = server;
    this.#local = local;
    this.#events = events;
    this.#options = options;
  }

  /** Invalidations that are still to be sent. */
  get queued(): number {
    return this.#queue.length;
  }

  // --- values --------------------------------------------------------------------------------
  /** Which of them were stored. @throws EncodeError before any is, ServerError of the first that was refused */
  async set(entries: readonly (readonly [key: string, value: unknown])[], options: SetOptions): Promise<boolean[]> {
    const times = lifetime(options.ttl ?? this.#options.ttl, options.grace ?? this.#options.grace);
    if (times.ttl === 0) throw new ConfigError("bad_duration", "a ttl of 0; delete removes a value");
    const stored: StoreSetOptions = {
      ...times,
      tags: tagList(options.tags),
      when: options.when,
      token: options.token,
      cost: options.cost === undefined ? undefined : milliseconds(options.cost, "cost"),
    };
    const encoded = entries.map(([key, value]) => {
      if (value === undefined) throw new ConfigError("bad_option", "undefined is no value", { key });
      return [key, this.#options.codec.encode(key, value)] as const;
    });
    // With a token it is fenced, and may come late. NX and XX sent twice would answer what the first did.
    const how = { now: options.token === undefined, twice: options.when === undefined };
    const results = await Promise.allSettled(
      encoded.map(([key, data]) => this.#write("set", [key], (store) => store.set(key, data, stored), how)),
    );
    return results.map((result) => {
      if (result.status === "fulfilled") return result.value;
      if (result.reason instanceof Unavailable) return false;
      throw result.reason;
    });
  }

  touch(key: string, options: Pick<SetOptions, "ttl" | "grace" | "token">): Promise<boolean> {
    // Without a time TOUCH repeats the entry's own lengths: the cache's default would be another.
    const times = lifetime(options.ttl, options.grace);
    if (times.ttl === 0 || times.ttl === "forever") {
      throw new ConfigError("bad_duration", "touch takes a ttl with an end, of more than 0", { key });
    }
    return this.#write("touch", [key], (store) => store.touch(key, { ...times, token: options.token }), { now: true });
  }

  /** How many there were; soft: how many were fresh and are stale now. */
  delete(keys: readonly string[], soft: boolean): Promise<number> {
    if (keys.length === 0) return Promise.resolve(0);
    return this.#write("delete", keys, (store) => (soft ? store.expire(keys) : store.delete(keys)), { insist: true });
  }

  increment(key: string, by: number): Promise<number> {
    if (!Number.isSafeInteger(by)) throw new ConfigError("bad_option", "a counter counts in whole numbers", { key });
    return this.#write("incr", [key], (store) => store.increment(key, by), { now: true, twice: false });
  }

  /** Whatever comes of it, the level forgets the keys. */
  async #write<T>(
    detail: string,
    keys: readonly string[],
    work: (store: Store) => Promise<T>,
    { insist = false, ...how }: CallOptions & { readonly insist?: boolean },
  ): Promise<T> {
    const began = performance.now();
    const key = keys[0] as string;
    try {
      const result = await (insist ? this.#server.insist(work, key, how) : this.#server.call(work, key, how));
      this.#events.tell("write", key, performance.now() - began, detail);
      return result;
    } catch (error) {
      this.#events.tell("write", key, performance.now() - began, detail, error);
      throw error;
    } finally {
      this.#local?.drop(keys);
    }
  }

  // --- invalidation --------------------------------------------------------------------------
  /** How many entries it hit, null where the server cannot say. @throws InvalidationError */
  async invalidate(targets: Targets, options: InvalidateOptions): Promise<number | null> {
    const what: Queued = {
      tags: tagList(targets.tags),
      namespaces: tagList(targets.namespaces),
      soft: options.soft ?? false,
      timeout: options.timeout === undefined ? undefined : milliseconds(options.timeout, "timeout"),
    };
    const names = [...what.tags, ...what.namespaces.map((name) => `@${name}`)];
    if (names.length === 0) return 0;
    try {
      return await this.#invalidate(what, names);
    } catch (thrown) {
      if (!(thrown instanceof CacheFlowError)) throw thrown;
      // Of a partial one the server itself does not let go.
      const again = options.retry === true && thrown.code !== "partial" && this.#queue.length < QUEUE && !this.#closed;
      if (again) {
        this.#queue.push(what);
        this.#later(FIRST_PAUSE);
      }
      throw new InvalidationError(thrown.code, thrown.message, names, again, thrown);
    }
  }

  async #invalidate(what: Queued, names: readonly string[]): Promise<number | null> {
    const began = performance.now();
    const detail = what.soft ? "soft" : "hard";
    // The level at once: this process need not wait to be told.
    const here = (): void => {
      for (const name of names) this.#local?.invalidate(name, what.soft);
    };
    here();
    try {
      const extra = what.timeout ?? SERVER_TIMEOUT;
      const hit = await this.#server.insist((store) => store.invalidate(what), names[0], { extra });
      for (const name of names) this.#events.tell("invalidate", name, performance.now() - began, detail);
      return hit;
    } catch (error) {
      for (const name of names) this.#events.tell("invalidate", name, performance.now() - began, detail, error);
      throw error;
    } finally {
      here(); // and what was read meanwhile
    }
  }

  #later(ms: number): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => void this.#drain(ms), ms).unref();
  }

  /** Sends what is queued, the oldest first. */
  async #drain(waited: number): Promise<void> {
    for (let head = this.#queue[0]; head !== undefined && !this.#closed; head = this.#queue[0]) {
      try {
        await this.#invalidate(head, [...head.tags, ...head.namespaces.map((name) => `@${name}`)]);
      } catch (error) {
        if (!(error instanceof CacheFlowError) || error.code !== "partial") {
          this.#timer = undefined;
          this.#later(Math.min(waited * 2, LONGEST_PAUSE));
          return;
        }
      }
      this.#queue.shift();
    }
    this.#timer = undefined;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }
}
