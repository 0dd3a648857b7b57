/**
 * A cacheHandler for Next.js 15 and 16: ISR pages, route handlers and fetch's data cache in Redis, shared by all
 * instances.
 *
 *     // cache-handler.mjs
 *     export default nextCacheHandler(() => new CacheFlow({ url: process.env.REDIS_URL, namespace: "web" }));
 *     // next.config.mjs
 *     export default { cacheHandler: import.meta.resolve("./cache-handler.mjs"), cacheMaxMemorySize: 0 };
 *
 *     next:fetch:<key>                  of fetch, for all builds
 *     next:page:<build>:<path>          of pages, whose scripts are those of one build
 *     next:path:<tag>                   when a path was revalidated, in Unix milliseconds
 *
 * revalidateTag invalidates the tag in all of Redis at once. Of a path it also leaves a mark: what fetch stored while
 * rendering the path does not have the path's tags, and is compared with the mark when it is read.
 *
 * Next asks with get, renders where there is nothing, and calls set. A get that finds nothing, or what is due, takes a
 * fencing token, with which set stores: what was revalidated while it was rendered is not stored. Nobody waits for the
 * token, for Next does not say when it gives up.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type {
  CacheHandler,
  CacheHandlerContext,
  CacheHandlerValue,
} from "next/dist/server/lib/incremental-cache/index.js";
import type { CacheFlow } from "../cache.js";
import { milliseconds, type Duration } from "../duration.js";
import { bytesOf, textOf } from "./body.js";
import { isOurs } from "./errors.js";

type GetContext = Parameters<CacheHandler["get"]>[1];
type SetContext = Parameters<CacheHandler["set"]>[2];
type CacheValue = NonNullable<Parameters<CacheHandler["set"]>[1]>;
type Plain = Readonly<Record<string, unknown>>;

export interface NextCacheOptions {
  /** What nobody has asked to be revalidated is kept for so long, if Next names no end. 30 days unless named. */
  readonly maxTtl?: Duration | undefined;
  /** The build that pages are of. What Next wrote into BUILD_ID unless named. */
  readonly buildId?: string | undefined;
  /** For how long a token is good: the longest that a page takes to render. 30 s unless named. */
  readonly lease?: Duration | undefined;
  /** What tags of Next begin with in Redis, whose tags are shared by all who use it. `next:` unless named. */
  readonly tagPrefix?: string | undefined;
}

interface Entry {
  readonly lastModified: number;
  readonly value: Plain | null;
  readonly cacheControl?: { readonly revalidate: number | false; readonly expire: number | undefined };
  /** Marks of paths, as they were when it was asked for. */
  readonly paths: Readonly<Record<string, number>>;
}

/** What is computed because a get found nothing, or what was due. */
interface Asked {
  /** To store with; null where somebody else has it, or it was used. */
  token: number | null;
  /** How many gets are to be followed by a set. */
  times: number;
  /** Unix milliseconds. */
  readonly until: number;
  readonly paths: Readonly<Record<string, number>>;
}

const IMPLICIT = "_N_T_";
const TAGS_HEADER = "x-next-cache-tags";
/** Fields of values that are bytes. */
const BYTES = ["rscData", "body", "buffer"] as const;

function pack(value: CacheValue): Plain {
  const fields: Record<string, unknown> = { ...value };
  for (const name of BYTES) {
    if (Buffer.isBuffer(fields[name])) fields[name] = textOf(fields[name]);
  }
  if (fields.segmentData instanceof Map) {
    const segments = fields.segmentData as ReadonlyMap<string, Buffer>;
    fields.segmentData = [...segments].map(([path, data]) => [path, textOf(data)]);
  }
  // What is undefined is not there, as in a file of Next's own.
  return JSON.parse(JSON.stringify(fields)) as Plain;
}

function unpack(packed: Plain): CacheValue {
  const fields: Record<string, unknown> = { ...packed };
  for (const name of BYTES) {
    const field = fields[name];
    if (typeof field === "object" && field !== null) fields[name] = bytesOf(field);
  }
  if (Array.isArray(fields.segmentData)) {
    const segments = fields.segmentData as readonly (readonly [string, object])[];
    fields.segmentData = new Map(segments.map(([path, data]) => [path, bytesOf(data)]));
  }
  return fields as unknown as CacheValue;
}

