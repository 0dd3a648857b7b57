/** Apollo Server, real ones, with its key-value cache and whole responses in CacheFlow. */
import { ApolloServer, type ApolloServerPlugin } from "@apollo/server";
import { maybeCacheControlFromInfo } from "@apollo/cache-control-types";
import type { GraphQLResolveInfo } from "graphql";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { CacheFlow } from "../../src/index.js";
import { CacheFlowKeyValueCache, responseCache, type ResponseCacheOptions } from "../../src/integrations/apollo.js";
import { caches, gate, record, type Gate } from "../support/caches.js";
import { eventually, TestServer } from "../support/servers.js";

const typeDefs = `#graphql
  enum CacheControlScope { PUBLIC PRIVATE }
  directive @cacheControl(maxAge: Int, scope: CacheControlScope, inheritMaxAge: Boolean) on FIELD_DEFINITION | OBJECT | INTERFACE | UNION
  interface Named { name: String }
  type User implements Named @cacheControl(maxAge: 60) { id: ID! name: String friends: [User!]! }
  type Team implements Named @cacheControl(maxAge: 60) { id: ID! name: String members(first: Int): [User!]! }
  union Found = User | Team
  type Query {
    user(id: ID!): User
    users(first: Int): [User!]!
    search(text: String): [Found!]! @cacheControl(maxAge: 60)
    me: User @cacheControl(maxAge: 60, scope: PRIVATE)
    now: Float
    dynamic(maxAge: Int!, private: Boolean): String
    broken(fail: Boolean!): String @cacheControl(maxAge: 60)
    time: Date @cacheControl(maxAge: 60)
  }
  scalar Date
  type Mutation { rename(id: ID!, name: String!): User }
`;

interface Context {
  session?: string;
  language?: string;
}

/** A schema that counts its executions, and can be held up. */
class World {
  names = new Map([
    ["1", "Ada"],
    ["2", "Bea"],
  ]);
  executed = 0;
  hold: Gate<undefined> | undefined;
  waiting = 0;

  /** What resolvers do: they read the names, take their time, and answer. */
  async run<T>(value: (names: Map<string, string>) => T): Promise<T> {
    this.executed += 1;
    const before = [...this.names];
    if (this.hold !== undefined) {
      this.waiting += 1;
      await this.hold.promise;
    }
    return value(new Map(before));
  }

