/**
 * What RFC 9111 (caching), RFC 5861 (stale responses) and RFC 9110 (conditional requests) make of headers.
 *
 * Functions of headers alone: no clock, no cache. Where the RFCs leave a choice the cautious one is taken:
 *
 * - A response with Set-Cookie is not stored (RFC 9111, 7.3 only warns of it).
 * - `no-cache` and `private` with field names are taken as if they had none.
 * - A freshness that cannot be read, or is given twice and differs, is none.
 * - 5xx, 206 and 304 are not stored, whatever they say.
 */

/** Headers as Node has them: names in lower case. */
export type Headers = Readonly<Record<string, number | string | readonly string[] | undefined>>;
/** Cache-Control by directive, in lower case; undefined where one has no argument. */
export type Directives = ReadonlyMap<string, string | undefined>;

/** Statuses that may be stored without the response saying for how long (RFC 9110, 15.1; not 206, 405, 414, 501). */
const HEURISTIC: ReadonlySet<number> = new Set([200, 203, 204, 300, 301, 308, 404, 410]);
const NEGATIVE: ReadonlySet<number> = new Set([404, 410]);
const NEVER: ReadonlySet<number> = new Set([206, 304]);
/** Of one connection, or of one exchange: not part of what is stored (RFC 9111, 3.1). */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
const DIRECTIVE = /([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*)))?/g;
const ETAG = /(?:W\/)?"[^"]*"|\*/g;
/** The three forms of RFC 9110, 5.6.7. `Date` itself takes "0" for the year 2000. */
const DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\d\d:\d\d:\d\d( GMT| \d{4})$/;
const LONGEST = 2 ** 31; // seconds; RFC 9111, 1.2.2

/** The values of a header, in order. */
export function values(headers: Headers, name: string): string[] {
  const value = headers[name];
  if (value === undefined) return [];
  return typeof value === "object" ? [...value] : [String(value)];
}

/** The first value of a header; undefined where there is none. */
export function first(headers: Headers, name: string): string | undefined {
  return values(headers, name)[0]?.trim();
}

export function directives(headers: Headers, name = "cache-control"): Directives {
  const found = new Map<string, string | undefined>();
  for (const [, word = "", quoted, plain] of values(headers, name).join(", ").matchAll(DIRECTIVE)) {
    const directive = word.toLowerCase();
    const argument = quoted ?? plain;
    // Said twice, and not the same: no number, and so 0.
    found.set(directive, found.has(directive) && found.get(directive) !== argument ? "" : argument);
  }
  return found;
}

/** A list of field names, as in Vary, in lower case. */
export function names(headers: Headers, field: string): Set<string> {
  const listed = values(headers, field).join(",").toLowerCase().split(",");
  return new Set(listed.map((name) => name.trim()).filter((name) => name !== ""));
}

/** Seconds that a directive names; undefined where it is not there, 0 where it is no number. */
export function delta(said: Directives, word: string): number | undefined {
  if (!said.has(word)) return undefined;
  const text = said.get(word) ?? "";
  return /^\d+$/.test(text) ? Math.min(Number(text), LONGEST) : 0;
}

/** A date in milliseconds of Unix time; undefined where there is none that can be read. */
export function date(headers: Headers, name: string): number | undefined {
  const match = DATE.exec(first(headers, name) ?? "");
  if (match === null) return undefined;
  const at = Date.parse(match[1] === " GMT" ? match[0] : `${match[0]} GMT`);
  return Number.isNaN(at) ? undefined : at;
}

/** Whether If-None-Match names the tag, compared weakly (RFC 9110, 13.1.2). */
export function matches(ifNoneMatch: string, etag: string): boolean {
  const weak = (tag: string): string => (tag.startsWith("W/") ? tag.slice(2) : tag);
  return (ifNoneMatch.match(ETAG) ?? []).some((tag) => tag === "*" || weak(tag) === weak(etag));
}