function isEntry(value: unknown): value is Entry {
  if (typeof value !== "object" || value === null) return false;
  const { lastModified, paths, value: inner } = value as Partial<Entry>;
  return typeof lastModified === "number" && typeof paths === "object" && typeof inner === "object";
}

function tagsOf(value: CacheValue | null, context: SetContext): string[] {
  const named = [...((context.fetchCache === true && context.tags) || [])];
  if (value === null) return named;
  const fields = value as { readonly tags?: readonly string[]; readonly headers?: Plain };
  const header = fields.headers?.[TAGS_HEADER];
  return [...named, ...(fields.tags ?? []), ...(typeof header === "string" ? header.split(",") : [])];
}

/** How long after `lastModified` Next has it computed anew, in ms; undefined: never of itself. */
function due({ value, cacheControl }: Entry, context: GetContext): number | undefined {
  const own = value !== null && typeof value.revalidate === "number" ? value.revalidate : undefined;
  const named = "revalidate" in context ? context.revalidate : undefined;
  const seconds = (typeof named === "number" ? named : undefined) ?? own ?? cacheControl?.revalidate;
  return typeof seconds === "number" ? seconds * 1000 : undefined;
}

/** One build's cache, whatever the number of handlers that Next makes. */
class Shared {
  readonly lease: number;
  readonly maxTtl: number;
  readonly #tagPrefix: string;
  readonly #make: () => CacheFlow;
  readonly #builds = new Map<string, string>();
  readonly #buildId: string | undefined;
  #cache: CacheFlow | undefined;

  constructor(make: () => CacheFlow, options: NextCacheOptions) {
    this.#make = make;
    this.#buildId = options.buildId;
    this.#tagPrefix = options.tagPrefix ?? "next:";
    this.maxTtl = milliseconds(options.maxTtl ?? "30d", "maxTtl");
    this.lease = milliseconds(options.lease ?? "30s", "lease");
  }

  /** Made when it is first needed: Next loads the module where nothing is cached, too. */
  get cache(): CacheFlow {
    this.#cache ??= this.#make();
    return this.#cache;
  }

  tags(names: readonly string[]): string[] {
    return [...new Set(names.filter((name) => name !== ""))].map((name) => this.#tagPrefix + name);
  }

  build(directory: string | undefined): string {
    if (this.#buildId !== undefined) return this.#buildId;
    if (directory === undefined) return "";
    let build = this.#builds.get(directory);
    if (build === undefined) {
      try {
        build = readFileSync(join(directory, "..", "BUILD_ID"), "utf8").trim();
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        return ""; // in development; a build has it before it renders
      }
      this.#builds.set(directory, build);
    }
    return build;
  }

  /** Next renders without a cache that fails; an error here would be the page's. */
  async quietly<T>(work: (cache: CacheFlow) => Promise<T>): Promise<T | undefined> {
    try {
      return await work(this.cache);
    } catch (error) {
      if (isOurs(error)) return undefined; // which the cache's listeners were told
      throw error;
    }
  }
}

class Handler implements CacheHandler {
  readonly #shared: Shared;
  readonly #build: string;
  readonly #asked = new Map<string, Asked>();

  constructor(shared: Shared, context: CacheHandlerContext) {
    this.#shared = shared;
    this.#build = shared.build(context.serverDistDir);
  }

  #key(key: string, fetched: boolean): string {
    return fetched ? `next:fetch:${key}` : `next:page:${this.#build}:${key}`;
  }

  /** The entry, null where there is none. What was revalidated softly is told to be due. */
  async get(cacheKey: string, context: GetContext): Promise<CacheHandlerValue | null> {
    const key = this.#key(cacheKey, (context.kind as string) === "FETCH");
    const soft = "softTags" in context ? (context.softTags ?? []) : [];
    const marks = soft.map((tag) => `next:path:${tag}`);
    const found = await this.#shared.quietly((cache) => cache.getMany([key, ...marks]));
    const paths: Record<string, number> = {};
    soft.forEach((tag, at) => {
      const mark = found?.get(marks[at] as string);
      if (typeof mark === "number") paths[tag] = mark;
    });
    let value = found?.get(key);
    const stale = value === undefined && found !== undefined;
    if (stale) value = await this.#shared.quietly((cache) => cache.get(key, { stale: true }));
    const entry = isEntry(value) && this.#holds(value, paths) ? value : undefined;
    const wait = entry === undefined ? undefined : due(entry, context);
    const isDue = stale || (wait !== undefined && (entry?.lastModified ?? 0) + wait < Date.now());
    if (entry === undefined || isDue) await this.#ask(key, paths);
    if (entry === undefined) return null;
    // Due for a second, and no longer: past its `expire` Next would have the client wait.
    const lastModified = stale ? Date.now() - (wait ?? 0) - 1000 : entry.lastModified;
    const control = stale && wait === undefined ? { ...entry.cacheControl, revalidate: 0.5 } : entry.cacheControl;
    return {
      lastModified,
      value: entry.value === null ? null : unpack(entry.value),
      ...(control === undefined ? {} : { cacheControl: control as NonNullable<CacheHandlerValue["cacheControl"]> }),
    };
  }

  /** Whether no path that it is asked for was revalidated since it was. */
  #holds(entry: Entry, paths: Readonly<Record<string, number>>): boolean {
    return Object.entries(paths).every(([tag, mark]) => {
      const seen = entry.paths[tag];
      return seen === undefined ? mark < entry.lastModified : seen === mark;
    });
  }

