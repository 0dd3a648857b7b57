/**
 * A CacheStore for undici's cache interceptor: responses of other services, shared by all processes.
 *
 *     const dispatcher = new Agent().compose(interceptors.cache({ store: new UndiciCacheStore(cache) }));
 *     await fetch("https://api.example/products/7", { dispatcher });
 *
 * undici decides what may be stored, whether it is fresh, and when to revalidate; this keeps it until `deleteAt`.
 *
 *     undici:GET:https://api.example/products/7            a response, or {"vary": [names]}: look under …
 *     undici:GET:https://api.example/products/7#<digest>   … the key with these headers
 *
 * Each has the tag `undici:<origin><path>`, which undici's delete invalidates, and those that the response names in
 * Surrogate-Key or Cache-Tag. It is stored with a fencing token that was taken when its headers came: what is
 * invalidated while the body arrives is not stored.
 */
import { Readable, Writable } from "node:stream";
import type { cacheStores } from "undici";
import type { CacheFlow } from "../cache.js";
import { ConfigError } from "../errors.js";
import { tagList } from "../options.js";
import { bytesOf, textOf } from "./body.js";
import { isOurs } from "./errors.js";
import { digest, surrogateTags } from "./http/names.js";

type Store = InstanceType<typeof cacheStores.MemoryCacheStore>;
type CacheKey = Parameters<Store["get"]>[0];
type CacheValue = Parameters<Store["createWriteStream"]>[1];
type GetResult = NonNullable<Awaited<ReturnType<Store["get"]>>>;

export interface UndiciCacheStoreOptions {
  /** In bytes; a longer body is not stored. 5 MiB unless named, as undici's own stores have it. */
  readonly maxEntrySize?: number | undefined;
  /** Tags of a response, beside those that it names itself. */
  readonly tags?: ((key: CacheKey, value: CacheValue) => string | readonly string[]) | undefined;
  /** Headers of responses that name tags. Surrogate-Key and Cache-Tag. */
  readonly tagHeaders?: readonly string[] | undefined;
}

type Entry = Omit<GetResult, "body"> & { readonly body?: string; readonly body64?: string };

/** The body was not to be stored after all. */
class Dropped extends Error {
  override readonly name = "Dropped";
}

const VARY_TTL = 24 * 3_600_000;
const LONGEST = 400;

function isEntry(value: unknown): value is Entry {
  const { statusCode, cachedAt, staleAt, deleteAt, headers } = value as Partial<Entry>;
  return [statusCode, cachedAt, staleAt, deleteAt].every(Number.isFinite) && typeof headers === "object";
}

function namesOf(value: unknown): readonly string[] | undefined {
  const { vary } = value as { readonly vary?: unknown };
  return Array.isArray(vary) ? vary.map(String) : undefined;
}

/** Without what is undefined, which no codec writes. */
function defined(value: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined));
}

export class UndiciCacheStore implements Store {
  readonly #cache: CacheFlow;
  readonly #maxEntrySize: number;
  readonly #tags: UndiciCacheStoreOptions["tags"];
  readonly #tagHeaders: readonly string[];
  /** What is being stored, by the key without headers: who asks now has written it himself, and is to see it. */
  readonly #storing = new Map<string, Promise<void>>();

  /** @throws ConfigError `bad_option` */
  constructor(cache: CacheFlow, options: UndiciCacheStoreOptions = {}) {
    const { maxEntrySize = 5 * 1024 * 1024, tagHeaders = ["surrogate-key", "cache-tag"] } = options;
    if (!Number.isInteger(maxEntrySize) || maxEntrySize < 0) {
      throw new ConfigError("bad_option", "maxEntrySize is a number of bytes");
    }
    this.#cache = cache;
    this.#maxEntrySize = maxEntrySize;
    this.#tags = options.tags;
    this.#tagHeaders = tagHeaders.map((name) => name.toLowerCase());
  }

