/**
 * getOrSet, from the level in the process down to the factory; get and getMany.
 *
 * ```
 * L1 ─ fresh ──────────────────────────────────────────────────────────────▶ value
 *  └─ join the flight on the key, or lead it:
 *       FETCH ─ FRESH ─────────────────────────────────────────────────────▶ value (elected: refresh behind)
 *         ├─── STALE ──────────────────────────────────────────────────────▶ value (with a token: refresh behind)
 *         ├─── MISS ── load ── store with the token ───────────────────────▶ value
 *         ├─── BUSY ── wait in the lane ── FRESH, STALE, MISS as above
 *         │                └─ wait is over ── load, store nothing ─────────▶ value
 *         └─── no answer ── stale L1 ──────────────────────────────────────▶ value
 *                             └─ load under the local limit, store nothing ▶ value
 * ```
 *
 * Nothing is thrown but what the factory threw, EncodeError for a value that no codec could store (a bug to be seen at
 * once), and CancelledError for who wanted to wait no longer.
 */
import { CacheFlowError, CancelledError, Unavailable } from "./errors.js";
import type { Events } from "./events.js";
import { Flight, Flights } from "./flights.js";
import { Limiter } from "./limiter.js";
import type { Loader } from "./loader.js";
import type { Local, Ticket } from "./local.js";
import { milliseconds } from "./duration.js";
import { Batch, SharedPlace, type ManyLoader } from "./many.js";
import type { Resolved } from "./options.js";
import type { Entry, Request } from "./request.js";
import type { Server } from "./server.js";
import type { Link } from "./link/link.js";
import type { Fetched, FetchOptions } from "./store/store.js";
import { aborted, isAborted, pause } from "./timing.js";
import type { Lane } from "./waiting.js";

/** Of one wait in the server, in ms: one that stops meanwhile is found out after this and the timeout. */
const SLICE = 1000;
/** Between two questions where nobody can wait in the server, in ms. */
const FIRST_POLL = 10;
const LONGEST_POLL = 250;
/** Of the lock on a value that nobody here can read, where the caller names no lease. */
const REPLACE_LEASE = 10_000;

/** Of the lock of a refresh by hand, where the caller names no lease. */
const REFRESH_LEASE = 30_000;

interface Obtained {
  readonly entry: Entry<unknown>;
  /** Its bytes, to make it anew for others. */
  readonly data: Buffer | string | undefined;
}

/** What was asked for, and what goes with it to the end. */
interface Asked {
  readonly flight: Flight;
  readonly request: Request;
  /** The right to put the answer into the level. */
  readonly ticket: Ticket | undefined;
  readonly began: number;
}

/** Which flight a caller is on at present. */
interface Ride {
  flight: Flight | undefined;
}

export class Reader {
  readonly #server: Server;
  readonly #lane: Lane;
  readonly #local: Local | undefined;
  readonly #loader: Loader;
  readonly #events: Events;
  readonly #options: Resolved;
  readonly #flights = new Flights();
  readonly #refreshing = new Set<string>();
  readonly #refreshes: Limiter;

  constructor(server: Server, lane: Lane, local: Local | undefined, loader: Loader, events: Events, options: Resolved) {
    this.#server = server;
    this.#lane = lane;
    this.#local = local;
    this.#loader = loader;
    this.#events = events;
    this.#options = options;
    this.#refreshes = new Limiter(options.refreshes);
  }