  async #ask(key: string, paths: Readonly<Record<string, number>>): Promise<void> {
    const { lease } = this.#shared;
    const lock = await this.#shared.quietly((cache) => cache.tryLock(key, { ttl: lease }));
    const until = Date.now() + lease;
    const before = this.#asked.get(key);
    if (lock === undefined && before !== undefined) before.times += 1;
    else this.#asked.set(key, { token: lock?.token ?? null, paths, times: (before?.times ?? 0) + 1, until });
  }

  /** Stores, unless somebody else is about to, or what it was made from was revalidated meanwhile. */
  async set(cacheKey: string, data: CacheValue | null, context: SetContext): Promise<void> {
    const key = this.#key(cacheKey, context.fetchCache === true);
    const asked = this.#asked.get(key);
    const token = asked?.token;
    if (asked !== undefined) {
      asked.token = null;
      asked.times -= 1;
      if (asked.times === 0) this.#asked.delete(key);
    }
    if (token === null) return;
    const control = "cacheControl" in context ? context.cacheControl : undefined;
    const entry: Entry = {
      lastModified: Date.now(),
      value: data === null ? null : pack(data),
      paths: asked?.paths ?? {},
      ...(control === undefined
        ? {}
        : { cacheControl: JSON.parse(JSON.stringify(control)) as NonNullable<Entry["cacheControl"]> }),
    };
    const ttl = control?.expire === undefined ? this.#shared.maxTtl : Math.max(1, control.expire * 1000);
    await this.#shared.quietly((cache) =>
      cache.set(key, entry, {
        ttl: Math.min(ttl, this.#shared.maxTtl),
        grace: 0,
        tags: this.#shared.tags(tagsOf(data, context)),
        token,
      }),
    );
  }

  /**
   * Invalidates what has one of the tags; with `expire` above 0 it is stale, to be served while it is rendered anew.
   * Rejects where it is not known to be done, and goes on trying.
   */
  async revalidateTag(tags: string | string[], durations?: { expire?: number }): Promise<void> {
    const names = typeof tags === "string" ? [tags] : tags;
    if (names.length === 0) return;
    const { cache, maxTtl } = this.#shared;
    const marks = names
      .filter((name) => name.startsWith(IMPLICIT))
      .map((name) => [`next:path:${name}`, Date.now()] as const);
    if (marks.length > 0) await cache.setMany(marks, { ttl: maxTtl, grace: 0 });
    const soft = durations !== undefined && durations.expire !== 0;
    await cache.invalidate(this.#shared.tags(names), { soft, retry: true });
  }

  /**
   * Nothing is kept of one request for the next. Other requests may be under way, in some versions by the same handler:
   * only tokens that have run out are forgotten.
   */
  resetRequestCache(): void {
    const now = Date.now();
    for (const [key, { until }] of this.#asked) if (until < now) this.#asked.delete(key);
  }
}

/** A class for Next's `cacheHandler`. `make` is called once, when there is something to be cached. */
export function nextCacheHandler(
  make: () => CacheFlow,
  options: NextCacheOptions = {},
): new (context: CacheHandlerContext) => CacheHandler {
  const shared = new Shared(make, options);
  return class extends Handler {
    constructor(context: CacheHandlerContext) {
      super(shared, context);
    }
  };
}
