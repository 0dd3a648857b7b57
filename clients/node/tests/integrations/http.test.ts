/** The cache of responses before an application, in Express and in Fastify: what is stored, for whom, for how long. */
import type { ServerResponse } from "node:http";
import { request as send } from "undici";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { CacheFlow, CacheFlowOptions } from "../../src/index.js";
import { addTags, surrogateKey, uriTag } from "../../src/integrations/express.js";
import type { HttpOptions } from "../../src/integrations/http/policy.js";
import { caches, gate, record } from "../support/caches.js";
import { eventually, TestServer } from "../support/servers.js";
import { plain, site as open, type Framework, type Site } from "../support/web.js";

describe.each<{ framework: Framework }>([
  { framework: "express 4" },
  { framework: "express 5" },
  { framework: "fastify" },
])("$framework", ({ framework }) => {
  const make = caches();
  const sites: Site[] = [];
  let server: TestServer;

  beforeAll(async () => {
    server = await TestServer.start();
  });
  afterAll(() => server.stop());
  beforeEach(() => server.command("FLUSHALL"));
  afterEach(async () => {
    await Promise.all(sites.splice(0).map((each) => each.stop()));
  });

  const start = async (
    options: HttpOptions<never> = {},
    more: CacheFlowOptions = {},
  ): Promise<{ site: Site; cache: CacheFlow }> => {
    const cache = make({ url: server.url, ...more });
    const site = await open(framework, cache, options);
    sites.push(site);
    return { site, cache };
  };
  const host = (site: Site): string => new URL(site.url).host;

  it("computes a response once, and says so", async () => {
    const { site } = await start({ ttl: "60s", grace: "5m" });
    const [first, second] = [await site.ask("/items/1"), await site.ask("/items/1")];
    expect([first.text, second.text, site.calls]).toEqual(["answer 1", "answer 1", 1]);
    expect(first.headers["cache-control"]).toBe("max-age=60, stale-while-revalidate=300, stale-if-error=300");
    expect(second.headers["cache-control"]).toBe(first.headers["cache-control"]);
    expect(first.headers.age).toBeUndefined();
    expect(Number(second.headers.age)).toBeGreaterThanOrEqual(0);
    expect(second.headers.etag).toBe(first.headers.etag);
    expect(first.headers["cache-status"]).toBe("cacheflow; fwd=miss; stored");
    expect(second.headers["cache-status"]).toMatch(/^cacheflow; hit; ttl=\d+$/);
    expect(second.headers["content-type"]).toBe("text/plain");
    expect(second.headers["content-length"]).toBe("8");
  });

  it("runs the application once for many who ask at once, of two processes' caches", async () => {
    const { site } = await start({ ttl: "60s" });
    const { site: other } = await start({ ttl: "60s" });
    const held = gate<undefined>();
    site.handler = other.handler = async (request, response) => {
      await held.promise;
      await plain(() => site)(request, response);
    };
    // One key: the same Host.
    const headers = { host: "shop.example" };
    const asking = [...Array(20).keys()].map((at) => (at % 2 ? site : other).ask("/items/1", headers));
    await eventually(() => site.calls + other.calls > 0, "the first");
    held.open(undefined);
    expect(new Set((await Promise.all(asking)).map((answer) => answer.text)).size).toBe(1);
    expect(site.calls + other.calls).toBe(1);
  });

  it("does not send the same bytes again", async () => {
    const { site } = await start({ ttl: "60s", tags: "a" });
    const etag = String((await site.ask("/items/1")).headers.etag);
    const again = await site.ask("/items/1", { "if-none-match": `"x", W/${etag}` });
    expect([again.status, again.text, again.headers.etag]).toEqual([304, "", etag]);
    expect(again.headers["surrogate-key"]).toBe("a");
    expect(again.headers["content-type"]).toBeUndefined();
    expect((await site.ask("/items/1", { "if-none-match": '"x"' })).status).toBe(200);
    expect((await site.ask("/items/2", { "if-none-match": "*" })).status).toBe(304);
    expect((await site.ask("/items/2")).text).toBe("answer 2");
    expect(site.calls).toBe(2);
  });

  it("keeps the application's own validators, and compares its dates", async () => {
    const { site } = await start({ ttl: "60s" });
    const modified = "Wed, 21 Oct 2026 07:28:00 GMT";
    site.handler = plain(() => site, { etag: 'W/"own"', "last-modified": modified });
    expect((await site.ask("/items/1")).headers.etag).toBe('W/"own"');
    expect((await site.ask("/items/1", { "if-none-match": '"own"' })).status).toBe(304);
    expect((await site.ask("/items/1", { "if-modified-since": modified })).status).toBe(304);
    expect((await site.ask("/items/1", { "if-modified-since": "0" })).status).toBe(200);
    expect(site.calls).toBe(1);
  });

  it("takes method, host, path and query for the key, in the order of names", async () => {
    const { site } = await start({ ttl: "60s" });
    expect((await site.ask("/items/1?b=2&a=1")).text).toBe("answer 1");
    expect((await site.ask("/items/1?a=1&b=2")).text).toBe("answer 1");
    expect((await site.ask("/items/1?a=2&b=2")).text).toBe("answer 2");
    expect((await site.ask("/items/1?a=1&b=2", { host: "b.example" })).text).toBe("answer 3");
    const head = await site.ask("/items/1?a=1&b=2", {}, "HEAD");
    expect([head.status, head.text, site.calls]).toEqual([200, "", 4]);
    await site.ask(`/items/${"x".repeat(1000)}`);
    await site.ask(`/items/${"x".repeat(999)}y`);
    expect(site.calls).toBe(6);
    const keys = (await server.command("KEYS", "*")) as string[];
    expect(Math.max(...keys.map((key) => key.length))).toBeLessThan(220);
  });

  it("hides what is not wanted of the query from the application too", async () => {
    const { site } = await start({ ttl: "60s", query: ["page"] });
    const seen: (string | undefined)[] = [];
    site.handler = async (request, response) => {
      seen.push(request.url);
      await plain(() => site)(request, response);
    };
    await site.ask("/items/1?utm=x&page=2");
    expect((await site.ask("/items/1?page=2&utm=y")).text).toBe("answer 1");
    expect(seen).toEqual(["/items/1?page=2"]);
  });

  it("serves what is stale while one request of nobody's computes it anew", async () => {
    const { site, cache } = await start({ ttl: "60s", grace: "5m", tags: "item:{id}" });
    await site.ask("/items/1");
    await cache.invalidate(["item:1"], { soft: true });
    expect((await site.ask("/items/1")).text).toBe("answer 1");
    await eventually(async () => (await site.ask("/items/1")).text === "answer 2", "the refreshed one");
    expect(site.calls).toBe(2);
    // And it has its tags again.
    await cache.invalidate(["item:1"]);
    expect((await site.ask("/items/1")).text).toBe("answer 3");
  });

  it("serves what is stale while the application fails", async () => {
    const { site, cache } = await start({ ttl: "60s", grace: "5m", tags: "t" });
    const events = record(cache);
    await site.ask("/items/1");
    await cache.invalidate(["t"], { soft: true });
    site.handler = plain(() => site, {}, 503);
    expect((await site.ask("/items/1")).text).toBe("answer 1");
    await eventually(() => events.some((event) => event.name === "refresh" && event.error), "the failure");
    expect((await site.ask("/items/1")).status).toBe(200);
  });

  it("gives a failure that is private to nobody else", async () => {
    const { site } = await start({ ttl: "60s" });
    const held = gate<undefined>();
    site.handler = async (request, response) => {
      if (site.calls === 1) await held.promise;
      await plain(() => site, { "cache-control": "private" }, 503)(request, response);
    };
    const asking = [1, 2, 3].map(() => site.ask("/items/1"));
    await eventually(() => site.calls > 0, "the first");
    held.open(undefined);
    await Promise.all(asking);
    expect(site.calls).toBe(3);
  });

  it("stores no failure, and shares it with those who waited", async () => {
    const { site } = await start({ ttl: "60s" });
    const held = gate<undefined>();
    site.handler = async (request, response) => {
      await held.promise;
      await plain(() => site, {}, 503)(request, response);
    };
    const asking = [1, 2, 3].map(() => site.ask("/items/1"));
    await eventually(() => site.calls > 0, "the first");
    held.open(undefined);
    expect((await Promise.all(asking)).map((answer) => answer.status)).toEqual([503, 503, 503]);
    expect(site.calls).toBeLessThan(3);
    const before = site.calls;
    await site.ask("/items/1");
    expect(site.calls).toBe(before + 1);
  });

  it.each([
    { "set-cookie": "session=1" },
    { "cache-control": "private" },
    { "cache-control": "no-store" },
    { vary: "*" },
  ])("gives %j to nobody else, not even to those who waited", async (headers) => {
    const { site } = await start({ ttl: "60s" });
    const held = gate<undefined>();
    let count = 0;
    site.handler = async (_, response) => {
      const mine = (count += 1);
      if (mine === 1) await held.promise;
      response.writeHead(200, headers).end(`for ${String(mine)}`);
    };
    const asking = [1, 2, 3, 4].map(() => site.ask("/items/1"));
    await eventually(() => count > 0, "the first");
    held.open(undefined);
    expect(new Set((await Promise.all(asking)).map((answer) => answer.text)).size).toBe(4);
    expect(count).toBe(4);
  });

  it("lets nobody wait for anybody on what is private", async () => {
    const { site } = await start({ ttl: "60s" });
    site.handler = plain(() => site, { "cache-control": "private" });
    await site.ask("/items/1");
    const held = gate<undefined>();
    site.handler = async (_, response) => {
      if (site.calls === 4) held.open(undefined);
      await held.promise;
      response.end();
    };
    await Promise.all([1, 2, 3].map(() => site.ask("/items/1")));
    expect(site.calls).toBe(4);
  });

  it.each([{ authorization: "Bearer 1" }, { "x-api-key": "1" }, { cookie: "session=1" }])(
    "shares among requests with %j only what is for everybody",
    async (headers: Record<string, string>) => {
      const { site } = await start({ ttl: "60s" });
      await site.ask("/items/1", headers);
      expect((await site.ask("/items/1", headers)).text).toBe("answer 2");
      expect((await site.ask("/items/1")).text).toBe("answer 3");
      expect((await site.ask("/items/1")).text).toBe("answer 3");
      site.handler = plain(() => site, { "cache-control": "public, max-age=60" });
      expect((await site.ask("/items/2", headers)).text).toBe("answer 4");
      expect((await site.ask("/items/2", headers)).text).toBe("answer 4");
    },
  );

  it("takes the cookies that are named for credentials", async () => {
    const { site } = await start({ ttl: "60s", credentialCookies: ["session"] });
    await site.ask("/items/1", { cookie: "theme=dark" });
    expect((await site.ask("/items/1")).text).toBe("answer 1");
    expect((await site.ask("/items/1", { cookie: "theme=dark; session=2" })).text).toBe("answer 2");
  });

  it("stores responses that vary apart", async () => {
    const { site } = await start({ ttl: "60s" });
    site.handler = (request, response) => {
      response.writeHead(200, { vary: "Accept-Language" });
      response.end(`${String(request.headers["accept-language"])} ${String(site.calls)}`);
    };
    const ask = async (language: string): Promise<string> =>
      (await site.ask("/items/1", { "accept-language": language })).text;
    await ask("de"); // It says what it varies by
    expect([await ask("de"), await ask("en")]).toEqual(["de 2", "en 3"]);
    expect([await ask("de"), await ask("en")]).toEqual(["de 2", "en 3"]);
  });

  it("computes anew for requests that ask for it, unless they are not obeyed", async () => {
    const { site } = await start({ ttl: "60s" });
    await site.ask("/items/1");
    expect((await site.ask("/items/1", { "cache-control": "no-cache" })).text).toBe("answer 2");
    expect((await site.ask("/items/1")).text).toBe("answer 2");
    expect((await site.ask("/items/1", { "cache-control": "min-fresh=3600" })).text).toBe("answer 3");
    expect((await site.ask("/items/1", { "cache-control": "only-if-cached" })).text).toBe("answer 3");
    expect((await site.ask("/items/9", { "cache-control": "only-if-cached" })).status).toBe(504);
    expect((await site.ask("/items/1", { "cache-control": "no-store" })).text).toBe("answer 4");
    expect((await site.ask("/items/1", { range: "bytes=0-1" })).text).toBe("answer 5");
    expect((await site.ask("/items/1")).text).toBe("answer 3");
    const { site: deaf } = await start({ ttl: "60s", obeyRequests: false });
    await deaf.ask("/items/1");
    expect((await deaf.ask("/items/1", { "cache-control": "no-cache" })).text).toBe("answer 1");
  });

  it("tells CDNs the tags, takes the application's, and is invalidated by all of them", async () => {
    const { site, cache } = await start({ ttl: "60s", tags: ["item:{id}", "two words"] });
    site.handler = async (request, response) => {
      addTags(request, "added");
      await plain(() => site, { "surrogate-key": "said%20so more" })(request, response);
    };
    const first = await site.ask("/items/7");
    expect(first.headers["surrogate-key"]).toBe("item:7 two%20words added said%20so more");
    expect(first.headers["cache-tag"]).toBe("item:7,two%20words,added,said%20so,more");
    for (const tag of ["item:7", "two words", "added", "said so", "more", uriTag(host(site), "/items/7")]) {
      const { text } = await site.ask("/items/7");
      await cache.invalidate([tag]);
      expect((await site.ask("/items/7")).text).not.toBe(text);
    }
    expect(surrogateKey("a b,c\n\ud800é")).toBe("a%20b%2Cc%0A%EF%BF%BD%C3%A9");
  });

  it("does not store what was invalidated while it was computed", async () => {
    const { site, cache } = await start({ ttl: "60s", tags: "t" });
    const held = gate<undefined>();
    site.handler = async (request, response) => {
      if (site.calls === 1) await held.promise;
      await plain(() => site)(request, response);
    };
    const asking = site.ask("/items/1");
    await eventually(() => site.calls === 1, "the application");
    await cache.invalidate(["t"]);
    held.open(undefined);
    await asking;
    expect((await site.ask("/items/1")).text).toBe("answer 2");
  });

  it("invalidates what is stored of a path that was changed, before the change is answered", async () => {
    const { site } = await start({ ttl: "60s" });
    await site.ask("/items/1?page=2");
    site.handler = plain(() => site, {}, 409);
    await site.ask("/items/1", {}, "PUT");
    site.handler = plain(() => site);
    expect((await site.ask("/items/1?page=2")).text).toBe("answer 1");
    expect((await site.ask("/items/1", {}, "PUT")).text).toBe("answer 3");
    expect((await site.ask("/items/1?page=2")).text).toBe("answer 4");
  });

  it("passes by streams and long bodies as they come", async () => {
    const { site, cache } = await start({ ttl: "60s", maxBody: 100 });
    const events = record(cache);
    let response!: ServerResponse;
    site.handler = (_, given) => {
      response = given;
      response.write("first ");
    };
    const answer = await send(`${site.url}/items/1`);
    const chunks = answer.body[Symbol.asyncIterator]();
    expect(String(((await chunks.next()) as { value: Buffer }).value)).toBe("first ");
    response.write("second ");
    expect(String(((await chunks.next()) as { value: Buffer }).value)).toBe("second ");
    await new Promise<void>((written) => response.end("third", written));
    expect(String(((await chunks.next()) as { value: Buffer }).value)).toBe("third");
    site.handler = (_, given) => void given.end("x".repeat(101));
    expect((await site.ask("/items/2")).text).toHaveLength(101);
    expect((await site.ask("/items/2")).text).toHaveLength(101);
    expect(site.calls).toBe(3);
    site.handler = (_, given) => {
      given.writeHead(200, { "content-length": "10" });
      given.write("part ");
      given.end("whole");
    };
    expect((await site.ask("/items/3")).text).toBe("part whole");
    expect((await site.ask("/items/3")).text).toBe("part whole");
    expect(site.calls).toBe(4);
    expect(events.filter((event) => event.name === "load" && event.error)).toEqual([]);
  });

  it("gives long streams at the pace of the client", async () => {
    const { site } = await start({ ttl: "60s" });
    site.handler = async (_, response) => {
      // Less than what Node itself would call full.
      if (!response.write("small")) await new Promise((drained) => response.once("drain", drained));
      for (let at = 0; at < 200; at += 1) {
        if (!response.write(Buffer.alloc(64 * 1024, at))) {
          await new Promise((drained) => response.once("drain", drained));
        }
      }
      response.end();
    };
    const { body } = await send(`${site.url}/items/1`);
    let length = 0;
    for await (const chunk of body) length += (chunk as Buffer).length;
    expect(length).toBe(5 + 200 * 64 * 1024);
  });

  it("gives bytes that are no text back as they were", async () => {
    const { site } = await start({ ttl: "60s" });
    const body = Buffer.from([0, 255, 128, 10]);
    site.handler = (_, response) => void response.end(body);
    for (let at = 0; at < 2; at += 1) {
      const answer = await send(`${site.url}/items/1`);
      expect(Buffer.from(await answer.body.arrayBuffer())).toEqual(body);
    }
    expect(site.calls).toBe(1);
  });

  it("goes on for the next one when the client has left", async () => {
    const { site } = await start({ ttl: "60s" });
    const held = gate<undefined>();
    site.handler = async (request, response) => {
      await held.promise;
      await plain(() => site)(request, response);
    };
    const leaving = new AbortController();
    const left = send(`${site.url}/items/1`, { signal: leaving.signal });
    await eventually(() => site.calls === 1, "the application");
    leaving.abort();
    await expect(left).rejects.toThrow();
    held.open(undefined);
    expect((await site.ask("/items/1")).text).toBe("answer 1");
  });

  it("leaves the answer to the application where Redis is down", async () => {
    const dead = await TestServer.start();
    const { site } = await start({ ttl: "60s" }, { url: dead.url, timeout: 100 });
    await site.ask("/items/1");
    await dead.stop();
    expect((await site.ask("/items/1")).text).toBe("answer 2");
    expect((await site.ask("/items/1", {}, "DELETE")).text).toBe("answer 3");
  });

  it("caches what it is told to, tells browsers what they are to be told, and names itself or not", async () => {
    const { site } = await start({ ttl: "1h", browserTtl: "10s", cacheStatus: "", tagHeaders: [], tags: "t" });
    const answer = await site.ask("/items/1");
    expect(answer.headers["cache-control"]).toBe("max-age=10, s-maxage=3600");
    expect(answer.headers["cache-status"]).toBeUndefined();
    expect(answer.headers["surrogate-key"]).toBeUndefined();
    const { site: never } = await start({ ttl: "1h", when: () => false });
    await never.ask("/items/2");
    expect((await never.ask("/items/2")).text).toBe("answer 2");
  });

  it("takes another version's value for none", async () => {
    const { site } = await start({ ttl: "60s" });
    await site.ask("/items/1");
    const [key] = (await server.command("KEYS", "*")) as [string];
    await server.command("CACHE.SET", key, '{"status":"200"}', "EX", 60);
    expect((await site.ask("/items/1")).text).toBe("answer 2");
  });

  it("is sure about its options", async () => {
    await expect(start({ ttl: "soon" as "1s" })).rejects.toMatchObject({ code: "bad_duration" });
    await expect(start({ vary: "accept" as unknown as string[] })).rejects.toMatchObject({ code: "bad_option" });
    await expect(start({ maxBody: 0 })).rejects.toMatchObject({ code: "bad_option" });
  });
});
