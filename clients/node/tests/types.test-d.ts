/** The types that callers see. */
import { expectTypeOf, test } from "vitest";
import type { CacheFlow, Entry, LoadContext, Lock, Wrapped } from "../src/index.js";

declare const cache: CacheFlow;

interface User {
  readonly id: number;
}
declare function loadUser(id: number): Promise<User>;

test("getOrSet gives what the factory does", () => {
  expectTypeOf(cache.getOrSet({ key: "k", factory: () => loadUser(1) })).resolves.toEqualTypeOf<User>();
  expectTypeOf(cache.getOrSet({ key: "k", factory: () => null })).resolves.toEqualTypeOf<null>();
  expectTypeOf(cache.getOrSetEntry({ key: "k", factory: () => 1 })).resolves.toEqualTypeOf<Entry<number>>();
  const tagged = cache.getOrSet({ key: "k", factory: () => loadUser(1), tags: (user) => [`user:${String(user.id)}`] });
  expectTypeOf(tagged).resolves.toEqualTypeOf<User>();
});

test("the context knows the value", () => {
  void cache.getOrSet<User>({
    key: "k",
    factory: (context) => {
      expectTypeOf(context).toEqualTypeOf<LoadContext<User>>();
      expectTypeOf(context.staleValue).toEqualTypeOf<User | undefined>();
      expectTypeOf(context.signal).toEqualTypeOf<AbortSignal>();
      return context.notModified();
    },
  });
});

test("get gives unknown, or what one says", () => {
  expectTypeOf(cache.get("k")).resolves.toBeUnknown();
  expectTypeOf(cache.get<User>("k")).resolves.toEqualTypeOf<User | undefined>();
  expectTypeOf(cache.getMany<User>(["k"])).resolves.toEqualTypeOf<Map<string, User>>();
});

test("a wrapped function keeps its arguments and result", () => {
  const wrapped = cache.wrap(loadUser, {
    key: (id) => `user:${String(id)}`,
    tags: (id) => [`user:${String(id)}`],
    ttl: "5m",
  });
  expectTypeOf(wrapped).toEqualTypeOf<Wrapped<[id: number], User>>();
  expectTypeOf(wrapped(1)).resolves.toEqualTypeOf<User>();
  expectTypeOf<Parameters<(typeof wrapped)["invalidate"]>>().toEqualTypeOf<[id: number]>();
  // @ts-expect-error a string is no number
  void wrapped("1");
});

test("durations are checked", () => {
  void cache.set("k", 1, { ttl: "60s" });
  void cache.set("k", 1, { ttl: { min: "1s", max: "1h" } });
  // @ts-expect-error no unit that there is
  void cache.set("k", 1, { ttl: "60 seconds" });
});

test("locks are disposable", () => {
  expectTypeOf(cache.lock("k", { ttl: "1s" })).resolves.toEqualTypeOf<Lock>();
  expectTypeOf<Lock>().toExtend<AsyncDisposable>();
  expectTypeOf<CacheFlow>().toExtend<AsyncDisposable>();
});
