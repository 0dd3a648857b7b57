/** Next's cacheHandler: by its contract, and by a real application that is built, and served by two processes. */
import { build } from "esbuild";
import { spawn, type ChildProcess } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { request as send } from "undici";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { CacheFlow } from "../../src/index.js";
import { nextCacheHandler, type NextCacheOptions } from "../../src/integrations/next.js";
import { caches } from "../support/caches.js";
import { eventually, TestServer } from "../support/servers.js";

let server: TestServer;
beforeAll(async () => {
  server = await TestServer.start();
});
afterAll(() => server.stop());

type Handler = InstanceType<ReturnType<typeof nextCacheHandler>>;
type Get = Parameters<Handler["get"]>;
type Set = Parameters<Handler["set"]>;

describe("by its contract", () => {
  const make = caches();
  let cache: CacheFlow;
  let handler: Handler;
  const another = (options: NextCacheOptions = {}): Handler =>
    new (nextCacheHandler(() => cache, { buildId: "b1", ...options }))({ revalidatedTags: [], _requestHeaders: {} });
  beforeEach(async () => {
    await server.command("FLUSHALL");
    cache = make({ url: server.url });
    handler = another();
  });

  const FETCH = (softTags: string[] = [], revalidate = 60): Get[1] =>
    ({ kind: "FETCH", revalidate, softTags, tags: [] }) as unknown as Get[1];
  const PAGE = { kind: "APP_PAGE", isFallback: false } as unknown as Get[1];
  const fetched = (body: string): Set[1] =>
    ({ kind: "FETCH", data: { headers: {}, body, url: "u" }, revalidate: 60 }) as unknown as Set[1];
  const fetching = (...tags: string[]): Set[2] => ({ fetchCache: true, tags });
  const page = (html: string, tags = ""): Set[1] =>
    ({
      kind: "APP_PAGE",
      html,
      rscData: Buffer.from([0, 255, 1]),
      headers: { "x-next-cache-tags": tags, gone: undefined },
      postponed: undefined,
      status: 200,
      segmentData: new Map([
        ["/_tree", Buffer.from("tree")],
        ["/bytes", Buffer.from([255, 0])],
      ]),
    }) as unknown as Set[1];
  const control = (revalidate: number | false, expire?: number): Set[2] => ({ cacheControl: { revalidate, expire } });

  it("gives pages back as they were, with their bytes, segments and lifetime", async () => {
    expect(await handler.get("/a", PAGE)).toBeNull();
    await handler.set("/a", page("<p>", "_N_T_/layout,t"), control(60, 3600));
    const found = await another().get("/a", PAGE);
    expect(found?.cacheControl).toEqual({ revalidate: 60, expire: 3600 });
    expect(found?.lastModified).toBeGreaterThan(Date.now() - 60_000);
    expect(found?.value).toMatchObject({ kind: "APP_PAGE", html: "<p>", status: 200 });
    const value = found?.value as { rscData: Buffer; segmentData: Map<string, Buffer>; postponed?: string };
    expect(value.rscData).toEqual(Buffer.from([0, 255, 1]));
    expect([...value.segmentData]).toEqual([
      ["/_tree", Buffer.from("tree")],
      ["/bytes", Buffer.from([255, 0])],
    ]);
    expect(value.postponed).toBeUndefined();
  });

  it("gives routes, images and what is not found back", async () => {
    const route = { kind: "APP_ROUTE", body: Buffer.from([128]), status: 200, headers: {} } as unknown as Set[1];
    await handler.set("/r", route, control(60));
    expect((await handler.get("/r", PAGE))?.value).toEqual(route);
    await handler.set("/none", null, control(60));
    expect((await handler.get("/none", PAGE))?.value).toBeNull();
  });

  it("shares what was fetched among builds, and pages within one", async () => {
    await handler.set("f", fetched("1"), fetching());
    await handler.set("/a", page("<p>"), control(60));
    const next = another({ buildId: "b2" });
    expect((await next.get("f", FETCH()))?.value).toMatchObject({ data: { body: "1" } });
    expect(await next.get("/a", PAGE)).toBeNull();
  });

  it("finds nothing of a tag that was revalidated", async () => {
    await handler.set("f", fetched("1"), fetching("t"));
    await handler.set("/a", page("<p>", "_N_T_/a,t"), control(false));
    await another().revalidateTag("t");
    expect(await handler.get("f", FETCH())).toBeNull();
    expect(await handler.get("/a", PAGE)).toBeNull();
  });

  it("finds nothing that was fetched for a path that was revalidated, and what was fetched since", async () => {
    await handler.set("f", fetched("1"), fetching());
    expect(await handler.get("f", FETCH(["_N_T_/a"]))).not.toBeNull();
    await another().revalidateTag(["_N_T_/a"]);
    const rendering = another();
    expect(await rendering.get("f", FETCH(["_N_T_/a"]))).toBeNull();
    expect(await handler.get("f", FETCH(["_N_T_/b"]))).not.toBeNull();
    await rendering.set("f", fetched("2"), fetching());
    expect((await handler.get("f", FETCH(["_N_T_/a"])))?.value).toMatchObject({ data: { body: "2" } });
  });

  it("does not store what was revalidated while it was rendered", async () => {
    expect(await handler.get("/a", PAGE)).toBeNull();
    await another().revalidateTag("t");
    await handler.set("/a", page("<p>old", "t"), control(60));
    expect(await another().get("/a", PAGE)).toBeNull();
  });

  it("stores what one of two renders, and what was not asked for", async () => {
    const second = another();
    expect(await handler.get("/a", PAGE)).toBeNull();
    expect(await second.get("/a", PAGE)).toBeNull();
    await second.set("/a", page("<p>second"), control(60));
    expect(await another().get("/a", PAGE)).toBeNull();
    await handler.set("/a", page("<p>first"), control(60));
    expect((await another().get("/a", PAGE))?.value).toMatchObject({ html: "<p>first" });
    await another().set("/a", page("<p>on demand"), control(60));
    expect((await another().get("/a", PAGE))?.value).toMatchObject({ html: "<p>on demand" });
  });

  it("stores for the one that came first of one handler's two", async () => {
    await handler.get("/a", PAGE);
    await handler.get("/a", PAGE);
    handler.resetRequestCache();
    await handler.set("/a", page("<p>1"), control(60));
    await handler.set("/a", page("<p>2"), control(60));
    expect((await another().get("/a", PAGE))?.value).toMatchObject({ html: "<p>1" });
  });

  it("has what was revalidated softly served once more, as due", async () => {
    await handler.set("f", fetched("1"), fetching("t"));
    await handler.set("/a", page("<p>", "t"), control(60, 3600));
    await handler.set("/b", page("<p>", "t"), control(false));
    await handler.revalidateTag("t", { expire: 300 });
    for (const [key, context, seconds] of [
      ["f", FETCH(), 60],
      ["/a", PAGE, 60],
      ["/b", PAGE, 0.5],
    ] as const) {
      const found = await another().get(key, context);
      expect(found?.value).not.toBeNull();
      const age = Date.now() - (found?.lastModified ?? 0);
      expect(age).toBeGreaterThan(seconds * 1000);
      expect(age).toBeLessThan(3_600_000);
    }
    await handler.revalidateTag("t", { expire: 0 });
    expect(await another().get("f", FETCH())).toBeNull();
  });

  it("has Next render without Redis, and says when an invalidation is not known to be done", async () => {
    const dead = await TestServer.start();
    cache = make({ url: dead.url, timeout: 100 });
    const alone = another();
    await alone.set("/a", page("<p>"), control(60));
    await dead.stop();
    expect(await alone.get("/a", PAGE)).toBeNull();
    await alone.set("/a", page("<p>"), control(60));
    await expect(alone.revalidateTag("t")).rejects.toMatchObject({ name: "InvalidationError" });
  });
});