  /** Many keys with one loader, that share their places. */
  batch(loader: ManyLoader<unknown>, keys: number): Batch {
    const refreshes = new SharedPlace(this.#refreshes);
    return new Batch(loader, keys, { refreshes, localLoads: new SharedPlace(this.#loader.localLoads) });
  }

  // --- getOrSet ------------------------------------------------------------------------------
  /** The value, whoever has it; the level in the process was asked already. */
  getOrSet(request: Request): Promise<Entry<unknown>> {
    const { signal, hardTimeout } = request.options;
    if (signal?.aborted === true) return Promise.reject(aborted(signal, request.key));
    const limit = hardTimeout === undefined ? this.#options.hardTimeout : milliseconds(hardTimeout, "hardTimeout");
    const alone = this.#flights.current(request.key) === undefined;
    const ride: Ride = { flight: alone ? this.#flights.begin(request.key) : undefined };
    const work = ride.flight === undefined ? this.#ride(ride, request) : this.#lead(ride.flight, request);
    return signal === undefined && limit === undefined ? work : this.#bounded(work, ride, request.key, signal, limit);
  }

  async #ride(ride: Ride, request: Request): Promise<Entry<unknown>> {
    for (;;) {
      const current = this.#flights.current(request.key);
      if (current === undefined) {
        ride.flight = this.#flights.begin(request.key);
        return this.#lead(ride.flight, request);
      }
      ride.flight = current;
      request.part?.decided();
      const joinedAt = current.join();
      await current.landed;
      if (current.failed) throw current.error;
      if (current.answers(joinedAt)) return (current.read as () => Entry<unknown>)();
      // What it brought was true before we came: once more, with all who came too late.
    }
  }

  #bounded(
    work: Promise<Entry<unknown>>,
    ride: Ride,
    key: string,
    signal: AbortSignal | undefined,
    limit: number | undefined,
  ): Promise<Entry<unknown>> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const settle = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
      };
      const giveUp = (error: CancelledError): void => {
        settle();
        ride.flight?.leave(error);
        reject(error);
      };
      const abort = (): void => {
        giveUp(aborted(signal as AbortSignal, key));
      };
      work.then(
        (entry) => {
          settle();
          resolve(entry);
        },
        (error: unknown) => {
          settle();
          reject(error);
        },
      );
      signal?.addEventListener("abort", abort, { once: true });
      if (limit !== undefined) {
        timer = setTimeout(() => {
          giveUp(new CancelledError("timeout", `getOrSet took over ${String(limit)} ms`, { key }));
        }, limit).unref();
      }
    });
  }

  #lead(flight: Flight, request: Request): Promise<Entry<unknown>> {
    const { key } = request;
    const asked: Asked = { flight, request, ticket: this.#local?.begin(key), began: performance.now() };
    flight.asks();
    return this.#fetch(key, request.fetch).then(
      (fetched) => {
        // A hit, which it nearly always is, takes no further turn: each costs some 3 % of it.
        const hit = fetched.state === "FRESH" && fetched.token === null;
        const found = hit ? this.#use(asked, fetched) : undefined;
        return found === undefined ? this.#settle(asked, this.#obtain(asked, fetched, hit)) : this.#land(asked, found);
      },
      (error: unknown) => this.#settle(asked, this.#without(asked, error)),
    );
  }

  #land({ flight, request: { key } }: Asked, { entry, data }: Obtained): Entry<unknown> {
    this.#flights.end(key, flight);
    flight.land(() => ({ ...entry, value: this.#own(key, entry.value, data) }));
    return entry;
  }

  async #settle(asked: Asked, obtained: Promise<Obtained>): Promise<Entry<unknown>> {
    try {
      return this.#land(asked, await obtained);
    } catch (error) {
      this.#flights.end(asked.request.key, asked.flight);
      asked.flight.fail(error);
      throw error;
    }
  }

  /** A value of one's own, for one who shares it. What was not encoded is shared as it is. */
  #own(key: string, value: unknown, data: Buffer | string | undefined): unknown {
    if (typeof value !== "object" || value === null || data === undefined) return value;
    return this.#options.codec.decode(key, Buffer.from(data));
  }

  /** From what FETCH has answered to a value. `unreadable`: it has one, which nobody here can decode. */
  async #obtain(asked: Asked, first: Fetched, unreadable: boolean): Promise<Obtained> {
    const { flight, request, ticket, began } = asked;
    const { key } = request;
    let fetched = first;
    if (fetched.state === "BUSY") {
      const waited = performance.now();
      request.part?.decided();
      try {
        fetched = await this.#wait(flight, request, fetched);
      } catch (error) {
        return this.#without(asked, error);
      }
      this.#events.tell("wait", key, performance.now() - waited);
    }
    if (fetched.value !== null) {
      const found = unreadable ? undefined : this.#use(asked, fetched);
      if (found !== undefined) return fetched.token === null ? found : this.#elected(asked, fetched.token, found);
      fetched = await this.#replace(request, fetched);
    } else if (ticket !== undefined) this.#local?.end(ticket);
    this.#events.tell("miss", key, performance.now() - began);
    if (fetched.token === null) {
      const value = await this.#loader.only(flight, request, false);
      return { entry: { value, source: "loader", state: "fresh" }, data: undefined };
    }
    const { value, data } = await this.#loader.fill(flight, request, fetched.token);
    return { entry: { value, source: "loader", state: "fresh" }, data };
  }

  /** Asks; a lease that comes too late is given back. */
  #fetch(key: string, options: FetchOptions, link?: Link): Promise<Fetched> {
    return this.#server.call((store) => store.fetch(key, options, link), key, {
      extra: options.block ?? 0,
      late: ({ token }) => {
        if (token !== null) void this.#loader.giveUp(key, token, 0);
      },
    });
  }

  #lock(key: string, ms: number, block?: number, link?: Link): Promise<number | null> {
    return this.#server.call((store) => store.lock(key, ms, block, link), key, {
      extra: block ?? 0,
      twice: false,
      late: (token) => {
        if (token !== null) void this.#loader.giveUp(key, token, 0);
      },
    });
  }

  /** Waits for who computes, until there is an answer or the time is up (BUSY). */
  async #wait(flight: Flight, request: Request, first: Fetched): Promise<Fetched> {
    const { key } = request;
    const deadline = performance.now() + request.wait;
    let fetched = first;
    let poll = FIRST_POLL;
    for (;;) {
      const left = deadline - performance.now();
      if (fetched.state !== "BUSY" || left <= 0) return fetched;
      const began = performance.now();
      const slice = Math.ceil(Math.min(left, SLICE));
      flight.asks();
      const asked =
        this.#server.store?.capabilities.blocking === true
          ? await this.#lane.use(Math.min(left, LONGEST_POLL), (link) =>
              this.#fetch(key, { ...request.fetch, block: slice }, link),
            )
          : undefined;
      fetched = asked ?? (await this.#fetch(key, request.fetch));
      if (flight.wanted === 0) {
        if (fetched.token !== null) await this.#loader.giveUp(key, fetched.token, 0);
        throw new CancelledError("aborted", "nobody waits any more", { key });
      }
      // A server that holds no more waiters, or none, answers at once: it is not to be asked in a tight loop.
      if (fetched.state === "BUSY" && performance.now() - began < slice / 2) {
        await pause(Math.min(poll * (0.5 + Math.random()), Math.max(1, deadline - performance.now())));
        poll = Math.min(poll * 2, LONGEST_POLL);
      }
    }
  }

  /** What FETCH answered, decoded and put into the level; undefined where it cannot be decoded. */
  #use({ flight, request, ticket, began }: Asked, fetched: Fetched): Obtained | undefined {
    const { key } = request;
    const data = fetched.value as Buffer;
    const fresh = fetched.state === "FRESH";
    flight.trueAt = flight.step;
    let value: unknown;
    try {
      value = this.#options.codec.decode(key, data);
    } catch (error) {
      if (ticket !== undefined) this.#local?.end(ticket);
      this.#events.tell("decode", key, 0, "", error);
      return undefined;
    }
    this.#events.tell(fresh ? "hit" : "stale", key, performance.now() - began);
    if (ticket !== undefined && this.#local !== undefined) {
      const grace = request.grace === undefined ? 0 : milliseconds(request.grace, "grace");
      if (fresh) this.#local.put(ticket, value, data, fetched.ms, grace, fetched.tags);
      else this.#local.end(ticket);
    }
    return { entry: { value, source: "redis", state: fresh ? "fresh" : "stale" }, data };
  }

  /** We were elected to refresh what was found: behind the caller, who waits for a stale value's successor a little. */
  async #elected({ flight, request }: Asked, token: number, found: Obtained): Promise<Obtained> {
    const { value, state } = found.entry;
    const refreshed = this.#refreshBehind(request, token, { value: this.#own(request.key, value, found.data) });
    if (state === "fresh" || request.softTimeout === 0) return found;
    const soon = await Promise.race([refreshed, pause(request.softTimeout)]);
    if (soon === undefined) return found;
    flight.trueAt = flight.asks();
    return soon;
  }

  /** The right to replace what cannot be decoded: the token that came with it, or the key's lock. */
  async #replace(request: Request, fetched: Fetched): Promise<Fetched> {
    const { key } = request;
    if (fetched.token !== null) return fetched;
    try {
      const lease = request.fetch.lease ?? REPLACE_LEASE;
      const token = await this.#lock(key, lease);
      return { ...fetched, token };
    } catch (error) {
      if (!(error instanceof CacheFlowError)) throw error;
      this.#events.tell("degraded", key, 0, "", error);
      return fetched;
    }
  }

  // --- behind the caller ---------------------------------------------------------------------
  /**
   * Refreshes in the background, never two of one key in this process. Undefined where it was not begun, or failed: who
   * might have waited for it has a value.
   */
  async #refreshBehind(
    request: Request,
    token: number,
    stale: { readonly value: unknown },
  ): Promise<Obtained | undefined> {
    const { key } = request;
    const places = request.part?.refreshes ?? this.#refreshes;
    if (this.#refreshing.has(key) || !places.tryAcquire()) {
      await this.#loader.giveUp(key, token, 0);
      return undefined;
    }
    this.#refreshing.add(key);
    const began = performance.now();
    try {
      const { value, data } = await this.#loader.fill(new Flight(), request, token, stale);
      this.#events.tell("refresh", key, performance.now() - began);
      return { entry: { value, source: "loader", state: "fresh" }, data };
    } catch (error) {
      this.#events.tell("refresh", key, performance.now() - began, "", error);
      return undefined;
    } finally {
      this.#refreshing.delete(key);
      places.release();
    }
  }

  /**
   * Loads now, whatever there is, and stores with the key's own lock, so that nothing older can follow. Where it cannot
   * be had the value is loaded and not stored.
   */
  async refresh(request: Request): Promise<unknown> {
    const { key } = request;
    const flight = new Flight();
    let token: number | null = null;
    try {
      token = await this.lock(key, request.fetch.lease ?? REFRESH_LEASE, request.wait);
    } catch (error) {
      if (!(error instanceof CacheFlowError)) throw error;
      this.#events.tell("degraded", key, 0, "", error);
    }
    if (token === null) return this.#loader.only(flight, request, false);
    return (await this.#loader.fill(flight, request, token)).value;
  }

  /** A lock, waiting for it up to `wait` ms; null where it is held. @throws Unavailable, ServerError */
  async lock(key: string, ms: number, wait: number, signal?: AbortSignal): Promise<number | null> {
    const deadline = performance.now() + wait;
    for (let poll = FIRST_POLL; ; poll = Math.min(poll * 2, LONGEST_POLL)) {
      if (signal !== undefined && isAborted(signal)) throw aborted(signal, key);
      const left = deadline - performance.now();
      const slice = Math.ceil(Math.min(left, SLICE));
      const waits = left > 0 && this.#server.store?.capabilities.blocking === true;
      const began = performance.now();
      const token = waits
        ? await this.#lane.use(Math.min(left, LONGEST_POLL), (link) => this.#lock(key, ms, slice, link))
        : await this.#lock(key, ms);
      if (typeof token === "number") {
        // It may have been while the server held the command.
        if (signal === undefined || !isAborted(signal)) return token;
        await this.#loader.giveUp(key, token, 0);
        throw aborted(signal, key);
      }
      if (performance.now() >= deadline) return null;
      if (!waits || performance.now() - began < slice / 2) {
        await pause(Math.min(poll * (0.5 + Math.random()), Math.max(1, deadline - performance.now())));
      }
    }
  }

  // --- without Redis -------------------------------------------------------------------------
  async #without({ flight, request, ticket }: Asked, error: unknown): Promise<Obtained> {
    const { key } = request;
    if (ticket !== undefined) this.#local?.end(ticket);
    if (!(error instanceof CacheFlowError) || error instanceof CancelledError) throw error;
    this.#events.tell("degraded", key, 0, "", error);
    const found = request.fetch.maxStale === 0 ? undefined : this.#local?.getStale(key);
    if (found !== undefined) {
      flight.trueAt = flight.asks();
      this.#events.tell("l1_stale", key);
      return { entry: { value: found.value, source: "l1_stale", state: "stale" }, data: undefined };
    }
    const value = await this.#loader.only(flight, request, true);
    return { entry: { value, source: "loader", state: "fresh" }, data: undefined };
  }

  // --- get -----------------------------------------------------------------------------------
  /** The value; undefined where there is none or Redis does not answer. @throws DecodeError, ServerError */
  async get(key: string, stale: boolean): Promise<unknown> {
    const began = performance.now();
    let data: Buffer | null;
    try {
      data = await this.#server.call((store) => store.get(key, stale), key);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      this.#events.tell("degraded", key, 0, "", error);
      const found = this.#local?.getStale(key);
      if (found !== undefined) this.#events.tell("l1_stale", key);
      return found?.value;
    }
    return this.#read(key, data, performance.now() - began);
  }

  /** The fresh values, undefined where there is none or Redis does not answer. @throws DecodeError, ServerError */
  async getMany(keys: readonly string[]): Promise<unknown[]> {
    const values = new Array<unknown>(keys.length);
    const asked: number[] = [];
    keys.forEach((key, at) => {
      const found = this.#local?.get(key);
      if (found === undefined) asked.push(at);
      else {
        values[at] = found.value;
        this.#events.l1Hit(key);
      }
    });
    if (asked.length === 0) return values;
    const began = performance.now();
    let replies: (Buffer | null)[];
    const missing = asked.map((at) => keys[at] as string);
    try {
      replies = await this.#server.call((store) => store.getMany(missing), missing[0]);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      this.#events.tell("degraded", missing[0] as string, 0, "", error);
      return values;
    }
    const ms = performance.now() - began;
    asked.forEach((at, place) => (values[at] = this.#read(keys[at] as string, replies[place] ?? null, ms)));
    return values;
  }

  #read(key: string, data: Buffer | null, ms: number): unknown {
    if (data === null) {
      this.#events.tell("miss", key, ms);
      return undefined;
    }
    let value: unknown;
    try {
      value = this.#options.codec.decode(key, data);
    } catch (error) {
      this.#events.tell("decode", key, 0, "", error);
      throw error;
    }
    this.#events.tell("hit", key, ms);
    return value;
  }
}
