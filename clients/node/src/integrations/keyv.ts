/**
 * A Keyv storage adapter: `new Keyv({ store: new CacheFlowStore(cache) })`, and so a store for cache-manager, cacheable
 * and NestJS' cache module.
 *
 * Every entry carries a tag for all of the adapter's and one for Keyv's namespace, so that clear() is one command,
 * whatever the number of entries, and reaches nothing else that the cache holds. There is no iterator: nothing here
 * walks the keyspace.
 */
import { EventEmitter } from "node:events";
import type { KeyvStoreAdapter, StoredData } from "keyv";
import type { CacheFlow } from "../cache.js";
import type { CacheFlowOptions } from "../options.js";
import { given } from "./given.js";

export interface CacheFlowStoreOptions {
  /** More tags of an entry, by its key as Keyv gives it: with Keyv's namespace before it. */
  readonly tags?: ((key: string) => string | readonly string[]) | undefined;
}

/** Serves one Keyv: it is Keyv that sets `namespace`. Give each its own; they may share a cache. */
export class CacheFlowStore extends EventEmitter implements KeyvStoreAdapter {
  /** Set by Keyv. */
  namespace: string | undefined;
  /** Keyv looks for options of the store here. */
  readonly opts: Record<string, unknown> = {};
  readonly cache: CacheFlow;
  readonly #owned: boolean;
  readonly #tags: CacheFlowStoreOptions["tags"];

  /**
   * @param cache A cache, which stays the application's; or the options of one that disconnect() closes.
   * @throws ConfigError for options that make no sense
   */
  constructor(cache: CacheFlow | CacheFlowOptions, options: CacheFlowStoreOptions = {}) {
    super();
    ({ cache: this.cache, owned: this.#owned } = given(cache));
    this.#tags = options.tags;
  }

  /** The tag of every entry of a namespace of Keyv's; without one, of all that adapters on this cache have stored. */
  tagOf(namespace?: string): string {
    return `keyv:${this.cache.fullKey(namespace ?? "")}`;
  }

  #tagsOf(key: string): string[] {
    const own = this.namespace === undefined ? [] : [this.tagOf(this.namespace)];
    return [this.tagOf(), ...own, ...[this.#tags?.(key) ?? []].flat()];
  }

  /** What was stored; undefined where there is none or Redis does not answer. @throws DecodeError, ServerError */
  async get<Value>(key: string): Promise<StoredData<Value> | undefined> {
    try {
      return await this.cache.get<StoredData<Value>>(key);
    } catch (error) {
      // Of what a store's get throws Keyv tells nobody unless told to throw.
      if (this.listenerCount("error") > 0) this.emit("error", error);
      throw error;
    }
  }

  /** In the order of the keys. @throws DecodeError, ServerError */
  async getMany<Value>(keys: string[]): Promise<StoredData<Value | undefined>[]> {
    const found = await this.cache.getMany<StoredData<Value>>(keys);
    return keys.map((key) => found.get(key));
  }

  /**
   * `ttl` in milliseconds; without, the cache's own. False: Redis did not take it.
   * @throws EncodeError, ServerError, ConfigError for a ttl that is none
   */
  set(key: string, value: unknown, ttl?: number): Promise<boolean> {
    return this.cache.set(key, value, { ttl, tags: this.#tagsOf(key) });
  }

  /** Whether there was one. @throws Unavailable, ServerError */
  async delete(key: string): Promise<boolean> {
    return (await this.cache.delete(key)) > 0;
  }

  /** Whether there was any. @throws Unavailable, ServerError */
  async deleteMany(keys: string[]): Promise<boolean> {
    return (await this.cache.delete(keys)) > 0;
  }

  /** Whether there is a fresh value. @throws DecodeError, ServerError */
  async has(key: string): Promise<boolean> {
    return (await this.cache.get(key)) !== undefined;
  }

  /** In the order of the keys. @throws DecodeError, ServerError */
  async hasMany(keys: string[]): Promise<boolean[]> {
    const found = await this.cache.getMany(keys);
    return keys.map((key) => found.has(key));
  }

  /** Removes what was stored in Keyv's namespace; without one, all that adapters on this cache did. @throws InvalidationError */
  async clear(): Promise<void> {
    await this.cache.invalidate(this.tagOf(this.namespace));
  }

  /** Closes the cache, if it was made here. */
  async disconnect(): Promise<void> {
    if (this.#owned) await this.cache.close();
  }
}