/** What a request wants of a cache. `bypass`: this cache has nothing to do with it. Times are in seconds. */
export interface Asked {
  readonly bypass: boolean;
  readonly noCache: boolean;
  readonly onlyIfCached: boolean;
  readonly maxAge: number | undefined;
  readonly minFresh: number | undefined;
}

/** Of a GET or HEAD. `obeyed`: whether clients may have a response computed anew by no-cache, max-age and min-fresh. */
export function asked(headers: Headers, obeyed: boolean): Asked {
  let said = directives(headers);
  if (said.size === 0 && directives(headers, "pragma").has("no-cache")) said = new Map([["no-cache", undefined]]);
  const bodied = (first(headers, "content-length") ?? "0") !== "0" || headers["transfer-encoding"] !== undefined;
  return {
    bypass: said.has("no-store") || bodied || headers.range !== undefined,
    noCache: obeyed && (said.has("no-cache") || delta(said, "max-age") === 0),
    onlyIfCached: said.has("only-if-cached"),
    maxAge: obeyed ? delta(said, "max-age") : undefined,
    minFresh: obeyed ? delta(said, "min-fresh") : undefined,
  };
}

/** Whether a response of this age, fresh for `lifetime` from age 0 (all in seconds), will do. */
export function content({ maxAge, minFresh }: Asked, age: number, lifetime: number): boolean {
  if (maxAge !== undefined && age > maxAge) return false;
  return minFresh === undefined || lifetime - age >= minFresh;
}

/** For how long a response may be stored, in seconds. `age`: what it had when it came. */
export interface Verdict {
  readonly ttl: number;
  readonly grace: number;
  readonly age: number;
}

/** The application's word, in seconds, where the response names no time; an undefined ttl is none. */
export interface Times {
  readonly ttl: number | undefined;
  readonly negativeTtl: number;
  readonly grace: number;
}

function lifetime(status: number, headers: Headers, said: Directives, times: Times): number | undefined {
  const named = delta(said, "s-maxage") ?? delta(said, "max-age");
  if (named !== undefined) return named;
  if (headers.expires !== undefined) {
    const [until, since] = [date(headers, "expires"), date(headers, "date")];
    // "0" and the like are in the past. Without a Date the moment of sending is not known here.
    return until === undefined || since === undefined ? 0 : Math.max(0, (until - since) / 1000);
  }
  if (times.ttl === undefined || !HEURISTIC.has(status)) return undefined;
  return NEGATIVE.has(status) ? Math.min(times.ttl, times.negativeTtl) : times.ttl;
}

/**
 * Of a response that is complete; undefined: it may not be stored. `authorized`: the request bore credentials, so that
 * only what is said to be for everybody is stored (RFC 9111, 3.5).
 */
export function verdict(status: number, headers: Headers, authorized: boolean, times: Times): Verdict | undefined {
  const said = directives(headers);
  if (["no-store", "private", "no-cache"].some((word) => said.has(word)) || names(headers, "vary").has("*")) return;
  if (NEVER.has(status) || status < 200 || status >= 500 || headers["set-cookie"] !== undefined) return;
  if (authorized && !["public", "s-maxage", "must-revalidate"].some((word) => said.has(word))) return;
  const fresh = lifetime(status, headers, said, times);
  if (fresh === undefined) return;
  const text = first(headers, "age") ?? "";
  const age = /^\d+$/.test(text) ? Number(text) : 0;
  const stale = ["stale-while-revalidate", "stale-if-error"]
    .map((word) => delta(said, word))
    .filter((seconds) => seconds !== undefined);
  let grace = times.grace;
  if (stale.length > 0) grace = Math.max(...stale);
  // s-maxage means proxy-revalidate too (RFC 9111, 5.2.2.10).
  else if (NEGATIVE.has(status) || ["must-revalidate", "proxy-revalidate", "s-maxage"].some((word) => said.has(word))) {
    grace = 0;
  }
  return fresh > age ? { ttl: fresh - age, grace, age } : undefined;
}
