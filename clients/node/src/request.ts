import type { LoadContext } from "./context.js";
import type { Duration } from "./duration.js";
import { milliseconds } from "./duration.js";
import type { Places } from "./limiter.js";
import type { Resolved, Ttl } from "./options.js";
import type { FetchOptions } from "./store/store.js";

/** Makes the value. What it throws is thrown to who asked, as it is. */
export type Factory<T> = (context: LoadContext<T>) => T | Promise<T>;

export interface LoadOptions<T> {
  readonly ttl?: Ttl | undefined;
  readonly grace?: Duration | undefined;
  /** What the value is made from: a list, or a function of the value. */
  readonly tags?: string | readonly string[] | ((value: T) => string | readonly string[]) | undefined;
  /**
   * How long a `null` is fresh (it has no grace then): "there is none" is worth knowing, and changes sooner. Without, a
   * null is a value like any other.
   */
  readonly negativeTtl?: Duration | undefined;
  /** The oldest staleness accepted; 0 insists on fresh. Without: any within the grace. */
  readonly maxStale?: Duration | undefined;
  /** How long the computation may take before somebody else tries. Without: as the server has measured. */
  readonly lease?: Duration | undefined;
  /** How eagerly values are refreshed before they end (XFetch's beta); 0: not at all. Without: as the server is set. */
  readonly beta?: number | undefined;
  readonly wait?: Duration | undefined;
  readonly softTimeout?: Duration | undefined;
  readonly hardTimeout?: Duration | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface GetOrSetOptions<T> extends LoadOptions<T> {
  /** Without the namespace. */
  readonly key: string;
  readonly factory: Factory<T>;
}

/** Where a value came from. */
export type Source = "l1" | "redis" | "loader" | "l1_stale";

/** A value and what is known of it. */
export interface Entry<T> {
  readonly value: T;
  readonly source: Source;
  readonly state: "fresh" | "stale";
}

/** What a key that is one of many has of its own. */
export interface Part {
  /** Told when it is known what becomes of the key for now: it waits for others, or is in need of the factory. */
  readonly decided: () => void;
  /** Where the many have one place together. */
  readonly refreshes: Places;
  readonly localLoads: Places;
}

/** What getOrSet was asked for, in milliseconds and with the defaults of the cache. */
export interface Request {
  readonly key: string;
  readonly factory: Factory<unknown>;
  readonly options: LoadOptions<unknown>;
  readonly fetch: FetchOptions;
  readonly ttl: Ttl | undefined;
  readonly grace: Duration | undefined;
  readonly wait: number;
  readonly softTimeout: number;
  readonly part: Part | undefined;
}

export function request(key: string, options: GetOrSetOptions<unknown>, defaults: Resolved, part?: Part): Request {
  const { maxStale, lease, wait, softTimeout } = options;
  return {
    key,
    factory: options.factory,
    options,
    fetch: {
      maxStale: maxStale === undefined ? undefined : milliseconds(maxStale, "maxStale"),
      lease: lease === undefined ? undefined : milliseconds(lease, "lease"),
      beta: options.beta,
      withTags: defaults.local !== undefined,
    },
    ttl: options.ttl ?? defaults.ttl,
    grace: options.grace ?? defaults.grace,
    wait: wait === undefined ? defaults.wait : milliseconds(wait, "wait"),
    softTimeout: softTimeout === undefined ? defaults.softTimeout : milliseconds(softTimeout, "softTimeout"),
    part,
  };
}
