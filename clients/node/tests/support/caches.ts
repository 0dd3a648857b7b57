import { afterEach } from "vitest";
import { CacheFlow, type CacheEvent, type CacheFlowOptions } from "../../src/index.js";

/** Makes caches that are closed after the test. */
export function caches(): (options: CacheFlowOptions) => CacheFlow {
  const open: CacheFlow[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((cache) => cache.close()));
  });
  return (options) => {
    const cache = new CacheFlow({ namespace: "shop", ...options });
    open.push(cache);
    return cache;
  };
}

/** All that a cache tells from now on. */
export function record(cache: CacheFlow): CacheEvent[] {
  const events: CacheEvent[] = [];
  cache.on("event", (event) => events.push(event));
  return events;
}

/** A factory that counts its calls and gives a number: the call's. */
export function counter(): { (): Promise<number>; calls: number } {
  const factory = (): Promise<number> => Promise.resolve(++factory.calls);
  factory.calls = 0;
  return factory;
}

/** Something that waits until it is opened. */
export interface Gate<T> {
  readonly promise: Promise<T>;
  open(value: T): void;
}

export function gate<T>(): Gate<T> {
  let open!: (value: T) => void;
  const promise = new Promise<T>((resolve) => (open = resolve));
  return { promise, open };
}
