/**
 * Requests answered from the cache, by RFC 9111 as a shared cache.
 *
 *     GET, HEAD ─ no-store, Range, a body ───────────────────────────────▶ the application
 *        └─ getOrSet on the key of method, host, path, query
 *             ├─ a response ── 304, or as it is, with Age ───────────────▶ client
 *             ├─ {"vary": …} ── again, under the key with those headers
 *             ├─ {"pass": …} ────────────────────────────────────────────▶ the application
 *             └─ miss ── one run of the application (run.ts)
 *                  ├─ may be stored ── stored with its tags ─────────────▶ client
 *                  ├─ 5xx ── nothing stored; what is stale stays, and is served for its grace
 *                  └─ may not, or a stream ── {"pass": …} for a while ───▶ client, and nobody else
 *
 * A response that may not be stored is given to the one request that it was computed for, and the rest of those who
 * waited run the application themselves: what is private never crosses to another, not even within one process. For
 * `passTtl` nobody waits for anybody on such a key. A response is refreshed, while its stale one is served, by a request
 * of nobody's that goes through the whole application (apart.ts).
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { CacheFlow } from "../../cache.js";
import type { LoadContext } from "../../context.js";
import { isOurs } from "../errors.js";
import { apart, CONDITIONS, isApart } from "./apart.js";
import * as names from "./names.js";
import { gather, policyOf, tagsOf, type HttpOptions, type Policy } from "./policy.js";
import * as rules from "./rules.js";
import { deliver, Left, Run } from "./run.js";
import { isPass, PASS, Stored, variedBy, varyBy } from "./stored.js";

const VARY_TTL = "1d";
/** Keys that one request may be sent on to. */
const HOPS = 4;
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);

/** One request, as the framework has it. */
export interface Exchange<R> {
  /** The framework's request: what `tags` and `when` are asked of. */
  readonly subject: R;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly target: names.Target;
  /** Headers that the response has already. */
  readonly before: () => OutgoingHttpHeaders;
  /** The path's parameters, once it is routed. */
  readonly parameters: () => Readonly<Record<string, unknown>>;
  /** Has the application see these parameters of the query alone. */
  readonly narrow: (query: string, wanted: ReadonlySet<string>) => void;
  /** Goes on to the application. */
  readonly next: () => void;
  /** The response is sent here: the framework is to send none. */
  readonly take: () => void;
  /** Sends another request through all of the application. */
  readonly rerun: (request: IncomingMessage, response: ServerResponse) => void;
}

function warn(message: string, error: unknown): void {
  process.emitWarning(`${message}: ${String(error)}`, "CacheFlowWarning");
}

/** The application answered 5xx, or not at all: what is stored stays. Seen by the cache's listeners, not by callers. */
class Failed extends Error {
  override readonly name = "Failed";
  readonly run: Run | undefined;

  constructor(message: string, run?: Run) {
    super(message);
    this.run = run;
  }

  /** Whether others who waited may have it. */
  get shareable(): boolean {
    if (this.run?.complete !== true) return false;
    const said = rules.directives(this.run.headers);
    return this.run.headers["set-cookie"] === undefined && !said.has("private") && !said.has("no-store");
  }
}

export class HttpCache<R> {
  readonly cache: CacheFlow;
  readonly policy: Policy<R>;
  /** Who waits for requests that were sent through the application to arrive here. */
  readonly expected = new WeakMap<IncomingMessage, (arrived: Exchange<R>) => void>();

  /** @throws ConfigError `bad_option`, `bad_duration` */
  constructor(cache: CacheFlow, options: HttpOptions<R>) {
    this.cache = cache;
    this.policy = policyOf(options);
  }

  /** Answers a request, by the application or in its place. Never throws: what goes wrong is the application's turn. */
  serve(exchange: Exchange<R>): void {
    const { request, target, subject } = exchange;
    const { policy } = this;
    const arrived = this.expected.get(request);
    if (arrived !== undefined) {
      arrived(exchange);
    } else if (isApart(request) || policy.when?.(subject) === false) {
      exchange.next();
    } else if (target.method !== "GET" && target.method !== "HEAD") {
      if (policy.invalidateUnsafe && !SAFE.has(target.method)) void this.#change(exchange);
      else exchange.next();
    } else {
      const asked = rules.asked(request.headers, policy.obeyRequests);
      if (asked.bypass) exchange.next();
      else void new Answer(this, exchange, asked).give();
    }
  }

