/**
 * getOrSet of many keys by one loader. Each key goes the way of getOrSet, with a lease, a fence and a flight of its own;
 * what they need loaded is gathered into one call.
 *
 * It is made when each key is decided: answered, waiting for somebody else, or in need of the loader. So no two who lead
 * what the other waits for can wait for each other. What is in need of it later (a lease that was given up) comes in
 * further calls, with all that comes in the same turn. Stale values are refreshed behind by a call of their own: who has
 * nothing does not wait for those who have something.
 */
import type { LoadContext } from "./context.js";
import { ConfigError } from "./errors.js";
import type { Limiter, Places } from "./limiter.js";
import type { Factory, LoadOptions, Part } from "./request.js";

/** What a loader of many is given besides the keys. */
export class ManyContext {
  readonly #contexts: readonly LoadContext[];
  #signal: AbortSignal | undefined;

  /** @internal */
  constructor(contexts: readonly LoadContext[]) {
    this.#contexts = contexts;
  }

  /** Aborted when nobody wants any of the values any more. Never by a refresh in the background. */
  get signal(): AbortSignal {
    return (this.#signal ??= allAborted(this.#contexts.map((context) => context.signal)));
  }
}

function allAborted(signals: readonly AbortSignal[]): AbortSignal {
  const all = new AbortController();
  let wanted = signals.length;
  for (const signal of signals) {
    const aborted = (): void => {
      wanted -= 1;
      if (wanted === 0) all.abort(signal.reason);
    };
    if (signal.aborted) aborted();
    else signal.addEventListener("abort", aborted, { once: true });
  }
  return all.signal;
}

/** The values by key, without the namespace. */
export type ManyValues<T> = ReadonlyMap<string, T> | Readonly<Record<string, T>>;

/** Makes the values of keys, which are given without the namespace. What it leaves out is `null`. */
export type ManyLoader<T> = (keys: string[], context: ManyContext) => ManyValues<T> | Promise<ManyValues<T>>;

export interface GetOrSetManyOptions<T> extends Omit<LoadOptions<T>, "tags"> {
  /** Without the namespace. */
  readonly keys: Iterable<string>;
  readonly loader: ManyLoader<T>;
  /** What the values are made from: a list for all, or a function of key and value. */
  readonly tags?:
    string | readonly string[] | ((key: string, value: T | null) => string | readonly string[]) | undefined;
}

/** A place that many share: it is taken by the first and given back by the last. */
export class SharedPlace implements Places {
  readonly #limiter: Limiter;
  #holders = 0;
  #taking: Promise<boolean> | undefined;

  constructor(limiter: Limiter) {
    this.#limiter = limiter;
  }

  tryAcquire(): boolean {
    if (this.#holders === 0 && !this.#limiter.tryAcquire()) return false;
    this.#taking ??= Promise.resolve(true);
    this.#holders += 1;
    return true;
  }

  async acquire(ms?: number): Promise<boolean> {
    this.#holders += 1;
    const taken = await (this.#taking ??= this.#limiter.acquire(ms));
    if (!taken) this.#left();
    return taken;
  }

  release(): void {
    if (this.#left()) this.#limiter.release();
  }

  #left(): boolean {
    this.#holders -= 1;
    if (this.#holders === 0) this.#taking = undefined;
    return this.#holders === 0;
  }
}

interface Waiting {
  readonly key: string;
  readonly context: LoadContext;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** A key's way to its value: its place in the call of the loader. */
export interface Member {
  readonly part: Part;
  readonly factory: Factory<unknown>;
}

export class Batch {
  readonly #loader: ManyLoader<unknown>;
  readonly #places: Pick<Part, "refreshes" | "localLoads">;
  /** The keys that the loader was called for. */
  readonly loaded = new Set<string>();
  #undecided: number;
  #wanted: Waiting[] = [];
  #stale: Waiting[] = [];
  #due = false;

  constructor(loader: ManyLoader<unknown>, keys: number, places: Pick<Part, "refreshes" | "localLoads">) {
    this.#loader = loader;
    this.#undecided = keys;
    this.#places = places;
  }

  member(key: string): Member {
    let is = false;
    const decided = (): void => {
      if (is) return;
      is = true;
      this.#undecided -= 1;
      this.#soon();
    };
    const factory: Factory<unknown> = (context) =>
      new Promise((resolve, reject) => {
        (context.hasStale ? this.#stale : this.#wanted).push({ key, context, resolve, reject });
        decided();
        this.#soon();
      });
    return { part: { ...this.#places, decided }, factory };
  }

  /** Once all are decided: at the end of the turn, in which others may come. */
  #soon(): void {
    if (this.#undecided > 0 || this.#due || this.#wanted.length + this.#stale.length === 0) return;
    this.#due = true;
    setImmediate(() => {
      this.#due = false;
      const both = [this.#wanted, this.#stale];
      [this.#wanted, this.#stale] = [[], []];
      for (const waiting of both) if (waiting.length > 0) void this.#load(waiting);
    });
  }

  async #load(waiting: readonly Waiting[]): Promise<void> {
    for (const { key } of waiting) this.loaded.add(key);
    try {
      const context = new ManyContext(waiting.map((one) => one.context));
      const loaded = await this.#loader(
        waiting.map((one) => one.key),
        context,
      );
      const value = reader(loaded);
      for (const one of waiting) one.resolve(value(one.key));
    } catch (error) {
      for (const one of waiting) one.reject(error);
    }
  }
}

/** How to find a key's value in what a loader returned. @throws ConfigError where that is no mapping */
function reader(loaded: unknown): (key: string) => unknown {
  if (loaded instanceof Map) return (key) => (loaded as Map<string, unknown>).get(key) ?? null;
  if (typeof loaded !== "object" || loaded === null || Array.isArray(loaded)) {
    throw new ConfigError("bad_function", "a loader of many returns a Map or an object");
  }
  return (key) => (Object.hasOwn(loaded, key) ? ((loaded as Record<string, unknown>)[key] ?? null) : null);
}
