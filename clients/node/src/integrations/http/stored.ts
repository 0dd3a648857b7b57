/**
 * A response as a value of the cache, and what is sent of it.
 *
 * The value is plain data that every codec but raw bytes writes, the same as the Python client's: `status`, `headers`
 * (pairs of text), `body` (text) or `body64` (base64 of what is no UTF-8), `etag`, `at` (Unix seconds, when it was
 * computed, its age subtracted), `ttl`, `grace` (seconds, from `at`), `tags`, `own` (Cache-Control is the
 * application's). Two values are no responses: {"vary": [names]}, look under the key with these headers; {"pass": true},
 * this cannot be stored.
 */
import { createHash } from "node:crypto";
import { bytesOf, textOf } from "../body.js";
import { surrogateKey } from "./names.js";
import * as rules from "./rules.js";

export const PASS = { pass: true } as const;
/** What a 304 repeats (RFC 9110, 15.4.5), and what tells CDNs of tags. */
const NOT_MODIFIED = ["cache-control", "content-location", "date", "etag", "expires", "vary", "age", "cache-status"];

/** What is sent, and of what a stored response is made. Header names are in lower case. */
export interface Response {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

/** How responses are to be described to those who get them. */
export interface Describing {
  readonly browserTtl: number | undefined;
  readonly tagHeaders: readonly string[];
  readonly cacheStatus: string;
}

interface Value {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body?: string;
  readonly body64?: string;
  readonly etag: string | null;
  readonly at: number;
  readonly ttl: number;
  readonly grace: number;
  readonly tags: readonly string[];
  readonly own: boolean;
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isPass(value: unknown): boolean {
  return isMapping(value) && value.pass === true;
}

/** The value that sends readers on to another key. */
export function varyBy(names: Iterable<string>): { readonly vary: readonly string[] } {
  return { vary: [...names].sort() };
}

/** What such a value sends readers on with; undefined where it is no such value. */
export function variedBy(value: unknown): readonly string[] | undefined {
  return isMapping(value) && Array.isArray(value.vary) ? value.vary.map(String) : undefined;
}

function isValue(value: unknown): value is Value {
  if (!isMapping(value)) return false;
  const numbers = [value.status, value.at, value.ttl, value.grace].every((field) => typeof field === "number");
  const pairs = Array.isArray(value.headers) && value.headers.every((pair) => Array.isArray(pair) && pair.length === 2);
  return (
    numbers &&
    pairs &&
    Array.isArray(value.tags) &&
    (typeof value.body === "string" || typeof value.body64 === "string") &&
    (value.etag === null || typeof value.etag === "string")
  );
}

/** A strong validator: the same for the same bytes in the same coding. */
function etagOf(body: Buffer, headers: rules.Headers): string {
  const hash = createHash("sha256").update(body);
  return `"${hash.update(rules.values(headers, "content-encoding").join(",")).digest("hex").slice(0, 24)}"`;
}

export class Stored {
  readonly #value: Value;
  readonly #body: Buffer;
  /** Those of the response, by name. */
  readonly #named: Readonly<Record<string, readonly string[]>>;

  private constructor(value: Value, body: Buffer) {
    this.#value = value;
    this.#body = body;
    const named: Record<string, string[]> = {};
    for (const [name, text] of value.headers) (named[name] ??= []).push(text);
    this.#named = named;
  }