  /**
   * Before the client hears that a change has succeeded, what was stored of the path is invalid (RFC 9111, 4.4). Where
   * that fails the change has still been made, and is answered as such: the invalidation is queued, and warned of.
   */
  async #change({ request, response, target, next }: Exchange<R>): Promise<void> {
    const run = new Run(request, response, response.getHeaders(), 0);
    try {
      next();
      await run.decided;
      if (run.status >= 200 && run.status < 400) await this.cache.invalidate(names.tagOf(target), { retry: true });
    } catch (error) {
      if (isOurs(error, "InvalidationError")) warn(`a change of ${target.url} was not told to the cache`, error);
    } finally {
      run.forward();
    }
  }
}

/** One request that the cache may answer. */
class Answer<R> {
  readonly #http: HttpCache<R>;
  readonly #exchange: Exchange<R>;
  readonly #asked: rules.Asked;
  /** As the client sent them. */
  readonly #headers: rules.Headers;
  readonly #query: string;
  readonly #credentials: boolean;
  /** What the application did for this very request, if it ran for it. */
  #run: Run | undefined;
  #stored: Stored | undefined;

  constructor(http: HttpCache<R>, exchange: Exchange<R>, asked: rules.Asked) {
    const { policy } = http;
    this.#http = http;
    this.#exchange = exchange;
    this.#asked = asked;
    this.#headers = { ...exchange.request.headers };
    this.#query = names.queryOf(exchange.target.url, policy.query);
    this.#credentials = names.bearsCredentials(this.#headers, policy.credentialHeaders, policy.credentialCookies);
  }

  async give(): Promise<void> {
    const vary = new Set(this.#http.policy.vary);
    for (let hop = 0; hop < HOPS; hop += 1) {
      let value: unknown;
      try {
        value = await this.#obtain(vary);
      } catch (error) {
        this.#failed(error);
        return;
      }
      if (this.#run !== undefined) {
        this.#own(this.#run);
        return;
      }
      if (value === undefined) {
        this.#gatewayTimeout();
        return;
      }
      const more = variedBy(value);
      if (more === undefined) {
        const stored = Stored.read(value);
        if (stored === undefined) break;
        this.#send(stored);
        return;
      }
      for (const name of more) vary.add(name);
    }
    this.#exchange.next();
  }

  /** The cache's value; undefined where there must be one already, and is not. */
  async #obtain(vary: ReadonlySet<string>): Promise<unknown> {
    const { cache } = this.#http;
    const { noCache, onlyIfCached } = this.#asked;
    const known = new Set(vary);
    const key = names.keyOf(this.#exchange.target, this.#query, this.#headers, known, this.#credentials);
    const factory = (context: LoadContext): Promise<unknown> => this.#load(context, known);
    if (onlyIfCached || noCache) {
      const value = await this.#peek(key);
      if (variedBy(value) !== undefined) return value;
      if (onlyIfCached) return this.#acceptable(value) && !noCache ? value : undefined;
      return cache.refresh({ key, factory });
    }
    const value = await cache.getOrSet({ key, factory });
    const settled = this.#run !== undefined || isPass(value) || variedBy(value) !== undefined;
    return settled || this.#acceptable(value) ? value : cache.refresh({ key, factory });
  }

  async #peek(key: string): Promise<unknown> {
    try {
      return await this.#http.cache.get(key, { stale: true });
    } catch (error) {
      if (isOurs(error)) return undefined; // which the cache's listeners were told
      throw error;
    }
  }

  #acceptable(value: unknown): boolean {
    const stored = Stored.read(value);
    return stored !== undefined && rules.content(this.#asked, stored.age(Date.now()), stored.lifetime);
  }

