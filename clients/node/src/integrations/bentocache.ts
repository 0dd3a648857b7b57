/**
 * bentocache on CacheFlow: the driver of its second level, and the bus by which its first levels hear of each other.
 *
 * Namespaces of bentocache are what stands before a `:` of a key, at any depth. Every entry has a tag for each of those
 * it is in, so that clear() is one command, whatever the number of entries, and does not scan.
 *
 * The types are bentocache's contracts, written out: its own would bring those of every database that it can use.
 */
import { Redis, type Cluster, type RedisOptions } from "ioredis";
import type { CacheFlow } from "../cache.js";
import { ConfigError } from "../errors.js";
import type { CacheFlowOptions } from "../options.js";
import { given } from "./given.js";

/** Namespaces in a key that can be cleared, from the first on; what is nested deeper goes with those. */
const DEPTH = 32;

export interface CacheFlowDriverOptions {
  /** A cache, which stays the application's; or the options of one that disconnect() closes. */
  readonly cache: CacheFlow | CacheFlowOptions;
  /** What keys begin with, after the cache's own namespace; bentocache gives its own, `bentocache`. */
  readonly prefix?: string | undefined;
}

/** Values are text, as bentocache's serializer made it. */
export class CacheFlowDriver {
  readonly type = "l2";
  readonly #cache: CacheFlow;
  readonly #owned: boolean;
  readonly #prefix: string;

  /** @throws ConfigError for options that make no sense */
  constructor({ cache, prefix = "" }: CacheFlowDriverOptions) {
    ({ cache: this.#cache, owned: this.#owned } = given(cache));
    this.#prefix = prefix.replace(/:+$/, "");
  }

  /** The tag of all that is in a namespace, given with the prefix; `""`: of all of this cache's. */
  tagOf(namespace: string): string {
    return `bentocache:${this.#cache.fullKey(namespace)}`;
  }

  #key(key: string): string {
    return this.#prefix === "" ? key : `${this.#prefix}:${key}`;
  }

  #tags(full: string): string[] {
    const tags = [this.tagOf("")];
    for (let end = full.indexOf(":"); end >= 0 && tags.length <= DEPTH; end = full.indexOf(":", end + 1)) {
      if (end > 0) tags.push(this.tagOf(full.slice(0, end)));
    }
    return tags;
  }

  /** A driver of what is in the namespace; it ends with this one. */
  namespace(namespace: string): CacheFlowDriver {
    return new CacheFlowDriver({ cache: this.#cache, prefix: this.#key(namespace) });
  }

  /** Undefined where there is none or Redis does not answer. @throws DecodeError, ServerError */
  get(key: string): Promise<string | undefined> {
    return this.#cache.get<string>(this.#key(key));
  }

  /**
   * Reads and removes. Of several callers one gets it; a value that is written between its two commands is removed too.
   * @throws DecodeError, Unavailable, ServerError
   */
  async pull(key: string): Promise<string | undefined> {
    const full = this.#key(key);
    const value = await this.#cache.get<string>(full);
    return value !== undefined && (await this.#cache.delete(full)) > 0 ? value : undefined;
  }

  /** `ttl` in milliseconds; without one it has no end. False: Redis did not take it. @throws EncodeError, ServerError */
  set(key: string, value: string, ttl?: number): Promise<boolean> {
    const full = this.#key(key);
    return this.#cache.set(full, value, {
      ttl: ttl === undefined || ttl === 0 ? "forever" : ttl,
      tags: this.#tags(full),
    });
  }

  /** Removes what is in this namespace, and in those in it. @throws InvalidationError */
  async clear(): Promise<void> {
    await this.#cache.invalidate(this.tagOf(this.#prefix));
  }

