/** undici's CacheStore: its contract, as undici's own tests of stores have it, and under its interceptor. */
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { Agent, interceptors, request } from "undici";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { CacheFlow } from "../../src/index.js";
import { UndiciCacheStore, type UndiciCacheStoreOptions } from "../../src/integrations/undici.js";
import { caches } from "../support/caches.js";
import { eventually, TestServer } from "../support/servers.js";

type Key = Parameters<UndiciCacheStore["get"]>[0];
type Value = Parameters<UndiciCacheStore["createWriteStream"]>[1];

const make = caches();
let server: TestServer;
let cache: CacheFlow;
let store: UndiciCacheStore;
beforeAll(async () => {
  server = await TestServer.start();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.command("FLUSHALL");
  cache = make({ url: server.url });
  store = new UndiciCacheStore(cache);
});

describe("the store", () => {
  const key = (more: Partial<Key> = {}): Key => ({
    origin: "http://localhost",
    path: "/",
    method: "GET",
    headers: {},
    ...more,
  });
  const value = (more: Partial<Value> = {}): Value => ({
    statusCode: 200,
    statusMessage: "",
    headers: { foo: "bar", many: ["1", "2"] },
    cacheControlDirectives: { "max-age": 10 },
    cachedAt: Date.now(),
    staleAt: Date.now() + 10_000,
    deleteAt: Date.now() + 20_000,
    ...more,
  });
  const write = (to: Key, what: Value, chunks: (string | Buffer)[]): void => {
    const stream = store.createWriteStream(to, what);
    for (const chunk of chunks) stream.write(chunk);
    stream.end();
  };
  const body = async (found: Awaited<ReturnType<UndiciCacheStore["get"]>>): Promise<Buffer> =>
    buffer(found?.body as Readable);

  it("gives a response back to who has just written it, and to other processes", async () => {
    expect(await store.get(key())).toBeUndefined();
    const written = value();
    write(key(), written, ["asd", Buffer.from([255, 0])]);
    const found = await store.get(structuredClone(key()));
    expect(found).toMatchObject(written);
    expect(await body(found)).toEqual(Buffer.from([97, 115, 100, 255, 0]));
    const other = new UndiciCacheStore(make({ url: server.url }));
    expect(await other.get(key())).toMatchObject(written);
    expect(await store.get(key({ path: "/asd" }))).toBeUndefined();
    expect(await store.get(key({ method: "HEAD" }))).toBeUndefined();
  });

  it("gives stale responses until deleteAt, and overwrites them", async () => {
    const stale = value({ cachedAt: Date.now() - 2000, staleAt: Date.now() - 1000 });
    write(key(), stale, ["old"]);
    expect(await store.get(key())).toMatchObject({ staleAt: stale.staleAt });
    write(key(), value({ headers: { foo: "baz" } }), ["new"]);
    const found = await store.get(key());
    expect([found?.headers, String(await body(found))]).toEqual([{ foo: "baz" }, "new"]);
    write(key({ path: "/gone" }), value({ deleteAt: Date.now() - 1 }), ["x"]);
    expect(await store.get(key({ path: "/gone" }))).toBeUndefined();
    // By the clock of another machine it would still be there.
    const gone = { ...value({ deleteAt: Date.now() - 1 }), body: "x" };
    await cache.set("undici:GET:http://localhost/gone", gone, { ttl: "60s" });
    expect(await store.get(key({ path: "/gone" }))).toBeUndefined();
  });

  it("tells responses apart by what they vary by", async () => {
    const [one, two] = [{ "some-header": "1" }, { "some-header": "2" }];
    write(key({ headers: one }), value({ vary: one }), ["one"]);
    expect(String(await body(await store.get(key({ headers: one }))))).toBe("one");
    expect(await store.get(key({ headers: two }))).toBeUndefined();
    expect(await store.get(key())).toBeUndefined();
    write(key({ headers: two }), value({ vary: two }), ["two"]);
    write(key(), value({ vary: { "some-header": null } }), ["none"]);
    expect(String(await body(await store.get(key({ headers: one }))))).toBe("one");
    expect(String(await body(await store.get(key({ headers: two }))))).toBe("two");
    expect(String(await body(await store.get(key())))).toBe("none");
  });

  it("deletes an address, whatever the method and the headers", async () => {
    const headers = { a: "1" };
    write(key({ headers }), value({ vary: headers }), ["one"]);
    write(key({ method: "HEAD" }), value(), []);
    expect(await store.get(key({ headers }))).toBeDefined();
    expect(await store.get(key({ method: "HEAD" }))).toBeDefined();
    await store.delete(key({ method: "POST" }));
    expect(await store.get(key({ headers }))).toBeUndefined();
    expect(await store.get(key({ method: "HEAD" }))).toBeUndefined();
  });

  it("does not store what was deleted while its body arrived", async () => {
    const stream = store.createWriteStream(key(), value());
    stream.write("old");
    await eventually(
      async () =>
        ((await server.command("CACHE.META", "shop:undici:GET:http://localhost/")) as unknown[] | null) !== null,
      "the token",
    );
    await store.delete(key());
    stream.end();
    expect(await store.get(key())).toBeUndefined();
  });

  it("stores neither what is too long nor what did not end", async () => {
    store = new UndiciCacheStore(cache, { maxEntrySize: 3 });
    write(key(), value(), ["1234", "5"]);
    expect(await store.get(key())).toBeUndefined();
    const stream = store.createWriteStream(key(), value());
    stream.write("1");
    stream.destroy();
    expect(await store.get(key())).toBeUndefined();
    write(key(), value(), ["123"]);
    expect(String(await body(await store.get(key())))).toBe("123");
    expect(() => new UndiciCacheStore(cache, { maxEntrySize: -1 })).toThrow(
      expect.objectContaining({ code: "bad_option" }),
    );
  });

  it("has nothing where Redis is down, and fails nobody", async () => {
    const dead = await TestServer.start();
    store = new UndiciCacheStore(make({ url: dead.url, timeout: 100 }));
    write(key(), value(), ["x"]);
    expect(await store.get(key())).toBeDefined();
    await dead.stop();
    expect(await store.get(key())).toBeUndefined();
    write(key(), value(), ["x"]);
    await store.delete(key());
    expect(await store.get(key())).toBeUndefined();
  });
});

