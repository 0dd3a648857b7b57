import type { KeyValueCache, KeyValueCacheSetOptions } from "@apollo/utils.keyvaluecache";
import type { CacheFlow } from "../../cache.js";

export interface KeyValueSetOptions extends KeyValueCacheSetOptions {
  readonly tags?: string | readonly string[] | undefined;
}

/** What Apollo Server (`cache`) and its data sources keep text in: persisted queries, responses of REST. */
export class CacheFlowKeyValueCache implements KeyValueCache<string, KeyValueSetOptions> {
  readonly #cache: CacheFlow;

  constructor(cache: CacheFlow) {
    this.#cache = cache;
  }

  /** Undefined where there is none or Redis does not answer. @throws DecodeError, ServerError */
  get(key: string): Promise<string | undefined> {
    return this.#cache.get<string>(key);
  }

  /**
   * `ttl` in seconds; null: without end; without: the cache's own; 0 or less removes the value. Where Redis does not
   * answer nothing is stored. @throws EncodeError, ServerError; Unavailable where a value was to be removed
   */
  async set(key: string, value: string, { ttl, tags }: KeyValueSetOptions = {}): Promise<void> {
    if (typeof ttl === "number" && ttl <= 0) await this.#cache.delete(key);
    else await this.#cache.set(key, value, { ttl: ttl === null ? "forever" : ttl && ttl * 1000, tags });
  }

  /** Whether there was one. @throws Unavailable, ServerError */
  async delete(key: string): Promise<boolean> {
    return (await this.#cache.delete(key)) > 0;
  }
}
