/** The examples of docs/node, as they stand there, against a server. */
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import type { Express } from "express";
import type { FastifyInstance } from "fastify";
import * as undici from "undici";
import { afterAll, beforeAll, expect, it } from "vitest";
import ts from "typescript";
import * as cacheflow from "../src/index.js";
import { TestServer } from "./support/servers.js";

const LIBRARIES: Readonly<Record<string, () => Promise<object>>> = {
  cacheflow: () => Promise.resolve(cacheflow),
  "cacheflow/express": () => import("../src/integrations/express.js"),
  "cacheflow/fastify": () => import("../src/integrations/fastify.js"),
  "cacheflow/next": () => import("../src/integrations/next.js"),
  "cacheflow/otel": () => import("../src/integrations/otel.js"),
  "cacheflow/prom-client": () => import("../src/integrations/prom-client.js"),
  "cacheflow/undici": () => import("../src/integrations/undici.js"),
  express: () => import("express"),
  fastify: () => import("fastify"),
  "prom-client": () => import("prom-client"),
  undici: () => import("undici"),
};

let server: TestServer;
beforeAll(async () => {
  server = await TestServer.start();
});
afterAll(() => server.stop());

/**
 * Runs the blocks of a page that are marked ts, each as a module of its own; what each has declared of the names.
 * `given` are the application's functions that the page leaves out.
 */
async function run(page: string, names: string[], given: object, replaced: Record<string, string> = {}) {
  const text = readFileSync(new URL(`../../../docs/node/${page}.md`, import.meta.url), "utf8");
  const blocks = [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1] as string);
  expect(blocks.length).toBeGreaterThan(0);
  const results: Record<string, unknown>[] = [];
  for (const block of blocks) {
    let source = block.replaceAll("redis://localhost:6379", server.url);
    for (const [from, to] of Object.entries(replaced)) source = source.replaceAll(from, to);
    source = source
      .replace(/^import (\w+) from "([^"]+)";$/gm, 'const { default: $1 } = await load("$2");')
      .replace(/^import (\{[^}]+\}) from "([^"]+)";$/gm, 'const $1 = await load("$2");')
      .replace("export default", "const exported =");
    const declared = names.filter((name) => new RegExp(`const ${name}\\b`).test(source));
    const program = `(async (load, { ${Object.keys(given).join(", ")} }) => {${source}; return { ${declared.join(", ")} }; })`;
    const { outputText } = ts.transpileModule(program, { compilerOptions: { target: ts.ScriptTarget.ES2022 } });
    const started = (0, eval)(outputText) as (load: unknown, given: object) => Promise<Record<string, unknown>>;
    results.push(await started((name: string) => (LIBRARIES[name] as () => Promise<object>)(), given));
  }
  return results;
}

async function close(results: Record<string, unknown>[]): Promise<void> {
  for (const { cache } of results) await (cache as cacheflow.CacheFlow | undefined)?.close();
}

it("express-fastify.md", async () => {
  let loads = 0;
  const loadProduct = (id: string): Promise<object> => Promise.resolve({ id, shelf: 3, load: (loads += 1) });
  const results = await run("express-fastify", ["cache", "app"], { loadProduct });
  const [first, second] = results as [{ app: Express; cache: cacheflow.CacheFlow }, { app: FastifyInstance }];
  const listening = first.app.listen(0, "127.0.0.1");
  await new Promise((resolve) => listening.once("listening", resolve));
  const url = `http://127.0.0.1:${String((listening.address() as AddressInfo).port)}/products/7`;
  const ask = async (at: string, method: "GET" | "PUT" = "GET"): Promise<string> =>
    (await undici.request(at, { method })).body.text();
  expect(await ask(url)).toBe(await ask(url));
  expect(loads).toBe(1);
  await first.cache.invalidate(["shelf:3"]);
  await ask(url);
  expect(loads).toBe(2);
  await ask(url, "PUT");
  await ask(url);
  expect(loads).toBe(3);
  listening.close();
  listening.closeAllConnections();
  const base = await second.app.listen({ port: 0, host: "127.0.0.1" });
  expect(await ask(`${base}/products/7`)).toBe(await ask(`${base}/products/7`));
  expect(loads).toBe(4);
  await second.app.close();
  await close(results);
});

it("undici.md", async () => {
  const origin = (await import("node:http")).createServer((_, response) => {
    response.writeHead(200, { "cache-control": "public, max-age=60" }).end('{"name":"Chair"}');
  });
  await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
  const at = `http://127.0.0.1:${String((origin.address() as AddressInfo).port)}`;
  const results = await run("undici", ["cache", "product"], {}, { "https://api.example": at });
  expect(results[0]?.product).toEqual({ name: "Chair" });
  await close(results);
  origin.close();
  origin.closeAllConnections();
});

it("nextjs.md", async () => {
  const [result] = await run("nextjs", ["exported"], {});
  const Handler = result?.exported as ReturnType<typeof import("../src/integrations/next.js").nextCacheHandler>;
  const handler = new Handler({ revalidatedTags: [], _requestHeaders: {} });
  expect(await handler.get("/", { kind: "PAGES", isFallback: false } as never)).toBeNull();
});

it("observability.md", async () => {
  const results = await run("observability", ["cache", "text"], {});
  expect(results[0]?.text).toContain('cacheflow_client_requests_total{cache="shop",result="miss"} 1');
  await close(results);
});