describe("under the interceptor", () => {
  let origin: Server;
  let url: string;
  let handler: RequestListener;
  let seen: IncomingHttpHeaders[] = [];
  beforeAll(async () => {
    origin = createServer((asked, response) => {
      seen.push(asked.headers);
      handler(asked, response);
    });
    await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${String((origin.address() as AddressInfo).port)}/a`;
  });
  afterAll(() => {
    origin.close();
    origin.closeAllConnections();
  });
  beforeEach(() => {
    seen = [];
  });
  const asking = (options: UndiciCacheStoreOptions = {}): ((method?: "GET" | "PUT") => Promise<string>) => {
    const under = new UndiciCacheStore(make({ url: server.url }), options);
    const dispatcher = new Agent().compose(interceptors.cache({ store: under }));
    return async (method = "GET") => (await request(url, { dispatcher, method })).body.text();
  };

  it("asks the origin once for all processes, and again after a change", async () => {
    handler = (_, response) => {
      response.writeHead(200, { "cache-control": "public, max-age=60" }).end(`answer ${String(seen.length)}`);
    };
    const [one, two] = [asking(), asking()];
    expect(await one()).toBe("answer 1");
    // undici does not wait for its store to have stored.
    await eventually(async () => ((await server.command("KEYS", "*")) as string[]).length > 0, "the stored one");
    expect(await two()).toBe("answer 1");
    expect(await one("PUT")).toBe("answer 2");
    await eventually(async () => (await two()) !== "answer 1", "the change to be known");
  });

  it("is invalidated by the tags that the origin names, and by those of the application", async () => {
    handler = (_, response) => {
      const headers = { "cache-control": "public, max-age=60", "surrogate-key": "product:7 shelf%2C3" };
      response.writeHead(200, headers).end(`answer ${String(seen.length)}`);
    };
    const ask = asking({ tags: ({ origin: from }) => [`origin:${new URL(from).hostname}`] });
    for (const tag of ["product:7", "shelf,3", "origin:127.0.0.1"]) {
      const answer = await ask();
      expect(await ask()).toBe(answer);
      await cache.invalidate([tag]);
      expect(await ask()).not.toBe(answer);
    }
  });

  it("revalidates what is stale with the origin", async () => {
    handler = (asked, response) => {
      const headers = { "cache-control": "public, max-age=0", etag: '"1"' };
      if (asked.headers["if-none-match"] === '"1"') response.writeHead(304, headers).end();
      else response.writeHead(200, headers).end("whole");
    };
    const ask = asking();
    expect(await ask()).toBe("whole");
    expect(await ask()).toBe("whole");
    expect(seen.at(-1)?.["if-none-match"]).toBe('"1"');
  });
});
