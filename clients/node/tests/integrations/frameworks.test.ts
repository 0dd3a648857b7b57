/** What is Express' or Fastify's own about the cache before them: order, mounting, hooks, headers of others. */
import express, { Router, type Express, type NextFunction, type Request, type Response } from "express";
import { fastify, type FastifyInstance } from "fastify";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import { request as send } from "undici";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { CacheFlow } from "../../src/index.js";
import { httpCache as expressCache } from "../../src/integrations/express.js";
import { httpCache as fastifyCache } from "../../src/integrations/fastify.js";
import { caches, record } from "../support/caches.js";
import { eventually, TestServer } from "../support/servers.js";

const make = caches();
let server: TestServer;
let cache: CacheFlow;
let url: string;
let calls: number;
beforeAll(async () => {
  server = await TestServer.start();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.command("FLUSHALL");
  cache = make({ url: server.url });
  calls = 0;
});

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}
const ask = async (path: string, headers: Record<string, string> = {}): Promise<Answer> => {
  const answer = await send(url + path, { headers });
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
};

describe("Express", () => {
  const listening: Server[] = [];
  afterEach(() => {
    for (const each of listening.splice(0)) {
      each.close();
      each.closeAllConnections();
    }
  });
  const listen = async (app: Express): Promise<void> => {
    const http = createServer(app);
    listening.push(http);
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${String((http.address() as AddressInfo).port)}`;
  };
  const json = (_: Request, response: Response): void => {
    response.json({ call: (calls += 1) });
  };

  it("stores json with Express' own ETag, and answers 304", async () => {
    const app = express();
    app.get("/a", expressCache(cache, { ttl: "60s" }), json);
    await listen(app);
    const first = await ask("/a");
    expect(first.headers.etag).toMatch(/^W\//);
    expect((await ask("/a")).text).toBe('{"call":1}');
    expect((await ask("/a", { "if-none-match": String(first.headers.etag) })).status).toBe(304);
    // A condition of who comes first is not Express' to answer: what is stored is whole.
    await server.command("FLUSHALL");
    expect((await ask("/a", { "if-none-match": "*" })).status).toBe(304);
    expect((await ask("/a")).text).toBe('{"call":2}');
    expect((await ask("/none", { "if-none-match": "*" })).status).toBe(404);
  });

  it("leaves the headers of middleware before it to each request, those behind it to the response", async () => {
    const app = express();
    let requests = 0;
    app.use((_request: Request, response: Response, next: NextFunction) => {
      response.setHeader("x-request-id", String((requests += 1)));
      next();
    });
    app.use(expressCache(cache, { ttl: "60s" }));
    app.use((_request: Request, response: Response, next: NextFunction) => {
      response.setHeader("x-behind", String(requests));
      next();
    });
    app.get("/a", json);
    await listen(app);
    const first = await ask("/a");
    const second = await ask("/a");
    const told = [first, second].map(({ headers }) => [headers["x-request-id"], headers["x-behind"]]);
    expect(told).toEqual([
      ["1", "1"],
      ["2", "1"],
    ]);
  });

  it("works with middleware that changes what is sent, and with what sets headers at the last moment", async () => {
    const app = express();
    const ended: number[] = [];
    app.use((_request: Request, response: Response, next: NextFunction) => {
      const end = response.end.bind(response) as (chunk: unknown) => Response;
      response.end = (chunk: unknown) => end(Buffer.from(String(chunk).toUpperCase()));
      response.on("finish", () => ended.push(response.statusCode));
      next();
    });
    app.use(expressCache(cache, { ttl: "60s", grace: "60s", tags: "t" }));
    app.use((_request: Request, response: Response, next: NextFunction) => {
      const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => Response;
      response.writeHead = (...args: unknown[]) => {
        response.setHeader("x-late", "set");
        return writeHead(...args);
      };
      next();
    });
    app.get("/a", (_request, response) => {
      response.type("text").end(`call ${String((calls += 1))}`);
    });
    await listen(app);
    expect((await ask("/a")).text).toBe("CALL 1");
    const again = await ask("/a");
    expect([again.text, again.headers["x-late"]]).toEqual(["CALL 1", "set"]);
    await cache.invalidate(["t"], { soft: true });
    expect((await ask("/a")).text).toBe("CALL 1");
    // Computed anew through the same middleware, and not made upper case twice or stored so.
    await eventually(async () => (await ask("/a")).text === "CALL 2", "the refreshed one");
    expect(
      String(await server.command("CACHE.GET", ((await server.command("KEYS", "*")) as string[])[0] ?? "")),
    ).toContain("call 2");
    expect(new Set(ended)).toEqual(new Set([200]));
  });

  it("works in a mounted router and a mounted application, with the parameters and the whole path", async () => {
    const app = express();
    const mounted = express();
    const router = Router();
    router.get("/:id", expressCache(cache, { ttl: "60s", grace: "60s", tags: ["item:{id}"] }), json);
    mounted.use("/items", router);
    app.use("/api", mounted);
    app.use("/other", router);
    await listen(app);
    expect((await ask("/api/items/7")).headers["surrogate-key"]).toBe("item:7");
    expect((await ask("/other/7")).text).toBe('{"call":2}');
    await cache.invalidate(["item:7"], { soft: true });
    await ask("/api/items/7");
    await eventually(async () => (await ask("/api/items/7")).text === '{"call":3}', "the refreshed one");
  });

  it("goes by what a proxy says of the host, if it is trusted", async () => {
    for (const trusted of [false, true]) {
      const app = express();
      app.set("trust proxy", trusted);
      app.get("/a", expressCache(cache, { ttl: "60s" }), json);
      await listen(app);
      const from = async (host: string): Promise<string> => (await ask("/a", { "x-forwarded-host": host })).text;
      expect((await from("a.example")) === (await from("b.example"))).toBe(!trusted);
    }
  });

  it("hides what is not wanted of the query from handlers", async () => {
    const app = express();
    app.get("/a", expressCache(cache, { ttl: "60s", query: ["page"] }), (request, response) => {
      response.json(request.query);
    });
    await listen(app);
    expect((await ask("/a?utm=1&page=2")).text).toBe('{"page":"2"}');
  });

  it("stores files that are piped with their length, and no answer of the error handler", async () => {
    const app = express();
    const file = join(server.directory, "file.txt");
    writeFileSync(file, "x".repeat(100_000));
    const http = expressCache(cache, { ttl: "60s" });
    app.get("/file", http, (_request, response) => {
      calls += 1;
      response.sendFile(file, { dotfiles: "allow", cacheControl: false });
    });
    app.get("/error", http, () => {
      calls += 1;
      throw new Error("no");
    });
    app.use((_error: unknown, _request: Request, response: Response, next: NextFunction) => {
      if (response.headersSent) {
        next();
        return;
      }
      response.status(500).send("broken");
    });
    await listen(app);
    for (let at = 0; at < 2; at += 1) expect((await ask("/file")).text).toHaveLength(100_000);
    expect(calls).toBe(1);
    for (let at = 0; at < 2; at += 1) expect((await ask("/error")).text).toBe("broken");
    expect(calls).toBe(3);
  });

  it("keeps what is stale where middleware before it answers the refresh", async () => {
    const app = express();
    let requests = 0;
    app.use((_request: Request, response: Response, next: NextFunction) => {
      requests += 1;
      if (requests === 3) response.status(401).end();
      else next();
    });
    app.get("/a", expressCache(cache, { ttl: "60s", grace: "60s", tags: "t" }), json);
    await listen(app);
    const events = record(cache);
    await ask("/a");
    await cache.invalidate(["t"], { soft: true });
    expect((await ask("/a")).text).toBe('{"call":1}');
    await eventually(() => events.some((event) => event.name === "refresh" && event.error), "the failure");
    expect((await ask("/a")).text).toBe('{"call":1}');
    await eventually(async () => (await ask("/a")).text === '{"call":2}', "the refreshed one");
  });
});

describe("Fastify", () => {
  let app: FastifyInstance;
  beforeEach(() => {
    app = fastify();
  });
  afterEach(() => app.close());
  const listen = async (): Promise<void> => {
    url = await app.listen({ port: 0, host: "127.0.0.1" });
  };

  it("stores what handlers return, by each route's own options", async () => {
    await app.register(fastifyCache, { cache, ttl: "60s", grace: "60s" });
    app.get("/json/:id", { config: { httpCache: { tags: "item:{id}", ttl: "1h" } } }, () => ({ call: (calls += 1) }));
    app.get("/not", { config: { httpCache: false } }, () => ({ call: (calls += 1) }));
    await app.register((inner, _options, done) => {
      inner.get("/inner", () => ({ call: (calls += 1) }));
      done();
    });
    await listen();
    const first = await ask("/json/7");
    expect(first.headers["cache-control"]).toBe("max-age=3600, stale-while-revalidate=60, stale-if-error=60");
    expect((await ask("/json/7")).text).toBe('{"call":1}');
    await cache.invalidate(["item:7"], { soft: true });
    expect((await ask("/json/7")).text).toBe('{"call":1}');
    await eventually(async () => (await ask("/json/7")).text === '{"call":2}', "the refreshed one");
    expect((await ask("/inner")).text).toBe((await ask("/inner")).text);
    expect((await ask("/not")).text).not.toBe((await ask("/not")).text);
  });

  it("runs the hooks before it for every request, and keeps what they set", async () => {
    await app.register(fastifyCache, { cache, ttl: "60s" });
    let requests = 0;
    const answered: number[] = [];
    app.addHook("onRequest", (_request, reply, done) => {
      reply.header("x-request-id", String((requests += 1)));
      done();
    });
    app.addHook("preHandler", (request, reply, done) => {
      if (request.headers["x-refused"] === undefined) done();
      else void reply.code(403).send("no");
    });
    app.addHook("onResponse", (_request, reply, done) => {
      answered.push(reply.raw.statusCode);
      done();
    });
    app.get("/a", () => ({ call: (calls += 1) }));
    await listen();
    const first = await ask("/a");
    const second = await ask("/a");
    expect([first.headers["x-request-id"], second.headers["x-request-id"]]).toEqual(["1", "2"]);
    expect(second.text).toBe('{"call":1}');
    expect((await ask("/a", { "x-refused": "1" })).status).toBe(403);
    await eventually(() => answered.length === 3, "the hooks");
    expect(answered).toEqual([200, 200, 403]);
  });

  it("passes streams by, stores what onSend hooks made of a payload, and hides what is not wanted", async () => {
    await app.register(fastifyCache, { cache, ttl: "60s", query: ["page"] });
    app.addHook("onSend", (_request, _reply, payload, done) => {
      done(null, typeof payload === "string" ? payload.toUpperCase() : payload);
    });
    app.get("/stream", (_request, reply) => reply.send(Readable.from([`call ${String((calls += 1))}`])));
    app.get("/text", (request) => `${JSON.stringify(request.query)} ${String((calls += 1))}`);
    await listen();
    expect([(await ask("/stream")).text, (await ask("/stream")).text]).toEqual(["call 1", "call 2"]);
    expect((await ask("/text?utm=1&page=2")).text).toBe('{"PAGE":"2"} 3');
    expect((await ask("/text?page=2")).text).toBe('{"PAGE":"2"} 3');
  });

  it("answers HEAD, and what handlers throw is not stored", async () => {
    await app.register(fastifyCache, { cache, ttl: "60s" });
    app.get("/a", () => ({ call: (calls += 1) }));
    app.get("/error", () => {
      throw new Error(`call ${String((calls += 1))}`);
    });
    await listen();
    for (let at = 0; at < 2; at += 1) {
      const head = await send(`${url}/a`, { method: "HEAD" });
      expect([head.statusCode, head.headers["content-length"]]).toEqual([200, "10"]);
      await head.body.dump();
    }
    expect(calls).toBe(1);
    expect((await ask("/error")).status).toBe(500);
    expect((await ask("/error")).text).toContain("call 3");
  });
});
