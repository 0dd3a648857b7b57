import type { RedisOptions } from "ioredis";
import { JsonCodec } from "./codecs/framed.js";
import type { Codec } from "./codecs/codec.js";
import { milliseconds, type Duration } from "./duration.js";
import { ConfigError } from "./errors.js";
import type { RedisClient } from "./link/open.js";
import type { Times } from "./store/store.js";

/** A time to live that the server learns from how often the value turns out changed (EXAUTO), between two bounds. */
export interface AutoTtl {
  readonly min: Duration;
  readonly max: Duration;
}

/** How long a value is fresh: a duration, `"forever"`, or {@link AutoTtl}. 0: not to be stored. */
export type Ttl = Duration | "forever" | AutoTtl;

export interface LocalOptions {
  /** What the level may take, by the values as they are stored and 300 bytes an entry. 64 MiB unless named. */
  readonly maxBytes?: number;
  /** For how long an entry is served without asking Redis, whatever its freshness. 60 s unless named. */
  readonly maxTtl?: Duration;
  /** Every so often the watching connection is asked for a sign of life; one missing for as long counts as lost. 1 s. */
  readonly heartbeat?: Duration;
  /**
   * Share one frozen value among all callers, instead of giving each a copy of its own (made anew of its bytes). Faster
   * for large values; altering one throws in strict mode. False unless named.
   */
  readonly share?: boolean;
}

/** Where Redis is: a URL, or several (a cluster), or a client of the application. */
export interface CacheFlowOptions {
  /** `redis://`, `rediss://` (TLS); a list makes a cluster. */
  readonly url?: string | readonly string[];
  /** A client of ioredis or node-redis, connected; it stays the application's, and close() leaves it open. */
  readonly client?: RedisClient;
  /** With url: it is a node of a cluster. */
  readonly cluster?: boolean;
  /** ioredis' options for the connections that url makes: password, tls, sentinels and name, … */
  readonly redis?: Partial<RedisOptions>;
  /** What every key begins with, followed by `:`. Tags are not prefixed: they are shared by all who use the server. */
  readonly namespace?: string;
  /** Of what is stored without naming it. Without: as the namespace is set on the server, else no end. */
  readonly ttl?: Ttl;
  /** For how long a value is served stale, after its ttl, while somebody computes it anew. */
  readonly grace?: Duration;
  /** {@link JsonCodec} unless named. */
  readonly codec?: Codec;
  /** The level in the process. None unless named. */
  readonly local?: boolean | LocalOptions;
  /** Of every command. 500 ms unless named. */
  readonly timeout?: Duration;
  /** How long a caller waits for a value that somebody else computes, before it computes without storing. 10 s. */
  readonly wait?: Duration;
  /** How long a caller that has a stale value waits for the new one. 0 unless named: not at all. */
  readonly softTimeout?: Duration;
  /** How long a getOrSet may take in all before it rejects with `timeout`. Without end unless named. */
  readonly hardTimeout?: Duration;
  /** Connections for callers that wait in the server; the callers of one process share them. 4 unless named. */
  readonly waitingConnections?: number;
  readonly breaker?: {
    /** Failures in a row that open it. 3 unless named. */
    readonly failures?: number;
    /** Before it is probed. 1 s unless named. */
    readonly cooldown?: Duration;
  };
  /** Factories that run at once while Redis is not used. 16 unless named. */
  readonly localLoads?: number;
  /** Refreshes in the background at once; past that the lease is given up. 16 unless named. */
  readonly refreshes?: number;
  /** How long nobody is to try a key whose factory threw, other than its own callers. 0 unless named. */
  readonly retryAfter?: Duration;
  /** `"auto"` asks the server whether it has the module; `"module"` and `"plain"` insist. */
  readonly mode?: "auto" | "module" | "plain";
  /** What ends a namespace on the server (`cacheflow.namespace-delimiter`). `:` unless named. */
  readonly delimiter?: string;
}

export interface ResolvedLocal {
  readonly maxBytes: number;
  readonly maxTtl: number;
  readonly heartbeat: number;
  readonly share: boolean;
}

