/** Calls the factory: with a lease and stores what it made, or without one and stores it nowhere. */
import { LoadContext } from "./context.js";
import { CacheFlowError, ServerError } from "./errors.js";
import type { Events } from "./events.js";
import type { Flight } from "./flights.js";
import { Limiter } from "./limiter.js";
import type { Local } from "./local.js";
import { lifetime, tagList, type Resolved } from "./options.js";
import type { Request } from "./request.js";
import type { Server } from "./server.js";

/** A value, and its bytes where it was encoded. */
export interface Loaded {
  readonly value: unknown;
  readonly data: Buffer | string | undefined;
}

export class Loader {
  readonly #server: Server;
  readonly #local: Local | undefined;
  readonly #events: Events;
  readonly #options: Resolved;
  /** Those without Redis. */
  readonly localLoads: Limiter;

  constructor(server: Server, local: Local | undefined, events: Events, options: Resolved) {
    this.#server = server;
    this.#local = local;
    this.#events = events;
    this.#options = options;
    this.localLoads = new Limiter(options.localLoads);
  }

  async #call(context: LoadContext, request: Request): Promise<unknown> {
    const began = performance.now();
    try {
      const value = await request.factory(context);
      this.#events.tell("load", context.key, performance.now() - began);
      return value;
    } catch (error) {
      this.#events.tell("load", context.key, performance.now() - began, "", error);
      throw error;
    }
  }

  #context(flight: Flight, request: Request, token?: number, stale?: { readonly value: unknown }): LoadContext {
    const { tags } = request.options;
    return new LoadContext({
      key: request.key,
      ttl: request.ttl,
      grace: request.grace,
      tags: typeof tags === "function" ? [] : tagList(tags),
      token,
      stale,
      flight,
    });
  }

  /**
   * Loads and stores nothing: somebody else holds the lease, or Redis is not used (`limited`). Under the limit a caller
   * waits for its turn as long as it would for somebody else's value, and then loads all the same: it must be answered.
   */
  async only(flight: Flight, request: Request, limited: boolean): Promise<unknown> {
    const places = request.part?.localLoads ?? this.localLoads;
    if (limited) request.part?.decided();
    const place = limited && (await places.acquire(request.wait));
    try {
      flight.trueAt = flight.asks();
      return await this.#call(this.#context(flight, request), request);
    } finally {
      if (place) places.release();
    }
  }

  /**
   * Loads, and stores with the token. What the factory throws gives the lease up first. A store that fails costs the
   * caller nothing. `undefined` is not stored: it is no value that a cache could tell from "nothing there".
   */
  async fill(flight: Flight, request: Request, token: number, stale?: { readonly value: unknown }): Promise<Loaded> {
    const { key, options } = request;
    const context = this.#context(flight, request, token, stale);
    let value: unknown;
    let data: Buffer | string | undefined;
    let times;
    try {
      flight.trueAt = flight.asks();
      value = await this.#call(context, request);
      if (typeof options.tags === "function") context.tags.push(...tagList(options.tags(value)));
      if (value === null && options.negativeTtl !== undefined && context.outcome === "store") {
        [context.ttl, context.grace] = [options.negativeTtl, 0];
      }
      times = lifetime(context.ttl, context.grace);
      if (context.outcome === "store" && (times.ttl === 0 || value === undefined)) context.skip();
      if (context.outcome === "store") data = this.#options.codec.encode(key, value);
    } catch (error) {
      await this.giveUp(key, token, this.#options.retryAfter);
      throw error;
    }
    if (context.outcome === "skip") {
      await this.giveUp(key, token, 0);
      this.#events.tell("fill", key, 0, "skipped");
      return { value, data };
    }
    const step = flight.asks();
    const began = performance.now();
    try {
      const kept = await this.#server.call((store) => {
        if (data === undefined) return store.touch(key, { ...times, token });
        return store.set(key, data, { ...times, tags: context.tags, token });
      }, key);
      if (kept) flight.trueAt = step;
      const stored = data === undefined ? "touched" : "stored";
      this.#events.tell("fill", key, performance.now() - began, kept ? stored : "refused");
    } catch (error) {
      this.#events.tell("fill", key, performance.now() - began, "failed", error);
      // Too big, out of memory: who waits must not wait for it.
      if (error instanceof ServerError) await this.giveUp(key, token, 0);
    }
    this.#local?.drop([key]);
    return { value, data };
  }

  /** Gives a lease back. One that cannot be given back runs out by itself. */
  async giveUp(key: string, token: number, retry: number): Promise<void> {
    try {
      await this.#server.call((store) => store.unlock(key, token, retry > 0 ? retry : undefined), key);
    } catch (error) {
      if (!(error instanceof CacheFlowError)) throw error;
      this.#events.tell("degraded", key, 0, "", error);
    }
  }
}