describe("of a real application", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const app = mkdtempSync(join(root, "tests", ".next-app-"));
  const running: ChildProcess[] = [];
  let origin: Server;
  let urls: string[] = [];
  let calls = 0;

  const next = (...args: string[]): ChildProcess => {
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      NODE_ENV: "production",
      NEXT_TELEMETRY_DISABLED: "1",
      TEST_ROOT: root,
      TEST_REDIS: server.url,
      TEST_ORIGIN: `http://127.0.0.1:${String((origin.address() as AddressInfo).port)}`,
    };
    const bin = join(root, "node_modules", "next", "dist", "bin", "next");
    return spawn(process.execPath, [bin, ...args], { cwd: app, env, stdio: ["ignore", "pipe", "pipe"] });
  };
  const output = (child: ChildProcess): (() => string) => {
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (text += String(chunk)));
    return () => text;
  };

  beforeAll(async () => {
    await server.command("FLUSHALL");
    origin = createServer((request, response) => response.end(`${request.url ?? ""} ${String((calls += 1))}.`));
    await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
    cpSync(join(root, "tests", "fixtures", "next-app"), app, { recursive: true });
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "shop", private: true }));
    await build({
      stdin: {
        contents: `
          import { CacheFlow } from "./src/index.js";
          import { nextCacheHandler } from "./src/integrations/next.js";
          export default nextCacheHandler(() => new CacheFlow({ url: process.env.TEST_REDIS, namespace: "web" }));`,
        resolveDir: root,
      },
      bundle: true,
      platform: "node",
      format: "esm",
      packages: "external",
      outfile: join(app, "cache-handler.mjs"),
    });
    const building = next("build");
    const built = output(building);
    const code = await new Promise((resolve) => building.once("exit", resolve));
    if (code !== 0) throw new Error(built());
    urls = await Promise.all(
      [0, 1].map(async () => {
        const child = next("start", "--port", "0", "--hostname", "127.0.0.1");
        running.push(child);
        const said = output(child);
        const url = await eventually(() => /http:\/\/(?:127\.0\.0\.1|localhost):\d+/.exec(said())?.[0], "next start");
        await eventually(() => said().includes("Ready"), "it to be ready");
        return (url as string).replace("localhost", "127.0.0.1");
      }),
    );
  }, 180_000);
  afterAll(async () => {
    await Promise.all(
      running.map((child) => {
        const ended = new Promise((resolve) => child.once("exit", resolve));
        child.kill();
        return ended;
      }),
    );
    origin.close();
    rmSync(app, { recursive: true, force: true });
  });

  const get = async (at: number, path: string): Promise<string> => {
    const answer = await send(`${urls[at] as string}${path}`);
    return answer.body.text();
  };
  const product = async (at: number): Promise<string | undefined> =>
    /\/products\/7 \d+/.exec(await get(at, "/products/7"))?.[0];
  const revalidate = async (body: object): Promise<void> => {
    const headers = { "content-type": "application/json" };
    const options = { method: "POST", headers, body: JSON.stringify(body) } as const;
    const answer = await send(`${urls[0] as string}/api/revalidate`, options);
    expect(await answer.body.json()).toEqual({ revalidated: true });
  };

  it("has pages, routes and fetches in Redis, one for both processes", async () => {
    expect(/home .*?(0\.\d+)/.exec(await get(0, "/"))?.[1]).toBe(/home .*?(0\.\d+)/.exec(await get(1, "/"))?.[1]);
    const bytes = async (at: number): Promise<Buffer> =>
      Buffer.from(await (await send(`${urls[at] as string}/plain`)).body.arrayBuffer());
    expect(await bytes(0)).toEqual(await bytes(1));
    const first = await product(0);
    expect(first).toBeDefined();
    await eventually(async () => ((await server.command("KEYS", "web:next:page:*products*")) as string[]).length, "it");
    const before = calls;
    expect(await product(1)).toBe(first);
    expect(calls).toBe(before);
    expect(((await server.command("KEYS", "web:next:fetch:*")) as string[]).length).toBeGreaterThan(0);
  });

  it("revalidates a tag in both", async () => {
    const first = await product(1);
    await revalidate({ tag: "product:7", profile: { expire: 0 } });
    const second = await product(1);
    expect(second).not.toBe(first);
    expect(await product(0)).toBe(second);
  });

  it("serves what was revalidated softly while it renders anew", async () => {
    const first = await product(1);
    await revalidate({ tag: "product:7", profile: "max" });
    expect(await product(1)).toBe(first);
    await eventually(async () => (await product(1)) !== first, "the page anew");
  });

  it("revalidates a path in both, and what it fetched", async () => {
    const first = await product(1);
    await revalidate({ path: "/products/7" });
    const second = await product(1);
    expect(second).not.toBe(first);
    expect(await product(0)).toBe(second);
  });
});