  // --- the application -----------------------------------------------------------------------
  async #load(context: LoadContext, vary: ReadonlySet<string>): Promise<unknown> {
    // With a stale value the client has that, and the response is no longer the application's to write to.
    if (this.#run === undefined && !context.hasStale) {
      const { request, response, target } = this.#exchange;
      this.#run = new Run(request, response, this.#exchange.before(), this.#http.policy.maxBody);
      for (const name of CONDITIONS) Reflect.deleteProperty(request.headers, name);
      const { query } = this.#http.policy;
      if (query !== undefined) this.#exchange.narrow(this.#query, query);
      const tags = gather(request);
      this.#exchange.next();
      await this.#run.decided;
      const { value, stored } = this.#judge(this.#run, this.#exchange, tags, context, vary, target);
      this.#stored = stored;
      return value;
    }
    return this.#apart(context, vary);
  }

  async #apart(context: LoadContext, vary: ReadonlySet<string>): Promise<unknown> {
    const { target } = this.#exchange;
    const path = target.url.split("?", 1)[0] as string;
    const url = this.#http.policy.query === undefined ? target.url : `${path}${this.#query && "?"}${this.#query}`;
    const { request, response, abandon } = apart(this.#exchange.request, url);
    const { run, exchange, tags } = await new Promise<{ run: Run; exchange: Exchange<R>; tags: string[] }>(
      (resolve, reject) => {
        this.#http.expected.set(request, (arrived) => {
          const run = new Run(request, arrived.response, arrived.before(), this.#http.policy.maxBody);
          resolve({ run, exchange: arrived, tags: gather(request) });
          arrived.next();
        });
        response.once("close", () => {
          reject(new Failed(`${target.url} was answered before the cache`));
        });
        this.#exchange.rerun(request, response);
      },
    );
    try {
      await run.decided;
      return this.#judge(run, exchange, tags, context, vary, target).value;
    } finally {
      if (run.passing) abandon();
      else run.forward();
    }
  }

  /** The value to store, and the response if that is what it is. */
  #judge(
    run: Run,
    { subject, parameters }: Exchange<R>,
    added: readonly string[],
    context: LoadContext,
    vary: ReadonlySet<string>,
    target: names.Target,
  ): { readonly value: unknown; readonly stored?: Stored } {
    const { policy } = this.#http;
    if (run.passing) return this.#pass(context);
    if (run.status >= 500) throw new Failed(`${target.url} was answered with ${String(run.status)}`, run);
    const judged = rules.verdict(run.status, run.headers, this.#credentials, policy.times);
    if (judged === undefined) return this.#pass(context);
    const needed = rules.names(run.headers, "vary");
    if ([...needed].some((name) => !vary.has(name))) {
      [context.ttl, context.grace, context.tags] = [VARY_TTL, 0, []];
      return { value: varyBy([...needed, ...vary]) };
    }
    const said = policy.tagHeaders.flatMap((name) => names.surrogateTags(rules.values(run.headers, name)));
    const tags = [...tagsOf(policy, subject, parameters()), ...added, ...said];
    context.ttl = judged.ttl * 1000;
    context.grace = judged.grace * 1000;
    context.tags = [...tags, names.tagOf(target)];
    const stored = Stored.of(run, run.headers, run.kept, judged, tags, Date.now(), policy.tagHeaders);
    return { value: stored.value, stored };
  }

  #pass(context: LoadContext): { readonly value: unknown } {
    [context.ttl, context.grace, context.tags] = [this.#http.policy.passTtl * 1000, 0, []];
    return { value: PASS };
  }

  // --- answers -------------------------------------------------------------------------------
  #own(run: Run): void {
    if (this.#stored === undefined) run.forward();
    else run.replace(this.#stored.outgoing(this.#headers, this.#http.policy, Date.now(), true));
  }

  #send(stored: Stored): void {
    this.#exchange.take();
    deliver(this.#exchange.response, stored.outgoing(this.#headers, this.#http.policy, Date.now(), false));
  }

  #failed(error: unknown): void {
    // Cancelled: by the cache's hardTimeout. The application goes on, and is not waited for by the cache any more.
    const expected = error instanceof Failed || isOurs(error, "CancelledError") || error instanceof Left;
    if (!expected) warn(`the response to ${this.#exchange.target.url} was not cached`, error);
    const shared = error instanceof Failed && error.shareable ? error.run : undefined;
    if (this.#run !== undefined) {
      this.#run.forward();
    } else if (shared !== undefined) {
      const headers = Object.entries(shared.headers).flatMap(([name]) =>
        rules.values(shared.headers, name).map((value) => [name, value] as const),
      );
      this.#exchange.take();
      deliver(this.#exchange.response, { status: shared.status, headers, body: shared.body });
    } else {
      this.#exchange.next();
    }
  }

  #gatewayTimeout(): void {
    const { cacheStatus } = this.#http.policy;
    this.#exchange.take();
    deliver(this.#exchange.response, {
      status: 504,
      headers: cacheStatus === "" ? [] : [["cache-status", `${cacheStatus}; fwd=miss; fwd-status=504`]],
      body: Buffer.alloc(0),
    });
  }
}