  #user(names: Map<string, string>, id: string): { id: string; name: string | undefined } {
    return { id, name: names.get(id) };
  }

  readonly resolvers = {
    Query: {
      user: (_: unknown, { id }: { id: string }) => this.run((names) => this.#user(names, id)),
      users: (_: unknown, { first }: { first?: number }) =>
        this.run((names) => [...names.keys()].slice(0, first ?? Infinity).map((id) => this.#user(names, id))),
      search: (_: unknown, { text }: { text: string }) =>
        this.run((names) => (text === "" ? [] : [{ __typename: "User", ...this.#user(names, "1") }])),
      me: (_: unknown, __: unknown, { session }: Context) => this.run((names) => this.#user(names, session ?? "1")),
      now: () => this.run(() => this.executed),
      dynamic: (_: unknown, args: { maxAge: number; private?: boolean }, __: unknown, info: GraphQLResolveInfo) =>
        this.run(() => {
          const scope = args.private === true ? "PRIVATE" : "PUBLIC";
          maybeCacheControlFromInfo(info)?.setCacheHint({ maxAge: args.maxAge, scope });
          return String(this.executed);
        }),
      broken: (_: unknown, { fail }: { fail: boolean }) =>
        this.run(() => {
          if (fail) throw new Error("broken");
          return "whole";
        }),
      time: () => this.run(() => new Date(0)),
    },
    User: { friends: () => [] },
    Team: { members: () => [] },
    Found: { __resolveType: (value: { __typename: string }) => value.__typename },
    Mutation: {
      rename: (_: unknown, { id, name }: { id: string; name: string }) => {
        this.names.set(id, name);
        return this.run((names) => this.#user(names, id));
      },
    },
  };
}

interface Answer {
  readonly data: Record<string, unknown> | null | undefined;
  readonly errors: readonly { message: string }[] | undefined;
  readonly age: string | undefined;
  readonly control: string | undefined;
}

describe.each([
  { server: "with the module", module: true },
  { server: "without the module", module: false },
])("$server", ({ module }) => {
  const make = caches();
  const running: ApolloServer<Context>[] = [];
  const logger = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() };
  let redis: TestServer;
  let world: World;

  beforeAll(async () => {
    redis = await TestServer.start({ module });
  });
  afterAll(() => redis.stop());
  beforeEach(async () => {
    world = new World();
    vi.clearAllMocks();
    await redis.command("FLUSHALL");
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((one) => one.stop()));
  });

  type Options = Omit<ResponseCacheOptions<Context>, "cache"> & { readonly plugins?: ApolloServerPlugin<Context>[] };

  /** A server on its own cache; what it is asked with. */
  function serve(options: Options = {}, cache: CacheFlow = make({ url: redis.url })) {
    const server = new ApolloServer<Context>({
      typeDefs,
      resolvers: world.resolvers,
      logger,
      plugins: [responseCache({ cache, ...options }), ...(options.plugins ?? [])],
    });
    running.push(server);
    return async (query: string, context: Context = {}, variables: Record<string, unknown> = {}): Promise<Answer> => {
      const { body, http } = await server.executeOperation({ query, variables }, { contextValue: context });
      if (body.kind !== "single") throw new Error(body.kind);
      const { data, errors } = body.singleResult;
      return { data, errors, age: http.headers.get("age"), control: http.headers.get("cache-control") };
    };
  }

  const bySession: Options = { sessionId: ({ contextValue }) => Promise.resolve(contextValue.session ?? null) };
  const USER = "query U($id: ID!) { user(id: $id) { name } }";

  /** Responses are stored behind the answer. */
  const stored = (cache: CacheFlow, times = 1): Promise<unknown> =>
    eventually(async () => ((await cache.stats()).client.fill_stored ?? 0) >= times, "the response to be stored");

  describe("the response cache", () => {
    it("executes once, and answers with what is left of the hints", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({}, cache);
      const first = await ask(USER, {}, { id: "1" });
      expect(first).toMatchObject({ data: { user: { name: "Ada" } }, control: "max-age=60, public", age: undefined });
      await stored(cache);
      const second = await ask(USER, {}, { id: "1" });
      expect(second).toMatchObject({ data: { user: { name: "Ada" } }, control: "max-age=60, public", age: "0" });
      expect(await serve()(USER, {}, { id: "1" })).toMatchObject({ data: first.data, age: "0" });
      expect(world.executed).toBe(1);
      await ask(USER, {}, { id: "2" });
      expect(world.executed).toBe(2);
    });

    it("tags with the types and objects in it, asked for or not", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({ tags: () => ["mine"] }, cache);
      await ask("{ users { name friends { name } } }");
      await stored(cache);
      const [key] = (await redis.command("KEYS", "shop:graphql:*")) as string[];
      const tags = (await cache.meta((key as string).slice("shop:".length)))?.tags;
      expect([...(tags ?? [])].sort()).toEqual(["User", "User:1", "User:2", "mine"]);
    });

    it("is invalidated by an object, by a type, and by a type of which there was none yet", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({}, cache);
      await ask(USER, {}, { id: "1" });
      await ask(USER, {}, { id: "2" });
      await ask('{ search(text: "") { __typename } }');
      await stored(cache, 3);
      expect(world.executed).toBe(3);
      world.names.set("1", "Eve");
      await cache.invalidate("User:1");
      expect((await ask(USER, {}, { id: "1" })).data).toEqual({ user: { name: "Eve" } });
      await ask(USER, {}, { id: "2" });
      expect(world.executed).toBe(4);
      await stored(cache, 4);
      await cache.invalidate("Team");
      await ask('{ search(text: "") { __typename } }');
      expect(world.executed).toBe(5);
      await cache.invalidate("User");
      await ask(USER, {}, { id: "2" });
      expect(world.executed).toBe(6);
    });

    it("does not store what was invalidated while it was executed", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({}, cache);
      world.hold = gate();
      const asked = ask(USER, {}, { id: "1" });
      await eventually(() => world.waiting === 1, "the execution");
      world.names.set("1", "Eve");
      await make({ url: redis.url }).invalidate("User:1");
      world.hold.open(undefined);
      expect((await asked).data).toEqual({ user: { name: "Ada" } });
      await eventually(async () => ((await cache.stats()).client.fill_refused ?? 0) === 1, "the refusal");
      expect((await ask(USER, {}, { id: "1" })).data).toEqual({ user: { name: "Eve" } });
    });

    it("executes once for many who ask at once, on two servers", async () => {
      const servers = [serve(), serve()];
      world.hold = gate();
      const asked = servers.flatMap((ask) => Array.from({ length: 20 }, () => ask(USER, {}, { id: "1" })));
      await eventually(() => world.waiting === 1, "the execution");
      world.hold.open(undefined);
      for (const one of await Promise.all(asked)) expect(one.data).toEqual({ user: { name: "Ada" } });
      expect(world.executed).toBe(1);
    });

    it("keeps what is private by its session, and for nobody else", async () => {
      const cache = make({ url: redis.url });
      const ask = serve(bySession, cache);
      const ME = "{ me { name } }";
      for (const [session, name] of [
        ["1", "Ada"],
        ["2", "Bea"],
      ] as const) {
        await eventually(async () => (await ask(ME, { session })).age !== undefined, "a hit");
        expect(await ask(ME, { session })).toMatchObject({ data: { me: { name } }, control: "max-age=60, private" });
      }
      const before = world.executed;
      expect((await serve(bySession)(ME, { session: "2" })).data).toEqual({ me: { name: "Bea" } });
      expect(world.executed).toBe(before);
      expect(await ask(ME)).toMatchObject({ data: { me: { name: "Ada" } }, age: undefined });
      expect(await ask(ME)).toMatchObject({ age: undefined });
      expect(world.executed).toBe(before + 2);
    });

    it("gives a private response to no other session that waited for the same", async () => {
      const ask = serve(bySession);
      world.hold = gate();
      const asked = ["1", "2"].map((session) => ask("{ me { name } }", { session }));
      await eventually(() => world.waiting === 1, "the execution");
      world.hold.open(undefined);
      expect((await Promise.all(asked)).map(({ data }) => data)).toEqual([
        { me: { name: "Ada" } },
        { me: { name: "Bea" } },
      ]);
    });

    it("keeps what is public apart for those with a session, and shares it among them", async () => {
      const cache = make({ url: redis.url });
      const ask = serve(bySession, cache);
      await ask(USER, {}, { id: "1" });
      await ask(USER, { session: "1" }, { id: "1" });
      await stored(cache, 2);
      expect(world.executed).toBe(2);
      await ask(USER, { session: "2" }, { id: "1" });
      expect(world.executed).toBe(2);
    });

    it("goes past the cache where there are no hints, until there are", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({}, cache);
      const events = record(cache);
      for (let n = 1; n <= 3; n += 1) expect(await ask("{ now }")).toMatchObject({ data: { now: n }, age: undefined });
      expect(events.filter(({ name }) => name === "miss")).toHaveLength(1); // the first, which could not know
      const DYNAMIC = "query D($maxAge: Int!) { dynamic(maxAge: $maxAge) }";
      await ask(DYNAMIC, {}, { maxAge: 0 });
      await ask(DYNAMIC, {}, { maxAge: 60 });
      await ask(DYNAMIC, {}, { maxAge: 60 });
      await stored(cache);
      expect((await ask(DYNAMIC, {}, { maxAge: 60 })).age).toBe("0");
    });

    it("stores no errors, and waits for no one's", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({}, cache);
      const BROKEN = "query B($fail: Boolean!) { broken(fail: $fail) }";
      world.hold = gate();
      const asked = Array.from({ length: 3 }, () => ask(BROKEN, {}, { fail: true }));
      await eventually(() => world.waiting === 1, "the execution");
      world.hold.open(undefined);
      for (const one of await Promise.all(asked)) expect(one.errors?.[0]?.message).toBe("broken");
      expect(world.executed).toBe(3);
      expect(await redis.command("DBSIZE")).toBe(0);
      expect(logger.warn).not.toHaveBeenCalled();
    });

    it("caches queries alone", async () => {
      const ask = serve();
      for (const name of ["Eve", "Eva"]) {
        const { data } = await ask("mutation M($name: String!) { rename(id: 1, name: $name) { name } }", {}, { name });
        expect(data).toEqual({ rename: { name } });
      }
      expect(await redis.command("DBSIZE")).toBe(0);
      expect((await ask("{ nothing }")).errors).toHaveLength(1);
    });

    it("tells apart what a response depends on, and nothing else", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({ extraCacheKeyData: ({ contextValue }) => contextValue.language ?? null }, cache);
      const TWO = "query T($a: Int, $id: ID!) { user(id: $id) { name } users(first: $a) { id } }";
      await ask(TWO, { language: "en" }, { id: "1", a: 1 });
      await stored(cache);
      await ask(TWO, { language: "en" }, { a: 1, id: "1" });
      expect(world.executed).toBe(2);
      await ask(TWO, { language: "de" }, { id: "1", a: 1 });
      await ask(TWO, { language: "en" }, { id: "1", a: 2 });
      expect(world.executed).toBe(6);
    });

    it("can be told not to read, and not to write", async () => {
      const cache = make({ url: redis.url });
      const fresh = serve({ shouldReadFromCache: () => Promise.resolve(false) }, cache);
      await fresh(USER, {}, { id: "1" });
      await stored(cache);
      world.names.set("1", "Eve");
      await fresh(USER, {}, { id: "1" });
      await stored(cache, 2);
      const mute = serve({ shouldWriteToCache: () => Promise.resolve(false) });
      expect(await mute(USER, {}, { id: "1" })).toMatchObject({ data: { user: { name: "Eve" } }, age: "0" });
      await mute(USER, {}, { id: "2" });
      await mute(USER, {}, { id: "2" });
      expect(world.executed).toBe(4);
    });

    it("serves stale while one request computes anew", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({ grace: "1h" }, cache);
      await ask(USER, {}, { id: "1" });
      await stored(cache);
      world.names.set("1", "Eve");
      await cache.invalidate("User:1", { soft: true });
      world.hold = gate();
      const elected = ask(USER, {}, { id: "1" });
      await eventually(() => world.waiting === 1, "the execution");
      expect(await serve()(USER, {}, { id: "1" })).toMatchObject({ data: { user: { name: "Ada" } }, age: "0" });
      world.hold.open(undefined);
      expect((await elected).data).toEqual({ user: { name: "Eve" } });
      await stored(cache, 2);
      expect((await ask(USER, {}, { id: "1" })).data).toEqual({ user: { name: "Eve" } });
      expect(world.executed).toBe(2);
    });

    it("stores no response with more tags than it may have", async () => {
      const ask = serve({ maxTags: 2, tagPrefix: "gql:" });
      await ask("{ users { name } }");
      await ask("{ users { name } }");
      expect(world.executed).toBe(2);
      expect(logger.warn).toHaveBeenCalledWith(expect.stringContaining("3 tags"));
    });

    it("takes ids from where they are, and prefixes tags", async () => {
      const cache = make({ url: redis.url });
      const entityId = (type: string, object: Readonly<Record<string, unknown>>): string =>
        `${type}/${String(object.name)}`;
      await serve({ entityId, tagPrefix: "gql:" }, cache)(USER, {}, { id: "1" });
      await stored(cache);
      const [key] = (await redis.command("KEYS", "shop:graphql:*")) as string[];
      const tags = (await cache.meta((key as string).slice("shop:".length)))?.tags;
      expect([...(tags ?? [])].sort()).toEqual(["gql:User", "gql:User:User/Ada"]);
    });

    it("keeps scalars as the client gets them", async () => {
      const cache = make({ url: redis.url });
      const ask = serve({}, cache);
      await ask("{ time }");
      await stored(cache);
      expect((await ask("{ time }")).data).toEqual({ time: "1970-01-01T00:00:00.000Z" });
    });

    it("gives the lease up when another plugin breaks the request", async () => {
      let breaks = true;
      const plugin: ApolloServerPlugin<Context> = {
        requestDidStart: () =>
          Promise.resolve({
            responseForOperation: () => (breaks ? Promise.reject(new Error("a plugin")) : Promise.resolve(null)),
          }),
      };
      const cache = make({ url: redis.url });
      const ask = serve({ plugins: [plugin] }, cache);
      await expect(ask(USER, {}, { id: "1" })).rejects.toThrow("Internal server error");
      breaks = false;
      // Who comes while the lease is being given up shares its fate, and executes for itself.
      await eventually(async () => (await ask(USER, {}, { id: "1" })).age === "0", "a hit");
      expect(await redis.command("KEYS", "shop:graphql:*")).toHaveLength(1);
    });

    it("answers when Redis is away", async () => {
      const gone = await TestServer.start({ module });
      const ask = serve({}, make({ url: gone.url, timeout: 200 }));
      await ask(USER, {}, { id: "1" });
      await gone.kill();
      for (let n = 0; n < 5; n += 1) {
        expect((await ask(USER, {}, { id: "1" })).data).toEqual({ user: { name: "Ada" } });
      }
      await gone.stop();
    });
  });

  describe("the key-value cache", () => {
    it("gets, sets with seconds and tags, and deletes", async () => {
      const cache = make({ url: redis.url });
      const store = new CacheFlowKeyValueCache(cache);
      expect(await store.get("a")).toBeUndefined();
      await store.set("a", "text", { ttl: 90.5, tags: ["t"] });
      expect(await store.get("a")).toBe("text");
      expect((await cache.meta("a"))?.ttlMs).toBeGreaterThan(80_000);
      await cache.invalidate("t");
      expect(await store.get("a")).toBeUndefined();
      await store.set("b", "text", { ttl: null });
      expect((await cache.meta("b"))?.ttlMs).toBe(-1);
      expect(await store.delete("b")).toBe(true);
      expect(await store.delete("b")).toBe(false);
      await store.set("c", "text");
      await store.set("c", "text", { ttl: 0 });
      expect(await store.get("c")).toBeUndefined();
    });

    it("keeps persisted queries", async () => {
      const cache = make({ url: redis.url });
      const server = new ApolloServer({
        typeDefs,
        resolvers: world.resolvers,
        cache: new CacheFlowKeyValueCache(cache),
      });
      running.push(server);
      const { createHash } = await import("node:crypto");
      const query = "{ now }";
      const sha256Hash = createHash("sha256").update(query).digest("hex");
      const extensions = { persistedQuery: { version: 1, sha256Hash } };
      await server.executeOperation({ query, extensions });
      await eventually(async () => (await cache.get(`apq:${sha256Hash}`)) === query, "the query to be kept");
      const { body } = await server.executeOperation({ extensions });
      expect(body).toMatchObject({ kind: "single", singleResult: { data: { now: 2 } } });
    });
  });
});