  /**
   * What is kept of a response that has just been computed.
   *
   * @param headers all of them, for what they say
   * @param kept names of those that the application set for this response
   * @param now Unix milliseconds
   */
  static of(
    { status, body }: Pick<Response, "status" | "body">,
    headers: rules.Headers,
    kept: Iterable<string>,
    judged: rules.Verdict,
    tags: Iterable<string>,
    now: number,
    tagHeaders: readonly string[],
  ): Stored {
    const dropped = new Set([...rules.HOP_BY_HOP, ...tagHeaders, "age", ...rules.names(headers, "connection")]);
    const etag = rules.first(headers, "etag");
    const made = etag === undefined && status === 200 && body.length > 0;
    const value: Value = {
      status,
      headers: [...kept]
        .filter((name) => !dropped.has(name))
        .flatMap((name) => rules.values(headers, name).map((text) => [name, text] as const)),
      ...textOf(body),
      etag: made ? etagOf(body, headers) : (etag ?? null),
      at: now / 1000 - judged.age,
      ttl: judged.ttl + judged.age,
      grace: judged.grace,
      tags: [...new Set(tags)],
      own: headers["cache-control"] !== undefined,
    };
    return new Stored(value, body);
  }

  /** Of a value; undefined where it is no response that this version wrote. */
  static read(value: unknown): Stored | undefined {
    if (!isValue(value)) return undefined;
    return new Stored(value, bytesOf(value));
  }

  /** The cache's value. */
  get value(): unknown {
    return this.#value;
  }

  /** Seconds for which it is fresh, from age 0. */
  get lifetime(): number {
    return this.#value.ttl;
  }

  /** Seconds since it was computed, by this machine's clock. */
  age(now: number): number {
    return Math.max(0, now / 1000 - this.#value.at);
  }

  // --- sending -------------------------------------------------------------------------------
  #cacheControl(browserTtl: number | undefined): string {
    const { ttl, grace } = this.#value;
    const fresh = String(Math.floor(ttl));
    const text =
      browserTtl === undefined ? `max-age=${fresh}` : `max-age=${String(Math.floor(browserTtl))}, s-maxage=${fresh}`;
    if (grace === 0) return text;
    const stale = String(Math.floor(grace));
    return `${text}, stale-while-revalidate=${stale}, stale-if-error=${stale}`;
  }

  #headers(describing: Describing, now: number, loaded: boolean): (readonly [string, string])[] {
    const { etag, own, tags, ttl } = this.#value;
    const headers = [...this.#value.headers];
    const age = this.age(now);
    if (etag !== null && this.#named.etag === undefined) headers.push(["etag", etag]);
    if (!own) headers.push(["cache-control", this.#cacheControl(describing.browserTtl)]);
    if (!loaded) headers.push(["age", String(Math.floor(age))]);
    if (tags.length > 0) {
      const encoded = tags.map(surrogateKey);
      for (const name of describing.tagHeaders) {
        headers.push([name, encoded.join(name === "surrogate-key" ? " " : ",")]);
      }
    }
    if (describing.cacheStatus !== "") {
      const how = loaded ? "fwd=miss; stored" : `hit; ttl=${String(Math.trunc(ttl - age))}`;
      headers.push(["cache-status", `${describing.cacheStatus}; ${how}`]);
    }
    return headers;
  }

  /** Whether the client's copy is this response: a 304 will do (RFC 9110, 13.2.2). */
  #unmodified(request: rules.Headers): boolean {
    const { status, etag } = this.#value;
    if (status !== 200) return false;
    const tags = rules.values(request, "if-none-match");
    if (tags.length > 0) return etag !== null && rules.matches(tags.join(", "), etag);
    const since = rules.date(request, "if-modified-since");
    const modified = rules.date(this.#named, "last-modified");
    return since !== undefined && modified !== undefined && modified <= since;
  }

  /**
   * The response, or 304 if the request has it already.
   *
   * @param now Unix milliseconds
   * @param loaded it was computed for this very request
   */
  outgoing(request: rules.Headers, describing: Describing, now: number, loaded: boolean): Response {
    const headers = this.#headers(describing, now, loaded);
    if (!this.#unmodified(request)) return { status: this.#value.status, headers, body: this.#body };
    const repeated = new Set([...NOT_MODIFIED, ...describing.tagHeaders]);
    return { status: 304, headers: headers.filter(([name]) => repeated.has(name)), body: Buffer.alloc(0) };
  }
}
