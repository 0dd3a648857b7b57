/** What the application says about the caching of its responses. */
import type { IncomingMessage } from "node:http";
import { milliseconds, type Duration } from "../../duration.js";
import { ConfigError } from "../../errors.js";
import { tagList } from "../../options.js";
import type { Times } from "./rules.js";

/** How responses are cached; `R` is the framework's request. */
export interface HttpOptions<R> {
  /** Fresh for so long, where the response itself has no max-age, s-maxage or Expires. None: only what says so itself. */
  readonly ttl?: Duration | undefined;
  /**
   * Then served stale while one request computes it anew, unless the response forbids it or names its own
   * (stale-while-revalidate, stale-if-error). 0 unless named.
   */
  readonly grace?: Duration | undefined;
  /** Of 404 and 410, at most. 10 s unless named. */
  readonly negativeTtl?: Duration | undefined;
  /**
   * Of every response; `"product:{id}"` has the path's parameter in it. Or a function of the request, called when the
   * response is there.
   */
  readonly tags?: string | readonly string[] | ((request: R) => string | readonly string[]) | undefined;
  /** Headers of the request that are part of every key; those of the response's Vary are besides. */
  readonly vary?: readonly string[] | undefined;
  /** Names of query parameters that are part of the key, and all that the application sees. None named: all are. */
  readonly query?: readonly string[] | undefined;
  /** In bytes; a longer response is passed by. 1 MiB unless named. */
  readonly maxBody?: number | undefined;
  /**
   * Headers whose presence means that a request is of somebody in particular: `authorization` and `x-api-key` unless
   * named. Of responses to such requests only those are stored, and shared among such requests, that say by public,
   * s-maxage or must-revalidate that they are for everybody (RFC 9111, 3.5).
   */
  readonly credentialHeaders?: readonly string[] | undefined;
  /** Cookies of that kind. Any cookie unless named; name those that log somebody in, and responses are shared by the rest. */
  readonly credentialCookies?: readonly string[] | undefined;
  /** What browsers are told (max-age), while shared caches are told the freshness (s-maxage). The same unless named. */
  readonly browserTtl?: Duration | undefined;
  /** For how long requests for what cannot be stored do not wait for each other; remembered per key. 10 s unless named. */
  readonly passTtl?: Duration | undefined;
  /** Whether no-cache, max-age and min-fresh of requests have a response computed anew. True unless named. */
  readonly obeyRequests?: boolean | undefined;
  /** In which the tags are told to a CDN, and read from what the application sets. Surrogate-Key and Cache-Tag. */
  readonly tagHeaders?: readonly string[] | undefined;
  /** This cache's name in Cache-Status (RFC 9211), `""` for no such header. `cacheflow` unless named. */
  readonly cacheStatus?: string | undefined;
  /** Whether to cache a request at all. All unless named. */
  readonly when?: ((request: R) => boolean) | undefined;
  /** Whether a successful POST, PUT, PATCH or DELETE invalidates what is stored of its path. True unless named. */
  readonly invalidateUnsafe?: boolean | undefined;
}

/** The options checked: durations in seconds, names in lower case. */
export interface Policy<R> {
  readonly times: Times;
  readonly tags: HttpOptions<R>["tags"];
  readonly vary: readonly string[];
  readonly query: ReadonlySet<string> | undefined;
  readonly maxBody: number;
  readonly credentialHeaders: readonly string[];
  readonly credentialCookies: ReadonlySet<string> | undefined;
  readonly browserTtl: number | undefined;
  readonly passTtl: number;
  readonly obeyRequests: boolean;
  readonly tagHeaders: readonly string[];
  readonly cacheStatus: string;
  readonly when: ((request: R) => boolean) | undefined;
  readonly invalidateUnsafe: boolean;
}

/** A string would do as a list, of its letters. */
function listed(list: readonly string[] | undefined, name: string): readonly string[] | undefined {
  if (typeof list === "string") throw new ConfigError("bad_option", `${name} is a list of names`);
  return list;
}

function lower(list: readonly string[] | undefined, fallback: readonly string[], name: string): string[] {
  return (listed(list, name) ?? fallback).map((item) => item.toLowerCase());
}

/** @throws ConfigError `bad_option`, `bad_duration` */
export function policyOf<R>(options: HttpOptions<R>): Policy<R> {
  const { maxBody = 1024 * 1024 } = options;
  if (!Number.isInteger(maxBody) || maxBody < 1) throw new ConfigError("bad_option", "maxBody is 1 byte or more");
  const query = listed(options.query, "query");
  const credentialCookies = listed(options.credentialCookies, "credentialCookies");
  const seconds = (duration: Duration, name: string): number => milliseconds(duration, name) / 1000;
  return {
    times: {
      ttl: options.ttl === undefined ? undefined : seconds(options.ttl, "ttl"),
      negativeTtl: seconds(options.negativeTtl ?? "10s", "negativeTtl"),
      grace: seconds(options.grace ?? 0, "grace"),
    },
    tags: options.tags,
    vary: lower(options.vary, [], "vary"),
    query: query === undefined ? undefined : new Set(query),
    maxBody,
    credentialHeaders: lower(options.credentialHeaders, ["authorization", "x-api-key"], "credentialHeaders"),
    credentialCookies: credentialCookies === undefined ? undefined : new Set(credentialCookies),
    browserTtl: options.browserTtl === undefined ? undefined : seconds(options.browserTtl, "browserTtl"),
    passTtl: seconds(options.passTtl ?? "10s", "passTtl"),
    obeyRequests: options.obeyRequests ?? true,
    tagHeaders: lower(options.tagHeaders, ["surrogate-key", "cache-tag"], "tagHeaders"),
    cacheStatus: options.cacheStatus ?? "cacheflow",
    when: options.when,
    invalidateUnsafe: options.invalidateUnsafe ?? true,
  };
}

/** The policy's tags of a request that was routed. @throws ConfigError `bad_template`: the path has no such parameter */
export function tagsOf<R>(policy: Policy<R>, request: R, parameters: Readonly<Record<string, unknown>>): string[] {
  const { tags } = policy;
  if (typeof tags === "function") return [...tagList(tags(request))];
  return tagList(tags).map((tag) =>
    tag.replace(/\{(\w+)\}/g, (_, name: string) => {
      const value = parameters[name];
      if (typeof value !== "string") throw new ConfigError("bad_template", `${tag}: the path has no parameter ${name}`);
      return value;
    }),
  );
}

/** What the application adds while it computes, by Node's request. */
const gathered = new WeakMap<IncomingMessage, string[]>();

/** From now on tags of this request are gathered; the list. */
export function gather(request: IncomingMessage): string[] {
  const tags: string[] = [];
  gathered.set(request, tags);
  return tags;
}

/**
 * Tags of the response that is being computed, for what is known only by then. `request` is the framework's or Node's
 * own. Without a cache in front it does nothing.
 */
export function addTags(request: IncomingMessage | { readonly raw: IncomingMessage }, ...tags: string[]): void {
  gathered.get("raw" in request ? request.raw : request)?.push(...tags);
}
