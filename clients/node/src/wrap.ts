import type { LoadOptions } from "./request.js";

type Awaitable<T> = T | Promise<T>;

/** How a function is cached. `key` makes the key of its arguments, without the namespace. */
export interface WrapOptions<A extends readonly unknown[], R> extends Omit<LoadOptions<R>, "tags" | "signal"> {
  readonly key: (...args: A) => string;
  /** A list, or a function of the arguments. */
  readonly tags?: string | readonly string[] | ((...args: A) => string | readonly string[]) | undefined;
}

/** A function whose results are cached. */
export interface Wrapped<A extends readonly unknown[], R> {
  (...args: A): Promise<R>;
  /** Removes what is cached for these arguments. True if there was something. */
  invalidate(...args: A): Promise<boolean>;
  /** Calls the function now, and stores what it returns. */
  refresh(...args: A): Promise<R>;
  /** The function itself, past the cache. */
  readonly unwrapped: (...args: A) => Awaitable<R>;
}

/** What a wrapped function needs of the cache. */
export interface Wrapping {
  getOrSet<R>(key: string, factory: () => Awaitable<R>, options: LoadOptions<R>): Promise<R>;
  refresh<R>(key: string, factory: () => Awaitable<R>, options: LoadOptions<R>): Promise<R>;
  delete(key: string): Promise<number>;
}

export function wrap<A extends readonly unknown[], R>(
  cache: Wrapping,
  unwrapped: (...args: A) => Awaitable<R>,
  { key, tags, ...rest }: WrapOptions<A, R>,
): Wrapped<A, R> {
  const options = (args: A): LoadOptions<R> => ({ ...rest, tags: typeof tags === "function" ? tags(...args) : tags });
  const wrapped = (...args: A): Promise<R> => cache.getOrSet(key(...args), () => unwrapped(...args), options(args));
  return Object.assign(wrapped, {
    unwrapped,
    invalidate: async (...args: A) => (await cache.delete(key(...args))) > 0,
    refresh: (...args: A) => cache.refresh(key(...args), () => unwrapped(...args), options(args)),
  });
}