/** The options checked, in milliseconds. */
export interface Resolved {
  readonly namespace: string;
  readonly prefix: string;
  readonly delimiter: string;
  readonly ttl: Ttl | undefined;
  readonly grace: Duration | undefined;
  readonly codec: Codec;
  readonly local: ResolvedLocal | undefined;
  readonly timeout: number;
  readonly wait: number;
  readonly softTimeout: number;
  readonly hardTimeout: number | undefined;
  readonly waitingConnections: number;
  readonly breakerFailures: number;
  readonly breakerCooldown: number;
  readonly localLoads: number;
  readonly refreshes: number;
  readonly retryAfter: number;
  readonly mode: "auto" | "module" | "plain";
}

function count(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 1) throw new ConfigError("bad_option", `${name} is a whole number from 1 on`);
  return value;
}

function resolveLocal(local: CacheFlowOptions["local"]): ResolvedLocal | undefined {
  if (local === undefined || local === false) return undefined;
  const options = local === true ? {} : local;
  return {
    maxBytes: count(options.maxBytes ?? 64 * 1024 * 1024, "local.maxBytes"),
    maxTtl: milliseconds(options.maxTtl ?? "60s", "local.maxTtl"),
    heartbeat: Math.max(1, milliseconds(options.heartbeat ?? "1s", "local.heartbeat")),
    share: options.share ?? false,
  };
}

/** @throws ConfigError `bad_option`, `bad_duration` */
export function resolve(options: CacheFlowOptions): Resolved {
  const { namespace = "", delimiter = ":", mode = "auto" } = options;
  // The server's namespace ends at the first delimiter: clear() would clear the wrong one.
  if (namespace.includes(delimiter)) throw new ConfigError("bad_option", `a namespace has no ${delimiter} in it`);
  if (!["auto", "module", "plain"].includes(mode)) throw new ConfigError("bad_option", `mode ${mode}`);
  lifetime(options.ttl, options.grace);
  return {
    namespace,
    prefix: namespace === "" ? "" : namespace + delimiter,
    delimiter,
    ttl: options.ttl,
    grace: options.grace,
    codec: options.codec ?? new JsonCodec(),
    local: resolveLocal(options.local),
    timeout: Math.max(1, milliseconds(options.timeout ?? 500, "timeout")),
    wait: milliseconds(options.wait ?? "10s", "wait"),
    softTimeout: milliseconds(options.softTimeout ?? 0, "softTimeout"),
    hardTimeout: options.hardTimeout === undefined ? undefined : milliseconds(options.hardTimeout, "hardTimeout"),
    waitingConnections: count(options.waitingConnections ?? 4, "waitingConnections"),
    breakerFailures: count(options.breaker?.failures ?? 3, "breaker.failures"),
    breakerCooldown: milliseconds(options.breaker?.cooldown ?? "1s", "breaker.cooldown"),
    localLoads: count(options.localLoads ?? 16, "localLoads"),
    refreshes: count(options.refreshes ?? 16, "refreshes"),
    retryAfter: milliseconds(options.retryAfter ?? 0, "retryAfter"),
    mode,
  };
}

/** Ttl and grace in milliseconds. */
export function lifetime(ttl: Ttl | undefined, grace: Duration | undefined): Times {
  const after = grace === undefined ? undefined : milliseconds(grace, "grace");
  if (ttl === undefined) return { grace: after };
  if (ttl === "forever" || ttl === Infinity) return { ttl: "forever" };
  if (typeof ttl === "object") {
    return { ttl: [milliseconds(ttl.min, "ttl.min"), milliseconds(ttl.max, "ttl.max")], grace: after };
  }
  return { ttl: milliseconds(ttl, "ttl"), grace: after };
}

/** Tags as a list; one may be given as it is. */
export function tagList(tags: string | Iterable<string> | undefined): readonly string[] {
  if (tags === undefined) return [];
  return typeof tags === "string" ? [tags] : [...tags];
}