  /** Whether there was one. @throws Unavailable, ServerError */
  async delete(key: string): Promise<boolean> {
    return (await this.#cache.delete(this.#key(key))) > 0;
  }

  /** @returns true, as bentocache wants it, whatever there was. @throws Unavailable, ServerError */
  async deleteMany(keys: string[]): Promise<boolean> {
    await this.#cache.delete(keys.map((key) => this.#key(key)));
    return true;
  }

  /** Closes the cache, if it was made here. */
  async disconnect(): Promise<void> {
    if (this.#owned) await this.#cache.close();
  }
}

/** `bentostore().useL2Layer(cacheflowDriver({ cache }))` */
export function cacheflowDriver(options: CacheFlowDriverOptions): {
  options: CacheFlowDriverOptions;
  factory: (config: CacheFlowDriverOptions) => CacheFlowDriver;
} {
  return { options, factory: (config) => new CacheFlowDriver(config) };
}

// --- the bus ---------------------------------------------------------------------------------

/** What goes over the bus: JSON. */
type Message = string | number | boolean | null | Message[] | { [name: string]: Message };
type Handler = (payload: never) => void | Promise<void>;

export interface CacheFlowBusOptions {
  /** `redis://` or `rediss://`. */
  readonly url?: string;
  /** ioredis' options: password, tls, sentinels and name, … */
  readonly redis?: Partial<RedisOptions>;
  /** A client of ioredis: two copies of it are made. */
  readonly client?: Redis | Cluster;
  /** bentocache's own: how it sends again what could not be sent. */
  readonly retryQueue?: { enabled?: boolean; maxSize?: number; retryInterval?: number | string | false };
}

/** A message is sent or refused at once: bentocache keeps those to be sent again. */
const SENDS = { maxRetriesPerRequest: 0, replyMapping: "legacy" } as const;
/** Who listens does so as soon as Redis is there: bentocache does not ask whether it could. */
const LISTENS = { maxRetriesPerRequest: null, replyMapping: "legacy" } as const;

/**
 * Messages by Redis' publish and subscribe, on two connections, which last until disconnect(). A process whose
 * connection broke is not told what it has missed.
 */
export class CacheFlowBus {
  readonly #publisher: Redis | Cluster;
  readonly #subscriber: Redis | Cluster;
  readonly #handlers = new Map<string, Set<Handler>>();
  #id = "";
  #closed = false;

  /** @throws ConfigError `bad_option` unless it is told where Redis is, once */
  constructor({ url, redis, client }: CacheFlowBusOptions) {
    if ((client === undefined) === (url === undefined && redis === undefined)) {
      throw new ConfigError("bad_option", "a bus needs a client, or a url or options of redis");
    }
    const connect = (how: typeof SENDS | typeof LISTENS): Redis | Cluster => {
      if (client?.isCluster === true) return (client as Cluster).duplicate();
      if (client !== undefined) return (client as Redis).duplicate(how);
      return url === undefined ? new Redis({ ...redis, ...how }) : new Redis(url, { ...redis, ...how });
    };
    [this.#publisher, this.#subscriber] = [connect(SENDS), connect(LISTENS)];
    for (const connection of [this.#publisher, this.#subscriber]) {
      connection.on("error", () => undefined); // told by the command that fails; the event needs a listener
    }
    this.#subscriber.on("message", (channel: string, text: string) => {
      this.#receive(channel, text);
    });
  }

  #receive(channel: string, text: string): void {
    const handlers = this.#handlers.get(channel);
    if (handlers === undefined) return;
    let message: { busId?: unknown; payload?: unknown } | null;
    try {
      message = JSON.parse(text) as { busId?: unknown; payload?: unknown } | null;
    } catch {
      process.emitWarning(`a message on ${channel} is not of this bus`, "CacheFlowWarning");
      return;
    }
    if (message?.busId === this.#id) return;
    for (const handler of handlers) void handler(message?.payload as never);
  }

  /** What this process' own messages are told by. */
  setId(id: string): this {
    this.#id = id;
    return this;
  }

  onReconnect(callback: () => void): void {
    this.#subscriber.on("reconnecting", callback);
  }

  /** Rejects where it cannot be sent. */
  async publish(channel: string, payload: Message): Promise<void> {
    await this.#publisher.publish(channel, JSON.stringify({ busId: this.#id, payload }));
  }

  /** Resolves when it is heard by; at the end by disconnect(). @throws what the server answers, NOPERM above all */
  async subscribe(channel: string, handler: Handler): Promise<void> {
    const handlers = this.#handlers.get(channel) ?? new Set();
    this.#handlers.set(channel, handlers.add(handler));
    try {
      await this.#subscriber.subscribe(channel);
    } catch (error) {
      if (!this.#closed) throw error;
    }
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#handlers.delete(channel);
    await this.#subscriber.unsubscribe(channel);
  }

  disconnect(): Promise<void> {
    this.#closed = true;
    this.#publisher.disconnect();
    this.#subscriber.disconnect();
    return Promise.resolve();
  }
}

/** `bentostore().useBus(cacheflowBus({ url }))` */
export function cacheflowBus(options: CacheFlowBusOptions): {
  options: CacheFlowBusOptions;
  factory: () => CacheFlowBus;
} {
  return { options, factory: () => new CacheFlowBus(options) };
}