  static #uri({ origin, path }: CacheKey): string {
    return `${origin}${path}`;
  }

  /** Braces are encoded: in a cluster they would choose the slot. */
  static #base(key: CacheKey): string {
    const uri = UndiciCacheStore.#uri(key).replaceAll("{", "%7B").replaceAll("}", "%7D");
    return `undici:${key.method}:${uri.length > LONGEST ? `${uri.slice(0, 100)}~${digest(uri)}` : uri}`;
  }

  static #varied(base: string, names: readonly string[], headers: CacheKey["headers"]): string {
    const said = [...names].sort().map((name) => [name, headers?.[name] ?? null]);
    return `${base}#${digest(JSON.stringify(said))}`;
  }

  static #tag(key: CacheKey): string {
    const uri = UndiciCacheStore.#uri(key);
    return `undici:${uri.length > LONGEST ? `~${digest(uri)}` : uri}`;
  }

  /** The response, undefined where there is none, it cannot be read, or Redis does not answer. */
  async get(key: CacheKey): Promise<GetResult | undefined> {
    const base = UndiciCacheStore.#base(key);
    await this.#storing.get(base);
    let value = await this.#read(base);
    const names = value === undefined ? undefined : namesOf(value);
    if (names !== undefined) value = await this.#read(UndiciCacheStore.#varied(base, names, key.headers));
    if (typeof value !== "object" || value === null || !isEntry(value) || value.deleteAt <= Date.now())
      return undefined;
    const { body, body64, ...response } = value;
    const bytes = bytesOf({ body, body64 });
    return { ...response, body: bytes.length === 0 ? Readable.from([]) : Readable.from([bytes]) };
  }

  async #read(key: string): Promise<unknown> {
    try {
      return (await this.#cache.get(key)) ?? undefined;
    } catch (error) {
      // No error of the cache is one of the request that undici makes.
      if (isOurs(error)) return undefined;
      throw error;
    }
  }

  /** Takes the body; the response is stored when it ends, unless it is destroyed before, or longer than it may be. */
  createWriteStream(key: CacheKey, value: CacheValue): Writable {
    const chunks: Buffer[] = [];
    let size = 0;
    let store!: (body: Buffer) => void;
    let drop!: (reason: Dropped) => void;
    const body = new Promise<Buffer>((resolve, reject) => {
      store = resolve;
      drop = reject;
    });
    const stored = this.#store(key, value, body);
    return new Writable({
      write: (chunk: Buffer | string, encoding, callback) => {
        const bytes = typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
        size += bytes.length;
        if (size <= this.#maxEntrySize) {
          chunks.push(bytes);
          callback();
        } else {
          // The rest is taken, and nothing kept: an error here would be an error of the response.
          drop(new Dropped("the body is too long"));
          chunks.length = 0;
          callback();
        }
      },
      final: (callback) => {
        store(Buffer.concat(chunks));
        void stored.then(() => {
          callback();
        });
      },
      destroy: (error, callback) => {
        drop(new Dropped("the response did not end"));
        callback(error);
      },
    });
  }

  /** Never rejects: what cannot be stored is told to the cache's listeners. */
  async #store(key: CacheKey, value: CacheValue, body: Promise<Buffer>): Promise<void> {
    const base = UndiciCacheStore.#base(key);
    const left = value.deleteAt - Date.now();
    body.catch(() => undefined); // it may be dropped before anybody waits for it
    if (left <= 0) return;
    const names = value.vary === undefined ? [] : Object.keys(value.vary).map((name) => name.toLowerCase());
    const varied = names.length > 0;
    const named = surrogateTags(this.#tagHeaders.flatMap((name) => [value.headers[name] ?? []].flat()));
    const tags = [...tagList(this.#tags?.(key, value)), ...named, UndiciCacheStore.#tag(key)];
    const work = async (): Promise<void> => {
      const under = varied ? UndiciCacheStore.#varied(base, names, key.headers) : base;
      const factory = async (): Promise<unknown> => ({ ...defined(value), ...textOf(await body) });
      await this.#cache.refresh({ key: under, factory, ttl: left, grace: 0, tags });
      // After the response: a pointer to nothing would send everybody on a way for nothing.
      if (varied) await this.#cache.set(base, { vary: names }, { ttl: Math.max(left, VARY_TTL), grace: 0 });
    };
    const working = work().catch((error: unknown) => {
      if (error instanceof Dropped) return;
      // undici has the response, and answers with it: that it is not stored is no reason to fail it.
      process.emitWarning(`a response of ${key.origin} was not stored: ${String(error)}`, "CacheFlowWarning");
    });
    const ended = body.then(
      () => working,
      () => undefined,
    );
    const done = ended.then(() => {
      if (this.#storing.get(base) === done) this.#storing.delete(base);
    });
    this.#storing.set(base, done);
    await done;
  }

  /** Invalidates what is stored of the address, whatever the method and the headers. */
  async delete(key: CacheKey): Promise<void> {
    try {
      await this.#cache.invalidate([UndiciCacheStore.#tag(key)], { retry: true });
    } catch (error) {
      // undici drops what it rejects with. It is queued, and the cache's listeners were told.
      if (!isOurs(error)) throw error;
      process.emitWarning(`${UndiciCacheStore.#uri(key)} was not invalidated: ${String(error)}`, "CacheFlowWarning");
    }
  }
}
